"""A text that is banned or required, matched byte by byte however it is cut into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from textgen.tokenizer.pieces import valid_text
from textgen.tokenizer.tokenizer import Tokenizer


class Phrase:
    """A text, and how far each token advances what is written towards it.

    A state is the number of its bytes that have just been written, from 0 to `length`. The bytes are matched by the
    automaton of Knuth, Morris and Pratt (1977, doi:10.1137/0206024), so no state costs more for a longer text. What
    follows from a state is computed when it first occurs.
    """

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self.text = text
        self._bytes = valid_text(text).encode()
        self.length = len(self._bytes)
        self._tokenizer = tokenizer
        self._has_words = tokenizer.kind == "word"
        self._pieces = _pieces_of(tokenizer)
        self._classes, self._next, self._border = _automaton(self._bytes)
        self._first: np.ndarray | None = None  # the state after each token from state 0
        self._followed: tuple[int, Sequence[int], int] = 0, (), 0  # texts that begin alike ask one after the other
        self._completing: dict[int, np.ndarray] = {}
        self._towards: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._rests: dict[int, list[int]] = {}

    def after(self, state: int) -> np.ndarray:
        """Returns the state after each token, int32 [V]."""
        if self._first is None:
            self._first = self._reached(0, np.arange(len(self._pieces.starts)))
        ids = self._unlike_first(state)
        after = self._first.copy()
        after[ids] = self._reached(state, ids)
        return after

    def completing(self, state: int) -> np.ndarray:
        """Returns the ids of the tokens that complete the text."""
        if self.length - state > self._pieces.longest:
            return self._pieces.none
        if state not in self._completing:
            self._completing[state] = np.flatnonzero(self.after(state) == self.length)
        return self._completing[state]

    def towards(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of the tokens after which part of the text is written, and that fraction of it, float32."""
        if state not in self._towards:
            after = self.after(state)
            ids = np.flatnonzero(after)
            self._towards[state] = ids, (after[ids] / self.length).astype(np.float32)
        return self._towards[state]

    def advance(self, state: int, id: int) -> int:
        """Returns the state after a token; `length` if it completes the text."""
        return self._step(state, id)[0]

    def follow(self, state: int, ids: Sequence[int]) -> int:
        """Returns the state after several tokens; a text that is complete is matched from its beginning again."""
        begun, last = state, self._last(ids)
        *before, reached = self._followed
        if [begun, last] == before:
            return reached
        for id in last:
            state = self._step(state, id)[1]
        self._followed = begun, last, state
        return state

    def rest(self, state: int) -> list[int]:
        """Returns tokens that complete the text; all of its tokens if the state is inside a character."""
        if state not in self._rests:
            rest = self._bytes[state:].decode(errors="ignore")
            self._rests[state] = self._tokenizer.encode(rest if rest.encode() == self._bytes[state:] else self.text)
        return self._rests[state]

    def _last(self, ids: Sequence[int]) -> Sequence[int]:
        """The last tokens, which the state after all of them depends on."""
        if self._has_words and b"\n" in self._bytes:  # a space is left out by what has been matched before it
            return ids
        missing, at = self.length, len(ids)
        while at and missing > 0:
            at -= 1
            missing -= len(self._pieces.bytes[ids[at]])
        return ids[at:]

    def _step(self, state: int, id: int) -> tuple[int, int]:
        """Returns (state after the token, `length` if the text is complete; state to continue from)."""
        piece = self._pieces.bytes[id]
        if self._is_after_line(state) and piece.startswith(b" "):
            piece = piece[1:]
        is_complete = False
        for byte in piece:
            state = int(self._next[state, self._classes[byte]])
            if state == self.length:
                state, is_complete = self._border, True
        return self.length if is_complete else state, state

    def _reached(self, state: int, ids: np.ndarray) -> np.ndarray:
        """The state after each of these tokens, int32 [N]."""
        pieces = self._pieces
        starts, ends = pieces.starts[ids], pieces.ends[ids]
        if self._is_after_line(state):
            starts = starts + (pieces.first[ids] == ord(" "))
        reached = np.full(len(ids), state, np.int32)
        rows = np.flatnonzero(starts < ends)
        while len(rows):
            reached[rows] = self._next[reached[rows], self._classes[pieces.flat[starts[rows]]]]
            starts[rows] += 1
            rows = rows[(starts[rows] < ends[rows]) & (reached[rows] < self.length)]
        return reached

    def _unlike_first(self, state: int) -> np.ndarray:
        """The tokens whose next state may differ from the one after state 0."""
        if not state:
            return self._pieces.none
        classes = np.flatnonzero(self._next[state] != self._next[0])
        differs = np.isin(self._classes, classes)  # [256]
        if self._is_after_line(state):
            differs[ord(" ")] = True
        differs = np.append(differs, True)  # of tokens without bytes
        return np.flatnonzero(differs[self._pieces.first])

    def _is_after_line(self, state: int) -> bool:
        """Whether a line has just begun, where the decoder of words leaves the space of a word out."""
        return self._has_words and state > 0 and self._bytes[state - 1] == ord("\n")


class _Pieces:
    """The bytes of all tokens of a tokenizer, one after the other."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        words = tokenizer.kind == "word"
        self.bytes = [piece.replace(b"\n ", b"\n") if words else piece for piece in tokenizer.piece_bytes]
        lengths = np.array([len(piece) for piece in self.bytes])
        self.longest = int(lengths.max())
        self.flat = np.frombuffer(b"".join(self.bytes), np.uint8)
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
        self.first = np.array([piece[0] if piece else 256 for piece in self.bytes], np.int16)  # bytes; 256 for none
        self.none = np.zeros(0, np.int64)


_PIECES: WeakKeyDictionary[Tokenizer, _Pieces] = WeakKeyDictionary()


def _pieces_of(tokenizer: Tokenizer) -> _Pieces:
    """The bytes of a tokenizer's tokens, which all phrases share."""
    found = _PIECES.get(tokenizer)
    if found is None:
        found = _PIECES[tokenizer] = _Pieces(tokenizer)
    return found


def _automaton(text: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """The automaton that finds a text.

    Returns:
        The class of each byte [256], where bytes that are not in the text share class 0; the state after each class
        from each state [length, classes]; and the state to go on from once the text is complete.
    """
    alphabet = sorted(set(text))
    classes = np.zeros(256, np.int64)
    classes[alphabet] = np.arange(1, len(alphabet) + 1)
    following = np.zeros((len(text), len(alphabet) + 1), np.int32)
    border = 0  # the longest beginning of the text, not all of it, that ends here
    for state, byte in enumerate(text):
        own = classes[byte]
        if state:
            following[state] = following[border]
            border = int(following[border, own])
        following[state, own] = state + 1
    return classes, following, border

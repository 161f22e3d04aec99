"""How a text may go on: the likeliest next pieces, and what the model would write after each.

A prompt may end inside what would be one piece: after "the ca" comes "t" of "cat", which no model has seen as a
piece of its own. So the last piece of the text may be taken back, and then every piece that begins with it counts
as a way to go on, beside those that may follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np

from textgen.generation.config import SamplingConfig
from textgen.generation.decoding import Decoder
from textgen.generation.row import Row
from textgen.generation.stepping import StepModel
from textgen.generation.text_state import TextState
from textgen.model.probabilities import require_finite
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters

MARK = 32  # pieces after which the state is kept, so that a change is read again from there
RECENT = 16  # pieces at the end, where most changes are, after each of which it is kept


@dataclass(frozen=True)
class Suggestion:
    """One way to go on."""

    text: str  # what it adds
    probability: float  # of its first piece, among all that fit


class Suggester:
    """Says how a text may go on, with a model and its tokenizer."""

    def __init__(self, model: StepModel, tokenizer: Tokenizer, num: int = 5, label: str | None = None) -> None:
        """`num` suggestions at a time, for a text with this label. Raises `ConfigError` where there is none such."""
        self._opening = tokenizer.opening(label)
        self._model = model
        self._tokenizer = tokenizer
        self._num = num
        self._read: list[int] = []  # pieces that were read last
        self._marks = [(0, model.initial_state(1))]  # after how many of them, and the state there
        self._never = Characters(tokenizer).mask[0]  # added to the logits [V]

    def suggest(
        self, text: str, *, length: int, temperature: float = 0.8, page: int = 0, seed: int = 0
    ) -> list[Suggestion]:
        """The ways to go on that begin with the likeliest pieces, each with another, the likeliest first.

        Page 0 has the first `num` of them, page 1 the next. After its first piece a suggestion is drawn at
        `temperature`, of at most `length` pieces and of this line; a word that would be cut in two is left out.
        Raises `TokenizerError` for what is not valid text.
        """
        ids = [*self._opening, *self._tokenizer.encode(text)]
        state, first, healed, probabilities = self._first_pieces(ids, text)
        best = np.argsort(-probabilities, kind="stable")[page * self._num : (page + 1) * self._num]
        best = best[probabilities[best] > 0]
        openings = [[first[at]] if healed[at] else [ids[-1], first[at]] for at in best]
        rows = self._continue(openings, state, length, SamplingConfig(temperature=temperature, seed=seed))
        suggestions: dict[str, Suggestion] = {}  # two ways to spell a text are one
        for at, row in zip(best, rows, strict=True):
            if added := self._added(text, ids[-1], row, bool(healed[at])):
                suggestions.setdefault(added, Suggestion(added, float(probabilities[at])))
        return list(suggestions.values())

    def _first_pieces(self, ids: list[int], text: str) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """The pieces that a suggestion may begin with.

        Returns the state before the last of `ids`, and three arrays: pieces, whether each takes the place of that
        last one, and its probability among them all.
        """
        longer = self._longer(ids[-1], text)
        before = self._model.initial_state(1)
        if len(ids) > 1:
            p_last, before = self._probabilities(ids[-2], self._state_after(ids[:-2]))
        p_next, _ = self._probabilities(ids[-1], before)
        p_next[self._tokenizer.eos_id] = 0.0  # adds nothing
        pieces = np.arange(len(p_next))
        if len(longer):  # in the place of the last piece stands that or a longer one
            total = p_last[ids[-1]] + p_last[longer].sum() or 1.0
            p_next = np.concatenate([p_next * p_last[ids[-1]] / total, p_last[longer] / total])
            pieces = np.concatenate([pieces, longer])
        return before, pieces, np.arange(len(pieces)) >= len(pieces) - len(longer), p_next

    def _longer(self, last: int, text: str) -> np.ndarray:
        """The pieces that begin as the last one of the text does, and go on: [N]."""
        start = self._tokenizer.piece_bytes[last]
        if last == self._tokenizer.unk_id:
            start = f" {text.split()[-1]}".encode()
        if not start or text.endswith("\n") or (self._tokenizer.tokenizer == "word" and text[-1].isspace()):
            return np.zeros(0, np.int64)
        pieces = enumerate(self._tokenizer.piece_bytes)
        return np.array([id for id, piece in pieces if len(piece) > len(start) and piece.startswith(start)], np.int64)

    def _continue(
        self, openings: Sequence[Sequence[int]], state: Any, length: int, config: SamplingConfig
    ) -> list[list[int]]:
        """Continues each opening.

        Args:
            openings: The first tokens of each suggestion.
            state: The model's state before them, a nest of arrays [1, ...].
            length: Maximum length, in tokens; the last token of the opening is the first of them.
            config: How tokens are drawn; each suggestion has a seed of its own.

        Returns:
            The tokens of each suggestion, from the last of its opening on, up to the end of the document.
        """
        suggestions = [[opening[-1]] for opening in openings]
        if length == 1:
            return suggestions
        rows: dict[Row, list[int]] = {}
        for number, (opening, suggestion) in enumerate(zip(openings, suggestions, strict=True)):
            own = replace(config, seed=(config.seed or 0) * self._num + number, max_tokens=length - 1)
            rows[Row(TextState(state, (opening[0],)), opening[1:], own, self._tokenizer)] = suggestion
        decoder = Decoder(self._model, self._tokenizer)
        decoder.join(list(rows))
        while decoder.rows:
            for row, token in decoder.step():
                if token.id != self._tokenizer.eos_id:
                    rows[row].append(token.id)
        return suggestions

    def _added(self, text: str, last: int, pieces: list[int], healed: bool) -> str:
        """What the pieces add to the text: whole characters, to the end of a word or of the line."""
        spaced = self._tokenizer.tokenizer == "word"  # its decoder leaves out the space before the first word
        added = self._tokenizer.decoder(healed or not text or text[-1].isspace()).feed(pieces)
        if healed:
            added = added[len(text.split()[-1] if spaced else self._tokenizer.decode([last])) :]
        line, newline, _ = added.partition("\n")
        if newline:
            return line + newline
        word = line.rstrip().rfind(" ")
        return line[:word] if word > 0 and line[:word].strip() else line

    def _probabilities(self, piece: int, state: Any) -> tuple[np.ndarray, Any]:
        """What may follow a piece: p [V], float64, and the state after it."""
        logits, state = self._model.step(np.array([piece], np.int32), state)
        require_finite(logits)
        logits = logits[0].astype(np.float64) + self._never
        p = np.exp(logits - logits.max())
        return p / p.sum(), state

    def _state_after(self, ids: list[int]) -> Any:
        """The state after `ids`, read from where they depart from those that were read before."""
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, self._read, strict=False)))
        while self._marks[-1][0] > common:
            self._marks.pop()
        start, state = self._marks[-1]
        self._read = list(ids)
        recent = max(0, len(ids) - RECENT)
        while start < len(ids):
            end = min(start + MARK - start % MARK, recent) if start < recent else start + 1
            state = self._model.read(np.array([ids[start:end]], np.int32), state)
            self._marks.append((end, state))
            start = end
        self._marks = [(at, state) for at, state in self._marks if at % MARK == 0 or at >= recent]
        return state

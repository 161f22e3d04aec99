"""What a text may not and must contain: bans, required texts, biases, n-grams that may not come again, a least length.

A banned or required text is looked for byte by byte, whichever pieces spell it: `Phrase` follows how much of it
stands at the end of what is written. So a ban holds: no pieces can be put together to make the text.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import MutableMapping, Sequence

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig, parse_bias
from textgen.generation.copy_guard import CopyGuard
from textgen.tokenizer.tokenizer import Tokenizer, valid_text
from textgen.tokenizer.utf8 import LONGEST

PULL = 20.0  # nats to which the bias towards a required text grows ...
PULL_PIECES = 400  # ... after so many pieces, or at max_tokens if that is less
NOTHING = np.zeros(0, np.int64)


class Constraints:
    """The constraints on one text. They change its logits before any sampler does.

    - A piece that would complete a text of `ban`, or an n-gram of `no_repeat_ngram_size` a second time, is forbidden;
      the prompt counts as written.
    - A piece that would make a run of more than `no_copy` from the training text is forbidden.
    - The end-of-document piece is forbidden until `min_tokens` pieces are drawn and all texts of `require` have come.
    - Pieces that bring a required text about gain by the share of its bytes that then stands there, times a pull that
      grows evenly from 0. When only as many pieces are left before `max_tokens` as spelling the missing texts takes,
      they are spelled. So a required text is missing only where a stop text ends the writing first, or a ban forbids.
    - Each `logit_bias` is added to its piece, or, where its text is several pieces, to the last of them when the
      others stand before it.

    All this may leave no piece at all: what then happens is not decided here. `starts` are the ids of first bytes of
    characters: none begins when required texts would have to come before it is over, unless nothing else is left.
    """

    def __init__(
        self,
        config: SamplingConfig,
        tokenizer: Tokenizer,
        phrases: MutableMapping[str, Phrase],
        ngrams: NgramIndex | None = None,
        starts: np.ndarray | None = None,
    ) -> None:
        """`phrases` are those made so far, for other texts too. Raises `ConfigError`, `TokenizerError`."""
        self.allowed: list[int] = []  # the next piece can only be one of these; empty where it can be any
        self._config = config
        self._eos_id = tokenizer.eos_id
        self._starts = starts
        self._drawn = 0
        self._bans = [(phrases.setdefault(text, Phrase(text, tokenizer)), 0) for text in config.ban]  # and its state
        self._missing = [(phrases.setdefault(text, Phrase(text, tokenizer)), 0) for text in config.require]
        self._spelled: list[int] = []  # required pieces that must come next
        self._biases = [(_bias_ids(text, tokenizer), value) for text, value in map(parse_bias, config.logit_bias)]
        self._last: list[int] = []  # pieces, as many as a bias looks back
        self._look_back = max((len(ids) - 1 for ids, _ in self._biases), default=0)
        self._ngrams = NGrams(config.no_repeat_ngram_size) if config.no_repeat_ngram_size else None
        self._guard = _copy_guard(config, tokenizer, ngrams)
        self._check(tokenizer)

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        lasting = self._bans or self._missing or self._biases or self._ngrams or self._guard or self._config.min_tokens
        return bool(lasting or self.allowed)

    def read(self, ids: Sequence[int]) -> None:
        """Takes in pieces of the prompt."""
        self._bans = [(phrase, phrase.follow(state, ids)) for phrase, state in self._bans]
        self._remember(ids)

    def take(self, piece: int) -> None:
        """Takes in a drawn piece."""
        self._drawn += 1
        self.allowed = []
        if self._guard:
            self._guard.take(piece)
        if self._bans:
            self._bans = [(phrase, phrase.follow(state, [piece])) for phrase, state in self._bans]
        if self._missing:
            after = [(phrase, int(phrase.after(state)[piece])) for phrase, state in self._missing]
            self._missing = [(phrase, state) for phrase, state in after if state < phrase.length]
        self._remember([piece])

    def fork(self) -> Constraints:
        """A copy that takes in other pieces from here on."""
        twin = copy.copy(self)  # all the rest is replaced, never changed
        twin._ngrams = copy.deepcopy(self._ngrams)
        twin._guard = self._guard and self._guard.fork()
        return twin

    def apply(self, logits: np.ndarray) -> None:
        """Changes the logits [V] of the next piece, in place."""
        for ids, value in self._biases:
            if len(ids) == 1 or self._last[1 - len(ids) :] == ids[:-1]:
                logits[ids[-1]] += value
        for phrase, state in self._missing:
            pieces, shares = phrase.towards(state)
            logits[pieces] += np.float32(PULL * self._drawn / min(self._config.max_tokens, PULL_PIECES)) * shares
        if self._missing or self._drawn < self._config.min_tokens:
            logits[self._eos_id] = -np.inf
        forbidden = [phrase.completing(state) for phrase, state in self._bans]
        if self._ngrams:
            forbidden.append(self._ngrams.forbidden())
        if self._guard:
            forbidden.append(self._guard.forbidden())
        for pieces in forbidden:
            if len(pieces):
                logits[pieces] = -np.inf
        if self.allowed:
            among = logits[self.allowed]
            logits[:] = -np.inf
            logits[self.allowed] = among
        if self._missing or self._spelled:
            self._spell(logits)

    def _spell(self, logits: np.ndarray) -> None:
        """Leaves the next piece of the missing texts alone, if it is high time."""
        spare = self._config.max_tokens - self._drawn - sum(len(phrase.rest(0)) for phrase, _ in self._missing)
        if not self._missing or (spare > 0 and self._may_wait(logits, spare)):
            self._spelled = []
        elif not self._spelled:
            missing = sorted(self._missing, key=lambda entry: -entry[1])  # first the one that has come furthest
            wholes = [phrase.rest(0) for phrase, _ in missing]
            wholes[0] = min(missing[0][0].rest(missing[0][1]), wholes[0], key=len)
            self._spelled = [piece for ids in wholes for piece in ids]
        if not self._spelled:
            return
        piece, *self._spelled = self._spelled
        if logits[piece] > -np.inf:
            logits[:] = np.where(np.arange(len(logits)) == piece, 0.0, -np.inf)
        else:
            self._spelled = []

    def _may_wait(self, logits: np.ndarray, spare: int) -> bool:
        """Whether another piece may come before the missing texts; near the end one that begins no character."""
        if spare >= LONGEST or self._starts is None:
            return True
        starts = logits[self._starts]
        logits[self._starts] = -np.inf
        if np.max(logits) > -np.inf:
            return True
        logits[self._starts] = starts
        return False

    def _remember(self, ids: Sequence[int]) -> None:
        if self._look_back:
            self._last = [*self._last, *ids][-self._look_back :]
        if self._ngrams:
            for piece in ids:
                self._ngrams.append(piece)

    def _check(self, tokenizer: Tokenizer) -> None:
        if self._bans:
            visible = {id for id, text in enumerate(tokenizer.piece_bytes) if text and id != tokenizer.unk_id}
            if not visible.difference(*[phrase.completing(0).tolist() for phrase, _ in self._bans]):
                raise ConfigError("ban leaves no piece to write with: ban less, or longer texts.")
        for phrase, _ in self._missing:
            if tokenizer.unk_id in phrase.rest(0):
                raise ConfigError(f"The model has no pieces that spell {phrase.text!r}, which require asks for.")
            if tokenizer.lost_bytes(phrase.text.strip(" ")) or not phrase.rest(0):
                raise ConfigError(
                    f"The vocabulary of words loses the white space of {phrase.text!r}, which require asks for: "
                    "put single spaces between words."
                )
        needed = sum(len(phrase.rest(0)) for phrase, _ in self._missing)
        if needed > self._config.max_tokens:
            raise ConfigError(
                f"The texts of require take {needed:,} pieces, but max_tokens is {self._config.max_tokens:,}."
            )


class Phrase:
    """A text, and how far each piece brings what is written towards it.

    A state is the number of bytes of it that stand at the end, from 0 to `length`, when all of them do. What follows
    from a state is worked out when it first comes up.
    """

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self.text = text
        self._bytes = valid_text(text).encode()
        self.length = len(self._bytes)
        self._tokenizer = tokenizer
        self._after: dict[int, np.ndarray] = {}
        self._completing: dict[int, np.ndarray] = {}
        self._towards: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._rests: dict[int, list[int]] = {}

    def after(self, state: int) -> np.ndarray:
        """The state [V] after each piece."""
        if state not in self._after:
            states = [self._advance(state, piece) for piece in range(self._tokenizer.vocab_size)]
            self._after[state] = np.array(states, np.int32)
        return self._after[state]

    def completing(self, state: int) -> np.ndarray:
        """Ids of the pieces that complete the text."""
        if state not in self._completing:
            self._completing[state] = np.flatnonzero(self.after(state) == self.length)
        return self._completing[state]

    def towards(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the pieces after which some of the text stands there, and how much: shares of it."""
        if state not in self._towards:
            after = self.after(state)
            ids = np.flatnonzero(after)
            self._towards[state] = ids, (after[ids] / self.length).astype(np.float32)
        return self._towards[state]

    def follow(self, state: int, ids: Sequence[int]) -> int:
        """The state after pieces; a text that is complete is looked for anew."""
        for piece in ids:
            after = int(self.after(state)[piece])
            state = after if after < self.length else self._longest(self._written(state, piece))
        return state

    def rest(self, state: int) -> list[int]:
        """Pieces that complete the text; all of it, where the state is within a character."""
        if state not in self._rests:
            rest = self._bytes[state:].decode(errors="ignore")
            self._rests[state] = self._tokenizer.encode(rest if rest.encode() == self._bytes[state:] else self.text)
        return self._rests[state]

    def _advance(self, state: int, piece: int) -> int:
        written = self._written(state, piece)
        return self.length if self._bytes in written else self._longest(written)

    def _written(self, state: int, piece: int) -> bytes:
        """The end of the text after a piece, as far as it matters."""
        written = self._bytes[:state] + self._tokenizer.piece_bytes[piece]
        return written.replace(b"\n ", b"\n") if self._tokenizer.tokenizer == "word" else written  # as it decodes

    def _longest(self, written: bytes) -> int:
        """Bytes at the end of `written` that begin the text, but are not all of it."""
        most = min(len(written), self.length - 1)
        return next(n for n in range(most, -1, -1) if self._bytes.startswith(written[len(written) - n :]))


class NGrams:
    """The n-grams of a text. It remembers them all: a few hundred bytes a piece."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: tuple[int, ...] = ()  # pieces, size - 1 at most
        self._following: dict[tuple[int, ...], set[int]] = defaultdict(set)

    def append(self, piece: int) -> None:
        """Adds a piece to the text."""
        if len(self._last) == self._size - 1:
            self._following[self._last].add(piece)
        self._last = (*self._last, piece)[-(self._size - 1) :] if self._size > 1 else ()

    def forbidden(self) -> np.ndarray:
        """Ids of the pieces that would complete an n-gram of the text a second time."""
        following = self._following.get(self._last)
        return np.array(list(following), np.int64) if following else NOTHING


def _copy_guard(config: SamplingConfig, tokenizer: Tokenizer, ngrams: NgramIndex | None) -> CopyGuard | None:
    if config.no_copy is None:
        return None
    if ngrams is None:
        raise ConfigError("no_copy needs an index of the training text, and this generator has none.")
    return CopyGuard(ngrams, config.no_copy, tokenizer.vocab_size)


def _bias_ids(text: str | int, tokenizer: Tokenizer) -> list[int]:
    ids = [text] if isinstance(text, int) else tokenizer.encode(text)
    if any(id >= tokenizer.vocab_size for id in ids):
        raise ConfigError(f"logit_bias: there is no piece #{text}, only #0 to #{tokenizer.vocab_size - 1}.")
    if tokenizer.unk_id in ids:
        raise ConfigError(f"logit_bias: the model has no pieces that spell {text!r}.")
    return ids

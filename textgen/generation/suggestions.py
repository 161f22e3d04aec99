"""Continuations of a text that is being typed: the likeliest next tokens, and what the model generates after each.

The text may end inside what would be one token: after "the ca" comes "t" of "cat", which no model has seen as a token
of its own. So the last token of the text may be replaced: every token that begins with its text is a candidate, beside
those that may follow it.

Of a long text the model reads only the end, but the words of all of it may be suggested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np

from textgen.corpus.scripts import is_without_spaces
from textgen.dataset.word_filter import WordFilter
from textgen.dataset.words import letters_of
from textgen.generation.config import SamplingConfig
from textgen.generation.constraints.word_guard import WordGuard
from textgen.generation.constraints.word_tokens import WordTokens, word_tokens
from textgen.generation.decoding import Decoder
from textgen.generation.row import Row
from textgen.generation.text_state import TextState, num_bytes
from textgen.model.probabilities import UNLIKELY, require_finite
from textgen.model.protocols import StepModel
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters

MARK = 32  # tokens between two places whose state is kept, so that a change is read again from there ...
MARKS_BYTES = 1 << 26  # ... or more, so that the states take no more than this; with attention one may take megabytes
READ = 2048  # tokens of a long text that are read at least, about; at most twice as many
RECENT = 16  # tokens at the end, where most changes are: the state after each is kept


@dataclass(frozen=True)
class Suggestion:
    """One continuation.

    Attributes:
        text: The text that it adds.
        probability: Probability of its first token among all candidates.
    """

    text: str
    probability: float


class _Lines:
    """The complete lines of a text. Only those that were added since the last time are encoded.

    Attributes:
        ids: Their tokens.
        word_tokens: What the tokens do to words after these lines, whose words are possible too; None if any word is.
    """

    def __init__(self, tokenizer: Tokenizer, word_tokens: WordTokens | None) -> None:
        self.ids: list[int] = []
        self.word_tokens = word_tokens
        self._tokenizer = tokenizer
        self._any_text = word_tokens
        self._text = ""
        self._words = frozenset[str]()

    def set(self, text: str) -> None:
        """Takes the lines of another text, or of the same one. Raises `TokenizerError` if it is not valid text."""
        is_longer = text.startswith(self._text)
        more = text[len(self._text) :] if is_longer else text
        if is_longer and not more:
            return
        self.ids = [*(self.ids if is_longer else ()), *self._tokenizer.encode(more)]
        if self._any_text:
            found = self._any_text.unknown_in(letters_of(more))
            self._words = found | self._words if is_longer else found
            self.word_tokens = self._any_text.with_words(self._words)
        self._text = text


class Suggester:
    """Suggests continuations of a text, with a model and its tokenizer.

    The states of the model along the last text are kept, so that only a change is read again.
    """

    def __init__(
        self,
        model: StepModel,
        tokenizer: Tokenizer,
        num: int = 5,
        label: str | None = None,
        words: WordFilter | None = None,
    ) -> None:
        """Makes a suggester.

        Args:
            model: The network.
            tokenizer: Its tokenizer.
            num: Suggestions at a time.
            label: Label of the text.
            words: The words of the training text; no others are suggested but those of the text itself.

        Raises:
            ConfigError: The model does not know the label.
        """
        self._opening = tokenizer.opening(label)
        self._model = model
        self._tokenizer = tokenizer
        self._num = num
        self._read: list[int] = []  # tokens that were read last
        self._marks = [(0, model.initial_state(1))]  # after how many of them, and the state there
        self._never = Characters(tokenizer).mask[0]  # added to the logits [V]
        self._lines = _Lines(tokenizer, word_tokens(tokenizer, words))  # before that which is being typed

    def suggest(
        self, text: str, *, length: int, temperature: float = 0.8, page: int = 0, seed: int = 0
    ) -> list[Suggestion]:
        """Suggests continuations, each with another first token, likeliest first.

        Args:
            text: The text to continue.
            length: Maximum length, in tokens. A suggestion also ends with its line, and a word that would be cut is
                left out.
            temperature: Sampling temperature after the first token.
            page: 0 for the `num` likeliest first tokens, 1 for the next, and so on.
            seed: Seed of what follows the first tokens.

        Returns:
            At most `num` suggestions; fewer where two would add the same text.

        Raises:
            TokenizerError: The text is not valid text.
        """
        start = text.rfind("\n", 0, max(0, len(text) - 1)) + 1
        self._lines.set(text[:start])
        line = text[start:]
        line_ids = self._tokenizer.encode(line)
        ids = [*self._opening, *self._end(line_ids)]
        state, first, healed, probabilities = self._first_tokens(ids, line, line_ids)
        best = np.argsort(-probabilities, kind="stable")[page * self._num : (page + 1) * self._num]
        best = best[probabilities[best] > 0]
        openings = [[first[at]] if healed[at] else [ids[-1], first[at]] for at in best]
        config = SamplingConfig(temperature=temperature, seed=seed)
        rows = self._continue(openings, line_ids or ids[-1:], state, length, config)
        suggestions: dict[str, Suggestion] = {}  # the same text in other tokens counts once
        for at, (written, has_ended) in zip(best, rows, strict=True):
            if added := self._added(line, ids[-1], written, bool(healed[at]), has_ended):
                suggestions.setdefault(added, Suggestion(added, float(probabilities[at])))
        return list(suggestions.values())

    def _end(self, line_ids: list[int]) -> list[int]:
        """The tokens of the text that are read: all of them, or those from a line on whose place seldom moves.

        It moves once in `READ` tokens, so that otherwise each key adds to a text that has been read. In a line of very
        many tokens it is inside the line.

        Args:
            line_ids: The tokens of the last line.
        """
        before = self._lines.ids
        start = max(0, len(before) + len(line_ids) - READ) // READ * READ
        ids = [*before[start:], *line_ids[max(0, start - len(before)) :]]
        if not start:
            return ids
        is_start = self._tokenizer.is_line_start
        return ids[next((at for at in range(1, READ // 4) if is_start(ids[at - 1 : at])), 0) :]

    def _first_tokens(
        self, ids: list[int], line: str, line_ids: list[int]
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """The tokens that a suggestion may begin with.

        Args:
            ids: The tokens of the text that are read.
            line: The last line.
            line_ids: Its tokens.

        Returns:
            The state before the last of `ids`, and three arrays [N]: tokens, whether each replaces that last one, and
            its probability among all.
        """
        longer = self._longer(ids[-1], line)
        before = self._model.initial_state(1)
        p_last = np.zeros(0)
        if len(ids) > 1:
            p_last, before = self._probabilities(ids[-2], self._state_after(ids[:-2]))
        p_next, _ = self._probabilities(ids[-1], before)
        p_next[self._tokenizer.eos_id] = 0.0  # adds nothing
        if self._lines.word_tokens:
            p_next, longer = self._of_known_words(self._lines.word_tokens, line_ids, p_next, longer)
        tokens = np.arange(len(p_next))
        if len(longer):  # the last token is kept, or replaced by a longer one
            total = p_last[ids[-1]] + p_last[longer].sum() or 1.0
            p_next = np.concatenate([p_next * p_last[ids[-1]] / total, p_last[longer] / total])
            tokens = np.concatenate([tokens, longer])
        return before, tokens, np.arange(len(tokens)) >= len(tokens) - len(longer), p_next

    def _of_known_words(
        self, tokens: WordTokens, line_ids: list[int], p_next: np.ndarray, longer: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The candidates of `_first_tokens` without those that would write an unknown word, unless all would."""
        guard = WordGuard(tokens)
        guard.read(line_ids[:-1])
        known = longer[guard.allowed()[longer]]
        if line_ids:
            guard.accept(line_ids[-1])
        kept = np.where(guard.allowed(), p_next, 0.0)
        return (kept, known) if len(known) or kept.any() else (p_next, longer)

    def _longer(self, last: int, line: str) -> np.ndarray:
        """The tokens whose text begins with that of the line's last token and goes on, [N]."""
        start = self._tokenizer.piece_bytes[last]
        if last == self._tokenizer.unk_id:
            start = f" {line.split()[-1]}".encode()
        if not start or line.endswith("\n") or (self._tokenizer.kind == "word" and line[-1].isspace()):
            return np.zeros(0, np.int64)
        texts = enumerate(self._tokenizer.piece_bytes)
        return np.array([id for id, other in texts if len(other) > len(start) and other.startswith(start)], np.int64)

    def _continue(
        self, openings: Sequence[Sequence[int]], ids: list[int], state: Any, length: int, config: SamplingConfig
    ) -> list[tuple[list[int], bool]]:
        """Continues each opening.

        Args:
            openings: The first tokens of each suggestion.
            ids: The tokens of the last line, or only the last token.
            state: The model's state before the last of them, a nest of arrays [1, ...].
            length: Maximum length, in tokens; the last token of the opening is the first of them.
            config: How tokens are drawn; each suggestion has a seed of its own.

        Returns:
            The tokens of each suggestion, from the last of its opening on, up to the end of the document; and whether
            that was reached.
        """
        if length == 1:
            return [([opening[-1]], False) for opening in openings]
        rows: dict[Row, list[int]] = {}
        for number, opening in enumerate(openings):
            own = replace(config, seed=(config.seed or 0) * self._num + number, max_tokens=length - 1)
            start = TextState(state, (*ids[:-1], opening[0]))
            rows[Row(start, opening[1:], own, self._tokenizer)] = [opening[-1]]
        decoder = Decoder(self._model, self._tokenizer, read_word_tokens=lambda: self._lines.word_tokens)
        decoder.join(list(rows))
        while decoder.rows:
            for row, token in decoder.step():
                if token.id != self._tokenizer.eos_id:
                    rows[row].append(token.id)
        return [(written, row.stop_reason == "end") for row, written in rows.items()]

    def _added(self, line: str, last: int, ids: list[int], healed: bool, has_ended: bool) -> str:
        """The text that tokens add: whole characters, up to the end of a word, of the line or of the document."""
        spaced = self._tokenizer.kind == "word"  # the decoder drops the space before the first word
        added = self._tokenizer.decoder(healed or not line or line[-1].isspace()).feed(ids)
        if healed:
            added = added[len(line.split()[-1] if spaced else self._tokenizer.decode([last])) :]
        rest, newline, _ = added.partition("\n")
        if newline:
            return rest + newline
        if has_ended:
            return rest
        if is_without_spaces(ord(next(filter(str.isalnum, reversed(rest)), " "))):
            return rest  # its last word is not all that follows the last space
        word = rest.rfind(" ")  # what is before it is a whole word
        return rest[:word] if word > 0 and rest[:word].strip() else rest

    @UNLIKELY
    def _probabilities(self, id: int, state: Any) -> tuple[np.ndarray, Any]:
        """Probabilities of the tokens after one token, float64 [V], and the state after it."""
        logits, state = self._model.step(np.array([id], np.int32), state)
        require_finite(logits)
        logits = logits[0].astype(np.float64) + self._never
        p = np.exp(logits - logits.max())
        return p / p.sum(), state

    def _state_after(self, ids: list[int]) -> Any:
        """The state after `ids`, read from where they differ from those read before."""
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, self._read, strict=False)))
        while self._marks[-1][0] > common:
            self._marks.pop()
        start, state = self._marks[-1]
        self._read = list(ids)
        recent, apart = max(0, len(ids) - RECENT), self._apart(len(ids))
        while start < len(ids):
            end = min(start + MARK - start % MARK, recent) if start < recent else start + 1
            state = self._model.read(np.array([ids[start:end]], np.int32), state)
            if end % apart == 0 or end >= recent:
                self._marks.append((end, state))
            start = end
        self._marks = [(at, state) for at, state in self._marks if at % apart == 0 or at >= recent]
        return state

    def _apart(self, length: int) -> int:
        """The tokens between two places in a text of this length whose state is kept: `MARK`, or several times that."""
        apart = MARK
        while length // apart * num_bytes(self._marks[0][1]) > MARKS_BYTES:
            apart *= 2
        return apart

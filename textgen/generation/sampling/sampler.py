"""Logits to the next token: constraints, the chain of samplers, the random draw.

Every text has its own settings, random numbers and past, so what is drawn for it does not depend on the texts beside
it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.generation.config import SamplingConfig, sampler_names
from textgen.generation.constraints.constraints import Constraints
from textgen.generation.constraints.word_guard import WordGuard, allowed_together
from textgen.generation.constraints.word_tokens import WordTokens
from textgen.generation.sampling.logit_filters import Candidates
from textgen.generation.sampling.sampler_chain import Chain
from textgen.generation.sampling.vocabulary_tables import VocabularyTables
from textgen.generation.text_state import of_document
from textgen.model.probabilities import require_finite
from textgen.tokenizer.tokenizer import Tokenizer


class Sampler:
    """Draws the next tokens of B texts: constraints first, then the samplers of each text in their order.

    Tokens that would break a UTF-8 character are never drawn: see `textgen.tokenizer.utf8`.

    Attributes:
        blocked: The texts for which the last draw found no token that may follow, bool [B].
        states: The UTF-8 state after the last token of each text, int8 [B].
        constraints: The constraints on each text, [B].
        tables: Tables of the vocabulary.
    """

    def __init__(
        self,
        configs: Sequence[SamplingConfig],
        tokenizer: Tokenizer,
        *,
        index: NgramIndex | None = None,
        word_tokens: WordTokens | None = None,
        direction: str = "forward",
        tables: VocabularyTables | None = None,
        exact: bool = False,
    ) -> None:
        """Makes a sampler for texts that have not begun.

        Args:
            configs: The settings of each text, [B].
            tokenizer: The tokenizer.
            index: The index of the training text, for `no_copy`.
            word_tokens: What the tokens do to words that exist, for texts without `coin_words`; None if any word may be
                written.
            direction: The direction in which the texts are generated, forward or backward.
            tables: Tables of the vocabulary, if another sampler of this tokenizer and direction has them.
            exact: Draw in exact arithmetic, from float64 logits: see `textgen.generation.sampling.exact_chain`.

        Raises:
            ConfigError: The tokenizer's tokens cannot meet the constraints.
        """
        self._exact = exact
        self.tables = tables or VocabularyTables(tokenizer, direction)
        self._eos_id = tokenizer.eos_id
        self._characters = self.tables.characters
        self.states = np.zeros(len(configs), np.int8)
        self.blocked = np.zeros(len(configs), bool)
        self.constraints = [
            Constraints(
                config,
                tokenizer,
                index=index,
                word_tokens=word_tokens,
                phrase_of=self.tables.phrase,
                starts=self._characters.starts,
                biases=self.tables.biases(config.logit_bias),
                repeats_of=self.tables.prompt_ngrams,
            )
            for config in configs
        ]
        orders: dict[tuple[str, ...], list[int]] = {}
        for row, config in enumerate(configs):
            orders.setdefault(sampler_names(config.samplers), []).append(row)
        self._chains = [
            (np.array(rows), Chain(order, [configs[row] for row in rows], self.tables, exact=exact))
            for order, rows in orders.items()
        ]

    def for_others(
        self,
        configs: Sequence[SamplingConfig],
        *,
        index: NgramIndex | None = None,
        word_tokens: WordTokens | None = None,
    ) -> Sampler:
        """Returns a sampler for other texts, which may `join` this one later, and has its tables.

        Raises:
            ConfigError: The tokenizer's tokens cannot meet the constraints.
        """
        tokenizer, tables = self.tables.tokenizer, self.tables
        return Sampler(configs, tokenizer, index=index, word_tokens=word_tokens, tables=tables, exact=self._exact)

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Tells which tokens come before the first draw of a text.

        Args:
            row: Place of the text among those of this sampler, from 0.
            ids: Its prompt. Tokens up to the last end of a document belong to other texts and do not count.
        """
        ids = of_document(ids, self._eos_id)
        self.states[row] = self._characters.state_after(ids)
        self.constraints[row].read(ids)
        for rows, chain in self._chains:
            for number in np.flatnonzero(rows == row):
                chain.history.read(int(number), ids)

    def restrict(self, row: int, ids: Sequence[int]) -> None:
        """Restricts the next token of a text to these; an empty list restricts nothing."""
        self.constraints[row].allowed = list(ids)

    def possible(self, row: int, ids: Sequence[int], covers: Sequence[Sequence[int]]) -> list[list[int]]:
        """Returns which tokens constraints allow as the first one drawn, where a prompt is cut. Nothing is read.

        Args:
            row: Place of the text among those of this sampler, from 0.
            ids: The prompt.
            covers: The tokens that may take the place of the last k of the prompt, of the last k - 1, and so on; [k].

        Returns:
            Those of each of `covers` that are allowed, [k].
        """
        constraints = self.constraints[row].fork()
        if not constraints.active:
            return [list(cover) for cover in covers]
        ids = of_document(ids, self._eos_id)
        allowed, read = [], 0
        for end, cover in enumerate(covers, len(ids) - len(covers)):
            constraints.read(ids[:end], read)
            logits, read = self._characters.mask[self._characters.state_after(ids[:end])].copy(), end
            constraints.fork().apply(logits)
            allowed.append([id for id in cover if logits[id] > -np.inf])
        return allowed

    def biased(self, row: int, ids: Sequence[int], logits: np.ndarray) -> np.ndarray:
        """Returns the logits [V] of the token after a prompt, with each `logit_bias` of a text. Nothing is read.

        Args:
            row: Place of the text among those of this sampler, from 0.
            ids: The prompt.
            logits: The logits of the model, [V].
        """
        logits = logits.copy()
        self.constraints[row].add_biases(logits, of_document(ids, self._eos_id))
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other texts; those kept, named in ascending order, are numbered from 0 afterwards."""
        self.states, self.blocked = self.states[list(rows)], self.blocked[list(rows)]
        self.constraints = [self.constraints[row] for row in rows]
        chains = []
        for numbers, chain in self._chains:
            kept = np.isin(numbers, rows)
            if kept.any():
                chain.keep(np.flatnonzero(kept))
                chains.append((np.searchsorted(rows, numbers[kept]), chain))
        self._chains = chains

    def join(self, other: Sampler) -> None:
        """Adds the texts of another sampler after those that are there; the other must not be used afterwards."""
        first = len(self.constraints)
        self.states = np.concatenate([self.states, other.states])
        self.blocked = np.concatenate([self.blocked, other.blocked])
        self.constraints += other.constraints
        for numbers, chain in other._chains:
            numbers = numbers + first
            for at, (before, mine) in enumerate(self._chains):
                if mine.order == chain.order:
                    mine.join(chain)
                    self._chains[at] = np.concatenate([before, numbers]), mine
                    break
            else:
                self._chains.append((numbers, chain))

    # Very small logits become impossible ones, whatever a program has set for its own numbers.
    @np.errstate(over="ignore", under="ignore")
    def draw(self, logits: np.ndarray) -> np.ndarray:
        """Draws the next token of each text.

        Where constraints leave none, the text is `blocked` and its token is the end of the document.

        Args:
            logits: Float32 [B, V]; float64 where draws are exact.

        Returns:
            Token ids, int32 [B].

        Raises:
            SavedModelError: The logits are not finite.
        """
        logits = logits + self._characters.mask[self.states if any(self.states.tolist()) else 0]
        candidates = Candidates(logits)
        require_finite(candidates.highest)
        active = [row for row, constraints in enumerate(self.constraints) if constraints.active]
        self.blocked = np.zeros(len(logits), bool)
        if active:
            candidates = self._constrained(logits)
        if len(self._chains) == 1:
            ids = self._chains[0][1].draw(candidates)
        else:
            ids = np.zeros(len(logits), np.int32)
            for rows, chain in self._chains:
                ids[rows] = chain.draw(candidates.of_rows(rows))
        for row in active:
            self.constraints[row].accept(int(ids[row]))
        self.states = self._characters.after[self.states, ids]
        return ids

    def _constrained(self, logits: np.ndarray) -> Candidates:
        """What constraints leave of logits [B, V], which are changed in place; decides which texts are `blocked`."""
        for row, constraints in enumerate(self.constraints):
            if constraints.has_others:
                constraints.apply_others(logits[row])
        candidates = allowed_candidates(logits, [constraints.word_guard for constraints in self.constraints])
        self.blocked = candidates.highest[:, 0] == -np.inf
        if self.blocked.any():
            logits[self.blocked, self._eos_id] = 0.0
            if candidates.allowed is not None:
                candidates.allowed[self.blocked] = True
            candidates.highest[self.blocked] = 0.0
        return candidates


def allowed_candidates(logits: np.ndarray, guards: Sequence[WordGuard | None]) -> Candidates:
    """Returns the next tokens of several texts that their guards allow: all where none would be left.

    Args:
        logits: Logits [B, V].
        guards: The guard of each text, None without one; [B].
    """
    guarded = [row for row, guard in enumerate(guards) if guard]
    if not guarded:
        return Candidates(logits)
    allowed = np.ones(logits.shape, bool)
    for row, own in zip(guarded, allowed_together([guard for guard in guards if guard]), strict=True):
        allowed[row] = own
    likeliest, rows = logits.argmax(axis=-1), np.arange(len(logits))
    highest = logits[rows, likeliest]
    if (rows := rows[~allowed[rows, likeliest]]).size:
        left = np.where(allowed[rows], logits[rows], np.float32(-np.inf)).max(axis=-1)
        allowed[rows[left == -np.inf]] = True
        highest[rows] = np.where(left > -np.inf, left, highest[rows])
    candidates = Candidates(logits, allowed=allowed)
    candidates.highest = highest[:, None]
    return candidates

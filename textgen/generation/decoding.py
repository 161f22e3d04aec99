"""The decode loop: texts side by side, one token each a step; they join and leave between steps.

Everything that generates text uses it: `Generator`, `Infiller`, `Suggester`. Beam search chooses several continuations
of one text, so it drives the core, `textgen.generation.stepping.Stepper`, itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import SavedModelError, TextgenError
from textgen.generation.constraints.word_tokens import WordTokens
from textgen.generation.row import Row, Token
from textgen.generation.sampling.sampler import Sampler
from textgen.generation.sampling.sampler_settings import cut_temperature
from textgen.generation.sampling.vocabulary_tables import VocabularyTables
from textgen.generation.stepping import Stepper, log_probs_of, read_all
from textgen.generation.text_state import join, pick
from textgen.generation.token_healing import Prefixes, choose_cut, choose_cut_exactly
from textgen.model.probabilities import is_finite
from textgen.model.protocols import StepModel
from textgen.tokenizer.tokenizer import Tokenizer


class Decoder:
    """Generates texts side by side. Each has its own settings, random numbers, state and stop rules.

    A step that is interrupted, as by Ctrl-C, may have read a token or drawn one, so the texts cannot go on after it.

    What is generated for a text does not depend on the texts beside it, nor on when they join and leave; only the last
    digits of matrix products, which change with the number of rows, may differ. With an exact model they do not.

    Example::

        decoder = generator.decoder()
        decoder.join([generator.row("It was a"), generator.row("Once")])
        while decoder.rows:
            for row, token in decoder.step():
                print(row.prompt, token.text)
            decoder.join(newcomers())  # rows that have arrived since, or none

    Attributes:
        rows: The texts that have not ended, in the order of the model's rows.
    """

    def __init__(
        self,
        model: StepModel,
        tokenizer: Tokenizer,
        *,
        read_index: Callable[[], NgramIndex | None] = lambda: None,
        read_word_tokens: Callable[[], WordTokens | None] = lambda: None,
        prefixes: Prefixes | None = None,
        tables: VocabularyTables | None = None,
        direction: str = "forward",
    ) -> None:
        """Makes a decoder without texts.

        Args:
            model: The network.
            tokenizer: Its tokenizer.
            read_index: Returns the index of the training text; called when a row with `no_copy` joins.
            read_word_tokens: Returns what the tokens do to words that exist; called when a row without `coin_words`
                joins. Only for forward.
            prefixes: For token healing; without them prompts are not healed.
            tables: Tables of the vocabulary, if another decoder of this tokenizer and direction has them.
            direction: The direction in which the network reads, forward or backward.
        """
        self.rows: list[Row] = []
        self.tokenizer = tokenizer
        self._model = model
        self._read_index = read_index
        self._read_word_tokens = read_word_tokens
        self._prefixes = prefixes
        self._exact = model.exact
        self._sampler = Sampler([], tokenizer, direction=direction, tables=tables, exact=self._exact)
        self._stepper = _empty(model)
        self._is_inside = False  # True during a change; stays True if the change is interrupted

    def join(self, rows: Sequence[Row]) -> None:
        """Reads the prompts of further texts, which the next step continues.

        If anything is raised, the texts that were there are as they were.

        Args:
            rows: The texts; none of them may have joined a decoder before.

        Raises:
            ConfigError: The tokenizer's tokens cannot meet the constraints of a row.
            SavedModelError: The model computes numbers that are not finite.
            TextgenError: A step was interrupted.
        """
        if not rows:
            return
        self._require_whole()
        stepper, sampler = self.prepare(rows)
        self._is_inside = True
        if self.rows:
            self._stepper.join(stepper)
            self._sampler.join(sampler)
        else:
            self._stepper, self._sampler = stepper, sampler
        self.rows += rows
        self._is_inside = False

    def leave(self, row: Row) -> None:
        """Drops a text that is no longer wanted. A text that ends leaves by itself."""
        self._require_whole()
        self._is_inside = True
        self._keep([number for number, other in enumerate(self.rows) if other is not row])
        self._is_inside = False

    def step(self) -> list[tuple[Row, Token]]:
        """Generates the next token of each text; texts that end with it leave.

        Returns:
            Each text, in the order of `rows`, and its token.

        Raises:
            SavedModelError: The model computes numbers that are not finite. All texts are as they were; `unsound` tells
                for which of them.
            TextgenError: A step was interrupted.
        """
        if not self.rows:
            return []
        self._require_whole()
        state = self._stepper.state
        self._is_inside = True
        try:
            logits = self._stepper.step()  # [B, V]
            ids = self._sampler.draw(logits)  # [B]
        except SavedModelError:
            self._stepper.state = state
            self._is_inside = False
            raise
        self._stepper.advance(ids)
        taken = []
        drawn = zip(self.rows, ids.tolist(), self._sampler.blocked.tolist(), strict=True)
        for number, (row, id, blocked) in enumerate(drawn):
            log_probs = log_probs_of(self._model, logits[number]) if row.config.top_logprobs is not None else None
            if row.track:
                row.model_state = self._stepper.state_of(number)
            taken.append((row, row.append(id, log_probs, blocked=blocked)))
        self._keep([number for number, row in enumerate(self.rows) if not row.stop_reason])
        self._is_inside = False
        return taken

    def _require_whole(self) -> None:
        """Raises `TextgenError` if the texts were left in the middle of a change: the model may read a token twice."""
        if self._is_inside:
            raise TextgenError("The texts were interrupted inside a step, and cannot go on: begin them again.")

    def unsound(self) -> list[Row]:
        """Returns the texts for which the model computes numbers that are not finite, so that others can go on."""
        logits, _ = self._model.step(self._stepper.ids, self._stepper.state)
        return [row for row, own in zip(self.rows, logits, strict=True) if not is_finite(own)]

    def settled(self, row: Row) -> int:
        """Returns how many tokens of a prompt stay, counted from its first: token healing may take back the others."""
        return len(row.prompt_ids) - len(self._covers(row))

    def prepare(self, rows: Sequence[Row]) -> tuple[Stepper, Sampler]:
        """Reads the prompts of texts that do not join, or not yet.

        Raises:
            ConfigError: The tokenizer's tokens cannot meet the constraints of a row.
            SavedModelError: The model computes numbers that are not finite.
        """
        configs = [row.config for row in rows]
        index = self._read_index() if any(config.no_copy is not None for config in configs) else None
        word_tokens = None if all(config.coin_words for config in configs) else self._read_word_tokens()
        sampler = self._sampler.for_others(configs, index=index, word_tokens=word_tokens)
        prompts = [[row.start.ids[-1], *row.prompt_ids] for row in rows]
        covers = [self._covers(row) for row in rows]
        heads = [ids[: len(ids) - len(cover)] for ids, cover in zip(prompts, covers, strict=True)]
        state = read_all(self._model, [head[:-1] for head in heads], join([row.start.model_state for row in rows]))
        if any(covers):
            states = []
            for number, (row, cover) in enumerate(zip(rows, covers, strict=True)):
                own = pick(state, [number])
                if cover:
                    heads[number], own = self._heal(sampler, number, row, cover, own)
                states.append(own)
            state = join(states)
        for number, (row, ids) in enumerate(zip(rows, heads, strict=True)):
            row.set_prompt(ids)
            row.model_state = pick(state, [number]) if row.track else None
            sampler.read(number, row.ids)
        return Stepper(self._model, np.array([ids[-1] for ids in heads], np.int32), state), sampler

    def _covers(self, row: Row) -> list[list[int]]:
        return self._prefixes.covers(row.prompt_ids) if self._prefixes and row.config.heal else []

    def _heal(
        self, sampler: Sampler, number: int, row: Row, covers: list[list[int]], state: Any
    ) -> tuple[list[int], Any]:
        """Decides where the prompt of a row is cut: see `token_healing`. Where no cover can be drawn, nothing is.

        Args:
            sampler: The sampler of the row.
            number: Its number there.
            row: The text.
            covers: The tokens that cover the last tokens of the prompt, the last but one, and so on.
            state: The model's state before the token that comes before those.

        Returns:
            The tokens of the prompt that are kept, and the state before the last of them.
        """
        ids = [row.start.ids[-1], *row.prompt_ids]
        shared = len(ids) - len(covers)
        whole = [*row.start.ids[:-1], *ids]
        covers = sampler.possible(number, whole, covers)
        log_probs, states = [], [state]
        for end in range(shared, len(ids)):
            logits, after = self._model.step(np.array([ids[end - 1]], np.int32), states[-1])
            biased = sampler.biased(number, whole[: end - len(ids)], logits[0])
            log_probs.append(log_probs_of(self._model, biased))
            states.append(after)
        uniform = np.random.Generator(np.random.Philox([row.config.seed or 0, 1])).random()
        choose = choose_cut_exactly if self._exact else choose_cut
        cut = choose(np.array(log_probs), ids[shared:], covers, cut_temperature(row.config), uniform)
        if cut < len(covers):
            sampler.restrict(number, covers[cut])
        return ids[: shared + cut], states[cut]

    def _keep(self, numbers: list[int]) -> None:
        if len(numbers) == len(self.rows):
            return
        self.rows = [self.rows[number] for number in numbers]
        if numbers:
            self._sampler.keep(numbers)
            self._stepper.keep(numbers)
        else:
            self._sampler, self._stepper = self._sampler.for_others([]), _empty(self._model)


def _empty(model: StepModel) -> Stepper:
    return Stepper(model, np.zeros(0, np.int32), ())

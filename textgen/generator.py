"""Prompts to text: one loop for every model and every number of texts, streaming, and the rules that end a text."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from textgen.config import SamplingConfig
from textgen.errors import ConfigError
from textgen.novelty import CopyGuard, NgramIndex
from textgen.sampling import Sampler
from textgen.tokenizer import Tokenizer

PROMPT_WINDOW = 256  # tokens of a long prompt read at a time


@dataclass(frozen=True)
class Generation:
    """One generated text."""

    prompt: str
    text: str  # what follows the prompt
    ids: tuple[int, ...]  # of the pieces drawn, the end-of-document piece included
    stop_reason: str  # end: of the document; length: max_tokens reached; stop: a stop text came up
    seed: int


class Writer(Protocol):
    """A model, as far as writing goes: `textgen.numpy_model.NumpyModel` or `textgen.compiled_model.CompiledModel`."""

    def initial_state(self, batch_size: int) -> Any:
        """The state of texts that have read nothing."""

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """inputs int32 [B, T], state before them -> state after them."""

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """ids int32 [B], state before them -> logits [B, V] of the next pieces, state after them."""


class Generator:
    """Writes text with a model and its tokenizer. Loads no files; see `textgen.load` for that."""

    def __init__(self, model: Writer, tokenizer: Tokenizer, ngrams: NgramIndex | None = None) -> None:
        """`ngrams`, those of the training text, are needed for `SamplingConfig.no_copy` alone."""
        self.model = model
        self.tokenizer = tokenizer
        self.ngrams = ngrams

    def generate(
        self, prompts: str | Sequence[str] = "", config: SamplingConfig | None = None, num: int = 1
    ) -> list[Generation]:
        """`num` texts for each prompt, in order, all in one batch.

        Row i of the batch has the seed `config.seed + i`, so each can be made again on its own.
        Raises `TokenizerError` for a prompt that is not valid text.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = self._rows([prompt for prompt in prompts for _ in range(num)], config or SamplingConfig())
        for _ in self._advance(rows):
            pass
        return [row.result() for row in rows]

    def stream(self, prompt: str = "", config: SamplingConfig | None = None) -> Iterator[str]:
        """The text after `prompt`, as it is written; never half a character."""
        rows = self._rows([prompt], config or SamplingConfig())
        for _ in self._advance(rows):
            if text := rows[0].new_text():
                yield text

    def _rows(self, prompts: Sequence[str], config: SamplingConfig) -> list[_Row]:
        if not prompts:
            raise ConfigError("There is nothing to write: give at least one prompt; it may be empty.")
        seed = secrets.randbits(32) if config.seed is None else config.seed
        return [
            _Row(prompt, self.tokenizer, replace(config, seed=seed + number)) for number, prompt in enumerate(prompts)
        ]

    def _advance(self, rows: Sequence[_Row]) -> Iterator[None]:
        """Runs the model until all rows are finished; yields after each piece."""
        sampler = Sampler([row.config for row in rows], self.tokenizer)
        for number, row in enumerate(rows):
            sampler.read(number, row.prompt_ids)
        guards = [self._guard(row.config) for row in rows]
        read, state = self._read_prompts(rows)
        ids = np.array([row.prompt_ids[read] for row in rows], np.int32)
        for row in rows:
            row.given = deque(row.prompt_ids[read + 1 :])
        while not all(row.finished for row in rows):
            logits, state = self.model.step(ids, state)  # [B, V]
            if all(row.given for row in rows):
                ids = np.array([row.given.popleft() for row in rows], np.int32)
                continue
            logits = _without_copies(logits, guards)
            ids = sampler.draw(logits, [not (row.given or row.finished) for row in rows])
            for number, row in enumerate(rows):
                if row.given:
                    ids[number] = row.given.popleft()
                else:
                    row.take(int(ids[number]))
                    if guard := guards[number]:
                        guard.take(int(ids[number]))
            yield

    def _guard(self, config: SamplingConfig) -> CopyGuard | None:
        if config.no_copy is None:
            return None
        if self.ngrams is None:
            raise ConfigError("no_copy needs an index of the training text, and this generator has none.")
        return CopyGuard(self.ngrams, config.no_copy, self.tokenizer.vocab_size)

    def _read_prompts(self, rows: Sequence[_Row]) -> tuple[int, Any]:
        """Reads the stretch that all prompts have, but for its last piece, as whole sequences."""
        shared = min(len(row.prompt_ids) for row in rows) - 1
        state = self.model.initial_state(len(rows))
        for start in range(0, shared, PROMPT_WINDOW):
            end = min(start + PROMPT_WINDOW, shared)
            state = self.model.read(np.array([row.prompt_ids[start:end] for row in rows], np.int32), state)
        return shared, state


def _without_copies(logits: np.ndarray, guards: Sequence[CopyGuard | None]) -> np.ndarray:
    """logits [B, V] without the pieces that the guards forbid."""
    forbidden = [(row, ids) for row, guard in enumerate(guards) if guard and len(ids := guard.forbidden())]
    if forbidden:
        logits = logits.copy()
        for row, ids in forbidden:
            logits[row, ids] = -np.inf
    return logits


class _Row:
    """One text in the making."""

    def __init__(self, prompt: str, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        self.config = config
        self.prompt = prompt
        self.prompt_ids = [tokenizer.eos_id, *tokenizer.encode(prompt)]  # a document opens where another ends
        self.given: deque[int] = deque()  # pieces of the prompt still to be read
        self.finished = ""  # the reason, once it is
        self._eos_id = tokenizer.eos_id
        self._ids: list[int] = []
        self._decoder = tokenizer.decoder()
        self._text = ""
        self._shown = 0  # characters that new_text has handed out

    def take(self, piece: int) -> None:
        """Appends a drawn piece, unless something has ended the text."""
        if self.finished:
            return
        self._ids.append(piece)
        if piece == self._eos_id:
            self._finish("end")
        else:
            self._append(self._decoder.feed([piece]))
            if not self.finished and len(self._ids) >= self.config.max_tokens:
                self._finish("length")

    def new_text(self) -> str:
        """Text that is certain and was not handed out yet."""
        end = len(self._text) if self.finished else len(self._text) - self._held_back()
        text = self._text[self._shown : max(end, self._shown)]
        self._shown += len(text)
        return text

    def result(self) -> Generation:
        return Generation(self.prompt, self._text, tuple(self._ids), self.finished, self.config.seed or 0)

    def _finish(self, reason: str) -> None:
        self._append(self._decoder.flush())
        self.finished = self.finished or reason

    def _append(self, text: str) -> None:
        longest = max((len(stop) for stop in self.config.stop), default=0)
        searched = max(0, len(self._text) - longest + 1)
        self._text += text
        found = [at for stop in self.config.stop if (at := self._text.find(stop, searched)) >= 0]
        if found:
            self._text = self._text[: min(found)]
            self.finished = "stop"

    def _held_back(self) -> int:
        """Characters at the end that may turn out to be the beginning of a stop text."""
        return max(
            (n for stop in self.config.stop for n in range(1, len(stop)) if self._text.endswith(stop[:n])),
            default=0,
        )

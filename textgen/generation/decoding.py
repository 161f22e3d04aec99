"""Texts that are written side by side: one step of the model draws a piece for each; those that end leave."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.generation.config import SamplingConfig
from textgen.generation.sampler import Sampler
from textgen.generation.stopping import Ending
from textgen.generation.text_state import TextState, join, pick
from textgen.generation.token_healing import Prefixes, choose_cut
from textgen.model.probabilities import log_softmax
from textgen.tokenizer.tokenizer import Tokenizer

PROMPT_WINDOW = 256  # tokens of a prompt read at a time


class StepModel(Protocol):
    """A model, one step at a time: `NumpyModel` or `CompiledModel` of `textgen.model`."""

    def initial_state(self, batch_size: int) -> Any:
        """The state of texts that have read nothing."""

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """inputs int32 [B, T], state before them -> state after them."""

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """ids int32 [B], state before them -> logits [B, V] of the next pieces, state after them."""


@dataclass(frozen=True)
class Piece:
    """One drawn piece."""

    id: int
    text: str  # what became certain with it, often more or less than the piece itself
    stop_reason: str = ""  # of the last piece: see `textgen.generation.generator.Generation`
    logprob: float | None = None  # nats, under the model alone, before any setting of the sampler
    top: tuple[tuple[int, float], ...] = ()  # the likeliest ids and their log probabilities


class Row:
    """One text in the making: what it goes on from, and how it ends."""

    def __init__(self, prompt: str, config: SamplingConfig, tokenizer: Tokenizer, start: TextState) -> None:
        self.prompt = prompt
        self.config = config
        self.start = start  # what stands before the prompt
        self.finished = ""  # the reason, once it is: see `textgen.generation.generator.Generation`
        self.ids: list[int] = []  # that stand before the first drawn piece
        self.healed = 0  # characters of the prompt that the first piece writes again
        self._length = 0  # pieces drawn
        self.began = time.monotonic()
        self._eos_id = tokenizer.eos_id
        self._decoder = tokenizer.decoder(prompt[-1].isspace() if prompt else tokenizer.is_line_start(start.ids))
        if not prompt:  # which may go on inside a character
            self._decoder.feed(tokenizer.unfinished(start.ids))
        self._ending = Ending(config.stop, config.until)

    def take(self, id: int, log_probs: np.ndarray | None = None, *, blocked: bool = False) -> Piece:
        """Appends a drawn piece and looks whether it ends the text; log_probs [V] nats, of all that could come.

        A `blocked` text had no piece to draw, and ends with the end of the document in its place.
        """
        drawn = self._decoder.feed([id])
        text = self._ending.feed(drawn if self._length else drawn[self.healed :])
        self._length += 1
        self.finished = self._ending.reason or ("blocked" if blocked else self._limit(id))
        if self.finished:
            text += self._ending.flush()  # without a character that a limit has cut in two
            self.finished = self._ending.reason or self.finished
        if log_probs is None:
            return Piece(id, text, self.finished)
        return Piece(id, text, self.finished, float(log_probs[id]), likeliest(log_probs, self.config.top_logprobs or 0))

    def _limit(self, id: int) -> str:
        seconds = self.config.max_seconds
        if id == self._eos_id:
            return "end"
        if self._length >= self.config.max_tokens:
            return "length"
        return "time" if seconds is not None and time.monotonic() - self.began >= seconds else ""


class Batch:
    """Rows, the memory of the model for each, and the piece that each reads next."""

    def __init__(
        self,
        model: StepModel,
        tokenizer: Tokenizer,
        rows: Sequence[Row],
        prefixes: Prefixes,
        ngrams: NgramIndex | None = None,
    ) -> None:
        """Reads the prompts. Raises `TokenizerError` for one that is not valid text."""
        self.rows = list(rows)
        self._model = model
        self.sampler = Sampler([row.config for row in rows], tokenizer, ngrams)
        prompts = [[row.start.ids[-1], *tokenizer.encode(row.prompt)] for row in rows]
        covers = [prefixes.covers(ids[1:]) if row.config.heal else [] for row, ids in zip(rows, prompts, strict=True)]
        heads = [ids[: len(ids) - len(cover)] for ids, cover in zip(prompts, covers, strict=True)]
        self.memory = read_all(model, [head[:-1] for head in heads], join([row.start.memory for row in rows]))
        if any(covers):
            memories = []
            for number, (row, ids, cover) in enumerate(zip(rows, prompts, covers, strict=True)):
                memory = pick(self.memory, [number])
                heads[number], memory = self._heal(number, row, ids, cover, memory) if cover else (ids, memory)
                memories.append(memory)
                row.healed = len(tokenizer.decode(ids[len(heads[number]) :]))
            self.memory = join(memories)
        for number, (row, ids) in enumerate(zip(rows, heads, strict=True)):
            row.ids = [*row.start.ids[:-1], *ids]
            self.sampler.read(number, row.ids)
        self.ids = np.array([ids[-1] for ids in heads], np.int32)  # [B]

    def step(self) -> list[Piece]:
        """Draws the next piece of each of `rows`; those that end with it leave."""
        logits, self.memory = self._model.step(self.ids, self.memory)  # [B, V]
        self.ids = self.sampler.draw(logits)
        pieces = []
        for number, row in enumerate(self.rows):
            log_probs = log_softmax(logits[number]) if row.config.top_logprobs is not None else None
            pieces.append(row.take(int(self.ids[number]), log_probs, blocked=bool(self.sampler.blocked[number])))
        live = [number for number, row in enumerate(self.rows) if not row.finished]
        if 0 < len(live) < len(self.rows):
            self.sampler.keep(live)
            self.ids, self.memory = self.ids[live], pick(self.memory, live)
        self.rows = [self.rows[number] for number in live]
        return pieces

    def _heal(
        self, number: int, row: Row, ids: list[int], covers: list[list[int]], memory: Any
    ) -> tuple[list[int], Any]:
        """The tokens of a prompt that are kept, and the state before the last: see `token_healing`.

        `memory` is that of the pieces before those that are covered, but for the newest. Where no cover can be drawn,
        all pieces are kept.
        """
        shared = len(ids) - len(covers)
        before = row.start.ids[:-1]
        covers = [
            self.sampler.possible(number, [*before, *ids[: shared + kept]], cover) for kept, cover in enumerate(covers)
        ]
        log_probs, memories = [], [memory]
        for id in ids[shared - 1 : -1]:
            logits, after = self._model.step(np.array([id], np.int32), memories[-1])
            log_probs.append(log_softmax(logits[0]))
            memories.append(after)
        uniform = np.random.Generator(np.random.Philox([row.config.seed or 0, 1])).random()
        cut = choose_cut(np.array(log_probs), ids[shared:], covers, row.config.temperature, uniform)
        if cut < len(covers):
            self.sampler.restrict(number, covers[cut])
        return ids[: shared + cut], memories[cut]


def read_all(model: StepModel, rows: Sequence[Sequence[int]], memory: Any) -> Any:
    """Reads ids of different lengths, those of equal length together: memory of all rows before and after them."""
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    memory = pick(memory, order)
    for start, end in pairwise(sorted({len(ids) for ids in rows} | {0})):
        reading = [rows[row] for row in order if len(rows[row]) >= end]
        part = pick(memory, slice(len(reading)))
        for at in range(start, end, PROMPT_WINDOW):
            window = np.array([ids[at : min(at + PROMPT_WINDOW, end)] for ids in reading], np.int32)  # [B, T]
            part = model.read(window, part)
        memory = join([part, pick(memory, slice(len(reading), None))])
    return pick(memory, [int(place) for place in np.argsort(order)])


def likeliest(log_probs: np.ndarray, number: int) -> tuple[tuple[int, float], ...]:
    """The ids and log probabilities [V] of the likeliest pieces, likeliest first; of equals, the first ids."""
    if not number:
        return ()
    number = min(number, len(log_probs))
    candidates = np.flatnonzero(log_probs >= np.partition(log_probs, -number)[-number])
    order = candidates[np.argsort(-log_probs[candidates], kind="stable")][:number]
    return tuple((int(id), float(log_probs[id])) for id in order)

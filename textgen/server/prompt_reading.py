"""Reads prompts part by part: each once, however many texts of a request continue it.

Every other part belongs to the owner, the request and the prompt of which least has been read, so a short prompt is
soon read whatever the long ones beside it. The parts in between go round, so a long prompt is read whatever the number
of short ones that come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from textgen.generation.generator import Generator
from textgen.generation.row import Row
from textgen.generation.text_state import join, pick
from textgen.server.prefix_cache import STRIDE, PrefixCache

TOGETHER = 16  # maximum number of prompts that are read side by side


class Reader(Protocol):
    """A text that continues a prompt, as `textgen.server.jobs.Job` does, where the attributes are explained."""

    root: bytes
    owner: str
    row_by_row: bool
    generator: Generator
    writes: bool

    @property
    def row(self) -> Row:
        """The text."""

    @property
    def kind(self) -> object:
        """What it has in common with the texts whose prompts can be read beside its own."""

    @property
    def batch(self) -> object:
        """What it has in common with the other texts of its request."""


class ReadPrompt:
    """A prompt, and how far it has been read for all texts of a request that continue it.

    Attributes:
        ids: Its tokens.
        number: Tokens to read; the others are read when a text joins. Less than 0 before its first turn.
        keys: Its keys in the prefix cache.
        at: Tokens that need not be read any more.
        cached: Those of them that the prefix cache or another text of the request had.
        turn: Number of the part, counting those of all prompts, after which it waits: the last one that was read of it,
            or the last one before it came.
        model_state: The state of the model before it has read the last of the tokens up to `at`.
    """

    def __init__(self, row: Row) -> None:
        """Takes the prompt of a text that has not begun."""
        self.ids = row.prompt_ids
        self.number = -1
        self.keys: Sequence[bytes] = ()
        self.at = 0
        self.cached = 0
        self.turn = 0
        self.model_state = row.start.model_state
        self._before = row.start.ids[-1]

    @property
    def is_read(self) -> bool:
        """Whether the texts that continue it can join."""
        return self.at == self.number

    @property
    def read(self) -> int:
        """Number of tokens that had to be read so far."""
        return self.at - self.cached

    @property
    def next_key(self) -> bytes | None:
        """The key of the state after the next part; None if that is not cached."""
        return self.keys[self.at // STRIDE] if self.at // STRIDE < len(self.keys) else None

    @property
    def next_steps(self) -> int:
        """Number of tokens up to its end or the next state to cache."""
        return min(self.number, (self.at // STRIDE + 1) * STRIDE) - self.at

    def inputs(self, steps: int) -> list[int]:
        """What the model reads in the next steps: the token before each of the next ones."""
        before = self.ids[self.at - 1] if self.at else self._before
        return [before, *self.ids[self.at : self.at + steps - 1]]

    def follow(self, other: ReadPrompt) -> None:
        """Begins where another one with the same root and network has been read to, if it begins with the same tokens.

        It is for a prompt that has not begun, so that it does not depend on what the prefix cache has kept.
        """
        if other.at and self.ids[: other.at] == other.ids[: other.at]:
            self.skip_to(other.at, other.model_state)

    def skip_to(self, at: int, model_state: Any) -> None:
        """Goes on after tokens that the prefix cache or another text of the request has."""
        self.cached += at - self.at
        self.at, self.model_state = at, model_state


class PromptReader:
    """Reads the prompts of the texts of a model. For one thread."""

    def __init__(self, prefix_cache: PrefixCache, settled: Callable[[Row], int]) -> None:
        """Makes a reader.

        Args:
            prefix_cache: States within prompts.
            settled: Returns how much of the prompt of a text can be read before it joins.
        """
        self._prefix_cache = prefix_cache
        self._settled = settled
        self._turns = 0  # parts read

    def find(self, jobs: Mapping[ReadPrompt, Reader]) -> None:
        """Begins prompts that are new, and takes what the prefix cache has of all, maybe since another was read.

        Args:
            jobs: The prompts, and of each a job that continues it.
        """
        for prompt, job in jobs.items():
            if prompt.number < 0:
                self._begin(prompt, job)
            while prompt.at % STRIDE == 0 and (key := prompt.next_key):
                state = self._prefix_cache.get(key)
                if state is None:
                    break
                prompt.skip_to(prompt.at + STRIDE, state)

    def _begin(self, prompt: ReadPrompt, job: Reader) -> None:
        prompt.number = self._settled(job.row) if job.writes else len(prompt.ids)
        prompt.turn = self._turns
        root = job.root if job.row_by_row else job.root + b" shared"  # whose last digits differ
        prompt.keys = self._prefix_cache.keys(root, prompt.ids[: prompt.number])
        at, model_state = self._prefix_cache.find(prompt.keys)
        if at > prompt.at:
            prompt.skip_to(at, model_state)

    def read_part(self, jobs: Mapping[ReadPrompt, Reader]) -> int:
        """Reads the next part of the prompt whose turn it is, and of those that can be read beside it.

        Args:
            jobs: The prompts that are not read yet, and of each a job that continues it.

        Returns:
            The number of tokens that were read of each: up to the first end or the next state to cache.
        """
        group = self._next(jobs)
        steps = min(prompt.next_steps for prompt in group)
        ids = np.array([prompt.inputs(steps) for prompt in group], np.int32)
        model = jobs[group[0]].generator.model
        after = model.read(ids, join([prompt.model_state for prompt in group]))
        for number, prompt in enumerate(group):
            prompt.model_state = pick(after, [number])
            prompt.at += steps
            prompt.turn = self._turns
            if prompt.at % STRIDE == 0:
                self._prefix_cache.put(prompt.keys, prompt.at // STRIDE, prompt.model_state)
        return steps

    def _next(self, jobs: Mapping[ReadPrompt, Reader]) -> list[ReadPrompt]:
        """The prompt whose turn it is, and those that can be read beside it, which have other next parts."""
        self._turns += 1
        first = _least_read(jobs) if self._turns % 2 else min(jobs, key=_turn)
        kind = jobs[first].kind
        if jobs[first].row_by_row:
            return [first]
        group: dict[bytes | ReadPrompt, ReadPrompt] = {}
        for prompt in (first, *sorted(jobs, key=_turn)):
            if jobs[prompt].kind == kind and len(group) < TOGETHER:
                group.setdefault(prompt.next_key or prompt, prompt)
        return list(group.values())


def _turn(prompt: ReadPrompt) -> int:
    return prompt.turn


def _least_read(jobs: Mapping[ReadPrompt, Reader]) -> ReadPrompt:
    """The prompt of which least has been read, of the request and the owner of whose prompts least has been read."""
    owners, batches = Counter[str](), Counter[object]()
    for prompt, job in jobs.items():
        owners[job.owner] += prompt.read
        batches[job.batch] += prompt.read
    return min(jobs, key=lambda prompt: (owners[jobs[prompt].owner], batches[jobs[prompt].batch], prompt.read))

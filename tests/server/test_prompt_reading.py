"""Prompts part by part: each read once, and none waits for all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from plain_fakes import TableModel

from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.server.jobs import Batch, Job
from textgen.server.prefix_cache import STRIDE, PrefixCache
from textgen.server.prompt_reading import PromptReader, ReadPrompt
from textgen.tokenizer.kinds import ByteTokenizer

GENERATOR = Generator(TableModel(ByteTokenizer().vocab_size), ByteTokenizer())
LONG = 100 * STRIDE


class Reads:
    """Prompts of requests that are read, each with letters of its own."""

    def __init__(self, memory: int = 0, *, row_by_row: bool = True) -> None:
        self.reader = PromptReader(PrefixCache(memory), GENERATOR.decoder().settled)
        self.jobs: dict[ReadPrompt, Job] = {}
        self.row_by_row = row_by_row

    def request(self, *lengths: int, owner: str = "") -> list[ReadPrompt]:
        batch = Batch(len(lengths), owner)
        prompts = [self.prompt(chr(33 + len(self.jobs)) * length, batch) for length in lengths]
        self.reader.find(self.jobs)
        return prompts

    def prompt(self, text: str, batch: Batch) -> ReadPrompt:
        job = Job(GENERATOR.row(text, SamplingConfig(seed=0)), GENERATOR, lambda *_: None, owner=batch.owner)
        job.batch, job.row_by_row = batch, self.row_by_row
        self.jobs[job.prompt] = job
        return job.prompt

    def read(self, parts: int) -> None:
        for _ in range(parts):
            self.reader.read_part({prompt: job for prompt, job in self.jobs.items() if not prompt.is_read})
            self.reader.find(self.jobs)


def tokens_read(prompts: Sequence[ReadPrompt]) -> int:
    return sum(prompt.read for prompt in prompts)


@pytest.mark.parametrize("together", [False, True])
def test_a_short_prompt_waits_for_no_more_than_a_part_of_others(*, together: bool) -> None:
    reads = Reads()
    if together:
        reads.request(*[LONG] * 20)
    else:
        for _ in range(20):
            reads.request(LONG)
    reads.read(50)
    (short,) = reads.request(STRIDE)
    reads.read(2)
    assert short.is_read


def test_a_long_prompt_has_every_other_part_while_short_ones_come() -> None:
    reads = Reads()
    (long,) = reads.request(LONG)
    (short,) = reads.request(STRIDE)
    for _ in range(20):
        reads.read(1)
        if short.is_read:
            (short,) = reads.request(STRIDE)
    assert long.read >= 10 * STRIDE


@pytest.mark.parametrize("owners", [("", ""), ("a", "b")])
def test_a_request_or_owner_with_one_prompt_has_about_as_much_as_one_with_many(owners: tuple[str, str]) -> None:
    reads = Reads()
    many = reads.request(*[LONG] * 20, owner=owners[0])
    (one,) = reads.request(LONG, owner=owners[1])
    reads.read(80)
    assert one.read >= 35 * STRIDE
    assert tokens_read(many) >= 35 * STRIDE


@pytest.mark.parametrize("row_by_row", [True, False])
def test_what_prompts_have_in_common_is_read_once(*, row_by_row: bool) -> None:
    reads = Reads(1 << 20, row_by_row=row_by_row)
    prompts = [reads.prompt("a" * LONG + chr(65 + number) * STRIDE, Batch(1, "")) for number in range(8)]
    reads.reader.find(reads.jobs)
    while not all(prompt.is_read for prompt in prompts):
        reads.read(1)
    assert tokens_read(prompts) == LONG + 8 * STRIDE
    for prompt in prompts:
        assert np.array_equal(_total(prompt), sum([reads.jobs[prompt].row.start.ids[-1], *prompt.ids[:-1]]))


def _total(prompt: ReadPrompt) -> Any:
    """What `TableModel` has read, in sum."""
    ((total,), _) = prompt.model_state
    return total[0, 0]


def test_a_prompt_that_is_longer_than_the_memory_of_the_cache_is_read_as_a_whole() -> None:
    reads = Reads(1000)
    prompts = reads.request(LONG, LONG - 1, 1)
    while not all(prompt.is_read for prompt in prompts):
        reads.read(1)
    assert [prompt.at for prompt in prompts] == [LONG, LONG - 1, 1]


@pytest.mark.parametrize(("text", "at"), [("a" * 50, 40), ("a" * 40, 40), ("a" * 39 + "bc", 0), ("a" * 30, 0)])
def test_a_prompt_goes_on_where_another_with_the_same_beginning_was_read_to(text: str, at: int) -> None:
    reads = Reads()
    first = reads.prompt("a" * 40, Batch(1, ""))
    reads.reader.find(reads.jobs)
    while not first.is_read:
        reads.read(1)
    prompt = reads.prompt(text, Batch(1, ""))
    prompt.follow(first)
    assert (prompt.at, prompt.cached) == (at, at)
    reads.reader.find(reads.jobs)
    while not prompt.is_read:
        reads.read(1)
    assert _total(prompt) == sum([reads.jobs[prompt].row.start.ids[-1], *prompt.ids[:-1]])

"""`/v1/completions` and `/v1/chat/completions`: from jobs to an answer, or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from msgspec import Raw

from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import CUT, written_ids
from textgen.generation.generator import Generator
from textgen.generation.row import TextRow
from textgen.generation.text_state import TextState
from textgen.server.answers import Chunks, whole
from textgen.server.failures import encoded
from textgen.server.jobs import Job
from textgen.server.planning import (
    AnswerPlan,
    PlannedPrompt,
    check_length,
    in_thread_if_long,
    label_at,
    label_of,
    lead_of,
    make_row,
    nobody,
    root_of,
    start_of,
)
from textgen.server.prompt_scores import legacy_logprobs, prompt_scores
from textgen.server.requests import Prompt
from textgen.server.resources import Resources
from textgen.server.served_model import ServedModel
from textgen.server.sse import DONE, event
from textgen.server.states import KeptState
from textgen.server.token_texts import prompt_places
from textgen.server.writing import Choice, Writing


async def answer(plan: AnswerPlan, resources: Resources) -> dict[str, Any]:
    """Writes all texts of a plan and returns the answer."""
    with plan.model.in_use():
        return await _answer(plan, resources)


async def _answer(plan: AnswerPlan, resources: Resources) -> dict[str, Any]:
    await _score_prompts(plan, resources)
    await _find_copies(plan, resources)
    _count_read(plan, resources)
    async with Writing(plan.model, resources.metrics) as writing:
        if plan.writes:
            await _begin(plan, writing)
            async for _ in writing:
                pass
    chosen: list[Choice] = []
    for prompt in range(len(plan.prompts)):
        drawn = [choice for choice in plan.choices if choice.prompt == prompt]
        if len(drawn) > plan.n:
            drawn.sort(key=lambda choice: -choice.mean_logprob)
        chosen += drawn[: plan.n]
    choices: list[dict[str, Any] | Raw] = []
    for index, choice in enumerate(chosen):
        if plan.request.return_state:
            await _keep_state(plan, choice, resources)
        choices.append(await _shaped(plan, choice, index))
    return plan.head(chunk=False) | {"choices": choices, "usage": plan.usage(), "seed": plan.seed}


async def _shaped(plan: AnswerPlan, choice: Choice, index: int) -> dict[str, Any] | Raw:
    """A text in an answer that is not streamed; encoded in another thread if it has log probabilities, maybe many."""
    if plan.logprobs is None:
        return whole(plan, choice, index)
    return await asyncio.to_thread(lambda: encoded(whole(plan, choice, index)))


async def stream(plan: AnswerPlan, resources: Resources) -> AsyncGenerator[bytes, None]:
    """Yields the events of a plan while its texts are written."""
    options = plan.request.stream_options
    counts_usage = bool(options and options.include_usage)
    counts_always = bool(counts_usage and options and options.continuous_usage_stats)
    head = plan.head(chunk=True) | {"seed": plan.seed}  # in each event: a client that stops the stream needs it, too

    def event_of(chunk: dict[str, Any]) -> bytes:
        usage = {"usage": plan.usage() if counts_always else None} if counts_usage else {}
        return event(head | {"choices": [chunk]} | usage)

    with plan.model.in_use():
        await _score_prompts(plan, resources)
        _count_read(plan, resources)
        chunks_of = [Chunks(plan, choice) for choice in plan.choices]
        async with Writing(plan.model, resources.metrics) as writing:
            if plan.writes:
                await _begin(plan, writing)
            # not sent while the texts wait: they may be refused, and a status is possible only before anything is sent
            first = (event_of(chunk) for chunks in chunks_of for chunk in chunks.first())
            async for choice, token in writing:
                for sent in first:
                    yield sent
                chunks = chunks_of[choice.index]
                added = None if token is None else chunks.of(token)
                if added is not None:
                    yield event_of(added)
                if choice.stop_reason and plan.request.return_state and token is not None:
                    writing.start_task(choice, partial(_keep_state, plan, choice, resources))
                elif choice.stop_reason:
                    yield event_of(chunks.last())
            if not plan.writes:
                for choice in plan.choices if plan.request.return_state else ():
                    await _keep_state(plan, choice, resources)
                for sent in chain(first, (event_of(chunks.last()) for chunks in chunks_of)):
                    yield sent
    if counts_usage:
        yield event(head | {"choices": [], "usage": plan.usage()})
    yield DONE


async def _begin(plan: AnswerPlan, writing: Writing) -> None:
    for choice in plan.choices:
        choice.job.listener = writing.listen
    writing.begin(plan.choices)


async def _score_prompts(plan: AnswerPlan, resources: Resources) -> None:
    """Scores the prompts that the answer repeats."""
    number = plan.logprobs
    if not plan.echo or number is None:
        return
    if plan.model.scores_by_network(plan.generator):
        await resources.models.prepare(plan.model, "network")
    rows = {choice.prompt: choice.job.row for choice in plan.choices}
    for place, row in sorted(rows.items()):
        work = partial(_echo, plan, row, plan.prompts[place], number)
        plan.echoes.append(await resources.in_worker(work, plan.owner, plan.model.name))


async def _find_copies(plan: AnswerPlan, resources: Resources) -> None:
    """Finds where the prompts occur in the training text, if the request asks for that."""
    if not plan.finds_copies:
        return
    await resources.models.prepare(plan.model, "ngrams")
    for prompt in plan.prompts:
        plan.copies.append(await in_thread_if_long(len(prompt.row.prompt_ids), _copies, plan.model, prompt))


def _copies(model: ServedModel, prompt: PlannedPrompt) -> list[tuple[int, int]] | None:
    """Where a prompt occurs in the training text, in characters; None for a model without an index of it."""
    if model.ngrams is None:
        return None
    ids = prompt.ids
    at = prompt_places(model.tokenizer, prompt.given, prompt.row.start.ids, ids)
    found = model.ngrams.copies(np.array(ids, np.int32), model.tokenizer)
    return [(at[start], at[end]) for start, end in found]


def _count_read(plan: AnswerPlan, resources: Resources) -> None:
    """Counts prompts that are read, for their scores or states, though no texts are written after them.

    Prompts before texts are counted when the texts have been written.
    """
    if not plan.writes and (plan.echoes or plan.request.return_state):
        resources.metrics.prompt_tokens.labels(plan.model.name).inc(plan.usage()["prompt_tokens"])


def _echo(
    plan: AnswerPlan, row: TextRow, prompt: PlannedPrompt, number: int, wanted: Callable[[], bool]
) -> dict[str, list[Any]]:
    """The log probabilities of a prompt."""
    generator = plan.model.scoring_generator(plan.generator)
    start = start_of(generator, prompt.lead, row.config.label, plan.kept)
    scores = prompt_scores(generator.model, start, row.prompt_ids, number, prompt.lead, wanted)
    offsets = prompt_places(plan.model.tokenizer, prompt.given, start.ids, prompt.ids)
    return legacy_logprobs(scores, plan.model.token_texts, offsets)


async def _keep_state(plan: AnswerPlan, choice: Choice, resources: Resources) -> None:
    """Keeps the position at the end of a text, and tells the text how to continue from it."""
    state = choice.job.state
    if state is None or choice.stop_reason in CUT:  # tokens were taken back from the text
        state = await _read_anew(plan, choice, resources)
    known = label_of(plan.generator, plan.prompts[choice.prompt].lead, choice.job.row.config.label)
    if known is None and plan.kept:
        known = plan.kept.label
    label = label_at(plan.model.tokenizer, state, known)
    kept = resources.states.add(plan.owner, plan.model.name, plan.generator.fingerprint, state, label)
    choice.state = described(kept)


async def _read_anew(plan: AnswerPlan, choice: Choice, resources: Resources) -> TextState:
    """Reads a prompt and the text after it, however long the text has made it and however many texts wait."""
    written = choice.job
    prompt = plan.prompts[choice.prompt]
    label = label_of(plan.generator, prompt.lead, written.row.config.label)
    config = replace(written.row.config, seed=0, label=label)
    before = plan.kept.state.ids if plan.kept else ()
    ids = await asyncio.to_thread(written_ids, plan.model.tokenizer, before, prompt.given, choice.text)
    lead = lead_of(plan.generator, ids, plan.kept)
    row = await asyncio.to_thread(make_row, plan.generator, ids, lead, config, plan.kept)
    job = Job(row, plan.generator, nobody, written.root, owner=plan.owner, writes=False)
    job.row_by_row = written.row_by_row  # so that it finds what the prefix cache has of the prompt
    job.prompt.follow(written.prompt)
    return await _read(plan.model, job, resources, first=plan.writes)


async def read_state(
    model: ServedModel,
    generator: Generator,
    prompt: Prompt,
    config: SamplingConfig,
    kept: KeptState | None,
    owner: str,
    resources: Resources,
) -> TextState:
    """Reads a prompt and returns the position after it.

    Args:
        model: The model.
        generator: Its generator, with the cells held that the request names.
        prompt: The prompt, as a text or as ids.
        config: Settings of the text, of which the label counts.
        kept: The state that is continued; None for the beginning of a document.
        owner: Whose request it is: see `textgen.server.access`.
        resources: What the server has.

    Raises:
        ApiError: The prompt is too long or not valid, the model does not know the label, or the server is busy or
            closing.
    """
    with model.in_use():
        lead = lead_of(generator, prompt, kept)
        row = await asyncio.to_thread(make_row, generator, prompt, lead, config, kept)
        check_length(len(row.prompt_ids), resources)
        root = root_of(owner, generator, label_of(generator, lead, config.label), kept)
        job = Job(row, generator, nobody, root, owner=owner, writes=False)
        job.row_by_row = not generator.model.exact
        state = await _read(model, job, resources)
    resources.metrics.prompt_tokens.labels(model.name).inc(job.prompt_tokens)
    return state


async def _read(model: ServedModel, job: Job, resources: Resources, *, first: bool = False) -> TextState:
    """Returns the position after the prompt of a job that only reads; for `first` see `Engine.submit`."""
    async with Writing(model, resources.metrics) as reading:
        await reading.read(job, first=first)
    if job.state is None:
        raise RuntimeError("A prompt was read and left no state.")
    return job.state


def described(kept: KeptState) -> dict[str, Any]:
    """A state as clients see it."""
    return {
        "id": kept.id,
        "object": "state",
        "model": kept.model,
        "label": kept.label,
        "bytes": kept.bytes,
        "tokens": len(kept.state.ids),
        "expires_at": int(kept.expires_at),
    }

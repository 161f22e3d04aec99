"""From a request for a completion or a chat to the jobs that write its texts."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from textgen.generation.config import SamplingConfig
from textgen.generation.fingerprint import Fingerprint
from textgen.generation.generator import Generator
from textgen.generation.request import with_seed, without_healing
from textgen.generation.row import TextRow
from textgen.generation.text_state import TextState
from textgen.server.engine import Job
from textgen.server.failures import ApiError, naming
from textgen.server.prompt_scores import Echo
from textgen.server.requests import (
    DIALOGUE_STOPS,
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    Prompt,
    check_look_back,
    checked_count,
    clamps_of,
    copies,
    first_text,
    is_repeatable,
    sampling_config,
    shown_number,
    with_logprobs,
)
from textgen.server.resources import Resources
from textgen.server.served_model import ServedModel
from textgen.server.states import KeptState
from textgen.server.writing import Choice
from textgen.wording import counted

MOST_WORK = 1 << 18  # maximum number of tokens of a request; each alternative that is reported counts as one
ID_BYTES = 12  # random bytes in the id of an answer
LONG_PROMPT = 10_000  # characters of a prompt above which another thread encodes it, so that other requests do not wait
Made = TypeVar("Made")


@dataclass
class AnswerPlan:
    """A request that has been understood: what to write, and how to tell it.

    Attributes:
        model: The model.
        generator: Its generator, with the cells held that the request names.
        owner: Whose request it is.
        choices: The texts to write, prompt by prompt.
        is_chat: Whether the answer has the shape of a chat.
        request: The request.
        n: Texts in the answer for each prompt.
        logprobs: Alternatives of each token that are reported; None for no log probabilities.
        echoes: The log probabilities of each prompt, where they are echoed.
        given: The prompts as they were sent, as texts or as ids.
        prompts: The text of each prompt.
        leads: The tokens of each prompt that tell the beginning of a document, which are not read again.
        writes: Whether anything is written after the prompts.
        kept: The state that is continued.
    """

    model: ServedModel
    generator: Generator
    owner: str
    request: GenerationRequest
    is_chat: bool
    n: int
    logprobs: int | None
    given: list[Prompt] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    leads: list[list[int]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    echoes: list[Echo] = field(default_factory=list)
    writes: bool = True
    kept: KeptState | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(ID_BYTES))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def echo(self) -> bool:
        """Whether the answer begins with the prompt."""
        return bool(isinstance(self.request, CompletionRequest) and self.request.echo)

    @property
    def seed(self) -> int:
        """The seed of the first text."""
        return self.choices[0].job.row.config.seed or 0

    def head(self, *, chunk: bool) -> dict[str, Any]:
        """The fields that all answers begin with."""
        return head_of(self.model, self.id, self.created, is_chat=self.is_chat, chunk=chunk)

    def usage(self) -> dict[str, Any]:
        """The tokens read and written so far."""
        jobs = list({choice.prompt: choice.job for choice in self.choices}.values())
        read = sum(job.prompt_tokens for job in jobs)
        written = sum(len(choice.tokens) for choice in self.choices)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": sum(job.cached_tokens for job in jobs)},
        }


def head_of(model: ServedModel, id: str, created: int, *, is_chat: bool = False, chunk: bool = False) -> dict[str, Any]:
    """Returns the fields that all answers of a model begin with.

    Args:
        model: The model.
        id: The part of the answer's id that tells it from others.
        created: When it was begun, in seconds since the epoch.
        is_chat: Whether it has the shape of a chat.
        chunk: Whether it is a chunk of a stream.
    """
    prefix, kind = ("chatcmpl", "chat.completion") if is_chat else ("cmpl", "text_completion")
    return {
        "id": f"{prefix}-{id}",
        "object": f"{kind}.chunk" if chunk and is_chat else kind,
        "created": created,
        "model": model.name,
        "system_fingerprint": model.fingerprint[:16],
    }


async def plan_completion(
    request: CompletionRequest, values: dict[str, Any], owner: str, resources: Resources
) -> AnswerPlan:
    """Plans the answer to a request for completions.

    Args:
        request: The request.
        values: The fields that it has, as they were sent.
        owner: Whose request it is: see `textgen.server.access`.
        resources: What the server has.

    Raises:
        ApiError: The request cannot be fulfilled.
        TextgenError: The same, for a setting of the texts.
    """
    if request.best_of is not None and request.best_of > 1 and request.stream:
        raise ApiError(400, "best_of cannot be streamed: the best is known at the end.", param="best_of")
    request.check(values)
    prompts = request.prompts()
    number = checked_count("n", request.n, len(prompts), resources.config)
    drawn = number
    if request.best_of is not None:
        drawn = checked_count("best_of", request.best_of, len(prompts), resources.config)
        if drawn < number:
            raise ApiError(400, f"best_of ({drawn}) is less than n ({number}).", param="best_of")
    logprobs = request.alternatives()
    text = first_text(request.prompt)
    plan = await _begun(request, owner, resources, text, is_chat=False, n=number, logprobs=logprobs)
    config = with_logprobs(sampling_config(request, values, resources.config), logprobs)
    if drawn > number and logprobs is None:
        config = replace(config, top_logprobs=0)
    if plan.echo:
        config = replace(config, heal=False)
    with plan.model.in_use():
        await _add_choices(plan, prompts, config, drawn, resources, repeatable=is_repeatable(values, config))
    return plan


async def plan_chat(request: ChatRequest, values: dict[str, Any], owner: str, resources: Resources) -> AnswerPlan:
    """Plans the answer to a request for a chat. Arguments and errors are those of `plan_completion`."""
    request.check(values)
    template = request.template or resources.config.chat_template
    if template not in ("text", "dialogue"):
        raise ApiError(400, "template must be text or dialogue.", param="template")
    number = checked_count("n", request.n, 1, resources.config)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    prompt, contents = request.prompt(template), request.prompt("text")  # the latter without the names of the roles
    plan = await _begun(request, owner, resources, contents, is_chat=True, n=number, logprobs=logprobs)
    config = with_logprobs(sampling_config(request, values, resources.config), logprobs)
    if template == "dialogue":
        config = replace(config, stop=(*config.stop, *DIALOGUE_STOPS))
    with plan.model.in_use():
        await _add_choices(plan, [prompt], config, number, resources, repeatable=is_repeatable(values, config))
    return plan


async def _begun(
    request: GenerationRequest,
    owner: str,
    resources: Resources,
    text: str,
    *,
    is_chat: bool,
    n: int,
    logprobs: int | None,
) -> AnswerPlan:
    kept = None if request.state is None else resources.states.get(owner, request.state)
    model = await resources.models.get(request.model or (kept.model if kept else None), text)
    generator = await resources.models.generator(model, clamps_of(request), request.exact)
    check_kept(kept, model, generator)
    return AnswerPlan(model, generator, owner, request, is_chat, n, logprobs, writes=request.length != 0, kept=kept)


def check_kept(kept: KeptState | None, model: ServedModel, generator: Generator) -> None:
    """Raises `ApiError` if a state is not one of a network."""
    if kept is None or kept.fingerprint == generator.fingerprint:
        return
    made_by = Fingerprint.parse(kept.fingerprint)
    if made_by.weights == model.fingerprint:
        if generator.model.exact:
            raise ApiError(400, 'The state was not read in exact arithmetic: give "exact": false.', param="exact")
        if made_by.is_exact:
            raise ApiError(400, 'The state was read in exact arithmetic: give "exact": true.', param="exact")
        held = " ".join(map(str, made_by.clamps)) or "no cell"
        raise ApiError(400, f"The state was read with {held} clamped: give the same clamp.", param="clamp")
    if kept.model == model.name:
        raise ApiError(
            400, f"The model {model.name!r} has changed since the state was made: make the state again.", param="state"
        )
    raise ApiError(400, f"The state is one of the model {kept.model!r}, not of {model.name!r}.", param="state")


async def _add_choices(
    plan: AnswerPlan,
    prompts: Sequence[Prompt],
    config: SamplingConfig,
    number: int,
    resources: Resources,
    *,
    repeatable: bool,
) -> None:
    """Makes the jobs of a plan; their texts come again for their seeds if they are repeatable."""
    if plan.writes:
        _check_room(plan.request, len(prompts) * number, resources)
    work = number * (1 + (plan.logprobs or 0))
    _check_work(len(prompts) * config.max_tokens * work, "max_tokens", "max_tokens")
    track = bool(plan.request.return_state)
    rows: list[TextRow] = await in_thread_if_long(sum(map(len, prompts)), _rows, plan, prompts, config, track)
    read = sum(len(row.prompt_ids) for row in rows)
    check_length(read, resources)
    check_look_back(config, [len(row.start.ids) + len(row.prompt_ids) + config.max_tokens for row in rows] * number)
    if plan.echo:
        _check_work(read * work, "the tokens of a prompt that is echoed", "prompt")
    if config.no_copy is not None:
        await resources.models.prepare(plan.model, "ngrams")
    for place, (first, configs) in enumerate(zip(rows, copies(config, len(rows), number), strict=True)):
        for own in configs:
            row = first.fork()
            row.config = with_seed(first.config, own.seed or 0)
            label = label_of(plan.generator, plan.leads[place], config.label)
            job = Job(row, plan.generator, nobody, root_of(plan.owner, plan.generator, label, plan.kept))
            job.row_by_row = (repeatable or not plan.writes) and not plan.generator.model.exact
            job.prompt_tokens += len(plan.leads[place])
            plan.choices.append(Choice(len(plan.choices), place, job))


def _check_room(request: GenerationRequest, texts: int, resources: Resources) -> None:
    """Raises `ApiError` if a request asks for more texts than can be written and wait at a time."""
    most = resources.config.slots + resources.config.max_queue
    if texts <= most:
        return
    drawn = request.best_of if isinstance(request, CompletionRequest) else None
    name = "best_of" if drawn else "n" if (request.n or 1) > 1 else "prompt"
    raise ApiError(
        400, f"This server takes {counted(most, 'text')} at a time, and this request asks for {texts:,}: its prompts "
        "times n or best_of. Send a smaller n or best_of, or fewer prompts.", param=name,
    )  # fmt: skip


def _check_work(work: int, what: str, param: str) -> None:
    """Raises `ApiError` if an answer would have too many tokens, counted once more for each alternative."""
    if work > MOST_WORK:
        raise ApiError(
            400, f"The request asks for too much at once: its texts times {what}, and times 1 + logprobs, may be "
            f"{MOST_WORK:,} and are {shown_number(work)}.", param=param,
        )  # fmt: skip


async def in_thread_if_long(characters: int, function: Callable[..., Made], *arguments: Any) -> Made:
    """Calls a function that reads this many characters, in another thread if other requests would have to wait."""
    if characters > LONG_PROMPT:
        return await asyncio.to_thread(function, *arguments)
    return function(*arguments)


def nobody(job: Job, event: object) -> None:
    """The listener of a job that is not submitted yet."""


def _rows(plan: AnswerPlan, prompts: Sequence[Prompt], config: SamplingConfig, track: bool) -> list[TextRow]:
    """The first text of each prompt."""
    rows = []
    for prompt in prompts:
        lead = [] if plan.kept or isinstance(prompt, str) else lead_of(plan.generator, prompt)
        row = make_row(plan.generator, prompt, config, plan.kept, track=track)
        plan.given.append(prompt)
        plan.leads.append(lead)
        plan.prompts.append(prompt if isinstance(prompt, str) else plan.model.tokenizer.decode(prompt))
        rows.append(row)
    return rows


def make_row(
    generator: Generator, prompt: Prompt, config: SamplingConfig, kept: KeptState | None, *, track: bool = False
) -> TextRow:
    """Returns a text that continues a prompt, and a state if there is one.

    A prompt of ids may begin with the end of the document before it and a label, as clients that score texts send it.

    Args:
        generator: The generator.
        prompt: The prompt, as a text or as ids.
        config: Settings of the text.
        kept: The state that is continued; None for the beginning of a document.
        track: Whether the position at the end of the text is wanted.

    Raises:
        ApiError: The model does not know the label, or the prompt is not valid text or has ids beyond the vocabulary.
    """
    lead = [] if kept or isinstance(prompt, str) else lead_of(generator, prompt)
    start = start_of(generator, lead, config.label, kept)
    with naming("prompt"):
        if isinstance(prompt, str):
            return generator.row(prompt, config, start, track=track)
        return generator.row(prompt[len(lead) :], without_healing(config), start, track=track)


def start_of(generator: Generator, lead: Sequence[int], label: str | None, kept: KeptState | None) -> TextState:
    """Returns the position before a prompt.

    Args:
        generator: The generator.
        lead: The tokens of the prompt that open a document: see `lead_of`.
        label: The label that a request names.
        kept: The state that is continued.

    Raises:
        ApiError: The model does not know the label, or the text has begun.
    """
    with naming("label"):
        return generator.opened(kept.state, label) if kept else generator.start(label_of(generator, lead, label))


def label_of(generator: Generator, lead: Sequence[int], label: str | None) -> str | None:
    """Returns the label of a document: the one that its prompt begins with, or the one that a request names."""
    return generator.tokenizer.label_of(lead[1]) if len(lead) > 1 else label


def lead_of(generator: Generator, ids: Sequence[int]) -> list[int]:
    """Returns the tokens that open a document, if a prompt begins with them: the end of another one, and a label."""
    tokenizer = generator.tokenizer
    if not ids or ids[0] != tokenizer.eos_id:
        return []
    return list(ids[:2] if len(ids) > 1 and tokenizer.first_label <= ids[1] < tokenizer.vocab_size else ids[:1])


def root_of(owner: str, generator: Generator, label: str | None, kept: KeptState | None) -> bytes:
    """Returns the root of the prefix-cache keys of prompts with the same beginning: see `PrefixCache.keys`.

    Args:
        owner: Whose prompts they are: see `textgen.server.access`.
        generator: The generator that reads them.
        label: The label of their documents.
        kept: The state that they continue.
    """
    parts = (owner, generator.fingerprint, "" if label is None else f"={label}", kept.id if kept else "")
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def check_length(tokens: int, resources: Resources) -> None:
    """Raises `ApiError` if a request has more tokens than the server reads."""
    most = resources.config.max_prompt
    if tokens > most:
        raise ApiError(
            400, f"The prompt has {counted(tokens, 'token')}, and this server reads {most:,} for a request. Send less, "
            "or keep the beginning with POST /v1/states.", param="prompt", code="context_length_exceeded",
        )  # fmt: skip

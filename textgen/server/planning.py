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
from textgen.generation.text_state import TextState, of_document
from textgen.server.failures import ApiError, naming
from textgen.server.jobs import Job
from textgen.server.requests import (
    DIALOGUE_STOPS,
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    Prompt,
    first_text,
)
from textgen.server.resources import Resources
from textgen.server.served_model import ServedModel
from textgen.server.states import KeptState
from textgen.server.text_settings import (
    check_look_back,
    checked_best_of,
    checked_count,
    clamps_of,
    copies,
    is_repeatable,
    sampling_config,
    shown_number,
    with_logprobs,
)
from textgen.server.writing import Choice
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import counted

MAX_WORK_TOKENS = 1 << 18  # maximum number of tokens of a request; each alternative that is reported counts as one
ID_BYTES = 12  # random bytes in the id of an answer
LONG_PROMPT = 10_000  # characters of a prompt above which another thread encodes it, so that other requests do not wait
Made = TypeVar("Made")


@dataclass(frozen=True)
class PlannedPrompt:
    """A prompt of a request, read into tokens.

    Attributes:
        given: The prompt as it was sent, as a text or as ids.
        text: Its text as an answer repeats it: without a character that the text after it completes.
        lead: Its tokens that open a document, which are not read again: see `lead_of`.
        row: A text that continues it; each choice forks it.
    """

    given: Prompt
    text: str
    lead: list[int]
    row: TextRow

    @property
    def ids(self) -> list[int]:
        """All of its tokens."""
        return [*self.lead, *self.row.prompt_ids]


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
        copies: Where each prompt occurs in the training text, if the request asks for that; None where that is not
            known.
        prompts: The prompts.
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
    prompts: list[PlannedPrompt] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    echoes: list[dict[str, list[Any]]] = field(default_factory=list)
    copies: list[list[tuple[int, int]] | None] = field(default_factory=list)
    writes: bool = True
    kept: KeptState | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(ID_BYTES))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def echo(self) -> bool:
        """Whether the answer begins with the prompt."""
        return bool(isinstance(self.request, CompletionRequest) and self.request.echo)

    @property
    def finds_copies(self) -> bool:
        """Whether the answer tells where the prompts occur in the training text."""
        asks = isinstance(self.request, CompletionRequest) and bool(self.request.novelty)
        return asks and self.echo and not self.writes

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

    Returns:
        The plan.

    Raises:
        ApiError: The request cannot be fulfilled.
        TextgenError: The same, for a setting of the texts.
    """
    if request.best_of is not None and request.best_of > 1 and request.stream:
        raise ApiError(400, "best_of cannot be streamed: the best is known at the end.", param="best_of")
    request.check(values)
    prompts = request.prompts()
    number = checked_count("n", request.n, len(prompts), resources.config)
    drawn = checked_best_of(request.best_of, number, len(prompts), resources.config) or number
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
        held = " ".join(map(str, made_by.clamps))
        advice = f"with {held} clamped: give the same clamp" if held else "with no cell clamped: leave clamp out"
        raise ApiError(400, f"The state was read {advice}.", param="clamp")
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
    plan.prompts = await in_thread_if_long(sum(map(len, prompts)), _planned_prompts, plan, prompts, config)
    read = sum(len(prompt.row.prompt_ids) for prompt in plan.prompts)
    check_length(read, resources)
    check_look_back(
        config,
        [len(prompt.row.start.ids) + len(prompt.row.prompt_ids) + config.max_tokens for prompt in plan.prompts]
        * number,
    )
    if plan.echo:
        _check_work(read * work, "the tokens of a prompt that is echoed", "prompt")
    if config.no_copy is not None:
        await resources.models.prepare(plan.model, "ngrams")
    configs_of = copies(config, len(prompts), number)
    for place, (prompt, configs) in enumerate(zip(plan.prompts, configs_of, strict=True)):
        label = label_of(plan.generator, prompt.lead, config.label)
        for own in configs:
            row = prompt.row.fork()
            row.config = with_seed(prompt.row.config, own.seed or 0)
            root = root_of(plan.owner, plan.generator, label, plan.kept)
            job = Job(row, plan.generator, nobody, root, owner=plan.owner)
            job.row_by_row = (repeatable or not plan.writes) and not plan.generator.model.exact
            job.prompt_tokens += len(prompt.lead)
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
    if work > MAX_WORK_TOKENS:
        raise ApiError(
            400, f"The request asks for too much at once: its texts times {what}, times 1 + logprobs, must be "
            f"at most {MAX_WORK_TOKENS:,}. Received: {shown_number(work)}.", param=param,
        )  # fmt: skip


async def in_thread_if_long(characters: int, function: Callable[..., Made], *arguments: Any) -> Made:
    """Calls a function that reads this many characters, in another thread if other requests would have to wait."""
    if characters > LONG_PROMPT:
        return await asyncio.to_thread(function, *arguments)
    return function(*arguments)


def nobody(job: Job, event: object) -> None:
    """The listener of a job that is not submitted yet."""


def _planned_prompts(plan: AnswerPlan, prompts: Sequence[Prompt], config: SamplingConfig) -> list[PlannedPrompt]:
    """Reads prompts into tokens. It may run in another thread, so it changes nothing of the plan."""
    planned, track = [], bool(plan.request.return_state)
    for given in prompts:
        lead = lead_of(plan.generator, given, plan.kept)
        row = make_row(plan.generator, given, lead, config, plan.kept, track=track)
        text = given if isinstance(given, str) else _text_of_ids(plan.model.tokenizer, row, plan.writes)
        planned.append(PlannedPrompt(given, text, lead, row))
    return planned


def _text_of_ids(tokenizer: Tokenizer, row: TextRow, writes: bool) -> str:
    """The text of a prompt of ids, which is not whole where a text is written that completes its last character."""
    before, ids = row.start.ids, row.prompt_ids
    decoder = tokenizer.decoder_after(before)
    text = decoder.feed(ids)
    return text if writes and tokenizer.unfinished([*before, *ids]) else text + decoder.flush()


def make_row(
    generator: Generator,
    prompt: Prompt,
    lead: Sequence[int],
    config: SamplingConfig,
    kept: KeptState | None,
    *,
    track: bool = False,
) -> TextRow:
    """Returns a text that continues a prompt, and a state if there is one.

    Args:
        generator: The generator.
        prompt: The prompt, as a text or as ids.
        lead: The tokens of the prompt that open a document: see `lead_of`.
        config: Settings of the text.
        kept: The state that is continued; None for the beginning of a document.
        track: Whether the position at the end of the text is wanted.

    Raises:
        ApiError: The model does not know the label, the prompt opens with another one, is not valid text or has ids
            beyond the vocabulary.
    """
    start = start_of(generator, lead, config.label, kept)
    with naming("prompt"):
        if isinstance(prompt, str):
            return TextRow(prompt, config, generator.tokenizer, start, track=track)
        rest = prompt[len(lead) :]
        return TextRow(rest, without_healing(config), generator.tokenizer, start, track=track)


def start_of(generator: Generator, lead: Sequence[int], label: str | None, kept: KeptState | None) -> TextState:
    """Returns the position before a prompt.

    Args:
        generator: The generator.
        lead: The tokens of the prompt that open a document: see `lead_of`.
        label: The label that a request names.
        kept: The state that is continued.

    Raises:
        ApiError: The model does not know the label, the prompt opens with another one, or the text has begun.
    """
    if label is not None and label_of(generator, lead, label) != label:
        raise ApiError(
            400, f"The prompt opens with the token {generator.tokenizer.piece(lead[1])} and label is {label!r}: leave "
            "label out, or the first two ids of the prompt.", param="label",
        )  # fmt: skip
    with naming("label"):
        return generator.opened(kept.state, label) if kept else generator.start(label_of(generator, lead, label))


def label_of(generator: Generator, lead: Sequence[int], label: str | None) -> str | None:
    """Returns the label of a document: the one that its prompt begins with, or the one that a request names."""
    return generator.tokenizer.label_of(lead[1]) if len(lead) > 1 else label


def label_at(tokenizer: Tokenizer, state: TextState, known: str | None = None) -> str | None:
    """Returns the label of the document that a state continues; None if it has none, or at its end.

    Args:
        tokenizer: The tokenizer.
        state: The state.
        known: The label that the document has if it is so long that the state does not hold its beginning.
    """
    if tokenizer.eos_id not in state.ids:
        return known
    opened = of_document(state.ids, tokenizer.eos_id)[:1]
    return tokenizer.label_of(opened[0]) if opened and opened[0] >= tokenizer.first_label else None


def lead_of(generator: Generator, prompt: Prompt, kept: KeptState | None) -> list[int]:
    """Returns the tokens with which a prompt of ids opens a document: the end of another one, and perhaps a label.

    Clients that score texts send them. A text has none, nor has a prompt that continues a state.

    Args:
        generator: The generator.
        prompt: The prompt, as a text or as ids.
        kept: The state that is continued; None for the beginning of a document.
    """
    tokenizer = generator.tokenizer
    if kept or isinstance(prompt, str) or not prompt or prompt[0] != tokenizer.eos_id:
        return []
    has_label = len(prompt) > 1 and tokenizer.first_label <= prompt[1] < tokenizer.vocab_size
    return list(prompt[: 2 if has_label else 1])


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

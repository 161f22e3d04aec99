"""`/v1/completions` and `/v1/chat/completions`: from a request to jobs, and from tokens to an answer or a stream."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from textgen.generation.config import SamplingConfig
from textgen.generation.infilling import GAP_TOKENS
from textgen.generation.row import TextRow, Token
from textgen.generation.text_state import TextState
from textgen.server.engine import Job
from textgen.server.failures import ApiError
from textgen.server.models import ServedModel
from textgen.server.prompt_scores import TokenScore, prompt_scores
from textgen.server.requests import (
    DIALOGUE_STOPS,
    ChatRequest,
    CompletionRequest,
    GenerationRequest,
    Prompt,
    checked_count,
    copies,
    sampling_config,
    shown_number,
    with_logprobs,
)
from textgen.server.resources import Resources
from textgen.server.sse import DONE, event
from textgen.server.states import KeptState
from textgen.server.token_texts import Offsets, alternatives, finite
from textgen.server.writing import Choice, Writing

MOST_WORK = 1 << 18  # tokens of a request, counted once more for each alternative that is reported
LONG_PROMPT = 10_000  # characters that are encoded in another thread, so that others do not wait
CUT = ("stop", "until", "blocked")  # reasons to end that take tokens back


@dataclass
class Plan:
    """A request that has been understood: what to write, and how to tell it.

    Attributes:
        model: The model.
        owner: Whose request it is.
        choices: The texts to write, prompt by prompt.
        is_chat: Whether the answer has the shape of a chat.
        request: The request.
        n: Texts in the answer for each prompt.
        logprobs: Alternatives of each token that are reported; None for no log probabilities.
        scores: The scores of each prompt, where they are echoed.
        prompts: The text of each prompt.
        leads: The tokens of each prompt that tell the beginning of a document, which are not read again.
        writes: Whether anything is written after the prompts.
        kept: The state that is continued.
    """

    model: ServedModel
    owner: str
    request: GenerationRequest
    is_chat: bool
    n: int
    logprobs: int | None
    prompts: list[str] = field(default_factory=list)
    leads: list[list[int]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    scores: list[list[TokenScore]] = field(default_factory=list)
    writes: bool = True
    kept: KeptState | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(12))
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
        prefix, kind = ("chatcmpl", "chat.completion") if self.is_chat else ("cmpl", "text_completion")
        return {
            "id": f"{prefix}-{self.id}",
            "object": f"{kind}.chunk" if chunk and self.is_chat else kind,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": self.model.fingerprint[:16],
        }

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


# === From a request to jobs ===


async def plan_completion(request: CompletionRequest, values: dict[str, Any], owner: str, resources: Resources) -> Plan:
    """Returns what a request for completions asks for. Raises `ApiError` or `TextgenError` if it cannot be done."""
    if request.best_of is not None and request.best_of > 1 and request.stream:
        raise ApiError(400, "best_of cannot be streamed: the best is known at the end.", param="best_of")
    prompts = request.prompts()
    number = checked_count("n", request.n, len(prompts), resources.config)
    drawn = number
    if request.best_of is not None:
        drawn = checked_count("best_of", request.best_of, len(prompts), resources.config)
        if drawn < number:
            raise ApiError(400, f"best_of ({drawn}) is less than n ({number}).", param="best_of")
    logprobs = (
        {True: 1, False: None}.get(request.logprobs, request.logprobs)
        if (isinstance(request.logprobs, bool))
        else request.logprobs
    )
    if logprobs is None:
        logprobs = request.top_logprobs
    text = prompts[0] if isinstance(prompts[0], str) else ""
    plan = await _begun(request, owner, resources, text, is_chat=False, n=number, logprobs=logprobs)
    config = with_logprobs(sampling_config(request, values, resources.config), logprobs)
    if drawn > number and logprobs is None:
        config = replace(config, top_logprobs=0)
    if plan.echo:
        config = replace(config, heal=False)
    plan.writes = request.max_tokens != 0
    is_exact = values.get("seed", -1) != -1 or config.temperature == 0
    await _add_choices(plan, prompts, config, drawn, resources, is_exact=is_exact)
    return plan


async def plan_chat(request: ChatRequest, values: dict[str, Any], owner: str, resources: Resources) -> Plan:
    """Returns what a request for a chat asks for. Raises `ApiError` or `TextgenError` if it cannot be done."""
    request.check()
    template = request.template or resources.config.chat_template
    if template not in ("text", "dialogue"):
        raise ApiError(400, "template must be text or dialogue.", param="template")
    number = checked_count("n", request.n, 1, resources.config)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    prompt = request.prompt(template)
    plan = await _begun(request, owner, resources, prompt, is_chat=True, n=number, logprobs=logprobs)
    config = with_logprobs(sampling_config(request, values, resources.config), logprobs)
    if template == "dialogue":
        config = replace(config, stop=(*config.stop, *DIALOGUE_STOPS))
    is_exact = values.get("seed", -1) != -1 or config.temperature == 0
    await _add_choices(plan, [prompt], config, number, resources, is_exact=is_exact)
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
) -> Plan:
    kept = None if request.state is None else resources.states.get(owner, request.state)
    model = await resources.models.get(request.model or (kept.model if kept else None), text)
    if kept and kept.fingerprint != model.fingerprint:
        raise ApiError(400, f"The state is one of the model {kept.model!r}, not of {model.name!r}.", param="state")
    return Plan(model, owner, request, is_chat, n, logprobs, kept=kept)


async def _add_choices(
    plan: Plan, prompts: Sequence[Prompt], config: SamplingConfig, number: int, resources: Resources, *, is_exact: bool
) -> None:
    """Makes the jobs of a plan."""
    work = len(prompts) * number * config.max_tokens * (1 + (plan.logprobs or 0))
    if work > MOST_WORK:
        raise ApiError(
            400, f"The request asks for too much at once: its texts times max_tokens, and times 1 + logprobs, may be "
            f"{MOST_WORK:,} and are {shown_number(work)}.", param="max_tokens",
        )  # fmt: skip
    track = bool(plan.request.return_state)
    long = sum(map(len, prompts)) > LONG_PROMPT
    make = asyncio.to_thread if long else _at_once
    rows: list[TextRow] = await make(_rows, plan, prompts, config, track)
    _check_length(sum(len(row.prompt_ids) for row in rows), resources)
    for place, (first, configs) in enumerate(zip(rows, copies(config, len(rows), number), strict=True)):
        for own in configs:
            row = first.fork()
            row.config = replace(first.config, seed=own.seed)
            job = Job(row, _nobody, root_of(plan.owner, plan.model, config.label, plan.kept))
            job.exact = is_exact
            job.prompt_tokens += len(plan.leads[place])
            plan.choices.append(Choice(len(plan.choices), place, job))


async def _at_once(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


def _nobody(job: Job, event: object) -> None:
    """The listener of a job that is not submitted yet."""


def _rows(plan: Plan, prompts: Sequence[Prompt], config: SamplingConfig, track: bool) -> list[TextRow]:
    """The first text of each prompt."""
    rows = []
    for prompt in prompts:
        lead = [] if plan.kept or isinstance(prompt, str) else lead_of(plan.model, prompt)
        row = make_row(plan.model, prompt, config, plan.kept, track=track)
        plan.leads.append(lead)
        plan.prompts.append(prompt if isinstance(prompt, str) else plan.model.tokenizer.decode(prompt))
        rows.append(row)
    return rows


def make_row(
    model: ServedModel, prompt: Prompt, config: SamplingConfig, kept: KeptState | None, *, track: bool = False
) -> TextRow:
    """Returns a text that continues a prompt, and a state if there is one.

    A prompt of ids may begin with the end of the document before it and a label, as clients that score texts send it.

    Raises:
        ConfigError: The model does not know the label.
        TokenizerError: The prompt is not valid text, or has ids beyond the vocabulary.
    """
    generator, tokenizer = model.writer.generator, model.tokenizer
    start = generator.opened(kept.state, config.label) if kept else generator.start(config.label)
    if isinstance(prompt, str):
        return generator.row(prompt, config, start, track=track)
    lead = [] if kept else lead_of(model, prompt)
    if len(lead) > 1:
        start = generator.start(tokenizer.label_of(lead[1]))
    return generator.row(prompt[len(lead) :], replace(config, heal=False), start, track=track)


def lead_of(model: ServedModel, ids: Sequence[int]) -> list[int]:
    """Returns the tokens that open a document, if a prompt begins with them: the end of another one, and a label."""
    tokenizer = model.tokenizer
    if not ids or ids[0] != tokenizer.eos_id:
        return []
    return list(ids[:2] if len(ids) > 1 and tokenizer.first_label <= ids[1] < tokenizer.vocab_size else ids[:1])


def root_of(owner: str, model: ServedModel, label: str | None, kept: KeptState | None) -> bytes:
    """Returns what tells the prompts of one beginning from others in the cache: see `PrefixCache.keys`."""
    parts = (owner, model.fingerprint, "" if label is None else f"={label}", kept.id if kept else "")
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _check_length(tokens: int, resources: Resources) -> None:
    most = resources.config.max_prompt
    if tokens > most:
        raise ApiError(
            400, f"The prompt has {tokens:,} tokens, and this server reads {most:,} for a request. Send less, or keep "
            "the beginning with POST /v1/states.", param="prompt", code="context_length_exceeded",
        )  # fmt: skip


# === From tokens to an answer ===


async def answer(plan: Plan, resources: Resources) -> dict[str, Any]:
    """Writes all texts of a plan and returns the answer."""
    await _score_prompts(plan, resources)
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
    choices = []
    for index, choice in enumerate(chosen):
        body = _whole(plan, choice, index)
        if plan.request.return_state:
            body["state"] = await _kept_state(plan, choice, resources)
        choices.append(body)
    return plan.head(chunk=False) | {"choices": choices, "usage": plan.usage(), "seed": plan.seed}


async def stream(plan: Plan, resources: Resources) -> AsyncGenerator[bytes, None]:
    """Yields the events of a plan while its texts are written."""
    options = plan.request.stream_options
    counts_usage = bool(options and options.include_usage)
    counts_always = bool(counts_usage and options and options.continuous_usage_stats)
    head = plan.head(chunk=True)

    def chunk(choice: dict[str, Any]) -> bytes:
        usage = {"usage": plan.usage() if counts_always else None} if counts_usage else {}
        return event(head | {"choices": [choice]} | usage)

    await _score_prompts(plan, resources)
    writers = [_Pieces(plan, choice) for choice in plan.choices]
    async with Writing(plan.model, resources.metrics) as writing:
        if plan.writes:
            await _begin(plan, writing)
        for pieces in writers:
            for piece in pieces.first():
                yield chunk(piece)
        async for choice, token in writing:
            added = writers[choice.index].of(token)
            if added is not None:
                yield chunk(added)
            if choice.stop_reason:
                last = writers[choice.index].last()
                if plan.request.return_state:
                    last["state"] = await _kept_state(plan, choice, resources)
                yield chunk(last)
        if not plan.writes:
            for pieces in writers:
                yield chunk(pieces.last())
    if counts_usage:
        yield event(head | {"choices": [], "usage": plan.usage()})
    yield DONE


async def _begin(plan: Plan, writing: Writing) -> None:
    for choice in plan.choices:
        choice.job.listener = writing.listen
    writing.begin(plan.choices)


async def _score_prompts(plan: Plan, resources: Resources) -> None:
    """Scores the prompts that the answer repeats."""
    number = plan.logprobs
    if not plan.echo or number is None:
        return
    model = plan.model.writer.generator.model
    rows = {choice.prompt: choice.job.row for choice in plan.choices}
    for prompt, row in sorted(rows.items()):
        score = partial(prompt_scores, model, row.start, row.prompt_ids, number, plan.leads[prompt])
        plan.scores.append(await resources.aside(score))


async def _kept_state(plan: Plan, choice: Choice, resources: Resources) -> dict[str, Any]:
    """Keeps the position at the end of a text, and says how to continue from it."""
    state = choice.job.state
    if state is None or choice.stop_reason in CUT:  # tokens were taken back from the text: it is read anew
        config = replace(choice.job.row.config, seed=0)
        prompt = plan.prompts[choice.prompt] + choice.text
        state = await read_state(plan.model, prompt, config, plan.kept, plan.owner, resources)
    kept = resources.states.add(plan.owner, plan.model.name, plan.model.fingerprint, state)
    return described(kept)


async def read_state(
    model: ServedModel,
    prompt: Prompt,
    config: SamplingConfig,
    kept: KeptState | None,
    owner: str,
    resources: Resources,
) -> TextState:
    """Reads a prompt and returns the position after it."""
    row = await asyncio.to_thread(make_row, model, prompt, config, kept)
    _check_length(len(row.prompt_ids), resources)
    async with Writing(model, resources.metrics) as reading:
        job = Job(row, reading.listen, root_of(owner, model, config.label, kept), writes=False)
        await reading.read(job)
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


# === The shapes of OpenAI's interface ===


def _whole(plan: Plan, choice: Choice, index: int) -> dict[str, Any]:
    """A text in an answer that is not streamed."""
    pieces = _Pieces(plan, choice)
    logprobs = pieces.logprobs(choice.tokens, plan.scores[choice.prompt] if plan.scores else ())
    body: dict[str, Any] = {"index": index, "logprobs": logprobs, "seed": choice.job.row.config.seed}
    body["finish_reason"] = choice.finish_reason or "length"
    if plan.is_chat:
        return body | {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
    return body | {"text": plan.prompts[choice.prompt] * plan.echo + choice.text}


class _Pieces:
    """The pieces of one text in a stream, and its log probabilities."""

    def __init__(self, plan: Plan, choice: Choice) -> None:
        self._plan = plan
        self._choice = choice
        self._texts = plan.model.token_texts
        self._offsets: Offsets | None = None

    def first(self) -> list[dict[str, Any]]:
        """What comes before the first token: the role in a chat, or the prompt that is repeated."""
        plan = self._plan
        if plan.is_chat:
            return [self._piece(delta={"role": "assistant", "content": ""})]
        if not plan.echo:
            return []
        prompt = self._choice.prompt
        return [self._piece(plan.prompts[prompt], self.logprobs((), plan.scores[prompt] if plan.scores else ()))]

    def of(self, token: Token) -> dict[str, Any] | None:
        """The piece of a token; None if it adds nothing yet."""
        if not token.text and self._plan.logprobs is None:
            return None
        return self._piece(token.text, self.logprobs([token]))

    def last(self) -> dict[str, Any]:
        """The last piece, with the reason of the end."""
        piece = self._piece(delta={}) if self._plan.is_chat else self._piece()
        return piece | {
            "finish_reason": self._choice.finish_reason or "length",
            "seed": self._choice.job.row.config.seed,
        }

    def logprobs(self, tokens: Sequence[Token], scores: Sequence[TokenScore] = ()) -> dict[str, Any] | None:
        """The log probabilities of tokens, after those of a prompt."""
        if self._plan.logprobs is None:
            return None
        written = [TokenScore(token.id, token.logprob, token.top) for token in tokens]
        if self._plan.is_chat:
            return {"content": [self._chat_logprob(each) for each in written], "refusal": None}
        return self._legacy_logprobs([*scores, *written])

    def _piece(
        self, text: str = "", logprobs: dict[str, Any] | None = None, delta: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        piece: dict[str, Any] = {"index": self._choice.index, "logprobs": logprobs, "finish_reason": None}
        if self._plan.is_chat:
            return piece | {"delta": {"content": text} if delta is None else delta}
        return piece | {"text": text}

    def _legacy_logprobs(self, scores: Sequence[TokenScore]) -> dict[str, Any]:
        if self._offsets is None:
            row, prompt = self._choice.job.row, self._plan.prompts[self._choice.prompt]
            before = 0 if self._plan.scores else len(prompt) - row.healed
            line_start = not before or prompt[:before][-1:].isspace()
            self._offsets = Offsets(self._plan.model.tokenizer, before, line_start=line_start)
        texts = self._texts
        return {
            "tokens": [texts[each.id] for each in scores],
            "token_logprobs": [None if each.logprob is None else finite(each.logprob) for each in scores],
            "top_logprobs": [
                None
                if each.logprob is None
                else {texts[id]: finite(nats) for id, nats in alternatives(each.id, each.logprob, each.top)}
                for each in scores
            ],
            "text_offset": [self._offsets.next(each.id) for each in scores],
            "token_ids": [each.id for each in scores],
        }

    def _chat_logprob(self, score: TokenScore) -> dict[str, Any]:
        return self._named(score.id, score.logprob or 0.0) | {
            "top_logprobs": [self._named(id, nats) for id, nats in score.top]
        }

    def _named(self, id: int, nats: float) -> dict[str, Any]:
        piece = self._plan.model.tokenizer.piece_bytes[id]
        return {"token": self._texts[id], "logprob": finite(nats), "bytes": list(piece)}


# === Towards an ending ===


async def fill(request: CompletionRequest, values: dict[str, Any], resources: Resources) -> dict[str, Any]:
    """Writes texts that lead to the suffix of a request, and returns the answer."""
    model = await resources.models.get(request.model)
    if "backward" not in model.saved.model_config.directions:
        raise ApiError(
            400, f"The model {model.name!r} reads text forward only, so it cannot write towards a suffix: train one "
            "with direction both.", param="suffix",
        )  # fmt: skip
    prompts = request.prompts()
    if len(prompts) != 1 or not isinstance(prompts[0], str):
        raise ApiError(400, "A suffix goes with one prompt, as text.", param="prompt")
    number = checked_count("n", request.n, 1, resources.config)
    drawn = None if request.best_of is None else checked_count("best_of", request.best_of, 1, resources.config)
    config = replace(sampling_config(request, values, resources.config), max_seconds=None)
    if request.max_tokens is None and request.max_completion_tokens is None and prompts[0]:
        config = replace(config, max_tokens=GAP_TOKENS)
    prompt, suffix = prompts[0], request.suffix or ""
    _check_length(len(prompt) + len(suffix) + config.max_tokens * max(number, drawn or 0), resources)
    infills = await resources.aside(lambda _: model.infiller.infill(prompt, suffix, config, number, drawn))
    choices = [
        {
            "index": index,
            "text": infill.text,
            "logprobs": None,
            "finish_reason": "length" if infill.stop_reason == "length" else "stop",
            "seed": infill.seed,
        }
        for index, infill in enumerate(infills)
    ]
    written = sum(len(model.tokenizer.encode(infill.text)) for infill in infills)
    read = len(model.tokenizer.encode(prompt)) + len(model.tokenizer.encode(suffix))
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    plan = Plan(model, "", request, False, number, None)
    return plan.head(chunk=False) | {"choices": choices, "usage": usage, "seed": config.seed}


async def fill_stream(whole: dict[str, Any], include_usage: bool) -> AsyncGenerator[bytes, None]:
    """Yields an answer of `fill` as events, each text as one chunk."""
    head = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    more = {"usage": None} if include_usage else {}
    for choice in whole["choices"]:
        yield event(head | {"choices": [choice | {"finish_reason": None}]} | more)
        yield event(head | {"choices": [choice | {"text": ""}]} | more)
    if include_usage:
        yield event(head | {"choices": [], "usage": whole["usage"]})
    yield DONE

"""Infilling, `/v1/completions` with a suffix: texts that lead to an ending."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from textgen.generation.config import SamplingConfig
from textgen.generation.infilling import Infill, draft_tokens, num_drafts
from textgen.generation.request import later_seed
from textgen.server.failures import ApiError
from textgen.server.planning import ID_BYTES, check_length, head_of, in_thread_if_long
from textgen.server.requests import CompletionRequest, first_text
from textgen.server.resources import Resources
from textgen.server.served_model import ServedModel
from textgen.server.sse import DONE, event
from textgen.server.text_settings import (
    check_look_back,
    checked_best_of,
    checked_count,
    clamps_of,
    sampling_config,
)
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import counted


@dataclass(frozen=True)
class InfillingPlan:
    """A request for infilling that has been checked.

    Attributes:
        model: The model.
        prompt: The text before the gap.
        suffix: The text after it.
        config: Settings of the texts, with the time that all drafts have together.
        num: Texts in the answer.
        best_of: Drafts of which the best are taken; None for the usual number.
        prompt_tokens: Tokens of prompt and suffix.
        writes: Whether anything is written between them.
    """

    model: ServedModel
    prompt: str
    suffix: str
    config: SamplingConfig
    num: int
    best_of: int | None
    prompt_tokens: int
    writes: bool


async def infill(
    request: CompletionRequest, values: dict[str, Any], owner: str, resources: Resources
) -> dict[str, Any]:
    """Writes texts that lead to the suffix of a request, and returns the answer.

    Args:
        request: The request.
        values: The fields that it has, as they were sent.
        owner: Whose request it is: see `textgen.server.access`.
        resources: What the server has.

    Raises:
        ApiError: The request cannot be fulfilled.
        TextgenError: The same, for a setting of the texts.
    """
    plan = await _plan(request, values, resources)
    name, metrics, began = plan.model.name, resources.metrics, time.perf_counter()
    try:
        answer = await _answer(plan, await _infills(plan, owner, resources))
    except asyncio.CancelledError:
        metrics.abandoned.labels(name).inc(plan.num)
        raise
    metrics.whole.labels(name).observe(time.perf_counter() - began)
    metrics.prompt_tokens.labels(name).inc(answer["usage"]["prompt_tokens"])
    metrics.generation_tokens.labels(name).inc(answer["usage"]["completion_tokens"])
    for choice in answer["choices"]:
        metrics.finished.labels(name, choice["finish_reason"]).inc()
    return answer


async def _plan(request: CompletionRequest, values: dict[str, Any], resources: Resources) -> InfillingPlan:
    """Plans the answer to a request with a suffix. Raises `ApiError` if it is not possible."""
    request.check(values)
    model = await resources.models.get(request.model, first_text(request.prompt) or request.suffix or "")
    _check_backward(model)
    _check_fields(request, values)
    if resources.models.is_exact(request.exact):
        raise ApiError(400, 'suffix cannot be used in exact arithmetic: give "exact": false.', param="suffix")
    prompt, suffix = _prompt(request, model), request.suffix or ""
    number = checked_count("n", request.n, 1, resources.config)
    drawn = checked_best_of(request.best_of, number, 1, resources.config)
    config = sampling_config(request, values, resources.config, draft_tokens(bool(prompt)))
    with model.in_use():
        read = await in_thread_if_long(len(prompt) + len(suffix), _num_tokens, model.tokenizer, prompt, suffix)
    check_length(read, resources)
    drafts = num_drafts(prompt, number, drawn)
    _check_drafts(config.max_tokens * drafts, resources)
    check_look_back(config, [read + config.max_tokens] * drafts)
    return InfillingPlan(model, prompt, suffix, config, number, drawn, read, writes=request.length != 0)


async def _infills(plan: InfillingPlan, owner: str, resources: Resources) -> list[Infill]:
    """Writes the texts of a plan: as many as were asked for, also where drafts are equal."""
    model, prompt, suffix = plan.model, plan.prompt, plan.suffix
    seconds, config = plan.config.max_seconds, replace(plan.config, max_seconds=None)  # the time of all drafts together
    if not plan.writes:
        configs = [later_seed(config, place) for place in range(plan.num)]
        return [Infill(prompt, "", suffix, "forward", "length", each.seed or 0, each) for each in configs]
    with model.in_use():
        await resources.models.prepare(model, "infiller")
        found = await resources.in_worker(
            lambda wanted: model.infiller.infill(
                prompt, suffix, config, plan.num, plan.best_of, seconds=seconds, wanted=wanted
            ),
            owner,
            model.name,
        )
    return list(islice(cycle(found), plan.num))


async def _answer(plan: InfillingPlan, infills: Sequence[Infill]) -> dict[str, Any]:
    """The texts as the OpenAI API has them."""
    choices = [
        {
            "index": index,
            "text": each.text,
            "logprobs": None,
            "finish_reason": "length" if each.stop_reason == "length" else "stop",
            "seed": each.seed,
        }
        for index, each in enumerate(infills)
    ]
    texts = [each.text for each in infills]
    written = await in_thread_if_long(sum(map(len, texts)), _num_tokens, plan.model.tokenizer, *texts)
    read = plan.prompt_tokens
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    head = head_of(plan.model, secrets.token_hex(ID_BYTES), int(time.time()))
    return head | {"choices": choices, "usage": usage, "seed": plan.config.seed}


def _check_backward(model: ServedModel) -> None:
    """Raises `ApiError` if a model does not read text backward."""
    if "backward" not in model.saved.model_config.directions:
        raise ApiError(
            400, f"The model {model.name!r} reads text forward only, so it cannot write towards a suffix: train one "
            "with direction both.", param="suffix",
        )  # fmt: skip


def _prompt(request: CompletionRequest, model: ServedModel) -> str:
    """The text before the gap. Raises `ApiError` if there are several, or if the model cannot continue it."""
    prompts = request.prompts()
    if len(prompts) != 1 or not isinstance(prompts[0], str):
        raise ApiError(400, "A suffix goes with one prompt, as text.", param="prompt")
    if prompts[0] and "forward" not in model.saved.model_config.directions:
        raise ApiError(
            400, f"The model {model.name!r} reads text backward only, so it cannot continue a prompt: leave the prompt "
            "out, or train one with direction both.", param="prompt",
        )  # fmt: skip
    return prompts[0]


def _check_fields(request: CompletionRequest, values: dict[str, Any]) -> None:
    """Raises `ApiError` if a request asks for more than texts."""
    unfit = {
        "clamp": clamps_of(request),
        "state": request.state is not None,
        "return_state": request.return_state,
        "echo": request.echo,
        "logprobs": request.alternatives() is not None,
        "label": values.get("label") is not None,
    }
    for name, is_asked_for in unfit.items():
        if is_asked_for:
            raise ApiError(400, f"{name} cannot be used when writing towards a suffix.", param=name)


def _num_tokens(tokenizer: Tokenizer, *texts: str) -> int:
    return sum(len(tokenizer.encode(text)) for text in texts)


def _check_drafts(tokens: int, resources: Resources) -> None:
    """Raises `ApiError` if the drafts may have more tokens than the server reads."""
    most = resources.config.max_prompt
    if tokens > most:
        raise ApiError(
            400, f"The drafts towards a suffix must have at most {counted(most, 'token')} together on this server, "
            f"and max_tokens times their number is {tokens:,}. Send a smaller max_tokens, n or best_of.",
            param="max_tokens",
        )  # fmt: skip


async def infill_stream(
    request: CompletionRequest, values: dict[str, Any], owner: str, resources: Resources
) -> AsyncGenerator[bytes, None]:
    """Yields the answer of `infill` as events, each text as one chunk."""
    include_usage = bool(request.stream_options and request.stream_options.include_usage)
    whole = await infill(request, values, owner, resources)
    head = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    more = {"usage": None} if include_usage else {}
    for choice in whole["choices"]:
        yield event(head | {"choices": [choice | {"finish_reason": None}]} | more)
        yield event(head | {"choices": [choice | {"text": ""}]} | more)
    if include_usage:
        yield event(head | {"choices": [], "usage": whole["usage"]})
    yield DONE

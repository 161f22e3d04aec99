"""`/v1/completions` with a suffix: texts that lead to an ending."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from textgen.generation.config import SamplingConfig
from textgen.generation.infilling import GAP_TOKENS, Infill, num_drafts
from textgen.generation.request import later_seed
from textgen.server.failures import ApiError
from textgen.server.planning import ID_BYTES, in_thread_if_long, check_length, head_of
from textgen.server.requests import CompletionRequest, checked_count, clamps_of, first_text, sampling_config
from textgen.server.planning import ID_BYTES, apart_if_long, check_length, head_of
from textgen.server.requests import (
    CompletionRequest,
    check_look_back,
    checked_count,
    clamps_of,
    first_text,
    sampling_config,
)
from textgen.server.resources import Resources
from textgen.server.sse import DONE, event
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import counted


async def fill(request: CompletionRequest, values: dict[str, Any], resources: Resources) -> dict[str, Any]:
    """Writes texts that lead to the suffix of a request, and returns the answer."""
    request.check(values)
    model = await resources.models.get(request.model, first_text(request.prompt) or request.suffix or "")
    if "backward" not in model.saved.model_config.directions:
        raise ApiError(
            400, f"The model {model.name!r} reads text forward only, so it cannot write towards a suffix: train one "
            "with direction both.", param="suffix",
        )  # fmt: skip
    _check_fields(request, values)
    if resources.models.is_exact(request.exact):
        raise ApiError(400, 'suffix cannot be used in exact arithmetic: give "exact": false.', param="suffix")
    prompts = request.prompts()
    if len(prompts) != 1 or not isinstance(prompts[0], str):
        raise ApiError(400, "A suffix goes with one prompt, as text.", param="prompt")
    if prompts[0] and "forward" not in model.saved.model_config.directions:
        raise ApiError(
            400, f"The model {model.name!r} reads text backward only, so it cannot continue a prompt: leave the prompt "
            "out, or train one with direction both.", param="prompt",
        )  # fmt: skip
    number = checked_count("n", request.n, 1, resources.config)
    drawn = None if request.best_of is None else checked_count("best_of", request.best_of, 1, resources.config)
    default = GAP_TOKENS if prompts[0] else SamplingConfig.max_tokens
    config = sampling_config(request, values, resources.config, default)
    seconds, config = config.max_seconds, replace(config, max_seconds=None)  # of all drafts together
    prompt, suffix = prompts[0], request.suffix or ""
    with model.in_use():
        read = await in_thread_if_long(len(prompt) + len(suffix), _num_tokens, model.tokenizer, prompt, suffix)
    check_length(read, resources)
    drafts = num_drafts(prompt, number, drawn)
    _check_drafts(config.max_tokens * drafts, resources)
    check_look_back(config, [read + config.max_tokens] * drafts)
    if request.length == 0:  # nothing is written
        configs = [later_seed(config, place) for place in range(number)]
        infills = [Infill(prompt, "", suffix, "forward", "length", each.seed or 0, each) for each in configs]
    else:
        with model.in_use():
            await resources.models.prepare(model, "infiller")
            infills = await resources.in_worker(
                lambda wanted: model.infiller.infill(
                    prompt, suffix, config, number, drawn, seconds=seconds, wanted=wanted
                )
            )
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
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    head = head_of(model, secrets.token_hex(ID_BYTES), int(time.time()))
    return head | {"choices": choices, "usage": usage, "seed": config.seed}


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
            400, f"The drafts towards a suffix may have {counted(most, 'token')} together on this server, and "
            f"max_tokens times their number is {tokens:,}. Send a smaller max_tokens, n or best_of.",
            param="max_tokens",
        )  # fmt: skip


async def fill_stream(
    request: CompletionRequest, values: dict[str, Any], resources: Resources
) -> AsyncGenerator[bytes, None]:
    """Yields the answer of `fill` as events, each text as one chunk."""
    include_usage = bool(request.stream_options and request.stream_options.include_usage)
    whole = await fill(request, values, resources)
    head = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    more = {"usage": None} if include_usage else {}
    for choice in whole["choices"]:
        yield event(head | {"choices": [choice | {"finish_reason": None}]} | more)
        yield event(head | {"choices": [choice | {"text": ""}]} | more)
    if include_usage:
        yield event(head | {"choices": [], "usage": whole["usage"]})
    yield DONE

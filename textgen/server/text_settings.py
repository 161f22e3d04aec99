"""The settings of texts that requests ask for: with the defaults of the command line, and bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from textgen.errors import ConfigError
from textgen.generation.config import MAX_LOOK_BACK, SamplingConfig, sampler_names
from textgen.generation.request import later_seed, seeded
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError, naming
from textgen.server.requests import OWN_NAMES, TEXT_LENGTH, GenerationRequest, StateRequest, check_text_length
from textgen.settings import declared, from_dict, select
from textgen.wording import counted

MAX_LOGPROBS = 20  # maximum number of alternatives that are reported of a token
MAX_TEXTS = 64  # maximum number of texts in stop, ban and so on
TEXTS_LENGTH = 4096  # maximum number of characters of all of these texts together
MAX_BIASES = 1024
BIASES_LENGTH = 1 << 14  # maximum number of characters of all biases together
MAX_TOTAL_LOOK_BACK = 1 << 17  # maximum number of earlier tokens that a penalty looks at for a token of each text
MAX_CLAMPS = 64
LLAMA_CPP_SAMPLERS = {"typ_p": "typical_p"}  # names that llama.cpp's server has for samplers in a list, and ours
OFF_AT_MINUS_ONE = ("seed", "top_k", "top_n_sigma")  # settings that llama.cpp's clients switch off by -1
ALL_AT_MINUS_ONE = ("repeat_last_n", "dry_penalty_last_n")  # those of which -1 stands for the whole text
LISTED = ("samplers",)  # those that may be a list of names


def sampling_config(
    request: GenerationRequest,
    values: Mapping[str, Any],
    limits: ServerConfig,
    max_tokens: int = SamplingConfig.max_tokens,
) -> SamplingConfig:
    """Returns the settings of the first text of a request; the others have the seeds after it.

    Args:
        request: The request.
        values: All of its fields that are not null.
        limits: Settings of the server.
        max_tokens: Its length if it does not say and the server allows as much.

    Raises:
        ApiError: A value is too large for the server.
        ConfigError: A value is not allowed.
    """
    settings = {name: value for name, value in select(SamplingConfig, values).items() if name in OWN_NAMES}
    _translate(settings)
    settings["max_tokens"] = _length(request, settings.get("min_tokens"), limits, max_tokens)
    if isinstance(request.stop, str):
        settings["stop"] = [request.stop] if request.stop else []
    elif request.stop is not None:
        settings["stop"] = [text for text in request.stop if text]
    if request.logit_bias is not None:
        settings["logit_bias"] = _biases(request.logit_bias)
    if _is_number(seconds := settings.get("max_seconds", limits.max_time)):  # what is no number is refused below
        settings["max_seconds"] = min(seconds, limits.max_time)
    _check_sizes(settings)
    if isinstance(settings.get("samplers"), str):  # what is no text is refused below
        with naming("samplers"):
            sampler_names(settings["samplers"])
    return seeded(from_dict(SamplingConfig, settings))


def _translate(settings: dict[str, Any]) -> None:
    """Replaces what llama.cpp and other servers write in another way, in place."""
    for name in OFF_AT_MINUS_ONE:
        if settings.get(name) == -1:
            del settings[name]
    for name in ALL_AT_MINUS_ONE:
        if settings.get(name) == -1:
            settings[name] = MAX_LOOK_BACK
    for name in LISTED:
        names = settings.get(name)
        if isinstance(names, list) and all(isinstance(each, str) for each in names):  # others are refused
            settings[name] = ";".join(str(LLAMA_CPP_SAMPLERS.get(each, each)) for each in names)


def _length(request: GenerationRequest, min_tokens: object, limits: ServerConfig, default: int) -> int:
    """The setting max_tokens.

    Raises:
        ApiError: The length is negative, or longer than the server writes.
    """
    name, length, default = "max_tokens", request.length, min(default, limits.max_length)
    if length is None and isinstance(min_tokens, int) and min_tokens > default:  # others are refused
        name, length = "min_tokens", min_tokens
    if length is None:
        return default
    if not 0 <= length <= limits.max_length:
        raise ApiError(
            400, f"{name} must be from 0 to {limits.max_length:,} on this server. Received: {shown_number(length)}.",
            param=name,
        )  # fmt: skip
    return length or 1  # nothing is written if it is 0: see `GenerationRequest.length`


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _biases(given: Mapping[str, float] | Sequence[str]) -> list[str]:
    if len(given) > MAX_BIASES:
        raise ApiError(
            400, f"logit_bias must have at most {MAX_BIASES:,} entries. Received: {len(given):,}.", param="logit_bias"
        )
    if sum(map(len, given)) > BIASES_LENGTH or max(map(len, given), default=0) > TEXT_LENGTH:
        raise ApiError(
            400, f"logit_bias must have entries of at most {TEXT_LENGTH:,} characters each, and of {BIASES_LENGTH:,} "
            "together.", param="logit_bias",
        )  # fmt: skip
    if not isinstance(given, Mapping):
        return list(given)
    wrong = [id for id in given if not re.fullmatch("[0-9]{1,9}", id)]
    if wrong:
        raise ApiError(
            400, f"logit_bias must be an object whose keys are token ids. Received: {json.dumps(wrong[0][:100])}.",
            param="logit_bias",
        )  # fmt: skip
    return [f"#{id}={bias!r}" for id, bias in given.items()]


def _check_sizes(settings: Mapping[str, Any]) -> None:
    """Limits the lengths of texts in settings, and so the cost of a step."""
    for name, texts in settings.items():
        if "Sequence" not in declared(SamplingConfig)[name][0]:
            if isinstance(texts, str):
                check_text_length(name, texts)
            continue
        if name == "logit_bias":  # see `_biases`
            continue
        if not isinstance(texts, (list, tuple)):
            raise ConfigError(f"{name} must be a list of texts.")
        lengths = [len(text) for text in texts if isinstance(text, str)]
        if len(texts) > MAX_TEXTS or sum(lengths) > TEXTS_LENGTH or max(lengths, default=0) > TEXT_LENGTH:
            raise ApiError(
                400, f"{name} must have at most {MAX_TEXTS} texts, of at most {TEXT_LENGTH:,} characters each, and of "
                f"{TEXTS_LENGTH:,} together.", param=name,
            )  # fmt: skip


def with_logprobs(config: SamplingConfig, number: int | None) -> SamplingConfig:
    """Returns the settings with log probabilities of this many alternatives.

    Raises:
        ApiError: They are too many.
    """
    if number is None:
        return config
    if not 0 <= number <= MAX_LOGPROBS:
        raise ApiError(
            400, f"logprobs must be from 0 to {MAX_LOGPROBS}. Received: {shown_number(number)}.", param="logprobs"
        )
    return replace(config, top_logprobs=number)


def copies(config: SamplingConfig, prompts: int, each: int) -> list[list[SamplingConfig]]:
    """Returns the settings of each text of each prompt: text i of a request has its seed + i."""
    return [[later_seed(config, prompt * each + number) for number in range(each)] for prompt in range(prompts)]


def check_look_back(config: SamplingConfig, lengths: Sequence[int]) -> None:
    """Limits the earlier tokens that penalties look at in each step.

    Args:
        config: Settings of the texts.
        lengths: Tokens that each text has at most at its end.

    Raises:
        ApiError: They are too many.
    """
    penalizes = config.repeat_penalty != 1 or config.presence_penalty or config.frequency_penalty
    windows = {
        "repeat_last_n": config.repeat_last_n if penalizes else 0,
        "dry_penalty_last_n": config.dry_penalty_last_n if config.dry_multiplier else 0,
    }
    for name, window in windows.items():
        work = sum(min(window, length) for length in lengths)
        if work > MAX_TOTAL_LOOK_BACK:
            raise ApiError(
                400, f"The request asks for too much at once: {name}, or the length of a text if that is less, must be "
                f"at most {MAX_TOTAL_LOOK_BACK:,} for all its texts together. Received: {shown_number(work)}.",
                param=name,
            )  # fmt: skip


def checked_count(name: str, number: int | None, prompts: int, limits: ServerConfig) -> int:
    """Returns how many texts each prompt gets.

    Args:
        name: The field, n or best_of.
        number: Its value.
        prompts: Number of prompts.
        limits: Settings of the server.

    Raises:
        ApiError: The number is not positive, or there are too many texts.
    """
    number = 1 if number is None else number
    if number < 1:
        raise ApiError(400, f"{name} must be at least 1. Received: {shown_number(number)}.", param=name)
    if number * prompts > limits.max_choices:
        raise ApiError(
            400, f"A request must ask for at most {counted(limits.max_choices, 'text')} on this server, and this one "
            f"asks for {shown_number(number * prompts)}.", param=name if number > 1 else "prompt",
        )  # fmt: skip
    return number


def checked_best_of(drawn: int | None, number: int, prompts: int, limits: ServerConfig) -> int | None:
    """Returns from how many texts those of each prompt are chosen; None if the request does not say.

    Args:
        drawn: The field best_of.
        number: Texts that each prompt gets.
        prompts: Number of prompts.
        limits: Settings of the server.

    Raises:
        ApiError: They are fewer than those that each prompt gets, or there are too many texts.
    """
    if drawn is None:
        return None
    drawn = checked_count("best_of", drawn, prompts, limits)
    if drawn < number:
        raise ApiError(
            400, f"best_of ({drawn}) is less than n ({number}): the best are chosen from at least as many.",
            param="best_of",
        )  # fmt: skip
    return drawn


def clamps_of(request: GenerationRequest | StateRequest) -> tuple[str, ...]:
    """Returns the cells that a request holds, which are checked with its model.

    Raises:
        ApiError: They are too many, or one is too long.
    """
    given = request.clamp or ()
    clamps = (given,) if isinstance(given, str) else tuple(given)
    if len(clamps) > MAX_CLAMPS:
        raise ApiError(400, f"clamp must name at most {MAX_CLAMPS} cells. Received: {len(clamps):,}.", param="clamp")
    for clamp in clamps:
        check_text_length("clamp", clamp)
    return clamps


def is_repeatable(values: Mapping[str, Any], config: SamplingConfig) -> bool:
    """Returns whether a client expects the same texts again: it gives a seed, or takes the likeliest token always."""
    return bool(values.get("seed", -1) != -1 or config.temperature == 0)


def shown_number(number: float) -> str:
    """Returns a number for an error message, which does not repeat thousands of digits."""
    return f"{number:,}" if abs(number) < 1 << 63 else "a larger number"

"""What clients send: checked, with the defaults of the command line, as settings of texts.

JSON null means that a field is absent, everywhere, and unknown fields are ignored: clients send both. Fields of other
servers that demand a format of the text are refused, since a client would rely on the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Annotated, Any, TypeVar

import msgspec

from textgen.corpus.labels import LONGEST as LABEL_LENGTH
from textgen.errors import ConfigError
from textgen.generation.config import MAX_LOOK_BACK, SamplingConfig, sampler_names
from textgen.generation.request import later_seed, seeded
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError, naming
from textgen.settings import declared, from_dict, select
from textgen.wording import counted, shortened

MOST_LOGPROBS = 20  # maximum number of alternatives that are reported of a token
MOST_TEXTS = 64  # maximum number of texts in stop, ban and so on
TEXT_LENGTH = 1024  # maximum number of characters of one of these texts, and of names
TEXTS_LENGTH = 4096  # maximum number of characters of all of these texts together
MOST_BIASES = 1024
BIASES_LENGTH = 1 << 14  # maximum number of characters of all biases together
MOST_LOOK_BACK = 1 << 17  # maximum number of earlier tokens that a penalty looks at for a token of each text
MOST_CLAMPS = 64
CLAMP_HELP = "Cells that are clamped to a number, such as L1/89=3.8, or L1/89.f=1 for a gate: see textgen inspect."
EXACT_HELP = "Whether to compute in exact arithmetic: the same seed gives the same text on every machine."
RECEIVED = 100  # maximum number of characters of a wrong value that an error shows
KINDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "array": "a list",
    "object": "an object",
}  # fmt: skip
USER, ASSISTANT = "User", "Assistant"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SURROGATE = re.compile("[\ud800-\udfff]")
FORMAT_FIELDS = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar", "json_schema",
    "regex", "ebnf",
)  # fmt: skip
DIALOGUE_STOPS = (f"\n{USER}:", f"\n{ASSISTANT}:")
CONTENTS = frozenset({"prompt", "suffix", "input"})  # texts that are read: counted in tokens
LLAMA_CPP_SAMPLERS = {"typ_p": "typical_p"}  # names that llama.cpp's server has for samplers in a list, and ours
OFF_AT_MINUS_ONE = ("seed", "top_k", "top_n_sigma")  # settings that llama.cpp's clients switch off by -1
ALL_AT_MINUS_ONE = ("repeat_last_n", "dry_penalty_last_n")  # those of which -1 stands for the whole text
LISTED = ("samplers",)  # those that may be a list of names
OWN_NAMES = {field.name for field in fields(SamplingConfig)} - {"top_logprobs", "logit_bias", "stop"}

Prompt = str | list[int]
Clamps = Annotated[str | list[str] | None, msgspec.Meta(description=CLAMP_HELP)]
Exact = Annotated[bool | None, msgspec.Meta(description=EXACT_HELP)]
Kind = TypeVar("Kind", bound=msgspec.Struct)


class StreamOptions(msgspec.Struct):
    """What a stream says of its usage."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationRequest(msgspec.Struct, kw_only=True):
    """What requests for completions and for chats share, besides the settings of `SamplingConfig`."""

    model: str | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | list[str] | None = None
    top_logprobs: int | None = None
    clamp: Clamps = None
    exact: Exact = None
    state: str | None = None
    return_state: bool | None = None
    response_format: dict[str, Any] | None = None

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuses requests that no model of this program can fulfil.

        Args:
            values: All fields of the request that are not null.

        Raises:
            ApiError: The text must have a format.
        """
        if (self.response_format or {}).get("type", "text") != "text":
            raise ApiError(400, "response_format must be text: the model follows no schema.", param="response_format")
        for name in FORMAT_FIELDS:
            if values.get(name):
                raise ApiError(400, f"{name} cannot be used: the model follows no schema or grammar.", param=name)

    @property
    def length(self) -> int | None:
        """Tokens that a text may have; None if the request does not say, 0 if nothing is to be written."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionRequest(GenerationRequest, kw_only=True):
    """A request to `/v1/completions`."""

    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    logprobs: int | bool | None = None
    echo: bool | None = None
    best_of: int | None = None

    def alternatives(self) -> int | None:
        """How many alternatives of each token are asked for; None for no log probabilities."""
        given = self.logprobs if self.logprobs is not None else self.top_logprobs
        return int(given) if given is not False and given is not None else None

    def prompts(self) -> list[Prompt]:
        """The prompts: texts, or lists of ids.

        Raises:
            ApiError: Texts and ids are mixed, or there is no prompt.
        """
        given = self.prompt
        if given is None or isinstance(given, str):
            return [given or ""]
        if given and all(isinstance(each, int) for each in given):
            return [[int(each) for each in given]]  # type: ignore[arg-type]
        if not given or any(isinstance(each, int) for each in given):
            raise ApiError(400, "prompt must be a text, texts, token ids or lists of token ids.", param="prompt")
        return given  # type: ignore[return-value]


class Message(msgspec.Struct):
    """A message of a chat."""

    role: str | None = None
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        """Its text.

        Raises:
            ApiError: It has a part that is not text.
        """
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        texts = [part.get("text") if part.get("type", "text") == "text" else None for part in self.content]
        if not all(isinstance(text, str) for text in texts):
            raise ApiError(400, "messages may hold text only: the model knows no images or sounds.", param="messages")
        return "".join(map(str, texts))


class ChatRequest(GenerationRequest, kw_only=True):
    """A request to `/v1/chat/completions`."""

    messages: list[Message]
    template: str | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None

    def prompt(self, template: str) -> str:
        """The prompt that the messages make: see `ServerConfig.chat_template`."""
        texts = [message.text() for message in self.messages]
        if template == "text":
            return "\n".join(texts)
        names = [ASSISTANT if message.role == "assistant" else USER for message in self.messages]
        lines = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
        if not lines or names[-1] == USER:
            lines.append(f"{ASSISTANT}:")
        return "\n".join(lines)

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuses requests that no model of this program can fulfil, and those without a message.

        Args:
            values: All fields of the request that are not null.

        Raises:
            ApiError: The request has tools, functions or a format, an unknown role, or neither messages nor a state.
        """
        super().check(values)
        for name, value in (("tools", self.tools), ("functions", self.functions)):
            if value:
                raise ApiError(400, f"{name} cannot be used: the model writes text, it calls nothing.", param=name)
        if not self.messages and self.state is None:
            raise ApiError(400, "messages is empty: give a message or several.", param="messages")
        role = next((each.role for each in self.messages if each.role not in (None, *ROLES)), None)
        if role is not None:
            raise ApiError(
                400, f"A role in messages must be one of {', '.join(ROLES)}. Received: {json.dumps(role[:100])}.",
                param="messages",
            )  # fmt: skip


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """A request to `/v1/embeddings`."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None


class StateRequest(msgspec.Struct, kw_only=True):
    """A request to `POST /v1/states`."""

    model: str | None = None
    prompt: str | list[int] | None = None
    label: str | None = None
    clamp: Clamps = None
    exact: Exact = None
    state: str | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """A request to `/tokenize`."""

    prompt: str
    model: str | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """A request to `/detokenize`."""

    tokens: list[int]
    model: str | None = None


def first_text(given: str | Sequence[str | int | list[int]] | None) -> str:
    """Returns the first text of a request that is not blank, whose writing system selects a base; "" if it sends none.

    Example:
        >>> first_text(["", "床前明月光", "It was"]), first_text([5, 6])
        ('床前明月光', '')
    """
    texts = [given] if isinstance(given, str) else given or []
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def parse(body: bytes, kind: type[Kind]) -> tuple[Kind, dict[str, Any]]:
    """Parses a request.

    Args:
        body: JSON.
        kind: What it should be.

    Returns:
        The request, and all of its fields that are not null.

    Raises:
        ApiError: It is not JSON, or a field has the wrong type, is no valid text or is too long.
    """
    try:
        values = msgspec.json.decode(body)
        request = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), values) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(body, kind, error) from None
    for name in request.__struct_fields__:
        if isinstance(value := getattr(request, name), str) and name not in CONTENTS:
            check_text_length(name, value)
    return request, {name: value for name, value in values.items() if value is not None}


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


def with_logprobs(config: SamplingConfig, number: int | None) -> SamplingConfig:
    """Returns the settings with log probabilities of this many alternatives.

    Raises:
        ApiError: They are too many.
    """
    if number is None:
        return config
    if not 0 <= number <= MOST_LOGPROBS:
        raise ApiError(
            400, f"logprobs must be from 0 to {MOST_LOGPROBS}. Received: {shown_number(number)}.", param="logprobs"
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
        if work > MOST_LOOK_BACK:
            raise ApiError(
                400, f"The request asks for too much at once: {name}, or the length of a text if that is less, must be "
                f"at most {MOST_LOOK_BACK:,} for all its texts together. Received: {shown_number(work)}.", param=name,
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


def shown_number(number: float) -> str:
    """Returns a number for an error message, which does not repeat thousands of digits."""
    return f"{number:,}" if abs(number) < 1 << 63 else "a larger number"


def clamps_of(request: GenerationRequest | StateRequest) -> tuple[str, ...]:
    """Returns the cells that a request holds, which are checked with its model.

    Raises:
        ApiError: They are too many, or one is too long.
    """
    given = request.clamp or ()
    clamps = (given,) if isinstance(given, str) else tuple(given)
    if len(clamps) > MOST_CLAMPS:
        raise ApiError(400, f"clamp must name at most {MOST_CLAMPS} cells. Received: {len(clamps):,}.", param="clamp")
    for clamp in clamps:
        check_text_length("clamp", clamp)
    return clamps


def check_text_length(name: str, text: str) -> None:
    """Raises `ApiError` if a name, a label or the like is too long: what looks for it would take long, too."""
    most = LABEL_LENGTH if name == "label" else TEXT_LENGTH
    if len(text) > most:
        raise ApiError(
            400, f"{name} must have at most {counted(most, 'character')}. Received: {len(text):,}.", param=name
        )


def is_repeatable(values: Mapping[str, Any], config: SamplingConfig) -> bool:
    """Returns whether a client expects the same texts again: it gives a seed, or takes the likeliest token always."""
    return bool(values.get("seed", -1) != -1 or config.temperature == 0)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _biases(given: Mapping[str, float] | Sequence[str]) -> list[str]:
    if len(given) > MOST_BIASES:
        raise ApiError(
            400, f"logit_bias must have at most {MOST_BIASES:,} entries. Received: {len(given):,}.", param="logit_bias"
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
        if "tuple" not in declared(SamplingConfig)[name][0]:
            if isinstance(texts, str):
                check_text_length(name, texts)
            continue
        if name == "logit_bias":  # see `_biases`
            continue
        if not isinstance(texts, (list, tuple)):
            raise ConfigError(f"{name} must be a list of texts.")
        lengths = [len(text) for text in texts if isinstance(text, str)]
        if len(texts) > MOST_TEXTS or sum(lengths) > TEXTS_LENGTH or max(lengths, default=0) > TEXT_LENGTH:
            raise ApiError(
                400, f"{name} must have at most {MOST_TEXTS} texts, of at most {TEXT_LENGTH:,} characters each, and of "
                f"{TEXTS_LENGTH:,} together.", param=name,
            )  # fmt: skip


def _unreadable(body: bytes, kind: type[msgspec.Struct], error: Exception) -> ApiError:
    """The error for what msgspec does not decode. Half of a surrogate pair is the end of the data to it."""
    with suppress(ValueError, RecursionError):
        values = json.loads(body)
        known = {*kind.__struct_fields__, *OWN_NAMES}
        own = [(name, values[name]) for name in values if name in known] if isinstance(values, dict) else []
        for name, value in [*own, (None, values)]:
            if half := SURROGATE.search(json.dumps(value, ensure_ascii=False)):
                return ApiError(
                    400, f"{name or 'The request'} has \\u{ord(half[0]):04x}, which is half of a surrogate pair and no "
                    "character: send both halves, or the character itself.", param=name,
                )  # fmt: skip
    return ApiError(400, f"The request is not JSON: {error}.")


def _wrong_type(message: str, values: Any) -> ApiError:
    """The error for what msgspec finds wrong in decoded JSON, such as "Expected `int | null`, got `str` - at `$.n`"."""
    if missing := re.search(r"missing required field `(\w+)`", message):
        return ApiError(400, f"{missing[1]} is missing: the request must have it.", param=missing[1])
    found = re.fullmatch(r"Expected `([^`]+)`, got `(\w+)`(?: - at `\$\.?(.*)`)?", message)
    if found is None:
        return ApiError(400, f"{message.replace('`', '')}.")
    kinds = [KINDS.get(kind, kind) for kind in found[1].split(" | ") if kind != "null"]
    expected, place = " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]])), found[3] or ""
    received, steps = values, re.findall(r"\w+|\.\.\.", place)
    if "..." in steps:  # the value of some key
        shown = KINDS.get(found[2], found[2])
    else:
        for step in steps:
            received = received[int(step) if isinstance(received, list) else step]
        shown = shortened(json.dumps(received, ensure_ascii=False), RECEIVED)
    what = place.replace("[...]", ", in each entry,") or "The request"
    return ApiError(400, f"{what} must be {expected}. Received: {shown}.", param=steps[0] if steps else None)

"""What clients send, as types that are checked. The settings of their texts are in `textgen.server.text_settings`.

JSON null means that a field is absent, everywhere, and unknown fields are ignored: clients send both. Fields of other
servers that demand a format of the text are refused, since a client would rely on the format.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import msgspec

from textgen.corpus.labels import MAX_LABEL_CHARS
from textgen.generation.config import SamplingConfig
from textgen.server.failures import ApiError
from textgen.wording import counted, shortened

TEXT_LENGTH = 1024  # maximum number of characters of a name, or of one text in stop, ban and so on
CLAMP_HELP = "Cells that are clamped to a number, such as L1/89=3.8, or L1/89.f=1 for a gate: see textgen inspect."
NOVELTY_HELP = (
    "With echo and max_tokens 0: whether the answer has in copied where the prompt occurs in the training text, as "
    "places in characters; null for a model without an index of that text."
)
EXACT_HELP = "Whether to compute in exact arithmetic: the same seed gives the same text on every machine."
RECEIVED = 100  # maximum number of characters of a wrong value that an error shows
NUMBERS = "numbers may be as large as 1.797e308, and whole numbers may have 4,300 digits"
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
OWN_NAMES = {field.name for field in fields(SamplingConfig)} - {"top_logprobs", "logit_bias", "stop"}

Prompt = str | list[int]
Clamps = Annotated[str | list[str] | None, msgspec.Meta(description=CLAMP_HELP)]
Novelty = Annotated[bool | None, msgspec.Meta(description=NOVELTY_HELP)]
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
    novelty: Novelty = None

    def alternatives(self) -> int | None:
        """How many alternatives of each token are asked for; None for no log probabilities.

        Raises:
            ApiError: Two fields ask for two numbers.
        """
        given, top = self.logprobs, self.top_logprobs
        if given is False:
            return None
        if given is None or (given is True and top is not None):
            return top
        if top is not None and top != given:
            raise ApiError(
                400, "logprobs and top_logprobs are two numbers of alternatives: leave one of them out.",
                param="top_logprobs",
            )  # fmt: skip
        return int(given)

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
        body: JSON in UTF-8; a byte order mark before it is left out.
        kind: What it should be.

    Returns:
        The request, and all of its fields that are not null.

    Raises:
        ApiError: It is not UTF-8 or not JSON, a number is out of range, or a field has the wrong type, is no valid text
            or is too long.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        values = msgspec.json.decode(body)
    except msgspec.ValidationError:  # of JSON without a type, the numbers alone are checked
        raise ApiError(400, f"The request has a number that is out of range: {NUMBERS}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(body, kind, error) from None
    try:
        request = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), values) from None
    for name in request.__struct_fields__:
        if isinstance(value := getattr(request, name), str) and name not in CONTENTS:
            check_text_length(name, value)
    return request, {name: value for name, value in values.items() if value is not None}


def check_text_length(name: str, text: str) -> None:
    """Raises `ApiError` if a name, a label or the like is too long: what looks for it would take long, too."""
    most = MAX_LABEL_CHARS if name == "label" else TEXT_LENGTH
    if len(text) > most:
        raise ApiError(
            400, f"{name} must have at most {counted(most, 'character')}. Received: {len(text):,}.", param=name
        )


def _unreadable(body: bytes, kind: type[msgspec.Struct], error: Exception) -> ApiError:
    """The error for what msgspec does not decode. Half of a surrogate pair is the end of the data to it."""
    if what := _not_utf8(body):
        return ApiError(400, f"The request is not UTF-8 text: {what}. Send its JSON in UTF-8.")
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
    return ApiError(400, f"The request is not JSON: {error}. Send an object in JSON.")


def _not_utf8(body: bytes) -> str:
    """What shows that a body is not UTF-8 text; "" if it is. JSON has no zero bytes, except in UTF-16 and UTF-32."""
    if b"\0" in body[:4]:
        return "it looks like UTF-16"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"byte 0x{body[error.start]:02x} at offset {error.start:,}"
    return ""


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
        shown = _shown(received)
    what = place.replace("[...]", ", in each entry,") or "The request"
    return ApiError(400, f"{what} must be {expected}. Received: {shown}.", param=steps[0] if steps else None)


def _shown(value: Any) -> str:
    """The beginning of a decoded value as JSON. A value can be decoded that is too deep to be encoded again."""
    try:
        return shortened(json.dumps(value, ensure_ascii=False), RECEIVED)
    except RecursionError:
        return f"{KINDS['array' if isinstance(value, list) else 'object']} of many levels"

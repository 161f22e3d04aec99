"""What clients send: null is absent, unknown fields do not matter, sizes are bounded."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest

from textgen.server.failures import ApiError
from textgen.server.requests import (
    CONTENTS,
    FORMAT_FIELDS,
    TEXT_LENGTH,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    Message,
    StateRequest,
    TokenizeRequest,
    parse,
)

REQUESTS = (CompletionRequest, ChatRequest, EmbeddingRequest, StateRequest, TokenizeRequest, DetokenizeRequest)
REQUIRED: dict[str, Any] = {"messages": [], "input": "", "tokens": []}


def test_one_field_says_how_long_a_text_is() -> None:
    cases = [(None, None, None), (0, None, 0), (0, 5, 5), (5, 0, 0), (None, 0, 0)]
    for max_tokens, max_completion_tokens, expected in cases:
        fields: dict[str, Any] = {"max_tokens": max_tokens, "max_completion_tokens": max_completion_tokens}
        assert CompletionRequest(**fields).length == expected
        assert ChatRequest(messages=[], **fields).length == expected


def test_one_number_says_how_many_alternatives_a_token_has() -> None:
    cases: list[tuple[int | bool | None, int | None, int | None]] = [
        (None, None, None), (None, 3, 3), (None, 0, 0), (2, None, 2), (0, None, 0), (3, 3, 3), (0, 0, 0),
        (True, None, 1), (True, 3, 3), (True, 0, 0), (False, None, None), (False, 3, None),
    ]  # fmt: skip
    for logprobs, top_logprobs, expected in cases:
        assert CompletionRequest(logprobs=logprobs, top_logprobs=top_logprobs).alternatives() == expected
    for logprobs, top_logprobs in ((2, 3), (0, 3), (1, 0)):
        with pytest.raises(ApiError, match="logprobs and top_logprobs are two numbers") as info:
            CompletionRequest(logprobs=logprobs, top_logprobs=top_logprobs).alternatives()
        assert (info.value.status, info.value.param) == (400, "top_logprobs")


def test_prompts_have_five_shapes() -> None:
    shapes: list[tuple[Any, Any]] = [
        (None, [""]), ("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]]),
    ]  # fmt: skip
    for given, expected in shapes:
        assert CompletionRequest(prompt=given).prompts() == expected


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
def test_a_format_is_refused_by_its_field(kind: type[CompletionRequest | ChatRequest]) -> None:
    def check(**fields: Any) -> None:
        request, values = parse(msgspec.json.encode({"messages": [{"role": "user", "content": "A"}], **fields}), kind)
        request.check(values)

    for name in FORMAT_FIELDS:
        with pytest.raises(ApiError) as info:
            check(**{name: {"type": "object"}})
        assert (info.value.status, info.value.param) == (400, name)
    with pytest.raises(ApiError, match="response_format must be text"):
        check(response_format={"type": "json_schema"})
    check(response_format={"type": "text"}, grammar="", guided_json=None, other=1)


def test_a_chat_may_continue_a_state_without_messages() -> None:
    request, values = parse(b'{"messages": [], "state": "a"}', ChatRequest)
    request.check(values)
    request, values = parse(b'{"messages": []}', ChatRequest)
    with pytest.raises(ApiError, match="messages is empty"):
        request.check(values)


def test_messages_make_a_prompt() -> None:
    messages = [Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Good mo")]
    chat = ChatRequest(messages=messages)
    assert chat.prompt("text") == "Be brief.\nHello\nGood mo"
    assert chat.prompt("dialogue") == "User: Be brief.\nUser: Hello\nAssistant: Good mo"
    assert ChatRequest(messages=messages[1:2]).prompt("dialogue") == "User: Hello\nAssistant:"
    assert Message("user", None).text() == ""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, field.name)
        for kind in REQUESTS
        for field in msgspec.structs.fields(kind)
        if "str" in str(field.type) and field.name not in {*CONTENTS, "messages", "response_format", "logit_bias"}
    ],
)
def test_every_name_in_a_request_has_a_longest_length(kind: type[msgspec.Struct], name: str) -> None:
    """What is not in `CONTENTS`, which is counted in tokens. Messages are a prompt, too; biases are settings."""
    fields = {**REQUIRED, "prompt": "", name: "x" * (TEXT_LENGTH + 1)}
    with pytest.raises(ApiError, match=f"{name} must have at most [0-9,]+ characters. Received: 1,025") as refused:
        parse(msgspec.json.encode(fields), kind)
    assert refused.value.param == name
    assert parse(msgspec.json.encode({**fields, name: "x" * 200}), kind)


@pytest.mark.parametrize(
    ("kind", "fields", "message", "param"),
    [
        (CompletionRequest, {"max_tokens": 2.5}, "max_tokens must be a whole number. Received: 2.5.", "max_tokens"),
        (CompletionRequest, {"n": "é"}, 'n must be a whole number. Received: "é".', "n"),
        (CompletionRequest, {"stream": "x"}, 'stream must be true or false. Received: "x".', "stream"),
        (CompletionRequest, {"prompt": 5}, "prompt must be a text or a list. Received: 5.", "prompt"),
        (
            CompletionRequest,
            {"prompt": ["a", 2.5]},
            "prompt[1] must be a whole number, a text or a list. Received: 2.5.",
            "prompt",
        ),
        (
            CompletionRequest,
            {"stream_options": {"include_usage": 3}},
            "stream_options.include_usage must be true or false. Received: 3.",
            "stream_options",
        ),
        (
            CompletionRequest,
            {"logit_bias": {"5": "x"}},
            "logit_bias, in each entry, must be a number. Received: a text.",
            "logit_bias",
        ),
        (ChatRequest, {"messages": "a" * 200}, f'messages must be a list. Received: "{"a" * 99}....', "messages"),
        (ChatRequest, {"messages": [{"role": 5}]}, "messages[0].role must be a text. Received: 5.", "messages"),
        (ChatRequest, {}, "messages is missing: the request must have it.", "messages"),
        (DetokenizeRequest, {"tokens": None}, "tokens must be a list. Received: null.", "tokens"),
        (CompletionRequest, [1], "The request must be an object. Received: [1].", None),
    ],
)
def test_a_value_of_a_wrong_type_is_told_in_words(
    kind: type[msgspec.Struct], fields: Any, message: str, param: str | None
) -> None:
    with pytest.raises(ApiError) as caught:
        parse(msgspec.json.encode(fields), kind)
    assert (caught.value.message, caught.value.param) == (message, param)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (rb'{"prompt": "a\ud800b"}', r"prompt has \ud800, which is half of a surrogate pair and no character: "),
        (rb'{"prompt": "\ud83d\ude00", "stop": ["\uDE00"]}', r"stop has \ude00, "),
        (rb'{"prompt": "a", "unknown": "\ud800"}', r"The request has \ud800, "),
        (rb'["\udc00"]', r"The request has \udc00, "),
        (rb'{"prompt": "a\\ud800', "The request is not JSON: Input data was truncated."),
        (rb'{"prompt": "a\ud800', "The request is not JSON: Input data was truncated."),
        (rb'{"prompt": "a", "n": NaN}', "The request is not JSON: JSON is malformed"),
        (
            b"prompt=a",
            "The request is not JSON: JSON is malformed: invalid character (byte 0). Send an object in JSON.",
        ),
        (b"[" * 100_000, "The request is not JSON: "),
    ],
)
def test_half_of_a_character_is_told_from_what_is_no_json(body: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body, CompletionRequest)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('{"prompt": "床"}'.encode("gbk"), "byte 0xb4 at offset 12"),
        (b'{"prompt": "\xed\xa0\x80"}', "byte 0xed at offset 12"),
        (b"\xff\xfe", "byte 0xff at offset 0"),
        (b"\x1f\x8b\x08\x08", "byte 0x8b at offset 1"),
        *[
            ('{"prompt": "床"}'.encode(f"utf-{name}"), "it looks like UTF-16")
            for name in ("16", "16-le", "16-be", "32")
        ],
    ],
)
def test_what_is_not_utf_8_says_how_to_send_it(body: bytes, what: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body, CompletionRequest)
    assert caught.value.message == f"The request is not UTF-8 text: {what}. Send its JSON in UTF-8."


def test_a_byte_order_mark_of_utf_8_is_left_out() -> None:
    request, values = parse('{"prompt": "\ufeff床"}'.encode("utf-8-sig"), CompletionRequest)
    assert (request.prompt, values) == ("\ufeff床", {"prompt": "\ufeff床"})
    with pytest.raises(ApiError, match="half of a surrogate pair"):
        parse('{"prompt": "\\ud800"}'.encode("utf-8-sig"), CompletionRequest)


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 4301])
@pytest.mark.parametrize("name", ["max_tokens", "prompt", "unknown"])
def test_a_number_out_of_range_is_refused_in_words(kind: type[msgspec.Struct], number: str, name: str) -> None:
    with pytest.raises(ApiError, match="a number that is out of range: numbers may be as large as") as caught:
        parse(f'{{"{name}": [{number}]}}'.encode(), kind)
    assert caught.value.status == 400


def test_a_wrong_value_of_any_depth_is_told_in_words() -> None:
    """Lists can be decoded that are so deep that they cannot be encoded again."""
    for depth in range(1, sys.getrecursionlimit() + 2):
        with pytest.raises(ApiError, match=r"^n must be a whole number\. Received: |^The request is not JSON: "):
            parse(b'{"n": ' + b"[" * depth + b"]" * depth + b"}", CompletionRequest)

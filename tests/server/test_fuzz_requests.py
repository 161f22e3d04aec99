"""Whatever is sent: no status of a failing server, no traceback, no slot lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Running, running

from textgen.generation.config import SamplingConfig
from textgen.server.config import ServerConfig
from textgen.settings import declared

LIMITS = ServerConfig(port=0, max_body=50_000, max_choices=6, max_length=12, max_prompt=400, max_queue=1000)
PATHS = (
    "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/states", "/tokenize", "/detokenize",
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 20) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12) | st.just("L0/1=1")
    | st.sampled_from(["tiny", "../x", "", "\0", "document", "line", "text", "top_k;min_p"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
FIELDS = st.sampled_from(
    [
        *declared(SamplingConfig),
        "model",
        "prompt",
        "n",
        "best_of",
        "stream",
        "stream_options",
        "logprobs",
        "echo",
        "suffix",
        "state",
        "clamp",
        "return_state",
        "max_completion_tokens",
        "messages",
        "template",
        "tools",
        "response_format",
        "input",
        "encoding_format",
        "dimensions",
        "tokens",
    ]
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.text(max_size=30) | st.lists(st.integers(0, 400), max_size=9) | st.lists(st.text(max_size=5)),
    "messages": st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=9)}), max_size=3),
    "input": st.text(max_size=20),
    "tokens": st.lists(st.integers(0, 300), max_size=9),
}  # fmt: skip
LIKELY_BODY = st.fixed_dictionaries({}, optional=LIKELY)
BODIES = st.builds(
    lambda likely, wild: {"max_tokens": 3, **likely, **wild}, LIKELY_BODY, st.dictionaries(FIELDS, VALUES, max_size=4)
)


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models, LIMITS) as there:
        yield there


def check(server: Running, path: str, body: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, headers, data = server.request("POST", path, body)
    assert status < 500, data
    if status >= 400:
        error = json.loads(data)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert len(error["message"]) < 2000
    elif headers["content-type"].startswith("text/event-stream"):
        assert data.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in data
    else:
        assert json.loads(data)
    assert b"Traceback" not in data
    assert "Traceback" not in capsys.readouterr().err
    server.wait(lambda: server.engine.is_idle)


NOT_TOO_SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=100, suppress_health_check=NOT_TOO_SLOW)
@given(path=st.sampled_from(PATHS), body=BODIES)
def test_a_few_strange_requests(
    server: Running, capsys: pytest.CaptureFixture[str], path: str, body: dict[str, Any]
) -> None:
    check(server, path, body, capsys)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5000])
def test_numbers_out_of_range(server: Running, capsys: pytest.CaptureFixture[str], path: str, number: bytes) -> None:
    check(server, path, b'{"prompt": "a", "input": "a", "max_tokens": ' + number + b"}", capsys)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=10_000, suppress_health_check=NOT_TOO_SLOW)
@given(path=st.sampled_from(PATHS), body=BODIES | VALUES)
def test_ten_thousand_strange_requests(
    server: Running, capsys: pytest.CaptureFixture[str], path: str, body: Any
) -> None:
    check(server, path, body, capsys)


@settings(max_examples=60, suppress_health_check=NOT_TOO_SLOW)
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=60))
def test_bytes_that_are_no_request(server: Running, capsys: pytest.CaptureFixture[str], path: str, body: bytes) -> None:
    check(server, path, body, capsys)

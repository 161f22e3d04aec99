"""The description of the interface is that of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers import Running, running
from starlette.routing import Route

from textgen.errors import ConfigError
from textgen.server.access import Access
from textgen.server.application import make_app
from textgen.server.config import ServerConfig
from textgen.server.endpoints import STATE_TYPE, make_state
from textgen.server.failures import ApiError
from textgen.server.openapi import openapi
from textgen.server.requests import OWN_NAMES, ChatRequest, CompletionRequest, parse
from textgen.server.resources import Resources
from textgen.server.text_settings import ALL_AT_MINUS_ONE, OFF_AT_MINUS_ONE, sampling_config


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models) as there:
        yield there


def test_it_has_every_path_and_method_of_the_server(tmp_path: Path) -> None:
    config = ServerConfig(page=False)
    resources = Resources(config, {}, tmp_path)
    app = make_app(resources, Access(config))
    routes = [route for route in app._app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
    resources.close()
    served = {
        (method.lower(), route.path.replace(":path", ""))
        for route in routes
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(method, path) for path, methods in openapi()["paths"].items() for method in methods}
    assert described == served


def test_requests_have_every_setting_and_null_is_allowed() -> None:
    for name in ("CompletionRequest", "ChatRequest"):
        fields = openapi()["components"]["schemas"][name]["properties"]
        assert set(fields) >= OWN_NAMES
        assert "null" in fields["temperature"]["type"]
        assert None in fields["until"]["enum"]


KINDS = {str: "string", bool: "boolean", list: "array", dict: "object"}


def permits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a schema of the document permits a value."""
    if "$ref" in schema:
        return permits(openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]], value)
    if "anyOf" in schema:
        return any(permits(each, value) for each in schema["anyOf"])
    kinds = {KINDS[type(value)]} if type(value) in KINDS else {"number", *(["integer"] if value % 1 == 0 else [])}
    if kinds.isdisjoint([schema["type"]] if isinstance(schema["type"], str) else schema["type"]):
        return False
    if isinstance(value, list):
        return all(permits(schema["items"], each) for each in value if "items" in schema)
    is_within = "number" not in kinds or schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return is_within and value in schema.get("enum", [value])


NUMBERS = (-2, -1, -1.0, 0, 0.5, 1, 1.0, 2, 100, 2**16, 2**40, 1e12, 10**400)
TEXTS: tuple[Any, ...] = ("", "a", "line", "top_k", [], [1], ["top_k"], ["a=1"], [[1]])
OTHERS: tuple[Any, ...] = (True, False, {}, {"5": 1}, {"include_usage": True})


@pytest.mark.parametrize("kind", [CompletionRequest, ChatRequest])
def test_it_permits_every_value_that_is_accepted(kind: type[CompletionRequest | ChatRequest]) -> None:
    limits, accepted, forbidden = ServerConfig(), set(), []
    for name, schema in openapi()["components"]["schemas"][kind.__name__]["properties"].items():
        bounds = [schema[bound] + step for bound in ("minimum", "maximum") if bound in schema for step in (-1, 0, 1)]
        for value in (*NUMBERS, *bounds, *TEXTS, *OTHERS):
            with suppress(ApiError, ConfigError):
                request, values = parse(json.dumps({"messages": [], name: value}).encode(), kind)
                sampling_config(request, values, limits)
                accepted.add(name)
                forbidden += [] if permits(schema, value) else [(name, value)]
    assert forbidden == []
    assert accepted >= OWN_NAMES


def test_it_permits_minus_one_where_that_stands_for_something() -> None:
    for name in ("CompletionRequest", "ChatRequest"):
        fields = openapi()["components"]["schemas"][name]["properties"]
        bounded = [each for each in OWN_NAMES if fields[each].get("minimum", -2) > -2]
        permitted = {each for each in bounded if permits(fields[each], -1)}
        assert permitted == {*OFF_AT_MINUS_ONE, *ALL_AT_MINUS_ONE}
        assert [permits(fields["samplers"], each) for each in ("top_k", ["top_k", "typ_p"], [1])] == [True, True, False]


def test_a_state_may_be_sent_as_a_file_with_what_is_read_of_the_query() -> None:
    class Read(Exception):
        pass

    names = []

    def read(name: str) -> None:
        names.append(name)

    def read_all(name: str) -> list[str]:
        names.append(name)
        return []

    async def model(name: str | None) -> None:
        pass

    async def generator(*given: object) -> None:
        raise Read

    query = SimpleNamespace(get=read, getlist=read_all)
    request: Any = SimpleNamespace(headers={"content-type": STATE_TYPE}, query_params=query)
    resources: Any = SimpleNamespace(models=SimpleNamespace(get=model, generator=generator))
    with pytest.raises(Read):
        asyncio.run(make_state(request, b"", "", resources))
    operation = openapi()["paths"]["/v1/states"]["post"]
    assert sorted(each["name"] for each in operation["parameters"]) == sorted(names)
    assert set(operation["requestBody"]["content"]) == {"application/json", STATE_TYPE}


def test_answers_have_the_content_types_that_it_says(server: Running) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": "The", "max_tokens": 1},
        "/v1/chat/completions": {"messages": [{"content": "The"}], "max_tokens": 1},
        "/v1/embeddings": {"input": "The"},
        "/v1/states": {"prompt": "The"},
        "/tokenize": {"prompt": "The"},
        "/detokenize": {"tokens": [65]},
    }
    ids = {"/v1/models/{id}": "tiny", "/v1/states/{id}": server.post("/v1/states", {})["id"]}
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            found = set()
            for more in ({}, {"stream": True}):
                body = bodies[path] | more if path in bodies else None
                status, headers, answer = server.request(method.upper(), path.replace("{id}", ids.get(path, "")), body)
                if status == 404 and method == "delete":  # by the second time
                    continue
                assert status == 200, answer
                found.add(headers["content-type"].partition(";")[0])
            assert found == set(operation["responses"]["200"]["content"]), path


def test_all_that_it_refers_to_is_in_it(server: Running) -> None:
    document = server.get("/openapi.json")
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert document == json.loads(json.dumps(openapi()))

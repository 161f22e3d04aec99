"""The description of the interface is that of the server."""

from __future__ import annotations

import json
from pathlib import Path

from servers import running
from starlette.routing import Route

from textgen.server.access import Access
from textgen.server.application import make_app
from textgen.server.config import ServerConfig
from textgen.server.openapi import openapi
from textgen.server.requests import OWN_NAMES
from textgen.server.resources import Resources


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


def test_all_that_it_refers_to_is_in_it(tiny_models: Path) -> None:
    with running(tiny_models) as server:
        document = server.get("/openapi.json")
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert document == json.loads(json.dumps(openapi()))

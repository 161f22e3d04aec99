"""The application: which path leads to which handler, and what all requests have in common."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textgen.server import endpoints
from textgen.server.access import ANYBODY, Access
from textgen.server.completions import answer, stream
from textgen.server.failures import ApiError, as_api_error, closing, too_large
from textgen.server.infilling import infill, infill_stream
from textgen.server.openapi import openapi
from textgen.server.planning import plan_chat, plan_completion
from textgen.server.requests import ChatRequest, CompletionRequest, parse
from textgen.server.resources import Resources
from textgen.server.sse import EventStream, disconnected
from textgen.server.web_page import page_routes

OPEN_PATHS = ("/health", "/ready")  # paths that need no key
METRICS_PATH = "/metrics"
MIN_BYTES_PER_SECOND = 1 << 10  # lowest rate of the body of a request, and of an answer, in bytes per second
ADDRESS = re.compile(rb"https?://([^/]+)(.*)", re.IGNORECASE | re.DOTALL)  # target of a request: its host, its path
REQUEST_ID = re.compile(r"[\w.-]{1,100}")
Result = TypeVar("Result")


class Disconnected(Exception):
    """Raised when the client has left before the answer was there."""


@dataclass(frozen=True)
class Call:
    """A request that may be answered.

    Attributes:
        request: The request.
        body: Its body.
        owner: Whose it is: see `textgen.server.access`.
        resources: What all handlers share.
    """

    request: Request
    body: bytes
    owner: str
    resources: Resources


Handler = Callable[[Call], Awaitable[ASGIApp]]


class Endpoint:
    """The handlers of a path as an ASGI application: a checked key, the whole body, errors in the shape of OpenAI's."""

    def __init__(self, handlers: Mapping[str, Handler], resources: Resources, access: Access) -> None:
        """Makes the application of a path.

        Args:
            handlers: The handler of each method; that of GET answers HEAD too.
            resources: What all handlers share.
            access: Who may use them.
        """
        self._handlers = handlers
        self._resources = resources
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        request = Request(scope, receive)
        path = scope["path"]
        is_open = path in OPEN_PATHS
        needs_key = not is_open and not (path == METRICS_PATH and self._resources.config.open_metrics)
        response: ASGIApp
        try:
            owner = self._access.owner(request.headers) if needs_key else ANYBODY
            if self._resources.is_draining and not is_open and request.method == "POST":
                raise closing()
            body = await self._body(request, receive)
            call = Call(request, body, owner, self._resources)
            handler = self._handlers["GET" if request.method == "HEAD" else request.method]
            response = await unless_disconnected(handler(call), receive)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 a client sees no traceback
            failure = as_api_error(error)
            if failure.status == 500:
                traceback.print_exc(file=sys.stderr)
            response = failure.response()
        await response(scope, receive, send)

    async def _body(self, request: Request, receive: Receive) -> bytes:
        """Reads the body. Raises `ApiError` if it is compressed or too large, or does not arrive."""
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise ApiError(
                415, f"The body of the request is encoded as {encoding[:100]!r}, which this server does not decode: "
                "send it as it is, without Content-Encoding.", headers={"Accept-Encoding": "identity"},
            )  # fmt: skip
        most = self._resources.config.max_body
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > most:
            raise too_large(most)
        parts: list[bytes] = []
        clock, idle_time = asyncio.get_running_loop().time, self._resources.config.idle_time
        began = clock()
        size, more = 0, request.method in ("POST", "PUT", "PATCH")
        while more:
            try:
                async with asyncio.timeout_at(due(began, clock(), size, idle_time)):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, "The request did not arrive in time.", headers={"Connection": "close"}) from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > most:
                raise too_large(most)
        return b"".join(parts)


def due(began: float, now: float, size: int, idle_time: float) -> float:
    """Returns when the next part of a body must be there, so that one that arrives drop by drop ends.

    Args:
        began: When the first part was waited for.
        now: The time now.
        size: Bytes that have arrived.
        idle_time: Seconds that a part may take, and for which a body may arrive more slowly than it should.

    Example:
        >>> due(0.0, 20.0, 1000, 30.0), due(0.0, 20.0, 1 << 20, 30.0)
        (30.9765625, 50.0)
    """
    return min(now + idle_time, began + idle_time + size / MIN_BYTES_PER_SECOND)


async def unless_disconnected(work: Awaitable[Result], receive: Receive) -> Result:
    """Returns the result of some work, which is given up when the client leaves.

    Raises:
        Disconnected: The client has left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Disconnected
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


def in_origin_form(scope: Scope) -> Scope:
    """Returns a request whose target is a path, though it was sent as a whole address, as to a proxy.

    The host in the address takes the place of the header Host, as RFC 9112 has it (3.2.2).
    """
    found = ADDRESS.fullmatch(scope.get("raw_path") or b"")
    if found is None:
        return scope
    host, path = found[1], found[2] or b"/"
    headers = [(b"host", host), *(each for each in scope["headers"] if each[0] != b"host")]
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path, "headers": headers}


class Gate:
    """What happens to every request: foreign hosts and origins are refused, answers get an id and headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = in_origin_form(scope)
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        added = {
            "X-Request-Id": given if REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(8)}",
            "X-Content-Type-Options": "nosniff",
            **self._access.cross_origin_headers(
                headers.get("origin"), headers.get("access-control-request-headers", "")
            ),
        }

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(added)
            await send(message)

        try:
            self._access.check_place(headers)
        except ApiError as error:
            await error.response()(scope, receive, send_with_headers)
            return
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(status_code=204)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def make_app(resources: Resources, access: Access) -> ASGIApp:
    """Returns the application of a server.

    Args:
        resources: What all handlers share.
        access: Who may use it.
    """

    def route(path: str, handler: Handler, method: str = "GET", **others: Handler) -> Route:
        handlers = {method: handler, **others}
        return Route(path, Endpoint(handlers, resources, access), methods=list(handlers))

    app = Starlette(
        routes=[
            route("/v1/completions", _complete, "POST"),
            route("/v1/chat/completions", _chat, "POST"),
            route("/v1/embeddings", lambda call: endpoints.embed(call.body, call.owner, call.resources), "POST"),
            route("/v1/models", _list_models),
            route("/v1/models/{id:path}", _show_model),
            route("/v1/states", _make_state, "POST"),
            route("/v1/states/{id}", _fetch_state, DELETE=_remove_state),
            route("/tokenizer_info", lambda call: endpoints.tokenizer_info(call.resources)),
            route("/tokenize", lambda call: endpoints.tokenize(call.body, call.resources), "POST"),
            route("/detokenize", lambda call: endpoints.detokenize(call.body, call.resources), "POST"),
            route("/health", lambda call: endpoints.health(call.resources)),
            route("/ready", lambda call: endpoints.ready(call.resources)),
            route(METRICS_PATH, lambda call: endpoints.metrics(call.resources)),
            route("/openapi.json", _describe),
            *(page_routes() if resources.config.page else []),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return Gate(app, access)


async def _complete(call: Call) -> ASGIApp:
    request, values = parse(call.body, CompletionRequest)
    if request.suffix:
        if request.stream:
            return _streamed(call, infill_stream(request, values, call.owner, call.resources))
        return endpoints.answer(await infill(request, values, call.owner, call.resources))
    plan = await plan_completion(request, values, call.owner, call.resources)
    if request.stream:
        return _streamed(call, stream(plan, call.resources))
    return endpoints.answer(await answer(plan, call.resources))


async def _chat(call: Call) -> ASGIApp:
    request, values = parse(call.body, ChatRequest)
    plan = await plan_chat(request, values, call.owner, call.resources)
    if request.stream:
        return _streamed(call, stream(plan, call.resources))
    return endpoints.answer(await answer(plan, call.resources))


def _streamed(call: Call, events: AsyncGenerator[bytes, None]) -> EventStream:
    return EventStream(events, call.resources.config.idle_time)


async def _describe(call: Call) -> ASGIApp:
    return endpoints.answer(openapi())


async def _list_models(call: Call) -> ASGIApp:
    return await endpoints.list_models(call.resources)


async def _show_model(call: Call) -> ASGIApp:
    return await endpoints.show_model(call.request.path_params["id"], call.resources)


async def _make_state(call: Call) -> ASGIApp:
    return await endpoints.make_state(call.request, call.body, call.owner, call.resources)


async def _fetch_state(call: Call) -> ASGIApp:
    return endpoints.fetch_state(call.request.path_params["id"], call.owner, call.resources)


async def _remove_state(call: Call) -> ASGIApp:
    return endpoints.remove_state(call.request.path_params["id"], call.owner, call.resources)


async def _refused(request: Request, error: Exception) -> Response:
    """A path that does not exist, or a method that a path does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = getattr(error, "headers", None)
    what = {404: f"There is nothing at {request.url.path[:200]}.", 405: f"{request.method} cannot be used here."}
    return ApiError(status, what.get(status, "The request cannot be answered."), headers=headers).response()

"""Runs the application: sockets, signals, the end.

On SIGTERM or Ctrl-C, or when its terminal closes, the server first says at `/ready` that it takes no more requests, and
lets the texts that are being written end. Those that have not ended after the drain time end with an error as their
last event. Then the server closes. A second signal closes it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from textgen.errors import TextgenError
from textgen.server.access import Access
from textgen.server.application import MIN_BYTES_PER_SECOND, make_app
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError, encode, too_large
from textgen.server.open_files import possible_connections
from textgen.server.resources import Resources
from textgen.server.sse import TRANSPORT
from textgen.wording import Say, silent

SWITCH_SECONDS = 0.001  # switch interval of Python threads; the event loop must not wait for a matrix product
HEADER_BYTES = 1 << 15  # maximum size of the header of a request
BACKLOG = 2048  # maximum number of connections that wait in the operating system
ACCEPTED = 16  # connections taken at once: all of them have a file open before those that are too many are refused
SEND_BYTES = 1 << 16  # send buffer of a connection in the operating system
POLL_SECONDS = 0.05
BODY_FACTOR = 2  # times the largest body: what is read of a body that is refused, for those who read the answer late
FEW_CHUNKS = 4096  # number of chunks of a body that may be of any size, which take milliseconds
CHUNK_BYTES = 64  # mean size of the chunks after these: each takes as much time, however small it is
BEAT_SECONDS = 0.1  # seconds between two measurements of the delay of the event loop
CLOSE_SECONDS = 5  # seconds at the end in which the last events are read and connections close


class Requests(h11.Connection):
    """The requests of a connection, with a bound on the number of chunks of their bodies.

    Attributes:
        arrived: Bytes that came over the connection after the head of a request.
        fault: What is wrong with a request that it does not take though it is HTTP.
    """

    arrived = 0
    fault = ""
    _chunks = 0
    _size = 0

    def receive_data(self, data: bytes) -> None:
        """Takes data."""
        self.arrived += len(data)
        super().receive_data(data)

    def next_event(self) -> Any:
        """Returns what comes next.

        Raises:
            h11.RemoteProtocolError: The chunks of a body are too small, or a request says in two ways where its body
                ends: a proxy before the server may have believed the other one, and taken the rest for a body.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.arrived = self._chunks = self._size = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                self.fault = "The request has both Content-Length and Transfer-Encoding: send one of them."
                raise h11.RemoteProtocolError(self.fault)
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._size += len(event.data)
            if self._chunks > FEW_CHUNKS + self._size / CHUNK_BYTES:
                mean = self._size / self._chunks
                self.fault = (
                    f"The request has {self._chunks:,} chunks of {mean:.1f} bytes on average. Beyond "
                    f"{FEW_CHUNKS:,} chunks, it must have {CHUNK_BYTES} bytes for each: send larger chunks."
                )
                raise h11.RemoteProtocolError(self.fault)
        return event


class Protocol(H11Protocol):
    """HTTP with bounds on connections, on what is read of a request and on the time that it may take to arrive."""

    limits: ServerConfig
    conn: Requests

    def __init__(self, config: uvicorn.Config, *given: Any, **named: Any) -> None:
        super().__init__(config, *given, **named)
        self.conn = Requests(h11.SERVER, HEADER_BYTES)

    def connection_made(self, transport: Any) -> None:
        """Takes a connection, or refuses it if there are too many."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}  # in the scope of its requests
        with contextlib.suppress(OSError, AttributeError):  # so that a client that does not read is noticed early
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(ApiError(503, "The server has too many connections.", headers={"Retry-After": "1"}))
            return
        self._deadline = self.loop.call_later(self.limits.idle_time, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Takes data. Headers that arrive drop by drop do not prolong the time for them.

        A client may send its whole body before it reads that it was refused. To close the connection at once could take
        the answer away from it, so some more is read. What comes over the connection is counted here: what frames the
        chunks, and what follows the answer, is no part of the body that the application counts.
        """
        if self.transport.is_closing():
            return
        is_body = self.conn.their_state is h11.SEND_BODY
        if is_body and self.conn.arrived + len(data) > BODY_FACTOR * self.limits.max_body + HEADER_BYTES:
            self._refuse(too_large(self.limits.max_body))
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Takes note of the end of a connection."""
        for timer in (getattr(self, "_deadline", None), getattr(self, "_stalled", None)):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Starts the timer for the next request of a connection."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._deadline.cancel()
            self._deadline = self.loop.call_later(self.limits.idle_time, self._give_up)

    def pause_writing(self) -> None:
        """Starts the timer for a client that does not read. A large answer must be read within the longest time."""
        super().pause_writing()
        rate = self.transport.get_write_buffer_size() / self.limits.max_time  # bytes per second
        self._least = max(MIN_BYTES_PER_SECOND, rate)
        self._watch()

    def _watch(self) -> None:
        self._stalled = self.loop.call_later(
            self.limits.idle_time, self._check_reading, self.transport.get_write_buffer_size()
        )

    def _check_reading(self, before: int) -> None:
        """Gives up a client that has read less than it should since so many bytes waited for it."""
        if before - self.transport.get_write_buffer_size() < self.limits.idle_time * self._least:
            self.transport.abort()
        else:
            self._watch()

    def resume_writing(self) -> None:
        """Stops the timer of a client that has read most of what waited for it."""
        super().resume_writing()
        if stalled := getattr(self, "_stalled", None):
            stalled.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP, or has headers that are too long or contradict, or chunks that are too small."""
        self._refuse(ApiError(400, self.conn.fault or f"This is not a request: {msg}"))

    def _give_up(self) -> None:
        """Closes a connection whose request has not arrived in time."""
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Closes the connection, with an error where no answer has begun. The application sends nothing after that."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = encode(error.body())
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{name}: {value}" for name, value in (headers | error.headers).items()]
        phrase = HTTPStatus(error.status).phrase
        with contextlib.suppress(h11.LocalProtocolError):
            self.conn.send_failed()
        self.transport.write("\r\n".join([f"HTTP/1.1 {error.status} {phrase}", *lines, "", ""]).encode() + body)
        self.transport.close()


class Interruptible:
    """An application whose handlers end quietly when they are cancelled at the end of the server."""

    def __init__(self, app: ASGIApp, resources: Resources) -> None:
        self._app = app
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._resources.is_closing:
                raise


class Server(uvicorn.Server):
    """Uvicorn with an end that waits for texts being written.

    Attributes:
        resources: What the handlers share.
        failure: Why the default model could not be loaded, which ends the server.
    """

    def __init__(self, config: uvicorn.Config, resources: Resources, announce: Callable[[Server], None]) -> None:
        super().__init__(config)
        self.resources = resources
        self._announce = announce
        self.failure: TextgenError | None = None
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen, and loads the default model meanwhile."""
        sockets = sockets or [_listen(self.config.host, self.config.port)]
        await super().startup(sockets)
        for listening in sockets:
            listening.listen(BACKLOG)  # for asyncio, `ACCEPTED` is the number that may wait too
        self._announce(self)
        self._loading = asyncio.create_task(self._load())
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        """Measures how late the event loop runs its timers."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.resources.metrics.loop_lag.observe(max(0.0, clock() - due))

    async def _load(self) -> None:
        try:
            await self.resources.models.get()
        except ApiError as error:
            if error.status == 500:
                traceback.print_exc(file=sys.stderr)
            self.failure = TextgenError(error.message)
        except TextgenError as error:
            self.failure = error
        self.should_exit = self.should_exit or self.failure is not None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals during a block, if the event loop is that of the main thread."""
        loop = asyncio.get_running_loop()
        signals = [signal.SIGINT, signal.SIGTERM]
        hangup = getattr(signal, "SIGHUP", None)  # which Windows lacks, and nohup ignores
        if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
            signals.append(hangup)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(RuntimeError, ValueError):  # not the main thread
                for number in signals:
                    stack.callback(self._handle(number, loop))
            yield

    def _handle(self, number: int, loop: asyncio.AbstractEventLoop) -> Callable[[], object]:
        """Makes a signal call `end` in the event loop. Returns the function that restores what was before."""
        try:
            loop.add_signal_handler(number, self.end)
            return partial(loop.remove_signal_handler, number)
        except NotImplementedError:  # Windows
            former = signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.end))
            return partial(signal.signal, number, former or signal.SIG_DFL)

    def end(self) -> None:
        """Begins the end at the first call, and closes at once at the second."""
        self._signals += 1
        if self._signals == 1:
            self.resources.is_draining = True
            self._draining = asyncio.create_task(self._drain())
        elif not self.force_exit:
            self.force_exit = True
            self._draining.cancel()
            self._closing = asyncio.create_task(self._close())

    async def _drain(self) -> None:
        await self._until_idle(self.resources.config.drain_time)
        if self._busy():
            await asyncio.to_thread(self.resources.end_texts)
            await self._until_idle(CLOSE_SECONDS)
        await self._close()

    async def _until_idle(self, seconds: float) -> None:
        """Waits until no request is being answered, up to a time limit."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline and self._busy():
            await asyncio.sleep(POLL_SECONDS)

    async def _close(self) -> None:
        """Disconnects clients whose requests have not been answered, and closes."""
        self.resources.is_closing = True
        for connection in self._busy():
            connection.transport.abort()
        await asyncio.sleep(POLL_SECONDS)
        self.should_exit = True

    def _busy(self) -> list[Any]:
        """The connections on which a request is being answered."""
        connections: list[Any] = [each for each in self.server_state.connections if getattr(each, "cycle", None)]
        return [connection for connection in connections if not connection.cycle.response_complete]


def serve(
    config: ServerConfig,
    places: dict[str, str],
    models_dir: Path | None = None,
    keys: Sequence[str] = (),
    announce: Callable[[Server], None] = lambda server: None,
    say: Say = silent,
) -> None:
    """Serves models until a signal ends it.

    Args:
        config: Settings of the server.
        places: What each name of a model loads: see `textgen.server.models.ModelHost`.
        models_dir: The folder of models.
        keys: Keys, one of which a request needs; none if it needs no key.
        announce: Called when the server listens.
        say: Called with a line of text for the operator, such as why a network is not computed as it was asked for.

    Raises:
        TextgenError: The server cannot listen at the address, or the default model cannot be loaded.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    config = replace(config, max_connections=possible_connections(config.max_connections, say))
    server = make_server(config, places, models_dir, keys, announce, say)
    asyncio.run(_serve(server))
    if server.force_exit or server.resources.models.is_loading:  # Python would wait for the threads
        sys.stderr.flush()
        os._exit(0)


def make_server(
    config: ServerConfig,
    places: dict[str, str],
    models_dir: Path | None = None,
    keys: Sequence[str] = (),
    announce: Callable[[Server], None] = lambda server: None,
    say: Say = silent,
) -> Server:
    """Returns a server that does not run yet. The arguments are those of `serve`."""
    resources = Resources(config, places, models_dir, say)
    protocol = type("LimitedProtocol", (Protocol,), {"limits": config})
    settings = uvicorn.Config(
        Interruptible(make_app(resources, Access(config, keys)), resources),
        host=config.host,
        port=config.port,
        http=protocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(max(1, config.idle_time)),
        timeout_graceful_shutdown=CLOSE_SECONDS,
        backlog=ACCEPTED,
    )
    return Server(settings, resources, announce)


async def _serve(server: Server) -> None:
    """Runs a server whose address is free. Raises `TextgenError` if its default model cannot be loaded."""
    listening = _listen(server.config.host, server.config.port)
    try:
        await server.serve([listening])
    finally:
        server.resources.close()
    if server.failure:
        raise server.failure


def _listen(host: str, port: int) -> socket.socket:
    """Opens the socket. Raises `TextgenError` where uvicorn would end the process."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TextgenError(
            f"Cannot listen on {host} port {port}: {reason}. Choose a free port, or an address of this machine."
        ) from None
    return listening

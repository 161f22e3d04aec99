"""Server-sent events as OpenAI's clients read them: lines of data and nothing else.

A block with id, retry or event but no data makes those clients fail, so none is ever sent. A comment keeps the
connection open while there is nothing to say.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncGenerator
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from textgen.server.failures import as_api_error, encode

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
PING_SECONDS = 15.0
TRANSPORT = "transport"  # where the state of a scope has the connection, an `asyncio.Transport`, if it has it
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event(data: object) -> bytes:
    r"""A value as an event.

    Example:
        >>> event({"text": "a\n"})
        b'data: {"text":"a\\n"}\n\n'
    """
    return b"data: " + encode(data) + b"\n\n"


class EventStream:
    """A response that sends events as they are made, and stops making them once nobody reads.

    It watches for the end of the connection itself, so the work behind it ends within a step of the event loop.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        idle_time: float,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        """Makes a response.

        Args:
            events: The events. The generator is closed at the end, however that comes.
            idle_time: Seconds that a client may take to read an event, where the connection is unknown; one that is
                known is closed by `textgen.server.serving.Protocol`.
            ping_seconds: Seconds without an event after which a comment is sent.
        """
        self._events = events
        self._idle_time = idle_time
        self._ping_seconds = ping_seconds
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0  # when something was sent last, on the clock of the event loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response."""
        self._transport = scope.get("state", {}).get(TRANSPORT)
        sending = asyncio.create_task(self._send_all(scope, receive, send))
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            with suppress(asyncio.CancelledError, TimeoutError, OSError):
                await sending
            await self._events.aclose()

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = asyncio.ensure_future(anext(self._events))
        try:
            await asyncio.wait({first}, timeout=self._ping_seconds)
            if first.done() and (error := first.exception()) and not isinstance(error, StopAsyncIteration):
                await as_api_error(_logged(error)).response()(scope, receive, send)
                return
            raw = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": raw})
            await self._send_events(first, send)
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            first.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await first

    async def _send_events(self, first: asyncio.Future[bytes], send: Send) -> None:
        """Sends events without a break as long as there are some, so that none pile up while the event loop is busy."""
        pinging = asyncio.create_task(self._ping(send))
        try:
            async for data in self._with_error(first):
                await self._send_body(send, data)
        finally:
            pinging.cancel()

    async def _with_error(self, first: asyncio.Future[bytes]) -> AsyncGenerator[bytes, None]:
        """The events. The response has begun, so an error is the last of them."""
        try:
            yield await first
            async for data in self._events:
                yield data
        except StopAsyncIteration:  # there is not even a first one
            return
        except Exception as error:  # noqa: BLE001 a client sees no traceback
            yield event(as_api_error(_logged(error)).body())

    async def _ping(self, send: Send) -> None:
        """Sends a comment whenever nothing has been sent for some time."""
        clock = asyncio.get_running_loop().time
        with suppress(TimeoutError, OSError):  # the client does not read, which the next event finds, too
            while True:
                await asyncio.sleep(max(0.0, self._sent + self._ping_seconds - clock()))
                if clock() >= self._sent + self._ping_seconds:
                    await self._send_body(send, PING)

    async def _send_body(self, send: Send, data: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})

    async def _send(self, send: Send, message: Message) -> None:
        """Sends a message.

        While events come without a break, `disconnected` gets no turn, so this looks at the connection itself.

        Raises:
            ConnectionResetError: The connection is closed.
            TimeoutError: The client does not read.
        """
        if self._transport and self._transport.is_closing():
            raise ConnectionResetError("The connection is closed.")
        async with asyncio.timeout(None if self._transport else self._idle_time):
            await send(message)
        self._sent = asyncio.get_running_loop().time()


async def disconnected(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _logged(error: BaseException) -> BaseException:
    """Writes the traceback of a bug to standard error."""
    if as_api_error(error).status == 500:
        traceback.print_exception(error, file=sys.stderr)
    return error

"""Server-sent events: exact to the byte, kept open, ended when nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Message

from textgen.server.failures import ApiError
from textgen.server.sse import PING, TRANSPORT, EventStream, event

Sent = list[Message]


async def run(
    events: AsyncGenerator[bytes, None],
    *,
    leaves_after: int | None = None,
    blocks: bool = False,
    ping: float = 9.0,
    pinged: asyncio.Event | None = None,
) -> Sent:
    """What a stream sends to a client that reads `leaves_after` messages and then leaves, or reads nothing.

    `pinged` is set once the client has two comments.
    """
    sent: Sent = []
    left = asyncio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if leaves_after is not None and len(sent) >= leaves_after:
            left.set()
        if pinged and body(sent).count(PING) == 2:
            pinged.set()
        if blocks:
            await asyncio.sleep(60)

    stream = EventStream(events, 0.05, ping_seconds=ping)
    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": []}
    await asyncio.wait_for(stream(scope, receive, send), 30)
    return sent


def body(sent: Sent) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)


def test_events_are_sent_as_they_are_made() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event({"text": "a\n\n床"})
        yield event([1])

    sent = asyncio.run(run(events()))
    assert body(sent).decode() == 'data: {"text":"a\\n\\n床"}\n\ndata: [1]\n\n'
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"] is False


def test_a_comment_keeps_the_connection_open() -> None:
    pinged = asyncio.Event()

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"1"
        await pinged.wait()
        yield b"2"

    parts = body(asyncio.run(run(events(), ping=0.03, pinged=pinged))).split(PING)
    assert len(parts) > 2
    assert b"".join(parts) == b"12"


def test_an_error_before_the_first_event_is_an_error() -> None:
    ended: list[bool] = []

    async def events() -> AsyncGenerator[bytes, None]:
        if ended:
            yield b""
        raise ApiError(429, "busy")

    sent = asyncio.run(run(events()))
    assert sent[0]["status"] == 429
    assert b"busy" in body(sent)


def test_an_error_later_is_the_last_event() -> None:
    async def events() -> AsyncGenerator[bytes, None]:
        yield event(1)
        raise ValueError("secret")

    sent = asyncio.run(run(events()))
    assert sent[0]["status"] == 200
    assert body(sent).startswith(b'data: 1\n\ndata: {"error":{')
    assert b"secret" not in body(sent)
    assert sent[-1]["more_body"] is False


def test_the_work_ends_when_the_client_leaves() -> None:
    ended = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    sent = asyncio.run(run(events(), leaves_after=5))
    assert ended == [True]
    assert len(sent) < 20


def test_nothing_is_sent_to_a_closed_connection() -> None:
    """Not even by events that come without a break, so that the event loop cannot tell that the client has left."""
    ended: list[bool] = []
    sent: Sent = []

    class Transport(asyncio.Transport):
        def is_closing(self) -> bool:
            return len(sent) >= 3

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(1000):
                yield b"x"
        finally:
            ended.append(True)

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": [], "state": {TRANSPORT: Transport()}}
    asyncio.run(asyncio.wait_for(EventStream(events(), 1.0)(scope, receive, send), 30))
    assert len(sent) == 3
    assert ended == [True]


def test_a_connection_that_is_known_decides_by_itself_who_reads_too_slowly() -> None:
    class Transport(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

    sent: Sent = []

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"x"
        yield b"y"

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {}

    async def send(message: Message) -> None:
        await asyncio.sleep(0.03)
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": [], "state": {TRANSPORT: Transport()}}
    asyncio.run(asyncio.wait_for(EventStream(events(), 0.001)(scope, receive, send), 30))
    assert body(sent) == b"xy"


def test_the_work_ends_when_the_client_leaves_before_the_first_event() -> None:
    ended = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.sleep(60)
            yield b""
        finally:
            ended.append(True)

    async def main() -> None:
        async def receive() -> Message:
            await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            raise AssertionError(message)

        await asyncio.wait_for(EventStream(events(), 1.0)({"type": "http"}, receive, send), 30)

    asyncio.run(main())
    assert ended == [True]


def test_the_work_ends_when_the_client_does_not_read() -> None:
    ended = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
        finally:
            ended.append(True)

    asyncio.run(run(events(), blocks=True))
    assert ended == [True]

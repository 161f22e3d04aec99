"""A server in a thread of the tests, and the smallest client for it."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textgen.server.config import ServerConfig
from textgen.server.engine import Engine
from textgen.server.serving import Server, make_server

PATIENCE = 60.0  # seconds for what takes milliseconds on an idle machine


class Running:
    """A server that runs, and requests to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.resources = server.resources
        self.port = server.port

    @property
    def engine(self) -> Engine:
        """The engine of the model that was loaded first."""
        engine = self.resources.models.loaded[0].engine
        assert engine
        return engine

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, headers in lower case and body of an answer. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        """The JSON at a path."""
        return json.loads(self.request("GET", path, None, headers)[2])

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """The JSON that answers JSON."""
        return json.loads(self.request("POST", path, body, headers)[2])

    def complete(self, **fields: Any) -> Any:
        """The answer to a request for completions, which must succeed."""
        status, _, body = self.request("POST", "/v1/completions", fields)
        assert status == 200, body
        return json.loads(body)

    def error(self, path: str, body: Any, method: str = "POST", **headers: str) -> tuple[int, Any]:
        """The status and error of a request that fails."""
        status, _, data = self.request(method, path, body, headers)
        assert status >= 400, data
        return status, json.loads(data)["error"]

    def stream(self, path: str, body: Any) -> list[Any]:
        """The events of a stream, without the last one, which must say that it is done."""
        status, headers, data = self.request("POST", path, {**body, "stream": True})
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), data
        *events, done, end = data.decode().split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]

    def open(self, path: str, body: Any, buffer: int = 1 << 16) -> socket.socket:
        """A connection over which a request has been sent, and that receives `buffer` bytes unread."""
        data = json.dumps(body).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", self.port))
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        return connection

    @contextmanager
    def reading(self, path: str, body: Any) -> Iterator[None]:
        """Sends a request and reads the answer in another thread, which throws it away, until the block ends."""

        def read() -> None:
            with suppress(OSError):
                while connection.recv(1 << 16):
                    pass

        with self.open(path, body) as connection:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            reader = threading.Thread(target=read)
            reader.start()
            try:
                yield
            finally:
                connection.shutdown(socket.SHUT_RDWR)
                reader.join(PATIENCE)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@contextmanager
def running(
    models_dir: Path, config: ServerConfig | None = None, keys: tuple[str, ...] = (), **places: str
) -> Iterator[Running]:
    """A server of the models in a folder, which has loaded its default model."""
    begun = threading.Event()
    settings = config or ServerConfig(port=0)
    server = make_server(settings, places, models_dir, keys, lambda server: begun.set())
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        there = Running(server)
        there.wait(lambda: there.request("GET", "/ready")[0] == 200)
        yield there
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        server.resources.close()


def environment_of(name: str, packages: list[str]) -> Path:
    """Folder of an environment with these packages for this Python, in a temporary folder that is the user's alone.

    Raises:
        PermissionError: The folder belongs to another user, who could have put programs there, or others may write to
            it.
    """
    place = Path(tempfile.gettempdir()) / f"textgen-clients-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    about = place.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{place} must be a folder that only you can use. Remove it.")
    asked = json.dumps([sys.version, sys.prefix, packages])
    return place / f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"


def python_with(name: str, packages: list[str]) -> Path:
    """The Python of an environment that has these packages. It is kept for the next time that they are asked for."""
    folder = environment_of(name, packages)
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "complete").touch()
    return python

"""A local server of files: whole or in ranges, with broken connections, errors and redirects."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

PAUSE = 0.1  # seconds of a pause within a response


@dataclass
class FileServer:
    """What the server has, and what it was asked for.

    Attributes:
        url: Its address, without a slash at the end.
        files: Contents by path.
        redirects: Where other paths lead.
        tags: ETags by path.
        types: Content-Types by path.
        encodings: Content-Encodings by path, in which the contents are.
        headers: Further headers by path.
        compresses: Whether it compresses what it sends for those who accept gzip.
        head_size: The Content-Length with which HEAD is answered; None if it is not.
        breaks: After how many bytes the next responses break off, one each.
        has_ranges: Whether it answers requests for a part.
        pauses: After how many bytes each response pauses for a moment.
        stalls_after: After how many bytes a response stalls, until the reader leaves.
        status: Of an answer that is no file, if it is not 404.
        asked: Path and Range of each request, "" without one.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    encodings: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    compresses: bool = False
    head_size: int | None = None
    breaks: list[int] = field(default_factory=list)
    has_ranges: bool = True
    pauses: list[int] = field(default_factory=list)
    stalls_after: int | None = None
    status: int = 404
    asked: list[tuple[str, str]] = field(default_factory=list)


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if server.head_size is None or self.path not in server.files:
                self.send_error(501)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(server.head_size))
            if self.path in server.tags:
                self.send_header("ETag", server.tags[self.path])
            self.end_headers()

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            server.asked.append((self.path, wanted))
            if self.path in server.redirects:
                self.send_response(302)
                self.send_header("Location", server.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif self.path in server.files:
                self._send(server.files[self.path], wanted)
            else:
                self.send_error(server.status)

        def _send(self, data: bytes, wanted: str) -> None:
            tag = server.tags.get(self.path, "")
            is_compressed = server.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
            data = gzip.compress(data) if is_compressed else data
            match = re.fullmatch(r"bytes=(\d+)-", wanted) if server.has_ranges else None
            if match and self.headers.get("If-Range", tag) != tag:
                match = None
            start = int(match[1]) if match else 0
            if match and start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if tag:
                self.send_header("ETag", tag)
            if self.path in server.types:
                self.send_header("Content-Type", server.types[self.path])
            if encoding := "gzip" if is_compressed else server.encodings.get(self.path):
                self.send_header("Content-Encoding", encoding)
            for header, value in server.headers.get(self.path, {}).items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if server.stalls_after is not None:
                self.wfile.write(data[: server.stalls_after])
                self.rfile.read(1)  # until the reader closes the connection
                return
            size = server.breaks.pop(0) if server.breaks else len(data)
            borders = sorted({start, *(pause for pause in server.pauses if start < pause < start + size), start + size})
            for first, last in pairwise(borders):
                time.sleep(PAUSE * (first > start))
                self.wfile.write(data[first:last])
                self.wfile.flush()
            if start + size < len(data):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server on this machine, reached without a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    files = FileServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(files)) as http:
        files.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield files
        http.shutdown()
        thread.join()

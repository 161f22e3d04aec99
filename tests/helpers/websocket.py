"""The smallest client of a WebSocket: text messages, as browsers speak to the programs that drive them."""

from __future__ import annotations

import base64
import os
import socket
import struct
from urllib.parse import urlsplit

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class WebSocket:
    """A connection to a browser (RFC 6455)."""

    def __init__(self, url: str, patience: float) -> None:
        """Connects.

        Args:
            url: An address such as ws://127.0.0.1:9222/session.
            patience: Seconds after which a message that does not come is an error.
        """
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname, place.port), patience)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {place.path or '/'} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        if b" 101 " not in status:
            raise ConnectionError(status.decode())
        while self._file.readline().strip():
            pass

    def send(self, text: str) -> None:
        """Sends a message."""
        self._send(TEXT, text.encode())

    def receive(self) -> str:
        """Returns the next message."""
        parts = []
        while True:
            first, second = self._read(2)
            size = second & 127
            if size > 125:
                (size,) = struct.unpack(">H" if size == 126 else ">Q", self._read(2 if size == 126 else 8))
            data, kind = self._read(size), first & 15
            if kind == CLOSE:
                raise ConnectionError("The browser has closed the connection.")
            if kind == PING:
                self._send(PONG, data)
            elif kind != PONG:
                parts.append(data)
                if first & 128:
                    return b"".join(parts).decode()

    def close(self) -> None:
        """Closes the connection."""
        self._file.close()
        self._socket.close()

    def _send(self, kind: int, data: bytes) -> None:
        size = len(data)
        head = bytes([128 | kind, 128 | (size if size < 126 else 126 if size < 1 << 16 else 127)])
        head += b"" if size < 126 else struct.pack(">H" if size < 1 << 16 else ">Q", size)
        mask = os.urandom(4)
        masks = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data) ^ int.from_bytes(masks)).to_bytes(size)
        self._socket.sendall(head + mask + masked)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("The browser has closed the connection.")
        return data

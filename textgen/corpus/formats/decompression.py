"""Reads the bytes of a file, decompressed, with clear errors."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from textgen.errors import CorpusError, UnreadableCorpus
from textgen.storage.system_errors import DAMAGE_ERRORS, explained

CHUNK_BYTES = 1 << 18  # number of bytes read at a time
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
STREAMS: dict[str, Callable[[], Any]] = {".bz2": bz2.BZ2Decompressor, ".xz": lzma.LZMADecompressor}
STREAM_BYTES = 1 << 14  # compressed bytes of a .bz2 or .xz file read at a time
PADDING = 4  # bytes; there may be a multiple of so many NUL bytes after a stream of an .xz file
ZSTANDARD_BYTES = 1 << 8  # bytes decompressed at a time, since they may become 30,000 times as many


def decompressed(file: BinaryIO, compression: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Iterates over the decompressed bytes of a file.

    Args:
        file: The file.
        compression: One of `COMPRESSIONS`, or "" for a file that is not compressed.
        start: Where to start, in decompressed bytes. Only .gz files and those that are not compressed can be entered.
        stop: Where to stop, in the same files. None means the end of the file.

    Yields:
        Chunks of about `CHUNK_BYTES` bytes.

    Raises:
        OSError: The file cannot be read, or is not in the format.
        EOFError: The file is truncated.
        zlib.error: The file is damaged.
        lzma.LZMAError: The file is damaged.
    """
    if compression in STREAMS:
        yield from _joined(_stream_chunks(file, compression))
        return
    if compression:
        if not file.read(1):  # which the reader of .gz files takes for an empty text
            raise EOFError
        file.seek(0)
    if compression == ".zst":
        yield from _joined(_zstandard_chunks(file))
        return
    stream = gzip.GzipFile(fileobj=file) if compression else file
    stream.seek(start)
    while chunk := stream.read(CHUNK_BYTES if stop is None else min(CHUNK_BYTES, stop - start)):
        yield chunk
        start += len(chunk)


@contextmanager
def reading(name: str, compression: str = "") -> Iterator[None]:
    """Converts errors of reading and decompressing in the block to `CorpusError`.

    Args:
        name: Name of the file, for error messages.
        compression: One of `COMPRESSIONS`, or "".

    Raises:
        UnreadableCorpus: The block failed to read the file, which may be intact.
        CorpusError: The block failed to find or to decompress the file.
    """
    try:
        yield
    except PermissionError as error:
        name = error.filename or name
        raise UnreadableCorpus(
            f"Cannot read {name}: permission denied. Ask the owner for permission to read it."
        ) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if compression and getattr(error, "errno", None) is None:
            raise CorpusError(
                f"{name} is damaged or truncated: it is not valid {compression} data "
                f"({str(error) or 'it ends too early'}). Compress or download it again."
            ) from None
        if not isinstance(error, OSError) or error.errno is None:  # some libraries raise an error without a number
            raise CorpusError(f"Cannot read {name}: {error}.") from None
        kind = CorpusError if error.errno in DAMAGE_ERRORS else UnreadableCorpus
        raise kind(f"Cannot read {name}: {explained(error)}") from None


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Joins pieces until they have `CHUNK_BYTES` bytes: the first chunk tells what is in a file."""
    held, size = list[bytes](), 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if size:
        yield b"".join(held)


def _stream_chunks(file: BinaryIO, compression: str) -> Iterator[bytes]:
    """Decompresses the streams of a .bz2 or .xz file.

    Does not use Python's readers of files, which take what is damaged after the first stream for the end of the file.

    Raises:
        OSError: The file is not in the format.
        EOFError: The file is truncated.
        lzma.LZMAError: The file is not in the format.
    """
    stream, padding, is_first = None, 0, True
    while data := file.read(STREAM_BYTES):
        while data:
            if stream is None and compression == ".xz" and not is_first:
                size, data = len(data), data.lstrip(b"\0")
                padding += size - len(data)
                if not data:
                    break
                _check_padding(padding)
            stream = stream or STREAMS[compression]()
            yield stream.decompress(data, CHUNK_BYTES)
            while not (stream.eof or stream.needs_input):
                yield stream.decompress(b"", CHUNK_BYTES)
            data = stream.unused_data if stream.eof else b""
            stream, padding, is_first = None if stream.eof else stream, 0, False
    if stream is not None or is_first:
        raise EOFError
    _check_padding(padding)


def _check_padding(size: int) -> None:
    if size % PADDING:
        raise lzma.LZMAError(f"{size:,} NUL bytes follow a stream, no multiple of {PADDING}")


def _zstandard_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Decompresses the frames of a .zst file.

    Does not use zstandard's stream reader, which accepts truncated files.

    Raises:
        OSError: The file is not in the Zstandard format.
        EOFError: The file is truncated.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)  # largest window, written by zstd --long=31
    frame = None
    try:
        while chunk := file.read(ZSTANDARD_BYTES):
            while chunk:
                frame = frame or decompressor.decompressobj()
                if data := frame.decompress(chunk):
                    yield data
                chunk = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from None
    if frame is not None:
        raise EOFError

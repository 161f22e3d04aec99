"""Reads the bytes of a file, decompressed, with clear errors."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from textgen.errors import CorpusError

CHUNK_BYTES = 1 << 18  # number of bytes read at a time
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ZSTANDARD_BYTES = 1 << 8  # bytes decompressed at a time, since they may become 30,000 times as many


def decompressed(file: BinaryIO, compression: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Iterates over the decompressed bytes of a file.

    Args:
        file: The file.
        compression: One of `COMPRESSIONS`, or "" for a file that is not compressed.
        start: Where to start, in decompressed bytes. Has no effect on .zst files.
        stop: Where to stop. None means the end of the file.

    Yields:
        Chunks of about `CHUNK_BYTES` bytes.

    Raises:
        OSError: The file cannot be read, or is not in the format.
        EOFError: The file is truncated.
        zlib.error: The file is damaged.
        lzma.LZMAError: The file is damaged.
    """
    if compression == ".zst":
        yield from _zstandard_chunks(file)
        return
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    stream = openers[compression](file) if compression else file
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
        CorpusError: The block failed to read or decompress the file.
    """
    try:
        yield
    except PermissionError as error:
        name = error.filename or name
        raise CorpusError(f"Cannot read {name}: permission denied. Ask the owner for permission to read it.") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if compression and getattr(error, "errno", None) is None:
            raise CorpusError(
                f"{name} is damaged or truncated: it is not valid {compression} data "
                f"({str(error) or 'it ends too early'}). Compress or download it again."
            ) from None
        raise CorpusError(f"Cannot read {name}: {getattr(error, 'strerror', None) or error}.") from None


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

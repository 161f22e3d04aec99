"""Reads single files: regular files of limited size; links are followed only where a user has named the path."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import BinaryIO

from textgen.storage.system_errors import cannot_read

OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))  # flags that this system has
NONBLOCKING = getattr(os, "O_NONBLOCK", 0)  # opening a pipe returns without waiting for its other end
_seek_lock = threading.Lock()  # guards seek and read on systems without os.pread
PIPE_ADVICE = "Save what comes out of it to a file, and name that."


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading, without following a link.

    Only the last component of the path is checked: links in its parent folders are followed.

    Args:
        path: Path of the file.

    Returns:
        The open file.

    Raises:
        OSError: The file cannot be opened, or is a link, a folder, a pipe or a device. `strerror` is the reason.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS | NONBLOCKING)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(error.errno, "it is a link, and links in such a folder are not followed", str(path)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def check_readable(path: Path, advice: str) -> None:
    """Checks that a path of a user leads to a regular file that opens, before a library opens it.

    Libraries of compiled code wait in a pipe until somebody writes into it, and no signal ends them.

    Args:
        path: The path. Links are followed.
        advice: What to name, in one sentence, where there is no such file.

    Raises:
        Unreadable: The file cannot be opened, and may be intact.
        SavedModelError: There is no file, but nothing, or a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode):
            advice = PIPE_ADVICE
            raise OSError(errno.EINVAL, "it is a pipe")
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise cannot_read(path, error, advice) from None


def read_file(path: Path, limit: int) -> bytes:
    """Reads a file of limited size.

    Args:
        path: Path of the file.
        limit: Maximum size in bytes.

    Returns:
        The content of the file.

    Raises:
        OSError: The file is larger than `limit`, or `open_file` cannot open it.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= limit and len(data := file.read(size + 1)) <= limit:
            return data
    raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes, the limit for such a file", str(path))


def read_at(descriptor: int, size: int, start: int) -> bytes:
    """Reads bytes from a position of an open file. Safe to call from several threads.

    Args:
        descriptor: File descriptor.
        size: Number of bytes to read.
        start: Offset in bytes.

    Returns:
        The bytes, fewer than `size` at the end of the file.
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, start)
    with _seek_lock:
        os.lseek(descriptor, start, os.SEEK_SET)
        data = b""
        while len(data) < size and (part := os.read(descriptor, size - len(data))):
            data += part
    return data


def sha256(path: Path) -> str:
    """Computes the SHA-256 checksum of a file.

    Args:
        path: Path of the file.

    Returns:
        The checksum in hex.

    Raises:
        OSError: `open_file` cannot open the file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

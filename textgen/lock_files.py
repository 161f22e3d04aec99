"""Locks on folders for systems without flock, such as Windows: by lock files, with filelock.

flock locks a folder itself. Here, files in the temporary folder stand for it; their names are made from the identity
of the folder (device and inode), so the folder may be moved. One file is locked by whoever has the folder alone, and
each of those that share it locks a file of its own. The system releases the locks of a process that ends, however it
ends. Processes on other machines and other users with another temporary folder are not noticed.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOLDER = "textgen-locks"  # in the temporary folder
RETRY_SECONDS = 0.01


def take(path: Path, *, alone: bool, seconds: float = 0.0) -> Callable[[], None] | None:
    """Locks the folder `path`, alone or together with others that share it.

    Args:
        path: An existing folder.
        alone: Whether nobody else may have it meanwhile.
        seconds: How long to wait for it.

    Returns:
        A function that releases the lock, to be called once. None if somebody else has the folder.

    Raises:
        OSError: `path` is missing, or the temporary folder cannot be written to.
    """
    name = _name(path)
    until = time.monotonic() + seconds
    while True:
        release = _try_alone(name) if alone else _try_shared(name)
        if release or time.monotonic() >= until:
            return release
        time.sleep(RETRY_SECONDS)


def is_taken(path: Path) -> bool:
    """Whether somebody, who may be this process, has the folder `path` alone. Raises `OSError` as `take` does."""
    lock = _try_file(_name(path))
    if lock:
        lock.release()
    return lock is None


def _name(path: Path) -> Path:
    """The file that stands for a folder."""
    about = path.stat()
    folder = Path(tempfile.gettempdir(), FOLDER)
    folder.mkdir(exist_ok=True)
    return folder / f"{about.st_dev:x}-{about.st_ino:x}"


def _try_alone(name: Path) -> Callable[[], None] | None:
    lock = _try_file(name)
    if lock is None:
        return None
    for shared in name.parent.glob(f"{name.name}.*"):
        other = _try_file(shared)
        if other is None:
            lock.release()
            return None
        other.release()
        _remove(shared)  # left by a process that has ended
    return lock.release


def _try_shared(name: Path) -> Callable[[], None] | None:
    lock = _try_file(name)  # so that nobody takes the folder alone at this moment
    if lock is None:
        return None
    try:
        own = name.with_name(f"{name.name}.{secrets.token_hex(8)}")
        shared = _try_file(own)
    finally:
        lock.release()
    if shared is None:
        return None

    def release() -> None:
        shared.release()
        _remove(own)

    return release


def _try_file(path: Path) -> BaseFileLock | None:
    """The lock on a file; None if somebody has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)  # a garbage collector may release it in any thread
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _remove(path: Path) -> None:
    with suppress(OSError):  # somebody looks at it
        os.unlink(path)

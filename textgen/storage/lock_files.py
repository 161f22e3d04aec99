"""Locks folders with lock files, on systems without flock such as Windows.

The lock files are in the temporary folder. Their names contain the device and inode of the folder, so a lock stays
valid when the folder is moved. An exclusive lock holds one file; each shared lock holds a file of its own. The system
releases the locks when a process ends, even if it is killed. Locks are not visible to other machines, nor to users with
a different temporary folder.
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

FOLDER = "textgen-locks"  # name of the folder for lock files in the temporary folder
RETRY_SECONDS = 0.01  # interval between attempts
LOOKS = 3  # attempts of `is_taken`, since another call of it holds the file for a moment


def take(path: Path, *, alone: bool, seconds: float = 0.0) -> Callable[[], None] | None:
    """Locks a folder, exclusively or shared.

    Args:
        path: An existing folder.
        alone: Whether the lock is exclusive.
        seconds: Maximum time to wait for the lock.

    Returns:
        A function that releases the lock, to be called once. None if the folder is already locked.

    Raises:
        OSError: `path` does not exist, or the temporary folder is not writable.
    """
    name = _name(path)
    until = time.monotonic() + seconds
    while True:
        release = _try_alone(name) if alone else _try_shared(name)
        if release or time.monotonic() >= until:
            return release
        time.sleep(RETRY_SECONDS)


def is_taken(path: Path) -> bool:
    """Checks whether any process, including this one, holds an exclusive lock on a folder.

    Args:
        path: An existing folder.

    Returns:
        Whether the folder is locked exclusively.

    Raises:
        OSError: `path` does not exist, or the temporary folder is not writable.
    """
    name = _name(path)
    for _ in range(LOOKS):
        if lock := _try_file(name):
            lock.release()
            return False
        time.sleep(RETRY_SECONDS)
    return True


def _name(path: Path) -> Path:
    """Returns the path of the lock file of a folder."""
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
        _remove(shared)  # left behind by a process that has ended
    return lock.release


def _try_shared(name: Path) -> Callable[[], None] | None:
    lock = _try_file(name)  # prevents an exclusive lock meanwhile
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
    """Locks a file. None if it is already locked."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)  # the garbage collector may release it in any thread
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _remove(path: Path) -> None:
    with suppress(OSError):  # another process has it open
        os.unlink(path)

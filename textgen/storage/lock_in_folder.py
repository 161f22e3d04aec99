"""Locks a folder with a file in it, on file systems without flock, such as NFS, and some kinds of Lustre, FUSE and SMB.

The file names the machine and the process that hold the folder, which touches it regularly. It is stale if that process
of this machine has ended, or if another machine has not touched it for a while. Unlike a lock of the system, it is
valid on all machines. Whoever was stopped for so long that another machine has taken its lock over finds out by the
content of the file.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from textgen.storage.file_reading import OPEN_FLAGS
from textgen.storage.files import TEMPORARY, random_hex
from textgen.storage.processes import is_running, machine_name

LOCK_FILE = ".textgen-lock"
BEAT_SECONDS = 20.0  # interval at which the holder touches the file
STALE_SECONDS = 300.0  # a file of another machine is stale if it was not touched for so long
RETRY_SECONDS = 0.01
MAX_BYTES = 1 << 12

# Whether this process still holds a folder, by device and inode
_checks: dict[tuple[int, int], Callable[[], bool]] = {}


def take(folder: int, seconds: float = 0.0) -> Callable[[], None] | None:
    """Locks a folder.

    Args:
        folder: Descriptor of the open folder, which must stay open until the lock is released: so it is released even
            if the folder has been moved.
        seconds: Maximum time to wait for the lock.

    Returns:
        A function that releases the lock. None if another process holds it.

    Raises:
        OSError: The folder cannot be written to.
    """
    until, data = time.monotonic() + seconds, json.dumps(_holder(os.getpid())).encode()
    while True:
        try:
            file = os.open(LOCK_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o666, dir_fd=folder)
        except FileExistsError:
            is_held, content = _look(folder)
            if not is_held:
                if content is not None:
                    _remove_stale(folder, content)
                continue
            if time.monotonic() >= until:
                return None
            time.sleep(RETRY_SECONDS)
            continue
        try:
            with os.fdopen(file, "wb") as open_lock:
                open_lock.write(data)
        except OSError:  # the disk is full
            with suppress(OSError):
                os.unlink(LOCK_FILE, dir_fd=folder)
            raise
        return _touched_regularly(folder, data)


def is_taken(folder: int) -> bool:
    """Checks whether a process holds a folder.

    Args:
        folder: Descriptor of the open folder.

    Raises:
        OSError: The folder cannot be read.
    """
    return _look(folder)[0]


def was_taken_over(about: os.stat_result) -> bool:
    """Checks whether another process has taken a lock of this process over.

    Args:
        about: What the system says about the folder.
    """
    keeps = _checks.get((about.st_dev, about.st_ino))
    return keeps is not None and not keeps()


def _look(folder: int) -> tuple[bool, bytes | None]:
    """Whether a process holds a folder, and the content of the lock file; None without one that can be read."""
    try:
        data, touched = _read(folder, LOCK_FILE)
    except FileNotFoundError:
        return False, None
    except PermissionError:
        os.stat(LOCK_FILE, dir_fd=folder)  # an error if it is the folder that cannot be read
        return True, None  # held by another user, as far as this one can tell
    return not _is_stale(folder, data, touched), data


def _is_stale(folder: int, data: bytes, touched: float) -> bool:
    try:
        holder = json.loads(data)
        if holder["machine"] == machine_name():
            now = _holder(holder["process"])  # without its start if it belongs to another user, under hidepid
            return not is_running(holder["process"]) or bool(now["started"] and now != holder)
    except (ValueError, KeyError, TypeError, OverflowError):  # its process is about to write it, or was killed before
        pass
    return _now(folder) - touched > STALE_SECONDS


def _holder(process: int) -> dict[str, Any]:
    """What names a process of this machine, and, where the system tells its start, no later one with its number."""
    try:
        started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = ""
    return {"machine": machine_name(), "process": process, "started": started}


def _now(folder: int) -> float:
    """The time by the clock of the file system, which may be that of another machine."""
    name = f"{TEMPORARY}{random_hex()}"
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o600, dir_fd=folder)
    except OSError:  # the folder is read-only
        return time.time()
    try:
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _read(folder: int, name: str) -> tuple[bytes, float]:
    """The content of a lock file, and when it was last touched."""
    with os.fdopen(os.open(name, os.O_RDONLY | OPEN_FLAGS, dir_fd=folder), "rb") as file:
        return file.read(MAX_BYTES), os.fstat(file.fileno()).st_mtime


def _remove_stale(folder: int, data: bytes) -> None:
    """Removes a lock file with this content, but not one by which another process has replaced it meanwhile."""
    aside = f"{TEMPORARY}{random_hex()}"
    with suppress(FileNotFoundError):
        os.rename(LOCK_FILE, aside, src_dir_fd=folder, dst_dir_fd=folder)
        if _read(folder, aside)[0] == data:
            os.unlink(aside, dir_fd=folder)
        else:
            os.rename(aside, LOCK_FILE, src_dir_fd=folder, dst_dir_fd=folder)


def _touched_regularly(folder: int, data: bytes) -> Callable[[], None]:
    """Touches the lock file in a thread until the returned function is called, which removes the file."""
    is_over, is_lost, about = threading.Event(), threading.Event(), os.fstat(folder)
    place, process = (about.st_dev, about.st_ino), os.getpid()
    last_beat = time.time()  # not `time.monotonic`, which may stand still while the machine sleeps

    def keeps() -> bool:
        try:
            if _read(folder, LOCK_FILE)[0] != data:
                is_lost.set()
        except FileNotFoundError:  # somebody has removed it, or another machine has held the folder and left it
            if time.time() - last_beat > STALE_SECONDS:
                is_lost.set()
        except OSError:
            pass
        return not is_lost.is_set()

    def touch() -> None:
        nonlocal last_beat
        while not is_over.wait(BEAT_SECONDS) and keeps():
            last_beat = time.time()
            with suppress(OSError):
                os.utime(LOCK_FILE, dir_fd=folder)

    def release(thread: threading.Thread) -> None:
        if os.getpid() != process:  # a forked child: its parent holds the folder
            return
        is_over.set()
        thread.join()
        _checks.pop(place, None)
        with suppress(OSError):  # the folder was removed
            if _read(folder, LOCK_FILE)[0] == data:
                os.unlink(LOCK_FILE, dir_fd=folder)

    _checks[place] = keeps
    thread = threading.Thread(target=touch, name="textgen-lock", daemon=True)
    thread.start()
    return partial(release, thread)

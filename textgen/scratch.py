"""Large folders in the cache while a process works in them, and what is left of them when it is killed.

A process locks what it works in, and the kernel takes the lock off when the process ends, however it ends. So a folder
without a lock is left over. It is swept by the next that needs room in the same place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

YOUNG_SECONDS = 3600.0  # since a change of a folder; it may be about to be locked, or be checked and renamed


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """While the block runs, `sweep_abandoned` leaves `folder` alone, in this process and in others."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # the file system has no locks; nothing is ever swept there
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def sweep_abandoned(folder: Path, prefix: str) -> None:
    """Removes those folders in `folder` whose names begin with `prefix` that no process has `in_use`."""
    for leftover in folder.glob(f"{prefix}*"):
        with suppress(OSError):  # somebody else was faster
            if time.time() - leftover.stat().st_mtime > YOUNG_SECONDS and not _is_in_use(leftover):
                shutil.rmtree(leftover, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    """Whether a process has the lock, or nobody can tell."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)

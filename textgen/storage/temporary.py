"""Makes folders and files among the temporary ones of the system, and says clearly where there is no room for them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

from textgen.storage.files import TMPDIR_ADVICE, CannotWrite, writing
from textgen.storage.leftovers import sweep_abandoned
from textgen.storage.locks import SharedLock
from textgen.storage.system_errors import Obstacle, reason_of

PREFIX = "textgen-tmp-"  # of the names of the folders
USUAL_PLACE = "/tmp"  # named in errors if neither TMPDIR nor any of Python's places can be used
NAME = re.compile(rf"{PREFIX}(cache-)?[a-z0-9_]{{8}}")  # the end is a random word of mkdtemp
_locks: dict[Path, SharedLock] = {}  # keep other processes from removing the folders of this one
_removers: dict[Path, Callable[[], None]] = {}  # remove the folders of this process


def new_temporary_folder(kind: str = "") -> Path:
    """Creates a folder that only the user can read. The caller removes it with `remove_temporary_folder`.

    The first call also removes such folders of this user that killed processes left more than an hour ago.

    Args:
        kind: Part of its name, such as "cache-".

    Returns:
        Path of the folder.

    Raises:
        CannotWrite: No temporary folder of the system can be written to. The message names TMPDIR.
    """
    place = _place()
    _sweep(place)
    with writing(place, TMPDIR_ADVICE):
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}", dir=place))
    _locks[folder] = SharedLock(folder)
    _removers[folder] = in_this_process(partial(shutil.rmtree, folder, ignore_errors=True))
    return folder


def remove_temporary_folder(folder: Path) -> None:
    """Removes a folder that `new_temporary_folder` has created, and all that is in it.

    Does nothing in a forked child of the process that has created it.

    Args:
        folder: Path of the folder.
    """
    remove = _removers.pop(folder, partial(shutil.rmtree, folder, ignore_errors=True))
    remove()
    _locks.pop(folder, None)


def in_this_process(clean_up: Callable[[], object]) -> Callable[[], None]:
    """Makes a function that cleans up in this process, and does nothing in forked children of it.

    A child inherits the objects of its parent, but the files that they remove are still in use by the parent.

    Args:
        clean_up: What to do in this process.

    Returns:
        The function.
    """
    process = os.getpid()

    def clean_up_here() -> None:
        if os.getpid() == process:
            clean_up()

    return clean_up_here


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Creates a folder among the temporary files of the system, and removes it after the block.

    Yields:
        Path of the folder.

    Raises:
        CannotWrite: The folder cannot be created, or the block cannot write to it. The message names TMPDIR.
    """
    folder = new_temporary_folder()
    try:
        yield folder
    except CannotWrite as error:
        if not error.path.is_relative_to(folder):
            raise
        raise error.advising(TMPDIR_ADVICE) from None
    finally:
        remove_temporary_folder(folder)


def new_temporary_file() -> IO[bytes]:
    """Creates a file without a name, which is gone once it is closed.

    Returns:
        The open file, for writing and reading.

    Raises:
        CannotWrite: No temporary folder of the system can be written to. The message names TMPDIR.
    """
    with writing(_place(), TMPDIR_ADVICE):
        return tempfile.TemporaryFile()


def _place() -> Path:
    """The folder of temporary files. Python looks for it at the first call, and raises an error if it finds none."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:  # it has found no folder with room
        place = Path(os.environ.get("TMPDIR") or USUAL_PLACE)
        raise CannotWrite(place, reason_of(error), TMPDIR_ADVICE, obstacle=Obstacle.FULL) from None


@lru_cache(maxsize=1)
def _sweep(place: Path) -> None:
    """Removes folders that killed processes have left. Those of other users or with another mode are not ours."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            about = folder.lstat()
            is_own = not hasattr(os, "getuid") or (about.st_uid == os.getuid() and stat.S_IMODE(about.st_mode) == 0o700)
            if NAME.fullmatch(folder.name) and stat.S_ISDIR(about.st_mode) and is_own:
                sweep_abandoned([folder])

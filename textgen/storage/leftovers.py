"""What processes that were killed have left: temporary files and folders, and folders moved aside but not replaced."""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from textgen.errors import TextgenError
from textgen.storage.file_replacement import rename
from textgen.storage.files import TEMPORARY, random_hex
from textgen.storage.locks import LOCK_SECONDS, lock

NEW = f"{TEMPORARY}new-"  # prefix of a folder that is being made, followed by its name and a random word
ASIDE = f"{TEMPORARY}old-"  # prefix, followed by a random word and the original name
YOUNG_SECONDS = 3600.0  # `sweep_abandoned` keeps folders modified more recently than this


def sweep(path: Path, name: str = "") -> None:
    """Removes temporary files and folders left by processes that were killed.

    Folders that another process is still writing are kept, and so is every folder if the file system does not support
    locks. A folder that was moved aside but not replaced is restored.

    Args:
        path: Folder to clean up.
        name: Only consider temporary names whose target begins with this prefix.
    """
    pattern = f"{NEW}{glob.escape(name)}*" if name else f"{TEMPORARY}*"
    leftovers = [found for found in path.glob(pattern) if not found.name.startswith(ASIDE)]
    for aside in path.glob(f"{ASIDE}*"):
        target = path / aside.name.removeprefix(ASIDE).partition("-")[2]
        if not f"{target.name}-".startswith(name):
            continue
        if os.path.lexists(target):
            leftovers.append(aside)
        else:
            with suppress(OSError):
                rename(aside, target)
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            with suppress(TextgenError, OSError):  # kept: another process is writing to it
                _remove_unheld(leftover)
        else:
            with suppress(OSError):
                leftover.unlink()


def folders_named(path: Path, names: str) -> Iterator[Path]:
    """Finds the folders in a folder whose names match a pattern, sorted by name. Links are not followed.

    Args:
        path: Path of the folder. None are found in one that is missing or cannot be read.
        names: The pattern, which a whole name matches.

    Yields:
        The paths of the folders.
    """
    with suppress(OSError):
        for found in sorted(path.iterdir()):
            if re.fullmatch(names, found.name) and found.is_dir() and not found.is_symlink():
                yield found


def sweep_abandoned(leftovers: Iterable[Path], young_seconds: float | None = None) -> None:
    """Removes folders that no process holds any more. If the file system does not support locks, all are kept.

    Folders modified lately are kept, since they may be about to be locked or renamed.

    Args:
        leftovers: Folders that textgen has made and nobody needs once no process holds them. Where a user may keep
            folders, too, such as in the cache folder, a prefix does not tell that: see `folders_named`.
        young_seconds: For how many seconds after its last change a folder is kept; `YOUNG_SECONDS` by default. 0 for
            folders that are locked from before they get their names until they are removed.
    """
    young_seconds = YOUNG_SECONDS if young_seconds is None else young_seconds
    for leftover in leftovers:
        with suppress(OSError, TextgenError):  # already removed, or in use
            if not young_seconds or time.time() - leftover.stat().st_mtime > young_seconds:
                _remove_unheld(leftover, LOCK_SECONDS)


def _remove_unheld(folder: Path, seconds: float = 0.0) -> None:
    """Removes a folder that no process holds, waiting up to `seconds` for its lock. Raises like `lock`."""
    with lock(folder, seconds) as is_held:
        if is_held:
            shutil.rmtree(folder, ignore_errors=True)


def move_aside(path: Path) -> Path:
    """Renames a file or folder to a temporary name next to it, from which `sweep` can restore it.

    Args:
        path: Path of the file or folder.

    Returns:
        The temporary path.

    Raises:
        OSError: The file or folder cannot be renamed.
    """
    aside = path.with_name(f"{ASIDE}{random_hex()}-{path.name}")
    rename(path, aside)
    return aside

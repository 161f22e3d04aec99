"""The folder for data that can be computed again, such as encoded text."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from textgen.errors import TextgenError
from textgen.storage.addresses import folder_here
from textgen.storage.files import CannotWrite
from textgen.storage.system_errors import Obstacle
from textgen.storage.temporary import new_temporary_folder, remove_temporary_folder
from textgen.wording import Say, silent

CACHE_ADVICE = dict.fromkeys(Obstacle, "Try again, or set TEXTGEN_CACHE to another folder.") | {
    Obstacle.FULL: "Free some space, delete old encoded text with `textgen cache clear`, or set TEXTGEN_CACHE to a "
    "folder with more space."
}


def cache_folder(say: Say = silent) -> Path:
    """Returns the folder for data that can be computed again, such as encoded text.

    This is $TEXTGEN_CACHE, or else `textgen` in the user's cache folder. If $TEXTGEN_CACHE is not set and the user's
    cache folder is not writable, it is a temporary folder that is removed when the program ends.

    Args:
        say: Called with a message if a temporary folder is used.

    Returns:
        Path of the folder, which may not exist yet.

    Raises:
        TextgenError: $TEXTGEN_CACHE is an address or not writable, or a temporary folder is needed and there is none.
    """
    folder = named_cache_folder()
    if folder and _is_usable(folder):
        return folder
    if folder and os.environ.get("TEXTGEN_CACHE"):
        raise TextgenError(
            f"Cannot write to {folder}, the folder in TEXTGEN_CACHE. Set TEXTGEN_CACHE to a folder that you "
            "can write to."
        )
    temporary = _temporary_cache()
    say(
        f"Cannot write to {folder or 'a cache folder, since there is no home folder'}: encoded text is kept in "
        f"{temporary} until this program ends. Set TEXTGEN_CACHE to a folder that you can write to, to keep it longer."
    )
    return temporary


def named_cache_folder() -> Path | None:
    """Returns the configured cache folder, writable or not. None if the user has no home folder.

    Raises:
        ConfigError: $TEXTGEN_CACHE is an address.
    """
    if folder := os.environ.get("TEXTGEN_CACHE"):
        return folder_here(folder, "TEXTGEN_CACHE")
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # no home folder: older versions of platformdirs return "~/..." instead
        path = user_cache_path("textgen", appauthor=False)
        return path if path.is_absolute() else None
    return None


@contextmanager
def filling_cache() -> Iterator[None]:
    """Adds to errors of writing in the block what to do if the cache cannot be written, as on a full disk.

    Raises:
        CannotWrite: The block raised `CannotWrite`. The message names TEXTGEN_CACHE.
    """
    try:
        yield
    except CannotWrite as error:
        raise error.advising(CACHE_ADVICE) from None


def _is_usable(folder: Path) -> bool:
    """Checks whether a folder is writable or can be created."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return False


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder = new_temporary_folder("cache-")
    atexit.register(remove_temporary_folder, folder)  # does nothing in a forked child
    return folder

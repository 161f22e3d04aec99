"""Copies of files and folders elsewhere, in the cache folder: their names, their last use, the room they may take.

    CACHE/remote/KEY/NAME             a file, or a folder with a manifest
    CACHE/remote/KEY/.address.json    where it comes from, without a query or a password

The copies are listed, cleared and limited like the rest of the cache (`textgen.storage.cache_eviction`).
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from textgen.storage.addresses import without_secrets
from textgen.storage.cache_eviction import evict, limit_bytes
from textgen.storage.cache_folder import cache_folder
from textgen.storage.cache_layout import ADDRESS, REMOTE
from textgen.storage.files import json_bytes, write_own_file
from textgen.storage.locks import SharedLock
from textgen.storage.names import only_words

RECENT_SECONDS = 3600.0  # seconds after its last use in which a copy is not removed to make room
LIMIT_PARTS = 100  # check the room after every 1/100 of the limit is copied

_locks: dict[Path, SharedLock] = {}  # cache entries whose files this process may still read
_unchecked = math.inf  # bytes copied since the room was last checked; the first copy of a process checks it


def entry_folder(key: str) -> Path:
    """Returns the folder of an entry of the cache.

    Args:
        key: What tells the entry from all others.
    """
    return cache_folder().absolute() / REMOTE / key


def copy_name(name: str, size: int) -> str:
    """Makes the name of a copy from a name elsewhere: at most its last `size` bytes, with the suffix.

    It is empty for what is no name of a copy, which would be the entry itself or what tells its address.

    >>> copy_name("a b/小说.txt", 7), copy_name("..", 7)
    ('说.txt', '')
    """
    name = only_words(name, ".-", "_").encode()[-size:].decode(errors="ignore")
    return "" if name in (".", "..", ADDRESS) else name


def is_copy(folder: Path) -> bool:
    """Checks whether a folder is a copy in the cache folder, or in one."""
    return folder.absolute().is_relative_to(cache_folder().absolute() / REMOTE)


def keep_copy(folder: Path) -> None:
    """Keeps the copy of a folder in the cache folder until this process ends.

    Args:
        folder: Path of the copy.
    """
    if folder.parent not in _locks:
        _locks[folder.parent] = SharedLock(folder.parent)


def mark_used(entry: Path) -> None:
    """Makes an entry the one that was used last."""
    with suppress(OSError):
        os.utime(entry)


def record_address(entry: Path, address: str) -> None:
    """Records where an entry comes from."""
    write_own_file(entry / ADDRESS, json_bytes({"address": without_secrets(address)}))


def make_room(size: int) -> None:
    """Keeps the copies within the limit of the cache, after another one of `size` bytes."""
    global _unchecked
    limit, _unchecked = limit_bytes(), _unchecked + size
    if _unchecked > limit / LIMIT_PARTS:
        _unchecked = 0.0
        evict(cache_folder().absolute() / REMOTE, limit, RECENT_SECONDS)

"""Lists and limits the cache, whose folders are in `textgen.storage.cache_layout`.

The cache folder may hold other things, too, if it is one that the user has named. They stay: what is ours is known by
its name and its contents, such as the record of a text.

Everything in the cache can be made again. A process locks what it uses (`textgen.storage.locks.SharedLock`); only what
is not locked is removed. Copies of single files, of which a corpus may have thousands, are not locked: those used
within the last hour stay, and a file that is open can be read to its end even if it is removed. Fetched texts have no
limit: they are removed only if asked for, and one that is being unpacked only if nothing was written to it for an hour.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from textgen.errors import ConfigError, TextgenError
from textgen.schema import json_object
from textgen.storage.cache_layout import (
    ADDRESS,
    CORPORA,
    DOWNLOADS,
    EPOCHS,
    LOSS,
    NETWORKS,
    REMOTE,
    SUMMARY,
    TOKENS,
    read_record,
    record_of,
)
from textgen.storage.files import FILE, FILE_OWNER, TEMPORARY
from textgen.storage.leftovers import ASIDE, YOUNG_SECONDS, folders_named, move_aside
from textgen.storage.lock_in_folder import LOCK_FILE
from textgen.storage.locks import LOCK_SECONDS, InUse, lock
from textgen.storage.manifests import MANIFEST
from textgen.wording import plain, short_repr

KINDS = {  # what an entry is, by its folder; the folders with epochs lie in the cache folder itself
    TOKENS: "corpus", NETWORKS: "8-bit network", REMOTE: "copy", CORPORA: "text", DOWNLOADS: "download",
}  # fmt: skip
LIMIT_VARIABLE = "TEXTGEN_CACHE_LIMIT"  # gigabytes of encoded corpora, of networks, of remote files, of archives
DEFAULT_LIMIT = 20.0
MAX_DESCRIPTION_BYTES = 1 << 16  # bytes of a description that are read to find the name of its corpus
KEY, RANDOM = "[0-9a-f]{32}", "[0-9a-f]{16}"  # patterns of the name of an entry, and of `random_hex`
BEGUN = f"{re.escape(TEMPORARY)}(new-)?"  # how `NEW` folders are called, here and in earlier versions
UNFINISHED = f"{BEGUN}{KEY}-{RANDOM}|{re.escape(ASIDE)}{RANDOM}-{KEY}"  # names of `unfinished` folders
EPOCHS_NAME = f"({re.escape(ASIDE)}{RANDOM}-)?{EPOCHS}[a-z0-9_]{{8}}"  # the end is that of mkdtemp
EPOCHS_CONTENTS = re.compile(  # the encoded text of each epoch, in a folder with its number
    rf"{re.escape(LOCK_FILE)}|{re.escape(TEMPORARY)}{RANDOM}"
    rf"|({BEGUN})?[0-9]+(-{RANDOM})?(/({re.escape(SUMMARY)}|{MANIFEST}|(train|valid)(-[a-z]+)?\.bin))?"
)
TEXT_LEFT = (  # name of a text of which a killed process wrote a part, here and in earlier versions
    rf"({re.escape(FILE)}{FILE_OWNER}|{re.escape(TEMPORARY)}){RANDOM}(\..*)?"
)


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache, or a fetched text.

    Attributes:
        path: The folder or the text.
        kind: What it is: one of `KINDS`, or "epochs".
        content: Names of the first files that it was made from, the name of the model or of the text, or the address;
            "" if unknown.
        bytes: Size of its files.
        used: When it was last used, in seconds since 1970.
        in_use: Whether a process uses it now. None where that cannot be told, since the file system has no locks or the
            folder cannot be opened: it is then never removed.
    """

    path: Path
    kind: str
    content: str
    bytes: int
    used: float
    in_use: bool | None


def entries(cache: Path) -> list[CacheEntry]:
    """Lists a cache folder, most recently used first. Files that do not belong to the cache are ignored."""
    found = [_entry(path) for path in (*_folders(cache), *_texts(cache))]
    return sorted((entry for entry in found if entry), key=lambda entry: -entry.used)


def clear(cache: Path) -> tuple[list[CacheEntry], list[CacheEntry]]:
    """Removes everything that no process uses, as far as that can be told.

    Returns:
        The removed entries, and the remaining ones. One of which only a part could be removed has another path.
    """
    removed, kept = list[CacheEntry](), list[CacheEntry]()
    for entry in entries(cache):
        if (left := _remove(entry.path)) is None:
            removed.append(entry)
        else:
            kept.append(entry if left == entry.path else _entry(left) or replace(entry, path=left))
    return removed, kept


def evict(shelf: Path, limit: float, spare: float = 0.0) -> None:
    """Removes entries of one kind, least recently used first. Those in use stay.

    Args:
        shelf: The folder `tokens`, `networks`, `remote` or `corpora/downloads` of a cache.
        limit: Bytes that its entries may take.
        spare: Seconds within which an entry was used to stay, too.
    """
    there = [entry for entry in map(_entry, _on_shelf(shelf)) if entry]
    total = sum(entry.bytes for entry in there)
    for entry in sorted(there, key=lambda entry: entry.used):
        if total <= limit or (spare and entry.used > time.time() - spare):
            break
        if _remove(entry.path) is None:
            total -= entry.bytes


def limit_bytes() -> float:
    """The limit of the cache in bytes.

    Raises:
        ConfigError: TEXTGEN_CACHE_LIMIT in the environment is not a number of gigabytes.
    """
    value = os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT
    with suppress(ValueError):
        if math.isfinite(gigabytes := float(value)) and gigabytes >= 0:
            return gigabytes * 1e9
    example = plain(DEFAULT_LIMIT)
    raise ConfigError(
        f"{LIMIT_VARIABLE} must be a number of gigabytes, such as {example}. Received: {short_repr(value)}."
    )


def unfinished(shelf: Path) -> Iterator[Path]:
    """Finds the folders that are being made or removed, or that killed processes have left so.

    Args:
        shelf: The folder `tokens`, `networks`, `remote` or `corpora/downloads` of a cache.

    Yields:
        The paths of the folders.
    """
    return folders_named(shelf, UNFINISHED)


def epochs_in(cache: Path) -> Iterator[Path]:
    """Finds the folders of encoded epochs in a cache folder, of running processes and of killed ones."""
    for folder in folders_named(cache, EPOCHS_NAME):
        contents = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        with suppress(OSError):
            if all(map(EPOCHS_CONTENTS.fullmatch, contents)):
                yield folder


def _folders(cache: Path) -> Iterator[Path]:
    yield from _on_shelf(cache / TOKENS)
    yield from _on_shelf(cache / NETWORKS)
    yield from _on_shelf(cache / REMOTE)
    yield from _on_shelf(cache / CORPORA / DOWNLOADS)
    yield from epochs_in(cache)


def _texts(cache: Path) -> Iterator[Path]:
    """Fetched texts, which have a record each, and what a killed process left of one; links are not followed."""
    with suppress(OSError):
        for path in sorted((cache / CORPORA).iterdir()):
            if path.is_file() and not path.is_symlink() and (_is_left(path) or read_record(path)):
                yield path


def _on_shelf(shelf: Path) -> Iterator[Path]:
    """Folders of entries: complete ones, those being made, and those that a killed process left."""
    return folders_named(shelf, f"{KEY}|{UNFINISHED}")


def _entry(path: Path) -> CacheEntry | None:
    """An entry; None if it was removed meanwhile."""
    try:
        used = path.stat().st_mtime
        files = path.rglob("*") if path.is_dir() else (path, record_of(path))
        size = sum(file.lstat().st_size for file in files if file.is_file())
    except OSError:
        return None
    return CacheEntry(path, KINDS.get(path.parent.name, "epochs"), _content(path), size, used, _is_in_use(path))


def _is_in_use(path: Path) -> bool | None:
    try:
        if path.is_file():
            return _is_being_written(path)
        with lock(path) as is_held:  # without waiting: there may be thousands of entries
            return False if is_held else None
    except TextgenError as error:
        return isinstance(error, InUse)
    except OSError:
        return None


def _is_being_written(text: Path) -> bool:
    """Whether a text that is being fetched was written to lately. Others are read at once; neither are locked."""
    with suppress(OSError):
        return _is_left(text) and text.stat().st_mtime > time.time() - YOUNG_SECONDS
    return False


def _is_left(text: Path) -> bool:
    """Whether this is a part of a text that is being written, or was when its process was killed."""
    return re.fullmatch(TEXT_LEFT, text.name) is not None


def _content(path: Path) -> str:
    with suppress(OSError):
        if path.is_file():
            return path.stem
    for name, field in ((SUMMARY, "corpus"), (LOSS, "model"), (ADDRESS, "address")):
        with suppress(OSError, ValueError), (path / name).open("rb") as file:
            return str(json_object(file.read(MAX_DESCRIPTION_BYTES)).get(field, ""))
    return ""


def _remove(path: Path) -> Path | None:
    """Removes a folder, unless a process uses it, or a text and its record.

    Returns:
        What is left of it, perhaps under another name. None if it is gone.
    """
    left = path
    with suppress(TextgenError, OSError):
        if not path.is_file():
            with lock(path, LOCK_SECONDS) as is_held:
                if is_held:
                    # moved, it is never seen half removed; one that is unfinished or was moved before is not looked at
                    left = path if path.name.startswith(TEMPORARY) else move_aside(path)
                    shutil.rmtree(left, ignore_errors=True)
        elif not _is_being_written(path):
            path.unlink()
            record_of(path).unlink(missing_ok=True)
    try:
        left.lstat()
    except FileNotFoundError:
        return None
    except OSError:  # it cannot be told
        pass
    return left

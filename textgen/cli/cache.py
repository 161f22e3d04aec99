"""textgen cache: encoded corpora, 8-bit networks, copies and fetched texts, which can all be made again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textgen.cli import output
from textgen.cli.command import CommandGroup
from textgen.cli.options import json_option

if TYPE_CHECKING:
    from textgen.storage.cache_eviction import CacheEntry


@click.group(cls=CommandGroup)
def cache() -> None:
    """List and clear the cache: encoded corpora, 8-bit networks, copies of remote files, fetched texts.

    Training keeps each corpus as token ids in the user's cache folder (~/.cache/textgen on Linux,
    ~/Library/Caches/textgen on macOS) or in the folder that TEXTGEN_CACHE names, and encodes it again if it is
    missing. The cache may grow to 20 GB, or as many gigabytes as TEXTGEN_CACHE_LIMIT says; then the least recently
    used corpora are deleted. 8-bit networks for ONNX Runtime, and copies of files and models that were read
    from an address such as s3:// or https://, are kept there too; the limit applies to each kind separately. Fetched
    texts are kept without a limit.
    """


@cache.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List what the cache holds, with its size and time of last use.

    \b
    Example:
      textgen cache list
    """
    from textgen.storage.cache_eviction import entries, limit_bytes

    folder, limit = _folder(), limit_bytes()
    found = entries(folder)
    if as_json:
        rows = [_values(entry) for entry in found]
        values = {"folder": str(folder), "limit_bytes": round(limit), "entries": rows}
        output.json_line(values, indent=2)
        return
    if found:
        output.line(f"{'SIZE':>10}  {'USED':16}  {'FOLDER':20}  {'KIND':13}  CONTENT")
    for entry in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        note = {True: " (in use)", False: "", None: " (cannot be locked)"}[entry.in_use]
        name = entry.path.name[:20]
        output.line(f"{_size(entry.bytes):>10}  {used:16}  {name:20}  {entry.kind:13}  {entry.content}{note}")
    output.line(f"{_size(_total(found))} in {folder}; the limit is {_size(limit)}.")


@cache.command()
@json_option
def clear(as_json: bool) -> None:
    """Delete everything in the cache that no running process uses.

    The command fails if a part cannot be deleted.

    \b
    Example:
      textgen cache clear
    """
    from textgen.storage import cache_eviction

    removed, kept = cache_eviction.clear(_folder())
    if as_json:
        paths = {"removed": removed, "kept": kept}
        values = {name: [str(entry.path) for entry in found] for name, found in paths.items()}
        output.json_line(values | {"bytes": _total(removed)}, indent=2)
    else:
        output.line(f"Removed {_size(_total(removed))}." if removed or not kept else "Removed nothing.")
    _say_kept(kept)


def _say_kept(kept: Sequence[CacheEntry]) -> None:
    """Says why something was kept. Fails if it could not be deleted."""
    used, idle, unknown = ([entry for entry in kept if entry.in_use is state] for state in (True, False, None))
    if used:
        output.note(f"{_size(_total(used))} in use by running processes were kept.")
    if unknown:
        output.note(
            f"{_size(_total(unknown))} in folders that cannot be locked were kept, since a process may use them. "
            f"While no textgen runs, delete {_folder()} yourself."
        )
    if idle:
        raise output.Failure(f"{_size(_total(idle))} cannot be deleted. Check the permissions of {idle[0].path}.")


def _folder() -> Path:
    from textgen.errors import TextgenError
    from textgen.storage.cache_folder import named_cache_folder

    if folder := named_cache_folder():
        return folder
    raise TextgenError("There is no cache, since there is no home folder. Set TEXTGEN_CACHE to a folder.")


def _values(entry: CacheEntry) -> dict[str, object]:
    """An entry for programs."""
    return asdict(entry) | {"path": str(entry.path)}


def _total(entries: Sequence[CacheEntry]) -> int:
    return sum(entry.bytes for entry in entries)


def _size(count: float) -> str:
    """Bytes, for people.

    >>> _size(1_234_000)
    '1.2 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"

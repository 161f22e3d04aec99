"""Folders elsewhere that have a manifest, such as saved models: copied into the cache folder and checked.

The place of a folder in the cache is made of its manifest, and each of its files is checked against it. A file of a
copy that was removed, cut off or changed since is copied again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from textgen.errors import RemoteError, SavedModelError
from textgen.storage.addresses import join_address, without_secrets
from textgen.storage.cache_folder import filling_cache
from textgen.storage.file_reading import sha256
from textgen.storage.file_replacement import rename
from textgen.storage.file_systems import attempts, is_there, open_file_system
from textgen.storage.files import TEMPORARY, random_hex, writing
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import sweep
from textgen.storage.manifests import MANIFEST, MANIFEST_BYTES, decoded_manifest, is_file_name, read_manifest
from textgen.storage.remote_cache import copy_name, entry_folder, keep_copy, make_room, mark_used, record_address
from textgen.storage.remote_files import RemoteFile, find_files
from textgen.wording import counted

NAME_BYTES = 200  # maximum length of the name of a copy; its temporary name is longer
Entries = dict[str, dict[str, Any]]  # of a manifest, by the name of the file: its size in bytes, its sha256 in hex


def fetch_folder(address: str, limits: Mapping[str, float] | None = None, needed: Collection[str] = ()) -> Path:
    """Copies a folder with a manifest, such as a saved model, into the cache folder, as far as it is not there.

    Args:
        address: Address of the folder.
        limits: The largest size in bytes of each file that is copied, by name; by default all files are copied.
        needed: Names of files without which it is another kind of folder, of which nothing is copied.

    Returns:
        Path of the copy.

    Raises:
        RemoteError: There is no such folder, it lacks a file or has one that is too large, or a file differs from the
            manifest.
        CannotWrite: The cache folder is full.
    """
    address = address.rstrip("/")
    data, entries = _remote_manifest(address)
    if limits is not None:
        entries = _wanted(address, entries, limits, needed)
    key = hashlib.sha256(data).hexdigest()[:32]
    name = copy_name(without_secrets(address).split("::")[0].rpartition("/")[2], NAME_BYTES) or "folder"
    target = entry_folder(key) / name
    with filling_cache():
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        keep_copy(target)
        if _complete(address, entries, target):
            record_address(target.parent, address)
            make_room(sum(entry["size"] for entry in entries.values()))
    mark_used(target.parent)
    return target


def fetch_subfolder(address: str, target: Path) -> None:
    """Copies a folder with a manifest to a place within one that was fetched, as far as it is not there.

    Args:
        address: Address of the folder.
        target: Where to copy it.

    Raises:
        RemoteError: There is no such folder, or a file differs from the manifest.
        CannotWrite: The cache folder is full.
    """
    entries = _entries_in(target)
    if not entries or _damaged(target, entries):
        with filling_cache():
            _complete(address, _remote_manifest(address)[1], target)


def has_remote_file(address: str, name: str) -> bool:
    """Checks whether a folder elsewhere has a file of a name.

    Args:
        address: Address of the folder.
        name: Name of the file.

    Raises:
        RemoteError: The other side cannot be reached, or the library for it is not installed.
    """
    system, path = open_file_system(join_address(address, name))
    there = False
    for attempt in attempts(address):
        with attempt:
            there = is_there(system, path)
    return there


def _complete(address: str, entries: Entries, target: Path) -> bool:
    """Copies a folder, or the files of a copy that are damaged. Returns whether there were any.

    Other processes may read the copy meanwhile, so each file is replaced by one that is complete.
    """
    if _entries_in(target) != entries:
        sweep(target.parent, f"{target.name}-")
        with new_folder(target, unless=lambda: _entries_in(target) == entries) as temporary:
            for name, entry in entries.items():
                _copy_file(address, name, entry, temporary / name)
        return True
    damaged = _damaged(target, entries)
    for name in damaged:
        temporary = target / f"{TEMPORARY}{random_hex()}"
        try:
            _copy_file(address, name, entries[name], temporary)
            with writing(target):
                rename(temporary, target / name, replace=True)
        finally:
            with suppress(OSError):  # renamed already; or another error tells more
                temporary.unlink()
    if damaged:
        with writing(target):
            os.utime(target / MANIFEST)  # newer than its files again
    return bool(damaged)


def _copy_file(address: str, name: str, entry: Mapping[str, Any], path: Path) -> None:
    """Copies a file of a folder. Raises `RemoteError` if it differs from its entry in the manifest."""
    file = _only_file(join_address(address, name))
    with writing(path):
        file.copy_to(path, entry["size"])
    if sha256(path) != entry["sha256"]:
        place = without_secrets(file.address)
        raise RemoteError(f"{place} differs from the manifest of its folder. Copy it there again.")


def _entries_in(target: Path) -> Entries:
    """The entries in the manifest of a copy; none without a copy, or if its manifest is damaged."""
    try:
        return _known(read_manifest(target)["files"])
    except SavedModelError:
        return {}


def _damaged(target: Path, entries: Entries) -> list[str]:
    """Names of the files of a copy that are missing or were changed.

    A file is written before the manifest, so only one that is not older than the manifest is read. If all are right,
    the manifest is touched, so that none is read again.
    """
    written = (target / MANIFEST).stat().st_mtime_ns
    found = [name for name, entry in entries.items() if not _is_as_listed(target / name, entry, written)]
    if not found and any((target / name).stat().st_mtime_ns >= written for name in entries):
        with suppress(OSError):
            os.utime(target / MANIFEST)
    return found


def _is_as_listed(path: Path, entry: Mapping[str, Any], written: int) -> bool:
    try:
        about = path.lstat()
        is_whole = stat.S_ISREG(about.st_mode) and about.st_size == entry["size"]
        return is_whole and (about.st_mtime_ns < written or sha256(path) == entry["sha256"])
    except OSError:
        return False


def _known(entries: Mapping[str, Any]) -> Entries:
    """The parts of the entries of a manifest that are read here."""
    return {name: {"size": entry["size"], "sha256": entry["sha256"]} for name, entry in entries.items()}


def _remote_manifest(address: str) -> tuple[bytes, Entries]:
    """Reads the manifest of a remote folder. Raises `RemoteError` if it is damaged or names a file outside it."""
    file = _only_file(join_address(address, MANIFEST))
    data = file.head(MANIFEST_BYTES)
    try:
        entries = _known(decoded_manifest(data)["files"])
    except ValueError as error:
        raise RemoteError(
            f"{without_secrets(file.address)} is damaged: {error}. Copy the folder there again."
        ) from None
    for name in entries:
        if not is_file_name(name) or name == MANIFEST:
            raise RemoteError(
                f"The manifest of {without_secrets(address)} names {name!r}, which is no name of another file in its "
                "folder."
            )
    return data, entries


def _wanted(address: str, entries: Entries, limits: Mapping[str, float], needed: Collection[str]) -> Entries:
    """The entries of the files that are copied. Raises `RemoteError` if one is missing or too large."""
    if missing := [name for name in needed if name not in entries]:
        raise RemoteError(
            f"The manifest of {without_secrets(address)} does not name {missing[0]}, so it is another kind of folder. "
            "Check the address, or copy the folder there again."
        )
    found = {name: entry for name, entry in entries.items() if name in limits}
    for name, entry in found.items():
        if entry["size"] > limits[name]:
            place = without_secrets(join_address(address, name))
            raise RemoteError(
                f"{place} has more than {limits[name]:,} bytes, the limit for such a file. Check the address, or copy "
                "the folder there again."
            )
    return found


def _only_file(address: str) -> RemoteFile:
    """Finds the file at an address. Raises `RemoteError` for a folder, and for a pattern of several files."""
    files = find_files(address)
    if len(files) > 1:
        raise RemoteError(
            f"There are {counted(len(files), 'file')} at {without_secrets(address)}, where one is expected. "
            "Check the address."
        )
    return files[0]

"""Folders elsewhere that have a manifest, such as saved models: copied into the cache folder and checked.

The place of a folder in the cache is made of its manifest, and each of its files is checked against it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.errors import RemoteError
from textgen.storage.addresses import join_address, without_secrets
from textgen.storage.cache_folder import filling_cache
from textgen.storage.file_systems import attempts, is_there, open_file_system
from textgen.storage.files import writing
from textgen.storage.folders import MANIFEST, MANIFEST_BYTES, decoded_manifest, new_folder, sweep
from textgen.storage.remote_cache import copy_name, entry_folder, keep_copy, make_room, mark_used, record_address
from textgen.storage.remote_files import RemoteFile, find_files
from textgen.wording import counted

NAME_BYTES = 200  # maximum length of the name of a copy; its temporary name is longer


def fetch_folder(address: str) -> Path:
    """Copies a folder with a manifest, such as a saved model, into the cache folder, unless it is there.

    Args:
        address: Address of the folder.

    Returns:
        Path of the copy.

    Raises:
        RemoteError: There is no such folder, or a file differs from the manifest.
        CannotWrite: The cache folder is full.
    """
    address = address.rstrip("/")
    data, entries = _remote_manifest(address)
    key = hashlib.sha256(data).hexdigest()[:32]
    name = copy_name(without_secrets(address).split("::")[0].rpartition("/")[2], NAME_BYTES) or "folder"
    target = entry_folder(key) / name
    with filling_cache():
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        keep_copy(target)
        if not (target / MANIFEST).exists():
            _copy_folder(address, entries, target)
            record_address(target.parent, address)
            make_room(sum(file.stat().st_size for file in target.iterdir()))
    mark_used(target.parent)
    return target


def fetch_subfolder(address: str, target: Path) -> None:
    """Copies a folder with a manifest to a place within one that was fetched, unless it is there.

    Args:
        address: Address of the folder.
        target: Where to copy it.

    Raises:
        RemoteError: There is no such folder, or a file differs from the manifest.
        CannotWrite: The cache folder is full.
    """
    if not (target / MANIFEST).exists():
        with filling_cache():
            _copy_folder(address, _remote_manifest(address)[1], target)


def has_file(address: str, name: str) -> bool:
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


def _copy_folder(address: str, entries: Mapping[str, Any], target: Path) -> None:
    sweep(target.parent, f"{target.name}-")
    with new_folder(target, unless=(target / MANIFEST).exists) as temporary:  # another process may read what is there
        for name, entry in entries.items():
            if Path(name).name != name or name in ("", "..", MANIFEST):
                raise RemoteError(
                    f"The manifest of {without_secrets(address)} names {name!r}, which is outside its folder."
                )
            file = _only_file(join_address(address, name))
            path = temporary / name
            with writing(path):
                file.copy_to(path, entry["size"])
            with path.open("rb") as copy:
                digest = hashlib.file_digest(copy, "sha256").hexdigest()
            if digest != entry["sha256"]:
                place = without_secrets(file.address)
                raise RemoteError(f"{place} differs from the manifest of its folder. Copy it there again.")


def _remote_manifest(address: str) -> tuple[bytes, dict[str, Any]]:
    file = _only_file(join_address(address, MANIFEST))
    data = file.head(MANIFEST_BYTES)
    try:
        entries: dict[str, Any] = decoded_manifest(data)["files"]
    except ValueError as error:
        raise RemoteError(
            f"{without_secrets(file.address)} is damaged: {error}. Copy the folder there again."
        ) from None
    return data, entries


def _only_file(address: str) -> RemoteFile:
    """Finds the file at an address. Raises `RemoteError` for a folder, and for a pattern of several files."""
    files = find_files(address)
    if len(files) > 1:
        raise RemoteError(
            f"There are {counted(len(files), 'file')} at {without_secrets(address)}, where one is expected. "
            "Check the address."
        )
    return files[0]

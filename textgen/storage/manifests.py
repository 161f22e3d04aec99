"""Manifests: the size and SHA-256 checksum of each file of a folder, and updates of several files at once.

Folders may come from untrusted sources: links in them are not followed, and file sizes are limited by the kind of file.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from textgen.errors import SavedModelError, Unreadable
from textgen.schema import check, json_object
from textgen.storage.file_reading import open_file, read_file, sha256
from textgen.storage.file_replacement import first_mode, keep_access, rename, sync_folder, write_through
from textgen.storage.files import json_bytes, write_own_file, writing
from textgen.storage.locks import Gone, make_folder, require_held
from textgen.storage.system_errors import cannot_read

MANIFEST = "MANIFEST.json"
MANIFEST_BYTES = 1 << 22  # maximum size of a manifest: enough for tens of thousands of files
LINES_BYTES = 1 << 24  # maximum size of a file whose line ends are examined if it is damaged: no text is larger
RESTORE = "Restore the folder from a backup."
COPY_AGAIN = "Copy the whole folder again."  # advice where one file does not go with the others
COPY = "Copy the whole folder again, or train the model again."
COMMITTED_ADVICE = "The new files are complete, and the next save puts them in place."
PENDING = ".new"  # suffix of a file that is listed in the manifest but not yet renamed into place


def update_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Replaces or adds several files in a folder with a manifest, in one transaction.

    New files are written as `NAME.new`. Replacing the manifest commits the transaction, and then the files are renamed
    into place. After a crash between these steps, `verified` finds a file under either name.

    Args:
        path: Path of the folder. It is created if it does not exist.
        files: New contents by file name.

    Raises:
        Gone: The folder is held by this process, and was moved, removed or taken over.
        TextgenError: The folder cannot be written.
        Unreadable: A file cannot be read that is not replaced, or that an interrupted update has left.
        SavedModelError: The manifest is damaged, or a file that is not replaced is damaged.
    """
    with writing(path):
        make_folder(path)
        entries = _settled_entries(path, files)
        manifest = json_bytes({"files": entries | {name: manifest_entry(data) for name, data in files.items()}})
        try:
            for name, data in files.items():
                _write_pending(path, name, data)
            sync_folder(path)
            require_held(path)
            write_own_file(path / MANIFEST, manifest)
        except Gone:  # the new files may be those of the process that has the folder now
            raise
        except BaseException:  # a signal, too
            if not _may_be_committed(path, manifest):
                _drop_pending(path, files)
            raise
    with writing(path, COMMITTED_ADVICE):
        for name in files:
            rename(path / f"{name}{PENDING}", path / name, replace=True)
        sync_folder(path)


def _settled_entries(path: Path, replaced: Collection[str]) -> dict[str, Any]:
    """Finishes the renames of an interrupted update, and returns the entries of the manifest; none without one.

    Args:
        path: Path of the folder.
        replaced: Names of the files that will be replaced: these may be damaged.

    Raises:
        OSError: The disk does not tell whether there is a manifest, or a file cannot be renamed.
        SavedModelError: As for `update_folder`.
    """
    try:
        (path / MANIFEST).lstat()
    except FileNotFoundError:
        return {}
    entries: dict[str, Any] = read_manifest(path)["files"]
    for name, entry in entries.items():
        try:
            settled = verified(path, name, entry)
        except SavedModelError as error:
            may_be_pending = isinstance(error, Unreadable) and os.path.lexists(path / f"{name}{PENDING}")
            if name not in replaced or may_be_pending:
                raise
            continue
        if settled.name != name:
            rename(settled, path / name, replace=True)
        else:  # the same content, which the interrupted update had written again, or what was never committed
            _drop_pending(path, [name])
    sync_folder(path)
    return entries


def manifest_entry(file: Path | bytes) -> dict[str, Any]:
    """Describes a file for a manifest.

    Args:
        file: Path of the file, or its content.

    Returns:
        Its `size` in bytes and its `sha256` in hex.

    Example:
        >>> manifest_entry(b"abc")["size"]
        3
    """
    if isinstance(file, Path):
        return {"size": file.stat().st_size, "sha256": sha256(file)}
    return {"size": len(file), "sha256": hashlib.sha256(file).hexdigest()}


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a folder.

    Args:
        path: Path of the folder.

    Returns:
        The manifest. `manifest["files"]` maps file names to entries with `size` in bytes and `sha256` in hex.

    Raises:
        Unreadable: The manifest cannot be read, and may be intact.
        SavedModelError: The manifest is missing or damaged.
    """
    try:
        return decoded_manifest(read_file(path / MANIFEST, MANIFEST_BYTES))
    except FileNotFoundError:
        raise SavedModelError(f"{path} has no {MANIFEST}: it is incomplete, or textgen did not write it.") from None
    except OSError as error:
        raise cannot_read(path / MANIFEST, error, RESTORE) from None
    except ValueError as error:
        raise SavedModelError(f"{path / MANIFEST} is damaged: {error}. {RESTORE}") from None


def decoded_manifest(data: bytes) -> dict[str, Any]:
    """Decodes and checks a manifest.

    Args:
        data: Content of the file.

    Returns:
        The manifest; see `read_manifest`.

    Raises:
        ValueError: The data is no manifest.
    """
    manifest = json_object(data)
    check(manifest, {"files": {str: {"size": int, "sha256": str}}})
    return manifest


def is_file_name(name: str) -> bool:
    """Checks whether a name from a manifest may be that of a file in its folder: one part of a path, with no NUL.

    Args:
        name: The name. JSON can hold half of a character, which no file system can.

    Example:
        >>> [is_file_name(name) for name in ("config.json", "a/b", "..", "a\\0b", "\\ud800")]
        [True, False, False, False, False]
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return Path(name).name == name and name not in ("", "..") and "\0" not in name


def verified(path: Path, name: str, entry: Mapping[str, Any], limit: float = math.inf) -> Path:
    """Verifies a file against its entry in the manifest.

    Args:
        path: Path of the folder.
        name: Name of the file.
        entry: Entry of the manifest, with `size` in bytes and `sha256` in hex.
        limit: Largest size in bytes. The checksum of a larger file is not computed, which could take minutes.

    Returns:
        Path of the file: `name`, or `name` with the suffix `PENDING` after an interrupted update.

    Raises:
        Unreadable: The file cannot be read, and may be intact.
        SavedModelError: The file is missing, damaged or too large, or its name is not a plain file name.
    """
    if not is_file_name(name):
        raise SavedModelError(f"{path / MANIFEST} names {name!r}, which is no name of a file in its folder.")
    if entry["size"] > limit:
        raise SavedModelError(
            f"Cannot read {path / name}: it has more than {limit:,} bytes, the limit for such a file. {COPY}"
        )
    found = None
    for candidate in (path / name, path / f"{name}{PENDING}"):
        try:
            with open_file(candidate) as file:
                size = os.fstat(file.fileno()).st_size
            found = size if found is None else found
            if size == entry["size"] and sha256(candidate) == entry["sha256"]:
                return candidate
        except FileNotFoundError:
            continue
        except OSError as error:
            raise cannot_read(candidate, error, COPY) from None
    if found is None:
        raise SavedModelError(f"{path / name} is missing. {COPY}")
    if _has_other_line_ends(path / name, entry):
        raise SavedModelError(
            f"{path / name} is damaged: its line ends were changed, as git does on Windows. Run `git config "
            "core.autocrlf false`, so that it does not, and copy the whole folder again."
        )
    what = f"is {found:,} bytes long, not {entry['size']:,}" if found != entry["size"] else "was altered"
    raise SavedModelError(f"{path / name} {what}. {COPY}")


def _has_other_line_ends(path: Path, entry: Mapping[str, Any]) -> bool:
    """Returns whether a file is that of its entry but for the line ends of Windows. False for large files."""
    try:
        data = read_file(path, LINES_BYTES).replace(b"\r\n", b"\n")
    except OSError:
        return False
    return len(data) == entry["size"] and hashlib.sha256(data).hexdigest() == entry["sha256"]


def _may_be_committed(folder: Path, manifest: bytes) -> bool:
    """Whether the manifest of a folder is this one, or cannot be read."""
    try:
        return read_file(folder / MANIFEST, MANIFEST_BYTES) == manifest
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _drop_pending(folder: Path, names: Iterable[str]) -> None:
    """Removes the files that are not in the manifest yet: they may be large, and the disk full."""
    for name in names:
        with suppress(OSError):
            (folder / f"{name}{PENDING}").unlink()


def _write_pending(folder: Path, name: str, data: bytes) -> None:
    """Writes a file that is not in the manifest yet. A partly written file is removed on failure."""
    path = folder / f"{name}{PENDING}"
    path.unlink(missing_ok=True)  # removes a link, too
    try:
        write_through(path, data, first_mode(folder / name))
        keep_access(path, folder / name)
    except OSError:
        _drop_pending(folder, [name])
        raise

"""Writes folders atomically and verifies their files.

A folder contains a `MANIFEST.json` with the size and SHA-256 checksum of each of its files. Folders may come from
untrusted sources: links in them are never followed, for reading or for writing, and file sizes are limited by the kind
of file.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from textgen.errors import SavedModelError, TextgenError
from textgen.schema import check, json_object
from textgen.storage.files import (
    TEMPORARY,
    check_folder_writable,
    first_mode,
    is_desktop_file,
    json_bytes,
    keep_access,
    open_file,
    random_hex,
    read_file,
    sha256,
    sync_file,
    sync_folder,
    write_own_file,
    write_through,
    writing,
)
from textgen.storage.locks import LOCK_SECONDS, drop_lock_file, lock, locked, make_folder, require_held
from textgen.wording import counted

MANIFEST = "MANIFEST.json"
MANIFEST_BYTES = 1 << 22  # maximum size of a manifest: enough for tens of thousands of files
PENDING = ".new"  # suffix of a file that is listed in the manifest but not yet renamed into place
ASIDE = f"{TEMPORARY}old-"  # prefix, followed by a random word and the original name
NAME_BYTES = 255 - len(f"{ASIDE}-") - 16  # longest name of a new folder, so that there is room for a temporary one
DESKTOP_NAMES = (".ds_store", ".localized", ".directory")  # in lower case: how macOS and KDE show a folder
APPLE_PREFIX = "._"  # of the files in which macOS keeps the attributes of others, on disks that have none
YOUNG_SECONDS = 3600.0  # `sweep_abandoned` keeps folders modified more recently than this


@contextmanager
def new_folder(
    path: Path, *, replace: bool = True, unlisted: Collection[str] = (), unless: Callable[[], bool] = lambda: False
) -> Iterator[Path]:
    """Creates a folder atomically.

    The block writes files to a temporary folder, which gets a manifest and is renamed to `path` if the block ends
    without an error. The temporary folder is locked meanwhile, so that `sweep` of another process does not remove it.
    What killed processes have left of the same folder is removed.
    Errors raised in the block are not converted: use `writing` in the block for clear messages.

    Args:
        path: Path of the new folder.
        replace: Whether to replace an existing folder. If False, only a folder that no other process holds is replaced,
            which is empty but for files of desktops.
        unlisted: Names of files that the manifest leaves out, because they may be changed later.
        unless: Called once all is written; if it returns True, what was written is dropped.

    Yields:
        Path of the temporary folder.

    Raises:
        Gone: A folder above it that this process holds was moved, removed or taken over.
        InUse: Another process holds the empty folder that would be replaced.
        TextgenError: The folder cannot be written, or exists and `replace` is False; or the path ends in no name.
    """
    refuse_nameless(path)
    with ExitStack() as stack:
        with writing(path):
            make_folder(path.parent)
            sweep(path.parent, f"{path.name}-")
            temporary = _begin_folder(path, stack)
        try:
            yield temporary
            with writing(path):
                _sync_all(temporary)
                files = sorted(file for file in temporary.iterdir() if file.is_file())
                listed = [file for file in files if file.name not in unlisted]
                manifest = {file.name: manifest_entry(file) for file in listed}
                write_through(temporary / MANIFEST, json_bytes({"files": manifest}))
                sync_folder(temporary)
                if not unless():
                    require_held(path)
                    (replace_folder if replace else _rename_new)(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(path.parent)


def names_besides_desktop(path: Path) -> list[str]:
    """Lists the names in a folder, sorted, without those of the files that desktops put there unasked.

    Args:
        path: Path of the folder.

    Raises:
        OSError: The folder cannot be read.
    """
    return sorted(name for name in os.listdir(path) if not is_from_desktop(path / name))


def is_from_desktop(path: Path) -> bool:
    """Checks whether a desktop put a file into a folder that somebody has looked at, copied or opened.

    Args:
        path: Path of the file. A folder or a link with such a name is somebody's own.
    """
    name = path.name
    is_called_so = is_desktop_file(name) or name.lower() in DESKTOP_NAMES or name.startswith(APPLE_PREFIX)
    return is_called_so and path.is_file() and not path.is_symlink()


def has_name(path: Path) -> bool:
    """Checks whether the last part of a path is a name, unlike in `.`, `..` and `/`."""
    return path.name not in ("", "..")


def refuse_nameless(path: Path) -> None:
    """Checks that the path of a new folder ends in a name, since the folder is made beside that path and renamed.

    Args:
        path: Path of the folder.

    Raises:
        TextgenError: It ends in `.` or `..`, or is empty.
    """
    if not has_name(path):
        raise TextgenError(f"Cannot write {path}: it is a folder that exists. Choose a name.")


def check_new_folder(path: Path) -> None:
    """Checks that `new_folder` can make a folder. Call it before long work, so that its result is not lost.

    Args:
        path: Path of the folder. What is there is not checked, except that it can be replaced.

    Raises:
        TextgenError: The path ends in no name or a name that is too long, or is that of a mounted disk; or the folder
            in which it would be made is not writable.
    """
    refuse_nameless(path)
    if len(os.fsencode(path.name)) > NAME_BYTES:
        raise TextgenError(
            f"Cannot write {path}: its name has {counted(len(os.fsencode(path.name)), 'byte')}, and a temporary name "
            f"beside it has more. Choose a name of at most {counted(NAME_BYTES, 'byte')}."
        )
    if os.path.ismount(path):
        raise TextgenError(
            f"Cannot write {path}: a disk is mounted there, so it cannot be replaced. Name a folder in it."
        )
    check_folder_writable(path.parent)


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
        SavedModelError: The manifest is damaged, or a file that is not replaced is damaged.
    """
    with writing(path):
        make_folder(path)
        entries = read_manifest(path)["files"] if os.path.lexists(path / MANIFEST) else {}
        for name, entry in entries.items():  # finish the renames of an interrupted update
            with suppress(SavedModelError) if name in files else nullcontext():  # damaged files are replaced
                settled = verified(path, name, entry)
                if settled.name != name:
                    os.replace(settled, path / name)
        sync_folder(path)
        for name, data in files.items():
            _write_pending(path, name, data)
            entries[name] = manifest_entry(data)
        sync_folder(path)
        require_held(path)
        write_own_file(path / MANIFEST, json_bytes({"files": entries}))
        for name in files:
            os.replace(path / f"{name}{PENDING}", path / name)
        sync_folder(path)


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
        SavedModelError: The manifest is missing or damaged, or cannot be read.
    """
    try:
        return decoded_manifest(read_file(path / MANIFEST, MANIFEST_BYTES))
    except FileNotFoundError:
        raise SavedModelError(f"{path} has no {MANIFEST}: it is incomplete, or textgen did not write it.") from None
    except OSError as error:
        raise SavedModelError(f"Cannot read {path / MANIFEST}: {error.strerror}.") from None
    except ValueError as error:
        raise SavedModelError(f"{path / MANIFEST} is damaged: {error}. Restore the folder from a backup.") from None


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


def verified(path: Path, name: str, entry: Mapping[str, Any]) -> Path:
    """Verifies a file against its entry in the manifest.

    Args:
        path: Path of the folder.
        name: Name of the file.
        entry: Entry of the manifest, with `size` in bytes and `sha256` in hex.

    Returns:
        Path of the file: `name`, or `name` with the suffix `PENDING` after an interrupted update.

    Raises:
        SavedModelError: The file is missing, damaged or unreadable, or its name is not a plain file name.
    """
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise SavedModelError(f"{path / MANIFEST} names {name!r}, which is outside its folder.")
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
            raise SavedModelError(f"Cannot read {candidate}: {error.strerror}.") from None
    if found is None:
        raise SavedModelError(f"{path / name} is missing. Copy the whole folder again, or train the model again.")
    what = f"is {found:,} bytes long, not {entry['size']:,}" if found != entry["size"] else "was altered"
    raise SavedModelError(f"{path / name} {what}. Copy the whole folder again, or train the model again.")


def refuse_links(folder: Path) -> None:
    """Checks that a folder contains only regular files and folders, recursively.

    Args:
        folder: Path of the folder.

    Raises:
        SavedModelError: There is a link, a pipe or a device, or the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    refuse_links(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    what = "a link" if entry.is_symlink() else "neither a file nor a folder"
                    raise SavedModelError(
                        f"{entry.path} is {what}, which a model folder must not contain. Remove it, or replace it "
                        "with a copy of its target."
                    )
    except OSError as error:
        raise SavedModelError(f"Cannot read {error.filename or folder}: {error.strerror or error}.") from None


def sweep(path: Path, name: str = "") -> None:
    """Removes temporary files and folders left by processes that were killed.

    Folders that another process is still writing are kept, and so is every folder if the file system does not support
    locks. A folder that was moved aside but not replaced is restored.

    Args:
        path: Folder to clean up.
        name: Only consider temporary names whose target begins with this prefix.
    """
    leftovers = list(path.glob(f"{TEMPORARY}{glob.escape(name)}*"))
    for aside in path.glob(f"{ASIDE}*"):
        target = path / aside.name.removeprefix(ASIDE).partition("-")[2]
        if not f"{target.name}-".startswith(name):
            continue
        if os.path.lexists(target):
            leftovers.append(aside)
        else:
            with suppress(OSError):
                os.rename(aside, target)
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            with suppress(TextgenError, OSError), lock(leftover) as is_held:  # kept: another process is writing to it
                if is_held:
                    shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def folders_named(path: Path, names: str) -> Iterator[Path]:
    """Finds the folders in a folder whose names match a pattern, sorted by name. Links are not followed.

    Args:
        path: Path of the folder. None are found in one that is missing or cannot be read.
        names: The pattern, which a whole name matches.
    """
    with suppress(OSError):
        for found in sorted(path.iterdir()):
            if re.fullmatch(names, found.name) and found.is_dir() and not found.is_symlink():
                yield found


def sweep_abandoned(leftovers: Iterable[Path]) -> None:
    """Removes folders that no process holds any more. If the file system does not support locks, all are kept.

    Folders modified within the last `YOUNG_SECONDS` are kept, since they may be about to be locked or renamed.

    Args:
        leftovers: Folders that textgen has made and nobody needs once no process holds them. Where a user may keep
            folders, too, such as in the cache folder, a prefix does not tell that: see `folders_named`.
    """
    for leftover in leftovers:
        with suppress(OSError, TextgenError):  # already removed, or in use
            if time.time() - leftover.stat().st_mtime > YOUNG_SECONDS:
                with lock(leftover, LOCK_SECONDS) as is_held:
                    if is_held:
                        shutil.rmtree(leftover, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Renames a folder, replacing an existing target. The old target is restored on failure.

    Args:
        source: The folder.
        target: Its new path, in the same file system.

    Raises:
        OSError: The folder cannot be renamed.
    """
    if not os.path.lexists(target):
        os.rename(source, target)
        return
    aside = move_aside(target)
    try:
        os.rename(source, target)
    except OSError:
        os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


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
    os.rename(path, aside)
    return aside


def _begin_folder(path: Path, stack: ExitStack) -> Path:
    """Creates a temporary folder next to `path`, locked until `stack` is closed."""
    while True:
        temporary = path.with_name(f"{TEMPORARY}{path.name}-{random_hex()}")
        temporary.mkdir()
        with suppress(TextgenError, FileNotFoundError):  # removed by `sweep` of another process before it was locked
            stack.enter_context(lock(temporary))
            if temporary.exists():
                return temporary


def _sync_all(folder: Path) -> None:
    """Flushes all files below a folder to disk, and the names in the folders within it."""
    for place, folders, names in os.walk(folder):
        for file in (Path(place, name) for name in sorted(names)):
            if file.is_file():
                sync_file(file)
        for name in folders:
            sync_folder(Path(place, name))


def _rename_new(source: Path, target: Path) -> None:
    """Renames a folder to a target that does not exist or is an empty folder, which no other process holds.

    Files of desktops do not count.
    """
    if not target.is_dir():
        os.rename(source, target)
        return
    with locked(target):  # a training holds its empty folder until it has learned a vocabulary
        drop_lock_file(target)
        if not names_besides_desktop(target):
            for name in os.listdir(target):
                (target / name).unlink()
        _rename_over(source, target)


def _rename_over(source: Path, target: Path) -> None:
    """Renames a folder to that of an empty folder."""
    try:
        os.rename(source, target)
    except FileExistsError:
        if os.name == "posix":  # os.rename already replaces empty folders, so the target is not empty
            raise
        target.rmdir()
        os.rename(source, target)


def _write_pending(folder: Path, name: str, data: bytes) -> None:
    """Writes a file that is not in the manifest yet. A partly written file is removed on failure."""
    path = folder / f"{name}{PENDING}"
    path.unlink(missing_ok=True)  # removes a link, too
    try:
        write_through(path, data, first_mode(folder / name))
        keep_access(path, folder / name)
    except OSError:
        path.unlink(missing_ok=True)
        raise

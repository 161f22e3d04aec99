"""Writes folders atomically: under a temporary name first, which is renamed when all is there and flushed to disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from textgen.errors import SavedModelError, TextgenError
from textgen.storage.file_replacement import exchange, rename, sync_file, sync_folder, write_through
from textgen.storage.files import check_folder_writable, json_bytes, random_hex, writing
from textgen.storage.leftovers import ASIDE, NEW, move_aside, sweep
from textgen.storage.locks import drop_lock_file, lock, locked, make_folder, require_held
from textgen.storage.manifests import MANIFEST, manifest_entry
from textgen.storage.names import names_besides_desktop
from textgen.storage.system_errors import cannot_read
from textgen.wording import counted

NAME_BYTES = 255 - len(f"{ASIDE}-") - 16  # longest name of a new folder, so that there is room for a temporary one


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
        raise cannot_read(Path(error.filename or folder), error) from None


def replace_folder(source: Path, target: Path) -> None:
    """Renames a folder, replacing an existing target. The old target is restored on failure.

    On Linux, and where the file system can, the two folders change their names in one step, so that there is always one
    at the target. Elsewhere a process that is killed between two renames leaves the old one under a temporary name, to
    which `sweep` gives its own again.

    Args:
        source: The folder.
        target: Its new path, in the same file system.

    Raises:
        OSError: The folder cannot be renamed.
    """
    if not os.path.lexists(target):
        rename(source, target)
        return
    if target.is_dir() and not target.is_symlink() and exchange(source, target):
        shutil.rmtree(source, ignore_errors=True)
        return
    aside = move_aside(target)
    try:
        rename(source, target)
    except OSError:
        rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _begin_folder(path: Path, stack: ExitStack) -> Path:
    """Creates a temporary folder next to `path`, locked until `stack` is closed."""
    while True:
        temporary = path.with_name(f"{NEW}{path.name}-{random_hex()}")
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
        rename(source, target)
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
        rename(source, target)
    except FileExistsError:
        if os.name == "posix":  # `os.rename` already replaces empty folders, so the target is not empty
            raise
        target.rmdir()
        rename(source, target)

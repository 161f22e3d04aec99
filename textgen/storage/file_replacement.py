"""Steps of replacing a file: flushing it to disk, renaming it, keeping the mode and owner of the one replaced."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from textgen.storage.file_reading import OPEN_FLAGS

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2 of Linux
HELD_ERRORS = (5, 32)  # errors of Windows: access denied and sharing violation
RENAME_PAUSES = tuple(0.05 * 2**n for n in range(5)) if os.name == "nt" else ()  # seconds; elsewhere no file is held


def rename(source: Path, target: Path, *, replace: bool = False) -> None:
    """Renames a file or folder.

    On Windows nothing can be renamed while another program has it open. Virus scanners and search indexes open what is
    new for some milliseconds, so the call is repeated there for 1.5 seconds.

    Args:
        source: Path of the file or folder.
        target: Its new path, in the same file system.
        replace: Whether to replace an existing file on Windows, too, as `os.replace` does.

    Raises:
        OSError: It cannot be renamed.
    """
    function = os.replace if replace else os.rename
    for pause in RENAME_PAUSES:
        try:
            function(source, target)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in HELD_ERRORS:
                raise
        time.sleep(pause)
    function(source, target)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges the names of two folders in one step, where the system and the file system can: on Linux.

    Args:
        one: Path of a folder.
        other: Path of another folder in the same file system.

    Returns:
        Whether they were exchanged. If not, both are as they were.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # another C library, or an old one
        return False
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return bool(function(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


def first_mode(target: Path) -> int:
    """Returns the permission bits with which to create a file that will replace another: that one may be private.

    Args:
        target: Path of the file that it will replace, if there is one.
    """
    return 0o666 if _mode(target) is None else 0o600


def keep_access(path: Path, target: Path, *, keeps_mode: bool = True) -> None:
    """Gives a file the mode of the regular file that it will replace and, where allowed, its owner and its group.

    If the group cannot be kept, the group of the file gets the rights that others had.

    Args:
        path: Path of the file, which was created with `first_mode`.
        target: Path of the file that it will replace. Without one nothing changes.
        keeps_mode: False to keep only the owner and the group.
    """
    if (mode := _mode(target)) is None:
        return
    if hasattr(os, "chown"):
        about = target.lstat()
        for owner in (about.st_uid, -1):  # only root may change an owner
            with suppress(OSError):
                os.chown(path, owner, about.st_gid)
                break
        if path.lstat().st_gid != about.st_gid:
            mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    if keeps_mode:
        with suppress(OSError):  # the file system does not support modes
            path.chmod(mode)


def write_through(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Creates a file and flushes it to disk. The file may be incomplete after an error.

    Args:
        path: Path of the file, which must not exist.
        data: Content.
        mode: Permission bits, to which the umask applies.

    Raises:
        OSError: The file exists or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Flushes a file to disk.

    Args:
        path: Path of the file.

    Raises:
        OSError: The file cannot be flushed.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flushes the names in a folder to disk, where the file system can.

    Args:
        path: Path of the folder.
    """
    with suppress(OSError):  # not every file system can flush a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode(path: Path) -> int | None:
    """Returns the permission bits of a regular file, or None if there is none."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return found & 0o777 if stat.S_ISREG(found) else None

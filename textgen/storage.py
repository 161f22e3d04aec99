"""Writes files and folders atomically, verifies them, and locks folders.

Every write goes to a temporary name next to its target, is flushed to disk, and is then renamed. A folder contains a
`MANIFEST.json` with the size and SHA-256 checksum of each of its files.

Folders may come from untrusted sources. Links in them are never followed, for reading or for writing, and file sizes
are limited by the kind of file. Temporary names are random, and temporary files are created exclusively.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from textgen import lock_files
from textgen.errors import SavedModelError, TextgenError
from textgen.wording import json_text

MANIFEST = "MANIFEST.json"
PENDING = ".new"  # suffix of a file that is listed in the manifest but not yet renamed into place
TEMPORARY = ".tmp-"  # prefix of temporary names
YOUNG_SECONDS = 3600.0  # `sweep_abandoned` keeps folders modified more recently than this
ASIDE = f"{TEMPORARY}old-"  # prefix, followed by a random word and the original name
MANIFEST_BYTES = 1 << 22  # maximum size of a manifest: enough for tens of thousands of files
LOCK_SECONDS = 0.2  # how long `locked` waits, since `is_locked` holds a lock for a moment
HAS_FLOCK = find_spec("fcntl") is not None  # False on Windows
OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))  # flags that this system has
DO_NOT_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe returns without waiting for its other end
HOLD_TRIES, HOLD_SECONDS = 100, 0.01
_SEEKING = threading.Lock()  # guards seek and read on systems without os.pread


def cache_folder(say: Callable[[str], None] = lambda line: None) -> Path:
    """Returns the folder for data that can be computed again, such as encoded text.

    This is $TEXTGEN_CACHE, or else `textgen` in the user's cache folder. If $TEXTGEN_CACHE is not set and the user's
    cache folder is not writable, it is a temporary folder that is removed when the program ends.

    Args:
        say: Called with a message if a temporary folder is used.

    Returns:
        Path of the folder, which may not exist yet.

    Raises:
        TextgenError: $TEXTGEN_CACHE is not writable.
    """
    folder = named_cache_folder()
    if folder and _is_usable(folder):
        return folder
    if folder and os.environ.get("TEXTGEN_CACHE"):
        raise TextgenError(
            f"Cannot write to {folder}, where TEXTGEN_CACHE says: set it to a folder that you can write to."
        )
    temporary = _temporary_cache()
    say(
        f"Cannot write to {folder or 'a cache folder, since there is no home folder'}: encoded text is kept in "
        f"{temporary} until this program ends. Set TEXTGEN_CACHE to a folder that you can write to, to keep it longer."
    )
    return temporary


def named_cache_folder() -> Path | None:
    """Returns the configured cache folder, writable or not. None if the user has no home folder."""
    if folder := os.environ.get("TEXTGEN_CACHE"):
        return Path(folder)
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # no home folder: older versions of platformdirs return "~/..." instead
        path = user_cache_path("textgen", appauthor=False)
        return path if path.is_absolute() else None
    return None


def _is_usable(folder: Path) -> bool:
    """Checks whether a folder is writable or can be created."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return False


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder, process = tempfile.mkdtemp(prefix="textgen-cache-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not in a forked child
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def write_file(path: Path, data: bytes) -> None:
    """Writes a file atomically: a crash leaves either the old or the new content.

    An existing file keeps its mode. If `path` is a link, the file that it points to is replaced. Use `write_own_file`
    in folders that textgen manages.

    Args:
        path: Path of the file.
        data: New content.

    Raises:
        TextgenError: The file cannot be written.
    """
    with writing(path):
        _replace(Path(os.path.realpath(path)), data)


def write_own_file(path: Path, data: bytes) -> None:
    """Writes a file in a folder managed by textgen, like `write_file`, but replaces links instead of following them.

    Args:
        path: Path of the file.
        data: New content.

    Raises:
        TextgenError: The file cannot be written.
    """
    with writing(path):
        _replace(path, data)


@contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Creates a folder atomically.

    The block writes files to a temporary folder, which gets a manifest and is renamed to `path` if the block ends
    without an error. The temporary folder is locked meanwhile, so that `sweep` of another process does not remove it.
    Errors raised in the block are not converted: use `writing` in the block for clear messages.

    Args:
        path: Path of the new folder.
        replace: Whether to replace an existing folder. If False, only an empty folder is replaced.

    Yields:
        Path of the temporary folder.

    Raises:
        TextgenError: The folder cannot be written, or exists and `replace` is False.
    """
    with ExitStack() as stack:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = _begin_folder(path, stack)
        try:
            yield temporary
            with writing(path):
                files = sorted(file for file in temporary.iterdir() if file.is_file())
                for file in files:
                    _sync_file(file)
                manifest = {file.name: {"size": file.stat().st_size, "sha256": sha256(file)} for file in files}
                _write_through(temporary / MANIFEST, json_bytes({"files": manifest}))
                _sync_folder(temporary)
                (_rename_folder if replace else _rename_new)(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


def _begin_folder(path: Path, stack: ExitStack) -> Path:
    """Creates a temporary folder next to `path`, locked until `stack` is closed."""
    while True:
        temporary = path.with_name(f"{TEMPORARY}{path.name}-{_random_word()}")
        temporary.mkdir()
        with suppress(TextgenError, FileNotFoundError):  # removed by `sweep` of another process before it was locked
            stack.enter_context(_lock(temporary))
            if temporary.exists():
                return temporary


def update_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Replaces or adds several files in a folder with a manifest, in one transaction.

    New files are written as `NAME.new`. Replacing the manifest commits the transaction, and then the files are renamed
    into place. After a crash between these steps, `verified` finds a file under either name.

    Args:
        path: Path of the folder. It is created if it does not exist.
        files: New contents by file name.

    Raises:
        TextgenError: The folder cannot be written.
        SavedModelError: The manifest is damaged, or a file that is not replaced is damaged.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        entries = read_manifest(path)["files"] if os.path.lexists(path / MANIFEST) else {}
        for name, entry in entries.items():  # finish the renames of an interrupted update
            with suppress(SavedModelError) if name in files else nullcontext():  # damaged files are replaced
                settled = verified(path, name, entry)
                if settled.name != name:
                    os.replace(settled, path / name)
        _sync_folder(path)
        for name, data in files.items():
            _write_pending(path / f"{name}{PENDING}", data)
            entries[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        _sync_folder(path)
        write_own_file(path / MANIFEST, json_bytes({"files": entries}))
        for name in files:
            os.replace(path / f"{name}{PENDING}", path / name)
        _sync_folder(path)


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
        manifest = json.loads(read_file(path / MANIFEST, MANIFEST_BYTES))
        for entry in manifest["files"].values():
            if not (isinstance(entry["size"], int) and isinstance(entry["sha256"], str)):
                raise ValueError("a size or a checksum is of the wrong type")
    except FileNotFoundError:
        raise SavedModelError(f"{path} has no {MANIFEST}: it was not written to its end, or is not ours.") from None
    except OSError as error:
        raise SavedModelError(f"Cannot read {path / MANIFEST}: {error.strerror}.") from None
    except KeyError as error:
        raise SavedModelError(f"{path / MANIFEST} lacks {error}. Take the folder from a backup.") from None
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise SavedModelError(f"{path / MANIFEST} is damaged: {error}. Take the folder from a backup.") from None
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


def open_file(path: Path) -> BinaryIO:
    """Opens a regular file for reading, without following a link.

    Only the last component of the path is checked: links in its parent folders are followed.

    Args:
        path: Path of the file.

    Returns:
        The open file.

    Raises:
        OSError: The file cannot be opened, or is a link, a folder, a pipe or a device. `strerror` is the reason.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS | DO_NOT_WAIT)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise OSError(error.errno, "it is a link, and no link in such a folder is followed", str(path)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_file(path: Path, limit: int) -> bytes:
    """Reads a file of limited size.

    Args:
        path: Path of the file.
        limit: Maximum size in bytes.

    Returns:
        The content of the file.

    Raises:
        OSError: The file is larger than `limit`, or `open_file` cannot open it.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= limit and len(data := file.read(size + 1)) <= limit:
            return data
    raise OSError(errno.EFBIG, f"it has more than the {limit:,} bytes that such a file can have", str(path))


def read_at(descriptor: int, size: int, start: int) -> bytes:
    """Reads bytes from a position of an open file. Safe to call from several threads.

    Args:
        descriptor: File descriptor.
        size: Number of bytes to read.
        start: Offset in bytes.

    Returns:
        The bytes, fewer than `size` at the end of the file.
    """
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, start)
    with _SEEKING:
        os.lseek(descriptor, start, os.SEEK_SET)
        data = b""
        while len(data) < size and (part := os.read(descriptor, size - len(data))):
            data += part
    return data


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
                        f"{entry.path} is {what}, and textgen follows none in the folder of a model. Remove it, or put "
                        "a copy of what it leads to in its place."
                    )
    except OSError as error:
        raise SavedModelError(f"Cannot read {error.filename or folder}: {error.strerror or error}.") from None


def json_bytes(value: Any) -> bytes:
    """Encodes a value as indented JSON in UTF-8."""
    return f"{json_text(value, indent=2)}\n".encode()


def sha256(path: Path) -> str:
    """Computes the SHA-256 checksum of a file.

    Args:
        path: Path of the file.

    Returns:
        The checksum in hex.

    Raises:
        OSError: `open_file` cannot open the file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def sweep(path: Path, name: str = "") -> None:
    """Removes temporary files and folders left by processes that were killed.

    Folders that another process is still writing are kept. A folder that was moved aside but not replaced is restored.

    Args:
        path: Folder to clean up.
        name: Only consider temporary names whose target begins with this prefix.
    """
    for leftover in path.glob(f"{ASIDE}*"):
        target = path / leftover.name.removeprefix(ASIDE).partition("-")[2]
        if f"{target.name}-".startswith(name) and not os.path.lexists(target):
            with suppress(OSError):
                os.rename(leftover, target)
    for leftover in path.glob(f"{TEMPORARY}{name}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            with suppress(TextgenError, OSError), _lock(leftover):  # kept: another process is writing to it
                shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def sweep_abandoned(path: Path, name: str) -> None:
    """Removes folders that no process holds with `locked` any more.

    Folders modified within the last `YOUNG_SECONDS` are kept, since they may be about to be locked or renamed.

    Args:
        path: Folder to clean up.
        name: Prefix of the names of the folders to remove.
    """
    for leftover in path.glob(f"{name}*"):
        with suppress(OSError, TextgenError):  # already removed, or in use
            if time.time() - leftover.stat().st_mtime > YOUNG_SECONDS:
                with locked(leftover) as is_held:
                    if is_held:
                        shutil.rmtree(leftover, ignore_errors=True)


class InUse(TextgenError):
    """Raised when another process has locked a folder."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds an exclusive lock on a folder during the block.

    The system releases the lock when the process ends, even if it is killed.

    Args:
        path: Path of the folder.

    Yields:
        Whether the folder is locked. False if the file system does not support locks.

    Raises:
        InUse: Another process holds the folder.
        TextgenError: The folder cannot be opened, or was moved or removed meanwhile.
    """
    with ExitStack() as stack:
        with writing(path):
            is_held = stack.enter_context(_lock(path, LOCK_SECONDS))
        yield is_held


@contextmanager
def _lock(path: Path, seconds: float = 0.0) -> Iterator[bool]:
    release, is_held = _take(path, alone=True, seconds=seconds)
    try:
        yield is_held
    finally:
        release()


def _take(path: Path, *, alone: bool, seconds: float = 0.0) -> tuple[Callable[[], None], bool]:
    """Locks a folder, waiting at most `seconds`.

    Returns:
        A function that releases the lock, and whether the folder is locked (False without support for locks).
    """
    if not HAS_FLOCK:
        return _take_file(path, alone=alone, seconds=seconds)
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    release = partial(os.close, descriptor)
    try:
        is_held = _try_lock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, seconds)
    except OSError:  # the file system does not support locks
        return release, False
    if is_held and (_is_at(os.fstat(descriptor), path) or not alone):
        return release, True
    release()
    raise _moved(path) if is_held else _in_use(path)


def _take_file(path: Path, *, alone: bool, seconds: float) -> tuple[Callable[[], None], bool]:
    """Locks a folder like `_take`, but with a lock file."""
    about = path.stat()
    try:
        release = lock_files.take(path, alone=alone, seconds=seconds)
    except OSError:  # the temporary folder is not writable
        return lambda: None, False
    if release is None:
        raise _in_use(path)
    if alone and not _is_at(about, path):
        release()
        raise _moved(path)
    return release, True


def _in_use(path: Path) -> InUse:
    return InUse(f"Another process is writing to {path}: wait for it to end, or choose another name.")


def _moved(path: Path) -> TextgenError:
    return TextgenError(f"Another process has moved or removed {path}. Look what is there, and try again.")


class Hold:
    """Holds a shared lock on a folder for as long as the object exists.

    Several objects and processes may hold a folder. Meanwhile `locked` raises `InUse`, so `sweep_abandoned` keeps the
    folder. Has no effect if the folder cannot be locked.

    Args:
        path: Path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._release: Callable[[], None] | None = None
        for _ in range(HOLD_TRIES):  # `sweep_abandoned` may hold it exclusively for a moment
            with suppress(OSError):
                try:
                    self._release, _ = _take(path, alone=False)
                except InUse:
                    time.sleep(HOLD_SECONDS)
                    continue
            return

    def __del__(self) -> None:
        if release := getattr(self, "_release", None):
            release()


def is_locked(path: Path) -> bool | None:
    """Checks whether any process, including this one, holds a folder with `locked`.

    Args:
        path: Path of the folder.

    Returns:
        Whether the folder is held. None if it does not exist or the file system does not support locks.
    """
    with suppress(OSError):  # the folder does not exist, or the file system does not support locks
        if not HAS_FLOCK:
            return lock_files.is_taken(path)
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Converts errors of writing in the block, such as a full disk or no permission, to `TextgenError`.

    Args:
        path: Path of the file or folder being written, for the error message.

    Raises:
        TextgenError: The block raised `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise TextgenError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder; "
            "what was there before is untouched."
        ) from None


def check_writable(path: Path) -> None:
    """Checks that `write_file` can write a file. Call it before long work, so that its result is not lost.

    Args:
        path: Path of the file.

    Raises:
        TextgenError: The parent folder does not exist or is not writable.
    """
    if not path.parent.is_dir():
        raise TextgenError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    with writing(path), tempfile.TemporaryFile(dir=path.resolve().parent):
        pass


def _try_lock(descriptor: int, kind: int, seconds: float = 0.0) -> bool:
    """Tries for `seconds` to get a lock. Raises `OSError` if the file system does not support locks."""
    import fcntl

    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        else:
            return True


def _is_at(about: os.stat_result, path: Path) -> bool:
    """Checks whether `path` is still the same file or folder."""
    try:
        return os.path.samestat(about, path.stat())
    except OSError:
        return False


def _replace(target: Path, data: bytes) -> None:
    """Replaces a file atomically, keeping the mode of an existing regular file."""
    temporary = target.with_name(f"{TEMPORARY}{_random_word()}")
    mode = _mode(target)
    try:
        _write_through(temporary, data, 0o666 if mode is None else 0o600)  # keep private files private
        if mode is not None:
            with suppress(OSError):  # the file system does not support modes
                temporary.chmod(mode)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _mode(path: Path) -> int | None:
    """Returns the permission bits of a regular file, or None if there is none."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return found & 0o777 if stat.S_ISREG(found) else None


def _random_word() -> str:
    """Returns an unpredictable part of a temporary name."""
    return secrets.token_hex(8)


def move_aside(path: Path) -> Path:
    """Renames a file or folder to a temporary name next to it, from which `sweep` can restore it.

    Args:
        path: Path of the file or folder.

    Returns:
        The temporary path.

    Raises:
        OSError: The file or folder cannot be renamed.
    """
    aside = path.with_name(f"{ASIDE}{_random_word()}-{path.name}")
    os.rename(path, aside)
    return aside


def _rename_new(source: Path, target: Path) -> None:
    """Renames a folder to a target that does not exist or is an empty folder."""
    try:
        os.rename(source, target)
    except FileExistsError:
        if os.name == "posix":  # os.rename already replaces empty folders, so the target is not empty
            raise
        target.rmdir()
        os.rename(source, target)


def _rename_folder(source: Path, target: Path) -> None:
    """Renames a folder, replacing an existing target. The old target is restored on failure."""
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


def _write_through(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Creates a file exclusively and flushes it to disk. The umask applies to `mode`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_pending(path: Path, data: bytes) -> None:
    """Writes a file that is not in the manifest yet. A partly written file is removed on failure."""
    path.unlink(missing_ok=True)  # removes a link, too
    try:
        _write_through(path, data)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    with suppress(OSError):  # not every file system can flush a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

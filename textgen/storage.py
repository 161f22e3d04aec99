"""Files and folders that are whole or not there.

Everything that textgen writes goes to a temporary name beside its target, is flushed to the disk, and is
renamed. A folder carries a `MANIFEST.json` with the size and sha256 of each of its files.

Such a folder may come from somebody else. No link in it is followed, for reading or writing, and no file of it is
read that is larger than its kind can be. Temporary names are random, and a file is created under them or not at all.
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
PENDING = ".new"  # a file that the manifest already counts on, not yet renamed into place
TEMPORARY = ".tmp-"
YOUNG_SECONDS = 3600.0  # since a folder was changed
ASIDE = f"{TEMPORARY}old-"  # then a random word and the name that the folder had
MANIFEST_BYTES = 1 << 22  # at most: tens of thousands of files
LOCK_SECONDS = 0.2  # that a lock is waited for: somebody may be looking whether it is held
HAS_FLOCK = find_spec("fcntl") is not None  # not on Windows
OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))  # each where it exists
DO_NOT_WAIT = getattr(os, "O_NONBLOCK", 0)  # for the other end of a pipe
HOLD_TRIES, HOLD_SECONDS = 100, 0.01
_SEEKING = threading.Lock()  # held while the place in a file is in use, where a file cannot be read at a place


def cache_folder(say: Callable[[str], None] = lambda line: None) -> Path:
    """Where work that can be redone is kept: $TEXTGEN_CACHE, else textgen in the user's cache folder.

    Where nobody named one and that cannot be written to, it is a temporary one, until the program ends; `say` is told.
    Raises `TextgenError` where $TEXTGEN_CACHE cannot be written to.
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
    """The cache folder by the environment, whether it can be used or not; None for a user without a home folder."""
    if folder := os.environ.get("TEXTGEN_CACHE"):
        return Path(folder)
    from platformdirs import user_cache_path

    folder_of_user = user_cache_path("textgen", appauthor=False)
    return folder_of_user if folder_of_user.is_absolute() else None  # "~/...": no home folder


def _is_usable(folder: Path) -> bool:
    """Whether a folder can be written to, or made."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except OSError:
        return False


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder, process = tempfile.mkdtemp(prefix="textgen-cache-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # not a fork of it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def write_file(path: Path, data: bytes) -> None:
    """Writes `data` to a file of the user's so that a crash leaves either the old one or the new one.

    The file keeps its mode. Where `path` is a link, what it leads to is written.
    """
    with writing(path):
        _replace(Path(os.path.realpath(path)), data)


def write_own_file(path: Path, data: bytes) -> None:
    """Like `write_file`, in a folder that is textgen's: a link in the place of the file is replaced, not followed."""
    with writing(path):
        _replace(path, data)


@contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder that becomes `path`, with a manifest, when the block ends without an error.

    What is there already is replaced; without `replace` it stays, unless it is an empty folder, and this fails. Until
    then the folder is locked, so that nobody takes it for one that a killed process left. Errors of the block are its
    own: it says itself what it could not write, by `writing`.
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
    """A temporary folder beside `path`, locked until the stack is left."""
    while True:
        temporary = path.with_name(f"{TEMPORARY}{path.name}-{_random_word()}")
        temporary.mkdir()
        with suppress(TextgenError, FileNotFoundError):  # somebody who sweeps was faster
            stack.enter_context(_lock(temporary))
            if temporary.exists():
                return temporary


def update_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Replaces or adds `files` in a folder with a manifest, all of them or none.

    The new contents are written beside the old as `NAME.new`; renaming the manifest is the moment at
    which they count; then they are renamed into place. `verified` finds a file under either name.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        entries = read_manifest(path)["files"] if os.path.lexists(path / MANIFEST) else {}
        for name, entry in entries.items():  # what an interrupted update left unrenamed is put in place first
            with suppress(SavedModelError) if name in files else nullcontext():  # damage is mended by `files`
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
    """The manifest of a folder. Raises `SavedModelError` where it is missing or damaged."""
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
    """Where the file `name` of a folder is, once its size and checksum agree with the manifest's `entry`."""
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
    """Opens a file for reading. Raises `OSError`, with a reason for people, for a link, a folder, a pipe or a device.

    The rest of the path is the caller's to choose: only its last part is looked at.
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
    """All of a file, if it has at most `limit` bytes. Raises `OSError` as `open_file` does, and for a larger file."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= limit and len(data := file.read(size + 1)) <= limit:
            return data
    raise OSError(errno.EFBIG, f"it has more than the {limit:,} bytes that such a file can have", str(path))


def read_at(descriptor: int, size: int, start: int) -> bytes:
    """Reads `size` bytes of an open file from the byte `start`; fewer at its end. Threads may read at the same time."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, start)
    with _SEEKING:
        os.lseek(descriptor, start, os.SEEK_SET)
        data = b""
        while len(data) < size and (part := os.read(descriptor, size - len(data))):
            data += part
    return data


def refuse_links(folder: Path) -> None:
    """Raises `SavedModelError` for a link, a pipe or a device anywhere below `folder`: nothing there is followed."""
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
    """JSON for people and programs: UTF-8, indented."""
    return f"{json_text(value, indent=2)}\n".encode()


def sha256(path: Path) -> str:
    """Checksum of a file, in hex."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def sweep(path: Path, name: str = "") -> None:
    """Removes temporary files and folders that a killed process left in `path`, of targets that begin with `name` only.

    Folders that another process is writing stay. One that was moved aside and not yet replaced is put back.
    """
    for leftover in path.glob(f"{ASIDE}*"):
        target = path / leftover.name.removeprefix(ASIDE).partition("-")[2]
        if f"{target.name}-".startswith(name) and not os.path.lexists(target):
            with suppress(OSError):
                os.rename(leftover, target)
    for leftover in path.glob(f"{TEMPORARY}{name}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            with suppress(TextgenError, OSError), _lock(leftover):  # another process is writing there
                shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def sweep_abandoned(path: Path, name: str) -> None:
    """Removes those folders in `path` whose names begin with `name` that no process holds with `locked` any more.

    Young ones stay: they may be about to be locked, or to be renamed.
    """
    for leftover in path.glob(f"{name}*"):
        with suppress(OSError, TextgenError):  # somebody was faster, or works in it
            if time.time() - leftover.stat().st_mtime > YOUNG_SECONDS:
                with locked(leftover) as is_held:
                    if is_held:
                        shutil.rmtree(leftover, ignore_errors=True)


class InUse(TextgenError):
    """Another process has locked a folder."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds the folder `path` alone. Raises `InUse` if another process holds it, `TextgenError` if it was moved away.

    Nothing is left behind, however the process ends. File systems that know no such locks do without: it gives False.
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
    """Locks a folder, and waits for it so many `seconds`; gives the release, and whether there are locks here."""
    if not HAS_FLOCK:
        return _take_file(path, alone=alone, seconds=seconds)
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    release = partial(os.close, descriptor)
    try:
        is_held = _try_lock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, seconds)
    except OSError:  # a file system that knows no locks
        return release, False
    if is_held and (_is_at(os.fstat(descriptor), path) or not alone):
        return release, True
    release()
    raise _moved(path) if is_held else _in_use(path)


def _take_file(path: Path, *, alone: bool, seconds: float) -> tuple[Callable[[], None], bool]:
    """The same by a lock file, which stands for the folder."""
    about = path.stat()
    try:
        release = lock_files.take(path, alone=alone, seconds=seconds)
    except OSError:  # the temporary folder takes no files
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
    """Keeps a folder from being taken for one that nobody uses, for as long as this object is referred to.

    Many may hold a folder; nobody has it alone (`locked`) meanwhile. Where it cannot be held, it is not.
    """

    def __init__(self, path: Path) -> None:
        self._release: Callable[[], None] | None = None
        for _ in range(HOLD_TRIES):  # whoever looks if a folder is in use has it alone for a moment
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
    """Whether a process, which may be this one, holds the folder `path` with `locked`; None where nobody can tell."""
    with suppress(OSError):  # it is missing, or its file system knows no locks
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
    """Turns a failure to write (full disk, no permission, read-only) into one clear line."""
    try:
        yield
    except OSError as error:
        raise TextgenError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder; "
            "what was there before is untouched."
        ) from None


def check_writable(path: Path) -> None:
    """Raises `TextgenError` for a file that `write_file` could not write: said before long work, nothing is lost."""
    if not path.parent.is_dir():
        raise TextgenError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    with writing(path), tempfile.TemporaryFile(dir=path.resolve().parent):
        pass


def _try_lock(descriptor: int, kind: int, seconds: float = 0.0) -> bool:
    """Whether a lock could be had in that time. Raises `OSError` where there are none."""
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
    """Whether `path` still leads to what was there."""
    try:
        return os.path.samestat(about, path.stat())
    except OSError:
        return False


def _replace(target: Path, data: bytes) -> None:
    """Puts a new file in the place of what is there, with the mode of a file that was."""
    temporary = target.with_name(f"{TEMPORARY}{_random_word()}")
    mode = _mode(target)
    try:
        _write_through(temporary, data, 0o666 if mode is None else 0o600)  # what was private is never open to others
        if mode is not None:
            with suppress(OSError):  # its file system has no modes
                temporary.chmod(mode)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _mode(path: Path) -> int | None:
    """Who may do what with a file; None where there is none."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return found & 0o777 if stat.S_ISREG(found) else None


def _random_word() -> str:
    """A part of a temporary name that nobody can know beforehand."""
    return secrets.token_hex(8)


def move_aside(path: Path) -> Path:
    """Renames what is at `path` to a temporary name beside it, which `sweep` knows, and gives that."""
    aside = path.with_name(f"{ASIDE}{_random_word()}-{path.name}")
    os.rename(path, aside)
    return aside


def _rename_new(source: Path, target: Path) -> None:
    """Renames a folder where there is none, or an empty one."""
    try:
        os.rename(source, target)
    except FileExistsError:
        if os.name == "posix":  # it replaces an empty folder by itself
            raise
        target.rmdir()
        os.rename(source, target)


def _rename_folder(source: Path, target: Path) -> None:
    """Renames over a folder that may be there already: it is moved aside first, and back on failure."""
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
    """Writes a file that is not there yet; `mode` is what the process's umask leaves of it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_pending(path: Path, data: bytes) -> None:
    """Writes a file on which no manifest counts yet; what a full disk took of it is removed."""
    path.unlink(missing_ok=True)  # also a link
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

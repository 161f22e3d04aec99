"""Locks on folders, exclusive or shared, that the system releases when a process ends.

Where the file system has no such locks, `locked` makes a lock file in the folder (`textgen.storage.lock_in_folder`).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from textgen.errors import TextgenError
from textgen.storage import lock_files, lock_in_folder
from textgen.storage.files import CannotWrite, writing
from textgen.wording import Say

HAS_FLOCK = find_spec("fcntl") is not None  # False on Windows
LOCK_SECONDS = 0.2  # seconds that `locked` waits, since `is_locked` holds a lock for a moment
WAIT_SECONDS = 0.1  # seconds between two attempts of `locked_in_turn`
LOOK_SECONDS = 2.0  # seconds between two looks of `wait_until_free`
HOLD_TRIES, HOLD_SECONDS = 100, 0.01
READ_ONLY_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)  # of a folder in which this process can make no file

_held: dict[str, list[os.stat_result]] = {}  # folders that this process holds with `locked`, by absolute path


class InUse(TextgenError):
    """Raised when another process has locked a folder."""


class Gone(TextgenError):
    """Raised when another process has moved, removed or taken over a folder that was locked or was to be locked."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds an exclusive lock on a folder during the block.

    The system releases the lock when the process ends, even if it is killed. If the file system does not support locks,
    a lock file in the folder takes their place, which does not keep others from holding the folder with `SharedLock`.

    Args:
        path: Path of the folder.

    Yields:
        Whether the folder is locked. False if the file system does not support locks, and the folder is read-only.

    Raises:
        InUse: Another process holds the folder.
        Gone: The folder was moved or removed meanwhile.
        TextgenError: The folder cannot be opened.
    """
    with ExitStack() as stack:
        with writing(path):
            about = path.stat()
            is_held = stack.enter_context(lock(path, LOCK_SECONDS, with_file=True))
        stack.enter_context(_remembered(path, about))
        yield is_held


def require_held(path: Path) -> Path | None:
    """Checks that a folder which this process holds with `locked` is still where it was locked, and still held.

    Call it before writing by path: a lock goes with a folder that is moved, and another process may have made a new
    folder in its place. A lock file may have been taken over while this process was stopped. A path that is neither
    held nor in a held folder passes.

    Args:
        path: Path of a file or folder, which need not exist.

    Returns:
        The innermost held folder at or above the path. None if there is none.

    Raises:
        Gone: A held folder was moved, removed or taken over.
    """
    found = None
    absolute = Path(os.path.abspath(path))
    for place in (absolute, *absolute.parents):
        for about in _held.get(str(place), ()):
            if not _is_at(about, place):
                raise Gone(
                    f"{place} was moved or removed while this process was writing to it, so nothing more is written "
                    "there. If it was moved, go on with it under its new name; if it was removed, start again."
                )
            if lock_in_folder.was_taken_over(about):
                raise Gone(
                    f"Another process may have taken over {place}, since this one gave no sign of life for a while. "
                    "So nothing more is written there. Let the other process go on, or start again when it has ended."
                )
            found = found or place
    return found


def remove_empty(path: Path) -> None:
    """Removes a folder that this process holds with `locked`, if it is empty but for its lock.

    Args:
        path: Path of the folder.

    Raises:
        OSError: The folder holds something, or cannot be removed.
    """
    if os.listdir(path) == [lock_in_folder.LOCK_FILE]:
        drop_lock_file(path)
    path.rmdir()


def drop_lock_file(path: Path) -> None:
    """Removes the lock file, if there is one, from a folder that this process holds, so that it can be replaced."""
    (path / lock_in_folder.LOCK_FILE).unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, but never again one that this process holds with `locked`.

    Args:
        path: Path of the folder, which may exist.

    Raises:
        Gone: A held folder was moved, removed or taken over.
        OSError: The folder cannot be made.
    """
    held = require_held(path)
    if held is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    for part in Path(os.path.abspath(path)).relative_to(held).parts:
        held /= part
        held.mkdir(exist_ok=True)


@contextmanager
def locked_in_turn(path: Path, say: Say) -> Iterator[bool]:
    """Makes a folder and holds an exclusive lock on it during the block, after all other processes that hold it.

    Args:
        path: Path of the folder. It is made again if another process removes it meanwhile.
        say: Called once with a message if another process holds the folder.

    Yields:
        Whether the folder is locked. False if the file system does not support locks, and the folder is read-only.

    Raises:
        CannotWrite: The folder cannot be made or opened.
    """
    has_waited = False
    with ExitStack() as stack:
        while True:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
            try:
                is_held = stack.enter_context(locked(path))
                break
            except InUse:
                if not has_waited:
                    say(_waiting(path))
                has_waited = True
                time.sleep(WAIT_SECONDS)
            except Gone:
                continue
            except CannotWrite:
                if path.exists():
                    raise
        yield is_held


def wait_until_free(path: Path, say: Say) -> bool:
    """Waits for a process that holds a folder with `locked`, for as long as the lock of one that was killed may last.

    A lock file of another machine, and a lock in a file system of another machine, end only some time after their
    process.

    Args:
        path: Path of the folder.
        say: Called once with a message if another process holds the folder.

    Returns:
        Whether no process holds the folder any more.
    """
    until, has_waited = time.monotonic() + lock_in_folder.STALE_SECONDS + lock_in_folder.BEAT_SECONDS, False
    while is_locked(path):
        if time.monotonic() >= until:
            return False
        if not has_waited:
            say(_waiting(path))
        has_waited = True
        time.sleep(LOOK_SECONDS)
    return True


def _waiting(path: Path) -> str:
    return f"Another process is writing to {path}: waiting for it to end."


class SharedLock:
    """Holds a shared lock on a folder until it is released, at the latest when the object is gone.

    Several objects and processes may hold a folder. Meanwhile `locked` raises `InUse`, so `sweep_abandoned` keeps the
    folder. Has no effect if the folder cannot be locked.

    Args:
        path: Path of the folder.

    Example:
        >>> with SharedLock(Path(".")):
        ...     found = os.listdir(".")  # nobody removes the folder meanwhile
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

    def __enter__(self) -> SharedLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Releases the lock, if it is held."""
        if release := getattr(self, "_release", None):
            self._release = None
            release()


def is_locked(path: Path) -> bool | None:
    """Checks whether any process, including this one, holds a folder with `locked`.

    Args:
        path: Path of the folder.

    Returns:
        Whether the folder is held. None if it does not exist or cannot be read.
    """
    with suppress(OSError):  # the folder does not exist or cannot be read
        if not HAS_FLOCK:
            return lock_files.is_taken(path)
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        release = _unlocking(descriptor)
        try:
            with suppress(OSError):  # the file system does not support locks
                if not _try_lock(descriptor, fcntl.LOCK_SH):
                    return True
            return lock_in_folder.is_taken(descriptor)  # also after a shared lock: some file systems have no others
        finally:
            release()
    return None


@contextmanager
def lock(path: Path, seconds: float = 0.0, *, with_file: bool = False) -> Iterator[bool]:
    """Holds an exclusive lock on a folder during the block, like `locked`, but without waiting by default.

    Args:
        path: Path of the folder.
        seconds: Maximum time to wait for the lock.
        with_file: Whether to make a lock file in the folder if the file system does not support locks.

    Yields:
        Whether the folder is locked. False if the file system does not support locks, and `with_file` is False or the
        folder is read-only.

    Raises:
        InUse: Another process holds the folder.
        Gone: The folder was moved or removed meanwhile.
        OSError: The folder cannot be opened.
    """
    release, is_held = _take(path, alone=True, seconds=seconds, with_file=with_file)
    try:
        yield is_held
    finally:
        release()


def _take(path: Path, *, alone: bool, seconds: float = 0.0, with_file: bool = False) -> tuple[Callable[[], None], bool]:
    """Locks a folder, waiting at most `seconds`.

    Returns:
        A function that releases the lock, and whether the folder is locked (False without support for locks).
    """
    if not HAS_FLOCK:
        return _take_file(path, alone=alone, seconds=seconds)
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    release = _unlocking(descriptor)
    try:
        is_held = _try_lock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, seconds)
    except OSError:  # the file system does not support locks
        return _take_inside(path, descriptor, seconds) if with_file else (release, False)
    if is_held and (_is_at(os.fstat(descriptor), path) or not alone):
        return release, True
    release()
    raise _moved(path) if is_held else _in_use(path)


def _take_inside(path: Path, descriptor: int, seconds: float) -> tuple[Callable[[], None], bool]:
    """Locks a folder like `_take`, but with a lock file in it. The descriptor of the folder is closed at the end."""
    try:
        release = lock_in_folder.take(descriptor, seconds)
    except OSError as error:
        if error.errno in READ_ONLY_ERRORS:
            return partial(os.close, descriptor), False
        is_there = _is_at(os.fstat(descriptor), path)
        os.close(descriptor)
        if is_there:  # the disk is full, for example
            raise
        raise _moved(path) from None
    if release is None:
        os.close(descriptor)
        lock_file = path / lock_in_folder.LOCK_FILE
        raise InUse(f"{_in_use(path)} If there is no such process, remove {lock_file}.")

    def release_all() -> None:
        release()
        os.close(descriptor)

    if not _is_at(os.fstat(descriptor), path):
        release_all()
        raise _moved(path)
    return release_all, True


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


def _moved(path: Path) -> Gone:
    return Gone(f"Another process has moved or removed {path}. Check the folder, and try again.")


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


def _unlocking(descriptor: int) -> Callable[[], None]:
    """Makes a function that ends the lock which this process has on an open folder, and closes the folder.

    The lock belongs to the open folder, which forked children of this process have open, too: they must not end it when
    they close theirs, and it must end although they have not. The function may be called when Python shuts down, and
    the names in this module are gone.
    """
    import fcntl

    flock, unlock, close, getpid, process = fcntl.flock, fcntl.LOCK_UN, os.close, os.getpid, os.getpid()

    def release() -> None:
        try:
            if getpid() == process:
                flock(descriptor, unlock)
        except OSError:  # the file system does not support locks
            pass
        finally:
            close(descriptor)

    return release


@contextmanager
def _remembered(path: Path, about: os.stat_result) -> Iterator[None]:
    """Lets `require_held` know a folder during the block."""
    place = os.path.abspath(path)
    _held.setdefault(place, []).append(about)
    try:
        yield
    finally:
        _held[place].remove(about)
        if not _held[place]:
            del _held[place]


def _is_at(about: os.stat_result, path: Path) -> bool:
    """Checks whether `path` is still the same file or folder."""
    try:
        return os.path.samestat(about, path.stat())
    except OSError:
        return False

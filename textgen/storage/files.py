"""Writes single files: a file is written completely or not at all.

Every write goes to a temporary name next to its target, is flushed to disk, and is then renamed. Temporary names are
random, and temporary files are created exclusively. They name the process, too, so that the next write of the same file
removes what a killed one has left. Only streams (`textgen.storage.streams`) are written into, and
files that are mounted on their own, as into a container, which nothing can replace.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from textgen.errors import TextgenError
from textgen.storage.file_reading import OPEN_FLAGS
from textgen.storage.file_replacement import first_mode, keep_access, rename, sync_file, sync_folder, write_through
from textgen.storage.processes import is_running, machine_name
from textgen.storage.streams import is_stream, open_file_number, open_stream
from textgen.storage.system_errors import DISK_ADVICE, OPEN_FILES_ADVICE, Obstacle, reason_of
from textgen.wording import json_text

TEMPORARY = ".tmp-"  # prefix of temporary names
FILE = f"{TEMPORARY}file-"  # prefix of the temporary name of a file that is written
FILE_OWNER = (
    "[0-9a-f]{8}-([0-9a-f]{8})-([0-9a-f]{1,7})-"  # after it: its final name and the machine as digests, process
)
LEFT_SECONDS = 86400.0  # what another machine was writing is removed after so long without a change
SUFFIX_BYTES = 20  # longest suffix in a temporary name: what follows the full stop in "1. A long title" is none
WRITING_ADVICE = {
    Obstacle.FULL: "Free some space or choose another folder; what was there before is untouched.",
    Obstacle.DISK: DISK_ADVICE,
    Obstacle.OPEN_FILES: OPEN_FILES_ADVICE,
    Obstacle.PLACE: "Choose another place; what was there before is untouched.",
}
"""What `CannotWrite` advises by default."""
IN_PLACE_ADVICE = "It cannot be replaced, only overwritten, so it may be incomplete now: write it again."
TMPDIR_ADVICE = dict.fromkeys(Obstacle, "Try again, or set TMPDIR to another folder.") | {
    Obstacle.FULL: "Free some space, or set TMPDIR to a folder with more space.",
    Obstacle.OPEN_FILES: OPEN_FILES_ADVICE,
}
"""What to advise instead where a temporary file is written."""
Advice = str | Mapping[Obstacle, str]
"""What the user can do, in one sentence, whatever keeps a file from being written, or for each obstacle."""


class CannotWrite(TextgenError):
    """Raised when a file or folder cannot be written, for example because the disk is full.

    Attributes:
        path: Path of the file or folder.
        reason: Reason of the system, such as "No space left on device".
        obstacle: What kept the file from being written.
        advice: What the user can do.
        has_usual_advice: Whether that is what is advised by default.
        is_incomplete: Whether the file was overwritten in its place, so that it may be incomplete now.
    """

    def __init__(
        self,
        path: Path,
        reason: str,
        advice: Advice = WRITING_ADVICE,
        *,
        obstacle: Obstacle = Obstacle.FULL,
        is_incomplete: bool = False,
    ) -> None:
        """Makes the error.

        Args:
            path: Path of the file or folder.
            reason: Reason of the system.
            advice: What the user can do.
            obstacle: What kept the file from being written.
            is_incomplete: Whether the file may be incomplete now.
        """
        self.advice = advice if isinstance(advice, str) else advice[obstacle]
        super().__init__(f"Cannot write {path}: {reason}. {self.advice}")
        self.path, self.reason, self.obstacle = path, reason, obstacle
        self.has_usual_advice, self.is_incomplete = advice is WRITING_ADVICE, is_incomplete

    def advising(self, advice: Advice) -> CannotWrite:
        """Returns the same error with other advice, which is not followed if there are too many open files."""
        advice = OPEN_FILES_ADVICE if self.obstacle is Obstacle.OPEN_FILES else advice
        return CannotWrite(self.path, self.reason, advice, obstacle=self.obstacle, is_incomplete=self.is_incomplete)


def write_file(path: Path, data: bytes) -> None:
    """Writes a file atomically: a crash leaves either the old or the new content.

    An existing file keeps its mode and, where the system allows it, its owner and its group; one that the user may not
    write is not replaced. If `path` is a link, the file that it points to is replaced. A stream stays, and the content
    is written into it. Use `write_own_file` in folders that textgen manages.

    Args:
        path: Path of the file.
        data: New content.

    Raises:
        TextgenError: The file cannot be written.
    """
    write_files({path: data})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Writes files that belong together, each like `write_file`: none is replaced before all are on the disk.

    Args:
        contents: New contents by path; the files are replaced in this order.

    Raises:
        TextgenError: A file cannot be written.
    """
    with ExitStack() as stack:
        final_steps: list[tuple[Path, Callable[[], object]]] = []
        for path, data in contents.items():
            with writing(path):
                if is_stream(path):
                    final_steps.append((path, partial(_write_to_stream, path, data)))
                    continue
                target = _link_target(path)
                temporary = stack.enter_context(_temporary_file(target, data))
                final_steps.append((path, partial(_put, temporary, target)))
        for path, finish in final_steps:
            with writing(path):
                finish()


def write_own_file(path: Path, data: bytes, *, is_private: bool = False) -> None:
    """Writes a file in a folder managed by textgen, like `write_file`, but replaces links instead of following them.

    Args:
        path: Path of the file.
        data: New content.
        is_private: Whether only the user may read it, from the first byte on. By default it keeps its mode.

    Raises:
        TextgenError: The file cannot be written.
    """
    with writing(path), _temporary_file(path, data, is_private=is_private) as temporary:
        _put(temporary, path, keeps_mode=not is_private)


@contextmanager
def replacing_file(path: Path, *, follow_link: bool = True) -> Iterator[Path]:
    """Does what `textgen.storage.new_files.new_file` does where `path` is no stream.

    Args:
        path: Path of the file.
        follow_link: Whether to replace the target of a link instead of the link.

    Yields:
        Path of the temporary file, which exists and is empty.

    Raises:
        TextgenError: The file cannot be written.
    """
    with ExitStack() as stack:
        with writing(path):
            target = _link_target(path) if follow_link else path
            temporary = stack.enter_context(_temporary_file(target))
        yield temporary
        with writing(path):
            sync_file(temporary)
            _put(temporary, target)


def write_chunks(
    path: Path, chunks: Iterable[bytes], *, message_path: Path | None = None, advice: Advice = WRITING_ADVICE
) -> None:
    """Writes the content of a file chunk by chunk. The file may be incomplete after an error.

    Errors of writing are converted; those raised by `chunks` are not.

    Args:
        path: Path of the file, which is replaced.
        chunks: Its content.
        message_path: Path for the error message; `path` by default.
        advice: What the user can do.

    Raises:
        CannotWrite: The file cannot be written.
    """
    message_path = message_path or path
    with writing(message_path, advice):
        file = path.open("wb")
    try:
        for chunk in chunks:
            with writing(message_path, advice):
                file.write(chunk)
        with writing(message_path, advice):
            file.close()  # network file systems may say only here that the disk is full
    finally:
        with suppress(OSError):  # the first error tells more
            file.close()


def check_writable(path: Path) -> None:
    """Checks that `write_file` can write a file. Call it before long work, so that its result is not lost.

    Args:
        path: Path of the file.

    Raises:
        TextgenError: The parent folder does not exist or is not writable, or the path is that of a file that is not
            writable, or of something else than a file, a pipe or a device that takes characters.
    """
    if not path.parent.is_dir():
        raise TextgenError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    with writing(path):
        if not is_stream(path):
            target = _link_target(path)
            try:
                with tempfile.TemporaryFile(dir=target.parent):
                    return
            except OSError as error:
                if not target.exists():
                    raise
                why = f"a new file, to replace it, cannot be made in {target.parent}: {reason_of(error)}"
                raise OSError(error.errno, why) from None
        if (number := open_file_number(path)) is not None:
            os.write(number, b"")  # fails unless it is open for writing
        elif not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_folder_writable(path: Path) -> None:
    """Checks that files can be written into a folder, which need not exist. Call it before long work.

    Args:
        path: Path of the folder.

    Raises:
        CannotWrite: The folder, or the one in which it would be made, is not writable or no folder.
    """
    place = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
    with writing(path), tempfile.TemporaryFile(dir=place):
        pass


@contextmanager
def writing(path: Path, advice: Advice = WRITING_ADVICE, *, is_incomplete: bool = False) -> Iterator[None]:
    """Converts errors of writing in the block, such as a full disk or no permission, to `CannotWrite`.

    Args:
        path: Path of the file or folder being written, for the error message.
        advice: What the user can do.
        is_incomplete: Whether the file may be incomplete after an error.

    Raises:
        CannotWrite: The block raised `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            path, reason_of(error), advice, obstacle=Obstacle.of(error), is_incomplete=is_incomplete
        ) from None


def json_bytes(value: Any) -> bytes:
    """Encodes a value as indented JSON in UTF-8."""
    return f"{json_text(value, indent=2)}\n".encode()


def _link_target(path: Path) -> Path:
    """Returns the file that is replaced: that where links lead. Raises `OSError` if it is read-only or no file."""
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
            raise OSError(errno.EINVAL, "it is a disk or a socket, not a file")
        if not os.access(path, os.W_OK):  # renaming asks only for the right to write to its folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Path(os.path.realpath(path))


def _write_to_stream(path: Path, data: bytes) -> None:
    with open_stream(path) as stream:
        stream.write(data)


@contextmanager
def _temporary_file(target: Path, data: bytes = b"", *, is_private: bool = False) -> Iterator[Path]:
    """Creates a temporary file next to `target`, and removes it after the block if it is still there."""
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= SUFFIX_BYTES else ""
    _remove_left(target)
    start = f"{FILE}{_digest(target.name)}-{_digest(machine_name())}-{os.getpid():x}-"
    temporary = target.with_name(f"{start}{random_hex()}{suffix}")
    try:
        write_through(temporary, data, 0o600 if is_private else first_mode(target))
        yield temporary
    finally:
        with suppress(OSError):  # what is left is no reason to say that the file is not written, nor to hide an error
            temporary.unlink()


def _remove_left(target: Path) -> None:
    """Removes temporary files of the same target that killed processes have left."""
    pattern = re.compile(rf"{re.escape(FILE)}{FILE_OWNER}.*", re.DOTALL)
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if name.startswith(f"{FILE}{_digest(target.name)}-") and (found := pattern.fullmatch(name)):
                left = target.with_name(name)
                with suppress(OSError):
                    if _is_abandoned(left, found[1], int(found[2], 16)):
                        left.unlink()


def _is_abandoned(temporary: Path, machine: str, process: int) -> bool:
    """Whether the process that was writing a file has ended, as far as can be told on this machine."""
    if machine == _digest(machine_name()) and os.name == "posix":
        return not is_running(process)
    return time.time() - temporary.lstat().st_mtime > LEFT_SECONDS


def _digest(name: str) -> str:
    """A word for a name of any length."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def _put(temporary: Path, target: Path, *, keeps_mode: bool = True) -> None:
    """Renames a file to `target`, by default with the mode of the file that was there."""
    keep_access(temporary, target, keeps_mode=keeps_mode)
    try:
        rename(temporary, target, replace=True)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _overwrite(temporary, target)
    sync_folder(target.parent)


def _overwrite(temporary: Path, target: Path) -> None:
    """Writes the content of a file into a regular file that is there. Raises `CannotWrite` with its own advice."""
    with ExitStack() as stack:
        source = stack.enter_context(temporary.open("rb"))
        stack.enter_context(writing(target, IN_PLACE_ADVICE, is_incomplete=True))
        file = stack.enter_context(os.fdopen(os.open(target, os.O_WRONLY | OPEN_FLAGS), "wb"))
        shutil.copyfileobj(source, file)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def random_hex() -> str:
    """Returns an unpredictable part of a temporary name."""
    return secrets.token_hex(8)

"""The file of a text: keeps its line endings, and what other programs wrote to it."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import tempfile
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from textgen.corpus.formats.archives import format_of_name
from textgen.corpus.text_decoding import utf8_text
from textgen.errors import TextgenError
from textgen.storage.file_reading import sha256
from textgen.storage.file_replacement import write_through
from textgen.storage.files import check_writable, random_hex, write_file
from textgen.storage.locks import Gone, InUse, lock
from textgen.storage.streams import is_stream

NEWLINE = re.compile("\r\n?|\n")
LOCK_SECONDS = 1.0  # longest wait for another editor that saves at the same moment


class TextFile:
    """A UTF-8 text file that keeps its byte order mark and line endings, and what other programs wrote to it.

    Args:
        path: The file, which may not exist yet.

    Attributes:
        path: The file. After a change by another program, the file that was written instead.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = b""
        self._newline = "\n"  # of new lines
        self._lines = [""]  # that were read or written last
        self._endings: list[str] = []  # of each of these lines but the last
        self._checksum: str | None = None  # of the content that was read or written last

    def read(self) -> str:
        """Reads the text and converts its line endings to \\n.

        Returns:
            The text; empty if the file does not exist yet.

        Raises:
            TextgenError: The file cannot be read, or could not be written later, or it is a new one whose name is that
                of another format.
        """
        check_writable(self.path)
        try:
            exists = self.path.exists()
            if not exists and (what := format_of_name(self.path.name)):
                raise TextgenError(
                    f"The text is written as plain text, and by its name {self.path} would be {what}. Name a file that "
                    "ends in .txt or .md."
                )
            if is_stream(self.path):  # which need not end
                raise OSError("it is a pipe or a device")
            data = self.path.read_bytes() if exists else b""
            self._mark = BOM_UTF8 if data.startswith(BOM_UTF8) else b""
        except OSError as error:
            raise TextgenError(
                f"Cannot read {self.path}: {error}. Name a UTF-8 text file, or a file that does not exist yet."
            ) from None
        text = utf8_text(data, str(self.path)).removeprefix("\ufeff")
        self._checksum = _checksum(data) if exists else None
        self._endings = NEWLINE.findall(text)
        self._newline = Counter(self._endings).most_common(1)[0][0] if self._endings else "\n"
        self._lines = NEWLINE.split(text)
        return "\n".join(self._lines)

    def write(self, text: str) -> Path | None:
        """Writes a text with the byte order mark and line endings of the file that was read.

        In a file with several kinds of line endings, each line before and after the part that has changed keeps its
        own, and those in this part get the commonest.

        If another program has changed the file since, it is left alone, and the text goes to a new file next to it.

        Args:
            text: The text, with lines ended by \\n.

        Returns:
            The file that another program has changed, or None.

        Raises:
            TextgenError: The file cannot be written.
        """
        data = self._data(text)
        before = path = self.path
        with _locked(Path(os.path.realpath(path)).parent):
            if self._is_changed(_checksum(data)):
                path = free_path(path)
            write_file(path, data)
        self.path, self._checksum = path, _checksum(data)
        lines = text.split("\n")
        self._lines, self._endings = lines, self._endings_of(lines)
        return None if path == before else before

    def is_intact(self, text: str) -> bool:
        """Returns whether the file exists and holds this text, or what was read or written last."""
        return os.path.exists(self.path) and not self._is_changed(_checksum(self._data(text)))

    def _data(self, text: str) -> bytes:
        lines = text.split("\n")
        endings = [*self._endings_of(lines), ""]
        return self._mark + "".join(itertools.chain.from_iterable(zip(lines, endings, strict=True))).encode()

    def _endings_of(self, lines: list[str]) -> list[str]:
        """The endings of all lines but the last: those of `self._lines` before and after what has changed."""
        new, old = len(lines) - 1, len(self._endings)
        before = min(_num_equal(lines, self._lines), new, old)
        after = min(_num_equal(lines[::-1], self._lines[::-1]), new - before, old - before)
        changed = [self._newline] * (new - before - after)
        return [*self._endings[:before], *changed, *self._endings[old - after :]]

    def _is_changed(self, to_write: str) -> bool:
        """Whether the file has content that is neither known nor `to_write`, or cannot be read."""
        try:
            return sha256(Path(os.path.realpath(self.path))) not in (self._checksum, to_write)
        except FileNotFoundError:
            return False
        except OSError:
            return True


def keep_elsewhere(text: str) -> Path | None:
    """Writes a text that cannot be saved to a new file that only the user can read.

    Args:
        text: The text.

    Returns:
        The file, in the folder for temporary files or in the home folder. None if neither can be written.
    """
    for place in (tempfile.gettempdir, Path.home):
        with suppress(OSError, RuntimeError):  # there is no such folder
            path = Path(place(), f"textgen-{random_hex()}.txt")
            try:
                write_through(path, text.encode(), 0o600)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            return path
    return None


def free_path(path: Path) -> Path:
    """Returns `path` if nothing is there, otherwise the first free one of name-2, name-3 and so on.

    Example:
        >>> free_path(Path("/nowhere/novel.txt")).name
        'novel.txt'
    """
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], numbered) if not os.path.lexists(one))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, if possible: when a connection breaks, all its editors save at the same moment."""
    with ExitStack() as stack:
        with suppress(OSError, InUse, Gone):
            stack.enter_context(lock(folder, LOCK_SECONDS))
        yield


def _num_equal(lines: Sequence[str], others: Sequence[str]) -> int:
    """The number of lines at the beginning that are equal."""
    pairs = zip(lines, others, strict=False)
    return next((number for number, (line, other) in enumerate(pairs) if line != other), min(len(lines), len(others)))


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""Finds where documents end in a file of plain text, from the middle of it on."""

from __future__ import annotations

import codecs
from typing import BinaryIO

from textgen.corpus.formats.decompression import CHUNK_BYTES


def can_find(separator: str | None, encoding: str) -> bool:
    """Checks whether a search from the middle of a file finds the separators that reading from its start finds.

    It does not find them in encodings in which a character may contain the bytes of another, nor if a separator holds
    newlines, which may be normalized, or can overlap itself.

    Args:
        separator: The separator. None if documents are not divided by one.
        encoding: Encoding of the file.
    """
    if separator is None:
        return True
    encoding = codecs.lookup(encoding).name
    of_bytes = separator.isascii() and encoding.startswith(("ascii", "iso8859", "cp125", "koi8"))
    overlaps = any(separator.startswith(separator[start:]) for start in range(1, len(separator)))
    return (of_bytes or encoding.startswith("utf-8")) and not ("\n" in separator or "\r" in separator or overlaps)


def end_of_line(file: BinaryIO, offset: int, is_blank: bool) -> tuple[int, int]:
    """Finds the first end of a line, or of a blank line, from an offset on.

    Args:
        file: The file.
        offset: The offset in bytes, at least 1.
        is_blank: Whether a blank line is looked for.

    Returns:
        The last offset from which the same end is found: of a blank line, where it begins. And the end.
    """
    file.seek(offset - 1)
    _skip_line(file)
    last = file.tell()
    while is_blank:
        last = file.tell()
        is_blank = not _skip_line(file)
    return last, file.tell()


def end_of_separator(file: BinaryIO, offset: int, separator: bytes) -> int | None:
    """Finds the first end of a separator at or after an offset.

    Args:
        file: The file.
        offset: The offset in bytes.
        separator: The separator, as it is encoded in the file.

    Returns:
        The end in bytes. None if there is none.
    """
    start = max(0, offset - len(separator))
    file.seek(start)
    held = b""
    while chunk := file.read(CHUNK_BYTES):
        held += chunk
        if (found := held.find(separator)) >= 0:
            return start + found + len(separator)
        cut = max(0, len(held) - len(separator) + 1)
        start, held = start + cut, held[cut:]
    return None


def _skip_line(file: BinaryIO) -> bool:
    """Skips to the end of a line of any length. Returns whether the line was blank, or the last without a newline."""
    blank = True
    while chunk := file.readline(CHUNK_BYTES):
        blank = blank and not chunk.strip()
        if chunk.endswith(b"\n"):
            return blank
    return True

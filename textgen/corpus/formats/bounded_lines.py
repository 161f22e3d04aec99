"""Lines of limited length, so that memory stays bounded whatever a file holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from textgen.errors import CorpusError

MAX_RECORD_CHARS = 1 << 26  # maximum length of a record, in characters


def bounded_lines(texts: Iterable[str], name: str) -> Iterator[str]:
    """Iterates over lines of limited length, without their newlines.

    Args:
        texts: Consecutive strings that make up the text.
        name: Name of the file, for error messages.

    Yields:
        The lines.

    Raises:
        CorpusError: A line is longer than `MAX_RECORD_CHARS`.
    """
    held: list[str] = []
    number, size = 1, 0
    for text in texts:
        first, *others = text.split("\n")
        held.append(first)
        size += len(first)
        check_size(size, name, number)
        for other in others:
            yield "".join(held)
            number, held, size = number + 1, [other], len(other)
            check_size(size, name, number)
    if size:
        yield "".join(held)


def check_size(size: int, name: str, number: int) -> None:
    """Checks the length of a record.

    Args:
        size: Its length in characters.
        name: Name of the file, for the error message.
        number: Number of its line, for the error message.

    Raises:
        CorpusError: The record is longer than `MAX_RECORD_CHARS`.
    """
    if size > MAX_RECORD_CHARS:
        raise CorpusError(
            f"{name}, line {number}: a record of more than {MAX_RECORD_CHARS:,} characters, the limit. Split it, "
            "or convert the file to plain text, which has no limit."
        )

"""Markup parsed by lxml: what `page_markup` and `office_markup` share.

lxml parses in small pieces and reports what it finds; nothing of a file but the current piece is in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from textgen.errors import CorpusError

SPACES = re.compile("[ \t\n\r\f]+")  # what HTML and OpenDocument collapse to one space; not the no-break space


class Target(Protocol):
    """What lxml's parsers report to."""

    pieces: list[str]

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """An element ends."""

    def data(self, text: str) -> None:
        """Text within an element."""

    def close(self) -> None:
        """The file ends."""


class Unread:
    """Follows elements whose content is not read, and those within them."""

    def __init__(self) -> None:
        self.depth = 0

    def starts(self, is_unread: bool) -> bool:
        """Whether an element that begins is not read."""
        if self.depth or is_unread:
            self.depth += 1
        return self.depth > 0

    def ends(self) -> bool:
        """Whether an element that ends is not read."""
        if not self.depth:
            return False
        self.depth -= 1
        return True


def parsed(etree: Any, parser: Any, target: Target, chunks: Iterable[bytes], name: str) -> Iterator[str]:
    """Iterates over the text that a target finds.

    Args:
        etree: The module lxml.etree.
        parser: A parser of lxml that reports to `target`.
        target: What makes text of the markup.
        chunks: Consecutive bytes that make up the file.
        name: Name of the file, for error messages.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        CorpusError: The file cannot be parsed.
    """
    try:
        is_empty = True
        for chunk in chunks:
            if chunk:
                is_empty = False
                parser.feed(chunk)
                yield from _taken(target)
        if not is_empty:
            parser.close()
    except etree.XMLSyntaxError as error:
        raise CorpusError(f"{name} is damaged: {str(error).splitlines()[0].rstrip('.')}. Save it again.") from None
    yield from _taken(target)


def _taken(target: Target) -> list[str]:
    pieces = [piece for piece in target.pieces if piece]
    target.pieces.clear()
    return pieces

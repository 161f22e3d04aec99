"""Excerpts that are spread evenly over a corpus, so that a sample shows what all of it is like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from textgen.corpus.documents import Part
from textgen.corpus.left_out import LeftOut
from textgen.corpus.sections import Sections
from textgen.corpus.source import Source
from textgen.corpus.statistics import EXCERPTS
from textgen.corpus.text_share import TextSizes

PartsOf = Callable[[Source, LeftOut], Iterator[Part]]


@dataclass
class _Credit:
    """How many bytes of excerpts may still be yielded.

    Attributes:
        fraction: Bytes of excerpts for each byte of text.
        bytes: The credit; below 0 after an excerpt that was longer.
    """

    fraction: float
    bytes: float = 0.0

    def add(self, size: float) -> None:
        """Adds the credit for so many bytes of text."""
        self.bytes += self.fraction * size


def excerpts_of(
    sections: Sections, sizes: TextSizes, size: int, parts_of: PartsOf, left_out: LeftOut, total: int | None = None
) -> Iterator[str]:
    """Samples excerpts from all sections.

    Args:
        sections: The files.
        sizes: The estimated sizes of their texts.
        size: Approximate total size of the excerpts in bytes.
        parts_of: Reads the documents of a section.
        left_out: Counts what is left out where excerpts are taken.
        total: The size of all texts in bytes, if it is known because the estimates are no use: all of them are read.

    Yields:
        The text of each excerpt.

    Raises:
        CorpusError: A file cannot be read.
    """
    credit = _Credit(size / (total or sizes.total))
    names = {source.path: source.name for source in sections.sources}
    for index in range(EXCERPTS):
        for source in sections.section(index, EXCERPTS):
            is_entered = total is None and source.can_be_entered and 0 < source.size <= 2 * sections.size / EXCERPTS
            text_size, own = sizes.of(source) if is_entered else None, LeftOut()
            yield from _excerpts_in(parts_of(source, own), text_size, credit, max(1, size // EXCERPTS))
            left_out.merge(own, names[source.path])


def _excerpts_in(parts: Iterator[Part], size: float | None, credit: _Credit, longest: int) -> Iterator[str]:
    """Samples excerpts from the documents of a section while there is credit.

    Args:
        parts: The documents.
        size: Estimated size of their text in bytes, whose credit is given at once: they are read only until it is used
            up. None to read all of them, and to give the credit of each part of the text when it is read.
        credit: What may be yielded.
        longest: Maximum length of an excerpt in characters.
    """
    if size is not None:
        credit.add(size)
    for part in parts:
        for text in (part.text[at : at + longest] for at in range(0, len(part.text), longest)):
            text_bytes = len(text.encode())
            if size is None:
                credit.add(text_bytes)
            if credit.bytes > 0:
                yield text
                credit.bytes -= text_bytes
        if size is not None and credit.bytes <= 0:
            return

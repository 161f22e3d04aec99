"""Files laid end to end and divided into sections of about equally many bytes, to be read in parallel or sampled."""

from __future__ import annotations

import hashlib
import itertools
import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property

from textgen.corpus.fingerprints import has_version, section_glance
from textgen.corpus.source import Source


class Sections:
    """Files laid end to end.

    Attributes:
        sources: The files.
    """

    def __init__(self, sources: Sequence[Source], mode: str) -> None:
        """Takes the files and how they are cut into documents: one of `DOCUMENT_MODES`, or a separator."""
        self.sources = sources
        self._mode = mode

    @property
    def size(self) -> int:
        """Size of the files in bytes, estimated for those that are compressed."""
        return self._borders[-1]

    @cached_property
    def _borders(self) -> list[int]:
        """Offsets in bytes at which each file begins, and the total size."""
        return [0, *itertools.accumulate(source.size for source in self.sources)]

    def section(self, index: int, count: int) -> Iterator[Source]:
        """Iterates over the sections of files that lie in one of `count` equal ranges of bytes.

        A file without a size belongs to the range in which it begins, as a whole: it may have text all the same, as
        files have whose content is made when they are read.
        """
        first, last = self._range(index, count)
        number = max(0, bisect_left(self._borders, first) - 1)
        while number < len(self.sources):
            source, start, stop = self.sources[number], *self._borders[number : number + 2]
            is_without_size = start == stop
            if start >= last and not (is_without_size and index == count - 1):
                break
            if is_without_size:
                yield source
            elif stop > first:
                yield from source.section(first - start, last - start, self._mode)
            number += 1

    def glance(self, index: int, count: int) -> str:
        """A SHA-256 digest, in hex, of some bytes of what a section holds of files that other sections have, too."""
        borders = self._range(index, count)
        ends = [next(number for number, end in enumerate(self._borders) if end >= offset) for offset in borders]
        shared = {end - 1 for end, offset in zip(ends, borders, strict=True) if self._borders[end] > offset}
        glances = list[list[str]]()
        for number in sorted(shared):
            source, start = self.sources[number], self._borders[number]
            if source.can_be_entered and not has_version(source):
                sections = source.section(borders[0] - start, borders[1] - start, self._mode)
                glances += [section_glance(section) for section in sections]
        return hashlib.sha256(json.dumps(glances).encode()).hexdigest()

    def _range(self, index: int, count: int) -> tuple[int, int]:
        """Where a section begins and ends."""
        return self.size * index // count, self.size * (index + 1) // count

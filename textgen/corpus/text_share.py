"""How much of a file is text: the rest is markup, other columns, or bytes that UTF-8 does not need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from textgen.corpus.formats.parquet import parquet_text_bytes
from textgen.corpus.left_out import LeftOut
from textgen.corpus.source import Source
from textgen.errors import CorpusError

SHARE_BYTES = 1 << 20  # read for the estimate
SAMPLE_FILES = 8  # number of files sampled to guess the documents mode, and to estimate the size of the text
MIN_TEXT_SHARE = 1 / 256  # minimum estimated share of text in files of a kind: there may be more after their beginnings


class TextSizes:
    """The estimated sizes of the texts of files: of the files, without pictures, other columns and other fields."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    @cached_property
    def total(self) -> int:
        """Approximate size of the texts of all files in bytes."""
        return round(sum(map(self.of, self._sources)))

    def of(self, source: Source) -> float:
        """Approximate size of the text of one of the files, or of a section of it, in bytes."""
        return source.size * (text_share(source) if source.rich else self._shares.get(source.kind, 1.0))

    @cached_property
    def _shares(self) -> dict[str, float]:
        """How much of the files of each kind is text: the mean of some of them, as fractions of their sizes."""
        kinds: dict[str, list[Source]] = {}
        for source in self._sources:
            if kind := source.kind:
                kinds.setdefault(kind, []).append(source)
        shares = dict[str, float]()
        for kind, sources in kinds.items():
            sampled = spread(sources)
            text = sum(source.size * text_share(source) for source in sampled)
            shares[kind] = max(MIN_TEXT_SHARE, text / max(1, sum(source.size for source in sampled)))
        return shares


def spread(sources: Sequence[Source]) -> Sequence[Source]:
    """At most `SAMPLE_FILES` of some files, from all over the corpus, since neighbouring files may be alike."""
    return sources[:: -(-len(sources) // SAMPLE_FILES) or 1]


def text_share(source: Source) -> float:
    """Estimates the size of the text of a source in UTF-8 as a fraction of `Source.size`.

    Args:
        source: The source. Rich text is converted; of other files the beginning is read.

    Returns:
        The fraction; 1.0 for what cannot be read.
    """
    with suppress(CorpusError):
        if source.rich:
            return source.converted()[0].stat().st_size / max(1, source.size)
        if source.format == ".parquet":
            return parquet_text_bytes(source.fetched(), source.name, source.config.text_column) / max(1, source.size)
        read, found = _records_at_beginning(source) if source.format else _text_at_beginning(source)
        return found / read if read else 1.0
    return 1.0


def _text_at_beginning(source: Source) -> tuple[int, int]:
    """The size of about the first `SHARE_BYTES` bytes, and that of their text in UTF-8."""
    read = found = 0
    for text in source.texts():
        read += len(text.encode(source.encoding, "replace"))
        found += len(text.encode())
        if read >= SHARE_BYTES:
            break
    return read, found


def _records_at_beginning(source: Source) -> tuple[int, int]:
    """The size of about the first `SHARE_BYTES` bytes, and that of the texts of their records in UTF-8.

    A chunk counts only when the next one is asked for: until then, not all of its records have been read.
    """
    read = found = ahead = 0

    def counted() -> Iterator[str]:
        nonlocal read, ahead
        for text in source.texts():
            read, ahead = read + ahead, len(text.encode(source.encoding, "replace"))
            yield text
        read += ahead

    for text, _ in source.record_file(LeftOut()).read(counted()):
        found += len(text.encode())
        if read >= SHARE_BYTES:
            break
    return read, found

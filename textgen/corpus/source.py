"""One file of text, or a stretch of it: bytes -> text -> documents and their labels.

Its suffixes tell what it is: plain text, .jsonl, .csv or .tsv, and how that is compressed. However long the file, only
a part of one document is in memory (a record of a .jsonl or .csv file is read whole).
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from textgen.corpus.config import CorpusConfig
from textgen.corpus.documents import Part, block_documents, line_documents, whole_document
from textgen.corpus.encoding_guess import GUESS_BYTES, guessed_encoding, has_controls, marked_encoding
from textgen.corpus.labels import FOLDER, as_label
from textgen.corpus.records import FORMATS, LINE_FORMATS, LeftOut, RecordFile
from textgen.errors import CorpusError
from textgen.wording import visible

CHUNK_BYTES = 1 << 18  # files are read so many bytes at a time
SAMPLE_CHARS = 1 << 20  # of the beginning of a file, which are looked at to guess what a document is

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
EXPANSION = 4  # times that a compressed text is about as long as its file
PLAIN_ENCODINGS = ("utf-8", "ascii", "iso8859", "cp125", "koi8", "gb", "big5", "euc_", "shift_jis")
"""Names (their beginnings) of encodings in which the byte 10 is a newline, wherever one begins to read."""

HALVES = re.compile("[\ud800-\udfff]")  # of characters
NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Encodings of names and of literals in programs."""
GLANCE_BYTES = 1 << 16  # of the beginning, middle and end of a file, by which it is recognised


def text_decoder(encoding: str) -> codecs.IncrementalDecoder:
    """What makes text of bytes as they come. Raises `CorpusError` for an encoding that cannot do that."""
    try:
        "".encode(encoding)  # knows encodings of text from others, such as hex
        if codecs.lookup(encoding).name in NOT_OF_FILES:
            raise LookupError
        decoder = codecs.getincrementaldecoder(encoding)()
        decoder.decode(b"")
    except (LookupError, ValueError, TypeError):
        examples = "utf-8, latin-1, gb18030 or utf-16"
        raise CorpusError(f"There is no encoding {encoding!r}. Set encoding to one such as {examples}.") from None
    return decoder


def is_plain(encoding: str) -> bool:
    """Whether lines of text in this encoding can be told before they are decoded: they end with the byte 10."""
    return codecs.lookup(encoding).name.startswith(PLAIN_ENCODINGS)


@dataclass(frozen=True)
class Source:
    """A file, or a section of it."""

    path: Path
    name: str  # in messages
    config: CorpusConfig
    start: int = 0  # where the section begins, in bytes
    stop: int | None = None  # where it ends, None at the end of the file
    is_copy: bool = False  # of a pipe, in a folder of our own

    @property
    def compression(self) -> str:
        """`.gz`, `.zst`, ..., or nothing."""
        suffix = self.path.suffix.lower()
        return suffix if suffix in COMPRESSIONS else ""

    @property
    def format(self) -> str:
        """`.jsonl`, `.csv`, ..., or nothing for plain text."""
        path = self.path.with_suffix("") if self.compression else self.path
        return path.suffix.lower() if path.suffix.lower() in FORMATS else ""

    @property
    def folder_label(self) -> str | None:
        """The label of all its documents, where labels are names of folders."""
        if self.config.labels != FOLDER or self.is_copy:
            return None
        return as_label(visible(self.path.resolve().parent.name), self.name)

    @property
    def size(self) -> int:
        """Bytes of the section, estimated where they are compressed."""
        with reading(self.name):
            stop = self.path.stat().st_size if self.stop is None else self.stop
        return (stop - self.start) * (EXPANSION if self.compression else 1)

    @property
    def can_be_entered(self) -> bool:
        """Whether it can be read from the middle: plain text or a record a line, in an ordinary encoding."""
        whole = self.compression or (self.format and self.format not in LINE_FORMATS)
        return is_plain(self.config.encoding) and not whole

    def section(self, first: int, last: int, mode: str) -> Iterator[Source]:
        """What begins from byte `first` to before byte `last`; they may lie outside the file."""
        if not self.can_be_entered:
            if first <= 0:
                yield self
            return
        start, stop = self._next_start(first, mode), self._next_start(last, mode)
        if start < stop:
            name = f"{self.name} (from byte {start:,} on)" if start else self.name
            yield replace(self, name=name, start=start, stop=None if stop == self.size else stop)

    def _next_start(self, offset: int, mode: str) -> int:
        """The first byte from `offset` on with which a document may begin; a line, where the file is one."""
        if offset <= 0 or offset >= self.size:
            return max(0, min(offset, self.size))
        with reading(self.name), self.path.open("rb") as file:
            file.seek(offset - 1)
            _pass_line(file)
            if mode == "blank-line" and not self.format:
                while not _pass_line(file):
                    pass
            return file.tell()

    def fingerprint(self) -> list[str]:
        """All that decides the documents: compression, format, labels, and SHA-256 of the bytes."""
        with reading(self.name), self.path.open("rb") as file:
            return [*self._kind(), hashlib.file_digest(file, "sha256").hexdigest()]

    def stamp(self) -> tuple[int, ...]:
        """What is another number as soon as the file changes: its size, its time, and which file it is."""
        with reading(self.name):
            status = self.path.stat()
        return status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino

    def glance(self) -> list[str]:
        """The same by the size and some of the bytes."""
        digest = hashlib.sha256()
        with reading(self.name), self.path.open("rb") as file:
            size = self.path.stat().st_size
            for place in (0, size // 2, max(0, size - GLANCE_BYTES)):
                file.seek(place)
                digest.update(file.read(GLANCE_BYTES))
        return [*self._kind(), str(size), digest.hexdigest()]

    def _kind(self) -> list[str]:
        """What besides the bytes decides the documents."""
        label = self.folder_label
        return [self.compression, self.format, *([label] if label else [])]

    def is_binary(self) -> bool:
        """Whether there are NUL bytes near the start, as in no text but UTF-16 and UTF-32.

        One that got into a text by mistake does not count.
        """
        if codecs.lookup(self.config.encoding).name.startswith(("utf-16", "utf-32")):
            return False
        start = next(self.chunks(), b"")[: 1 << 13]
        return b"\0" in start and (has_controls(start) or not self._can_decode(start))

    def _can_decode(self, start: bytes) -> bool:
        try:
            text_decoder(self.config.encoding).decode(start)  # the end of it may be cut
        except UnicodeError:
            return False
        return True

    def sample(self) -> str:
        """The beginning of the text, up to a whole line."""
        sample = ""
        for text in self.texts():
            sample += text
            if len(sample) > SAMPLE_CHARS:
                return sample[: sample.rfind("\n", 0, SAMPLE_CHARS) + 1] or sample[:SAMPLE_CHARS]
        return sample

    def chunks(self) -> Iterator[bytes]:
        """The decompressed bytes."""
        with reading(self.name, self.compression), self.path.open("rb") as file:
            if self.compression == ".zst":
                yield from _zstandard_chunks(file)
                return
            openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
            stream = openers[self.compression](file) if self.compression else file
            stream.seek(self.start)
            place = self.start
            while chunk := stream.read(CHUNK_BYTES if self.stop is None else min(CHUNK_BYTES, self.stop - place)):
                yield chunk
                place += len(chunk)

    def texts(self) -> Iterator[str]:
        """The decoded text, newlines normalised, without a byte-order mark."""
        decoder = text_decoder(self.config.encoding)
        may_be_half = not is_plain(self.config.encoding)  # as in UTF-7, which holds any code
        if self.config.newlines == "normalize":
            decoder = io.IncrementalNewlineDecoder(decoder, True)  # type: ignore[assignment]
        fed = self.start  # bytes
        start = fed == 0
        for chunk in itertools.chain(self.chunks(), [b""]):
            if not fed:
                self._check_mark(chunk)
            fed += len(chunk)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                raise CorpusError(_undecodable(self.name, self.config.encoding, error, fed)) from None
            if may_be_half and (half := HALVES.search(text)):
                raise CorpusError(
                    f"{self.name} is not {self.config.encoding} text: \\u{ord(half[0]):04x}, half a character, before "
                    f"offset {fed}. Set encoding to the one it was written in."
                )
            if start and text:
                text, start = text.removeprefix("\ufeff"), False
            if text:
                yield text

    def _check_mark(self, data: bytes) -> None:
        """Raises `CorpusError` for UTF-32 that would be read as UTF-16, whose mark it begins with, and much else."""
        if codecs.lookup(self.config.encoding).name == "utf-16" and marked_encoding(data) == "utf-32":
            raise CorpusError(
                f"{self.name} is not {self.config.encoding} text: it begins with the mark of utf-32. "
                f"{_encoding_hint('utf-32')}"
            )

    def parts(self, mode: str, left_out: LeftOut | None = None) -> Iterator[Part]:
        """The documents, in parts; `mode` is one of `textgen.corpus.config.DOCUMENT_MODES`.

        Records without text are added to `left_out`.
        """
        if self.format:
            for text, label in self._records(left_out or LeftOut()).read(self.texts()):
                yield from whole_document([text], label=label)
            return
        label = self.folder_label
        for part in self._plain_parts(mode):
            yield Part(part.text, part.ends_document, label) if label else part

    def _plain_parts(self, mode: str) -> Iterator[Part]:
        if mode == "line":
            yield from line_documents(self.texts())
        elif mode == "blank-line":
            yield from block_documents(self.texts())
        elif not all(map(str.isspace, self._whole().texts())):  # a second look, rather than hold blanks back
            yield from whole_document(self.texts(), ends_document=self.stop is None)

    def _whole(self) -> Source:
        return replace(self, start=0, stop=None)

    def fields(self) -> list[str]:
        """The names in the header of a table, or in the first of its JSON records."""
        return self._records(LeftOut()).fields(self.texts())

    def _records(self, left_out: LeftOut) -> RecordFile:
        is_whole = self.start == 0 and self.stop is None
        return RecordFile(self.name, self.format, self.config, self.folder_label, left_out, is_whole)


def _pass_line(file: BinaryIO) -> bool:
    """Reads to the end of the line, however long; whether it was blank, or the last."""
    blank = True
    while chunk := file.readline(CHUNK_BYTES):
        blank = blank and not chunk.strip()
        if chunk.endswith(b"\n"):
            return blank
    return True


def _zstandard_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The frames of a .zst file. zstandard's own reader takes a truncated file for a whole one."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)  # what zstd --long=31 writes
    frame = None
    try:
        while chunk := file.read(1 << 12):  # little, since it may become 10,000 times as much
            while chunk:
                frame = frame or decompressor.decompressobj()
                if data := frame.decompress(chunk):
                    yield data
                chunk = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from None
    if frame is not None:
        raise EOFError


def _undecodable(name: str, encoding: str, error: UnicodeError, fed: int) -> str:
    """The message about bytes that are not in the encoding, found when `fed` bytes had been decoded."""
    where, guess = str(error), None
    if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):  # the end of what was fed
        data = bytes(error.object)
        where = f"byte 0x{data[error.start]:02x} at offset {fed - len(data) + error.start}"
        line = data.rfind(b"\n", 0, max(0, error.start - GUESS_BYTES // 2)) + 1
        guess = guessed_encoding(data[line : line + GUESS_BYTES])
    return f"{name} is not {encoding} text: {where}. {_encoding_hint(guess)}"


def _encoding_hint(guess: str | None) -> str:
    if guess is None:
        return "Set encoding to the one it was written in, such as cp1252, gb18030 or utf-16."
    return f"It looks like {guess}: set encoding to {guess}, or to the one it was written in."


def not_binary(source: Source) -> Source:
    """The source itself. Raises `CorpusError` where it holds no text."""
    if source.is_binary():
        guess = guessed_encoding(next(source.chunks(), b""))
        encoding = f"{guess}, as it seems to be" if guess and guess.startswith("utf") else "utf-16 or what it is in"
        raise CorpusError(
            f"{source.name} looks like a binary file: it has NUL bytes near its start. "
            f"Name a text file instead; if it is text, set encoding to {encoding}."
        )
    return source


@contextmanager
def reading(name: str, compression: str = "") -> Iterator[None]:
    """Turns what goes wrong in reading the file `name` into a `CorpusError`."""
    try:
        yield
    except PermissionError as error:
        name = error.filename or name
        raise CorpusError(f"Cannot read {name}: permission denied. Ask its owner for the right to.") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if compression and getattr(error, "errno", None) is None:
            raise CorpusError(
                f"{name} is broken or truncated: its content is not what {compression} promises "
                f"({str(error) or 'it ends too early'}). Compress or fetch it again."
            ) from None
        raise CorpusError(f"Cannot read {name}: {getattr(error, 'strerror', None) or error}.") from None

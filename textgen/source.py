"""One file of text, or a stretch of it: bytes -> text -> documents and their labels.

Its suffixes tell what it is: plain text, .jsonl, .csv or .tsv, and how that is compressed. However long the file, only
a part of one document is in memory (a record of a .jsonl or .csv file is read whole).
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import hashlib
import io
import itertools
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from textgen.config import CorpusConfig
from textgen.documents import Part, block_documents, line_documents, lines_of, whole_document
from textgen.errors import CorpusError
from textgen.labels import FOLDER, as_label, json_label

CHUNK_BYTES = 1 << 18  # files are read so many bytes at a time
SAMPLE_CHARS = 1 << 20  # of the beginning of a file, which are looked at to guess what a document is

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
EXPANSION = 4  # times that a compressed text is about as long as its file
RECORDS = (".jsonl", ".ndjson", ".csv", ".tsv")  # each record is a document, whatever the mode
LINE_RECORDS = (".jsonl", ".ndjson")  # a record is a line, whatever is in it
PLAIN_ENCODINGS = ("utf-8", "ascii", "iso8859", "cp125", "koi8", "gb", "big5", "euc_", "shift_jis")
"""Names (their beginnings) of encodings in which the byte 10 is a newline, wherever one begins to read."""

GLANCE_BYTES = 1 << 16  # of the beginning, middle and end of a file, by which it is recognised


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
        return path.suffix.lower() if path.suffix.lower() in RECORDS else ""

    @property
    def folder_label(self) -> str | None:
        """The label of all its documents, where labels are names of folders."""
        if self.config.labels != FOLDER or self.is_copy:
            return None
        return as_label(self.path.resolve().parent.name, self.name)

    @property
    def size(self) -> int:
        """Bytes of the section, estimated where they are compressed."""
        with reading(self.name):
            stop = self.path.stat().st_size if self.stop is None else self.stop
        return (stop - self.start) * (EXPANSION if self.compression else 1)

    @property
    def can_be_entered(self) -> bool:
        """Whether it can be read from the middle: plain text or a record a line, in an ordinary encoding."""
        whole = self.compression or (self.format and self.format not in LINE_RECORDS)
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
        """Whether a NUL byte is near the start, as in no text but UTF-16 and UTF-32."""
        if codecs.lookup(self.config.encoding).name.startswith(("utf-16", "utf-32")):
            return False
        return b"\0" in next(self.chunks(), b"")[: 1 << 13]

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
        decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder(self.config.encoding)()
        if self.config.newlines == "normalize":
            decoder = io.IncrementalNewlineDecoder(decoder, True)  # type: ignore[assignment]
        fed = self.start  # bytes
        start = fed == 0
        for chunk in itertools.chain(self.chunks(), [b""]):
            fed += len(chunk)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                raise CorpusError(_undecodable(self.name, self.config.encoding, error, fed)) from None
            if start and text:
                text, start = text.removeprefix("\ufeff"), False
            if text:
                yield text

    def parts(self, mode: str) -> Iterator[Part]:
        """The documents, in parts; `mode` is one of `textgen.config.DOCUMENT_MODES`."""
        if self.format:
            for text, label in self.json_records() if self.format in LINE_RECORDS else self.table_records():
                if text and not text.isspace():
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
        first = next((line for line in lines_of(self.texts()) if line.strip()), "")
        if self.format in LINE_RECORDS:
            record = json.loads(first or "{}")
            return list(record) if isinstance(record, dict) else []
        return next(csv.reader([first], delimiter=self.delimiter), [])

    @property
    def delimiter(self) -> str:
        """What separates the fields of a table."""
        return "\t" if self.format == ".tsv" else ","

    def json_records(self) -> Iterator[tuple[str, str | None]]:
        """Texts and their labels."""
        field, label = self.config.labels, self.folder_label
        for number, line in enumerate(lines_of(self.texts()), 1):
            if line and not line.isspace():
                place = f"{self.name}, line {number}"
                record = json_record(line, self.config.text_field, place)
                text = json_text(record, self.config.text_field, place)
                if self.config.newlines == "normalize" and "\r" in text:
                    text = text.replace("\r\n", "\n").replace("\r", "\n")
                yield text, json_label(record, field, place) if field and field != FOLDER else label

    def table_records(self) -> Iterator[tuple[str, str | None]]:
        """Texts and their labels."""
        csv.field_size_limit((1 << 31) - 1)  # the default of 128 KiB is too short for a document
        lines = (f"{line}\n" for line in lines_of(self.texts()))
        # strict, because a quote that is never closed would otherwise swallow the rest of the file
        rows = csv.reader(lines, delimiter=self.delimiter, strict=True)
        try:
            header = next((row for row in rows if row), None)
            if header is None:
                return
            column = _column(header, self.config.text_column, self.name)
            labels = self.config.labels if self.config.labels != FOLDER else None
            label_column = header.index(labels) if labels in header else None
            for row in rows:
                if row and (len(row) <= column or any(row[len(header) :])):
                    raise CorpusError(
                        f"{self.name}, line {rows.line_num}: a row of {len(row)} fields under a header of "
                        f"{len(header)}. Put double quotes around a text that holds separators or newlines."
                    )
                if row and label_column is not None:
                    name = row[label_column] if len(row) > label_column else ""
                    yield row[column], as_label(name, f"{self.name}, line {rows.line_num}")
                elif row:
                    yield row[column], self.folder_label
        except csv.Error as error:
            raise CorpusError(
                f"{self.name}, line {rows.line_num}: not {self.format[1:].upper()} ({error}). "
                "Put double quotes around a text that holds quotes, and double the quotes inside."
            ) from None


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


def json_record(line: str, field: str, place: str) -> Any:
    """What a line of a .jsonl file holds. Raises `CorpusError`, naming the `place`, where it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise CorpusError(f'{place}: not JSON ({why}). Expected a line such as {{"{field}": "..."}}.') from None


def json_text(record: Any, field: str, place: str) -> str:
    """The text of a record: its `field`, or the record itself where that is a string.

    `place` names the line in the `CorpusError` that is raised where there is none.
    """
    value = record
    if isinstance(record, dict):
        if field not in record:
            fields = ", ".join(record) or "(it has none)"
            raise CorpusError(f"{place}: no field {field!r}. Set text_field to one of: {fields}.")
        value = record[field]
        if not isinstance(value, str):
            raise CorpusError(f"{place}: field {field!r} is {_kind(value)}. Set text_field to one that is a string.")
    if not isinstance(value, str):
        raise CorpusError(f"{place}: {_kind(value)}. Expected an object or a string.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise CorpusError(f"{place}: {half} is half a character. Write the other half too.") from None
    return value


def _kind(value: object) -> str:
    names = {list: "a list", dict: "an object", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _column(header: list[str], column: str, name: str) -> int:
    if column not in header:
        raise CorpusError(f"{name}: no column {column!r}. Set text_column to one of: {', '.join(header)}.")
    return header.index(column)


def _undecodable(name: str, encoding: str, error: UnicodeError, fed: int) -> str:
    """The message about bytes that are not in the encoding, found when `fed` bytes had been decoded."""
    where = str(error)
    if isinstance(error, UnicodeDecodeError):  # whose object is the end of what was fed
        where = f"byte 0x{error.object[error.start]:02x} at offset {fed - len(error.object) + error.start}"
    return (
        f"{name} is not {encoding} text: {where}. "
        "Set encoding to the one it was written in, such as latin-1, gb18030 or utf-16."
    )


def not_binary(source: Source) -> Source:
    """The source itself. Raises `CorpusError` where it holds no text."""
    if source.is_binary():
        raise CorpusError(
            f"{source.name} looks like a binary file: it has a NUL byte near its start. "
            "Name a text file instead; if it is UTF-16 text, set encoding to utf-16."
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
        raise CorpusError(f"Cannot read {name}: {error}.") from None

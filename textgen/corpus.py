"""Files -> stream of documents. The only module that reads the user's text.

    corpus = Corpus(["poems.txt", "more/", "-"])
    for document in corpus.documents():
        ...

A document is a str, exactly as read after newline normalisation. However large the files, only a part of one
document is in memory at a time (a record of a .jsonl or .csv file is read whole).
"""

from __future__ import annotations

import bz2
import codecs
import csv
import difflib
import glob
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from textgen.config import CorpusConfig
from textgen.documents import (
    PART_CHARS,
    Part,
    block_documents,
    guess_documents,
    line_documents,
    lines_of,
    whole_document,
)
from textgen.errors import CorpusError
from textgen.labels import FOLDER, as_label, json_label

__all__ = ["Corpus", "CorpusStats", "Part"]

CHUNK_BYTES = 1 << 18  # files are read so many bytes at a time
SAMPLE_FILES = 8  # so many files are looked at to guess what a document is
SAMPLE_CHARS = 1 << 20  # ... and so many characters of each

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
EXPANSION = 4  # times that a compressed text is about as long as its file
RECORDS = (".jsonl", ".ndjson", ".csv", ".tsv")  # each record is a document, whatever the mode
LINE_RECORDS = (".jsonl", ".ndjson")  # a record is a line, whatever is in it
PLAIN_ENCODINGS = ("utf-8", "ascii", "iso8859", "cp125", "koi8", "gb", "big5", "euc_", "shift_jis")
"""Names (their beginnings) of encodings in which the byte 10 is a newline, wherever one begins to read."""

EXCERPTS = 256  # stretches of a corpus that a sample of it is taken from
GLANCE_BYTES = 1 << 16  # of the beginning, middle and end of a file, by which it is recognised


@dataclass(frozen=True)
class CorpusStats:
    """What a corpus holds."""

    files: int
    documents: int
    characters: int
    bytes: int  # of the documents in UTF-8, however the files are encoded and compressed
    lines: int
    words: int  # separated by whitespace
    distinct_characters: int
    longest_document: int  # in characters
    characters_by_frequency: tuple[tuple[str, int], ...]  # the 20 commonest
    character_counts: dict[str, int]  # all of them, the commonest first
    labels: dict[str, int]  # documents that have each, the commonest first


class Corpus:
    """The documents of some files.

    `paths` are files, folders (read recursively, without hidden files), globs, or `-` for standard input.
    Attributes: `files`, each once, in order; `skipped`, the binary files left out of folders and globs;
    `documents_mode`, one of `textgen.config.DOCUMENT_MODES`; `guess_reason`, why that mode, or None when
    `config.documents` chose it. Raises `CorpusError` for whatever cannot be found or read.
    """

    def __init__(self, paths: Sequence[str | Path], config: CorpusConfig = CorpusConfig()) -> None:  # noqa: B008
        _check_encoding(config.encoding)
        self.config = config
        self.skipped: list[Path] = []
        self._temporary: list[weakref.finalize] = []
        self._sources = self._find([paths] if isinstance(paths, (str, Path)) else paths)
        self.files = [source.path for source in self._sources]
        self.guess_reason: str | None = None
        self.documents_mode = config.documents or self._guess()
        self._stats: CorpusStats | None = None
        self._fingerprint: str | None = None

    def parts(self) -> Iterator[Part]:
        """The documents in bounded memory: parts up to one that `ends_document` make up a document.

        Documents of only whitespace are left out. Raises `CorpusError` at the end when there was no other.
        """
        empty = True
        for source in self._sources:
            for part in source.parts(self.documents_mode):
                empty = False
                yield part
        if empty:
            names = ", ".join(source.name for source in self._sources[:3])
            names += ", ..." if len(self._sources) > 3 else ""
            raise CorpusError(f"No text in {names}: nothing but blanks. Name files that hold text.")

    def documents(self) -> Iterator[str]:
        """The documents, each whole."""
        held: list[str] = []
        for part in self.parts():
            if not part.ends_document:
                held.append(part.text)
            elif held:
                yield "".join([*held, part.text])
                held.clear()
            else:
                yield part.text

    def stats(self) -> CorpusStats:
        """Counts over the whole corpus: one pass, the first time. Raises `CorpusError` for no text."""
        if self._stats is None:
            self._stats = _count(self.parts(), len(self.files))
        return self._stats

    def labels(self) -> dict[str, int]:
        """How many documents have each label, the commonest first.

        Raises `CorpusError` where `config.labels` asks for labels and no document has one.
        """
        if self.config.labels is None:
            return {}
        if not self.stats().labels:
            table = next((source for source in self._sources if source.format), None)
            fields = table.fields() if table else []
            there = f"There are: {', '.join(fields)}." if fields else "These files have neither columns nor fields."
            raise CorpusError(
                f"No document has a label {self.config.labels!r}. Set labels to a column, a field, or {FOLDER}. {there}"
            )
        return self.stats().labels

    def section(self, index: int, count: int) -> Iterator[Part]:
        """The documents of one of `count` stretches of the corpus that are equally long; `index` is from 0.

        All sections together are `parts()`, in its order. The stretches are of bytes, the files one after the
        other. A document belongs to the stretch in which it begins; where a whole file is one, it
        is cut between two lines. What can be read only from its beginning (compressed files, tables, UTF-16)
        belongs whole to the stretch where it begins. A section may be empty.
        """
        for source in self._sections(index, count):
            yield from source.parts(self.documents_mode)

    def excerpts(self, size: int) -> Iterator[str]:
        """About `size` bytes of text in stretches from all over the corpus; all of it if it is not larger.

        No more is read than is given, but for files that can be read only from their beginning.
        """
        if self.size <= size:
            yield from (part.text for part in self.parts())
            return
        share, longest = size / self.size, max(1, size // EXCERPTS)
        credit = 0.0  # bytes that may be given
        for index in range(EXCERPTS):
            for source in self._sections(index, EXCERPTS):
                credit += share * source.size if source.can_be_entered else 0.0
                for part in source.parts(self.documents_mode):
                    credit += 0.0 if source.can_be_entered else share * len(part.text.encode())
                    if credit > 0:
                        text = part.text[:longest]
                        yield text
                        credit -= len(text.encode())
                    elif source.can_be_entered:
                        break

    @property
    def size(self) -> int:
        """About how many bytes of text there are, from the sizes of the files."""
        return self._borders[-1]

    def glance(self) -> str:
        """SHA-256, in hex, of the config, the files' sizes and some of the bytes of each: quick, however large.

        It tells one corpus from another, but not from one with a few bytes changed; `fingerprint` does.
        """
        return self._digest([source.glance() for source in self._sources])

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that decides the documents: the files' bytes and formats, and the config.

        Names do not count, so a moved corpus keeps its fingerprint. Read once.
        """
        if self._fingerprint is None:
            self._fingerprint = self._digest([source.fingerprint() for source in self._sources])
        return self._fingerprint

    def close(self) -> None:
        """Removes the copy of standard input, if there is one. The end of the program does so too."""
        for remove in self._temporary:
            remove()

    def _digest(self, files: list[list[str]]) -> str:
        config = asdict(replace(self.config, documents=self.documents_mode))
        return hashlib.sha256(json.dumps([config, files]).encode()).hexdigest()

    def _sections(self, index: int, count: int) -> Iterator[_Source]:
        """What the files have in one of `count` equal stretches."""
        first, last = self.size * index // count, self.size * (index + 1) // count
        number = bisect_right(self._borders, first) - 1
        while self._borders[number] < last:
            start = self._borders[number]
            yield from self._sources[number].section(first - start, last - start, self.documents_mode)
            number += 1

    @cached_property
    def _borders(self) -> list[int]:
        """Where each file begins if they lie one after the other, and where the last ends."""
        return [0, *itertools.accumulate(source.size for source in self._sources)]

    def _guess(self) -> str:
        sources = [source for source in self._sources if not source.format]
        step = -(-len(sources) // SAMPLE_FILES) or 1  # spread over the corpus: its first files may be alike
        samples = [source.sample() for source in sources[::step]]
        mode, self.guess_reason = guess_documents(samples, len(self._sources))
        return mode

    def _find(self, paths: Sequence[str | Path]) -> list[_Source]:
        """Every file that `paths` name, once."""
        found: dict[Path, _Source] = {}
        for name in dict.fromkeys(map(str, paths)):
            with _reading(name):
                for source in self._expand(name):
                    found.setdefault(source.path.resolve(), source)
        if not found:
            raise CorpusError("No files to read. Name files, folders, or - for standard input.")
        return list(found.values())

    def _expand(self, name: str) -> list[_Source]:
        path = Path(name)
        if name == "-":
            return [self._standard_input()]
        if path.is_dir():
            return self._text_files(name, _files_below(path))
        if path.is_file():
            return [_not_binary(_Source(path, name, self.config))]
        if path.exists():  # a pipe, such as the shell's <(...), can be read only once
            with path.open("rb") as stream:
                return [self._spool(stream, name)]
        if matches := sorted(glob.glob(name, recursive=True)):
            return self._text_files(name, [file for match in matches for file in _files_below(Path(match))])
        raise CorpusError(_missing(path))

    def _text_files(self, name: str, files: Iterable[Path]) -> list[_Source]:
        """The files of a folder or glob but for binary ones, which are remembered in `skipped`."""
        sources = [_Source(file, str(file), self.config) for file in files]
        binary = {source.path for source in sources if source.is_binary()}
        self.skipped += sorted(binary.difference(self.skipped))
        if len(binary) == len(sources):
            why = f"{len(binary)} binary files are all there is" if binary else "there are no files"
            raise CorpusError(f"No text in {name}: {why} (hidden ones do not count). Name text files.")
        return [source for source in sources if source.path not in binary]

    def _standard_input(self) -> _Source:
        if sys.stdin is None or sys.stdin.isatty():
            raise CorpusError("- is standard input, which is a terminal here: pipe a text into it.")
        return self._spool(sys.stdin.buffer, "standard input")

    def _spool(self, stream: BinaryIO, name: str) -> _Source:
        """Copies `stream` to a temporary file, because a corpus is read several times."""
        folder = tempfile.mkdtemp(prefix="textgen-")
        self._temporary.append(weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True))
        path = Path(folder, "text")
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy, CHUNK_BYTES)
        if not path.stat().st_size:
            raise CorpusError(f"No text in {name}: it is empty. Pipe a text into it.")
        return _not_binary(_Source(path, name, self.config, is_copy=True))


@dataclass(frozen=True)
class _Source:
    """One file, or a section of it: bytes -> text -> parts of documents. Its suffixes tell the format."""

    path: Path
    name: str  # in messages
    config: CorpusConfig
    start: int = 0  # where the section begins, in bytes
    stop: int | None = None  # where it ends, None at the end of the file
    is_copy: bool = False  # of a pipe, in a folder of our own

    @property
    def compression(self) -> str:
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
        with _reading(self.name):
            stop = self.path.stat().st_size if self.stop is None else self.stop
        return (stop - self.start) * (EXPANSION if self.compression else 1)

    @property
    def can_be_entered(self) -> bool:
        """Whether it can be read from the middle: plain text or a record a line, in an ordinary encoding."""
        ordinary = codecs.lookup(self.config.encoding).name.startswith(PLAIN_ENCODINGS)
        return ordinary and not self.compression and (not self.format or self.format in LINE_RECORDS)

    def section(self, first: int, last: int, mode: str) -> Iterator[_Source]:
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
        with _reading(self.name), self.path.open("rb") as file:
            file.seek(offset - 1)
            _pass_line(file)
            if mode == "blank-line" and not self.format:
                while not _pass_line(file):
                    pass
            return file.tell()

    def fingerprint(self) -> list[str]:
        with _reading(self.name), self.path.open("rb") as file:
            return [*self._kind(), hashlib.file_digest(file, "sha256").hexdigest()]

    def glance(self) -> list[str]:
        digest = hashlib.sha256()
        with _reading(self.name), self.path.open("rb") as file:
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
        with _reading(self.name, self.compression), self.path.open("rb") as file:
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

    def _whole(self) -> _Source:
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
        return "\t" if self.format == ".tsv" else ","

    def json_records(self) -> Iterator[tuple[str, str | None]]:
        """Texts and their labels."""
        field, label = self.config.labels, self.folder_label
        for number, line in enumerate(lines_of(self.texts()), 1):
            if line and not line.isspace():
                place = f"{self.name}, line {number}"
                text = json_text(line, self.config.text_field, place)
                if self.config.newlines == "normalize" and "\r" in text:
                    text = text.replace("\r\n", "\n").replace("\r", "\n")
                yield text, json_label(line, field, place) if field and field != FOLDER else label

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


def _files_below(path: Path) -> list[Path]:
    """The files of a folder, sorted, hidden ones left out; a file is its own."""

    def refuse(error: OSError) -> None:
        raise error

    if not path.is_dir():
        return [path] if path.is_file() else []
    files: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file())


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


def _count(parts: Iterable[Part], files: int) -> CorpusStats:
    occurrences = np.zeros(sys.maxunicode + 1, np.int64)  # of each character
    labels = Counter[str]()
    documents = unended = words = size = longest = length = 0
    inside_word = False
    for batch in _batches(parts):
        text = "".join(f"{part.text}\n" if part.ends_document else part.text for part in batch)
        found = np.bincount(np.frombuffer(text.encode("utf-32-le"), "<u4"))
        occurrences[: len(found)] += found
        size += len(text.encode())
        words += len(text.split()) - (inside_word and not text[0].isspace())
        inside_word = not text[-1].isspace()
        for part in batch:
            length += len(part.text)
            if part.ends_document:
                documents += 1
                unended += not part.text.endswith("\n")
                longest, length = max(longest, length), 0
                if part.label:
                    labels[part.label] += 1
    occurrences[ord("\n")] -= documents  # those put between documents
    counts = Counter({chr(code): int(occurrences[code]) for code in np.flatnonzero(occurrences)})
    return CorpusStats(
        files=files,
        documents=documents,
        characters=counts.total(),
        bytes=size - documents,
        lines=counts["\n"] + unended,
        words=words,
        distinct_characters=len(counts),
        longest_document=longest,
        characters_by_frequency=tuple(counts.most_common(20)),
        character_counts=dict(counts.most_common()),
        labels=dict(labels.most_common()),
    )


def _batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts by the about `PART_CHARS` characters, since counting in many short texts is slow."""
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += len(part.text) + 1
        if size >= PART_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def json_text(line: str, field: str, place: str) -> str:
    """The text in a line of a .jsonl file: its `field`, or the line itself where that is a string.

    `place` names the line in the `CorpusError` that is raised where there is none.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise CorpusError(f'{place}: not JSON ({why}). Expected a line such as {{"{field}": "..."}}.') from None
    if isinstance(value, dict):
        if field not in value:
            fields = ", ".join(value) or "(it has none)"
            raise CorpusError(f"{place}: no field {field!r}. Set text_field to one of: {fields}.")
        value = value[field]
        if not isinstance(value, str):
            raise CorpusError(f"{place}: field {field!r} is {_kind(value)}. Set text_field to one that is a string.")
    if not isinstance(value, str):
        raise CorpusError(f"{place}: {_kind(value)}. Expected an object or a string.")
    if "\\u" in line:
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


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)  # knows text encodings from others, such as hex
    except (LookupError, ValueError):
        examples = "utf-8, latin-1, gb18030 or utf-16"
        raise CorpusError(f"There is no encoding {encoding!r}. Set encoding to one such as {examples}.") from None


def _undecodable(name: str, encoding: str, error: UnicodeError, fed: int) -> str:
    """The message about bytes that are not in the encoding, found when `fed` bytes had been decoded."""
    where = str(error)
    if isinstance(error, UnicodeDecodeError):  # whose object is the end of what was fed
        where = f"byte 0x{error.object[error.start]:02x} at offset {fed - len(error.object) + error.start}"
    return (
        f"{name} is not {encoding} text: {where}. "
        "Set encoding to the one it was written in, such as latin-1, gb18030 or utf-16."
    )


def _not_binary(source: _Source) -> _Source:
    if source.is_binary():
        raise CorpusError(
            f"{source.name} looks like a binary file: it has a NUL byte near its start. "
            "Name a text file instead; if it is UTF-16 text, set encoding to utf-16."
        )
    return source


def _missing(path: Path) -> str:
    if glob.has_magic(str(path)):
        return f"Nothing matches {path}. Check the pattern."
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    close = [str(path.parent / name) for name in difflib.get_close_matches(path.name, names)]
    hint = f"Did you mean {' or '.join(close)}?" if close else "Check the path."
    return f"{path} does not exist. {hint}"


@contextmanager
def _reading(name: str, compression: str = "") -> Iterator[None]:
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

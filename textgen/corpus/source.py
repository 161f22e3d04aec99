"""Reads one file, or a section of it: decompresses and decodes it, and splits it into labelled documents.

The suffixes of the file name determine its format (plain text, records such as .jsonl and .csv, or rich text such as
.docx) and its compression. Only part of one document is in memory at a time (records are read whole). Rich text is
converted to a temporary file once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from textgen.corpus.boundaries import can_find, end_of_line, end_of_separator
from textgen.corpus.config import UTF8, CorpusConfig, separator_of
from textgen.corpus.documents import (
    Part,
    block_documents,
    has_separator,
    line_documents,
    separated_documents,
    whole_document,
)
from textgen.corpus.encoding_guess import is_surely_utf8, marked_encoding
from textgen.corpus.encodings import is_plain, is_utf8_name, is_wide
from textgen.corpus.formats.bounded_lines import bounded_lines
from textgen.corpus.formats.conversion import Conversions
from textgen.corpus.formats.decompression import COMPRESSIONS, decompressed, reading
from textgen.corpus.formats.extras import missing_for
from textgen.corpus.formats.findings import Findings
from textgen.corpus.formats.parquet import parquet_columns, parquet_rows
from textgen.corpus.formats.records import FORMATS, LINE_FORMATS, RecordFile
from textgen.corpus.formats.rich_text import PAGES, RICH, WHOLE, RichFile
from textgen.corpus.labels import FOLDER, as_label
from textgen.corpus.learned_markup import MARKUP, markup_advice
from textgen.corpus.left_out import LeftOut
from textgen.corpus.text_decoding import NotInEncoding, decoded
from textgen.errors import CorpusError
from textgen.storage.remote_files import RemoteFile
from textgen.wording import visible

SAMPLE_CHARS = 1 << 20  # characters per file used to guess the documents mode

EXPANSION = 4  # estimated ratio of the size of a text to its compressed size
DONE = re.compile("^(Skipped|Replaced)(?= (1 )?)")  # how messages begin that are errors with `CorpusConfig.strict`
START_BYTES = 1 << 13  # read to tell text from binary files
TEXTS = (
    ".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".log", ".yaml", ".yml", ".py", ".js", ".ts", ".java",
    ".c", ".cpp", ".h", ".go", ".rs",
)  # fmt: skip
"""Suffixes of text that a web page is not, besides those of `MARKUP`, `FORMATS` and `RICH`."""


@dataclass
class Known:
    """What reading a file has shown, so that its sections do not read the same bytes again and again.

    Attributes:
        border: The start of a document that was found last: the documents mode, the first and the last offset for which
            it is the next one, and the start.
        is_blank: Whether the file holds only white space. None if that is not known yet.
        encoding: The encoding of the file. None if that is not known yet.
        is_marked: Whether that is the encoding of a byte-order mark.
        wide: The encoding of a file that looks binary, if it may be text in UTF-16 or UTF-32; "" if not.
        seems_utf8: Whether the start of the file is UTF-8, though another encoding is set.
        is_misnamed: Whether the file is a page in UTF-8 that names another encoding.
        book: What `textgen.corpus.fetching.gutenberg.book_in` returns.
        markup: One of `HIDDEN_MARKUP` in which plain text begins, or "".
    """

    border: tuple[str, int, int, int] = ("", 0, -1, 0)
    is_blank: bool | None = None
    encoding: str | None = None
    is_marked: bool = False
    wide: str = ""
    seems_utf8: bool = False
    is_misnamed: bool = False
    book: str = ""
    markup: str = ""


@dataclass(frozen=True)
class Source:
    """Reads a file, or a section of it.

    All methods and properties that read the file raise `CorpusError` if that fails.

    Attributes:
        path: Path of the file.
        name: Name of the file in messages.
        config: Settings for reading the file.
        start: Offset of the section in bytes.
        stop: End of the section in bytes. None means the end of the file.
        is_copy: Whether the file is a temporary copy of standard input or a pipe.
        conversions: The texts of files that are not plain text.
        is_alone: Whether no other file is read with the same settings, such as another of the corpus.
        has_others: Whether other files were found with it.
        remote: The file elsewhere of which `path` is a copy, which is made when it is first read. None for local files.
        known: What reading the file has shown; sections share it with the file.
    """

    path: Path
    name: str
    config: CorpusConfig
    start: int = 0
    stop: int | None = None
    is_copy: bool = False
    is_alone: bool = field(default=True, compare=False)
    has_others: bool = field(default=False, compare=False)
    conversions: Conversions = field(default_factory=Conversions, compare=False, repr=False)
    remote: RemoteFile | None = field(default=None, compare=False)
    known: Known = field(default_factory=Known, compare=False, repr=False)

    @property
    def place(self) -> str:
        """Where the file is: an absolute path, or the address of a file elsewhere."""
        return self.remote.address if self.remote else str(self.path.absolute())

    @property
    def compression(self) -> str:
        """One of `COMPRESSIONS`, or "" for a file that is not compressed, or no longer when it comes from elsewhere."""
        suffix = self._named_compression
        return "" if suffix and self.remote and self.remote.is_decompressed else suffix

    @property
    def _named_compression(self) -> str:
        """The compression that the file name tells, or ""."""
        suffix = self.path.suffix.lower()
        return suffix if suffix in COMPRESSIONS else ""

    @property
    def format(self) -> str:
        """One of `textgen.corpus.formats.records.FORMATS`, or "" for text."""
        return self._suffix if self._suffix in FORMATS else ""

    @property
    def rich(self) -> str:
        """One of `textgen.corpus.formats.rich_text.RICH`, or "" for a file whose text is its bytes."""
        return self._suffix if self._suffix in RICH else ""

    @property
    def markup(self) -> str:
        """One of `MARKUP` or `HIDDEN_MARKUP` (see `Known`); "" for a file without markup to be learned."""
        return self._suffix if self._suffix in MARKUP else self.known.markup

    @property
    def without_markup(self) -> str:
        """What to do to learn a file of `markup` without it; "" for others."""
        return markup_advice(self.markup, is_elsewhere=self.remote is not None)

    @property
    def missing(self) -> str:
        """What must be installed to read the file; "" if nothing is missing."""
        return missing_for(self._suffix)

    @property
    def _suffix(self) -> str:
        """The suffix of the file name that tells the format; "" for a copy, whose name tells nothing.

        The names of web pages may have any suffix, or none.
        """
        path = self.path.with_suffix("") if self._named_compression else self.path
        suffix = "" if self.is_copy else path.suffix.lower()
        is_known = self._named_compression or suffix in (*TEXTS, *MARKUP, *FORMATS, *RICH)
        return suffix if is_known or not self.remote else self.remote.page or suffix

    @property
    def is_mistaken_page(self) -> bool:
        """Whether a server sent a web page where the address names a file of another kind."""
        return self.remote is not None and self._suffix not in PAGES and bool(self.remote.page)

    @property
    def encoding(self) -> str:
        """The encoding of the byte-order mark of the file, or that of the settings if it has none."""
        return self.known.encoding or self.note_encoding(replace(self, start=0, stop=None).beginning())

    def note_encoding(self, start: bytes) -> str:
        """Determines `encoding` from the bytes near the start of the file, and notes it and what else they show."""
        marked = marked_encoding(start)
        self.known.is_marked = marked is not None
        self.known.encoding = marked or self.config.text_encoding
        given = self.config.encoding
        if given and not marked and self.rich != ".rtf" and not is_utf8_name(given) and not is_wide(given):
            self.known.seems_utf8 = is_surely_utf8([start])
        return self.known.encoding

    @property
    def folder_label(self) -> str | None:
        """Label of all documents of the file if labels are names of folders, or None.

        Of a link, it is the folder of the link: where the file itself lies, the files of all labels may lie together.
        """
        if self.config.labels != FOLDER or self.is_copy:
            return None
        folder = PurePosixPath(self.remote.path).parent if self.remote else self.path.parent.resolve()
        return as_label(visible(folder.name), self.name)

    @property
    def size(self) -> int:
        """Size of the section in bytes. Estimated for files that are compressed."""
        with reading(self.name):
            stop = self._file_size() if self.stop is None else self.stop
        return max(0, stop - self.start) * (EXPANSION if self.compression or self.format == ".parquet" else 1)

    @property
    def kind(self) -> str:
        """What decides how much of a file is text, unless it is rich: format and encoding. "" for text in UTF-8."""
        is_known = self.rich or self.format == ".parquet" or is_utf8_name(self.encoding)
        return self.format + ("" if is_known else self.encoding)

    @property
    def can_be_entered(self) -> bool:
        """Whether reading can start in the middle of the file.

        True for uncompressed plain text and JSON lines in an encoding that `is_plain` accepts.
        """
        whole = self.compression or self.rich or (self.format and self.format not in LINE_FORMATS)
        return not whole and is_plain(self.encoding)

    def section(self, first: int, last: int, mode: str) -> Iterator[Source]:
        """Selects the documents that begin in a range of bytes. The range may extend beyond the file.

        Args:
            first: Start of the range in bytes.
            last: End of the range in bytes, exclusive.
            mode: One of `textgen.corpus.config.DOCUMENT_MODES`, or a separator.

        Yields:
            A source for the section, or nothing if no document begins in the range.

        Raises:
            CorpusError: The file cannot be read.
        """
        if not self.can_be_entered or not (self.format or can_find(separator_of(mode), self.encoding)):
            if first <= 0:
                yield self
            return
        start, stop = self._next_start(first, mode), self._next_start(last, mode)
        if start < stop:
            name = f"{self.name} (from byte {start:,} on)" if start else self.name
            yield replace(self, name=name, start=start, stop=None if stop == self.size else stop)

    def _next_start(self, offset: int, mode: str) -> int:
        """Finds the first start of a document, or of a line in mode "file", at or after `offset` bytes.

        Sections in order ask for nearly the same offsets, and the next start may be far away: the last one is kept.
        """
        if offset <= 0 or offset >= self.size:
            return max(0, min(offset, self.size))
        known, first, last, start = self.known.border
        if known == mode and first <= offset <= last:
            return start
        with reading(self.name), self.fetched().open("rb") as file:
            if (separator := separator_of(mode)) and not self.format:
                end = end_of_separator(file, offset, separator.encode())
                last = start = self.size if end is None else end
            else:
                last, start = end_of_line(file, offset, is_blank=mode == "blank-line" and not self.format)
        self.known.border = mode, offset, last, start
        return start

    def _file_size(self) -> int:
        if self.remote and self.remote.size is not None:
            return self.remote.size
        return self.fetched().stat().st_size

    def fetched(self) -> Path:
        """Returns the path of the file, which is copied from elsewhere if need be."""
        return self.remote.fetch() if self.remote else self.path

    def beginning(self) -> bytes:
        """Returns `START_BYTES` decompressed bytes, or fewer of a short file, which is not copied from elsewhere."""
        if self.remote and not self.compression and not self.remote.local().exists():
            return self.remote.head(START_BYTES)
        start = b""
        for chunk in self.chunks():
            start += chunk
            if len(start) >= START_BYTES:
                break
        return start[:START_BYTES]

    def has_separator(self, mode: str) -> bool:
        """Whether the separator of a documents mode occurs in the text."""
        return has_separator(self.texts(), separator_of(self.config.as_read(mode)) or "")

    def sample(self) -> str:
        """Returns at most `SAMPLE_CHARS` characters from the beginning of the text, cut after a newline if possible."""
        sample = ""
        for text in self.texts():
            sample += text
            if len(sample) > SAMPLE_CHARS:
                return sample[: sample.rfind("\n", 0, SAMPLE_CHARS) + 1] or sample[:SAMPLE_CHARS]
        return sample

    def chunks(self) -> Iterator[bytes]:
        """Iterates over the decompressed bytes of the section.

        Yields:
            Chunks of about `CHUNK_BYTES` bytes.

        Raises:
            CorpusError: The file cannot be read or decompressed.
        """
        with reading(self.name, self.compression), self.fetched().open("rb") as file:
            yield from decompressed(file, self.compression, self.start, self.stop)

    def texts(self) -> Iterator[str]:
        """Iterates over the text of the section, without a byte-order mark.

        Newlines are normalized unless `config.newlines` is "keep".

        Yields:
            Consecutive strings that make up the text.

        Raises:
            CorpusError: The file cannot be read or converted, or is not in its encoding.
        """
        if self.rich:
            converted = replace(
                self,
                path=self.converted()[0],
                config=replace(self.config, encoding=UTF8),
                is_copy=True,
                remote=None,
            )
            return converted._decoded(UTF8)
        return self._decoded(self.encoding)

    def converted(self) -> tuple[Path, Findings]:
        """Returns the text of a rich file as a file in UTF-8, and messages about what has no text.

        Raises:
            CorpusError: The file cannot be read or is damaged, or it is compressed though its format is already.
        """
        if self.compression and self.rich in WHOLE:
            raise CorpusError(f"Cannot read {self.name}: {self.rich} files are compressed inside. Decompress it first.")
        file = RichFile(
            self.fetched(),
            self.name,
            self.rich,
            self.config.encoding,
            self._decoded,
            self.beginning,
            self._is_misnamed,
        )
        with reading(self.name):
            return self.conversions.converted(file)

    def _decoded(self, encoding: str, errors: str = "strict", shown_encoding: str = "") -> Iterator[str]:
        """Iterates over the decoded text of the section."""
        return decoded(
            self.chunks(),
            name=self.name,
            encoding=encoding,
            newlines=self.config.newlines,
            start=self.start,
            errors=errors,
            shown_encoding=shown_encoding,
            is_alone=self.is_alone,
            is_marked=self.known.is_marked,
        )

    def _is_misnamed(self) -> bool:
        """Whether a page that names another encoding is in UTF-8. Reads it up to the first byte that is not."""
        self.known.is_misnamed = is_surely_utf8(self.chunks())
        return self.known.is_misnamed

    def parts(self, mode: str, left_out: LeftOut | None = None) -> Iterator[Part]:
        """Iterates over the documents in parts.

        Args:
            mode: One of `textgen.corpus.config.DOCUMENT_MODES`, or a separator. Has no effect on tables and JSON.
            left_out: Counts the records without text.

        Yields:
            The parts of the documents.

        Raises:
            CorpusError: The file cannot be read or decoded, or a record is malformed.
        """
        left_out = left_out or LeftOut()
        if self.format:
            for text, label in self._read_records(self.record_file(left_out)):
                yield from whole_document([text], label=label)
            return
        self._note_conversion(left_out)
        label = self.folder_label
        for part in self._plain_parts(mode):
            yield Part(part.text, ends_document=part.ends_document, label=label) if label else part

    def lines(self, left_out: LeftOut) -> Iterator[tuple[int, str]]:
        """Iterates over the lines that are not blank, or the texts of the records of a table or of JSON.

        Args:
            left_out: Counts the records without text.

        Yields:
            Number of the line, or of the text among those of the records, from 1; and the line or the text.

        Raises:
            CorpusError: The file cannot be read or decoded, a record is malformed, or a line is too long.
        """
        if self.format:
            texts = (text for text, _ in self._read_records(self.record_file(left_out)))
            yield from enumerate(texts, 1)
            return
        self._note_conversion(left_out)
        for number, line in enumerate(bounded_lines(self.texts(), self.name), 1):
            if line and not line.isspace():
                yield number, line

    def _note_conversion(self, left_out: LeftOut) -> None:
        """Notes what has no text in a rich file, and an encoding not as named.

        Raises:
            CorpusError: Part of the file cannot be read, and `config.strict` is set.
        """
        if not self.rich:
            return
        findings = self.converted()[1]
        if self.known.is_misnamed:
            left_out.misnamed[self.name] = None
        if self.config.strict and findings.lost:
            lost = DONE.sub(lambda done: "There is" if done[2] else "There are", " ".join(findings.lost))
            raise CorpusError(f"{lost} Or leave strict out to read the rest.")
        if notes := [*findings.lost, *findings.doubtful]:
            left_out.notes[self.name] = " ".join(notes)

    def _plain_parts(self, mode: str) -> Iterator[Part]:
        if mode == "line":
            yield from line_documents(self.texts())
        elif mode == "blank-line":
            yield from block_documents(self.texts())
        elif separator := separator_of(self.config.as_read(mode)):
            yield from separated_documents(self.texts(), separator)
        elif not self._is_blank():
            yield from whole_document(self.texts(), ends_document=self.stop is None)

    def _is_blank(self) -> bool:
        """Whether the whole file holds only white space. Reads it, to avoid buffering blanks."""
        if self.known.is_blank is None:
            self.known.is_blank = all(map(str.isspace, replace(self, start=0, stop=None).texts()))
        return self.known.is_blank

    def fields(self) -> list[str]:
        """Lists the columns of a table, or the fields of its first JSON record."""
        if self.format == ".parquet":
            return parquet_columns(self.fetched(), self.name)
        return self.record_file(LeftOut()).fields(self.texts())

    def json_lines(self, left_out: LeftOut) -> Iterator[tuple[str, Any, str]]:
        """Iterates over the lines as JSON, whatever the suffix of the file: place, record and text, which may be blank.

        Args:
            left_out: Counts the records without text.

        Yields:
            File and line of the record, the decoded JSON value, and its text.

        Raises:
            CorpusError: The file cannot be read or decoded, or a line is not JSON.
        """
        file = RecordFile(self.name, ".jsonl", self.config, left_out=left_out, keeps_blank=True)
        return file.json_lines(self.texts())

    def _read_records(self, file: RecordFile) -> Iterator[tuple[str, str | None]]:
        """Iterates over the texts and labels of the records.

        The error for a file without any text that could be read says what to do if it is no part of the text, such as
        the `metadata.json` in a folder.
        """
        has_text = False
        try:
            for record in self._records_of(file):
                has_text = True
                yield record
        except NotInEncoding:
            raise
        except CorpusError as error:
            if has_text or not self.has_others:
                raise
            raise CorpusError(
                f"{error} Or, if the file is no part of the text, move it out of the folder, or name the other files."
            ) from None

    def _records_of(self, file: RecordFile) -> Iterator[tuple[str, str | None]]:
        if self.format != ".parquet":
            return file.read(self.texts())
        if self.compression:
            raise CorpusError(f"Cannot read {self.name}: .parquet files are compressed inside. Decompress it first.")
        labels = None if self.config.labels == FOLDER else self.config.labels
        return file.read_rows(parquet_rows(self.fetched(), self.name, self.config.text_column, labels))

    def record_file(self, left_out: LeftOut) -> RecordFile:
        """Returns what reads the texts of a file of records from its text."""
        is_whole = self.start == 0 and self.stop is None
        return RecordFile(self.name, self.format, self.config, self.folder_label, left_out, is_whole)

"""Reads texts and labels from tables and JSON, one record at a time.

A .jsonl file has one record per line; `textgen.corpus.json_values` reads .json files, and finds fields within fields.
A field with a list of strings is one text, a string a line. In a .csv file, double quotes enclose fields that contain
delimiters or newlines. In a .tsv file every line is a row, and quotes are part of the text. Records whose text is
missing, null or blank are skipped and counted, or are an error with `CorpusConfig.strict`. Records are limited to
`MAX_RECORD_CHARS` characters, so that memory stays bounded.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from textgen.corpus.config import CorpusConfig
from textgen.corpus.json_values import HINTS, MISSING, find, json_values, string_fields
from textgen.corpus.labels import FOLDER, as_label, json_label
from textgen.errors import CorpusError
from textgen.wording import counted

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")  # each record is a document, in every mode
LINE_FORMATS = (".jsonl", ".ndjson")  # one record per line
JSON_FORMATS = (*LINE_FORMATS, ".json")
DELIMITERS = (",", ";", "\t", "|")  # candidates for `detected_delimiter`
SAMPLE_CHARS = 1 << 16  # approximate length of the sample used to detect the delimiter, in characters
MAX_RECORD_CHARS = 1 << 26  # maximum length of a record, in characters

Record = tuple[str, str | None]  # text and label
_Value = tuple[str, Any, str, str | None]  # place, record, and the paths of its text and of its label


@dataclass
class LeftOut:
    """Counts records without text.

    Attributes:
        counts: Number of records without text by file name.
        first: Place of the first record without text by file name, such as "line 3".
        notes: Messages about other parts without text, such as scanned pages, by file name.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, place: str) -> None:
        """Counts a record without text.

        Args:
            name: Name of the file.
            place: Place of the record in the file, such as "line 3".
        """
        self.counts[name] = self.counts.get(name, 0) + 1
        self.first.setdefault(name, place)

    def merge(self, section: LeftOut, name: str) -> None:
        """Adds the counts of a section of a file.

        Args:
            section: Counts of the section, whose name begins with that of the file.
            name: Name of the file.
        """
        for part, count in section.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
            self.first.setdefault(name, section.first[part] + part.removeprefix(name))
        self.notes |= section.notes

    def lines(self) -> Iterator[str]:
        """Iterates over messages about what was skipped, one line per file."""
        for name, count in self.counts.items():
            yield f"Skipped {counted(count, 'record')} without text in {name}, the first in {self.first[name]}."
        yield from self.notes.values()


@dataclass
class RecordFile:
    """Reads the records of one file.

    Attributes:
        name: Name of the file in messages.
        format: One of `FORMATS`.
        config: Settings for reading the file.
        label: Label of all records if labels are names of folders, or None.
        left_out: Counts the records without text.
        is_whole: Whether the whole file is read. False for a section of it.
        keeps_blank: Whether blank texts are kept.
    """

    name: str
    format: str
    config: CorpusConfig
    label: str | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    is_whole: bool = True
    keeps_blank: bool = False
    _strings: dict[str, None] = field(default_factory=dict)  # fields with string values, for error messages

    @property
    def path(self) -> str:
        """Name of the field or column that holds the text."""
        return self.config.text_field if self.format in JSON_FORMATS else self.config.text_column

    @property
    def _noun(self) -> str:
        return "field" if self.format in JSON_FORMATS else "column"

    def read(self, texts: Iterable[str]) -> Iterator[Record]:
        """Iterates over the records that have a text.

        Args:
            texts: Consecutive strings that make up the content of the file.

        Yields:
            Text and label of each record.

        Raises:
            CorpusError: A record is malformed or too long, or the column or field of the text does not exist.
        """
        if self.format == ".json":
            return self._labelled(self._found(self._json_values(texts)))
        lines = bounded_lines(texts, self.name)
        return self._labelled(self.objects(lines)) if self.format in LINE_FORMATS else self._rows(lines)

    def read_rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Record]:
        """Iterates over the rows of a .parquet file that have a text.

        Args:
            rows: The rows, as values of their columns.

        Yields:
            Text and label of each row.

        Raises:
            CorpusError: A text is not a string or too long, or there is no column of the text.
        """
        return self._labelled(
            self._found((f"row {number}", row, self.path, self.config.labels) for number, row in enumerate(rows, 1))
        )

    def fields(self, texts: Iterable[str]) -> list[str]:
        """Lists the columns or fields of the file.

        Args:
            texts: Consecutive strings that make up the content of the file.

        Returns:
            Names from the header of a table or from the first JSON record. Column numbers, from 1, for a table
            without a header.

        Raises:
            CorpusError: The first record is malformed or too long.
        """
        if self.format == ".json":
            record: Any = next((record for record, _ in json_values(texts, self.name, self.path, MAX_RECORD_CHARS)), {})
            return list(record) if isinstance(record, dict) else []
        lines = bounded_lines(texts, self.name)
        if self.format in LINE_FORMATS:
            record = json.loads(next((line for line in lines if line.strip()), "{}"))
            return list(record) if isinstance(record, dict) else []
        first = next((row for _, row in self._all_rows(lines)), [])
        return [str(number + 1) for number in range(len(first))] if self.config.no_header else first

    def objects(self, lines: Iterable[str]) -> Iterator[tuple[str, Any, str, Any]]:
        """Iterates over the texts of JSON lines.

        Args:
            lines: Lines of the file.

        Yields:
            Place of the record (file and line), the decoded JSON value, the text, and the value of the label.

        Raises:
            CorpusError: A record is not JSON or its text is not a string, or no record has the field of the text.
        """
        return self._found(self._line_values(lines))

    def _line_values(self, lines: Iterable[str]) -> Iterator[_Value]:
        for number, line in enumerate(lines, 1):
            if line and not line.isspace():
                place = f"line {number}"
                yield place, json_record(line, self.path, f"{self.name}, {place}"), self.path, self.config.labels

    def _json_values(self, texts: Iterable[str]) -> Iterator[_Value]:
        labels = self.config.labels or ""
        for number, (record, done) in enumerate(json_values(texts, self.name, self.path, MAX_RECORD_CHARS), 1):
            yield f"record {number}", record, self.path.removeprefix(done), labels.removeprefix(done)

    def _found(self, values: Iterable[_Value]) -> Iterator[tuple[str, Any, str, Any]]:
        """Finds the texts in records."""
        is_empty, is_known = True, False
        for place, record, path, labels in values:
            where = f"{self.name}, {place}"
            is_empty = False
            self._note_strings(record, self.path.removesuffix(path))
            try:
                for found in find(record, path, None if labels == FOLDER else labels):
                    is_known = is_known or found.value is not MISSING
                    text = self._as_text(found.value, where)
                    if self._has_text(text, place):
                        yield where, record, text, found.label
            except TypeError as error:
                raise CorpusError(f"{where}: {_kind(error.args[0])}. Expected an object or a string.") from None
        if self.is_whole and not (is_empty or is_known):
            raise CorpusError(f"{self.name}: no {self._noun} {self.path!r} in any record. {self._hint()}")

    def _as_text(self, value: Any, where: str) -> str | None:
        """Returns a text, or several strings as the lines of one. None if the field is missing or null."""
        if value is MISSING or value is None:
            return None
        strings = [item for item in value if item is not None] if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in strings):
            raise CorpusError(
                f"{where}: {self._noun} {self.path!r} is {_kind(value)}{self._contents(value)}. Set text_{self._noun} "
                "to one that is a string, or a list of strings."
            )
        text = "\n".join(strings)
        if len(text) > MAX_RECORD_CHARS:
            raise CorpusError(f"{where}: a text of more than {MAX_RECORD_CHARS:,} characters, the limit. Split it.")
        check_characters(text, where)
        return text

    def _contents(self, value: Any) -> str:
        """What an object or a list of objects contains, for the message that it is no text."""
        fields = list(string_fields(value[0] if isinstance(value, list) else value))
        return f" with text in {', '.join(f'{self.path}.{name}' for name in fields)}" if fields else ""

    def _labelled(self, found: Iterable[tuple[str, Any, str, Any]]) -> Iterator[Record]:
        labels = self.config.labels
        for place, _, text, label in found:
            text = self._normalized(text)
            yield text, json_label(label, labels, place) if labels and labels != FOLDER else self.label

    def _normalized(self, text: str) -> str:
        if self.config.newlines == "normalize" and "\r" in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def json_lines(self, texts: Iterable[str]) -> Iterator[tuple[str, Any, str]]:
        """Iterates over the records of JSON lines that have a text.

        Args:
            texts: Consecutive strings that make up the content of the file.

        Yields:
            Place of the record (file and line), the decoded JSON value, and the text.

        Raises:
            CorpusError: As of `objects`.
        """
        for place, record, text, _ in self.objects(bounded_lines(texts, self.name)):
            yield place, record, self._normalized(text)

    def _has_text(self, text: str | None, place: str) -> TypeGuard[str]:
        """Checks whether a record has text, and counts it if not. Raises `CorpusError` if `config.strict` is set."""
        if text is not None and (self.keeps_blank or (text and not text.isspace())):
            return True
        if self.config.strict:
            raise CorpusError(
                f"{self.name}, {place}: a record without text ({self._noun} {self.path!r} is missing, null or blank). "
                "Correct it, or leave strict out to skip and count such records."
            )
        self.left_out.add(self.name, place)
        return False

    def _note_strings(self, record: Any, before: str) -> None:
        if len(self._strings) < HINTS:
            self._strings |= {f"{before}{path}": None for path in string_fields(record)}

    def _hint(self) -> str:
        if not self._strings:
            return f"None of its {self._noun}s holds text: name another file."
        return f"Set text_{self._noun} to one that holds text: {', '.join(self._strings)}."

    def _rows(self, lines: Iterable[str]) -> Iterator[Record]:
        rows = self._all_rows(lines)
        number, header = next(rows, (0, []))
        if not header:
            return
        width = len(header)
        column = self._column(header)
        label_column = self._label_column(header)
        if self.config.no_header:
            rows = itertools.chain([(number, header)], rows)
        for number, row in rows:
            place = f"line {number}"
            if len(row) <= column or any(row[width:]):
                head = f"after a row of {width}" if self.config.no_header else f"under a header of {width}"
                raise CorpusError(
                    f"{self.name}, {place}: a row of {counted(len(row), 'field')} {head}. {self._quote_hint()}"
                )
            if not self._has_text(row[column], place):
                continue
            if label_column is None:
                yield row[column], self.label
            else:
                name = row[label_column] if len(row) > label_column else ""
                yield row[column], as_label(name, f"{self.name}, {place}")

    def _quote_hint(self) -> str:
        if self.format == ".tsv":
            return "A text in a .tsv file holds no tabs and newlines: write the table as .csv, with double quotes."
        return "Put double quotes around a text that holds separators or newlines."

    def _column(self, header: Sequence[str]) -> int:
        """Finds the index of the text column. Raises `CorpusError` if there is no such column."""
        column = self.config.text_column
        if self.config.no_header:
            if column == CorpusConfig.text_column and len(header) == 1:
                return 0
            if (index := _as_index(column, header)) is not None:
                return index
            raise CorpusError(
                f"{self.name} is read without a header, so its columns are numbers. "
                f"Set text_column to a number from 1 to {len(header)}."
            )
        if column not in header:
            raise CorpusError(
                f"{self.name}: no column {column!r}. Set text_column to one of: {', '.join(header)}. "
                "If these are not names but the first row, set no_header, and text_column to the number of a column."
            )
        return header.index(column)

    def _label_column(self, header: Sequence[str]) -> int | None:
        labels = self.config.labels
        if labels is None or labels == FOLDER:
            return None
        if self.config.no_header:
            return _as_index(labels, header)
        return header.index(labels) if labels in header else None

    def _all_rows(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        """Iterates over rows that are not empty, as the number of the row's last line and the fields."""
        if self.format == ".tsv":
            for number, line in enumerate(lines, 1):
                if fields := line.removesuffix("\r"):
                    yield number, fields.split(self.config.delimiter or "\t")
            return
        first, lines = _look_ahead(lines)
        delimiter = self.config.delimiter or detected_delimiter(first, self.config)
        csv.field_size_limit((1 << 31) - 1)  # the length of records is checked by `_Counting`
        counting = _Counting(lines, self.name)
        # strict, because otherwise an unclosed quote would consume the rest of the file
        rows = csv.reader(counting, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                counting.size = 0
                if row:
                    yield rows.line_num, row
        except csv.Error as error:
            raise CorpusError(
                f"{self.name}, line {rows.line_num}: not {self.format[1:].upper()} ({error}). "
                "Put double quotes around a text that holds quotes, and double the quotes inside."
            ) from None


class _Counting:
    """Iterates over lines for `csv.reader`, and limits the length of rows that span several lines."""

    def __init__(self, lines: Iterable[str], name: str) -> None:
        self._lines = enumerate(lines, 1)
        self._name = name
        self.size = 0  # characters of the current row

    def __iter__(self) -> _Counting:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.size += len(line) + 1
        _check_size(self.size - 1, self._name, number)
        return f"{line}\n"


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
        _check_size(size, name, number)
        for other in others:
            yield "".join(held)
            number, held, size = number + 1, [other], len(other)
            _check_size(size, name, number)
    if size:
        yield "".join(held)


def _check_size(size: int, name: str, number: int) -> None:
    if size > MAX_RECORD_CHARS:
        raise CorpusError(
            f"{name}, line {number}: a record of more than {MAX_RECORD_CHARS:,} characters, the limit. Split it, "
            "or convert the file to plain text, which has no limit."
        )


def _look_ahead(lines: Iterable[str]) -> tuple[list[str], Iterator[str]]:
    """Returns the first lines, and an iterator over all lines."""
    lines, first, size = iter(lines), list[str](), 0
    for line in lines:
        first.append(line)
        size += len(line)
        if size > SAMPLE_CHARS:
            break
    return first, itertools.chain(first, lines)


def detected_delimiter(lines: Sequence[str], config: CorpusConfig) -> str:
    """Detects the delimiter of a table.

    Prefers a delimiter with which the header contains `config.text_column`, then one that gives most rows the same
    number of fields.

    Args:
        lines: First lines of the table.
        config: Settings for reading the table.

    Returns:
        One of `DELIMITERS`. A comma if none fits.

    Example:
        >>> detected_delimiter(["id;text", "1;Yes, and no", "2;No"], CorpusConfig())
        ';'
    """

    def fit(delimiter: str) -> tuple[bool, float]:
        rows = _rows_of(lines, delimiter)
        width = len(rows[0]) if rows else 0
        if width < 2:
            return False, 0.0
        is_named = not config.no_header and config.text_column in rows[0]
        return is_named, sum(len(row) == width for row in rows) / len(rows)

    best = max(DELIMITERS, key=fit)
    is_named, share = fit(best)
    return best if is_named or share > 0.9 else ","


def _rows_of(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Parses the rows of a table up to the first syntax error."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(row for row in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter) if row)
    return rows


def _as_index(number: str, header: Sequence[str]) -> int | None:
    """Converts a column number, from 1, to an index. None if there is no such column."""
    return int(number) - 1 if number.isdecimal() and 1 <= int(number) <= len(header) else None


def json_record(line: str, name: str, place: str) -> Any:
    """Decodes a line of a .jsonl file.

    Args:
        line: Line of the file.
        name: Name of the field with the text, for error messages.
        place: File and line, for error messages.

    Returns:
        The decoded JSON value.

    Raises:
        CorpusError: The line is not JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise CorpusError(f'{place}: not JSON ({why}). Expected a line such as {{"{name}": "..."}}.') from None


def check_characters(text: str, place: str) -> None:
    """Raises `CorpusError` for a text with half of a character, an unpaired surrogate.

    Args:
        text: The text.
        place: File and line, for the message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise CorpusError(f"{place}: {half} is half of a character (a lone surrogate). Write both halves.") from None


def _kind(value: object) -> str:
    names = {list: "a list", dict: "an object", bool: "true or false", type(None): "null", bytes: "bytes"}
    return names.get(type(value), "a number")

"""Tables and JSON lines -> texts and their labels, one record at a time.

A .jsonl file has a record a line. In a .csv file double quotes hold a field together; in a .tsv file a line is a
row, and quotes are text. A record without text, whose field is missing, null or blank, is left out and counted;
`CorpusConfig.strict` makes it an error. A record has at most `MAX_RECORD_CHARS` characters, so that memory stays
bounded.
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
from textgen.corpus.labels import FOLDER, as_label, json_label
from textgen.errors import CorpusError
from textgen.wording import counted

FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv")  # each record is a document, whatever the mode
LINE_FORMATS = (".jsonl", ".ndjson")  # a record is a line, whatever is in it
DELIMITERS = (",", ";", "\t", "|")  # of a .csv file, where its first lines decide
SAMPLE_CHARS = 1 << 16  # of these lines
MAX_RECORD_CHARS = 1 << 26

Record = tuple[str, str | None]  # a text and its label


@dataclass
class LeftOut:
    """The records without text in each file, and where the first of them stands."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, place: str) -> None:
        """One more record of the file `name`."""
        self.counts[name] = self.counts.get(name, 0) + 1
        self.first.setdefault(name, place)

    def lines(self) -> Iterator[str]:
        """What there is to say, a line a file."""
        for name, count in self.counts.items():
            yield f"Skipped {counted(count, 'record')} without text in {name}, the first in {self.first[name]}."


@dataclass
class RecordFile:
    """One file of records, as its lines are read."""

    name: str  # in messages
    format: str  # one of `FORMATS`
    config: CorpusConfig
    label: str | None = None  # of all its records, where labels are names of folders
    left_out: LeftOut = field(default_factory=LeftOut)
    is_whole: bool = True  # not only a section
    keeps_blank: bool = False  # texts that are blank count as texts
    _strings: dict[str, None] = field(default_factory=dict)  # fields that hold strings, in a JSON record at least

    def read(self, texts: Iterable[str]) -> Iterator[Record]:
        """The records that have a text."""
        lines = bounded_lines(texts, self.name)
        return self._json_records(lines) if self.format in LINE_FORMATS else self._rows(lines)

    def fields(self, texts: Iterable[str]) -> list[str]:
        """The names in the header of a table, or in the first JSON record; of a table without header, numbers."""
        lines = bounded_lines(texts, self.name)
        if self.format in LINE_FORMATS:
            record = json.loads(next((line for line in lines if line.strip()), "{}"))
            return list(record) if isinstance(record, dict) else []
        first = next((row for _, row in self._all_rows(lines)), [])
        return [str(number + 1) for number in range(len(first))] if self.config.no_header else first

    def _json_records(self, lines: Iterable[str]) -> Iterator[Record]:
        labels = self.config.labels
        for place, record, text in self.objects(lines):
            if self.config.newlines == "normalize" and "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            yield text, json_label(record, labels, place) if labels and labels != FOLDER else self.label

    def objects(self, lines: Iterable[str]) -> Iterator[tuple[str, Any, str]]:
        """Where each line of JSON that has a text stands, what it holds, and the text."""
        name = self.config.text_field
        is_empty, is_known = True, False
        for number, line in enumerate(lines, 1):
            if not line or line.isspace():
                continue
            place = f"line {number}"
            record = json_record(line, name, f"{self.name}, {place}")
            text = json_text(record, name, f"{self.name}, {place}")
            is_empty, is_known = False, is_known or not isinstance(record, dict) or name in record
            self._note_strings(record)
            if self._has_text(text, place):
                yield f"{self.name}, {place}", record, text
        if self.is_whole and not (is_empty or is_known):
            raise CorpusError(f"{self.name}: no field {name!r} in any record. {self._hint()}")

    def _has_text(self, text: str | None, place: str) -> TypeGuard[str]:
        """Whether a record has text; one that has none is counted. Raises `CorpusError` where that is an error."""
        if text is not None and (self.keeps_blank or (text and not text.isspace())):
            return True
        if self.config.strict:
            table = self.format not in LINE_FORMATS
            where = f"column {self.config.text_column!r}" if table else f"field {self.config.text_field!r}"
            raise CorpusError(
                f"{self.name}, {place}: a record without text ({where} is missing, null or blank). "
                "Correct it, or leave out strict, which skips and counts such records."
            )
        self.left_out.add(self.name, place)
        return False

    def _note_strings(self, record: Any) -> None:
        if isinstance(record, dict) and len(self._strings) < 20:
            self._strings |= {key: None for key, value in record.items() if isinstance(value, str)}

    def _hint(self) -> str:
        if not self._strings:
            return "None of its fields holds text: name another file."
        return f"Set text_field to one that holds text: {', '.join(self._strings)}."

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
        """Where the texts are. Raises `CorpusError` with the columns that there are."""
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
        """The number of the last line of each row that is not empty, and its fields."""
        if self.format == ".tsv":
            for number, line in enumerate(lines, 1):
                if fields := line.removesuffix("\r"):
                    yield number, fields.split(self.config.delimiter or "\t")
            return
        first, lines = _look_ahead(lines)
        delimiter = self.config.delimiter or detected_delimiter(first, self.config)
        csv.field_size_limit((1 << 31) - 1)  # records have a limit of their own
        counting = _Counting(lines, self.name)
        # strict, because a quote that is never closed would otherwise swallow the rest of the file
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
    """Lines for `csv.reader`, whose rows may be many lines long, but no more than a record may be."""

    def __init__(self, lines: Iterable[str], name: str) -> None:
        self._lines = enumerate(lines, 1)
        self._name = name
        self.size = 0  # characters of the row so far

    def __iter__(self) -> _Counting:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.size += len(line) + 1
        _check_size(self.size - 1, self._name, number)
        return f"{line}\n"


def bounded_lines(texts: Iterable[str], name: str) -> Iterator[str]:
    """Whole lines without their newline. Raises `CorpusError` for one that is longer than a record may be."""
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
            f"{name}, line {number}: a record of more than {MAX_RECORD_CHARS:,} characters, the most that one may "
            "have. Split it, or make a plain text file of it, which may be of any length."
        )


def _look_ahead(lines: Iterable[str]) -> tuple[list[str], Iterator[str]]:
    """The first lines, and all of them."""
    lines, first, size = iter(lines), list[str](), 0
    for line in lines:
        first.append(line)
        size += len(line)
        if size > SAMPLE_CHARS:
            break
    return first, itertools.chain(first, lines)


def detected_delimiter(lines: Sequence[str], config: CorpusConfig) -> str:
    """What separates the fields of a table that begins with these lines.

    It is what makes `text_column` a name in the header, or else what cuts the lines into equally many fields; a
    comma where nothing does.

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
    """The rows of a table up to the first mistake."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(row for row in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter) if row)
    return rows


def _as_index(number: str, header: Sequence[str]) -> int | None:
    """The place of a column whose number, from 1 on, is given."""
    return int(number) - 1 if number.isdecimal() and 1 <= int(number) <= len(header) else None


def json_record(line: str, name: str, place: str) -> Any:
    """What a line of a .jsonl file holds. Raises `CorpusError`, naming the `place`, where it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise CorpusError(f'{place}: not JSON ({why}). Expected a line such as {{"{name}": "..."}}.') from None


def json_text(record: Any, name: str, place: str) -> str | None:
    """The text of a record: its field `name`, or the record itself where that is a string; None where it has none.

    `place` names the line in the `CorpusError` that is raised for a value that is no text.
    """
    value = record
    if isinstance(record, dict):
        value = record.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise CorpusError(f"{place}: field {name!r} is {_kind(value)}. Set text_field to one that is a string.")
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

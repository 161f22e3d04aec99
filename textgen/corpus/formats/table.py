"""Reads tables of delimited text.

In a .csv file, double quotes enclose fields that contain delimiters or newlines. In a .tsv file every line is a row,
and quotes are part of the text. Empty fields at the end of a row may be missing. There may also be more of them than in
the header, unless they follow a text without quotes: then its own end may be a delimiter. No text of a .tsv file ends
in a tab. A first line such as `sep=;` names the delimiter, as in Excel.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from textgen.corpus.config import CorpusConfig
from textgen.corpus.formats.bounded_lines import check_size
from textgen.corpus.labels import FOLDER
from textgen.errors import CorpusError
from textgen.system.process_settings import TemporarySetting
from textgen.wording import counted

DELIMITERS = (",", ";", "\t", "|")  # candidates for `detected_delimiter`
SEPARATOR_LINE = re.compile(r'"?sep=([^\w"\s]|\t)"?\r?')
"""The line before the header by which Excel knows the delimiter."""
LONG_FIELDS = TemporarySetting(csv.field_size_limit, (1 << 31) - 1)  # `_BoundedRows` checks the length of records
SAMPLE_CHARS = 1 << 16  # approximate length of the sample used to detect the delimiter, in characters


@dataclass(frozen=True)
class Table:
    """Reads the rows of a .csv or .tsv file.

    Attributes:
        name: Name of the file in messages.
        format: ".csv" or ".tsv".
        config: Settings for reading the file.
    """

    name: str
    format: str
    config: CorpusConfig

    def columns(self, lines: Iterable[str]) -> list[str]:
        """Lists the columns of the table: names from its header, or numbers, from 1, if it has none."""
        first = next((row for _, row in self.rows(lines)), [])
        return [str(number + 1) for number in range(len(first))] if self.config.no_header else first

    def texts(self, lines: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
        """Iterates over the texts of the table.

        Args:
            lines: Lines of the file.

        Yields:
            Place of the row, such as "line 3"; the text, which may be blank; and the name of the label, or None if
            there is no column of labels.

        Raises:
            CorpusError: A row is malformed or too long, or the column of the text does not exist.
        """
        rows = self._rows(lines)
        number, header, quotes = next(rows, (0, [], 0))
        if not header:
            return
        width = len(header)
        column = self._column(header)
        label_column = self._label_column(header)
        if self.config.no_header:
            rows = itertools.chain([(number, header, quotes)], rows)
        for number, row, quotes in rows:
            place = f"line {number}"
            has_open_end = len(row) > width and self._has_open_end(row[column:], quotes)
            if len(row) <= column or any(row[width:]) or has_open_end or (len(row) < width and self._is_cut(row[-1])):
                raise self._wrong_width(place, row, width, has_open_end=has_open_end)
            label = None
            if label_column is not None:
                label = row[label_column] if len(row) > label_column else ""
            yield place, row[column], label

    def _has_open_end(self, fields: Sequence[str], quotes: int) -> bool:
        """Checks whether a text may end in the delimiters behind it.

        Args:
            fields: The text, and the fields behind it.
            quotes: How many quotes there are before the last delimiters of the row. If the text is in quotes and
                nothing but empty fields follow, these are more than those at the end of the text itself.
        """
        may_hold_delimiters = self.format == ".csv" or self.config.delimiter not in (None, "\t")
        is_open = may_hold_delimiters and fields[:1] != [""] and not any(fields[1:])
        return is_open and quotes <= _quotes_at_end(fields[0])

    def _wrong_width(self, place: str, row: Sequence[str], width: int, *, has_open_end: bool) -> CorpusError:
        """The error about a row that has another number of fields than the first, to be raised.

        Args:
            place: Place of the row.
            row: Its fields.
            width: Number of fields in the first row.
            has_open_end: Whether its text may end in delimiters.
        """
        head = f"after a row of {width}" if self.config.no_header else f"under a header of {width}"
        hint = self._quote_hint()
        if has_open_end:
            first = "first row" if self.config.no_header else "header"
            hint += f" If the separators at the end of the row are no part of the text, end the {first} with as many."
        return CorpusError(f"{self.name}, {place}: a row of {counted(len(row), 'field')} {head}. {hint}")

    def _is_cut(self, text: str) -> bool:
        """Checks whether the last field of a row may be the beginning of a text in quotes that has a newline."""
        is_closed = len(text) > 1 and text.endswith('"')
        return self.format == ".tsv" and text.startswith('"') and not is_closed

    def rows(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        """Iterates over rows that are not empty, as the number of the row's last line and the fields."""
        return ((number, row) for number, row, _ in self._rows(lines))

    def _rows(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str], int]]:
        """Iterates over the same, and the number of quotes before the last delimiters; 0 where quotes are text."""
        first, lines = _look_ahead(lines)
        named = SEPARATOR_LINE.fullmatch(first[0]) if first else None
        start = 2 if named else 1  # number of the first line of the table
        delimiter = self.config.delimiter or (named[1] if named else None)
        if named:
            first = first[1:]
            next(lines)
        if self.format == ".tsv":
            for number, line in enumerate(lines, start):
                if fields := line.removesuffix("\r"):
                    yield number, fields.split(delimiter or "\t"), 0
            return
        delimiter = delimiter or detected_delimiter(first, self.config)
        bounded = _BoundedRows(lines, self.name, start)
        # strict, because otherwise an unclosed quote would consume the rest of the file
        rows = csv.reader(bounded, delimiter=delimiter, strict=True)
        try:
            with LONG_FIELDS:
                for row in rows:
                    bounded.size = 0
                    if row:
                        quotes = _quotes_at_end(bounded.line.rstrip(f"\r{delimiter}"))
                        yield rows.line_num + start - 1, row, quotes
        except csv.Error as error:
            raise CorpusError(
                f"{self.name}, line {rows.line_num + start - 1}: not {self.format[1:].upper()} ({error}). "
                "Put double quotes around a text that holds quotes, and double the quotes inside."
            ) from None

    def _quote_hint(self) -> str:
        if self.format == ".tsv":
            return (
                "A text in a .tsv file holds no tabs and newlines. If double quotes enclose such texts, end the name "
                "of the file in .csv; otherwise write the table as .csv, with double quotes."
            )
        return "Put double quotes around a text that holds separators or newlines."

    def _column(self, header: Sequence[str]) -> int:
        """Finds the index of the text column. Raises `CorpusError` if there is no such column."""
        column = self.config.text_column
        if self.config.no_header:
            if column == CorpusConfig.text_column and len(header) == 1:
                return 0
            if (index := _as_index(column, header)) is not None:
                return index
            if hint := self._delimiter_hint(header, "1"):
                raise CorpusError(f"{self.name}: no column {column!r}. {hint}")
            raise CorpusError(
                f"{self.name} is read without a header, so its columns are numbers. "
                f"Set text_column to a number from 1 to {len(header)}."
            )
        if column not in header and (hint := self._delimiter_hint(header, header[0])):
            raise CorpusError(f"{self.name}: no column {column!r}. {hint}")
        if column not in header:
            spaces = " Spaces around a name are a part of it." if column in map(str.strip, header) else ""
            raise CorpusError(
                f"{self.name}: no column {column!r}. Set text_column to one of: {names_of(header)}.{spaces} "
                "If these are not names but the first row, set no_header, and text_column to the number of a column."
            )
        require_single(header, column, self.name, "text_column")
        return header.index(column)

    def _delimiter_hint(self, header: Sequence[str], only: str) -> str:
        """What to set where the only field of the first row has another delimiter in it; "" where it has none.

        Args:
            header: The first row.
            only: The text column, if this is the only column indeed.
        """
        used = self.config.delimiter or ("\t" if self.format == ".tsv" else None)
        other = detected_delimiter(header, self.config)
        if not used or len(header) > 1 or other == used or other not in header[0]:
            return ""
        set_column = f" Or, if this is its only column, set text_column to {only!r}."
        return (
            f"The table was read with the delimiter {used!r}, which its first row does not have: set delimiter to "
            f"{other!r}.{set_column if only.isprintable() else ''}"  # others cannot be typed
        )

    def _label_column(self, header: Sequence[str]) -> int | None:
        labels = self.config.labels
        if labels is None or labels == FOLDER:
            return None
        if self.config.no_header:
            return _as_index(labels, header)
        require_single(header, labels, self.name, "labels")
        return header.index(labels) if labels in header else None


def names_of(columns: Iterable[str]) -> str:
    """Lists the names of columns or fields, in quotes those with spaces around them or characters that do not show.

    Args:
        columns: The names.

    Example:
        >>> names_of(["id", " text"])
        "id, ' text'"
    """
    return ", ".join(name if name == name.strip() and name.isprintable() else repr(name) for name in columns)


def require_single(columns: Sequence[str], column: str, name: str, setting: str) -> None:
    """Raises `CorpusError` if several columns have the name of the one that is read.

    Args:
        columns: The names of all columns.
        column: The name of the one that is read.
        name: Name of the file, for the message.
        setting: Name of the setting that chooses the column.
    """
    if (count := columns.count(column)) > 1:
        raise CorpusError(
            f"{name}: {count:,} columns are named {column!r}. Give each a name of its own, or set {setting} to another."
        )


class _BoundedRows:
    """Iterates over lines for `csv.reader`, and limits the length of rows that span several lines."""

    def __init__(self, lines: Iterable[str], name: str, start: int) -> None:
        self._lines = enumerate(lines, start)
        self._name = name
        self.size = 0  # characters of the current row
        self.line = ""  # its last

    def __iter__(self) -> _BoundedRows:
        return self

    def __next__(self) -> str:
        number, self.line = next(self._lines)
        self.size += len(self.line) + 1
        check_size(self.size - 1, self._name, number)
        return f"{self.line}\n"


def _quotes_at_end(text: str) -> int:
    return len(text) - len(text.rstrip('"'))


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
    is_named, fraction = fit(best)
    return best if is_named or fraction > 0.9 else ","


def _rows_of(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Parses the rows of a table up to the first syntax error."""
    rows: list[list[str]] = []
    with LONG_FIELDS, suppress(csv.Error):
        rows.extend(row for row in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter) if row)
    return rows


def _as_index(number: str, header: Sequence[str]) -> int | None:
    """Converts a column number, from 1, to an index. None if there is no such column."""
    return int(number) - 1 if number.isdecimal() and 1 <= int(number) <= len(header) else None

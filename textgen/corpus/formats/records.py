"""Reads texts and labels from tables and JSON, one record at a time.

A .jsonl file has one record per line; `textgen.corpus.formats.json_values` reads .json files, and finds fields within
fields. `textgen.corpus.formats.table` reads .csv and .tsv files. A field with a list of strings is one text, a string a
line; one with strings and objects that have a `text`, as exports of chats have, is one text without newlines in
between. Records whose text is missing, null or blank are skipped and counted, or are an error with
`CorpusConfig.strict`. Records are limited to `MAX_RECORD_CHARS` characters, so that memory stays bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from textgen.corpus.config import CorpusConfig
from textgen.corpus.formats.bounded_lines import MAX_RECORD_CHARS, bounded_lines
from textgen.corpus.formats.json_values import GIVE_NAMES, HINTS, MISSING, find, json_values, string_fields
from textgen.corpus.formats.table import Table, names_of
from textgen.corpus.labels import FOLDER, as_label, json_label
from textgen.corpus.left_out import LeftOut
from textgen.errors import CorpusError
from textgen.schema import RepeatedName, decoded_json

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")  # each record is a document, in every mode
LINE_FORMATS = (".jsonl", ".ndjson")  # one record per line
JSON_FORMATS = (*LINE_FORMATS, ".json")
PIECE_FIELDS = {"type", "text", "href", "language", "user_id", "document_id", "collapsed"}  # of a piece of a message
PIECE_TYPES = (
    "plain", "link", "text_link", "mention", "mention_name", "hashtag", "cashtag", "bot_command", "email", "phone",
    "bank_card", "bold", "italic", "underline", "strikethrough", "code", "pre", "blockquote", "spoiler",
    "custom_emoji",
)  # fmt: skip
"""What the messages of Telegram have within their text."""

Record = tuple[str, str | None]  # text and label
_Value = tuple[str, Any, str, str | None]  # place, record, and the paths of its text and of its label


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

    @property
    def _table(self) -> Table:
        return Table(self.name, self.format, self.config)

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
            values = json_values(texts, self.name, self.path, MAX_RECORD_CHARS)
            record: Any = next((element.value for element in values), {})
            return list(record) if isinstance(record, dict) else []
        lines = bounded_lines(texts, self.name)
        if self.format in LINE_FORMATS:
            record = next((value for _, value, *_ in self._line_values(lines)), {})
            return list(record) if isinstance(record, dict) else []
        return self._table.columns(lines)

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
        labels = self.config.labels
        sought = "" if labels in (None, FOLDER) else labels
        for number, element in enumerate(json_values(texts, self.name, self.path, MAX_RECORD_CHARS, sought), 1):
            yield f"record {number}", element.record, self.path, labels

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
                raise CorpusError(f"{where}: {self._wrong_kind(path, *error.args)}") from None
        if self.is_whole and not (is_empty or is_known):
            raise CorpusError(f"{self.name}: no {self._noun} {self.path!r} in any record. {self._hint()}")

    def _wrong_kind(self, path: str, value: Any, rest: str) -> str:
        """Says what a record is that has no fields; or what is on the way to the text, before the rest of the path."""
        if not rest:
            is_whole = isinstance(value, list) and self.format in LINE_FORMATS and not self.keeps_blank
            advice = ", or, if the file is one list, the suffix .json" if is_whole else ""
            return f"{_kind(value)}. Expected an object or a string{advice}."
        place = path.removesuffix(rest).rstrip(".")
        return (
            f"{self._noun} {place!r} is {_kind(value)}. Expected an object or a list with {rest!r} in it: correct it, "
            f"or set text_{self._noun} to another."
        )

    def _as_text(self, value: Any, where: str) -> str | None:
        """Returns a text; of several strings, they are its lines, of pieces of a line, the line they make.

        None if the field is missing or null.
        """
        if value is MISSING or value is None:
            return None
        if _are_pieces(value):
            value = "".join(item if isinstance(item, str) else item["text"] for item in value)
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
        return f" with text in {names_of(f'{self.path}.{name}' for name in fields)}" if fields else ""

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

    def _rows(self, lines: Iterable[str]) -> Iterator[Record]:
        for place, text, label in self._table.texts(lines):
            if self._has_text(text, place):
                yield text, self.label if label is None else as_label(label, f"{self.name}, {place}")

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
        return f"Set text_{self._noun} to one that holds text: {names_of(self._strings)}."


def json_record(line: str, name: str, place: str) -> Any:
    """Decodes a line of a .jsonl file.

    Args:
        line: Line of the file.
        name: Name of the field with the text, for error messages.
        place: File and line, for error messages.

    Returns:
        The decoded JSON value.

    Raises:
        CorpusError: The line is not JSON, or has a name twice in an object.
    """
    try:
        return decoded_json(line)
    except RepeatedName as error:
        raise CorpusError(f"{place}: {error}. {GIVE_NAMES}") from None
    except ValueError as error:
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
    names = {list: "a list", dict: "an object", str: "a string", bool: "true or false", type(None): "null"}
    return {**names, bytes: "bytes"}.get(type(value), "a number")


def _are_pieces(value: Any) -> bool:
    """Checks whether a value is a list of pieces of one text, such as links and bold words in exports of chats.

    They are strings, and objects with a field `text`. Without strings, each object must be a piece by its fields and
    type: otherwise the objects are records, of which each has a text of its own.
    """
    if not isinstance(value, list):
        return False
    objects = [item for item in value if isinstance(item, dict) and isinstance(item.get("text"), str)]
    strings = [item for item in value if isinstance(item, str)]
    are_all = bool(objects) and len(objects) + len(strings) == len(value)
    return are_all and (bool(strings) or all(map(_is_piece, objects)))


def _is_piece(value: dict[str, Any]) -> bool:
    """Checks whether an object is a piece of a message, such as a message that is only a link, and no record."""
    return value.keys() <= PIECE_FIELDS and value.get("type") in PIECE_TYPES

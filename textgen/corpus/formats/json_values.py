"""Reads the values of a .json file one at a time, and finds texts and labels within values.

A .json file holds a list of records, or an object with a list of records in one of its fields, or records one after
another. Of a list, only one element is in memory at a time. A path such as `data.text` names a field within a field: on
the way to it, each element of a list is a record of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from textgen.errors import CorpusError
from textgen.schema import DECODER, RepeatedName, why_no_json
from textgen.wording import counted

STEP_CHARS = 1 << 16  # characters to read at least when a value is not complete yet
MAX_WORD_CHARS = len(r"\ud83d\ude00")  # longest token besides strings and numbers: a character spelled in two halves
GIVE_NAMES = "Give each value a name of its own: only one of them would be read."
HINTS = 20  # maximum number of fields that an error message names
DEPTH = 3  # maximum depth of the fields that an error message names


class _Missing:
    """The type of `MISSING`."""


MISSING = _Missing()  # the value of a field that is not there


@dataclass(frozen=True)
class Found:
    """A text that was found in a record.

    Attributes:
        value: The value of the field, or `MISSING`.
        label: The value of the field with the label; None without one.
    """

    value: Any
    label: Any = None


def find(record: Any, path: str, label: str | None = None) -> Iterator[Found]:
    """Finds a field, and the label that belongs to it.

    Args:
        record: A value of JSON, such as an object, or a string, which is a text itself.
        path: Name of the field, such as `text`, or `data.text` for a field within a field.
        label: Name of the field with the label, in the same way.

    Yields:
        What was found: once, or once for each element of lists on the way.

    Raises:
        TypeError: The record is neither an object nor a string, or there is neither an object nor a list nor null on
            the way. The arguments are what there is, and the rest of the path, "" for the record.

    Example:
        >>> record = {"by": "Ann", "poems": [{"text": "a", "kind": "ode"}, {"text": "b"}]}
        >>> [(each.value, each.label) for each in find(record, "poems.text", "by")]
        [('a', 'Ann'), ('b', 'Ann')]
        >>> [(each.value, each.label) for each in find(record, "poems.text", "poems.kind")]
        [('a', 'ode'), ('b', None)]
    """
    if isinstance(record, str):
        yield Found(record)
    elif isinstance(record, dict):
        yield from _find(record, path, label or "", None)
    else:
        raise TypeError(record, "")


def _find(node: Any, path: str, label: str, found: Any) -> Iterator[Found]:
    if isinstance(node, list):
        for item in node:
            yield from [Found(item, found)] if isinstance(item, str) else _find(item, path, label, found)
    elif isinstance(node, dict):
        key, rest = _step(node, path)
        label_key, label_rest = _step(node, label)
        if label_key is not None and not (label_key == key and rest and label_rest):  # it is not on the way
            found, label = _value(node[label_key], label_rest), ""
        elif label_key is not None:
            label = label_rest
        if key is None:
            yield Found(MISSING, found)
        elif not rest:
            yield Found(node[key], found)
        else:
            yield from _find(node[key], rest, label, found)
    elif node is None:
        yield Found(MISSING, found)
    else:
        raise TypeError(node, path)


def _step(node: dict[str, Any], path: str) -> tuple[str | None, str]:
    """The key of an object that a path begins with, and the rest of the path. A key may contain dots."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        key = ".".join(parts[:count])
        if key in node:
            return key, ".".join(parts[count:])
    return None, ""


def _value(node: Any, path: str) -> Any:
    """The value at a path through objects; None if there is none."""
    while path and isinstance(node, dict):
        key, path = _step(node, path)
        node = None if key is None else node[key]
    return None if path else node


def string_fields(record: Any, depth: int = DEPTH) -> Iterator[str]:
    """Lists the paths of the fields that contain strings, or lists of strings.

    Example:
        >>> list(string_fields({"id": 1, "data": [{"text": "x"}], "title": "y"}))
        ['data.text', 'title']
    """
    for key, value in record.items() if isinstance(record, dict) else ():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str):
            yield key
        elif depth > 1:
            yield from (f"{key}.{field}" for field in string_fields(first, depth - 1))


@dataclass(frozen=True)
class Element:
    """A value of a .json file that is a record of its own.

    Attributes:
        value: The value.
        field: The field of an object that holds the list of which it is an element; "" for another value.
        around: What that object holds before the list.
    """

    value: Any
    field: str = ""
    around: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def record(self) -> Any:
        """The value as it is found in the whole object, so that paths lead to it and to what is around the list."""
        return {**self.around, self.field: [self.value]} if self.field else self.value


def json_values(texts: Iterable[str], name: str, path: str, limit: int, label: str = "") -> Iterator[Element]:
    """Iterates over the records of a .json file.

    Args:
        texts: Consecutive strings that make up the file.
        name: Name of the file, for error messages.
        path: Path of the text. The list in the field that it begins with is a list of records.
        limit: Maximum length of a record in characters.
        label: Path of the label, which must come before that list unless it is in the records.

    Yields:
        The records.

    Raises:
        CorpusError: The file is not JSON, a name occurs twice in an object, a record is too long, or the label comes
            after the list.
    """
    scanner = _Scanner(texts, name, limit)
    while start := scanner.peek():
        if start == "[":
            yield from map(Element, scanner.items())
        elif start == "{":
            yield from _object(scanner, path, limit, label)
        else:
            yield Element(scanner.value())


def _object(scanner: _Scanner, path: str, limit: int, label: str) -> Iterator[Element]:
    """The elements of the list in an object that a path leads through; the object itself if there is none."""
    record, wrapper, size = dict[str, Any](), "", 0
    for key in scanner.names():
        is_list, before = scanner.peek() == "[", scanner.place
        if is_list and path.startswith(f"{key}."):
            wrapper, around = key, dict(record)
            yield from (Element(value, key, around) for value in scanner.items())
            continue
        if wrapper and f"{label}.".startswith(f"{key}."):
            raise CorpusError(
                f"{scanner.name}: the label {label!r} comes after the list {wrapper!r}, whose records are read one at "
                f"a time. Put {key!r} before {wrapper!r}, write the object as a line of a .jsonl file, or set labels "
                f"to '{wrapper}.{label}' for the label in each record."
            )
        try:
            record[key] = scanner.value()
        except TooLong:
            if not is_list:
                raise
            raise CorpusError(
                f"{scanner.name}: the list {key!r} has more than {counted(limit, 'character')}, the limit for a "
                f"record. If it is a list of records, set text_field to {key} and the name of their text, as in "
                f"{key}.text."
            ) from None
        size += scanner.place - before
        scanner.check_size(size)
    if not wrapper:
        yield Element(record)


class TooLong(CorpusError):
    """Raised when a record is too long."""


class _Scanner:
    """Reads the values of a JSON text that is not in memory as a whole."""

    def __init__(self, texts: Iterable[str], name: str, limit: int) -> None:
        self.name = name
        self._texts = iter(texts)
        self._limit = limit
        self._decode = DECODER.raw_decode
        self._held, self._at = "", 0  # characters that have been read, and how many of them are done with
        self._before = self._lines = 0  # characters and newlines before those

    @property
    def place(self) -> int:
        """Number of characters that are done with."""
        return self._before + self._at

    def peek(self) -> str:
        """Passes white space. Returns the next character, "" at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in " \t\n\r":
                    return self._held[self._at]
                self._at += 1
            if not self._read_on(1):
                return ""

    def value(self) -> Any:
        """Decodes the value that comes next."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._held, self._at)
                behind = len(self._held) - end
                if not self._may_go_on(value, end) or not self._read_on(1):
                    self._at = len(self._held) - behind
                    return value
            except json.JSONDecodeError as error:
                place = error.pos - self._at
                if self._is_certain(error):
                    self._at = error.pos
                    raise self.error(error.msg) from None
                if not self._read_on(len(self._held) - self._at):
                    self._at = place
                    raise self.error(error.msg) from None
            except RepeatedName as error:
                raise CorpusError(f"{self._here}: {error}. {GIVE_NAMES}") from None
            except (ValueError, RecursionError) as error:
                raise self.error(why_no_json(error)) from None

    def _is_certain(self, error: json.JSONDecodeError) -> bool:
        """Whether an error stays one, whatever follows: it is not an open string, and not where reading stopped."""
        is_open = error.msg.startswith("Unterminated string")
        return not is_open and len(self._held) - error.pos >= MAX_WORD_CHARS

    def _may_go_on(self, value: Any, end: int) -> bool:
        """Whether a value that ends at a place may be the beginning of a longer one, as `1.` is of 1.5."""
        is_number = isinstance(value, (int, float))
        return end == len(self._held) or (is_number and not self._held[end:].lstrip("+-.0123456789eE"))

    def items(self) -> Iterator[Any]:
        """Iterates over the elements of the list that comes next."""
        self._pass("[")
        is_first = True
        while self.peek() != "]":
            if not is_first:
                self._pass(",")
            is_first = False
            yield self.value()
        self._pass("]")

    def names(self) -> Iterator[str]:
        """Iterates over the names in the object that comes next. Read the value of each before the next."""
        self._pass("{")
        is_first, known = True, set[str]()
        while self.peek() != "}":
            if not is_first:
                self._pass(",")
            is_first = False
            if self.peek() != '"':
                raise self.error("expected a name in double quotes")
            key = self.value()
            if key in known:
                raise CorpusError(f"{self._here}: {RepeatedName(key)}. {GIVE_NAMES}")
            known.add(key)
            self._pass(":")
            yield key
        self._pass("}")

    @property
    def _here(self) -> str:
        """The file and the line."""
        return f"{self.name}, line {self._lines + self._held.count(chr(10), 0, self._at) + 1}"

    def error(self, why: str) -> CorpusError:
        """The error that the text is not JSON here."""
        return CorpusError(
            f"{self._here}: not JSON ({why}). Expected a list of records, or an object with such a list."
        )

    def check_size(self, size: int) -> None:
        """Raises `TooLong` for a record of too many characters."""
        if size > self._limit:
            raise TooLong(
                f"{self._here}: a record of more than {counted(self._limit, 'character')}, the limit. "
                "Split it, or convert the file to plain text, which has no limit."
            )

    def _pass(self, expected: str) -> None:
        if (found := self.peek()) != expected:
            raise self.error(f"expected {expected!r}, found {found!r}" if found else f"{expected!r} is missing")
        self._at += 1

    def _read_on(self, size: int) -> bool:
        """Reads at least `size` further characters, if there are any. Returns whether there were."""
        self.check_size(len(self._held) - self._at)
        more, count = list[str](), 0
        for text in self._texts:
            more.append(text)
            count += len(text)
            if count >= max(size, STEP_CHARS):
                break
        self._before += self._at
        self._lines += self._held.count("\n", 0, self._at)
        self._held, self._at = "".join([self._held[self._at :], *more]), 0
        return bool(count)

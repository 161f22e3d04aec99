"""Properties of a text by rule, such as being inside quotes or the column in the line, to look for in cells.

A property says something of each place in a text: after how many characters is a quote open? It knows only what stands
before the place, except for matches of a regular expression, which may need what follows.

A network that reads backward has read what stands after a place. What a place is inside of is the same for both; the
newest character is the one after the place; distances are counted from the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from functools import partial
from itertools import pairwise

import numpy as np

from textgen.corpus.scripts import HAN
from textgen.errors import ConfigError
from textgen.insight.texts import Text
from textgen.wording import counted, short_repr

OPENING_QUOTES, CLOSING_QUOTES, STRAIGHT_QUOTES = "“„«「『", "”»」』", '"'
OPENING_BRACKETS, CLOSING_BRACKETS = "([{（［｛《〈【", ")]}）］｝》〉】"
MAX_DEPTH = 8  # largest depth of brackets that is told apart
URL = re.compile(r"(?:https?://|www\.)\S+")
VERSE_STOPS, VERSE_COMMAS = "。！？!?;；", "，,、"
MIN_HAN = 0.5  # fraction of a text that is taken for Chinese

Values = np.ndarray  # [characters + 1], the property after each number of characters


@dataclass(frozen=True, eq=False)
class Property:
    """A property of a text after each token.

    Attributes:
        name: Its name, such as "inside quotes".
        is_count: Whether it is a number; otherwise it is 0 or 1.
        values: Its value after each token, float [N].
    """

    name: str
    is_count: bool
    values: np.ndarray


class Backward(Enum):
    """What becomes of a rule where the text is read from its end."""

    SAME = "it is a property of the place"
    NEWEST = "it is a property of the character read last, which then stands after the place"
    MIRRORED = "it counts from the end of the text"
    UNKNOWN = "it cannot be known there"


@dataclass(frozen=True)
class Rule:
    """How a property follows from a document.

    Attributes:
        forward: A document -> the property after 0, 1, 2, ... characters.
        backward: What becomes of it where the text is read from its end.
        is_count: Whether it is a number; otherwise it is there or not.
    """

    forward: Callable[[str], Values]
    backward: Backward = Backward.SAME
    _: KW_ONLY
    is_count: bool = False

    def values(self, document: str, direction: str) -> Values:
        """The property at each place of a document, for a network that has read up to there in a direction."""
        if direction == "backward" and self.backward is Backward.MIRRORED:
            return self.forward(document[::-1])[::-1]
        values = self.forward(document)
        if direction == "backward" and self.backward is Backward.NEWEST:
            return np.append(values[1:], False)
        return values


def properties_of(text: Text, tracks: Mapping[str, re.Pattern[str]] | None = None) -> list[Property]:
    """All properties of a text after each of its tokens.

    Args:
        text: The text.
        tracks: Regular expressions by name; the property is to be inside a match.

    Raises:
        ConfigError: An expression matches nowhere in what is used of the text.
    """
    found: list[Property] = []
    is_chinese = sum(map(len, HAN.findall(text.text))) > MIN_HAN * max(1, len(text.text))
    rules = {**RULES, **(CHINESE if is_chinese else {})}
    rules |= {name: Rule(partial(_inside, pattern), Backward.NEWEST) for name, pattern in (tracks or {}).items()}
    edges = [*text.documents, len(text.text)]
    documents = [text.text[start:end] for start, end in pairwise(edges)]
    number, place = text.document, text.read_to - np.array(text.documents)[text.document]
    for name, rule in rules.items():
        if text.direction == "backward" and rule.backward is Backward.UNKNOWN:
            continue
        values = _after_tokens([rule.values(document, text.direction) for document in documents], number, place)
        if tracks and name in tracks and not values.any():
            track = f"{name}={tracks[name].pattern}"
            if text.is_cut:
                raise ConfigError(
                    f"track must be found in what is used of the text: {track} matches nowhere in its "
                    f"{counted(len(text.ids), 'token')}. Choose a larger max_tokens, or give a part of the text with "
                    "matches."
                )
            raise ConfigError(f"track must be found in the text: {track} matches nowhere in it.")
        found.append(Property(name, rule.is_count, values))
    return found


def parse_tracks(texts: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """Reads NAME=REGEX.

    Raises:
        ConfigError: It is not written so, the expression does not compile, or the name is taken.

    Example:
        >>> list(parse_tracks(["speaker=^[A-Z]+:"]))
        ['speaker']
    """
    tracks: dict[str, re.Pattern[str]] = {}
    for text in texts:
        given, equals, pattern = text.partition("=")
        name = given.strip()
        if not name or not equals or not pattern:
            raise ConfigError(f"track must be NAME=REGEX, as in speaker='^[A-Z]+:'. Received: {short_repr(text)}.")
        if name in tracks:
            raise ConfigError(f"track must have a name of its own each time: {name} is given twice.")
        if name in RULES or name in CHINESE:
            raise ConfigError(
                f"track must have another name than {name!r}: a property of this name is there in any case."
            )
        try:
            tracks[name] = re.compile(pattern, re.MULTILINE)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f"track must be NAME=REGEX: {pattern!r} is no regular expression: {error}.") from None
    return tracks


def _after_tokens(of_documents: list[Values], number: np.ndarray, place: np.ndarray) -> np.ndarray:
    lengths = np.array([len(values) for values in of_documents])
    begins = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    return np.concatenate(of_documents)[begins[number] + np.clip(place, 0, lengths[number] - 1)].astype(float)


# === Rules: a document -> the property after 0, 1, 2, ... characters ===


def _depth(document: str, opening: str, closing: str, toggling: str = "") -> Iterator[int]:
    """How many are open. A blank line closes all: a forgotten quote would otherwise turn all that follows around."""
    depth, last = 0, ""
    yield 0
    for character in document:
        if character in toggling:
            depth = 0 if depth else 1
        elif character in opening:
            depth = min(depth + 1, MAX_DEPTH)
        elif character in closing:
            depth = max(depth - 1, 0)
        elif character == last == "\n":
            depth = 0
        last = character
        yield depth


def _quotes(document: str) -> Values:
    return np.array([depth > 0 for depth in _depth(document, OPENING_QUOTES, CLOSING_QUOTES, STRAIGHT_QUOTES)])


def _brackets(document: str) -> Values:
    return np.array(list(_depth(document, OPENING_BRACKETS, CLOSING_BRACKETS)))


def _inside(pattern: re.Pattern[str], document: str) -> Values:
    values = np.zeros(len(document) + 1, bool)
    for match in pattern.finditer(document):
        values[match.start() + 1 : match.end() + 1] = True
    return values


def _last(is_so: Callable[[str], bool]) -> Callable[[str], Values]:
    """Whether the last character is so."""
    return lambda document: np.array([False, *map(is_so, document)])


def _since(document: str, separators: str | tuple[str, ...], counts: Callable[[str], bool] = lambda _: True) -> Values:
    """Characters that count since the last separator, or since the beginning."""
    number, values = 0, [0]
    for place, character in enumerate(document, 1):
        number = 0 if document.endswith(separators, 0, place) else number + counts(character)
        values.append(number)
    return np.array(values)


def _first_line(document: str) -> Values:
    """In the first line of a block: at the beginning, or after a blank line."""
    values, is_first, last = [True], True, ""
    for character in document:
        if character == "\n":
            is_first = last == "\n" or last == ""
        values.append(is_first)
        last = character
    return np.array(values)


def _title(document: str) -> Values:
    end = document.find("\n")
    return np.arange(len(document) + 1) <= (len(document) if end < 0 else end)


def _is_han(character: str) -> bool:
    return HAN.fullmatch(character) is not None


def _is_word(character: str) -> bool:
    return character.isalpha() and not _is_han(character)


def _second_half(document: str) -> Values:
    """After the comma of a couplet, before its end."""
    values, is_second = [False], False
    for character in document:
        is_second = character in VERSE_COMMAS or (is_second and character not in VERSE_STOPS + "\n")
        values.append(is_second)
    return np.array(values)


def _couplet(document: str) -> Values:
    """Couplets that have ended since the beginning."""
    return np.cumsum([0, *[character in VERSE_STOPS for character in document]])


RULES = {
    "inside quotes": Rule(_quotes),
    "inside brackets": Rule(lambda document: _brackets(document) > 0),
    "bracket depth": Rule(_brackets, is_count=True),
    "digit": Rule(_last(str.isdigit), Backward.NEWEST),
    "inside a word": Rule(_last(_is_word), Backward.NEWEST),
    "capital letter": Rule(_last(str.isupper), Backward.NEWEST),
    "inside a URL": Rule(partial(_inside, URL), Backward.NEWEST),
    "column": Rule(lambda document: _since(document, "\n"), Backward.MIRRORED, is_count=True),
    "since a blank line": Rule(lambda document: _since(document, "\n\n"), Backward.MIRRORED, is_count=True),
    "first line of a block": Rule(_first_line, Backward.UNKNOWN),
    "title line": Rule(_title, Backward.UNKNOWN),
    "document position": Rule(lambda document: np.arange(len(document) + 1), Backward.MIRRORED, is_count=True),
}
CHINESE = {
    "place in the half-line": Rule(
        lambda document: _since(document, tuple(VERSE_STOPS + VERSE_COMMAS + "\n"), _is_han),
        Backward.MIRRORED,
        is_count=True,
    ),
    "second half of a couplet": Rule(_second_half),
    "couplet number": Rule(_couplet, Backward.MIRRORED, is_count=True),
}

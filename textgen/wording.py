"""Formats text for output: numbers, counts with nouns, visible control characters, excerpts, lists of names, and JSON.

`Say` is the type of functions that show a line to the user.

File names may contain bytes that are not valid text. Python represents these as lone surrogates (`caf\\udce9.txt`),
which cannot be encoded. They are shown as `\\xe9`, and escaped in JSON so that the name survives a round trip.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

Say = Callable[[str], None]
"""A function that takes a line for the user, without a newline."""
EXCERPT = 200  # maximum number of characters that `excerpt` quotes
LISTED, LISTED_LENGTH = 8, 80  # of names that `listed` shows: how many at most, and characters of each
LARGE = 1e6  # numbers from this size on are written with an exponent by `short`
MIN_PLAIN, MAX_PLAIN = 1e-9, 1e15  # sizes of the numbers that `plain` writes without an exponent
HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except newline and tab, characters that change the direction of text, and lone surrogates."""
ESCAPES = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"})
"""Escapes of characters that are hard to type, as flags read them."""
BARE = frozenset("_@%+=:,./-")
"""Characters besides letters, digits and their marks that a shell takes as they are."""
BARE_ON_WINDOWS = re.compile(r"[^\s&|<>^();']+")
"""A word with no character that separates words or commands there, or redirects their output."""


def silent(line: str) -> None:
    """Drops a line: the `Say` of callers that want to hear nothing."""


def counted(number: int, noun: str) -> str:
    """Formats a number with a noun, in the plural unless the number is 1.

    Args:
        number: The number.
        noun: The noun in the singular. Its plural must end in s.

    Returns:
        The number, with thousands separators, and the noun.

    Example:
        >>> counted(1, "document"), counted(1200, "document")
        ('1 document', '1,200 documents')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short(number: float, digits: int) -> str:
    """Formats a number of a usual size with decimals, and one beyond a million in a few digits and an exponent.

    Args:
        number: The number.
        digits: Digits after the point.

    Returns:
        The number, with thousands separators.

    Example:
        >>> short(1234.567, 2), short(1.7976931348623157e308, 2)
        ('1,234.57', '1.798e+308')
    """
    return f"{number:,.{digits}f}" if abs(number) < LARGE else f"{number:.4g}"


def plain(number: float, digits: int = 6) -> str:
    """Formats a number without an exponent: an integer with all its digits, others with the first few.

    Only numbers that would be a long row of zeros have an exponent, but no amount in a run or a text is such a number.
    Learning rates, which are compared by their exponents, and values to be typed are formatted otherwise.

    Args:
        number: The number.
        digits: Maximum number of digits of a number that is not an integer, without zeros before and after them.

    Returns:
        The number, with thousands separators.

    Example:
        >>> plain(1000000), plain(2.50), plain(153.4, 2), plain(1e-6), plain(1e30)
        ('1,000,000', '2.5', '150', '0.000001', '1e+30')
    """
    if isinstance(number, int):
        return f"{number:,}"
    shown = f"{number:.{digits}g}"
    if not MIN_PLAIN <= abs(number) < MAX_PLAIN:  # nor 0, infinity and NaN
        return shown
    rounded = float(shown)
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def percent(fraction: float, digits: int = 1, *, sign: bool = False) -> str:
    """Writes a fraction as a percentage.

    Args:
        fraction: The fraction: 0.25 is 25 %.
        digits: Digits after the point.
        sign: Whether a positive number gets a plus sign, as changes do.

    Returns:
        The percentage, with its sign %.

    Example:
        >>> percent(0.25), percent(0.0015, 2, sign=True)
        ('25.0 %', '+0.15 %')
    """
    return f"{100 * fraction:{'+' if sign else ''}.{digits}f} %"


def visible(text: str) -> str:
    """Escapes the characters of a text that match `HIDDEN`, so that they cannot control a terminal.

    Example:
        >>> visible("\\x1b[31mred")
        '\\\\x1b[31mred'
    """
    return HIDDEN.sub(lambda match: escape(match.group()), text)


def with_escapes(text: str) -> str:
    r"""Returns a text as it is typed for a flag that understands escapes, such as one of a documents mode.

    Example:
        >>> print(with_escapes("separator:\n\n"))
        separator:\n\n
    """
    return text.translate(ESCAPES)


def shell_word(text: str) -> str:
    """Quotes a text for a shell command, and escapes newlines and hidden characters so that the command is one line.

    Words of letters and digits of any script are not quoted: the shell of Windows knows only double quotes, so that
    single ones would become part of a name.

    Example:
        >>> print(shell_word("caf\\udce9 au lait"))
        $'caf\\xe9 au lait'
        >>> print(shell_word("绝句"), shell_word("हिन्दी"))
        绝句 हिन्दी
    """
    if text and all(character in BARE or unicodedata.category(character)[0] in "LNM" for character in text):
        return text
    if one_line(text, len(text)) == text:
        return _windows_word(text) if os.name == "nt" else shlex.quote(text)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    return f"$'{HIDDEN.sub(lambda match: _shell_escape(match.group()), quoted)}'"


def _windows_word(text: str) -> str:
    from subprocess import list2cmdline

    if BARE_ON_WINDOWS.fullmatch(text):
        return list2cmdline([text])
    return f'"{list2cmdline([f" {text}"])[2:]}'  # it quotes only texts with a space


def _shell_escape(character: str) -> str:
    """Escapes a character for `$'...'`, where \\x stands for a byte."""
    return f"\\u{ord(character):04x}" if 0x80 <= ord(character) < 0x100 else escape(character)


def escape(character: str) -> str:
    """Escapes a character as in a Python string literal. A lone surrogate that represents a byte gives that byte."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str, length: int) -> str:
    """Returns a text of at most `length` characters as it is, and the beginning of a longer one with "...".

    Example:
        >>> shortened("one two three", 7)
        'one two...'
    """
    return text if len(text) <= length else f"{text[:length]}..."


def short_repr(value: object) -> str:
    """A wrong value, as far as it fits into a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"{type(value).__name__} of great size"
    return shortened(text, 200)


def excerpt(text: str) -> str:
    """Quotes a text as a Python string literal; of a long text, only the beginning and the end.

    Example:
        >>> print(excerpt("one\\n"), len(excerpt("a long text " * 1000)))
        'one\\n' 205
    """
    half = EXCERPT // 2
    return repr(text if len(text) <= EXCERPT else f"{text[:half]}...{text[-half:]}")


def one_line(text: str, length: int = EXCERPT) -> str:
    """Returns the beginning of a text that somebody else has written, with newlines and hidden characters escaped.

    Args:
        text: The text.
        length: How many of its characters are shown at most.

    Example:
        >>> print(one_line("one\\ntwo\\x1b", 20), one_line("abcdef", 3))
        one\\ntwo\\x1b abc...
    """
    return visible(shortened(text, length)).replace("\n", "\\n").replace("\t", "\\t")


def listed(names: Iterable[str]) -> str:
    """Lists names that somebody else has chosen: the first ones, each as one line, and how many there are besides.

    Example:
        >>> print(listed(["a", "b\\n"]), "-", listed(map(str, range(12))))
        a, b\\n - 0, 1, 2, 3, 4, 5, 6, 7 and 4 more
    """
    names = list(names)
    shown = ", ".join(one_line(name, LISTED_LENGTH) for name in names[:LISTED])
    return f"{shown} and {len(names) - LISTED:,} more" if len(names) > LISTED else shown


def lacking(text: str, encoding: str) -> set[str]:
    """Finds the characters of a text that an encoding cannot represent.

    Args:
        text: The text.
        encoding: Name of the encoding.

    Returns:
        The characters. Empty if the text can be encoded.
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return {character for character in set(text) if not _is_in(character, encoding)}
    return set()


def _is_in(character: str, encoding: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeEncodeError:
        return False


def json_text(value: Any, *, indent: int | None = None, encoding: str = "utf-8", is_shown: bool = False) -> str:
    """Formats a value as JSON, which has neither infinity nor NaN: null stands for them.

    Args:
        value: Value to format.
        indent: Number of spaces per level. None puts everything on one line.
        encoding: Encoding of the output. Characters that it cannot represent are escaped.
        is_shown: Whether the output goes to a terminal. If so, hidden characters are escaped, too.

    Returns:
        The JSON text.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    escaped = lacking(text, encoding) | (set(HIDDEN.findall(text)) if is_shown else set())
    return text.translate({ord(character): json.dumps(character)[1:-1] for character in escaped}) if escaped else text


def _finite(value: Any) -> Any:
    """A value with None for each number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value

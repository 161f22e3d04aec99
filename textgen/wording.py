"""Words and characters of what is shown: counts with their nouns, text without hidden characters, JSON.

A file name need not be text: Python keeps its odd bytes as lone surrogates (`caf\\udce9.txt`), which no encoding can
write. Such names are shown with `\\xe9` in their place, and kept in JSON as JSON itself escapes them, from which they
come back as they were.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but newline and tab, those that reverse the order of text, and halves of characters."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s unless there is one.

    >>> counted(1, "document"), counted(1200, "document")
    ('1 document', '1,200 documents')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def visible(text: str) -> str:
    """The text with an escape in the place of each hidden character, so that it does nothing to a terminal.

    >>> visible("\\x1b[31mred")
    '\\\\x1b[31mred'
    """
    return HIDDEN.sub(lambda match: escape(match.group()), text)


def shell_word(text: str) -> str:
    """The text as a word of a shell's command, which may be shown.

    >>> print(shell_word("caf\\udce9 au lait"))
    $'caf\\xe9 au lait'
    """
    shown = visible(text)
    if shown == text:
        return shlex.quote(text)
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")
    return f"$'{visible(quoted)}'"


def escape(character: str) -> str:
    """A character as in a Python string; of a name that is no text, the byte."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lacking(text: str, encoding: str) -> set[str]:
    """The characters of a text that an encoding cannot write."""
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
    """A value as JSON; characters that the encoding lacks are escaped and, where it `is_shown`, hidden ones too."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    escaped = lacking(text, encoding) | (set(HIDDEN.findall(text)) if is_shown else set())
    return text.translate({ord(character): json.dumps(character)[1:-1] for character in escaped}) if escaped else text

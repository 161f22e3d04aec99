"""Which encoding bytes are likely to be in, for a hint: by their mark, by their NULs, else by what they look like.

It is a guess, so nothing is read by it.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

MARKS = (  # a longer one first, since it begins with a shorter one
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
GUESS_BYTES = 1 << 16  # are looked at
CONTROLS = bytes({*range(32)} - {*b"\b\t\n\f\r\x1b"})  # that hardly stand in a text
CONTROL_SHARE = 0.05  # from which on bytes are no text
FEW_BYTES = 8
TOGETHER = re.compile(rb"[\x80-\xff]{3}")  # as characters of several bytes stand
WESTERN = "cp1252"
CENTRAL = "Polish", "Czech", "Slovak", "Slovene", "Croatian", "Hungarian", "Romanian"
OF_LANGUAGES = {**dict.fromkeys(CENTRAL, "cp1250"), "Turkish": "cp1254", "Vietnamese": "cp1258"}


def marked_encoding(data: bytes) -> str | None:
    """The encoding whose byte-order mark the bytes begin with."""
    for mark, encoding in MARKS:
        if data.startswith(mark) and (encoding != "utf-32" or _is_in(data[: len(data) // 4 * 4], encoding)):
            return encoding  # UTF-16 may begin with a NUL, and look like UTF-32 no further
    return None


def guessed_encoding(data: bytes) -> str | None:
    """The likeliest encoding of the beginning of a text, None where there is none.

    >>> guessed_encoding("“Où est l'été ?”".encode("cp1252"))
    'cp1252'
    """
    data = data[:GUESS_BYTES]
    return marked_encoding(data) or (_wide_encoding(data) if b"\0" in data else _by_look(data))


def has_controls(data: bytes) -> bool:
    """Whether so many of the bytes are control characters that they are no text."""
    return len(data) - len(data.translate(None, CONTROLS)) > CONTROL_SHARE * len(data)


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where the NULs are in text with spaces and newlines."""
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        try:
            text = data[: len(data) - len(data) % width].decode(encoding)
        except UnicodeDecodeError:
            continue
        if text and "\0" not in text and any(each in text for each in " \n"):
            return encoding
    return None


def _by_look(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    data = data[: data.rfind(b"\n") + 1] or data  # what is cut inside a character is in no encoding
    matches = [match for match in from_bytes(data) if not match.encoding.startswith(("utf_16", "utf_32"))]
    if not matches or _is_sparse(data) or _is_latin(str(matches[0])):
        # Encodings of one alphabet differ in a few bytes at most, so what counts is how common they are.
        encoding = OF_LANGUAGES.get(matches[0].language, WESTERN) if matches and not _is_sparse(data) else WESTERN
        return encoding if _is_in(data, encoding) else None
    return matches[0].encoding


def _is_sparse(data: bytes) -> bool:
    """Whether there are too few bytes besides ASCII to learn anything from."""
    return len(data) - len(data.translate(None, bytes(range(128, 256)))) < FEW_BYTES and not TOGETHER.search(data)


def _is_latin(text: str) -> bool:
    """Whether letters besides ASCII, if there are any, are nearly all Latin."""
    letters = [character for character in text if character.isalpha() and not character.isascii()]
    latin = sum(unicodedata.name(character, "").startswith("LATIN ") for character in letters)
    return latin >= 0.9 * len(letters)


def _is_in(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True

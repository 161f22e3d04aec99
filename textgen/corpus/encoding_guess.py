"""Finds the encoding of a byte-order mark, and guesses the likely one of other bytes, for a hint.

The mark decides how a file is decoded. Guesses, from NUL bytes or from statistics of the text, are only hints in
messages; but a page that is surely UTF-8 is read as UTF-8, whatever it names.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable

MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = {"utf-32-le": 4, "utf-32-be": 4, "utf-16-le": 2, "utf-16-be": 2}  # bytes of the shortest characters
ODD = ("Cc", "Cn", "Co")  # categories of control, unassigned and private characters
USUAL_CONTROLS = "\b\t\n\f\r\x1b"
GUESS_BYTES = 1 << 16  # number of bytes used for a guess
CONTROLS = bytes({*range(32)} - {*USUAL_CONTROLS.encode()})  # control characters that are rare in text
CONTROL_FRACTION = 0.05  # bytes with a larger fraction of control characters are not text
FEW_BYTES = 8  # fewer bytes outside ASCII are not enough for statistics
TOGETHER = re.compile(rb"[\x80-\xff]{3}")  # typical of multi-byte characters
WESTERN = "cp1252"
CENTRAL = "Polish", "Czech", "Slovak", "Slovene", "Croatian", "Hungarian", "Romanian"
OF_LANGUAGES = {**dict.fromkeys(CENTRAL, "cp1250"), "Turkish": "cp1254", "Vietnamese": "cp1258"}


def marked_encoding(data: bytes) -> str | None:
    """Returns the encoding of the byte-order mark at the start of `data`, or None if there is none."""
    for mark, encoding in MARKS:
        if data.startswith(mark) and (encoding != "utf-32" or _is_in(data[: len(data) // 4 * 4], encoding)):
            return encoding  # UTF-16 text that starts with NUL looks like UTF-32 only at its start
    return None


def guessed_encoding(data: bytes) -> str | None:
    """Guesses the encoding of a text.

    Args:
        data: Beginning of the text. Only the first `GUESS_BYTES` bytes are used.

    Returns:
        The most likely encoding. None if no encoding fits.

    Example:
        >>> guessed_encoding("“Où est l'été ?”".encode("cp1252"))
        'cp1252'
    """
    data = data[:GUESS_BYTES]
    return marked_encoding(data) or (_wide_encoding(data) if b"\0" in data else _by_look(data))


def is_surely_utf8(chunks: Iterable[bytes]) -> bool:
    """Checks whether bytes are UTF-8 with enough characters outside ASCII that they are no other encoding by chance.

    Args:
        chunks: Consecutive bytes. The last character may be truncated.
    """
    decoder, outside = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        for chunk in chunks:
            decoder.decode(chunk)
            outside += _num_outside_ascii(chunk)
    except UnicodeDecodeError:
        return False
    return outside >= FEW_BYTES


def has_controls(data: bytes) -> bool:
    """Checks whether `data` has too many control characters to be text."""
    return len(data) - len(data.translate(None, CONTROLS)) > CONTROL_FRACTION * len(data)


def may_be_wide(data: bytes) -> bool:
    """Checks whether `data` may be text in UTF-16 or UTF-32, perhaps damaged: few of its characters are odd ones."""
    for encoding, width in WIDE.items():
        text = data[: len(data) - len(data) % width].decode(encoding, "replace")
        if sum(map(_is_odd, text)) <= max(1, CONTROL_FRACTION * len(text)):
            return True
    return False


def _is_odd(character: str) -> bool:
    """Whether a decoded character is rare in text, or stands for bytes that are none."""
    if unicodedata.category(character) in ODD:
        return character not in USUAL_CONTROLS
    return character == "\ufffd"


def _wide_encoding(data: bytes) -> str | None:
    """Detects UTF-16 and UTF-32 without a byte-order mark from the positions of NUL bytes."""
    for encoding, width in WIDE.items():
        try:
            text = data[: len(data) - len(data) % width].decode(encoding)
        except UnicodeDecodeError:
            continue
        if text and "\0" not in text and any(each in text for each in " \n"):
            return encoding
    return None


def _by_look(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    if _is_mostly_utf8(data):
        return "utf-8"
    data = data[: data.rfind(b"\n") + 1] or data  # a truncated last character would rule out the right encoding
    matches = [match for match in from_bytes(data) if not match.encoding.startswith(("utf_16", "utf_32"))]
    if not matches or _is_sparse(data) or _is_latin(str(matches[0])):
        # Encodings of the Latin alphabet differ in few bytes, so choose the most common one for the language.
        encoding = OF_LANGUAGES.get(matches[0].language, WESTERN) if matches and not _is_sparse(data) else WESTERN
        return encoding if _is_in(data, encoding) else None
    return matches[0].encoding


def _is_mostly_utf8(data: bytes) -> bool:
    """Checks whether more characters outside ASCII are valid UTF-8 than not, as in a damaged or truncated text."""
    text = data.decode("utf-8", "replace")
    return sum(not character.isascii() for character in text) > 2 * text.count("\ufffd")


def _is_sparse(data: bytes) -> bool:
    """Checks whether there are too few bytes outside ASCII for statistics."""
    return _num_outside_ascii(data) < FEW_BYTES and not TOGETHER.search(data)


def _num_outside_ascii(data: bytes) -> int:
    return len(data) - len(data.translate(None, bytes(range(128, 256))))


def _is_latin(text: str) -> bool:
    """Checks whether nearly all letters outside ASCII are Latin. True if there are none."""
    letters = [character for character in text if character.isalpha() and not character.isascii()]
    latin = sum(unicodedata.name(character, "").startswith("LATIN ") for character in letters)
    return latin >= 0.9 * len(letters)


def _is_in(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True

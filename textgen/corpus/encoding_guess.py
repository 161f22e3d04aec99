"""Finds the encoding of a byte-order mark, and guesses the likely one of other bytes, for a hint.

The mark decides how a file is decoded. Guesses, from NUL bytes or from statistics of the text, are only hints in
messages; but a page that is surely UTF-8 is read as UTF-8, whatever it names.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from textgen.corpus.encodings import LARGER

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
USUAL = {
    "cp949": [(0xA1, 0xA3), (0xB0, 0xC8)], "euc_jp": [(0xA1, 0xA5), (0xB0, 0xCF)], "big5": [(0xA1, 0xC6)],
    "cp932": [(0x81, 0x83), (0x88, 0x98)], "gb18030": [(0xA1, 0xA3), (0xB0, 0xD7)],
}  # fmt: skip
"""East Asian encodings, and the ranges of first bytes of their usual characters.

Those of an encoding are also usual in some that come after it, such as Korean syllables, which are Chinese characters
there, but not in those that come before it.
"""
ORDER_OF_TRIAL = ("cp949", "gb18030", "big5", "euc_jp", "cp932")
"""The same encodings, those first in which fewer texts in others consist of usual characters by chance.

Kana tell Japanese from Chinese; without them Chinese is more likely.
"""
RELATED = {
    "euc_kr": "cp949", "euc_jis_2004": "euc_jp", "euc_jisx0213": "euc_jp", "cp950": "big5", "big5hkscs": "big5",
    "shift_jis": "cp932", "shift_jis_2004": "cp932", "shift_jisx0213": "cp932", "gbk": "gb18030", "gb2312": "gb18030",
}  # fmt: skip
"""Other names and variants of the encodings in `USUAL`."""
USUAL_FRACTION = 0.92  # in the right encoding, more of the characters outside ASCII are usual ones; in others, fewer
SIMILAR = 0.02  # smaller differences of that fraction do not tell which encoding is the right one
MANY_CHARACTERS = 100  # with fewer characters outside ASCII, a text in other encodings may have these properties
SOME_CHARACTERS = 20  # the same, if the user says that it is the encoding
FEW_CHARACTERS = 4  # with fewer of them, such as one short name, these properties tell nothing at all
DAMAGED_FRACTION = 0.01  # in the wrong encoding, a larger fraction of characters are damaged
FEW_DAMAGED = 2  # what one wrong or lost byte may damage: by chance these are other characters in a larger encoding
ASCII = re.compile("[\0-\x7f]+")
REPEATED = re.compile(r"(.)\1+", re.DOTALL)  # drawn lines, which are the same character in many encodings


def marked_encoding(data: bytes) -> str | None:
    """Returns the encoding of the byte-order mark at the start of `data`, or None if there is none."""
    for mark, encoding in MARKS:
        if data.startswith(mark) and (encoding != "utf-32" or _is_in(data[: len(data) // 4 * 4], encoding)):
            return encoding  # UTF-16 text that starts with NUL looks like UTF-32 only at its start
    return None


def guessed_encoding(data: bytes, given: str = "") -> str | None:
    """Guesses the encoding of a text, which may be damaged if that is UTF-8 or one of East Asia.

    Args:
        data: Beginning of the text. Only the first `GUESS_BYTES` bytes are used.
        given: Encoding that the user names, if any. It is the guess for a damaged text that may well be in it.

    Returns:
        The most likely encoding. None if no encoding fits.

    Example:
        >>> guessed_encoding("“Où est l'été ?”".encode("cp1252"))
        'cp1252'
    """
    data = data[:GUESS_BYTES]
    return marked_encoding(data) or (_wide_encoding(data) if b"\0" in data else _by_look(data, given))


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


def is_damaged(data: bytes, encoding: str) -> bool:
    """Checks whether a text in an East Asian encoding is damaged. The last character may be truncated.

    Args:
        data: Beginning of the text.
        encoding: The guess of `guessed_encoding`. False for other encodings.
    """
    return encoding in RELATED.keys() | USUAL.keys() and "\ufffd" in _text_of(data[:GUESS_BYTES], encoding)


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


def _by_look(data: bytes, given: str) -> str | None:
    if _is_mostly_utf8(data):
        return "utf-8"
    named = codecs.lookup(given).name if given else ""
    is_possible = _usual_fraction(data, named, SOME_CHARACTERS) >= USUAL_FRACTION
    guess = _east_asian_encoding(data) or _of_few_characters(data, _by_statistics(data))
    if guess is None or guess not in (*USUAL, *RELATED):
        return _sound_or_damaged(data, named) if is_possible else guess
    is_variant = is_possible and guess == RELATED.get(named) and is_damaged(data, guess)
    return _sound_or_damaged(data, named if is_variant else guess)


def _by_statistics(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    data = data[: data.rfind(b"\n") + 1] or data  # a truncated last character would rule out the right encoding
    matches = [match for match in from_bytes(data) if not match.encoding.startswith(("utf_16", "utf_32"))]
    if not matches or _is_sparse(data) or _is_latin(str(matches[0])):
        # Encodings of the Latin alphabet differ in few bytes, so choose the most common one for the language.
        encoding = OF_LANGUAGES.get(matches[0].language, WESTERN) if matches and not _is_sparse(data) else WESTERN
        return encoding if _is_in(data, encoding) else None
    return matches[0].encoding


def _east_asian_encoding(data: bytes) -> str | None:
    """Finds the East Asian encoding of a text with enough characters outside ASCII, which may be damaged.

    `charset_normalizer` finds none for a text that is damaged or ends within a character, or one in which the damaged
    bytes happen to be others.
    """
    fractions = {encoding: _usual_fraction(data, encoding, MANY_CHARACTERS) for encoding in USUAL}
    best = max(fractions.values())
    if best < USUAL_FRACTION:
        return None
    return next(encoding for encoding, fraction in fractions.items() if fraction > best - SIMILAR)


def _of_few_characters(data: bytes, guess: str | None) -> str | None:
    """The encoding of East Asia in which the few characters of a text, such as names of columns, are all usual ones.

    `charset_normalizer` takes so few of them for those of another encoding.

    Args:
        data: The text.
        guess: Its encoding by `charset_normalizer`. It is returned if all characters are usual there, too, or if there
            is no other such encoding.
    """
    if guess and _usual_fraction(data, guess, FEW_CHARACTERS) == 1.0:
        return guess
    return next((encoding for encoding in ORDER_OF_TRIAL if _are_all_usual(data, encoding)), guess)


def _are_all_usual(data: bytes, encoding: str) -> bool:
    """Whether all characters outside ASCII are usual ones, and at least half of them have two bytes outside ASCII.

    In languages with an alphabet, letters outside ASCII stand between others: with the next one, as in `Ét`, they would
    also be a usual character.
    """
    text = _text_of(data, encoding)
    if "\ufffd" in text or _usual_fraction(data, encoding, FEW_CHARACTERS) < 1.0:
        return False
    lasts = [character.encode(encoding)[-1] for character in ASCII.sub("", text)]
    return 2 * sum(last >= 0x80 for last in lasts) >= len(lasts)


def _usual_fraction(data: bytes, encoding: str, minimum: int) -> float:
    """The fraction of usual characters among those outside ASCII.

    0 for an encoding of which `USUAL` has none, and if there are fewer characters than a minimum, or many damaged ones.
    """
    usual = RELATED.get(encoding, encoding)
    if usual not in USUAL:
        return 0.0
    characters = REPEATED.sub(r"\1", ASCII.sub("", _text_of(data, encoding)))
    damaged = characters.count("\ufffd")
    if len(characters) < minimum or damaged > max(FEW_DAMAGED, DAMAGED_FRACTION * len(characters)):
        return 0.0
    return sum(map(_usual_characters(usual).__contains__, characters)) / max(1, len(characters) - damaged)


def _sound_or_damaged(data: bytes, encoding: str) -> str:
    """The encoding, or the larger one that contains it if a text is damaged in the one but not in the other."""
    larger, num_damaged = LARGER.get(encoding, encoding), _text_of(data, encoding).count("\ufffd")
    return larger if num_damaged > FEW_DAMAGED and not is_damaged(data, larger) else encoding


def _text_of(data: bytes, encoding: str) -> str:
    """Decodes bytes up to the last whole character, with U+FFFD for those that are not in the encoding."""
    return codecs.getincrementaldecoder(encoding)("replace").decode(data)


@cache
def _usual_characters(encoding: str) -> frozenset[str]:
    """The usual characters of an encoding of `USUAL`; in that of China, also those of traditional texts."""
    firsts = [first for start, last in USUAL[encoding] for first in range(start, last + 1)]
    pairs = (bytes([first, second]) for first in firsts for second in range(0x40, 0xFF))
    characters = {pair.decode(encoding) for pair in pairs if _is_in(pair, encoding)}
    traditional = filter(str.isalpha, _usual_characters("big5")) if encoding == "gb18030" else ()
    return frozenset({*characters, *traditional})


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

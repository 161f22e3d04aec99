"""Encodings of text files, by name."""

from __future__ import annotations

import codecs
from contextlib import suppress

from textgen.errors import CorpusError

PLAIN_ENCODINGS = ("utf-8", "ascii", "iso8859", "cp125", "koi8", "gb", "big5", "euc_", "shift_jis")
"""Prefixes of names of encodings in which the byte 10 always is a newline, even when reading starts mid-file."""

NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Python codecs for names and string literals, not for text files."""


LARGER = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "gb2312": "gb18030", "gbk": "gb18030",
}  # fmt: skip
"""Encodings of which browsers read the larger one that contains it, by Python's names (encoding.spec.whatwg.org).

Python has no codec for the larger one of euc_jp: `WEB_ERRORS` adds the characters that are missing.
"""

WEB_LABELS = {
    "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8",
    "iso8859-6": "csiso88596e csiso88596i iso-8859-6-e iso-8859-6-i iso88596",
    "iso8859-7": "iso88597 sun_eu_greek",
    "iso8859-8": "csiso88598e csiso88598i iso-8859-8-e iso-8859-8-i iso88598 logical visual",
    "iso8859-15": "csisolatin9 iso885915",
    "koi8-r": "koi koi8",
    "koi8-u": "koi8-ru",
    "mac-roman": "csmacintosh mac x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "dos-874 windows-874",
    "gb18030": "csgb2312 gb_2312 gb_2312-80 x-gbk",
    "big5": "cn-big5 x-x-big5",
    "euc_jp": "cseucpkdfmtjapanese x-euc-jp",
    "shift_jis": "windows-31j x-sjis",
    "euc_kr": "cseuckr csksc56011987 iso-ir-149 ks_c_5601-1989 ksc_5601 windows-949",
    **{f"iso8859-{number}": f"iso8859{number}" for number in (1, 2, 3, 4, 5, 9, 10, 11, 13, 14)},
    **{f"cp{number}": f"x-cp{number}" for number in range(1250, 1259)},
}
"""The names of encodings in web pages that Python does not know, separated by spaces."""
OF_LABELS = {label: encoding for encoding, labels in WEB_LABELS.items() for label in labels.split()}

OF_EUC = range(0xA1, 0xFF)  # bytes of the characters with two bytes in EUC-JP
WEB_ERRORS = "textgen-web"
"""How pages are decoded, as in browsers: bytes that an encoding with one byte a character leaves open are control
characters, and EUC-JP has the characters of NEC and IBM. Other bytes that are not in the encoding are errors."""
REPLACEMENT = "\ufffd"  # stands for what could not be decoded


def _as_browsers(error: UnicodeError) -> tuple[str, int]:
    """Handles the errors of decoders by the rules of `WEB_ERRORS`."""
    if isinstance(error, UnicodeDecodeError):
        found = error.object[error.start : error.start + 2]
        if error.encoding == "charmap" and 0x80 <= found[0] < 0xA0:
            return chr(found[0]), error.start + 1
        if error.encoding == "euc_jp" and len(found) == 2 and all(byte in OF_EUC for byte in found):
            with suppress(UnicodeDecodeError):
                return _shift_jis(*found).decode("cp932"), error.start + 2
    raise error


def _shift_jis(first: int, second: int) -> bytes:
    """The bytes in Shift JIS of a character in EUC-JP: both are made of a row and a cell of the same table."""
    row, cell = first - OF_EUC.start, second - OF_EUC.start
    lead, trail = 0x81 + row // 2, 0x40 + cell + row % 2 * 94
    return bytes([lead + 0x40 * (lead > 0x9F), trail + (trail >= 0x7F)])


codecs.register_error(WEB_ERRORS, _as_browsers)


def text_decoder(encoding: str, errors: str = "strict") -> codecs.IncrementalDecoder:
    """Creates an incremental decoder.

    Args:
        encoding: Name of an encoding.
        errors: What to do with bytes that are not in the encoding, as in `bytes.decode`.

    Returns:
        A decoder of bytes to text.

    Raises:
        CorpusError: The encoding is unknown, or is not an encoding of text files.
    """
    try:
        "".encode(encoding)  # rejects codecs that do not encode text, such as hex
        if codecs.lookup(encoding).name in NOT_OF_FILES:
            raise LookupError
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        decoder.decode(b"")
    except (LookupError, ValueError, TypeError):
        examples = "utf-8, latin-1, gb18030 or utf-16"
        raise CorpusError(f"There is no encoding {encoding!r}. Set encoding to one such as {examples}.") from None
    return decoder


def is_plain(encoding: str) -> bool:
    """Checks whether text in this encoding can be split at the byte 10 into lines before it is decoded.

    Args:
        encoding: Name of an encoding.

    Raises:
        CorpusError: The encoding is unknown, or is not an encoding of text files.
    """
    text_decoder(encoding)
    return codecs.lookup(encoding).name.startswith(PLAIN_ENCODINGS)


def is_wide(encoding: str) -> bool:
    """Checks whether all characters of an encoding have two or four bytes, so that texts in it have NUL bytes."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def is_utf8_name(encoding: str) -> bool:
    """Checks whether a name is one of UTF-8."""
    return codecs.lookup(encoding).name.removesuffix("-sig") == "utf-8"


def known_encoding(name: str) -> str | None:
    """Returns the name of an encoding of text files if Python knows it, else None."""
    try:
        text_decoder(name)
    except CorpusError:
        return None
    return name


def web_encoding(label: str) -> str | None:
    """Finds the encoding in which browsers read a page.

    Args:
        label: The name of an encoding in the page.

    Returns:
        Name of the encoding. None for an unknown one.

    Example:
        >>> web_encoding("x-sjis"), web_encoding("Latin1"), web_encoding("none")
        ('cp932', 'cp1252', None)
    """
    name = known_encoding(OF_LABELS.get(label.lower(), label))
    return LARGER.get(codecs.lookup(name).name, name) if name else None


def paired(text: str, errors: str = "replace") -> str:
    """Returns a text with the halves (surrogates) of characters beyond U+FFFF joined.

    Args:
        text: The text.
        errors: What to do with those without the other half, as in `bytes.decode`.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", errors)

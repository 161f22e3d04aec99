"""Encodings of text files, by name."""

from __future__ import annotations

import codecs

from textgen.errors import CorpusError

PLAIN_ENCODINGS = ("utf-8", "ascii", "iso8859", "cp125", "koi8", "gb", "big5", "euc_", "shift_jis")
"""Prefixes of names of encodings in which the byte 10 always is a newline, even when reading starts mid-file."""

NOT_OF_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Python codecs for names and string literals, not for text files."""


def text_decoder(encoding: str) -> codecs.IncrementalDecoder:
    """Creates an incremental decoder.

    Args:
        encoding: Name of an encoding.

    Returns:
        A decoder of bytes to text.

    Raises:
        CorpusError: The encoding is unknown, or is not an encoding of text files.
    """
    try:
        "".encode(encoding)  # rejects codecs that do not encode text, such as hex
        if codecs.lookup(encoding).name in NOT_OF_FILES:
            raise LookupError
        decoder = codecs.getincrementaldecoder(encoding)()
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

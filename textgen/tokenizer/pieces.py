"""The pieces of a vocabulary: ids, names, and how they are shown.

A token is an id and the text that it stands for, its piece. Every vocabulary begins alike:

    id      piece
    0       pad: fills rows up, never part of a text
    1       unk: text without a piece of its own; only word vocabularies need it
    2       eos: ends a document and opens the next one, so there is no bos; see `Tokenizer.eos_id`
    3       the newline                    (not in the byte tokenizer)
    4-259   the 256 bytes                  (3-258 in the byte tokenizer; none in word vocabularies)
    260...  learned, or one per character  (4... in word vocabularies)
    last    labels, if documents have any: first that of a document without one, then one for each label
"""

from __future__ import annotations

import re

from textgen.arguments import check_is_text
from textgen.errors import TokenizerError

PAD, UNK, EOS, NEWLINE, FIRST_BYTE = range(5)
FIRST_LEARNED = FIRST_BYTE + 256
SPECIAL_PIECES = ["<pad>", "<unk>", "<eos>"]

SPACE = "\u2581"  # SentencePiece's sign for a space
BYTE_NAMES = [f"<0x{byte:02X}>" for byte in range(256)]
UNK_NAME, EOS_NAME, NEWLINE_NAME = "<unknown piece>", "<end of document>", "<new line>"
PAD_NAME = re.compile("<textgen (unigram|bpe|char|word)>")  # tells the kind, and that textgen made the model
LABEL_NAME = re.compile("<label (.*)>", re.DOTALL)
NO_LABEL = ""
WORD_OR_NEWLINE = re.compile(f"[^\\s{SPACE}]+|\\n")


def valid_text(text: str) -> str:
    """Returns `text`.

    Raises:
        ConfigError: It is not a text.
        TokenizerError: It has half of a surrogate pair, which UTF-8 cannot represent.
    """
    check_is_text("text", text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"The text is not valid text: character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}. Read it with the encoding that it was written in."
        ) from None
    return text


def words_of(line: str) -> list[str]:
    """Returns the words of a line, the text between white space; a literal U+2581 counts as a space."""
    return line.replace(SPACE, " ").split()


def word_ends(text: str) -> list[int]:
    """Returns where each token of a text ends in a word vocabulary: its words, see `words_of`, and its newlines.

    Example:
        >>> word_ends("the  cat \\nsat ")
        [3, 8, 10, 13]
    """
    return [found.end() for found in WORD_OR_NEWLINE.finditer(text)]


def every_byte() -> list[bytes]:
    """Returns the 256 bytes, each alone."""
    return [bytes([byte]) for byte in range(256)]


def printable(piece: str) -> str:
    """Returns a piece in printable characters.

    Example:
        >>> printable("a\\r\\u3000")
        'a\\\\r\\\\u3000'
    """
    piece = piece.replace("\\", "\\\\")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in piece)

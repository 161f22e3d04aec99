"""Decodes text, and says where bytes are not in its encoding and in which they may be."""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections.abc import Iterable, Iterator

from textgen.corpus.encoding_guess import GUESS_BYTES, guessed_encoding, marked_encoding
from textgen.corpus.encodings import is_plain, text_decoder
from textgen.errors import CorpusError

SURROGATES = re.compile("[\ud800-\udfff]")  # in a text they are unpaired: halves of characters


def decoded(
    chunks: Iterable[bytes],
    name: str,
    encoding: str,
    newlines: str,
    start: int = 0,
    errors: str = "strict",
    called: str = "",
) -> Iterator[str]:
    """Iterates over the text of a file, without a byte-order mark.

    Args:
        chunks: Consecutive bytes that make up the file, or a section of it.
        name: Name of the file, for error messages.
        encoding: Its encoding.
        newlines: "normalize" or "keep".
        start: Offset of the section in bytes.
        errors: As of `text_decoder`.
        called: Name of the encoding in error messages, if it is another.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        CorpusError: The bytes are not text in the encoding.
    """
    has_mark = codecs.lookup(encoding).name == "utf-8-sig"  # which its decoder would drop at the start of each section
    decoder = text_decoder("utf-8" if has_mark else encoding, errors)
    may_have_surrogates = not is_plain(encoding)  # UTF-7, for one, can encode unpaired surrogates
    if newlines == "normalize":
        decoder = io.IncrementalNewlineDecoder(decoder, True)  # type: ignore[assignment]
    num_bytes = start  # passed to the decoder so far
    is_start = start == 0
    last = b""
    for chunk in itertools.chain(chunks, [b""]):
        if not num_bytes:
            _refuse_utf_32(chunk, name, encoding)
        num_bytes += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            what = f"{name} is not {called or encoding} text"
            raise CorpusError(_decoding_error_message(what, encoding, error, num_bytes, chunk or last)) from None
        last = chunk
        if may_have_surrogates and (surrogate := SURROGATES.search(text)):
            raise CorpusError(
                f"{name} is not {encoding} text: \\u{ord(surrogate[0]):04x}, half a character, before "
                f"offset {num_bytes}. Set encoding to the one it was written in."
            )
        if is_start and text:
            text, is_start = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _refuse_utf_32(data: bytes, name: str, encoding: str) -> None:
    """Raises `CorpusError` for UTF-32 read as UTF-16, since the marks of both begin with the same bytes."""
    if codecs.lookup(encoding).name == "utf-16" and marked_encoding(data) == "utf-32":
        raise CorpusError(
            f"{name} is not {encoding} text: it begins with the mark of utf-32. {_encoding_hint('utf-32')}"
        )


def _decoding_error_message(what: str, encoding: str, error: UnicodeError, num_bytes: int, last: bytes) -> str:
    """Formats the message for a decoding error.

    Args:
        what: The beginning of the message: which file is not text in the encoding.
        encoding: The encoding it was decoded from.
        error: The error.
        num_bytes: Number of bytes passed to the decoder so far.
        last: The last of them. At the end of a file the error has only those of an unfinished character.
    """
    where, guess, examples = str(error), None, "cp1252, gb18030 or utf-16"
    if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):  # the last bytes fed
        data = bytes(error.object)
        where = f"byte 0x{data[error.start]:02x} at offset {num_bytes - len(data) + error.start}"
        around = max(data, last, key=len)
        place = len(around) - len(data) + error.start
        line = around.rfind(b"\n", 0, max(0, place - GUESS_BYTES // 2)) + 1
        guess = guessed_encoding(around[line : line + GUESS_BYTES])
    elif (kind := codecs.lookup(encoding).name) in ("utf-16", "utf-32"):
        guess, examples = guessed_encoding(last), f"{kind}-le or {kind}-be"  # it has no mark with the order of bytes
    message = f"{what}: {where}."
    if guess and codecs.lookup(guess).name == codecs.lookup(encoding).name.removesuffix("-sig"):
        return f"{message} It looks like {guess} that is damaged or truncated: save or download it again."
    return f"{message} {_encoding_hint(guess, examples)}"


def _encoding_hint(guess: str | None, examples: str = "") -> str:
    if guess is None:
        return f"Set encoding to the one it was written in, such as {examples}."
    return f"It looks like {guess}: set encoding to {guess}, or to the one it was written in."

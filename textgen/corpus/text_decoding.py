"""Decodes text, and says where bytes are not in its encoding and in which they may be."""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections.abc import Iterable, Iterator

from textgen.corpus.encoding_guess import GUESS_BYTES, guessed_encoding, is_damaged
from textgen.corpus.encodings import is_plain, text_decoder
from textgen.corpus.formats.archives import format_of
from textgen.errors import CorpusError

SURROGATES = re.compile("[\ud800-\udfff]")  # in a text they are unpaired: halves of characters
WIDE_ORDER = re.compile("^(utf-(?:16|32))-")  # what precedes the order of bytes, which iconv writes without a hyphen
ICONV_LACKS = {  # encodings that glibc's iconv does not know, by Python's names
    "charmap", "cp720", "cp1006", "euc_jis_2004", "hz", "iso2022_jp_1", "iso2022_jp_2004", "iso2022_jp_ext", "kz1048",
    "mac-arabic", "mac-croatian", "mac-farsi", "mac-greek", "mac-iceland", "mac-latin2", "mac-romanian", "mac-turkish",
    "palmos", "ptcp154", "shift_jis_2004", "shift_jisx0213",
}  # fmt: skip


class NotInEncoding(CorpusError):
    """The bytes of a file are not text in its encoding."""


def decoded(
    chunks: Iterable[bytes],
    *,
    name: str,
    encoding: str,
    newlines: str,
    start: int = 0,
    errors: str = "strict",
    shown_encoding: str = "",
    is_alone: bool = True,
    is_marked: bool = False,
) -> Iterator[str]:
    """Iterates over the text of a file, without a byte-order mark.

    Args:
        chunks: Consecutive bytes that make up the file, or a section of it.
        name: Name of the file, for error messages.
        encoding: Its encoding.
        newlines: "normalize" or "keep".
        start: Offset of the section in bytes.
        errors: As of `text_decoder`.
        shown_encoding: Name of the encoding in error messages, if it is another.
        is_alone: Whether no other file is read in this encoding.
        is_marked: Whether the encoding is that of a byte-order mark at the start of the file.

    Yields:
        Consecutive strings that make up the text.

    Raises:
        NotInEncoding: The bytes are not text in the encoding.
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
        num_bytes += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            what = f"{name} is not {shown_encoding or encoding} text"
            message = _decoding_error_message(
                what,
                encoding=encoding,
                error=error,
                num_bytes=num_bytes,
                last=chunk or last,
                is_alone=is_alone,
                is_marked=is_marked,
            )
            raise NotInEncoding(message) from None
        last = chunk
        if may_have_surrogates and (surrogate := SURROGATES.search(text)):
            raise NotInEncoding(
                f"{name} is not {encoding} text: \\u{ord(surrogate[0]):04x}, half a character, before "
                f"offset {num_bytes}. Set encoding to the one it was written in."
            )
        if is_start and text:
            text, is_start = text.removeprefix("\ufeff"), False
        if text:
            yield text


def _decoding_error_message(
    what: str, *, encoding: str, error: UnicodeError, num_bytes: int, last: bytes, is_alone: bool, is_marked: bool
) -> str:
    """Formats the message for a decoding error.

    Args:
        what: The beginning of the message: which file is not text in the encoding.
        encoding: The encoding it was decoded from.
        error: The error.
        num_bytes: Number of bytes passed to the decoder so far.
        last: The last of them. At the end of a file the error has only those of an unfinished character.
        is_alone: Whether no other file is read in this encoding.
        is_marked: Whether a byte-order mark says that it is the encoding.

    Returns:
        The message.
    """
    where, guess, part, examples = str(error), None, b"", "cp1252, gb18030 or utf-16"
    if isinstance(error, UnicodeDecodeError) and error.start < len(error.object):  # the last bytes fed
        data = bytes(error.object)
        where = f"byte 0x{data[error.start]:02x} at offset {num_bytes - len(data) + error.start}"
        around = max(data, last, key=len)
        place = len(around) - len(data) + error.start
        line = around.rfind(b"\n", 0, max(0, place - GUESS_BYTES // 2)) + 1
        part = around[line : line + GUESS_BYTES]
        guess = guessed_encoding(part.removeprefix(codecs.BOM_UTF8) if is_marked else part, encoding)
    elif (kind := codecs.lookup(encoding).name) in ("utf-16", "utf-32"):
        guess, examples = guessed_encoding(last), f"{kind}-le or {kind}-be"  # it has no mark with the order of bytes
    message, own = f"{what}: {where}.", codecs.lookup(encoding).name.removesuffix("-sig")
    if is_marked:
        return f"{message} {_about_marked(own, guess)}"
    if guess and codecs.lookup(guess).name == own:
        return f"{message} {_damaged(guess)}"
    if guess and is_damaged(part, guess):
        return f"{message} {_damaged(guess, f'set encoding to {guess}')}"
    if guess is None:
        return f"{message} Set encoding to the one it was written in, such as {examples}."
    if guess == "utf-8" and not is_alone:  # the files beside it may be in the encoding that is set
        command = iconv_command(own)
        how = f"with {command}" if command else "to utf-8"
        return f"{message} It looks like utf-8. Convert the other files {how}, and leave encoding out."
    advice = f"It looks like {guess}: set encoding to {guess}, or to the one it was written in"
    command = iconv_command(guess, own)
    how = f"with {command}" if command else f"to {own}"
    others = "" if is_alone else f", if that is the encoding of all files; or convert it {how}"
    return f"{message} {advice}{others}."


def _about_marked(marked: str, guess: str | None) -> str:
    """Says what to do with a text that is not in the encoding of its byte-order mark, which no setting changes."""
    if guess and (codecs.lookup(guess).name == marked or guess.startswith(f"{marked}-")):
        return _damaged(marked)
    part = f"this part looks like {guess}" if guess else f"not all of it is {marked}"
    return f"It begins with the byte-order mark of {marked}, but {part}: save it again in one encoding."


def _damaged(encoding: str, then: str = "") -> str:
    more = f", and {then}" if then else ""
    return f"It looks like {encoding} that is damaged or truncated: save or download it again{more}."


def iconv_command(source: str, target: str = "utf-8") -> str:
    """Returns the shell command that converts a text from one encoding to another.

    Args:
        source: Name of the encoding of the text, as Python knows it.
        target: Name of the other encoding.

    Returns:
        The command, with FILE and NEW for the files; "" if iconv does not know one of the encodings.

    Example:
        >>> iconv_command("utf_16_le")
        'iconv -f utf-16le -t utf-8 FILE > NEW'
    """
    names = [_iconv_name(encoding) for encoding in (source, target)]
    return "iconv -f {} -t {} FILE > NEW".format(*names) if all(names) else ""


def _iconv_name(encoding: str) -> str:
    """The name of an encoding in iconv; "" if it does not know the encoding."""
    name = codecs.lookup(encoding).name
    if name in ICONV_LACKS:
        return ""
    name = WIDE_ORDER.sub(r"\1", name.removesuffix("-sig").replace("_", "-"))
    return name.replace("iso2022", "iso-2022").replace("mac-roman", "macintosh")


def utf8_text(data: bytes, name: str) -> str:
    """Decodes the whole content of a file that must be UTF-8. A byte-order mark is kept.

    Args:
        data: The content.
        name: Name of the file, for error messages.

    Returns:
        The text.

    Raises:
        CorpusError: It is not UTF-8; the message names the encoding or the other format that it seems to be in.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        what = f"{name} is not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}."
    if other := format_of(data)[0]:
        raise CorpusError(f"{what} It is {other}: save its text as UTF-8 first.")
    if data.startswith(codecs.BOM_UTF8):
        raise CorpusError(f"{what} {_about_marked('utf-8', guessed_encoding(data.removeprefix(codecs.BOM_UTF8)))}")
    guess = guessed_encoding(data)
    if guess == "utf-8":
        raise CorpusError(f"{what} {_damaged(guess)}")
    if guess is None:
        raise CorpusError(f"{what} Convert it to UTF-8 first.")
    command = iconv_command(guess)
    if is_damaged(data, guess):
        raise CorpusError(f"{what} {_damaged(guess, f'convert it with {command}')}")
    raise CorpusError(f"{what} It looks like {guess}. Convert it{f': {command}' if command else ' to UTF-8 first'}.")

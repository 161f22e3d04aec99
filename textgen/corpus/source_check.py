"""Checks what a file is from its first bytes: text, or a binary file, an archive or a format under another name."""

from __future__ import annotations

from textgen.corpus.encoding_guess import guessed_encoding, has_controls, may_be_wide
from textgen.corpus.encodings import is_wide, text_decoder
from textgen.corpus.fetching.gutenberg import book_in
from textgen.corpus.formats.archives import about_archive, about_format
from textgen.corpus.formats.rich_text import WHOLE
from textgen.corpus.learned_markup import hidden_markup
from textgen.corpus.source import Source
from textgen.errors import CorpusError


def not_binary(source: Source) -> Source:
    """Checks that a source is text that can be read.

    Args:
        source: The source to check.

    Returns:
        The same source.

    Raises:
        CorpusError: The file looks binary, is an archive, needs another name or cannot be read, its library is not
            installed, or a server sent a web page in its place.
    """
    if source.is_mistaken_page:
        raise CorpusError(
            f"Cannot read {source.name}: the server sent a web page, not the file: the page may show the file, or ask "
            "to sign in. Name the address of the raw file; to read the page itself, save it as .html."
        )
    if source.missing:
        raise CorpusError(f"Cannot read {source.name}. {source.missing}")
    about = about_binary(source)
    if about:
        raise CorpusError(f"{source.name} {about}.")
    if about is not None:
        what = f"{source.name} looks like a binary file: it has NUL bytes near its start"
        if is_wide(source.encoding):
            raise CorpusError(f"{what}, and is not {source.encoding} text. Name a text file instead.")
        if source.known.is_marked:
            raise CorpusError(f"{what}. Name a text file instead.")
        guess = source.known.wide
        encoding = f"{guess}, as it seems to be" if guess else "utf-16 or its own encoding"
        raise CorpusError(f"{what}. Name a text file instead; if it is text, set encoding to {encoding}.")
    return source


def about_binary(source: Source) -> str | None:
    """Checks whether a file is binary, from its first bytes, and NUL bytes near its start, which is read once.

    Args:
        source: The file. Its `Known.book`, `Known.markup` and `Known.wide` are noted.

    Returns:
        None for text, also with a stray NUL byte, and for text in UTF-16 and UTF-32 with a byte-order mark or if
        that is the encoding. For an archive or a format that needs another name, the rest of a sentence that says
        so and what to do. "" for other binary files.
    """
    if source.rich in WHOLE or source.format == ".parquet":
        return None
    start = source.beginning()
    encoding = source.note_encoding(start)  # also notes what `SourceFinder` reports
    text = start.decode(encoding, "replace").removeprefix("\ufeff")
    source.known.book = "" if source.format else book_in(text)
    source.known.markup = "" if source.format or source.rich or source.is_copy else hidden_markup(text)
    if about := _about_format(source, start):
        return about
    if source.rich and source.known.is_marked:
        return None
    if b"\0" in start and not _may_be_text(source, start):
        guess = None if source.known.is_marked else guessed_encoding(start)
        source.known.wide = guess if guess and guess.startswith("utf") else ""
        return ""
    return None


def _about_format(source: Source, start: bytes) -> str:
    """What `about_binary` returns about an archive or a format that needs another name; "" for others."""
    is_elsewhere = source.is_copy or source.remote is not None
    return about_format(start, source.compression, is_elsewhere) or about_archive(
        start, source.name, source.compression, source.is_copy
    )


def _may_be_text(source: Source, start: bytes) -> bool:
    """Whether bytes among which are NUL bytes may be text."""
    if is_wide(source.encoding):
        return may_be_wide(start)
    if has_controls(start):
        return False
    try:
        text_decoder(source.encoding).decode(start)  # not final, since the last character may be truncated
    except UnicodeError:
        return False
    return True


def begins_in_its_encoding(source: Source) -> bool:
    """Checks whether the start of a file is text in its encoding. True for formats that name their own."""
    if source.rich or source.format == ".parquet" or source.remote:
        return True
    start = source.beginning()
    try:
        text_decoder(source.note_encoding(start)).decode(start)  # not final, since the last character may be truncated
    except UnicodeError:
        return source.known.is_marked
    return True

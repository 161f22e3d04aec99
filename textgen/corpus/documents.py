"""Splits a stream of text into documents: files, blocks between blank lines, lines, or texts between separators.

Documents are produced in parts, so that memory stays bounded for documents of any length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass

PART_CHARS = 1 << 18  # maximum length of a part, in characters


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a document.

    Attributes:
        text: At most `PART_CHARS` characters. Where a document was cut, it ends with a newline or before a space if one
            was in reach.
        ends_document: Whether this is the last part of its document.
        label: Label of the document, or None.
        is_cut: Whether the rest of the document is held out. In training, the text ends here.
    """

    text: str
    _: KW_ONLY
    ends_document: bool
    label: str | None = None
    is_cut: bool = False


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """Splits a text into strings of at most `PART_CHARS` characters."""
    rest = ""
    for text in texts:
        rest += text
        start = 0
        while len(rest) - start > PART_CHARS:
            end = _place_to_cut(rest, start, start + PART_CHARS)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _place_to_cut(text: str, start: int, end: int) -> int:
    """Where to end a part of a text that begins at `start` and may go to `end`.

    After the last newline; else before the last space, since the tokens of words begin with the space before them;
    else at the end.
    """
    newline = text.rfind("\n", start, end) + 1
    space = 0 if newline else text.rfind(" ", start + 1, end)
    return newline or (space if space > 0 else end)


def whole_document(texts: Iterable[str], ends_document: bool = True, label: str | None = None) -> Iterator[Part]:
    """Splits the text of one document into parts.

    Args:
        texts: Consecutive strings that make up the text.
        ends_document: Whether the last part ends the document. False for a section of a longer document.
        label: Label of the document.

    Yields:
        The parts of the document; none if the text is empty.
    """
    last = ""
    for text in _cut(texts):
        if last:
            yield Part(last, ends_document=False, label=label)
        last = text
    if last:
        yield Part(last, ends_document=ends_document, label=label)


def _line_pieces(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Splits a text into lines, and lines that are too long for one part into several strings.

    Splits only on newlines: str.splitlines would also split on U+2028 and form feeds.

    Yields:
        Text without newlines, and whether it ends a line.
    """
    size = PART_CHARS - 1  # leaves room for a newline in the part
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if len(line) > size:
                *slices, line = _slices(line, size)
                yield from ((one, False) for one in slices)
            yield line, True
        if len(rest) > size:
            *slices, rest = _slices(rest, size)
            yield from ((one, False) for one in slices)
    if rest:
        yield rest, True


def _slices(text: str, size: int) -> list[str]:
    """A line in parts of at most `size` characters."""
    slices, start = list[str](), 0
    while len(text) - start > size:
        end = _place_to_cut(text, start, start + size)
        slices.append(text[start:end])
        start = end
    return [*slices, text[start:]]


def line_documents(texts: Iterable[str]) -> Iterator[Part]:
    """Makes a document of each line that is not blank.

    A blank line longer than `PART_CHARS` counts as text, because parts are yielded before the line is complete.
    """
    inside = False  # inside a line that is too long for one part
    for text, ends_line in _line_pieces(texts):
        if inside or not ends_line or (text and not text.isspace()):
            yield Part(text, ends_document=ends_line)
        inside = not ends_line


def block_documents(texts: Iterable[str]) -> Iterator[Part]:
    """Makes a document of each block of consecutive lines that are not blank, without its last newline."""
    held: list[str] = []
    size = 0  # characters in `held`
    inside = False  # inside a line that is too long for one part
    for text, ends_line in _line_pieces(texts):
        if not inside and ends_line and (not text or text.isspace()):
            if held:
                yield Part("".join(held), ends_document=True)
            held, size = [], 0
            continue
        if held and not inside:
            held.append("\n")
            size += 1
        if held and size + len(text) >= PART_CHARS:  # not >, so that the next newline fits
            yield Part("".join(held), ends_document=False)
            held, size = [], 0
        held.append(text)
        size += len(text)
        inside = not ends_line
    if held:
        yield Part("".join(held), ends_document=True)


def separated_documents(texts: Iterable[str], separator: str) -> Iterator[Part]:
    """Makes a document of the text between two separators, without the newlines at its ends.

    Documents that contain only whitespace are skipped, except one of more than `PART_CHARS` characters.

    Args:
        texts: Consecutive strings that make up the text.
        separator: Text between documents, which may span lines.

    Yields:
        The parts of the documents.
    """
    begun, held = False, ""  # held: text after which the document may go on
    for piece, ends in _separated_pieces(texts, separator):
        held += piece if begun or held else piece.lstrip("\n")
        while len(held) > PART_CHARS:  # cut as other documents are, with something left for the last part
            end = _place_to_cut(held, 1, PART_CHARS)
            yield Part(held[:end], ends_document=False)
            begun, held = True, held[end:]
        if ends:
            last = held.rstrip("\n")
            if begun or (last and not last.isspace()):
                yield Part(last or held, ends_document=True)
            begun, held = False, ""


def has_separator(texts: Iterable[str], separator: str) -> bool:
    """Checks whether a separator occurs in a text, which is read up to the first one.

    Args:
        texts: Consecutive strings that make up the text.
        separator: Text between documents.
    """
    ends = (piece for piece, ends in _separated_pieces(texts, separator) if ends)
    next(ends)  # the first separator, or the end of the text
    return next(ends, None) is not None


def _separated_pieces(texts: Iterable[str], separator: str) -> Iterator[tuple[str, bool]]:
    """Splits a text at a separator. Yields text without separators, and whether it ends a document."""
    rest = ""
    for text in texts:
        *documents, rest = (rest + text).split(separator)
        yield from ((document, True) for document in documents)
        if len(rest) >= len(separator):  # all but what may be the beginning of a separator
            piece, rest = rest[: len(rest) - len(separator) + 1], rest[len(rest) - len(separator) + 1 :]
            yield piece, False
    yield rest, True

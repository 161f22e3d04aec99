"""A stream of text -> documents, in parts, so that memory stays bounded however long a document is.

What one document is, a file, a block between blank lines, or a line, is guessed from the look of a sample.
A guess is shown with its reason, and `CorpusConfig.documents` overrules it. When in doubt a file is one
document, which loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

PART_CHARS = 1 << 18  # a part of a document is at most so many characters

MIN_BLOCKS = 5  # a file in fewer blocks than this says nothing about blank lines
MIN_LINES = 50  # a file of fewer lines than this says nothing about lines

_CLOSERS = "\"'”’»」』）)】》 "  # may follow the mark that ends a sentence
_SENTENCE_ENDS = tuple(".!?…。！？")
_CLAUSE_ENDS = (*_SENTENCE_ENDS, *";:,；：，")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a document, of at most `PART_CHARS` characters, cut after a newline where there is one."""

    text: str
    ends_document: bool
    label: str | None = None  # of the document
    is_cut: bool = False  # what follows it in the document is held out: for training, the text ends here


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """The same text in pieces of at most `PART_CHARS`, cut after a newline where there is one."""
    rest = ""
    for text in texts:
        rest += text
        start = 0
        while len(rest) - start > PART_CHARS:
            end = rest.rfind("\n", start, start + PART_CHARS) + 1 or start + PART_CHARS
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def whole_document(texts: Iterable[str], ends_document: bool = True, label: str | None = None) -> Iterator[Part]:
    """The text as it is, in one document, or in a stretch of one that does not end it."""
    last = ""
    for piece in _cut(texts):
        if last:
            yield Part(last, False, label)
        last = piece
    if last:
        yield Part(last, ends_document, label)


def _line_pieces(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Lines without their newline, and True; a line too long for a part in pieces, all but the last False.

    Splits on newlines alone: str.splitlines would split on U+2028 and form feeds too.
    """
    size = PART_CHARS - 1  # a newline still fits into the part
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if len(line) > size:
                *pieces, line = _slices(line, size)
                yield from ((piece, False) for piece in pieces)
            yield line, True
        if len(rest) > size:
            *pieces, rest = _slices(rest, size)
            yield from ((piece, False) for piece in pieces)
    if rest:
        yield rest, True


def _slices(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def lines_of(texts: Iterable[str]) -> Iterator[str]:
    """Whole lines without their newline."""
    held: list[str] = []
    for piece, ends_line in _line_pieces(texts):
        held.append(piece)
        if ends_line:
            yield "".join(held)
            held.clear()


def line_documents(texts: Iterable[str]) -> Iterator[Part]:
    """Each line that is not blank. Blanks that fill a whole part count as text."""
    inside = False  # a line too long for one part
    for piece, ends_line in _line_pieces(texts):
        if inside or not ends_line or (piece and not piece.isspace()):
            yield Part(piece, ends_line)
        inside = not ends_line


def block_documents(texts: Iterable[str]) -> Iterator[Part]:
    """Each run of lines that are not blank, without its last newline."""
    held: list[str] = []
    size = 0  # characters held
    inside = False  # a line too long for one part
    for piece, ends_line in _line_pieces(texts):
        if not inside and ends_line and (not piece or piece.isspace()):
            if held:
                yield Part("".join(held), True)
            held, size = [], 0
            continue
        if held and not inside:
            held.append("\n")
            size += 1
        if held and size + len(piece) >= PART_CHARS:  # not >, so that the next newline fits
            yield Part("".join(held), False)
            held, size = [], 0
        held.append(piece)
        size += len(piece)
        inside = not ends_line
    if held:
        yield Part("".join(held), True)


def guess_documents(samples: Sequence[str], num_files: int) -> tuple[str, str]:
    """The documents mode and, in a few words, why.

    `samples` are beginnings of plain-text files, none when every file holds records; `num_files` counts all
    files.

    >>> guess_documents(["First Citizen:\\nSpeak, speak.\\n"], 1)
    ('file', 'the text runs on, with neither titled blocks nor a document a line')
    """
    if not samples:
        return "file", "each record is a document"
    # Short files are documents themselves, however their lines look: the minimum is one of the average file.
    blocks = [block for sample in samples for block in _blocks(sample)]
    if len(blocks) >= MIN_BLOCKS * len(samples) and _titled(blocks):
        return "blank-line", "blank lines separate blocks that start with a title"
    lines = [line.rstrip() for sample in samples for line in sample.removesuffix("\n").split("\n")]
    full = [line for line in lines if line]
    if len(full) >= MIN_LINES * len(samples) and len(full) > 0.98 * len(lines) and _separate(full):
        return "line", "each line stands by itself, and few end as sentences do"
    if num_files > 1:
        return "file", f"each of the {num_files} files is a document"
    return "file", "the text runs on, with neither titled blocks nor a document a line"


def _blocks(text: str) -> list[list[str]]:
    """Runs of non-blank lines."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line := line.rstrip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return blocks if blocks[-1] else blocks[:-1]


def _titled(blocks: Sequence[list[str]]) -> bool:
    """Whether blocks begin with a title, as poems and recipes do, and paragraphs and speeches do not."""
    titles = [block[0] for block in blocks]
    longest = median(max(map(len, block)) for block in blocks)
    return (
        _share(len(block) >= 2 for block in blocks) >= 0.8
        and median(map(len, titles)) <= 0.75 * longest
        and len(set(titles)) >= 0.8 * len(titles)  # the speakers of a play come again
        and _share(_ends(title, _CLAUSE_ENDS) for title in titles) <= 0.2
        and _share(_indented(title) for title in titles) <= 0.1  # the blocks of a program
    )


def _separate(lines: Sequence[str]) -> bool:
    """Whether lines are texts of their own, as headlines and log entries are: not prose, verse or code."""
    lengths = sorted(map(len, lines))
    long = lengths[int(0.95 * (len(lengths) - 1))]
    wrapped = long <= 100 and _share(length >= 0.8 * long for length in lengths) > 0.5
    return (
        long <= 1000
        and not wrapped
        and _share(_ends(line, _SENTENCE_ENDS) for line in lines) <= 0.2
        and _share(_indented(line) for line in lines) <= 0.1
    )


def _ends(line: str, marks: tuple[str, ...]) -> bool:
    return line.rstrip(_CLOSERS).endswith(marks)


def _indented(line: str) -> bool:
    return line.startswith(("\t", "  "))


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)

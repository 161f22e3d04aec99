"""A stream of text -> documents, in parts, so that memory stays bounded however long a document is.

What one document is, a file, a block between blank lines, or a line, is guessed from the look of a sample.
A guess is shown with its reason, and `CorpusConfig.documents` overrules it. When in doubt a file is one
document, which loses nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

PART_CHARS = 1 << 18  # a part of a document is at most so many characters

MIN_BLOCKS = 5  # a file in fewer blocks than this says nothing about blank lines
MIN_LINES = 50  # a file of fewer lines than this says nothing about lines

RECORDS = "each record is a document"  # why a corpus of tables is read as it is
NARROW = 30  # columns: text is not wrapped to less
ITEM = 200  # columns: longer lines that end as sentences do are paragraphs

_CLOSERS = "\"'”’»」』）)】》 "  # may follow the mark that ends a sentence
_SENTENCE_ENDS = tuple(".!?…。！？")
_HALF_STOPS = tuple(";:,；：，、")
_CLAUSE_ENDS = (*_SENTENCE_ENDS, *_HALF_STOPS)
_CODE_ENDS = tuple("{};")
_OPENERS = tuple("\"'“„«「『—–-")  # speech
_INNER_END = re.compile(r"[.!?…][\"'”’»)]*\s+[^\W\da-z_]|[。！？](?=\w)")  # of a sentence, and another begins
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]")
_TIME = re.compile(r"\d:\d\d[:.,]\d")  # of a subtitle
_SPEAKER = re.compile(r"(?:[\[(]?[\d\-/:.,T ]{4,}[\])]?[ -]*)?(?:<([^<>]{1,30})>|([^\W\d_][\w .'-]{0,29}):)\s")
_LEVELS = frozenset(["TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL"])  # of logs


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
        return "file", RECORDS
    # Short files are documents themselves, however their lines look: the minimum is one of the average file.
    blocks = [block for sample in samples for block in _blocks(sample)]
    if len(blocks) >= MIN_BLOCKS * len(samples) and _titled(blocks):
        return "blank-line", "blank lines separate blocks that start with a title"
    lines = [line.rstrip() for sample in samples for line in sample.removesuffix("\n").split("\n")]
    full = [line for line in lines if line]
    if len(full) >= MIN_LINES * len(samples) and len(full) > 0.98 * len(lines) and _separate(full):
        return "line", "each line stands by itself"
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
    """Whether blocks begin with a title, as poems and recipes do, and paragraphs, speeches and subtitles do not."""
    titles = [block[0] for block in blocks]
    longest = median(max(map(len, block)) for block in blocks)
    return (
        _share(len(block) >= 2 for block in blocks) >= 0.8
        and median(map(len, titles)) <= 0.75 * longest
        and len(set(titles)) >= 0.8 * len(titles)  # the speakers of a play come again
        and _share(_ends(title, (*_CLAUSE_ENDS, *_CODE_ENDS)) for title in titles) <= 0.2
        and _share(_indented(title) for title in titles) <= 0.1  # the blocks of a program
        and _share(_indented(line) for block in blocks for line in block) <= 0.3  # and its functions
        and _share(any(map(_TIME.search, block[:2])) for block in blocks) <= 0.2
    )


def _separate(lines: Sequence[str]) -> bool:
    """Whether lines are texts of their own, as names, headlines and log entries are: not prose, verse or code."""
    widths = sorted(map(_width, lines))
    long = widths[int(0.95 * (len(widths) - 1))]
    return (
        long <= 1000
        and not _wrapped(lines, long)
        and not _spoken(lines)
        and (_share(_ends(line, _SENTENCE_ENDS) for line in lines) <= 0.2 or _sentences(lines, long))
        and _share(line.endswith(_HALF_STOPS) for line in lines) <= 0.15  # verse
        and _share(line.endswith(_CODE_ENDS) for line in lines) <= 0.2
        and _share(_indented(line) for line in lines) <= 0.1
    )


def _wrapped(lines: Sequence[str], long: int) -> bool:
    """Whether most lines end where the next word would make them longer than the longest, and not all are whole."""
    words = median(len(line.split()) + len(_WIDE.findall(line)) for line in lines)
    return (
        NARROW <= long <= 100
        and words >= 4  # not codes, which are equally long
        and _share(_width(line) + _width(_first_word(after)) >= long for line, after in pairwise(lines)) > 0.5
        and _share(_ends(line, _SENTENCE_ENDS) for line in lines) < 0.8  # not poems of one form
    )


def _first_word(line: str) -> str:
    """Up to the first place where the line could have been broken."""
    word = line.split(maxsplit=1)[0]
    return word[:1] if _WIDE.match(word) else word


def _sentences(lines: Sequence[str], long: int) -> bool:
    """Whether lines that end as sentences do are one item each, as proverbs are: not paragraphs or speech."""
    return (
        long <= ITEM
        and (_share(bool(_INNER_END.search(line)) for line in lines) <= 0.5 or _of_one_form(lines))
        and _share(line.startswith(_OPENERS) for line in lines) <= 0.1
    )


def _of_one_form(lines: Sequence[str]) -> bool:
    """Whether many lines are equally long, as poems of so many characters are."""
    return max(Counter(map(len, lines)).values()) >= 0.3 * len(lines)


def _spoken(lines: Sequence[str]) -> bool:
    """Whether most lines begin with one of a few names, as those of a chat or a play do."""
    found = [match[1] or match[2] for match in map(_SPEAKER.match, lines) if match]
    names = Counter(name for name in found if name.upper() not in _LEVELS)
    return names.total() >= 0.6 * len(lines) and len(names) <= max(2, 0.2 * len(lines))


def _width(line: str) -> int:
    """Columns, of which wide characters take two."""
    return len(line) + (0 if line.isascii() else len(_WIDE.findall(line)))


def _ends(line: str, marks: tuple[str, ...]) -> bool:
    return line.rstrip(_CLOSERS).endswith(marks)


def _indented(line: str) -> bool:
    return line.startswith(("\t", "  "))


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)

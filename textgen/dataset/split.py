"""Which part of a corpus is held out for validation."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple, cast

from textgen.corpus.corpus import CorpusStats, Part
from textgen.dataset.config import SplitConfig

MANY_DOCUMENTS = 20  # minimum number of documents to hold out whole ones; with fewer, the end of each
MIN_STRETCH_CHARS = 40  # minimum number of characters to hold out of a document
NEAR = 500  # characters by which a cut may move to fall between lines
VALID_BYTES = 4_000_000  # number of bytes to hold out at most
MAX_TIMES_OFF = 2.0  # maximum factor by which the documents drawn may be more or less than the fraction
CLOSE = 1.25  # the same once long documents are cut
EVEN = 100  # minimum number of documents of typical length that make up the held-out text, to trust any draw
NOTHING = (0, 0)  # held out of a document

_Choice = Callable[[int, Part], tuple[int, int]]


def fraction_to_hold_out(size: int) -> float:
    """The fraction of a corpus to hold out by default.

    Args:
        size: Size of the corpus in bytes.

    Example:
        >>> fraction_to_hold_out(1_000_000), fraction_to_hold_out(400_000_000)
        (0.1, 0.01)
    """
    return min(SplitConfig.valid_fraction, VALID_BYTES / max(1, size))


def certain_limit(stats: CorpusStats, fraction: float) -> float | None:
    """The limit for `hold_out` where statistics tell it: infinity where any draw of documents comes to the fraction.

    Args:
        stats: Statistics of the corpus.
        fraction: Fraction to hold out.

    Returns:
        Infinity, or None if one document may be a large part of the held-out text.
    """
    wanted = fraction * stats.characters
    return math.inf if stats.typical_document <= wanted / EVEN and stats.longest_document <= wanted else None


def hold_out(
    read: Callable[[], Iterable[Part]],
    fraction: float,
    seed: str,
    labels: Container[str] = (),
    *,
    limit: float | None = None,
    may_be_none: bool = False,
) -> Iterator[tuple[str, Part]]:
    """Divides a corpus into text to train on and held-out text.

    Of many documents, one chosen at random is held out of each run of 1/fraction documents. With fewer than
    `MANY_DOCUMENTS`, or fewer than twice as many as there are labels, the end of each document is held out
    instead, so that something is learned of every document. Documents too short to be cut are only trained on; if most
    of the text is in such documents, whole ones are held out after all, whatever their labels.

    The documents drawn may be the longest of the corpus, or none of them. If they come to less than half of the
    fraction, or more than twice as much, the end of each of the longest documents is held out in their place.

    Args:
        read: Returns the parts of the corpus. Called twice, the first time for as many documents as the choice needs,
            and once more for the lengths of the documents if those decide.
        fraction: Fraction to hold out.
        seed: Seed of the choice.
        labels: Labels that the model learns.
        limit: Length in characters above which documents are cut, if they are long enough to be cut, rather than drawn.
            None to choose it by the documents drawn.
        may_be_none: Whether it is possible that no document is held out, since this is only part of a corpus.

    Yields:
        The name of a split, "train" or "valid", and a part that belongs to it.
    """
    enough = max(round(1 / fraction), MANY_DOCUMENTS)
    sizes, seen = _look_ahead(read(), enough, labels)
    few = len(sizes) < max(MANY_DOCUMENTS, 2 * len(seen))
    if few and (len(sizes) < 2 or _do_ends_suffice(sizes, fraction)):
        stretches = [int(size * fraction) for size in sizes]
        least = min(MIN_STRETCH_CHARS, max(stretches, default=0))
        lengths = [max(1, stretch) if stretch >= least else 0 for stretch in stretches]
        cuts = [(size - length, length) for size, length in zip(sizes, lengths, strict=True)]
        yield from _split(read(), lambda number, _: cuts[number] if number < len(cuts) else NOTHING)
        return
    share = fraction if may_be_none else max(fraction, 1 / len(sizes))
    draw = partial(_Draw, share, seed, () if few else labels)
    if limit is None:
        limit, lengths_of_long = _chosen_limit(read(), fraction, draw())
        yield from _split(read(), _cut_or_draw(fraction, draw(), limit, lambda: lengths_of_long))
    else:
        yield from _split(read(), _cut_or_draw(fraction, draw(), limit, lambda: _lengths_of_long(read())))


class _Document(NamedTuple):
    """What decides on a document: its characters, its label and whether it is a single part."""

    size: int
    label: str | None
    is_single: bool


def _documents(parts: Iterable[Part]) -> Iterator[_Document]:
    first, size = None, 0
    for part in parts:
        first, size = first or part, size + len(part.text)
        if part.ends_document:
            yield _Document(size, first.label, first is part)
            first, size = None, 0
    if first:
        yield _Document(size, first.label, is_single=False)


def _look_ahead(parts: Iterable[Part], enough: int, labels: Container[str]) -> tuple[list[int], set[str]]:
    """The characters of each document and the labels that occur, for all documents or for enough of them to choose."""
    sizes, seen = list[int](), set[str]()
    for document in _documents(parts):
        sizes.append(document.size)
        if document.label in labels:
            seen.add(cast(str, document.label))
        if len(sizes) >= max(enough, 2 * len(seen)):
            break
    return sizes, seen


def _do_ends_suffice(sizes: Iterable[int], fraction: float) -> bool:
    """Whether the ends of the documents that are long enough to be cut come to about the fraction of the text."""
    stretches = [int(size * fraction) for size in sizes]
    held = sum(stretch for stretch in stretches if stretch >= MIN_STRETCH_CHARS)
    return held > 0 and held * MAX_TIMES_OFF >= sum(stretches)


class _Draw:
    """Draws one document of each 1/fraction at random; if that is no whole number, on average.

    The first document of each label is never drawn; the next one of its run is, if there is one.
    """

    def __init__(self, fraction: float, seed: str, labels: Container[str]) -> None:
        self._fraction, self._seed, self._labels = fraction, seed, labels
        self._document = self._runs = self._end = self._chosen = 0
        self._seen = set[str | None]()

    def __call__(self, label: str | None) -> bool:
        """Whether the next document is drawn.

        Args:
            label: Its label.
        """
        number = self._document
        if number == self._end:
            self._runs += 1
            self._end = int(self._runs / self._fraction + 1e-6)
            self._chosen = number + random.Random(f"{self._seed}-{number}").randrange(self._end - number)
        if label in self._labels:
            if number == self._chosen and label not in self._seen:
                self._chosen += 1  # possibly past the end of the run: then none of it is held out
            self._seen.add(label)
        self._document += 1
        return number == self._chosen


def _chosen_limit(parts: Iterable[Part], fraction: float, draw: _Draw) -> tuple[float, dict[int, int]]:
    """The length above which documents are cut, and the lengths of documents of several parts by number.

    Documents are cut from the longest on, by powers of two, until about the fraction is held out.
    """
    total = always = 0  # always: characters of the documents drawn that are too short to be cut
    drawn, ends = Counter[int](), Counter[int]()  # characters held out, by bits of the length of a document
    long = dict[int, int]()
    for number, document in enumerate(_documents(parts)):
        size, is_drawn = document.size, draw(document.label)
        total += size
        if not document.is_single:
            long[number] = size
        if (stretch := int(size * fraction)) < MIN_STRETCH_CHARS:
            always += size * is_drawn
        else:
            drawn[size.bit_length()] += size * is_drawn
            ends[size.bit_length()] += stretch
    held = always + drawn.total()
    limits = [(math.inf, held)]
    for bits in sorted(ends, reverse=True):
        held += ends[bits] - drawn[bits]
        limits.append(((1 << bits - 1) - 1, held))
    factors = [(_times_off(held, fraction * total), limit) for limit, held in limits]
    if factors[0][0] <= MAX_TIMES_OFF:
        return math.inf, long
    near = (limit for factor, limit in factors if factor <= CLOSE)
    return next(near, min(factors, key=lambda each: each[0])[1]), long


def _times_off(held: float, wanted: float) -> float:
    """How many times too much or too little is held out."""
    return max(held / wanted, wanted / held) if held and wanted else math.inf


def _lengths_of_long(parts: Iterable[Part]) -> dict[int, int]:
    """The lengths of documents of several parts by number; those of the others are seen when they come."""
    documents = enumerate(_documents(parts))
    return {number: document.size for number, document in documents if not document.is_single}


def _cut_or_draw(
    fraction: float, draw: _Draw, limit: float, lengths_of_long: Callable[[], Mapping[int, int]]
) -> _Choice:
    """Chooses the ends of documents longer than `limit` that are long enough to be cut, and others if they are drawn.

    Args:
        fraction: Fraction to hold out.
        draw: Draws documents.
        limit: Length in characters.
        lengths_of_long: Finds the lengths of documents of several parts by number. Called once, when there is one.

    Returns:
        A function that chooses for each document: see `_split`.
    """
    known = cache(lengths_of_long)

    def choice(number: int, first: Part) -> tuple[int, int]:
        whole = (0, len(first.text)) if draw(first.label) else NOTHING
        if limit == math.inf:
            return whole
        size = len(first.text) if first.ends_document else known().get(number, 0)  # it may have grown meanwhile
        stretch = int(size * fraction)
        return (size - stretch, stretch) if size > limit and stretch >= MIN_STRETCH_CHARS else whole

    return choice


def _split(parts: Iterable[Part], choice: _Choice) -> Iterator[tuple[str, Part]]:
    """Holds out the end of documents.

    Args:
        parts: Parts of the documents.
        choice: Returns about how many characters go before the cut and how many after it, of the document with a number
            and a first part: none before it to hold out the whole document, none after it to hold out nothing.

    Yields:
        The name of a split and a part.
    """
    number = kept = length = 0
    place = 0  # characters of the document before this part
    is_first = True
    for part in parts:
        if is_first:
            kept, length = choice(number, part)
        left = kept - place  # characters of this part that go before the cut
        if not length or left > len(part.text):
            yield "train", part
        elif left <= 0:
            yield "valid", part
        else:
            cut = _cut_near(part.text, left, min(NEAR, length // 2, kept // 2))
            yield "train", replace(part, text=part.text[:cut], ends_document=False, is_cut=True)
            if cut < len(part.text):
                yield "valid", replace(part, text=part.text[cut:])
        is_first = part.ends_document
        number, place = (number + 1, 0) if is_first else (number, place + len(part.text))


_BORDERS = (r"\n\s*\n", r"\n", r"[.!?…][\"'”’»)]*\s+|[。！？]", r"\s+")  # paragraphs, lines, sentences, words


def _cut_near(text: str, place: int, distance: int) -> int:
    """Where to cut `text`, from 1 to its length, at most `distance` from `place`.

    Between paragraphs, if there is such a place; else between lines, sentences or words; else at `place` itself.
    """
    low, high = max(0, place - distance), min(len(text), place + distance)
    for border in _BORDERS:
        ends = [low + match.end() for match in re.finditer(border, text[low:high])]
        if ends:
            return min(ends, key=lambda end: abs(end - place))
    return place

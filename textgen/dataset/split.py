"""Which part of a corpus is held out for validation."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import cast

from textgen.corpus.corpus import Part
from textgen.dataset.config import SplitConfig

MANY_DOCUMENTS = 20  # minimum number of documents to hold out whole ones; with fewer, the end of each
LEAST_STRETCH = 40  # minimum number of characters to hold out of a document
NEAR = 500  # characters by which a cut may move to fall between lines
VALID_BYTES = 4_000_000  # maximum number of bytes held out


def fraction_to_hold_out(size: int) -> float:
    """The fraction of a corpus to hold out by default.

    Args:
        size: Size of the corpus in bytes.

    Example:
        >>> fraction_to_hold_out(1_000_000), fraction_to_hold_out(400_000_000)
        (0.1, 0.01)
    """
    return min(SplitConfig.valid_fraction, VALID_BYTES / max(1, size))


def hold_out(
    read: Callable[[], Iterable[Part]], fraction: float, seed: str, labels: Container[str] = ()
) -> Iterator[tuple[str, Part]]:
    """Divides a corpus into text to train on and held-out text.

    Of many documents, one chosen at random is held out of each run of 1/fraction documents. With fewer than
    `MANY_DOCUMENTS`, or fewer than two for each label, the end of each document is held out instead, so that something
    is learned of every document. Documents too short to be cut are only trained on; if all are too short, whole ones
    are held out after all, whatever their labels.

    Args:
        read: Returns the parts of the corpus. Called twice, the first time for as many documents as the choice needs.
        fraction: Fraction to hold out.
        seed: Seed of the choice.
        labels: Labels that the model learns.

    Yields:
        The name of a split, "train" or "valid", and a part that belongs to it.
    """
    enough = max(round(1 / fraction), MANY_DOCUMENTS)
    sizes, seen = _look_ahead(read(), enough, labels)
    stretches = [int(size * fraction) for size in sizes]
    few = len(sizes) < max(MANY_DOCUMENTS, 2 * len(seen))
    if few and (max(stretches, default=0) >= LEAST_STRETCH or len(sizes) < 2):
        least = min(LEAST_STRETCH, max(stretches, default=0))
        lengths = [max(1, stretch) if stretch >= least else 0 for stretch in stretches]
        yield from _split_ends(read(), sizes, lengths)
    else:
        yield from _split_by_document(read(), max(fraction, 1 / len(sizes)), seed, () if few else labels)


def _look_ahead(parts: Iterable[Part], enough: int, labels: Container[str]) -> tuple[list[int], set[str]]:
    """The characters of each document and the labels that occur, for all documents or for enough of them to choose."""
    sizes, seen, inside = list[int](), set[str](), False
    for part in parts:
        if inside:
            sizes[-1] += len(part.text)
        elif len(sizes) >= max(enough, 2 * len(seen)):
            break
        else:
            sizes.append(len(part.text))
            if part.label in labels:
                seen.add(cast(str, part.label))
        inside = not part.ends_document
    return sizes, seen


def _split_by_document(
    parts: Iterable[Part], fraction: float, seed: str, labels: Container[str]
) -> Iterator[tuple[str, Part]]:
    """Holds out one document, chosen at random, of each 1/fraction; if that is no whole number, on average.

    The first document of each label is never held out; the next one of its run is, if there is one.
    """
    document = runs = end = chosen = 0
    seen, inside = set[str | None](), False
    for part in parts:
        if document == end:
            runs += 1
            end = int(runs / fraction + 1e-6)
            chosen = document + random.Random(f"{seed}-{document}").randrange(end - document)
        if document == chosen and not inside and part.label in labels and part.label not in seen:
            chosen += 1  # possibly past the end of the run: then none of it is held out
        if part.label in labels:
            seen.add(part.label)
        yield ("valid" if document == chosen else "train"), part
        document += part.ends_document
        inside = not part.ends_document


def _split_ends(parts: Iterable[Part], sizes: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[str, Part]]:
    """Holds out about the last `lengths` characters of documents with `sizes` characters; nothing if a length is 0."""
    document = place = 0  # place: in the document
    known = list(zip(sizes, lengths, strict=True))
    for part in parts:
        size, length = known[document] if document < len(known) else (0, 0)  # the corpus may have grown meanwhile
        left = size - length - place  # characters of this part that go before the cut
        if not length or left > len(part.text):
            yield "train", part
        elif left <= 0:
            yield "valid", part
        else:
            cut = _cut_near(part.text, left, min(NEAR, length // 2, (size - length) // 2))
            yield "train", replace(part, text=part.text[:cut], ends_document=False, is_cut=True)
            if cut < len(part.text):
                yield "valid", replace(part, text=part.text[cut:])
        document, place = (document + 1, 0) if part.ends_document else (document, place + len(part.text))


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

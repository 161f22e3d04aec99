"""Which part of a corpus is held out for validation."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import cast

from textgen.corpus.corpus import Part
from textgen.dataset.config import SplitConfig

MANY_DOCUMENTS = 20  # from here on whole documents are held out, below it the end of each
LEAST_STRETCH = 40  # characters: the end of a document is held out only if it makes so many
NEAR = 500  # characters: how far from its place a document is cut, to cut between lines
VALID_BYTES = 4_000_000  # at most so much of a large corpus is held out


def share_to_hold_out(size: int) -> float:
    """The share of a corpus of `size` bytes that is held out when nobody says how much."""
    return min(SplitConfig.valid_fraction, VALID_BYTES / max(1, size))


def hold_out(
    read: Callable[[], Iterable[Part]], fraction: float, seed: str, labels: Container[str] = ()
) -> Iterator[tuple[str, Part]]:
    """Each part that `read` gives with the split it belongs to.

    Of many documents whole ones are held out, one, drawn by lot, of each run of 1/fraction. Of less than
    `MANY_DOCUMENTS`, or than two for each of the `labels` that they have, the end of each is held out, so that there
    is none of which nothing is learned; those too short to be cut are learned whole, unless all are: then whole ones
    are held out here, too. `read` is called twice: the first time for as many documents as it takes to choose.
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
        yield from _split_by_document(read(), max(fraction, 1 / len(sizes)), seed, labels)


def _look_ahead(parts: Iterable[Part], enough: int, labels: Container[str]) -> tuple[list[int], set[str]]:
    """How many characters documents have, and which of the `labels`; of all documents, or of enough to choose."""
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
    """Holds out one document, drawn by lot, of each 1/fraction of them; where that is no whole number, on average.

    The first document of each of the `labels` is never held out: the next one of its run is, if there is one.
    """
    document = runs = end = chosen = 0
    seen, inside = set[str | None](), False
    for part in parts:
        if document == end:
            runs += 1
            end = int(runs / fraction + 1e-6)
            chosen = document + random.Random(f"{seed}-{document}").randrange(end - document)
        if document == chosen and not inside and part.label in labels and part.label not in seen:
            chosen += 1  # past the end of the run if need be: then none of it is held out
        if part.label in labels:
            seen.add(part.label)
        yield ("valid" if document == chosen else "train"), part
        document += part.ends_document
        inside = not part.ends_document


def _split_ends(parts: Iterable[Part], sizes: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[str, Part]]:
    """Holds out about the last `lengths` characters of documents of `sizes` characters: none of those of length 0."""
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
    """Where to cut `text` at most `distance` from `place`, from 1 to its length: between paragraphs, if there are two.

    Else it is between lines, sentences or words, whichever is found first, or at the place itself.
    """
    low, high = max(0, place - distance), min(len(text), place + distance)
    for border in _BORDERS:
        ends = [low + match.end() for match in re.finditer(border, text[low:high])]
        if ends:
            return min(ends, key=lambda end: abs(end - place))
    return place

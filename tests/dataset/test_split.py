"""What is held out comes to about the fraction, whatever the lengths of the documents."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from streams import corpus_of, texts_of

from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.statistics import count_parts
from textgen.dataset.config import SplitConfig
from textgen.dataset.split import MIN_STRETCH_CHARS, certain_limit, hold_out
from textgen.dataset.token_cache import encode_and_split
from textgen.tokenizer.kinds import ByteTokenizer

PIECE = 2000  # characters of a part
NOTES = [200 + 17 * number % 400 for number in range(100)]


class Reader:
    """Documents of given lengths, of which each character is the number of the document. Counts what is read."""

    def __init__(self, sizes: Sequence[int], labels: Sequence[str | None] = ()) -> None:
        self.sizes, self.labels = sizes, labels or [None] * len(sizes)
        self.begun = self.documents = 0

    def __call__(self) -> Iterator[Part]:
        self.begun += 1
        for number, (size, label) in enumerate(zip(self.sizes, self.labels, strict=True)):
            self.documents += 1
            for start in range(0, size, PIECE):
                text = chr(0x4E00 + number) * min(PIECE, size - start)
                yield Part(text, ends_document=start + PIECE >= size, label=label)


def held_out(read: Callable[[], Iterator[Part]], fraction: float, *arguments: object, **options: object) -> list[int]:
    """The characters held out of each document."""
    held, seen = dict[int, int](), dict[int, int]()
    for split, part in hold_out(read, fraction, *arguments, **options):  # type: ignore[arg-type]
        number = ord(part.text[0]) - 0x4E00
        seen[number] = seen.get(number, 0) + len(part.text)
        held[number] = held.get(number, 0) + len(part.text) * (split == "valid")
    assert isinstance(read, Reader)
    assert [seen[number] for number in range(len(seen))] == list(read.sizes), "nothing is lost"
    return [held[number] for number in range(len(held))]


def share(held: Sequence[int], sizes: Sequence[int]) -> float:
    return sum(held) / sum(sizes)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 300),
    st.floats(0, 2.5),
    st.lists(st.integers(20_000, 300_000), max_size=4),
    st.sampled_from([0.03, 0.1, 0.3]),
    st.integers(0, 1 << 20),
)
def test_the_fraction_is_held_out_whatever_the_lengths(
    number: int, spread: float, novels: list[int], fraction: float, seed: int
) -> None:
    chance = random.Random(seed)
    sizes = [min(200_000, 1 + int(chance.lognormvariate(6.5, spread))) for _ in range(number)] + novels
    chance.shuffle(sizes)
    assume(sum(sizes) > 100 * sorted(sizes)[len(sizes) // 2])
    assert 0.5 < share(held_out(Reader(sizes), fraction, str(seed)), sizes) / fraction < 2.0


@pytest.mark.parametrize("place", [0, 3, 20, 24])
def test_of_a_novel_among_notes_the_end_is_held_out(place: int) -> None:
    sizes = [*NOTES[:24][:place], 51_493, *NOTES[:24][place:]]
    for seed in range(20):
        held = held_out(Reader(sizes), 0.1, str(seed))
        assert 0.08 < share(held, sizes) < 0.12
        assert held.pop(place) == 5149
        assert {*held} <= {0, *NOTES}, "the others are whole"


def test_the_longest_documents_alone_are_cut() -> None:
    """One of 1,500 characters is no large part of what is held out."""
    sizes = [*NOTES, *[1500] * 10, 150_000, 100_000, *NOTES]
    for seed in range(20):
        held = held_out(Reader(sizes), 0.1, str(seed))
        assert 0.08 < share(held, sizes) < 0.125
        assert [size for size, part in zip(sizes, held, strict=True) if 0 < part < size] == [150_000, 100_000]


@pytest.mark.parametrize(("seed", "drawn"), [("0", [5, 16, 25, 36, 40, 58]), ("1/2", [4, 19, 29, 39, 45, 57])])
def test_of_documents_alike_whole_ones_are_held_out(seed: str, drawn: list[int]) -> None:
    """The same as ever, so that a seed stands for the same text."""
    sizes = [900 + number * 37 % 300 for number in range(60)]
    for limit in (None, math.inf):
        read = Reader(sizes)
        held = held_out(read, 0.1, seed, limit=limit)
        assert [number for number, size in enumerate(held) if size] == drawn
        assert [held[number] for number in drawn] == [sizes[number] for number in drawn]
        assert read.begun == (3 if limit is None else 2)


@pytest.mark.parametrize(
    ("sizes", "limit"), [([900] * 2000, math.inf), ([900] * 500, None), ([*[9] * 9999, 9999], None)]
)
def test_lengths_that_cannot_matter_are_not_read(sizes: list[int], limit: float | None) -> None:
    assert certain_limit(count_parts(Reader(sizes)(), 1), 0.1) == limit


def test_a_corpus_of_documents_alike_is_read_no_more_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [f"document {number:06}" for number in range(1500)]
    corpus, read, parts = corpus_of(tmp_path, documents), list[str](), Corpus.parts
    corpus.stats()

    def counted(self: Corpus) -> Iterator[Part]:
        for part in parts(self):
            read.append(part.text)
            yield part

    monkeypatch.setattr(Corpus, "parts", counted)
    data = encode_and_split(corpus, ByteTokenizer(), SplitConfig(0.1))
    assert len(texts_of(data.valid, ByteTokenizer())) == 150
    assert len(read) < 1500 + 50


def test_documents_of_few_lines_with_many_labels_are_held_out_beside_a_long_one() -> None:
    """The end of the only one long enough to be cut would be nearly nothing."""
    sizes = [300] * 60 + [500] + [300] * 60
    labels = [str(number) for number in range(len(sizes))]
    held = held_out(Reader(sizes, labels), 0.1, "0", labels)
    assert 0.08 < share(held, sizes) < 0.12
    assert sum(map(bool, held)) in (12, 13)


# --- Parts of a corpus -------------------------------------------------------------------------------------


def test_of_parts_with_few_documents_the_fraction_is_held_out_together() -> None:
    for size in (2, 7, 19, 30):
        sizes = [100] * size
        held = [sum(held_out(Reader(sizes), 0.02, f"0/{n}", limit=500, may_be_none=True)) for n in range(400)]
        assert 0.5 < sum(held) / (0.02 * 400 * sum(sizes)) < 2.0
    assert sum(held_out(Reader([100] * 7), 0.02, "0/1", limit=500)) == 100, "one of a whole corpus"


@pytest.mark.parametrize("size", [1999, 2000, 2001, 9000])
def test_documents_longer_than_a_limit_are_cut(size: int) -> None:
    read = Reader([*[100] * 30, size, *[100] * 30])
    held = held_out(read, 0.1, "0", limit=1999, may_be_none=True)
    assert held[30] in ((0, size) if size == 1999 else (size // 10,))
    assert read.begun == (3 if size > PIECE else 2), "read again for the lengths of documents of several parts"


def test_documents_longer_than_a_limit_and_too_short_to_be_cut_are_drawn() -> None:
    size = int(MIN_STRETCH_CHARS / 0.1) - 1
    sizes = [size] * 100
    assert sum(map(bool, held_out(Reader(sizes), 0.1, "0", limit=50, may_be_none=True))) == 10

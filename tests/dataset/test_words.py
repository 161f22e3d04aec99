"""What a word is: in any script, beside apostrophes and digits, in parts of a text that is cut anywhere."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.dataset.words import MAX_WORD_CHARS, count_words, letters_of, words_in


def words_of(text: str) -> list[str]:
    return sorted(count_words([text]).elements())


TEXTS = [
    ("The fox, the FOX.", ["fox", "fox", "the", "the"]),
    ("Don't! It’s o'clock.", ["'s", "'t", "clock", "don", "it", "o"]),
    ("'tis 'quoted' dogs'", ["dogs", "quoted", "tis"]),
    ("well-known e.g. snake_case", ["case", "e", "g", "known", "snake", "well"]),
    ("3rd x2y 1990's", ["x"]),
    ("狐狸 says ไทย かな", ["says"]),
    ("한국어 слова", ["слова", "한국어"]),
    ("हिन्दी e\u0301te\u0301 ❤\ufe0f", ["e\u0301te\u0301", "हिन्दी"]),
    ("ΟΔΟΣ οδός οδος", ["οδοσ", "οδοσ", "οδόσ"]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_the_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


@given(st.text("aB'é0 .狐\n", max_size=30), st.integers(0, 30))
def test_a_text_may_be_cut_anywhere(text: str, at: int) -> None:
    assert count_words([text[:at], text[at:]]) == count_words([text])


LONG = ["x" * MAX_WORD_CHARS, "x" * (MAX_WORD_CHARS + 1), "y" * 3 * MAX_WORD_CHARS]
PIECES = st.sampled_from(["a", "bc", "def", "'", "’", "''", "0", "7x", " ", "é", "狐", *LONG])


@given(st.lists(PIECES, max_size=12).map("".join), st.lists(st.integers(0, 300), max_size=6))
def test_long_texts_without_spaces_may_be_cut_anywhere(text: str, cuts: list[int]) -> None:
    whole = Counter(word for part in letters_of(text).split() for word in words_in(part) if len(word) <= MAX_WORD_CHARS)
    parts = [text[start:stop] for start, stop in itertools.pairwise([0, *sorted(cuts), len(text)])]
    assert count_words([text]) == count_words(parts) == count_words(text) == whole


@pytest.mark.parametrize("between", ["", "'", "0", " "], ids=["letters", "apostrophes", "digits", "spaces"])
def test_memory_does_not_grow_with_letters_that_are_no_words(between: str) -> None:
    lot = random.Random(0)

    def peak(parts: int) -> int:
        runs = (lot.choices("abcdefgh", k=2 * MAX_WORD_CHARS) for _ in itertools.count())
        tracemalloc.start()
        try:
            assert not count_words(between.join(map("".join, itertools.islice(runs, 50))) for _ in range(parts))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(40) < 2 * peak(4)


@given(st.text(max_size=30))
def test_letters_do_not_depend_on_what_is_beside_them(text: str) -> None:
    assert letters_of(text) == "".join(letters_of(character) for character in text)


def test_long_runs_of_letters_are_no_words() -> None:
    longest = "x" * MAX_WORD_CHARS
    assert words_of(f"{longest} {longest}x") == [longest]


def test_words_of_a_stretch() -> None:
    assert list(words_in("a''b'cd'efg0h")) == ["a", "b", "'cd", "efg"]

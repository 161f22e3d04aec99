"""The words of a training text: which are known, when a model may coin them."""

from __future__ import annotations

import itertools
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.dataset.word_filter import WordFilter, coined_fraction, hashes, read_word_filter, word_filter
from textgen.dataset.words import count_words
from textgen.errors import SavedModelError
from textgen.saved_model.layout import WORDS as WORDS_FILE
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model, save_words

WORDS = ["the", "fox", "café", "don", "'t", "слово"]


# === Which words are known ===


def beginnings(words: Sequence[str]) -> list[str]:
    return sorted({word[:length] for word in words for length in range(1, len(word) + 1)})


def test_words_and_their_beginnings_are_known() -> None:
    known = WordFilter.build(WORDS)
    assert known.knows(WORDS).all()
    assert known.begins(beginnings(WORDS)).all()
    assert not known.knows([begun for begun in beginnings(WORDS) if begun not in WORDS]).any()
    assert not known.knows(["t"]).any()
    assert not known.begins(["x", "thee", "foxx", "'tx", "caf\u00ea"]).any()


def test_the_rate_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 8)) for _ in range(3000)]
    known = WordFilter.build(words)
    others = ["".join(letters) for letters in rng.choice(list("abcdefgh"), (100_000, 9))]
    assert known.false_positive_rate == pytest.approx(0.00046, rel=0.1)
    assert known.begins(others).mean() == pytest.approx(known.false_positive_rate, rel=0.5)


def test_a_base_is_included_and_not_stored_twice() -> None:
    base = WordFilter.build(WORDS)
    both = WordFilter.build([*WORDS, "foxes"], base)
    assert both.knows([*WORDS, "foxes"]).all()
    assert not base.knows(["foxes"]).any()
    assert len(both.to_bytes()) < 2 * len(base.to_bytes())


def test_the_commonest_words_are_kept() -> None:
    known = word_filter(Counter({"rare": 2, "often": 9, "seldom": 2, "also": 9}), max_words=3)
    assert known
    assert known.knows(["often", "also", "rare", "seldom"]).tolist() == [True, True, True, False]


def test_a_novel_may_use_all_of_its_words() -> None:
    letters = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=5)]
    counts = Counter(dict.fromkeys(letters, 2)) + Counter({"the": 100_000})
    known = word_filter(counts)
    assert known
    assert len(counts) > 30_000
    assert known.knows(list(counts)).all()


def test_hashes_of_long_texts_take_the_memory_of_their_characters() -> None:
    texts = ["x", *["fox"] * 499, "a" * 2000]
    tracemalloc.start()
    try:
        found = hashes(texts)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 4 * len(texts) * len(texts[-1])
    finally:
        tracemalloc.stop()
    assert found.tolist() == [hashes([text])[0] for text in texts]


# === Texts of new words ===


def test_the_share_of_new_words_is_that_of_words_which_come_once() -> None:
    counts = Counter({"the": 6, "fox": 2, "ox": 1, "owl": 1})
    assert coined_fraction(counts) == 0.2
    assert coined_fraction(counts, WordFilter.build(["ox", "a"])) == 0.1
    assert coined_fraction(Counter()) == 1.0


@pytest.mark.parametrize(
    "text", ["", "狐狸" * 100, "\n".join(f"Name{chr(97 + n)}{chr(97 + k)}" for n in range(9) for k in range(9))]
)
def test_where_words_are_new_there_is_no_filter(text: str) -> None:
    assert word_filter(count_words([text])) is None


@given(st.lists(st.text("ab'é0 .", max_size=20), max_size=5))
def test_all_words_of_the_text_are_known(texts: list[str]) -> None:
    counts = count_words(texts)
    if known := word_filter(counts):
        assert known.knows(list(counts)).all()
        assert known.begins(beginnings(list(counts))).all()


# === Files ===


def test_a_filter_in_a_file(tmp_path: Path) -> None:
    known = WordFilter.build(["foxes"], WordFilter.build(WORDS))
    (tmp_path / "words").write_bytes(known.to_bytes())
    read = read_word_filter(tmp_path / "words")
    assert read.to_bytes() == known.to_bytes()
    assert read.knows([*WORDS, "foxes", "the fox"]).tolist() == [True] * 7 + [False]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"words")
    with pytest.raises(SavedModelError, match="words is damaged"):
        read_word_filter(tmp_path / "words")


@pytest.fixture
def tiny(tiny_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models / "tiny", tmp_path / "tiny"))


def test_the_words_of_a_model(tiny: Path) -> None:
    assert load_model(str(tiny)).words() is None
    known = WordFilter.build(WORDS)
    save_words(tiny, known)
    saved = load_model(str(tiny))
    words = saved.words()
    assert words
    assert words.to_bytes() == known.to_bytes()
    assert saved.weights()
    (tiny / WORDS_FILE).write_bytes(known.to_bytes()[:-1] + b"x")
    with pytest.raises(SavedModelError, match=f"{WORDS_FILE} was altered"):
        saved.words()


def test_words_that_are_written_before_the_model_are_a_part_of_it(tiny: Path, tmp_path: Path) -> None:
    saved = load_model(str(tiny))
    (tmp_path / "new").mkdir()
    save_words(tmp_path / "new", WordFilter.build(WORDS))
    save_model(
        tmp_path / "new", saved.weights(), saved.model_config, saved.tokenizer_config, saved.corpus_config,
        saved.tokenizer,
    )  # fmt: skip
    words = load_model(str(tmp_path / "new")).words()
    assert words
    assert words.knows(WORDS).all()

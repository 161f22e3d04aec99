from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_fakes import WordsTokenizer

from textgen.generation.constraints.phrase import Phrase
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

WORDS = WordsTokenizer(["ab", "ba", "aa", "abc", "cab", "bc", "xaby", "é", "éa", "aé"])


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return train_tokenizer(["the cat\nsat\na sat a cat\n"] * 9, TokenizerConfig("word"))


def spelled_out(text: bytes, state: int, piece: bytes, *, words: bool) -> int:
    """The state after a piece, by its definition."""
    written = text[:state] + piece
    if words:
        written = written.replace(b"\n ", b"\n")
    ends = [n for n in range(len(text)) if written.endswith(text[:n])]
    return len(text) if text in written else max(ends)


@given(st.text("abé", min_size=1, max_size=9), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_every_state_leads_where_its_definition_says(text: str, at: int) -> None:
    phrase = Phrase(text, WORDS)
    state = at % phrase.length
    expected = [spelled_out(text.encode(), state, piece, words=False) for piece in WORDS.piece_bytes]
    assert phrase.after(state).tolist() == expected
    assert phrase.completing(state).tolist() == np.flatnonzero(np.array(expected) == phrase.length).tolist()
    assert [phrase.advance(state, id) for id in range(WORDS.vocab_size)] == expected


pieces = st.lists(st.sampled_from([" cat", " sat", "\nsat", "\ncat", " the", "\n"]), min_size=1, max_size=4)


@given(pieces.map("".join).filter(lambda text: "\n " not in text))  # which words never write
@settings(deadline=None, max_examples=50)
def test_every_state_of_a_text_of_words_leads_where_its_definition_says(words: Tokenizer, text: str) -> None:
    phrase = Phrase(text, words)
    for state in range(phrase.length):
        expected = [spelled_out(text.encode(), state, piece, words=True) for piece in words.piece_bytes]
        assert phrase.after(state).tolist() == expected
        assert [phrase.advance(state, id) for id in range(words.vocab_size)] == expected


def test_a_long_text_that_repeats_itself_costs_little() -> None:
    """A prompt that spells it visits all of its states."""
    text = "a" * 4096
    ids = WORDS.encode(text)
    began = time.process_time()
    phrase = Phrase(text, WORDS)
    state = 0
    for at in range(0, len(ids) - 1, 2):
        state = phrase.follow(state, ids[at : at + 2])
        phrase.completing(state)
    assert 0 < state < phrase.length
    assert time.process_time() - began < 5  # seconds; hours where each state reads the whole text anew


@given(st.text("abé", min_size=1, max_size=5), st.lists(st.integers(3, WORDS.vocab_size - 1), max_size=12))
@settings(deadline=None)
def test_the_state_of_a_phrase_is_what_stands_at_the_end(text: str, ids: list[int]) -> None:
    phrase, whole = Phrase(text, WORDS), text.encode()
    state, written = 0, b""
    for piece in ids:
        complete = int(phrase.after(state)[piece]) == phrase.length
        state = phrase.follow(state, [piece])
        before, written = len(written), written + WORDS.piece_bytes[piece]
        assert complete == (whole in written[max(0, before - len(whole) + 1) :])
        assert state == max(n for n in range(len(whole)) if written.endswith(whole[:n]))


def test_a_phrase_of_words() -> None:
    """Spaces and line ends as the decoder of words writes them."""
    words = train_tokenizer(["the cat\nsat\n"] * 9, TokenizerConfig("word"))
    phrase = Phrase("cat\nsat", words)
    state = phrase.follow(0, words.encode("the cat\n"))
    assert state == 4
    assert [words.piece(int(id)) for id in phrase.completing(state)] == ["▁sat"]

"""Tokens as texts: none looks like another, and they begin where they should."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from plain_fakes import WordsTokenizer

from textgen.server.token_texts import IMPOSSIBLE, Offsets, alternatives, finite, prompt_places, token_texts
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

TEXT = "the <eos> cat 床前\n" * 30
TRAINED = [train_tokenizer([TEXT], TokenizerConfig(kind)) for kind in ("char", "word", "bpe")]
TOKENIZERS = [ByteTokenizer(), ByteTokenizer(["poe"]), WordsTokenizer(["the", " cat"]), *TRAINED]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda each: each.kind)
def test_no_two_tokens_look_alike(tokenizer: Tokenizer) -> None:
    texts = token_texts(tokenizer)
    assert len(set(texts)) == tokenizer.vocab_size
    assert all(texts)


def test_a_vocabulary_of_many_labels_takes_time_in_proportion() -> None:
    def seconds(labels: int) -> float:
        tokenizer, times = ByteTokenizer([f"l{number}" for number in range(labels)]), []
        for _ in range(3):
            begin = time.thread_time()
            token_texts(tokenizer)
            times.append(time.thread_time() - begin)
        return min(times)

    assert seconds(8000) < 25 * seconds(1000), "8 times in proportion, 64 times with their square"


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda each: each.kind)
def test_tokens_begin_where_the_text_before_them_ends(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the cat 床前 é\nthe")
    offsets = Offsets(tokenizer.decoder(), 10)
    found = [offsets.next(id) - 10 for id in ids]
    decoder, expected, length = tokenizer.decoder(), [], 0
    for id in ids:
        expected.append(length)
        length += len(decoder.feed([id]))
    assert found == expected
    assert found[0] == 0


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda each: each.kind)
@pytest.mark.parametrize("text", ["", "the cat", "  the\tunheard-of  cat \n\n 床前\u2581é\u3000the \x1ccat "])
def test_the_tokens_of_a_prompt_divide_its_text(tokenizer: Tokenizer, text: str) -> None:
    """Also of words, whose tokens tell neither which words are unknown nor how much white space there is."""
    ids = tokenizer.encode(text)
    places = prompt_places(tokenizer, text, [2], ids)
    assert len(places) == len(ids) + 1
    parts = [text[start:end] for start, end in pairwise(places)]
    assert "".join(parts) == (text.rstrip() if tokenizer.kind == "word" else text)
    if tokenizer.kind == "word":
        assert [tokenizer.encode(part) for part in parts] == [[id] for id in ids]


def test_the_tokens_of_a_prompt_of_ids_continue_what_is_before_them() -> None:
    """A character that has begun, or a line."""
    of_bytes, of_words = ByteTokenizer(), TRAINED[1]
    start, *rest = of_bytes.encode("床a")
    assert prompt_places(of_bytes, rest, [2, start], rest) == [0, 0, 1, 2]
    assert prompt_places(of_bytes, "a", [2, start], of_bytes.encode("a")) == [0, 1]
    words = of_words.encode("the cat")
    assert prompt_places(of_words, words, [2, *words], words) == [0, 4, 8]
    assert prompt_places(of_words, words, [2], words) == [0, 3, 7]


def test_the_chosen_token_is_among_the_alternatives() -> None:
    top = ((3, -0.1), (4, -2.0))
    assert alternatives(4, -2.0, top) == [*top]
    assert alternatives(9, -7.0, top) == [*top, (9, -7.0)]


def test_json_has_no_infinity() -> None:
    assert finite(float("-inf")) == IMPOSSIBLE
    assert finite(-2.5) == -2.5

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import PLAIN
from plain_fakes import WordsTokenizer

from textgen.generation.sampling.sampler import Sampler
from textgen.generation.sampling.vocabulary_tables import tokens_with
from textgen.tokenizer.kinds import ByteTokenizer

TOKENIZER = ByteTokenizer()
V = TOKENIZER.vocab_size


def test_the_breakers_of_a_text_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many texts join and leave beside it."""
    found: list[tuple[str, ...]] = []

    def noted(texts: tuple[str, ...], tokenizer: ByteTokenizer) -> np.ndarray:
        found.append(texts)
        return tokens_with(texts, tokenizer)

    monkeypatch.setattr("textgen.generation.sampling.vocabulary_tables.tokens_with", noted)
    dry = replace(PLAIN, temperature=0.0, dry_multiplier=50.0, dry_allowed_length=1)
    sampler = Sampler([PLAIN], TOKENIZER)
    for number in range(30):
        breakers = tuple(TOKENIZER.decode([3 + byte]) for byte in (64 + number, 10))
        sampler.join(sampler.for_others([replace(dry, seed=number, dry_sequence_breakers=breakers)]))
    sampler.keep(range(1, 31))
    sampler.keep(range(1, 30))
    assert len(found) == len(set(found)) == 30
    for row in range(29):  # each writes its own breaker again, and no other token
        sampler.read(row, [3 + 64 + row + 1, 3 + 48] * 2 + [3 + 64 + row + 1])
    logits = np.zeros((29, V), np.float32)
    logits[:, 3 + 48] = 10.0
    assert sampler.draw(logits).tolist() == [3 + 48] * 29
    for row in range(29):
        sampler.read(row, [3 + 64, 3 + 48] * 2 + [3 + 64])
    assert 3 + 48 not in sampler.draw(logits).tolist()


@given(st.lists(st.text(max_size=3), max_size=4))
@settings(deadline=None)
def test_tokens_with_texts_are_those_of_brute_force(texts: list[str]) -> None:
    tokenizer = WordsTokenizer(["ab", "aab", "ba", "éa", "aé", "a\n", ".a."])
    expected = [any(text.encode() in piece for text in texts) for piece in tokenizer.piece_bytes]
    assert tokens_with(texts, tokenizer).tolist() == expected


def test_tokens_with_a_text() -> None:
    assert np.flatnonzero(tokens_with(("a", "\n"), TOKENIZER)).tolist() == [13, 100]
    assert not tokens_with((), TOKENIZER).any()

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import PLAIN
from plain_fakes import TableModel, WordsTokenizer

from textgen.generation.config import SamplingConfig
from textgen.generation.constraints.phrase import Phrase
from textgen.generation.generator import Generator
from textgen.generation.sampling.sampler import Sampler
from textgen.generation.sampling.vocabulary_tables import (
    MAX_KEPT_BYTES,
    SplitTexts,
    VocabularyTables,
    breakers_of,
    tokens_with,
)
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of which a `Phrase` is made."""
    texts = list[str]()

    def noted(text: str, tokenizer: Tokenizer) -> Phrase:
        texts.append(text)
        return Phrase(text, tokenizer)

    monkeypatch.setattr("textgen.generation.sampling.vocabulary_tables.Phrase", noted)
    return texts


def test_texts_one_after_the_other_share_what_is_banned_and_required(made: list[str]) -> None:
    generator, config = Generator(TableModel(V), TOKENIZER), replace(PLAIN, max_tokens=9, ban=("a", "b"))
    for each in (generator, generator.with_model(TableModel(V, seed=1), "another")):
        assert not {"a", "b"} & {token.text for token in each.tokens("", config)}
        list(each.tokens("", replace(config, ban=("b", "c"), require=("d",))))
        each.generate(["", "x"], config)
        each.search("", SamplingConfig(max_tokens=3, ban=("a",)))
    assert sorted(made) == ["a", "b", "c", "d"]


def test_only_the_last_texts_are_kept(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.generation.sampling.vocabulary_tables.PHRASES_BYTES", 2 * 4 * (V + MAX_KEPT_BYTES**2))
    tables = VocabularyTables(TOKENIZER)
    held = tables.phrase("a")
    for text in ("b", "c", "d", "c", "b", "a"):
        tables.phrase(text)
    assert made == ["a", "b", "c", "d", "b"]
    assert tables.phrase("a") is held
    for length in (MAX_KEPT_BYTES, MAX_KEPT_BYTES + 1) * 2:
        tables.phrase("x" * length)
    assert [len(text) for text in made[5:]] == [64, 65, 65]


@given(st.lists(st.text(max_size=3), max_size=4))
@settings(deadline=None)
def test_tokens_with_texts_are_those_of_brute_force(texts: list[str]) -> None:
    tokenizer = WordsTokenizer(["ab", "aab", "ba", "éa", "aé", "a\n", ".a."])
    expected = [any(text.encode() in piece for text in texts) for piece in tokenizer.piece_bytes]
    assert tokens_with(texts, tokenizer).tolist() == expected


def test_tokens_with_a_text() -> None:
    assert np.flatnonzero(tokens_with(("a", "\n"), TOKENIZER)).tolist() == [13, 100]
    assert not tokens_with((), TOKENIZER).any()


PIECES = [b"", b"a", b"b", b"ab", b"bba", "é".encode()[:1], "é".encode()[1:]]


@given(
    st.lists(st.text("abé", min_size=2, max_size=5), min_size=1, max_size=3),
    st.lists(st.integers(0, len(PIECES) - 1), max_size=9),
)
@settings(deadline=None)
def test_split_texts_are_those_of_brute_force(texts: list[str], ids: list[int]) -> None:
    encoded = [text.encode() for text in texts]

    def ends_with_last(ids: list[int]) -> bool:
        before, written = (b"".join(PIECES[id] for id in part) for part in (ids[:-1], ids))
        return any(text in written[max(0, len(before) - len(text) + 1) :] for text in encoded)

    found = SplitTexts(encoded, PIECES)
    since = next((count for count in range(len(ids)) if ends_with_last(ids[: len(ids) - count])), len(ids))
    assert found.tokens_since(ids) == since
    expected = [ends_with_last([*ids, id]) for id in range(len(PIECES))]
    assert found.complete(ids, range(len(PIECES))).tolist() == expected


def test_only_texts_of_several_bytes_are_split() -> None:
    assert breakers_of(("a", "\n"), TOKENIZER).texts is None
    assert breakers_of(("a", "é"), TOKENIZER).texts is not None


def test_backward_a_split_text_ends_with_its_first_byte() -> None:
    ids = TOKENIZER.encode("x User: Aé")[::-1]
    for text, since in (("User:", 2), ("é", 9), ("Aé", 8), (": ", 6), ("no", 11)):
        found = breakers_of((text,), TOKENIZER, "backward").texts
        assert found is not None
        assert found.tokens_since(ids) == since


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("breaker", ["Once upon", "User:", "\n\n", "。", "x"])
def test_breakers_of_several_tokens_end_a_repetition(exact: bool, breaker: str) -> None:
    """Beside texts with another breaker of two characters, and of one."""
    ids, (a, b, c, d) = TOKENIZER.encode(breaker), TOKENIZER.encode("abcd")
    dry = replace(PLAIN, temperature=0.0, dry_multiplier=50.0, dry_allowed_length=3)
    configs = [replace(dry, dry_sequence_breakers=breakers) for breakers in ((breaker,), ("zz",), ("z",))]
    cases = [  # text, the token that would prolong a repetition in it, and for which texts it is penalized
        ([a, b, c, d, *ids, a, b, c], d, [True, True, True]),
        ([a, b, *ids, c, d, a, b, *ids, c], d, [False, True, True]),
        ([a, b, c, *ids, d, a, b, c, *ids[:-1]], ids[-1], [False, True, True]),
    ]
    for text, favored, expected in cases:
        sampler = Sampler(configs, TOKENIZER, exact=exact)
        logits = np.zeros((3, V), np.float64 if exact else np.float32)
        logits[:, favored] = 2.0
        for row in range(3):
            sampler.read(row, text)
        drawn = sampler.draw(logits).tolist()
        assert [id != favored for id in drawn] == expected

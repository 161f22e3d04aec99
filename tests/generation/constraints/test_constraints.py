from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import CountingModel, as_model
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_fakes import WordsTokenizer

from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig
from textgen.generation.constraints.constraints import Bias, Biases, Constraints, read_biases
from textgen.generation.constraints.phrase import Phrase
from textgen.generation.generator import Generator
from textgen.generation.sampling.sampler import Sampler
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

BYTES = ByteTokenizer()
V, EOS = BYTES.vocab_size, BYTES.eos_id
WORDS = WordsTokenizer(["ab", "ba", "aa", "abc", "cab", "bc", "xaby", "é", "éa", "aé"])
PLAIN = SamplingConfig(temperature=1.0, min_p=0.0, dry_multiplier=0.0, repeat_penalty=1.0, seed=0)


def ids_of(text: str) -> list[int]:
    return BYTES.encode(text)


def applied(config: SamplingConfig, text: str, prompt: str = "", tokenizer: Tokenizer = BYTES) -> np.ndarray:
    """What the constraints make of zeros after a prompt and drawn text."""
    own = Constraints(config, tokenizer)
    own.read(ids_of(prompt))
    for piece in ids_of(text):
        own.accept(piece)
    logits = np.zeros(tokenizer.vocab_size, np.float32)
    own.apply(logits)
    return logits


def forbidden(config: SamplingConfig, text: str, prompt: str = "", tokenizer: Tokenizer = BYTES) -> list[str]:
    left_out = np.flatnonzero(applied(config, text, prompt, tokenizer) == -np.inf)
    return sorted("<eos>" if id == EOS else tokenizer.decode([int(id)]) for id in left_out)


def random_text(
    config: SamplingConfig, tokenizer: Tokenizer, prompt: str = "", alphabet: str = "abcxy é"
) -> tuple[str, list[int]]:
    """Drawn among pieces of the alphabet and the end, all equally likely."""
    sampler, ids = Sampler([config], tokenizer), list[int]()
    sampler.read(0, [EOS, *ids_of(prompt)])
    likely = [not set(piece) - set(alphabet.encode()) for piece in tokenizer.piece_bytes]
    logits = np.where(likely, 0.0, -30.0).astype(np.float32)[None]
    while len(ids) < config.max_tokens and EOS not in ids:
        ids.append(int(sampler.draw(logits)[0]))
    return tokenizer.decode(ids), ids


def test_texts_with_the_same_settings_read_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def noted(text: str, tokenizer: Tokenizer) -> Phrase:
        made.append(text)
        return Phrase(text, tokenizer)

    monkeypatch.setattr("textgen.generation.sampling.vocabulary_tables.Phrase", noted)
    config = replace(PLAIN, ban=("ab",), require=("c",), logit_bias=("xy=2", "#65=1"))
    sampler = Sampler([config, replace(config, seed=1)], BYTES)
    first, second = [*sampler.constraints, *sampler.for_others([config]).constraints][::2]
    assert sorted(made) == ["ab", "c"]
    assert first._biases is second._biases
    assert [bias.text for bias in first._biases] == ["xy", BYTES.decode([65])]


# === Bans ===


def test_a_ban_forbids_the_piece_that_would_complete_it() -> None:
    config = replace(PLAIN, ban=("cat", "c", "ab"))
    assert forbidden(config, "") == ["c"]
    assert forbidden(config, "da") == ["b", "c"]
    config = replace(PLAIN, ban=("abab", "abac"))
    assert forbidden(config, "ab") == []
    assert forbidden(config, "aba") == ["b", "c"]
    assert forbidden(config, "ba", prompt="xxa") == ["b", "c"]
    assert forbidden(config, "", prompt="abababa") == ["b", "c"]


def test_a_ban_holds_however_it_is_spelled() -> None:
    assert forbidden(replace(PLAIN, ban=("ab",)), "", tokenizer=WORDS) == ["ab", "abc", "cab", "xaby"]
    assert forbidden(replace(PLAIN, ban=("ab",)), "a", tokenizer=WORDS) == ["ab", "abc", "b", "ba", "bc", "cab", "xaby"]
    assert "éa" in forbidden(replace(PLAIN, ban=("éa",)), "", tokenizer=WORDS)


alphabet_texts = st.text("abcé", min_size=1, max_size=4)


@given(st.lists(alphabet_texts, min_size=1, max_size=3).map(tuple), st.text("abc", max_size=5), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_a_banned_text_never_comes_about(ban: tuple[str, ...], prompt: str, seed: int) -> None:
    text, _ = random_text(replace(PLAIN, ban=ban, seed=seed, max_tokens=40), WORDS, prompt)
    for banned in ban:
        assert (prompt + text).find(banned, max(0, len(prompt) - len(banned) + 1)) < 0


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
def test_bans_equal_transformers_where_a_piece_is_a_byte() -> None:
    """There the last piece is forbidden when the others stand before it."""
    import torch
    from transformers.generation import logits_process as generation

    ban = ("a", "bc", "cab", "abcabd")
    processor = generation.NoBadWordsLogitsProcessor([ids_of(text) for text in ban], eos_token_id=EOS)
    for text in ("", "b", "ca", "xbca", "abcab", "bbbb", "zzabcabcab"):
        read = torch.tensor([[EOS, *ids_of(text)]])
        theirs = processor(read, torch.zeros((1, V))).numpy()[0]
        np.testing.assert_array_equal(applied(replace(PLAIN, ban=ban), text), theirs)


# === Required texts ===


@given(
    st.lists(st.text("abcé", min_size=1, max_size=6), min_size=1, max_size=3).map(tuple),
    st.integers(0, 99),
    st.integers(0, 60),
)
@settings(deadline=None, max_examples=50)
def test_a_required_text_comes(require: tuple[str, ...], seed: int, spare: int) -> None:
    """However little room there is; and no end of the document before it."""
    room = sum(len(ids_of(text)) for text in require) + spare
    text, ids = random_text(replace(PLAIN, require=require, seed=seed, max_tokens=room), WORDS)
    assert all(required in text for required in require)
    if EOS in ids:
        assert all(required in WORDS.decode(ids[: ids.index(EOS)]) for required in require)


def test_what_brings_a_required_text_about_gains() -> None:
    config = replace(PLAIN, require=("abcd",), max_tokens=100)
    logits = applied(config, "")
    assert np.flatnonzero(logits).tolist() == [EOS]  # at first, only the end is held back
    logits = applied(config, "x" * 50)
    assert logits[ids_of("a")[0]] == pytest.approx(10.0 * 0.25)
    assert np.count_nonzero(logits) == 2
    logits = applied(config, "x" * 47 + "abc")
    assert logits[ids_of("ad")].tolist() == pytest.approx([2.5, 10.0])
    assert not applied(config, "x" * 50 + "abcd").any()
    last = applied(config, "x" * 96)
    assert np.flatnonzero(last > -np.inf).tolist() == ids_of("a")
    almost = applied(config, "x" * 94 + "abc")
    assert np.flatnonzero(almost > -np.inf).tolist() == ids_of("d")  # after another piece, three would not be enough
    assert np.count_nonzero(applied(config, "x" * 92 + "abc") == -np.inf) == 1


def test_the_pull_towards_a_required_text_goes_on_growing() -> None:
    """So a long text comes too, of which a token writes a small fraction."""
    config = replace(PLAIN, require=("ab" * 50,), max_tokens=5000)
    gains = [applied(config, "x" * length)[ids_of("a")[0]] for length in (400, 800, 4000)]
    np.testing.assert_allclose(gains, [0.2, 0.4, 2.0], rtol=1e-6)


def test_the_prompt_does_not_hold_a_required_text() -> None:
    assert forbidden(replace(PLAIN, require=("ab",)), "", prompt="ab") == ["<eos>"]
    assert forbidden(replace(PLAIN, require=("ab",)), "b", prompt="a") == ["<eos>"]
    assert forbidden(replace(PLAIN, require=("ab",)), "ab") == []


def test_a_required_text_by_a_learned_tokenizer() -> None:
    tokenizer = train_tokenizer(["The cat sat on the mat. The dog saw the cat.\n"] * 5, TokenizerConfig("unigram"))
    generator = Generator(as_model(CountingModel(tokenizer.vocab_size)), tokenizer)
    config = replace(PLAIN, require=(" dog", "床前", "The cat"), max_tokens=14)
    for generation in generator.generate("", config, num=5):
        assert all(text in generation.text for text in config.require)


# === Biases, n-grams, the least length ===


def test_a_bias_of_a_piece_and_of_several() -> None:
    config = replace(PLAIN, logit_bias=("a=1.5", "bc=-2", f"#{EOS}=3", "===0.5", "a=1"))
    logits = applied(config, "")
    assert {int(id): float(logits[id]) for id in np.flatnonzero(logits)} == {EOS: 3.0, ids_of("a")[0]: 2.5}
    assert applied(config, "xb")[ids_of("c")].tolist() == [-2.0]
    assert applied(config, "", prompt="b")[ids_of("c")].tolist() == [-2.0]
    assert applied(config, "x=")[ids_of("=")].tolist() == [0.5]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.floats(-9, 9)), max_size=20),
    st.lists(st.integers(0, 2), max_size=6),
    st.sampled_from((np.float32, np.float64)),
)
def test_biases_are_added_in_their_order(entries: list[tuple[list[int], float]], last: list[int], kind: Any) -> None:
    biases = Biases(Bias("", ids, value) for ids, value in entries)
    found, expected = np.full(3, 0.1, kind), np.full(3, 0.1, kind)
    biases.add(found, last)
    for ids, value in entries:
        if len(ids) == 1 or last[1 - len(ids) :] == ids[:-1]:
            expected[ids[-1]] += value
    np.testing.assert_array_equal(found, expected)


def test_a_token_looks_at_few_of_many_biases() -> None:
    class Ids(list[int]):
        def __getitem__(self, at: Any) -> Any:
            looks.append(at)
            return super().__getitem__(at)

    looks: list[Any] = []
    biases = Biases(Bias("", Ids([1, 2, number, 5, 6]), 1.0) for number in range(1000))
    logits = np.zeros(10, np.float32)
    biases.add(logits, [])
    looks.clear()
    biases.add(logits, [1, 2, 7, 5])
    assert logits.tolist() == [0.0] * 6 + [1.0] + [0.0] * 3
    assert looks == []


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
def test_biases_equal_transformers() -> None:
    import torch
    from transformers.generation import logits_process as generation

    biases = {"a": 1.5, "bc": -2.0, "abc": 4.0, "cc": 0.25}
    processor = generation.SequenceBiasLogitsProcessor({tuple(ids_of(text)): bias for text, bias in biases.items()})
    config = replace(PLAIN, logit_bias=tuple(f"{text}={bias}" for text, bias in biases.items()))
    for text in ("", "b", "ab", "c", "zzab", "ccc"):
        theirs = processor(torch.tensor([[EOS, *ids_of(text)]]), torch.zeros((1, V))).numpy()[0]
        np.testing.assert_array_equal(applied(config, text), theirs)


def test_the_texts_of_biases_are_encoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them, one by one, would keep other texts waiting."""
    calls = list[Sequence[str]]()
    encode = ByteTokenizer.encode_batch

    def counted(own: ByteTokenizer, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        calls.append(texts)
        return encode(own, texts, num_threads)

    monkeypatch.setattr(ByteTokenizer, "encode_batch", counted)
    biases = read_biases(("ab=1", f"#{EOS}=2", "xyz=-3", "c=0.5"), BYTES)
    assert calls == [["ab", "xyz", "c"]]
    assert biases == [
        Bias("ab", ids_of("ab"), 1.0),
        Bias("", [EOS], 2.0),
        Bias("xyz", ids_of("xyz"), -3.0),
        Bias("c", ids_of("c"), 0.5),
    ]


@given(st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_no_ngram_comes_twice(size: int, seed: int) -> None:
    _, ids = random_text(replace(PLAIN, no_repeat_ngram_size=size, seed=seed, max_tokens=80), BYTES, "abc", "ab")
    ids = [*ids_of("abc"), *ids]
    ngrams = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
    assert len(set(ngrams)) == len(ngrams)


@contextmanager
def memory() -> Iterator[list[int]]:
    """The bytes that are held when the block ends and were not when it began, as the only number of a list."""
    held: list[int] = []
    tracemalloc.start()
    try:
        yield held
        held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()


RANDOM_IDS = np.random.default_rng(0).integers(3, V, 4000).tolist()


def test_long_ngrams_take_no_more_memory_than_short_ones() -> None:
    texts = [Constraints(replace(PLAIN, no_repeat_ngram_size=size), BYTES) for size in (3, 2000)]
    for text in texts:
        with memory() as held:
            text.read(RANDOM_IDS)
            for id in RANDOM_IDS[:100]:
                text.accept(id)
        assert held[0] < 400 * len(RANDOM_IDS)


def test_texts_with_the_same_beginning_share_its_ngrams() -> None:
    config = replace(PLAIN, no_repeat_ngram_size=3)
    sampler = Sampler([replace(config, seed=seed) for seed in range(20)], BYTES)
    with memory() as held:
        for row in range(20):
            sampler.read(row, RANDOM_IDS)
        forks = [constraints.fork() for constraints in sampler.constraints]
    assert held[0] < 800 * len(RANDOM_IDS)
    for fork, id in zip(forks, RANDOM_IDS, strict=False):
        fork.accept(id)
    for number, text in enumerate([*sampler.constraints, *forks]):
        own = [*RANDOM_IDS, *RANDOM_IDS[: max(0, number - 19)][-1:]]
        logits = np.zeros(V, np.float32)
        text.apply(logits)
        places = [at for at in range(len(own) - 2) if own[at : at + 2] == own[-2:]]
        assert set(np.flatnonzero(logits == -np.inf).tolist()) == {own[at + 2] for at in places}


def test_healing_reads_a_prompt_once_for_all_places_where_it_may_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = WordsTokenizer(["abcdefgh"])
    read: list[int] = []
    original = Constraints.read

    def counted(self: Constraints, ids: Sequence[int], *start: int) -> None:
        read.append(len(ids) - sum(start))
        original(self, ids, *start)

    monkeypatch.setattr(Constraints, "read", counted)
    generator = Generator(as_model(CountingModel(tokenizer.vocab_size)), tokenizer)
    prompt = "xyz" * 100 + "abcdefg"  # which one token could go on with, in the place of seven
    generator.generate(prompt, replace(PLAIN, no_repeat_ngram_size=3, ban=("q",), max_tokens=1))
    assert len(prompt) < sum(read) < 2.5 * len(prompt)


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
def test_min_tokens_equals_transformers() -> None:
    import torch
    from transformers.generation import logits_process as generation

    processor = generation.MinNewTokensLengthLogitsProcessor(2, 3, EOS)
    for drawn in range(6):
        theirs = processor(torch.zeros((1, 2 + drawn), dtype=torch.long), torch.zeros((1, V))).numpy()[0]
        np.testing.assert_array_equal(applied(replace(PLAIN, min_tokens=3), "x" * drawn, prompt="yy"), theirs)


def test_the_document_does_not_end_before_min_tokens() -> None:
    wants_to_end = Generator(as_model(CountingModel(after=dict.fromkeys(range(V), EOS))), BYTES)
    for least in (0, 1, 7):
        (generation,) = wants_to_end.generate("", replace(PLAIN, min_tokens=least, max_tokens=9))
        assert generation.stop_reason == "end"
        assert least < len(generation.ids) <= least + 4  # the last character is completed


def test_where_nothing_may_follow_the_text_ends() -> None:
    tokenizer = WordsTokenizer([])
    generator = Generator(as_model(CountingModel()), tokenizer)
    (generation,) = generator.generate("", replace(PLAIN, no_repeat_ngram_size=1, min_tokens=300, max_tokens=400))
    assert generation.stop_reason == "blocked"
    assert len(set(generation.ids)) == len(generation.ids)
    assert {chr(code) for code in range(128)} <= set(generation.text)  # every byte that is a text by itself
    assert "\ufffd" not in generation.text


# === What cannot be ===


def test_bad_constraints() -> None:
    words = train_tokenizer(["the cat sat\n"] * 9, TokenizerConfig("word"))
    every_byte = tuple(chr(code) for code in range(128))
    ascii_only = WordsTokenizer([])
    ascii_only.piece_bytes = [piece for piece in ascii_only.piece_bytes if piece < b"\x80" or not piece]
    for values, tokenizer, message in [
        ({"ban": every_byte}, ascii_only, "ban must leave a token to generate"),
        ({"require": ("the dog",)}, words, "require must hold .* no tokens spell 'the dog'"),
        ({"require": ("the  cat",)}, words, "require must hold .* loses the white space of 'the  cat', so put single"),
        ({"require": ("  ",)}, words, "require must hold .* loses the white space of '  ', so put single"),
        ({"require": ("abc", "de"), "max_tokens": 4}, BYTES, "its texts take 5 tokens, and max_tokens is 4"),
        ({"logit_bias": ("dog=1",)}, words, "no tokens that spell 'dog'"),
        ({"logit_bias": ("a=1", f"#{BYTES.pad_id}=5")}, BYTES, "the token #0 is never written"),
        ({"logit_bias": (f"#{words.unk_id}=5",)}, words, f"the token #{words.unk_id} is never written"),
        ({"logit_bias": ("#259=1",)}, BYTES, "there is no token #259, only #0 to #258"),
        ({"logit_bias": (" =5",)}, words, "no token for ' ' alone"),
    ]:
        with pytest.raises(ConfigError, match=message) as caught:
            Sampler([replace(PLAIN, **values)], tokenizer)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    Sampler([replace(PLAIN, require=("the cat",), ban=("dog",))], words)
    Sampler(
        [replace(PLAIN, logit_bias=(f"#{BYTES.pad_id}=-100",))], BYTES
    )  # as programs send it for all special tokens


def test_where_no_room_is_left_the_text_that_is_furthest_advanced_is_completed_first() -> None:
    logits = applied(replace(PLAIN, require=("ab", "cd"), max_tokens=5), "c")
    assert np.flatnonzero(logits > -np.inf).tolist() == ids_of("d")

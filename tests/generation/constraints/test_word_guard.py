"""Words that exist: the guard against brute force on the text, and in everything that writes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights
from plain_fakes import TableModel, WordsTokenizer

from textgen.dataset import word_filter as module
from textgen.dataset.word_filter import WordFilter
from textgen.dataset.words import MAX_WORD_CHARS, count_words, letters_of, words_in
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.constraints import word_tokens as tables
from textgen.generation.constraints.constraints import Constraints
from textgen.generation.constraints.partial_word import FREE, is_word, kind_before, leading_letters, spellings
from textgen.generation.constraints.word_guard import WordGuard
from textgen.generation.constraints.word_tokens import WordTokens, word_tokens
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.generation.request import Request
from textgen.generation.sampling.sampler import Sampler
from textgen.generation.suggestions import Suggester
from textgen.generation.token_healing import Prefixes
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

LINES = "The cat's hat. Don't eat 3rd Café dates, l'état naïve!\nA ten-ton tea: 'tis at caf\u0117 0's 狐.\n"
PIECES = ["the", " the", " c", "at", "ate", " caf", "é", "'s", "'t", " do", "n", "n'", "t e", ", ", "狐", "2", "ea"]
ASCII = LINES.encode("ascii", "ignore").decode()
TOKENIZER = WordsTokenizer(PIECES)
BYTES = ByteTokenizer()
CHARACTERS = train_tokenizer([LINES] * 5, TokenizerConfig("char"))
PLAIN_SIGNS = WordsTokenizer(
    [" the cat", "e c", "at the", "'t e", "n't", "afé, t", "é'", "s'", "狐t", "x2", "2 t", "ten-t"]
)
EOS, V = TOKENIZER.eos_id, TOKENIZER.vocab_size
CONFIG = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=120, seed=0)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters so large that they err about once in 10 ** 10 times."""
    monkeypatch.setattr(module, "BITS_PER_ENTRY", 64)


def known_words(text: str = LINES) -> WordFilter:
    return WordFilter.build(list(count_words([text])))


class Plain:
    """Words by brute force, on texts."""

    def __init__(self, text: str = LINES) -> None:
        self.words = set(count_words([text]))
        self.beginnings = {word[:length] for word in self.words for length in range(1, len(word) + 1)}

    def allows(self, text: str) -> bool:
        """Whether all words of a text are known and the last one begins a known one."""
        *ended, last = letters_of(text).split(" ")
        words = [word for stretch in (*ended, last) for word in words_in(stretch)]
        begun = [words.pop()] if last and "0" not in last and last[-1] != "'" else []
        return all({word, word.removeprefix("'")} & self.words for word in words) and all(
            {word, word.removeprefix("'")} & self.beginnings for word in begun
        )


def is_text(data: bytes) -> bool:
    """Whether this is whole characters."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def written(result: Any) -> str:
    """The whole text, without a word that a limit has cut off."""
    text = result.prompt + result.text
    return text if result.stop_reason == "end" else " ".join(text.split(" ")[:-1])


# === One step ===


@pytest.mark.parametrize("seed", range(8))
def test_what_may_come_next_is_that_of_brute_force(seed: int) -> None:
    """On a random walk along allowed tokens of whole characters."""
    guard, plain, rng = WordGuard(WordTokens(TOKENIZER, known_words())), Plain(), np.random.default_rng(seed)
    whole = {id: piece.decode() for id, piece in enumerate(TOKENIZER.piece_bytes) if id > EOS and is_text(piece)}
    text = ""
    for _ in range(40):
        allowed = guard.allowed()
        for id, piece in whole.items():
            assert allowed[id] == plain.allows(text + piece), (text, piece)
        assert allowed[EOS] == plain.allows(text + "\n")
        following = [id for id in whole if allowed[id]]
        if not following:  # only a character in bytes
            break
        id = int(rng.choice(following))
        guard.accept(id)
        text += whole[id]


def plainly_allowed(tokens: WordTokens, word: str, pending: bytes) -> list[bool]:
    """What may follow the letters of a word by the definition, one token after the other."""
    begins = cache(lambda text: bool(tokens.words.begins([text])[0]))
    is_whole, completed = tokens.is_whole(word), dict(tokens._completing(pending)) if pending else {}
    allowed = list[bool]()
    for id, letters in enumerate(tokens.letters):
        inside = completed.get(id) if pending else letters
        lead = leading_letters(inside or "")
        if word == FREE or (pending and id not in completed):
            fits = True
        elif inside is None:
            fits = not is_word(word) or is_whole or any(begins(text + module.WIDE) for text in spellings(word))
        elif not lead:
            fits = is_whole
        elif pending:
            fits = tokens.begins(word + lead)
        else:
            ends = [module.END] * (lead != inside)
            parts = [*(lead[:length] for length in range(1, len(lead) + 1)), *(lead + end for end in ends)]
            fits = any(all(begins(text + part) for part in parts) for text in spellings(word))
        allowed.append(bool(fits and tokens.sound[kind_before(word), id]))
    return allowed


BEFORE_TOKENS = [
    (word, pending)
    for word in ("", "'", FREE, "t", "th", "the", "c", "ca", "caf", "café", "'t", "'s", "'l", "e", "zorb", "d", "na")
    for pending in (b"", b"\xc3", b"\xe2\x80")
]  # fmt: skip


@pytest.mark.parametrize("bits", [4, 64])
@pytest.mark.parametrize(
    "tokenizer", [TOKENIZER, BYTES, CHARACTERS, PLAIN_SIGNS], ids=["pieces", "bytes", "char", "signs"]
)
def test_what_may_come_next_is_that_of_the_definition(
    bits: int, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together and one by one, and also where the filter errs often."""
    monkeypatch.setattr(module, "BITS_PER_ENTRY", bits)
    tokens, alone = (WordTokens(tokenizer, known_words()) for _ in range(2))
    for before, together in zip(BEFORE_TOKENS, tokens.allowed.of(BEFORE_TOKENS), strict=True):
        assert together.tolist() == plainly_allowed(tokens, *before), before
        assert (alone.allowed.of([before])[0] == together).all()


DRAWS: list[dict[str, Any]] = [
    {}, {"min_p": 0.0, "temperature": 1.0}, {"samplers": "", "temperature": 2.0}, {"temperature": 0.0}, {"mirostat": 2},
    {"top_k": 5, "repeat_penalty": 1.3, "top_n_sigma": 2.0, "typical_p": 0.9, "xtc_probability": 0.5},
    {"require": ("Zorb",), "max_tokens": 30}, {"ban": ("the", " ")}, {"logit_bias": ("th=3",), "min_tokens": 5},
]  # fmt: skip


@pytest.mark.parametrize("exact", [False, True])
def test_draws_are_those_from_logits_of_which_the_guard_leaves_what_it_allows(exact: bool) -> None:
    """Texts of all settings side by side: a text at a time, with all tokens that it may not write impossible."""
    configs = [replace(CONFIG, seed=seed, **DRAWS[seed % len(DRAWS)]) for seed in range(20)]
    configs[19] = replace(configs[19], coin_words=True)
    tokens, rng = WordTokens(TOKENIZER, known_words()), np.random.default_rng(0)
    together = Sampler(configs, TOKENIZER, word_tokens=tokens, exact=exact)
    alone = [Sampler([replace(config, coin_words=True)], TOKENIZER, exact=exact) for config in configs]
    guards = [Constraints(config, TOKENIZER, word_tokens=tokens).word_guard for config in configs]
    for row in range(20):
        prompt = TOKENIZER.encode(["", "Zorb the zo", "ca", "don'"][row % 4])
        for reader in (together, alone[row]):
            reader.read(row if reader is together else 0, prompt)
        if own := guards[row]:
            own.read(prompt)
    first = TOKENIZER.first_byte or 0
    few = [*TOKENIZER.encode("xq"), *range(first + 0x80, first + 0x100)]  # after most words none of them is allowed
    for step in range(15):
        logits = rng.normal(0, [[1.0], [6.0], [3.0], [2.0]] * 5, (20, V)).astype(np.float64 if exact else np.float32)
        if step % 5 == 4:
            logits[:, np.setdiff1d(np.arange(V), few)] = -np.inf
        ids = together.draw(logits)
        for row, (sampler, guard) in enumerate(zip(alone, guards, strict=True)):
            if guard:
                leave_words(sampler, guard)
            assert sampler.draw(logits[[row]]) == ids[row], (step, configs[row])
            assert sampler.blocked[0] == together.blocked[row]
            if guard:
                guard.accept(int(ids[row]))


def leave_words(sampler: Sampler, guard: WordGuard) -> None:
    """Lets what the guard does come last in the constraints of a sampler of one text that has no guard."""
    (constraints,) = sampler.constraints

    def apply(logits: np.ndarray) -> None:
        Constraints.apply_others(constraints, logits)
        kept = np.where(guard.allowed(), logits, -np.inf)
        if kept.max() > -np.inf:
            logits[:] = kept

    sampler.constraints = [constraints]
    constraints.__dict__ |= {"apply_others": apply, "_always": True}


PROMPTS = ["", "The", "A Zorb, zor", "don", "don'", "3r", "caf", "狐 ", "Zorb's zorb", "zorb\nTea, zorb", "x'", "'ti"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_words_of_the_prompt_are_possible(prompt: str) -> None:
    """After a prompt it is as if its words were in the training text."""
    guard, plain = WordGuard(WordTokens(TOKENIZER, known_words())), Plain(LINES + prompt.rpartition(" ")[0])
    guard.read(TOKENIZER.encode(prompt))
    allowed = guard.allowed()
    for id, piece in enumerate(TOKENIZER.piece_bytes):
        if id > EOS and is_text(piece) and plain.allows(prompt):
            assert allowed[id] == plain.allows(prompt + piece.decode()), piece


@pytest.mark.parametrize("prompt", ["alrtod", "The alrtod", "don'alrtod"])
def test_a_word_with_an_unknown_beginning_is_free(prompt: str) -> None:
    """It goes on as it likes, and is then known; the next word is guarded again."""
    tokens, plain = WordTokens(TOKENIZER, known_words()), Plain()
    guard = WordGuard(tokens)
    guard.read(TOKENIZER.encode(prompt))
    for character in "ise ":
        (id,) = TOKENIZER.encode(character)
        assert guard.allowed()[[*TOKENIZER.encode("xé "), id]].all()
        guard.accept(id)
    plain.words.add("alrtodise")
    plain.beginnings |= {"alrtodise"[:length] for length in range(10)}
    for id, piece in enumerate(TOKENIZER.piece_bytes):
        if id > EOS and is_text(piece):
            assert guard.allowed()[id] == plain.allows(piece.decode()), piece


@pytest.mark.parametrize("written", ["", "q"])
def test_a_long_run_of_letters_is_no_word(written: str) -> None:
    """One of the prompt, and one that the text has written the end of."""
    tokens = WordTokens(TOKENIZER, known_words())
    for length in (MAX_WORD_CHARS, MAX_WORD_CHARS + 1):
        guard = WordGuard(tokens)
        guard.read(TOKENIZER.encode("The " + "q" * (length - len(written)) + " " * (not written)))
        for id in TOKENIZER.encode(f"{written} " * bool(written)):
            guard.accept(id)
        assert guard.allowed()[TOKENIZER.encode("q")] == (length == MAX_WORD_CHARS)


def test_a_long_run_of_letters_takes_little_memory() -> None:
    others = " ".join(f"q{first}{second}" for first in "bcdfghjkl" for second in "bcdfghjkl")
    prompt, guard = TOKENIZER.encode(f"{others} {'q' * 20_000} "), WordGuard(WordTokens(TOKENIZER, known_words()))
    tracemalloc.start()
    try:
        guard.read(prompt)
        guard.allowed()
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_prompt_is_read_once_for_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its ends that a token may cover too, and once more where other words are given."""
    tokens, decoded = WordTokens(TOKENIZER, known_words()), list[int]()

    def decode(ids: Sequence[int]) -> str:
        decoded.append(len(ids))
        return TOKENIZER.decode(ids)

    monkeypatch.setattr(tokens, "decode", decode)
    prompt = TOKENIZER.encode("Zorb the ca")
    covers = Prefixes(TOKENIZER).covers(prompt)
    configs = [replace(CONFIG, seed=seed, require=("cafxyz",) * (seed % 2)) for seed in range(20)]
    sampler = Sampler(configs, TOKENIZER, word_tokens=tokens)
    for row, config in enumerate(configs):
        alone = Sampler([config], TOKENIZER, word_tokens=WordTokens(TOKENIZER, known_words()))
        assert sampler.possible(row, prompt, covers) == alone.possible(0, prompt, covers)
        sampler.read(row, prompt)
        alone.read(0, prompt)
        logits = np.zeros((2, V), np.float32)
        for constraints, own in zip((sampler.constraints[row], alone.constraints[0]), logits, strict=True):
            constraints.apply(own)
        assert (logits[0] == logits[1]).all()
    assert len(covers) == 2
    assert len(decoded) == 2 * (len(covers) + 1)


def test_given_texts_are_read_once_however_many_they_and_the_rows_are(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        f"{start}or{end}" for start in ("Z", " don'", "x0", "'s \u0301", "A's caf\u00e9", "3") for end in "bcdfgh'"
    ]
    config = replace(CONFIG, require=tuple(given[:20]), logit_bias=tuple(f"{text}=1" for text in given[20:]))
    words, asked = WordTokens(TOKENIZER, known_words()), list[int]()
    knows = WordFilter.knows

    def counted(own: WordFilter, texts: Sequence[str]) -> np.ndarray:
        asked.append(len(texts))
        return knows(own, texts)

    monkeypatch.setattr(WordFilter, "knows", counted)
    sampler = Sampler([replace(config, seed=seed) for seed in range(3)], TOKENIZER, word_tokens=words)
    assert len(asked) == 2, "with their apostrophes and without"
    one_by_one = frozenset[str]().union(*map(words.unknown, given))
    assert len(one_by_one) > 20
    for constraints in sampler.constraints:
        assert constraints.word_guard
        assert constraints.word_guard._given == one_by_one


def test_a_character_in_bytes_is_judged_by_its_last_byte() -> None:
    tokens = WordTokens(BYTES, known_words())
    for text, character, others in (
        ("caf", "é", "èñ"),
        ("ÉTA", "T", "Q"),
        ("the", "”", "é"),
        ("", "é", "ñ"),
        ("na", "ï", "î"),
    ):
        guard = WordGuard(tokens)
        for id in BYTES.encode(text + character):
            assert guard.allowed()[id], (text, character)
            guard.accept(id)
        for other in others:
            guard = WordGuard(tokens)
            guard.read(BYTES.encode(text))
            *first, last = BYTES.encode(other)
            for id in first:
                guard.accept(id)
            assert not guard.allowed()[last], (text, other)
    guard = WordGuard(tokens)
    guard.read(BYTES.encode("ca"))
    assert not guard.allowed()[BYTES.encode("é")[0]], "no character that is not ASCII goes on with ca"


def test_a_fork_goes_its_own_way() -> None:
    guard = WordGuard(WordTokens(TOKENIZER, known_words()))
    guard.read(TOKENIZER.encode("zor"))
    twin = guard.fork()
    for id in TOKENIZER.encode("b c"):
        twin.accept(id)
    (b,) = TOKENIZER.encode("b")
    assert guard.allowed()[b]
    assert not twin.allowed()[b]


def test_texts_with_words_of_their_own_take_little_memory() -> None:
    """What may follow a word is kept once for all texts, since it is hardly ever another for one of them."""
    written = TOKENIZER.encode(ASCII * 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "WORDS_KEPT", 8)  # of more words than are kept for all texts
        tokens = WordTokens(TOKENIZER, known_words())

    def follow(prompt: str) -> WordGuard:
        guard = WordGuard(tokens)
        guard.read(TOKENIZER.encode(prompt))
        for id in written:
            guard.allowed()
            guard.accept(id)
        return guard

    follow("Zorb ")
    tracemalloc.start()
    try:
        guards = [follow(f"Zorb{letter} ") for letter in "abcdefgh"]
        assert tracemalloc.get_traced_memory()[0] < len(guards) * 40 * V
    finally:
        tracemalloc.stop()


def test_nothing_is_forbidden_where_nothing_else_is_left() -> None:
    guard = WordGuard(WordTokens(TOKENIZER, known_words()))
    guard.read(TOKENIZER.encode("th"))
    logits = np.full(V, -np.inf, np.float32)
    logits[TOKENIZER.encode("xq")] = 1.0
    before = logits.copy()
    guard.apply(logits)
    assert (logits == before).all()


def test_only_vocabularies_that_spell_words_have_a_guard() -> None:
    assert word_tokens(TOKENIZER, None) is None
    assert word_tokens(train_tokenizer([LINES] * 5, TokenizerConfig("word")), known_words()) is None
    assert word_tokens(TOKENIZER, known_words())


# === Everything that writes ===


def model(seed: int = 0, tokenizer: Tokenizer = TOKENIZER) -> TableModel:
    """A model that spells no characters in bytes: it would not know which bytes make a letter."""
    table = TableModel(tokenizer.vocab_size, seed)
    first = tokenizer.first_byte or 0
    table.tables[:, :, first + 0x80 : first + 0x100] -= 60.0
    return table


def generator(seed: int = 0, tokenizer: Tokenizer = TOKENIZER) -> Generator:
    return Generator(model(seed, tokenizer), tokenizer, read_words=lambda: known_words(ASCII))


shared_generator = cache(generator)  # for many examples: the tables of a model are large


def unknown(text: str, plain: Plain) -> list[str]:
    return [word for word in count_words([text]) if not {word, word.removeprefix("'")} & plain.words]


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BYTES, CHARACTERS], ids=["pieces", "bytes", "char"])
@pytest.mark.parametrize("prompt", ["", "Zorb the zo", "Tea ca"])
def test_words_of_generated_texts_exist(prompt: str, tokenizer: Tokenizer) -> None:
    plain = Plain(f"{ASCII} {prompt}")
    results = generator(1, tokenizer).generate(prompt, CONFIG, num=8)
    for result in results:
        assert not unknown(written(result), plain)
    (coined, *_) = generator(1, tokenizer).generate(prompt, replace(CONFIG, coin_words=True), num=8)
    assert unknown(coined.text, plain)


def test_without_the_guard_texts_are_as_without_the_words() -> None:
    config = replace(CONFIG, coin_words=True)
    assert [result.ids for result in generator().generate(["", "Zo"], config, 3)] == [
        result.ids for result in Generator(model(), TOKENIZER).generate(["", "Zo"], config, 3)
    ]


def test_each_text_of_a_batch_is_what_it_is_alone() -> None:
    configs = [replace(CONFIG, seed=seed, coin_words=seed % 3 == 0, max_tokens=20 + seed) for seed in range(7)]
    writing = generator()
    together = list(writing.generate_requests([Request("Zorb", config) for config in configs]))
    assert together == [writing.generate("Zorb", config)[0] for config in configs]
    assert "".join(writing.stream("Zorb", configs[1])) == together[1].text


def test_words_are_read_when_a_text_needs_them() -> None:
    read = list[int]()

    def words() -> WordFilter:
        read.append(1)
        return known_words(ASCII)

    writing = Generator(model(), TOKENIZER, read_words=words)
    writing.generate("", replace(CONFIG, coin_words=True))
    assert not read
    writing.generate("", CONFIG)
    writing.generate("", CONFIG)
    assert read == [1]


def test_a_text_that_is_continued_knows_its_words() -> None:
    writing = generator()
    start = writing.read("Zorb the zo")
    for seed in range(5):
        tokens = writing.tokens("", replace(CONFIG, seed=seed), start)
        text = "Zorb the zo" + "".join(token.text for token in tokens)
        assert not unknown(" ".join(text.split(" ")[:-1]), Plain(ASCII + "Zorb"))


@pytest.mark.parametrize("required", ["Zorblax", " qwrt, xyz"])
def test_required_and_biased_words_come(required: str) -> None:
    for seed in range(4):
        (result,) = generator().generate("", replace(CONFIG, seed=seed, require=(required,), max_tokens=60))
        assert required in result.text
    (biased,) = generator().generate("", replace(CONFIG, logit_bias=("Z=50",), max_tokens=60))
    assert "Z" in biased.text


def test_a_search_finds_words_that_exist() -> None:
    config, plain = SamplingConfig(max_tokens=25), Plain(ASCII)
    found = [written(result) for result in generator(12).search("Tea ", config, SearchConfig(4))]
    assert [unknown(text, plain) for text in found] == [[]] * 4
    assert all(len(count_words([text])) > 2 for text in found), "words of the search are among them"
    coined = generator(12).search("Tea ", replace(config, coin_words=True), SearchConfig(4))
    assert [bool(unknown(written(result), plain)) for result in coined] == [True] * 4


def test_a_gap_is_filled_with_words_that_exist_from_its_beginning() -> None:
    """The backward network coins words; the forward network does not."""
    config = ModelConfig(V, embedding_dim=6, hidden_units=8)
    network = NumpyModel(config, random_weights(config))
    filler = Infiller(network, TOKENIZER, network, words=known_words(ASCII))
    texts: dict[str, list[str]] = {"forward": [], "backward": []}
    for result in filler.infill("Tea ", "", replace(CONFIG, logit_bias=(), max_tokens=30), 16, 16):
        texts[result.direction].append(result.text)
    cut = [" ".join(text.split(" ")[:-1]) for text in texts["forward"]]
    ascii_only = [text for text in cut if text.isascii()]
    assert len(ascii_only) > 1
    assert not [word for text in ascii_only for word in unknown(text, Plain(ASCII))]
    assert [word for text in texts["backward"] for word in unknown(text, Plain(ASCII))]


def test_suggestions_are_words_that_exist() -> None:
    suggester = Suggester(model(), TOKENIZER, 9, words=known_words(ASCII))
    for text in ("", "The ", "The c", "Tea, th", "te", "Zorb, the zo"):
        plain = Plain(ASCII + text.rpartition(" ")[0])
        for page in range(3):
            for suggestion in suggester.suggest(text, length=1, page=page):
                assert plain.allows(text + suggestion.text), suggestion
    known = suggester.suggest("Zorb the ", length=8)
    assert known != Suggester(model(), TOKENIZER, 9).suggest("Zorb the ", length=8)
    for suggestion in known:
        assert not unknown(" ".join(suggestion.text.split(" ")[:-1]), Plain(ASCII + "Zorb"))


@settings(max_examples=60, deadline=None)
@given(st.text("athe'éZ0 .狐\n", max_size=12), st.integers(0, 99), st.sampled_from([TOKENIZER, BYTES]))
def test_any_prompt_can_be_continued(prompt: str, seed: int, tokenizer: Tokenizer) -> None:
    (result,) = shared_generator(seed % 4, tokenizer).generate(prompt, replace(CONFIG, seed=seed, max_tokens=30))
    assert result.stop_reason in ("length", "end")

"""Suggestions: probabilities, healing, what is read again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import CountingModel, RecitingModel, as_model
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights
from plain_fakes import TableModel, writable
from sample_text import LINES

from textgen.dataset.word_filter import WordFilter
from textgen.dataset.words import count_words
from textgen.errors import TokenizerError
from textgen.generation.constraints.word_tokens import WordTokens
from textgen.generation.suggestions import READ, RECENT, Suggester
from textgen.generation.text_state import num_bytes
from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.config import TOKENIZERS, TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

KINDS = {kind: train_tokenizer([LINES] * 5, TokenizerConfig(kind)) for kind in TOKENIZERS}


def config_of(tokenizer: Tokenizer) -> ModelConfig:
    return ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)


def suggester(kind: str, num: int = 5) -> Suggester:
    tokenizer = KINDS[kind]
    config = config_of(tokenizer)
    return Suggester(NumpyModel(config, random_weights(config)), tokenizer, num)


def next_probabilities(tokenizer: Tokenizer, ids: list[int]) -> np.ndarray:
    """What may follow `ids`, by the reference: p [V]."""
    weights = {name: value.astype(np.float64) for name, value in random_weights(config_of(tokenizer)).items()}
    logits = reference.forward(weights, np.array([ids]), reference.initial_state(weights, 1))[0][0, -1]
    logits[~writable(tokenizer, ids)] = -np.inf
    p = np.exp(logits - logits.max())
    return p / p.sum()


def test_a_model_that_counts() -> None:
    first, *_ = Suggester(as_model(CountingModel()), ByteTokenizer()).suggest("xyza", length=4)
    assert first.text == "bcde"
    assert first.probability == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("length", "expected"), [(14, " was the end."), (13, " was the"), (9, " was the"), (8, " was")]
)
def test_the_last_word_of_a_document_is_kept_and_one_that_may_go_on_is_not(length: int, expected: str) -> None:
    tokenizer = ByteTokenizer()
    model = RecitingModel([*tokenizer.encode("It was the end."), tokenizer.eos_id])
    first, *_ = Suggester(as_model(model), tokenizer).suggest("It", length=length, temperature=0.0)
    assert first.text == expected


@pytest.mark.parametrize(
    ("after", "cut", "expected"),
    [
        (" iPhone 上面写了很多字，还", "还", " iPhone 上面写了很多字，"),
        (" iPhone 上面 iPhone", "hone", " iPhone 上面"),
        (" 2024 年 12 月", " 月", " 2024 年"),
    ],
)
def test_in_a_script_without_spaces_no_word_is_cut(after: str, cut: str, expected: str) -> None:
    tokenizer = ByteTokenizer()
    model = RecitingModel([*tokenizer.encode(f"在{after}"), tokenizer.eos_id])
    length = len(after.removesuffix(cut).encode())
    first, *_ = Suggester(as_model(model), tokenizer).suggest("在", length=length, temperature=0.0)
    assert first.text == expected


@pytest.mark.parametrize("text", ["", "The c", "dog\n", "床前明"])
def test_the_likeliest_pieces_come_first_and_pages_go_on(text: str) -> None:
    """Of characters none begins with another, so that the last one is never taken back."""
    tokenizer = KINDS["char"]
    p = next_probabilities(tokenizer, [tokenizer.eos_id, *tokenizer.encode(text)])
    p[tokenizer.eos_id] = 0.0
    ranked = np.argsort(-p, kind="stable").tolist()
    for page in range(10):
        expected: dict[str, float] = {}  # two ways to spell a text are one
        for id in ranked[5 * page : 5 * page + 5]:
            expected.setdefault(tokenizer.decoder().feed([id]).partition("\ufffd")[0], p[id])
        expected.pop("", None)  # a part of a character
        found = suggester("char").suggest(text, length=1, page=page)
        assert [s.text for s in found] == list(expected)
        assert [s.probability for s in found] == pytest.approx(list(expected.values()), rel=1e-4)


def test_a_text_that_ends_inside_a_piece_is_healed() -> None:
    """After "The sa" comes what begins with sa, as one piece or in several."""
    tokenizer = KINDS["bpe"]
    ids = [tokenizer.eos_id, *tokenizer.encode("The sa")]
    assert tokenizer.piece_bytes[ids[-1]] == b" sa"
    longer = {text: tokenizer.piece_bytes.index(f" sa{text}".encode()) for text in ("t", "w")}
    p_last, p_next = next_probabilities(tokenizer, ids[:-1]), next_probabilities(tokenizer, ids)
    total = p_last[[ids[-1], *longer.values()]].sum()
    one = suggester("bpe", num=1)
    found = [s for page in range(tokenizer.vocab_size + 2) for s in one.suggest("The sa", length=1, page=page)]
    t = tokenizer.piece_bytes.index(b"t")
    expected = [("t", p_last[longer["t"]] / total), ("w", p_last[longer["w"]] / total)]
    expected += [("t", p_next[t] * p_last[ids[-1]] / total)]
    for text, probability in expected:
        assert any(s.text == text and s.probability == pytest.approx(probability, rel=1e-4) for s in found)


def test_an_unfinished_word_of_a_word_vocabulary() -> None:
    found = {s.text for page in range(9) for s in suggester("word").suggest("The ca", length=1, page=page)}
    assert "t" in found
    assert any(text.startswith(" ") for text in {s.text for s in suggester("word").suggest("The cat", length=1)})
    assert all(not s.text.startswith(" ") for s in suggester("word").suggest("The ", length=2))


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_suggestions_are_text_and_a_text_that_changes_is_read_as_if_it_were_new(kind: str, data: st.DataObject) -> None:
    """Typed, taken back, typed again, by one suggester; another begins each time."""
    one, text = suggester(kind, num=3), ""
    for _ in range(4):
        text = text[: data.draw(st.integers(0, len(text)))] + data.draw(
            st.text(max_size=6) | st.sampled_from(LINES.split())
        )
        text = data.draw(st.sampled_from([text, text, LINES * 2 + text]))
        options = {"length": data.draw(st.integers(1, 6)), "page": data.draw(st.integers(0, 2))}
        found = one.suggest(text, seed=3, **options)
        fresh = suggester(kind, num=3).suggest(text, seed=3, **options)
        assert [s.text for s in found] == [s.text for s in fresh]
        assert [s.probability for s in found] == pytest.approx([s.probability for s in fresh], rel=1e-4)
        assert len({s.text for s in found}) == len(found) <= 3
        assert sorted((s.probability for s in found), reverse=True) == [s.probability for s in found]
        assert all(s.text and "\ufffd" not in s.text and "\n" not in s.text[:-1] for s in found)


def test_long_texts_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = suggester("char")
    read: list[int] = []
    original = one._model.read

    def counting(inputs: np.ndarray, state: object) -> object:
        read.append(inputs.shape[1])
        return original(inputs, state)

    monkeypatch.setattr(one._model, "read", counting)
    text = LINES * 20
    one.suggest(text, length=1)
    assert sum(read) > len(LINES) * 10
    read.clear()
    one.suggest(f"{text}The", length=1)
    one.suggest(f"{text}Th", length=1)
    assert sum(read) <= RECENT
    assert len(one._marks) < len(text) / 10


class Heavy(TableModel):
    """A model whose state takes four megabytes, as one with attention may."""

    def initial_state(self, batch_size: int) -> Any:
        return super().initial_state(batch_size), np.zeros((batch_size, 1 << 20), np.float32)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        return super().read(inputs, state[0]), np.zeros((len(inputs), 1 << 20), np.float32)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        logits, after = super().step(ids, state[0])
        return logits, (after, state[1])


def test_states_along_a_long_text_take_no_more_memory_than_is_meant_for_them() -> None:
    tokenizer = ByteTokenizer()
    heavy = Heavy(tokenizer.vocab_size)
    one, light = (Suggester(model, tokenizer, 3) for model in (heavy, TableModel(tokenizer.vocab_size)))
    for repeats in (1, 40, 80, 80):
        text = "The cat sat on the mat. " * 3 * repeats
        assert one.suggest(text, length=1) == light.suggest(text, length=1)
        assert sum(num_bytes(state) for _, state in one._marks) < (1 << 26) + (RECENT + 2 << 22)
    assert len(light._marks) > READ / 40
    heavy.read_sizes.clear()
    one.suggest(text[:-100], length=1)
    assert sum(size for _, size in heavy.read_sizes) < len(text) / 4, "it goes on from a state on the way"


# === A long text ===

LONG = "The cat sat on the mat.\nThe dog saw it.\n" * 1250  # 50,000 bytes


class Reading(TableModel):
    """A model that keeps what it reads."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.read_ids: list[int] = []

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        self.read_ids += inputs[0].tolist()
        return super().read(inputs, state)


def test_of_a_long_text_the_end_is_read_and_one_more_key_is_one_more_token() -> None:
    tokenizer = ByteTokenizer()
    model = Reading(tokenizer.vocab_size)
    one = Suggester(model, tokenizer, 3)
    one.suggest(LONG, length=1)
    assert READ / 2 < len(model.read_ids) < 2 * READ
    assert model.read_ids[0] == tokenizer.eos_id
    end = tokenizer.decode(model.read_ids[1:])
    assert end.startswith("The ")
    assert f"\n{end}" in LONG[-2 * READ :]
    for number in range(1, 30):
        model.read_ids.clear()
        one.suggest(LONG + "The cat, the dog and the mat: "[:number], length=1)
        assert len(model.read_ids) == 1


@pytest.mark.parametrize("line", ["The cat sat on the mat.\n", "x", "明月"])
def test_a_text_that_grows_is_read_a_bounded_number_of_times(line: str) -> None:
    """As if it were new at each place, also if it is one line."""
    tokenizer = ByteTokenizer()
    model = Reading(tokenizer.vocab_size)
    one, size = Suggester(model, tokenizer, 3), len(line.encode())
    text = line * (3 * READ // size)
    one.suggest(text, length=1)
    model.read_ids.clear()
    keys = 200
    for _ in range(keys):
        text += line
        found = one.suggest(text, length=1)
        assert len(one._read) < 2 * READ + 1
    assert found == Suggester(TableModel(tokenizer.vocab_size), tokenizer, 3).suggest(text, length=1)
    moves = keys * size // READ + 1
    assert len(model.read_ids) < keys * size + moves * 2 * READ


def test_complete_lines_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    encode = ByteTokenizer.encode

    def counting(self: ByteTokenizer, text: str) -> list[int]:
        encoded.append(text)
        return encode(self, text)

    monkeypatch.setattr(ByteTokenizer, "encode", counting)
    tokenizer = ByteTokenizer()
    one = Suggester(TableModel(tokenizer.vocab_size), tokenizer, 3)
    one.suggest(LONG, length=1)
    encoded.clear()
    for end in ("The", "The\n", "The\nc"):
        one.suggest(LONG + end, length=1)
    assert sum(map(len, encoded)) < 100
    other = LONG.replace("dog", "fox") + "The"
    assert one.suggest(other, length=2) == Suggester(one._model, tokenizer, 3).suggest(other, length=2)


def test_words_of_all_of_a_long_text_are_possible_and_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up, read = [], []
    unknown_in, read_text = WordTokens.unknown_in, WordTokens._read

    def counted(self: WordTokens, letters: str) -> frozenset[str]:
        looked_up.append(letters)
        return unknown_in(self, letters)

    def counted_read(self: WordTokens, ids: bytes, given: frozenset[str]) -> Any:
        read.append(ids)
        return read_text(self, ids, given)

    monkeypatch.setattr(WordTokens, "unknown_in", counted)
    monkeypatch.setattr(WordTokens, "_read", counted_read)
    tokenizer, words = ByteTokenizer(), WordFilter.build(list(count_words([LONG])))
    one = Suggester(TableModel(tokenizer.vocab_size), tokenizer, 3, words=words)
    text = f"Zorblax saw it.\n{LONG}"
    assert {found.text for found in one.suggest(f"{text}The zorbla", length=1)} == {"x", "X"}
    assert len(one.suggest(f"{LONG}The zorbla", length=1)) == 3, "any letters may follow a word of no text"
    fresh = Suggester(TableModel(tokenizer.vocab_size), tokenizer, 3, words=words)
    assert fresh.suggest(f"{text}The cat, zo", length=3) == one.suggest(f"{text}The cat, zo", length=3)
    one.suggest(text, length=3)
    for end in ("T", "Th"):
        looked_up.clear()
        read.clear()
        one.suggest(f"{text}{end}", length=3)
        assert sum(map(len, looked_up)) < 100
        assert len(read) <= 5, "without the last token, with it, and with each that may replace it"
        assert sum(map(len, read)) < 100


def test_temperature_and_seed() -> None:
    one = suggester("char")
    assert one.suggest("The ", length=9, temperature=0.0) == one.suggest("The ", length=9, temperature=0.0, seed=1)
    drawn = {tuple(s.text for s in one.suggest("The ", length=9, temperature=1.0, seed=seed)) for seed in range(4)}
    assert len(drawn) == 4
    first = {tuple(s.text[0] for s in one.suggest("The ", length=9, temperature=1.0, seed=seed)) for seed in range(4)}
    assert len(first) == 1


def test_text_that_is_none() -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        suggester("char").suggest("half \udce2", length=1)

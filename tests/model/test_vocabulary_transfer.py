"""Weights for another vocabulary: rows of shared tokens move, others are means of rows, the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.model.stepped_network import State
from textgen.model.vocabulary_transfer import carried_over, shared_tokens, spelled_tokens
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer


class Pieces(Tokenizer):
    """A vocabulary that is listed; the special tokens come first. The longest tokens from the left spell a text."""

    def __init__(self, *pieces: str) -> None:
        super().__init__("word", [b"", b"", b"", *(piece.encode() for piece in pieces)], b"")

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        return [self._spell(text.encode()) for text in texts]

    def _extended(self, more: Sequence[str]) -> Tokenizer:
        raise NotImplementedError

    def _printed_pieces(self) -> list[str]:
        return ["<pad>", "<unk>", "<eos>", *[piece.decode() for piece in self.piece_bytes[3:]]]

    def _spell(self, text: bytes) -> list[int]:
        if not text:
            return []
        found = [id for id, piece in enumerate(self.piece_bytes) if piece and text.startswith(piece)]
        longest = max(found, key=lambda id: len(self.piece_bytes[id]), default=self.unk_id)
        return [longest, *self._spell(text[len(self.piece_bytes[longest]) or 1 :])]


SOURCE, TARGET = Pieces("the", "fox", "ran", "m", "o"), Pieces("ran", "moo", "the", "theory", "fox")
"""In both: the, fox, ran. The source spells moo as m, o, o, and cannot spell theory."""


CONFIG = ModelConfig(8, embedding_dim=3, hidden_units=4, num_layers=1)


def weights(config: ModelConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in config.weight_shapes().items()}


def test_shared_tokens_are_the_special_ones_and_those_of_the_same_name_and_bytes() -> None:
    assert shared_tokens(SOURCE, TARGET) == ([0, 1, 2, 5, 3, 4], [0, 1, 2, 3, 5, 7])
    every = list(range(259))
    assert shared_tokens(ByteTokenizer(), ByteTokenizer()) == (every, every)


def test_new_tokens_are_spelled_unless_the_source_cannot() -> None:
    assert spelled_tokens(SOURCE, TARGET) == {4: [6, 7, 7]}
    assert spelled_tokens(ByteTokenizer(), ByteTokenizer()) == {}


def test_the_spelling_of_a_token_is_its_text() -> None:
    lines = ["the shepherd sang 床前明月光\n"] * 20
    words, chars = (train_tokenizer(lines, TokenizerConfig(kind)) for kind in ("bpe", "char"))
    for source, target in [(chars, words), (words, chars), (ByteTokenizer(), words), (ByteTokenizer(), chars)]:
        spelled, shared = spelled_tokens(source, target), set(shared_tokens(source, target)[1])
        learned = {id for id in range(260, target.vocab_size) if id not in shared}
        assert spelled.keys() >= learned
        for id, ids in spelled.items():
            assert b"".join(source.piece_bytes[their] for their in ids) == target.piece_bytes[id]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_white_space_that_a_vocabulary_of_words_loses_begins_afresh(kind: str) -> None:
    lines = ["the  shepherd\tsang a song\n", "the old  shepherd ran\n"] * 20
    source, target = (train_tokenizer(lines, TokenizerConfig(name)) for name in ("word", kind))
    assert all(spelled_tokens(source, target).values())
    config = replace(CONFIG, vocab_size=target.vocab_size)
    known = weights(replace(CONFIG, vocab_size=source.vocab_size), np.random.default_rng(0))
    ids = np.array(target.encode("".join(lines)), np.int32)
    found = carried_over(config, known, source, target, weights(config, np.random.default_rng(1)), ids)
    assert all(np.isfinite(array).all() for array in found.values())


def test_characters_that_only_bytes_can_spell_begin_afresh() -> None:
    english = train_tokenizer(["the shepherd sang\n"] * 20, TokenizerConfig("char"))
    both = train_tokenizer(["the shepherd sang 床\n"] * 20, TokenizerConfig("char"))
    assert spelled_tokens(english, both) == {}
    new = [id for id, text in enumerate(both.piece_bytes) if text == "床".encode()]
    assert set(new).isdisjoint(shared_tokens(english, both)[1])


@pytest.mark.parametrize("tied", [True, False])
def test_rows_move_or_are_the_mean_of_their_spelling_and_layers_move_whole(tied: bool) -> None:
    rng = np.random.default_rng(0)
    config = replace(CONFIG, tie_embeddings=tied)
    known, fresh = weights(config, rng), weights(config, rng)
    kept = {name: array.copy() for name, array in fresh.items()}
    result = carried_over(config, known, SOURCE, TARGET, fresh, np.full(64, 4, np.int32))
    assert result.keys() == known.keys()
    np.testing.assert_array_equal(result["lstm_0/kernel"], known["lstm_0/kernel"])
    tables: dict[str, Callable[[np.ndarray], np.ndarray]] = {"embedding/table": np.asarray}
    tables |= {} if tied else {"head/kernel": np.transpose}
    for name, rows in tables.items():
        ours, theirs = rows(result[name]), rows(known[name])
        np.testing.assert_array_equal(ours[[0, 1, 2, 3, 5, 7]], theirs[[0, 1, 2, 5, 3, 4]])
        np.testing.assert_allclose(ours[4], (theirs[6] + 2 * theirs[7]) / 3, rtol=1e-6)
        np.testing.assert_array_equal(ours[6], rows(fresh[name])[6])
    for name, array in fresh.items():
        np.testing.assert_array_equal(array, kept[name])  # what was given is not changed


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("trust", [-6.0, 0.0, 6.0])
def test_the_bias_is_the_mix_of_old_and_log_frequency_that_predicts_the_text_best(trust: float, direction: str) -> None:
    """The text is of `the` and `fox`; `trust` is what the model's bias adds to them."""
    rng = np.random.default_rng(0)
    config = replace(CONFIG, direction=direction)
    known, fresh = weights(config, rng), weights(config, rng)
    known["head/bias"][[3, 4]] += trust
    ids = rng.choice([5, 7], 256).astype(np.int32)
    result = carried_over(config, known, SOURCE, TARGET, fresh, ids)
    old = fresh["head/bias"].copy()
    old[[0, 1, 2, 3, 5, 7]] = known["head/bias"][[0, 1, 2, 5, 3, 4]]
    rows = ids.reshape(2, 128)[:, :: -1 if direction == "backward" else 1]
    losses = {}
    for fraction in (0.0, 0.5, 1.0):
        bias = fraction * old + (1 - fraction) * fresh["head/bias"]
        model = NumpyModel(*one_way(config, {**result, "head/bias": bias}, config.directions[0]))
        losses[fraction] = model.token_losses(rows[:, :-1], rows[:, 1:], model.initial_state(2))[0].sum()
    best = min(losses, key=losses.__getitem__)
    assert (best == 1.0) == (trust > 0)
    np.testing.assert_allclose(result["head/bias"], best * old + (1 - best) * fresh["head/bias"], rtol=1e-6)


def test_new_labels_leave_all_other_rows() -> None:
    source = train_tokenizer(["the cat sat\n"] * 20, TokenizerConfig("char"))
    target, rng = source.with_labels(["poe", "tale"]), np.random.default_rng(0)
    shapes = [replace(CONFIG, vocab_size=kind.vocab_size) for kind in (source, target)]
    known, fresh = (weights(shape, rng) for shape in shapes)
    result = carried_over(shapes[1], known, source, target, fresh, np.zeros(0, np.int32))
    for name in ("embedding/table", "head/bias"):
        np.testing.assert_array_equal(result[name][: source.vocab_size], known[name])
        np.testing.assert_array_equal(result[name][source.vocab_size :], fresh[name][source.vocab_size :])


@pytest.mark.parametrize(
    ("direction", "expected"), [("forward", [3, 4, 5]), ("both", [3, 4, 5]), ("backward", [6, 5, 4])]
)
def test_the_text_that_chooses_the_bias_is_read_as_the_network_reads(
    direction: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    features = NumpyModel.features

    def noted(self: NumpyModel, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        read.extend(ids.tolist())
        return features(self, ids, state)

    monkeypatch.setattr(NumpyModel, "features", noted)
    rng, config = np.random.default_rng(0), replace(CONFIG, direction=direction)
    ids = np.arange(3, 7, dtype=np.int32)
    carried_over(config, weights(config, rng), SOURCE, TARGET, weights(config, rng), ids)
    assert read == [expected]

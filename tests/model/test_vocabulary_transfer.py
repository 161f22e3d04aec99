"""Weights for another vocabulary: rows of shared tokens move, others are means of rows, the rest stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from textgen.model.vocabulary_transfer import carried_over, shared_tokens, spelled_tokens
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import ByteTokenizer, Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer


class Pieces(Tokenizer):
    """A vocabulary that is listed; the special tokens come first. The longest tokens from the left spell a text."""

    def __init__(self, *pieces: str) -> None:
        labels = ["<pad>", "<unk>", "<eos>", *pieces]
        super().__init__("word", labels, [b"", b"", b"", *(piece.encode() for piece in pieces)], b"")

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        return [self._spell(text.encode()) for text in texts]

    def _spell(self, text: bytes) -> list[int]:
        if not text:
            return []
        found = [id for id, piece in enumerate(self.piece_bytes) if piece and text.startswith(piece)]
        longest = max(found, key=lambda id: len(self.piece_bytes[id]), default=self.unk_id)
        return [longest, *self._spell(text[len(self.piece_bytes[longest]) or 1 :])]


SOURCE, TARGET = Pieces("the", "fox", "ran", "m", "o"), Pieces("ran", "moo", "the", "theory", "fox")
"""In both: the, fox, ran. The source spells moo as m, o, o, and cannot spell theory."""


def weights(vocab_size: int, rng: np.random.Generator, *, tied: bool) -> dict[str, np.ndarray]:
    shapes = {"embedding/table": (vocab_size, 4), "lstm_0/kernel": (4, 16), "head/bias": (vocab_size,)}
    shapes |= {} if tied else {"head/kernel": (4, vocab_size)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_shared_tokens_are_the_special_ones_and_those_of_the_same_name_and_bytes() -> None:
    assert shared_tokens(SOURCE, TARGET) == ([0, 1, 2, 5, 3, 4], [0, 1, 2, 3, 5, 7])
    every = list(range(259))
    assert shared_tokens(ByteTokenizer(), ByteTokenizer()) == (every, every)


def test_new_tokens_are_spelled_unless_the_source_cannot() -> None:
    assert spelled_tokens(SOURCE, TARGET) == {4: [6, 7, 7]}
    assert spelled_tokens(ByteTokenizer(), ByteTokenizer()) == {}


def test_the_spelling_of_a_token_is_its_text_also_for_bytes_and_pieces_with_spaces() -> None:
    lines = ["the shepherd sang 床前明月光\n"] * 20
    words, chars = (train_tokenizer(lines, TokenizerConfig(kind)) for kind in ("bpe", "char"))
    for source, target in [(chars, words), (words, chars), (ByteTokenizer(), words), (words, ByteTokenizer())]:
        spelled, shared = spelled_tokens(source, target), set(shared_tokens(source, target)[1])
        assert spelled.keys() == {id for id, text in enumerate(target.piece_bytes) if text and id not in shared}
        for id, ids in spelled.items():
            assert b"".join(source.piece_bytes[their] for their in ids) == target.piece_bytes[id]


@pytest.mark.parametrize("tied", [True, False])
def test_rows_move_or_are_the_mean_of_their_spelling_and_layers_move_whole(tied: bool) -> None:
    rng = np.random.default_rng(0)
    known, fresh = weights(8, rng, tied=tied), weights(8, rng, tied=tied)
    kept = {name: array.copy() for name, array in fresh.items()}
    result = carried_over(known, SOURCE, TARGET, fresh)
    assert result.keys() == known.keys()
    np.testing.assert_array_equal(result["lstm_0/kernel"], known["lstm_0/kernel"])
    np.testing.assert_array_equal(result["head/bias"], fresh["head/bias"])  # frequencies in the new text
    tables = {"embedding/table": lambda array: array} | ({} if tied else {"head/kernel": np.transpose})
    for name, rows in tables.items():
        ours, theirs = rows(result[name]), rows(known[name])
        np.testing.assert_array_equal(ours[[0, 1, 2, 3, 5, 7]], theirs[[0, 1, 2, 5, 3, 4]])
        np.testing.assert_allclose(ours[4], (theirs[6] + 2 * theirs[7]) / 3, rtol=1e-6)
        np.testing.assert_array_equal(ours[6], rows(fresh[name])[6])
    for name, array in fresh.items():
        np.testing.assert_array_equal(array, kept[name])  # what was given is not changed


def test_new_labels_leave_the_bias_of_all_other_tokens() -> None:
    source = train_tokenizer(["the cat sat\n"] * 20, TokenizerConfig("char"))
    target, rng = source.with_labels(["poe", "tale"]), np.random.default_rng(0)
    known, fresh = (weights(kind.vocab_size, rng, tied=True) for kind in (source, target))
    result = carried_over(known, source, target, fresh)
    for name in ("embedding/table", "head/bias"):
        np.testing.assert_array_equal(result[name][: source.vocab_size], known[name])
        np.testing.assert_array_equal(result[name][source.vocab_size :], fresh[name][source.vocab_size :])

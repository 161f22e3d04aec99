"""Weights for another vocabulary: rows of shared pieces move, the rest stays."""

from __future__ import annotations

import numpy as np
import pytest

from textgen.model.vocabulary_transfer import carried_over, shared_tokens
from textgen.tokenizer.tokenizer import ByteTokenizer, Tokenizer


class Pieces(Tokenizer):
    """A vocabulary that is listed; the special pieces come first."""

    def __init__(self, *pieces: str) -> None:
        labels = ["<pad>", "<unk>", "<eos>", *pieces]
        super().__init__("word", labels, [b"", b"", b"", *(piece.encode() for piece in pieces)], b"")

    def encode_batch(self, texts: object, num_threads: int = -1) -> list[list[int]]:
        raise NotImplementedError


SOURCE, TARGET = Pieces("the", "fox", "ran"), Pieces("ran", "a", "the", "moon")


def test_shared_pieces_are_the_special_ones_and_those_of_the_same_name_and_bytes() -> None:
    assert shared_tokens(SOURCE, TARGET) == ([0, 1, 2, 5, 3], [0, 1, 2, 3, 5])
    every = list(range(259))
    assert shared_tokens(ByteTokenizer(), ByteTokenizer()) == (every, every)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_shared_pieces_move_and_layers_move_whole(tied: bool) -> None:
    rng = np.random.default_rng(0)

    def weights(vocab_size: int) -> dict[str, np.ndarray]:
        arrays = {"embedding/table": (vocab_size, 4), "lstm_0/kernel": (4, 16), "head/bias": (vocab_size,)}
        arrays |= {} if tied else {"head/kernel": (4, vocab_size)}
        return {name: rng.normal(size=shape) for name, shape in arrays.items()}

    known, fresh = weights(6), weights(7)
    kept = {name: array.copy() for name, array in (known | fresh).items()}
    result = carried_over(known, SOURCE, TARGET, fresh)
    assert result.keys() == known.keys()
    np.testing.assert_array_equal(result["lstm_0/kernel"], known["lstm_0/kernel"])
    theirs, ours, new = [0, 1, 2, 5, 3], [0, 1, 2, 3, 5], [4, 6]
    for name in {"embedding/table", "head/bias"} & result.keys():
        np.testing.assert_array_equal(result[name][ours], known[name][theirs])
        np.testing.assert_array_equal(result[name][new], fresh[name][new])
    if not tied:
        np.testing.assert_array_equal(result["head/kernel"][:, ours], known["head/kernel"][:, theirs])
        np.testing.assert_array_equal(result["head/kernel"][:, new], fresh["head/kernel"][:, new])
    for name, array in fresh.items():
        np.testing.assert_array_equal(array, kept[name])  # what was given is not changed

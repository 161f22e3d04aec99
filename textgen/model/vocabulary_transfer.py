"""Adapts the weights of a model to another vocabulary: rows of tokens that both have are copied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textgen.tokenizer.tokenizer import Tokenizer

VOCAB_AXIS = {"embedding/table": 0, "head/kernel": 1, "head/bias": 0}  # axis of the vocabulary


def shared_tokens(source: Tokenizer, target: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that two vocabularies share.

    Returns:
        Their ids in `source`, and their ids in `target`.
    """
    pairs = {pair: id for id, pair in enumerate(zip(source.pieces(), source.piece_bytes, strict=True))}
    found = [
        (pairs[pair], id)
        for id, pair in enumerate(zip(target.pieces(), target.piece_bytes, strict=True))
        if pair in pairs
    ]
    return [theirs for theirs, _ in found], [ours for _, ours in found]


def carried_over(
    weights: Mapping[str, np.ndarray], source: Tokenizer, target: Tokenizer, fresh: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Weights for a network of the same shape with another vocabulary.

    Args:
        weights: Weights of a model with the vocabulary `source`.
        source: Vocabulary of the model.
        target: Vocabulary of the new network.
        fresh: Initial weights of the new network, used for tokens that only `target` has.
    """
    theirs, ours = shared_tokens(source, target)
    result = dict(weights)
    for name in weights.keys() & VOCAB_AXIS.keys():
        table, known = fresh[name].copy(), weights[name]
        if VOCAB_AXIS[name] == 0:
            table[ours] = known[theirs]
        else:
            table[:, ours] = known[:, theirs]
        result[name] = table
    return result

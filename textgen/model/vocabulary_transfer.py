"""Weights of a model for a vocabulary that is not its own: what both know is carried over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textgen.tokenizer.tokenizer import Tokenizer

VOCAB_AXIS = {"embedding/table": 0, "head/kernel": 1, "head/bias": 0}  # along which pieces stand, by weight


def shared_tokens(source: Tokenizer, target: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of the pieces that both have, first in `source`, then in `target`."""
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
    """The `weights` of a model with vocabulary `source`, for a network of the same shape with vocabulary `target`.

    Pieces that only `target` has are as they are in `fresh`, the weights of that network before training.
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

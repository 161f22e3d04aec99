"""Adapts the weights of a model to another vocabulary.

Rows of tokens that both vocabularies have are copied. The row of another token begins as the mean of the rows of those
tokens with which the model spells its text ("▁shepherd" as "▁she", "p", "herd"), as in the fast vocabulary transfer of
Gee et al. (2022, arXiv:2402.09977).

Another vocabulary changes how often every token occurs, so the bias of the output layer may start again at the log
frequency of each token in the new text, stay as it is, or start halfway: whatever predicts the text best.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textgen.model.config import TABLE, ModelConfig
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.model.probabilities import log_softmax
from textgen.tokenizer.tokenizer import Tokenizer

BIAS = "head/bias"
VOCAB_AXIS = {TABLE: 0, "head/kernel": 1, BIAS: 0}  # axis of the vocabulary
FRACTIONS = (0.0, 0.5, 1.0)  # fractions of a model's bias that are tried, beside log frequencies
ROWS, LENGTH = 16, 128  # rows of tokens on which the fractions are tried, and tokens of a row


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


def spelled_tokens(source: Tokenizer, target: Tokenizer) -> dict[int, list[int]]:
    """The tokens that only `target` has, as `source` spells them.

    Returns:
        For each id in `target` the ids in `source`. Left out are tokens without text, such as labels; words that a
        vocabulary of words does not know, and white space, of which it makes no token; and characters that only the
        bytes of another vocabulary can spell, because a model hardly ever sees those bytes.
    """
    shared = set(shared_tokens(source, target)[1])
    own = {id: text for id, text in enumerate(target.piece_bytes) if text and id not in shared and _is_utf8(text)}
    spelled = zip(own, source.encode_batch([text.decode() for text in own.values()]), strict=True)
    untrained = {source.unk_id}
    if source.first_byte is not None and source.kind != "byte":
        untrained |= {*range(source.first_byte, source.first_byte + 256)}
    return {id: ids for id, ids in spelled if ids and untrained.isdisjoint(ids)}


def carried_over(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    source: Tokenizer,
    target: Tokenizer,
    fresh: Mapping[str, np.ndarray],
    ids: np.ndarray,
) -> dict[str, np.ndarray]:
    """Weights for a network of the same shape with another vocabulary.

    Args:
        config: Shape of the new network.
        weights: Weights of a model with the vocabulary `source`.
        source: Vocabulary of the model. If `target` only adds labels to it, all its rows stay.
        target: Vocabulary of the new network.
        fresh: Initial weights of the new network, with the log frequency of each token as bias of the output layer.
            They are used for tokens that `source` cannot spell.
        ids: Token ids int32 [n] of the new text, or of a part of it.
    """
    (theirs, ours), spelled = shared_tokens(source, target), spelled_tokens(source, target)
    result = dict(weights)
    for name in weights.keys() & VOCAB_AXIS.keys():
        known = np.moveaxis(weights[name], VOCAB_AXIS[name], 0)  # [V, ...]
        rows = np.moveaxis(fresh[name].copy(), VOCAB_AXIS[name], 0)
        rows[ours] = known[theirs]
        if name != BIAS:
            for id, spelling in spelled.items():
                rows[id] = known[spelling].mean(0)
        result[name] = np.moveaxis(rows, 0, VOCAB_AXIS[name])
    if spelled or len(theirs) < source.vocab_size:
        fraction = _best_fraction(config, result, fresh[BIAS], ids)
        result[BIAS] = _between(fresh[BIAS], result[BIAS], fraction)
    return result


def _best_fraction(
    config: ModelConfig, weights: Mapping[str, np.ndarray], frequency: np.ndarray, ids: np.ndarray
) -> float:
    """The fraction of the bias in `weights`, beside `frequency` [V], that predicts the first tokens of a text best."""
    direction = config.directions[0]
    model, count = NumpyModel(*one_way(config, weights, direction)), max(1, min(ROWS, len(ids) // LENGTH))
    length = min(LENGTH, len(ids) // count)
    rows = ids[: count * length].reshape(count, length)[:, :: -1 if direction == "backward" else 1]
    features, _ = model.features(rows[:, :-1], model.initial_state(count))
    nats = dict.fromkeys(FRACTIONS, 0.0)
    for of_row, targets in zip(features, rows[:, 1:], strict=True):
        logits = model.logits(of_row) - weights[BIAS]  # [T, V]
        for fraction in FRACTIONS:
            log_p = log_softmax(logits + _between(frequency, weights[BIAS], fraction))
            nats[fraction] -= float(np.take_along_axis(log_p, targets[:, None], axis=1).sum())
    return min(FRACTIONS, key=nats.__getitem__)


def _between(frequency: np.ndarray, bias: np.ndarray, fraction: float) -> np.ndarray:
    return (1 - fraction) * frequency + fraction * bias


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True

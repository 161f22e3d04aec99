"""Adapts the weights of a model to another vocabulary.

Rows of tokens that both vocabularies have are copied. The row of another token begins as the mean of the rows of those
tokens with which the model spells its text ("▁shepherd" as "▁she", "p", "herd"), as in the fast vocabulary transfer of
Gee et al. (2022, arXiv:2402.09977). Another vocabulary changes how often every token occurs, so the bias of the output
layer starts again at the log frequency of each token in the new text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textgen.tokenizer.tokenizer import Tokenizer

VOCAB_AXIS = {"embedding/table": 0, "head/kernel": 1, "head/bias": 0}  # axis of the vocabulary
BIAS = "head/bias"


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
        For each id in `target` the ids in `source`. Tokens without text, such as labels, are left out, and so are those
        that a vocabulary of words does not know.
    """
    shared = set(shared_tokens(source, target)[1])
    own = {id: text for id, text in enumerate(target.piece_bytes) if text and id not in shared}
    spelled = {id: _spell_bytes(source, text) for id, text in own.items() if not _is_utf8(text)}
    texts = {id: text.decode() for id, text in own.items() if id not in spelled}
    spelled |= zip(texts, source.encode_batch(list(texts.values())), strict=True)
    return {id: ids for id, ids in sorted(spelled.items()) if ids and source.unk_id not in ids}


def carried_over(
    weights: Mapping[str, np.ndarray], source: Tokenizer, target: Tokenizer, fresh: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Weights for a network of the same shape with another vocabulary.

    If `target` only adds labels to `source`, the bias of all other tokens is copied too.

    Args:
        weights: Weights of a model with the vocabulary `source`.
        source: Vocabulary of the model.
        target: Vocabulary of the new network.
        fresh: Initial weights of the new network, with a bias at the log frequency of each token. They are used for
            tokens that `source` cannot spell.
    """
    (theirs, ours), spelled = shared_tokens(source, target), spelled_tokens(source, target)
    result = dict(weights)
    for name in weights.keys() & VOCAB_AXIS.keys():
        known = np.moveaxis(weights[name], VOCAB_AXIS[name], 0)  # [V, ...]
        rows = np.moveaxis(fresh[name].copy(), VOCAB_AXIS[name], 0)
        if name != BIAS or not spelled:
            rows[ours] = known[theirs]
            for id, ids in spelled.items():
                rows[id] = known[ids].mean(0)
        result[name] = np.moveaxis(rows, 0, VOCAB_AXIS[name])
    return result


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _spell_bytes(source: Tokenizer, text: bytes) -> list[int]:
    """Bytes that are only a part of a character; nothing if `source` has no tokens for bytes."""
    return [] if source.first_byte is None else [source.first_byte + byte for byte in text]

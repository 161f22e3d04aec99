"""Tokens that the network takes for similar: nearest by cosine in the input and in the output embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textgen.model.config import TABLE

NUM_TOKENS, NUM_NEIGHBOURS = 40, 6


@dataclass(frozen=True)
class Neighbours:
    """The nearest tokens of one token, nearest first.

    Attributes:
        id: The token.
        inputs: Ids and cosines by the input embedding.
        outputs: The same by the output layer; None if it is tied to the input embedding.
    """

    id: int
    inputs: list[tuple[int, float]]
    outputs: list[tuple[int, float]] | None


def neighbours(weights: Mapping[str, np.ndarray], ids: np.ndarray, of_text: range) -> list[Neighbours]:
    """The nearest tokens of the `NUM_TOKENS` that come most often, or of fewer.

    Args:
        weights: Weights of the network.
        ids: The tokens of a text.
        of_text: Ids of tokens that stand for text. Others are left out, as are tokens that never occur in the text.
    """
    counts = np.bincount(ids, minlength=len(weights[TABLE]))
    counts[: of_text.start] = counts[of_text.stop :] = 0
    order = np.argsort(-counts, kind="stable")[:NUM_TOKENS]
    chosen = order[counts[order] > 0]
    tables = [weights[TABLE]]
    if "head/kernel" in weights:
        tables.append(weights["head/kernel"].T)
    found = [_nearest(table, chosen, counts > 0) for table in tables]
    return [
        Neighbours(int(id), found[0][row], found[1][row] if len(found) > 1 else None) for row, id in enumerate(chosen)
    ]


def _nearest(table: np.ndarray, chosen: np.ndarray, is_there: np.ndarray) -> list[list[tuple[int, float]]]:
    """The nearest tokens of each chosen one, among those of the text: the vectors of rare tokens mean nothing."""
    rows = table / np.maximum(np.linalg.norm(table, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    cosines = rows[chosen] @ rows.T  # [n, V]
    cosines[:, ~is_there] = -2
    cosines[np.arange(len(chosen)), chosen] = -2
    best = np.argsort(-cosines, axis=-1, kind="stable")[:, :NUM_NEIGHBOURS]
    return [[(int(id), float(cosines[row, id])) for id in ids if cosines[row, id] > -2] for row, ids in enumerate(best)]

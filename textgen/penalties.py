"""What makes pieces less likely because of the pieces before: against texts that go in circles.

Pure functions of logits [B, V], settings [B, 1] and the last pieces of each text, ids [B, W], the newest at the end;
-1 stands where there is no piece. `History` keeps those. Only few logits change, so the functions return these alone,
as their rows, ids and values: `logits[rows, ids] = values`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Changes = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, ids and their new logits, [N] each; of several, the last

LONGEST_REPEAT = 50  # pieces of a repetition that DRY counts: its penalty is beyond any logit by then
HIGHEST_PENALTY = 1e6  # nats


def penalties(
    logits: np.ndarray,
    history: np.ndarray,
    repeat_penalty: np.ndarray,
    presence_penalty: np.ndarray,
    frequency_penalty: np.ndarray,
    repeat_last_n: np.ndarray,
) -> Changes:
    """Lowers the logits of pieces among the last `repeat_last_n`.

    The repetition penalty divides a logit above 0 and multiplies one below (Keskar et al. 2019, arXiv:1909.05858);
    then the presence penalty is subtracted once, and the frequency penalty as often as the piece is there.
    """
    history = history[:, -max(int(np.max(repeat_last_n)), 1) :]
    rows, columns = np.nonzero((history >= 0) & (_age(history) < repeat_last_n))
    keys, counts = np.unique(rows * logits.shape[-1] + history[rows, columns], return_counts=True)
    rows, ids = np.divmod(keys, logits.shape[-1])
    value, penalty = logits[rows, ids], repeat_penalty[rows, 0]
    value = np.where(value > 0, value / penalty, value * penalty)
    return rows, ids, value - presence_penalty[rows, 0] - (frequency_penalty[rows, 0] * counts).astype(np.float32)


def dry(
    logits: np.ndarray,
    history: np.ndarray,
    breakers: np.ndarray,
    multiplier: np.ndarray,
    base: np.ndarray,
    allowed_length: np.ndarray,
    last_n: np.ndarray,
) -> Changes:
    """Lowers the logits of pieces that would prolong a repetition ("don't repeat yourself", as in llama.cpp).

    Where the last n pieces of the text stand in it before, the piece that followed them there loses
    multiplier x base^(n - allowed_length), if n is at least the allowed length. `breakers` bool [B, V] are pieces
    that no repetition contains: they end it, and are never made less likely.
    """
    width = history.shape[-1]
    known = (history >= 0) & (_age(history) < last_n) & (multiplier > 0)  # [B, W]
    rows, at = np.nonzero(known[:, :-1] & (history[:, :-1] == history[:, -1:]))
    following, lengths = history[rows, at + 1], np.zeros(len(rows), np.int64)
    alive = np.flatnonzero(~breakers[rows, history[rows, -1]] & ~breakers[rows, following])
    while len(alive):  # the repetition before `at` is longer than `length`
        lengths[alive] += 1
        length = int(lengths[alive[0]])
        alive = alive[(at[alive] >= length) & (length < min(LONGEST_REPEAT, width))]
        row, earlier = rows[alive], at[alive] - length
        same = known[row, earlier] & (history[row, earlier] == history[row, -1 - length])
        alive = alive[same & ~breakers[row, history[row, earlier]]]
    long = lengths >= np.maximum(allowed_length[rows, 0], 1)
    longest_last = np.flatnonzero(long)[np.argsort(lengths[long])]
    rows, following, lengths = rows[longest_last], following[longest_last], lengths[longest_last]
    exponents = np.log(base[rows, 0]) * (lengths - allowed_length[rows, 0]) + np.log(multiplier[rows, 0])
    penalty = np.exp(np.minimum(exponents, np.log(HIGHEST_PENALTY)))
    return rows, following, logits[rows, following] - penalty.astype(np.float32)


class History:
    """The last pieces of each text."""

    def __init__(self, rows: int, width: int) -> None:
        self.ids = np.full((rows, width), -1, np.int64)  # the newest at the end

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Adds many pieces to one text."""
        width = self.ids.shape[-1]
        self.ids[row] = [*self.ids[row], *ids][len(ids) :] if len(ids) < width else ids[len(ids) - width :]

    def append(self, ids: np.ndarray) -> None:
        """Adds a piece to each text, ids [B]."""
        self.ids[:, :-1] = self.ids[:, 1:]
        self.ids[:, -1:] = ids[:, None]

    def clear(self, row: int) -> None:
        """Forgets a text."""
        self.ids[row] = -1


def _age(history: np.ndarray) -> np.ndarray:
    """How many pieces have come since [1, W]: 0 for the newest."""
    return np.arange(history.shape[-1])[None, ::-1]

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
    pieces = np.sort(np.where(_age(history) < repeat_last_n, history, -1), axis=-1)  # equal ones side by side
    first = np.ones(pieces.shape, bool)
    np.not_equal(pieces[:, 1:], pieces[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    counts = np.diff(starts, append=pieces.size)
    rows, ids = starts // pieces.shape[-1], pieces.reshape(-1)[starts]
    there = ids >= 0
    rows, ids, counts = rows[there], ids[there], counts[there]
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
    newest = np.where(multiplier > 0, history[:, -1:], -1)  # [B, 1]
    rows, at = np.divmod(np.flatnonzero(history == newest), width)
    oldest = width - np.minimum(last_n[rows, 0], width)  # columns before it do not count
    counts = (newest[rows, 0] >= 0) & (at >= oldest) & (at < width - 1)
    rows, at, oldest = rows[counts], at[counts], oldest[counts]
    following, lengths = history[rows, at + 1], np.zeros(len(rows), np.int64)
    alive = np.flatnonzero(~breakers[rows, history[rows, -1]] & ~breakers[rows, following])
    while len(alive):  # the repetition before `at` is longer than `length`
        lengths[alive] += 1
        length = int(lengths[alive[0]])
        alive = alive[(at[alive] - length >= oldest[alive]) & (length < min(LONGEST_REPEAT, width))]
        row, earlier = rows[alive], at[alive] - length
        same = (history[row, earlier] >= 0) & (history[row, earlier] == history[row, -1 - length])
        alive = alive[same & ~breakers[row, history[row, earlier]]]
    long = lengths >= np.maximum(allowed_length[rows, 0], 1)
    longest_last = np.flatnonzero(long)[np.argsort(lengths[long])]
    rows, following, lengths = rows[longest_last], following[longest_last], lengths[longest_last]
    exponents = np.log(base[rows, 0]) * (lengths - allowed_length[rows, 0]) + np.log(multiplier[rows, 0])
    penalty = np.exp(np.minimum(exponents, np.log(HIGHEST_PENALTY)))
    return rows, following, logits[rows, following] - penalty.astype(np.float32)


class History:
    """The last W tokens of each text, in a table of twice that width along which they move, so that few are copied."""

    def __init__(self, rows: int, width: int) -> None:
        self._width = self._end = width
        self._table = np.full((rows, 2 * width + 1), -1, np.int32)

    @property
    def ids(self) -> np.ndarray:
        """The tokens, int32 [B, W], the newest at the end; -1 where there is none."""
        return self._table[:, self._end - self._width : self._end]

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Appends several tokens to one text."""
        self.ids[row] = [*self.ids[row], *ids[-self._width :]][-self._width :] if self._width else []

    def append(self, ids: np.ndarray) -> None:
        """Appends a token to each text, ids [B]."""
        if self._end == self._table.shape[-1]:
            self._table[:, : self._width] = self.ids
            self._end = self._width
        self._table[:, self._end] = ids
        self._end += 1

    def clear(self, row: int) -> None:
        """Removes the tokens of one text."""
        self.ids[row] = -1

    def keep(self, rows: np.ndarray, width: int | None = None) -> None:
        """Drops all other texts, and all but the last `width` tokens if a width is given."""
        if width in (None, self._width):
            self._table = self._table[rows]
        else:
            self._begin(self._padded(int(width or 0))[rows])

    def join(self, other: History) -> None:
        """Adds other texts after those that are there; the longer width holds for all."""
        width = max(self._width, other._width)
        self._begin(np.concatenate([self._padded(width), other._padded(width)]))

    def _padded(self, width: int) -> np.ndarray:
        """The last `width` tokens, [B, width]; -1 where there is none."""
        ids = self.ids[:, max(0, self._width - width) :]
        return np.pad(ids, ((0, 0), (width - ids.shape[-1], 0)), constant_values=-1)

    def _begin(self, ids: np.ndarray) -> None:
        self._width = self._end = ids.shape[-1]
        self._table = np.full((len(ids), 2 * self._width + 1), -1, np.int32)
        self._table[:, : self._width] = ids


def _age(history: np.ndarray) -> np.ndarray:
    """How many pieces have come since [1, W]: 0 for the newest."""
    return np.arange(history.shape[-1])[None, ::-1]

"""Penalties on tokens because of earlier tokens, against texts that repeat themselves.

Pure functions of logits [B, V], settings [B, 1] and the last tokens of each text, ids [B, W], the newest at the end; -1
where there is no token. `History` keeps these. Only few logits change, so the functions return those alone, as rows,
ids and values: `logits[rows, ids] = values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Changes = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, ids and new logits, [N] each

NEAR = 512  # tokens; texts that look further back are counted apart, since they would slow down the others
ROOM = 64  # minimum number of spare columns in the table of a history
LONGEST_REPEAT = 50  # tokens of a repetition that DRY counts: by then its penalty exceeds any logit
HIGHEST_PENALTY = 1e6  # highest penalty of DRY in nats


def penalties(
    logits: np.ndarray,
    history: np.ndarray,
    repeat_penalty: np.ndarray,
    presence_penalty: np.ndarray,
    frequency_penalty: np.ndarray,
    repeat_last_n: np.ndarray,
) -> Changes:
    """Lowers the logits of tokens among the last `repeat_last_n`.

    The repetition penalty divides a positive logit and multiplies a negative one (Keskar et al. 2019,
    arXiv:1909.05858); then the presence penalty is subtracted once, and the frequency penalty once for each occurrence.

    Args:
        logits: Logits [B, V].
        history: The last tokens, [B, W].
        repeat_penalty: 1 is off, [B, 1].
        presence_penalty: In nats, [B, 1].
        frequency_penalty: In nats, [B, 1].
        repeat_last_n: Number of tokens that count, [B, 1].

    Returns:
        Rows, ids and new logits of the tokens that change, [N] each.
    """
    is_far = np.minimum(repeat_last_n[:, 0], history.shape[-1]) > NEAR
    groups = [rows for rows in (np.flatnonzero(~is_far), np.flatnonzero(is_far)) if len(rows)]
    settings = (repeat_penalty, presence_penalty, frequency_penalty, repeat_last_n)
    if len(groups) == 1:
        return _penalized(logits, history, *settings)
    parts = []
    for group in groups:
        rows, ids, changed = _penalized(logits[group], history[group], *(values[group] for values in settings))
        parts.append((group[rows], ids, changed))
    rows, ids, changed = (np.concatenate(each) for each in zip(*parts, strict=True))
    return rows, ids, changed


def _penalized(
    logits: np.ndarray,
    history: np.ndarray,
    repeat_penalty: np.ndarray,
    presence_penalty: np.ndarray,
    frequency_penalty: np.ndarray,
    repeat_last_n: np.ndarray,
) -> Changes:
    """The same for texts that look back about equally far."""
    history = history[:, -max(int(np.max(repeat_last_n)), 1) :]  # [B, W], no longer than any text looks back
    tokens = np.sort(np.where(_age(history) < repeat_last_n, history, -1), axis=-1)  # [B, W], equal ones side by side
    first = np.ones(tokens.shape, bool)
    np.not_equal(tokens[:, 1:], tokens[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)  # [M], in the flat tokens, of each group of equal ones
    counts = np.diff(starts, append=tokens.size)
    rows, ids = starts // tokens.shape[-1], tokens.reshape(-1)[starts]
    present = ids >= 0
    rows, ids, counts = rows[present], ids[present], counts[present]  # [N] each
    value, penalty = logits[rows, ids], repeat_penalty[rows, 0]
    value = np.where(value > 0, value / penalty, value * penalty)
    return rows, ids, value - presence_penalty[rows, 0] - (frequency_penalty[rows, 0] * counts).astype(np.float32)


class DrySettings(NamedTuple):
    """Settings of `dry` for each text, [B, 1].

    Attributes:
        multiplier: Strength of the penalty in nats; 0 is off.
        base: Base of its growth with the length of the repetition.
        allowed_length: Shortest repetition that is penalized, in tokens.
        last_n: Number of last tokens in which repetitions are looked for.
    """

    multiplier: np.ndarray
    base: np.ndarray
    allowed_length: np.ndarray
    last_n: np.ndarray


def dry(logits: np.ndarray, history: np.ndarray, breakers: np.ndarray, settings: DrySettings) -> Changes:
    """Lowers the logits of tokens that would prolong a repetition ("don't repeat yourself", as in llama.cpp).

    If the last n tokens of a text occur in it before, the token that followed them there loses
    multiplier * base^(n - allowed_length) nats, provided that n is at least the allowed length.

    Args:
        logits: Logits [B, V].
        history: The last tokens, [B, W].
        breakers: Tokens that end a repetition and are never penalized, bool [B, V].
        settings: Settings of each text.

    Returns:
        Rows, ids and new logits of the tokens that change, [N] each; for a token named twice the last counts.
    """
    rows, following, lengths = repetitions(history, breakers, settings)
    allowed = settings.allowed_length[rows, 0]
    long = np.flatnonzero(lengths >= np.maximum(allowed, 1))
    longest_last = long[np.argsort(lengths[long])]
    rows, following, excess = rows[longest_last], following[longest_last], (lengths - allowed)[longest_last]
    exponents = np.log(settings.base[rows, 0]) * excess + np.log(settings.multiplier[rows, 0])
    penalty = np.exp(np.minimum(exponents, np.log(HIGHEST_PENALTY)))
    return rows, following, logits[rows, following] - penalty.astype(np.float32)


def repetitions(
    history: np.ndarray, breakers: np.ndarray, settings: DrySettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Earlier occurrences of the last tokens.

    Returns:
        Their rows, the tokens that followed them, and their lengths in tokens, [N] each.
    """
    width = history.shape[-1]
    newest = np.where(settings.multiplier > 0, history[:, -1:], -1)  # [B, 1]
    rows, at = np.divmod(np.flatnonzero(history == newest), width)
    oldest = width - np.minimum(settings.last_n[rows, 0], width)  # columns before it do not count
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
    return rows, following, lengths


class History:
    """The last W tokens of each text, in a table with spare columns to avoid copying.

    The table is as wide as the longest text needs, whatever W is.
    """

    _table: np.ndarray
    _end: int  # columns of it that are used
    _held: int  # tokens of the longest text

    def __init__(self, rows: int, width: int) -> None:
        self._width = width
        self._begin(np.zeros((rows, 0), np.int32))

    @property
    def ids(self) -> np.ndarray:
        """The tokens, int32, the newest at the end; -1 where there is none.

        They are [B, W], or as many columns as the longest text has tokens, so that no sampler looks at empty ones.
        There is one column at least, unless W is 0.
        """
        return self._table[:, self._end - min(self._width, max(1, self._held)) : self._end]

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Appends several tokens to one text."""
        if not self._width:
            return
        before = self.ids[row]
        own = np.concatenate([before[before >= 0], np.array(ids[-self._width :], np.int32)])[-self._width :]
        if len(own) > self._held:
            self._begin(self._padded(len(own)))
        table = self.ids
        table[row] = -1
        table[row, table.shape[-1] - len(own) :] = own

    def append(self, ids: np.ndarray) -> None:
        """Appends a token to each text, ids [B]."""
        if self._end == self._table.shape[-1]:
            self._begin(self.ids)
        self._table[:, self._end] = ids
        self._end += 1
        self._held = min(self._width, self._held + 1)

    def clear(self, row: int) -> None:
        """Removes the tokens of one text."""
        self.ids[row] = -1

    def keep(self, rows: np.ndarray, width: int | None = None) -> None:
        """Drops all other texts, and all but the last `width` tokens if a width is given."""
        self._width = self._width if width is None else width
        ids = self._padded(min(self._held, self._width))[rows]
        is_empty = ~(ids >= 0).any(axis=0)
        self._begin(ids[:, int(is_empty.sum()) :])

    def join(self, other: History) -> None:
        """Adds other texts after those that are there; the longer width holds for all."""
        self._width = max(self._width, other._width)
        held = max(self._held, other._held)
        self._begin(np.concatenate([self._padded(held), other._padded(held)]))

    def _padded(self, width: int) -> np.ndarray:
        """The last `width` tokens, [B, width]; -1 where there is none."""
        ids = self.ids
        ids = ids[:, max(0, ids.shape[-1] - width) :]
        return np.pad(ids, ((0, 0), (width - ids.shape[-1], 0)), constant_values=-1)

    def _begin(self, ids: np.ndarray) -> None:
        """Makes a table for these tokens [B, T], with room for as many more."""
        self._held = ids.shape[-1]
        self._end = max(1, self._held)
        self._table = np.full((len(ids), 2 * self._end + ROOM), -1, np.int32)
        self._table[:, self._end - self._held : self._end] = ids


def _age(history: np.ndarray) -> np.ndarray:
    """How many tokens have come since, [1, W]: 0 for the newest."""
    return np.arange(history.shape[-1])[None, ::-1]

"""Penalties on tokens because of earlier tokens, against texts that repeat themselves.

Pure functions of logits [B, V], settings [B, 1] and the last tokens of each text, ids [B, W], the newest at the end; -1
where there is no token. `History` keeps these. Only few logits change, so the functions return those alone, as rows,
ids and values: `logits[rows, ids] = values`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from textgen.generation.sampling.vocabulary_tables import SplitTexts

Entries = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, ids and a value of each, [N] each
Changes = Entries  # rows, ids and new logits

NEAR = 1024  # tokens; texts that look further back are counted apart, since they would slow down the others
ROOM = 64  # minimum number of spare columns in the table of a history
PASSES = 50  # tokens up to which repetitions are measured in all texts at once: longer ones are few
MAX_PENALTY = 1e6  # highest penalty of DRY in nats
UNLIKE_ANY = -2  # in place of a token: equals none, nor the lack of one


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
    rows, ids, counts = _counted(history, repeat_last_n)
    value, penalty = logits[rows, ids], repeat_penalty[rows, 0]
    value = np.where(value > 0, value / penalty, value * penalty)
    return rows, ids, value - presence_penalty[rows, 0] - (frequency_penalty[rows, 0] * counts).astype(np.float32)


def _counted(history: np.ndarray, last_n: np.ndarray) -> Entries:
    """How often each token is among the last ones of a text: rows, ids and counts, [N] each."""
    parts = []
    for group, recent in _groups(history, last_n):
        if recent.shape[-1] > NEAR:  # one text: numbers that are counted in a table need not be sorted
            counts = count_ids(recent[0])  # [largest id + 1]
            ids = np.flatnonzero(counts)
            parts.append((np.full(len(ids), group[0]), ids, counts[ids]))
            continue
        tokens = np.sort(recent, axis=-1)  # [G, L], equal ones side by side
        first = np.ones(tokens.shape, bool)
        np.not_equal(tokens[:, 1:], tokens[:, :-1], out=first[:, 1:])
        starts = np.flatnonzero(first)  # [M], in the flat tokens, of each group of equal ones
        counts = np.diff(starts, append=tokens.size)
        rows, ids = starts // tokens.shape[-1], tokens.reshape(-1)[starts]
        present = ids >= 0
        parts.append((group[rows[present]], ids[present], counts[present]))  # [N] each
    return _joined(parts)


def count_ids(ids: np.ndarray) -> np.ndarray:
    """Returns how often each id from 0 on is among `ids` [N], where negative ones do not count."""
    return np.bincount(ids[ids >= 0])


def _groups(history: np.ndarray, last_n: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The texts that look back, in groups that do not slow each other down.

    Args:
        history: The last tokens, [B, W].
        last_n: Number of tokens that count, [B, 1].

    Yields:
        Rows [G], and their last tokens [G, L] with -1 for those that do not count. If L is above `NEAR`, G is 1.
    """
    windows = np.minimum(last_n[:, 0], history.shape[-1])  # [B]
    near = np.flatnonzero((windows > 0) & (windows <= NEAR))
    if len(near):
        width = int(np.max(windows[near]))
        recent = history[:, -width:] if len(near) == len(history) else history[near, -width:]
        yield near, np.where(np.arange(width)[::-1] < last_n[near], recent, -1)
    for row in np.flatnonzero(windows > NEAR):
        yield np.array([row]), history[row : row + 1, -int(windows[row]) :]


def _joined(parts: Sequence[Entries]) -> Entries:
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int64)
    rows, ids, values = (np.concatenate(each) for each in zip((none, none, none), *parts, strict=True))
    return rows, ids, values


class DrySettings(NamedTuple):
    """Settings of `dry` for each text, [B, 1].

    Attributes:
        multiplier: Strength of the penalty in nats; 0 is off.
        base: Base of its growth with the length of the repetition.
        allowed_length: Longest repetition that is not penalized, in tokens.
        last_n: Number of last tokens in which repetitions are looked for.
    """

    multiplier: np.ndarray
    base: np.ndarray
    allowed_length: np.ndarray
    last_n: np.ndarray


def dry(
    logits: np.ndarray,
    history: np.ndarray,
    breakers: np.ndarray,
    settings: DrySettings,
    texts: Sequence[SplitTexts | None] = (),
) -> Changes:
    """Lowers the logits of tokens that would prolong a repetition ("don't repeat yourself", as in llama.cpp).

    If the last n tokens of a text occur in it before, the token that followed them there would prolong the repetition.
    If n is at least `allowed_length`, that token loses multiplier * base^(n - allowed_length) nats. So a repetition of
    `allowed_length` tokens is not penalized, and a token that would make it longer is.

    Args:
        logits: Logits [B, V].
        history: The last tokens, [B, W].
        breakers: Tokens that end a repetition and are never penalized, bool [B, V].
        settings: Settings of each text.
        texts: Texts that end a repetition where several tokens spell them, for each text [B]; empty if none has any.

    Returns:
        Rows, ids and new logits of the tokens that change, [N] each; for a token named twice the last counts.
    """
    rows, following, lengths = repetitions(history, breakers, settings, texts)
    longest_last = np.argsort(lengths, kind="stable")
    rows, following, lengths = rows[longest_last], following[longest_last], lengths[longest_last]
    exponents = np.log(settings.base)[rows, 0] * (lengths - settings.allowed_length[rows, 0])
    with np.errstate(divide="ignore"):  # a multiplier of 0, where there is no repetition
        exponents += np.log(settings.multiplier)[rows, 0]
    penalty = np.exp(np.minimum(exponents, np.log(MAX_PENALTY)))
    return rows, following, logits[rows, following] - penalty.astype(np.float32)


def repetitions(
    history: np.ndarray, breakers: np.ndarray, settings: DrySettings, texts: Sequence[SplitTexts | None] = ()
) -> Entries:
    """Earlier occurrences of the last tokens that are long enough for a penalty; the arguments are those of `dry`.

    Returns:
        Their rows, the tokens that followed them, and their lengths in tokens, [N] each.
    """
    allowed, is_settled = np.maximum(settings.allowed_length, 1), _settled(settings)
    is_on = (settings.multiplier > 0) & (allowed < np.minimum(settings.last_n, history.shape[-1]))
    parts = []
    for group, recent in _groups(history, np.where(is_on, settings.last_n, 0)):
        lengths = _lengths(recent, breakers, group, is_settled[group, 0])
        rows, at = np.nonzero(lengths >= allowed[group])  # [N] each
        lengths, following = lengths[rows, at], recent[rows, at + 1]
        may_follow = ~breakers[group[rows], following]
        for row in np.unique(rows) if texts else ():
            if own := texts[group[row]]:
                here, ids = rows == row, recent[row][recent[row] >= 0].tolist()
                lengths[here] = np.minimum(lengths[here], np.int64(own.tokens_since(ids)))
                may_follow[here] &= ~own.complete(ids, following[here].tolist())
        may_follow &= lengths >= allowed[group[rows], 0]
        parts.append((group[rows][may_follow], following[may_follow], lengths[may_follow]))
    return _joined(parts)


def _settled(settings: DrySettings) -> np.ndarray:
    """In which texts [B, 1] a repetition of more than `PASSES` tokens gets no higher penalty than one of `PASSES`."""
    exponents = np.log(settings.base) * (PASSES - settings.allowed_length.astype(np.float64))
    with np.errstate(divide="ignore"):  # a multiplier of 0
        exponents += np.log(settings.multiplier)
    is_highest = (exponents >= np.log(MAX_PENALTY)) | (settings.base == 1)
    return is_highest & (settings.allowed_length <= PASSES)


def _lengths(recent: np.ndarray, breakers: np.ndarray, group: np.ndarray, is_settled: np.ndarray) -> np.ndarray:
    """How many tokens before each place, and at it, are the last tokens of the text, up to a breaker: ints [G, L - 1].

    Each pass compares whole texts with one of their last tokens. After `PASSES` of them, texts with longer repetitions
    are measured one by one, which takes about a microsecond for each of the tokens looked at. With `is_settled` [G],
    these lengths are left at `PASSES`.
    """
    last = recent[:, : -1 - PASSES : -1]  # [G, at most PASSES], the newest first
    last = np.where((last < 0) | breakers[group[:, None], last], UNLIKE_ANY, last)
    lengths = np.zeros((len(recent), recent.shape[-1] - 1), np.int8)
    is_alive = np.ones(lengths.shape, bool)
    for length in range(min(PASSES, lengths.shape[-1])):  # `is_alive` begins with the place `length`
        is_alive &= recent[:, : lengths.shape[-1] - length] == last[:, length, None]
        if not is_alive.any():
            break
        lengths[:, length:] += is_alive.view(np.int8)
        is_alive = is_alive[:, 1:]
    if len(longer := np.flatnonzero(is_alive.any(axis=-1) & ~is_settled)):
        lengths = lengths.astype(np.int32)
        for row in longer:
            lengths[row] = _long_lengths(recent[row], breakers[group[row]])
    return lengths


def _long_lengths(recent: np.ndarray, breakers: np.ndarray) -> np.ndarray:
    """What `_lengths` finds in one text [L], by the Z-algorithm (Gusfield 1997, section 1.4): int32 [L - 1].

    Backward, a repetition is the beginning of the text that comes again.
    """
    backward = recent[::-1]
    ends = np.flatnonzero((backward < 0) | breakers[backward])
    size, tokens = len(backward), backward.tolist()
    lengths, left, right = [0] * size, 0, 0  # [left, right) is the repetition that goes on furthest
    for at in range(1, size):
        length = min(lengths[at - left], right - at) if at < right else 0
        while at + length < size and tokens[length] == tokens[at + length]:
            length += 1
        if at + length > right:
            left, right = at, at + length
        lengths[at] = length
    return np.minimum(lengths[:0:-1], ends[0] if len(ends) else size).astype(np.int32)


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

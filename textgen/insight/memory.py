"""How far back a network uses its text, and how long its cells keep what they hold.

A network that starts anew n tokens before a token, from zeros, has n tokens of context; its loss there, less that with
the whole text before it, is what the rest was worth. If the 64 tokens before are there in random order, and nothing
before them, the loss shows what their presence is worth without their order (after Khandelwal et al. 2018,
arXiv:1805.04623, who shuffle all of it). Both are read off windows that start all over the text: the place in a window
is the length of the context. For a short length one token of each window is measured, for a long one the last eighth of
its tokens, whose contexts have nearly that length.

Losses differ much from token to token, so the mean over some hundreds of tokens has an error that is not small against
what far context is worth. Each mean has its standard error over windows. Shuffled tokens are read before some of the
windows only, since they take most of the time; the difference from the same windows without them is added to the mean
over all windows.

The half-life of a cell is ln 2 / -mean(ln f): after this many steps half of its memory is left, f being the
forget gate of an LSTM and the update gate z of a GRU. A plain recurrent network has no such gate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from textgen.insight.estimates import Estimate, estimated
from textgen.insight.reading import Reader, Reading
from textgen.model.clamping import FORGET

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)
SHORT = 16  # maximum length of a context that is measured at one token of a window
SHUFFLED = 64  # maximum number of tokens in random order before a window
MIN_GATE_LOG = -30.0  # minimum logarithm of a forget gate: rounding has closed one below it
MIN_MEMORY_LOSS = 1e-6  # minimum fraction of memory lost in a step: an open gate has a half-life of 693,147 steps


class _Windows(NamedTuple):
    """Windows of one size, from which the lengths above those of the smaller size are read off.

    Attributes:
        size: Maximum number of tokens of a window.
        number: Maximum number of windows.
        shuffled: How many of them are read after shuffled tokens too, at most.
    """

    size: int
    number: int
    shuffled: int


WINDOWS = (_Windows(SHORT, 384, 96), _Windows(64, 48, 12), _Windows(256, 12, 6))


@dataclass(frozen=True, kw_only=True)
class ContextLoss:
    """The loss with a bounded context, less that with the whole text before. NaN stands for what was not measured.

    Attributes:
        lengths: Tokens of context, rising. Above `SHORT`, the mean is over lengths from 7/8 of that.
        dropped: Bits a token lost if all tokens beyond are dropped.
        dropped_error: Standard error of `dropped`.
        num_shuffled: Tokens that are shuffled: 64, in a short text up to half of what stands before its last window.
        shuffled: Bits a token lost if the `num_shuffled` tokens before are in random order, and those before dropped.
        difference_error: Standard error of `shuffled` - `dropped`, both from the same windows.
        places: Tokens at which `dropped` was measured.
        full: Loss with the whole text before, bits per token, over all these places.
        full_at: The same over the places of each length.
    """

    lengths: list[int]
    dropped: list[float]
    dropped_error: list[float]
    num_shuffled: int
    shuffled: list[float]
    difference_error: list[float]
    places: list[int]
    full: float
    full_at: list[float]


class _Measured(NamedTuple):
    """One length of the context: the columns of `ContextLoss`, and the sum of the losses with the whole text."""

    dropped: float
    dropped_error: float
    shuffled: float
    difference_error: float
    places: int
    full_bits: float


def context_loss(reader: Reader, reading: Reading, full_nats: np.ndarray, seed: int = 0) -> ContextLoss:
    """Measures the loss against the length of the context.

    Args:
        reader: The network.
        reading: Its reading of one text of N tokens.
        full_nats: Loss of the token after each token, with the whole text before it, nats [N - 1]; NaN where it does
            not count.
        seed: Seed of the random order.

    Returns:
        The loss at each length of the context.
    """
    ids, rng = reading.ids[0], np.random.default_rng(seed)
    lengths = [length for length in LENGTHS if length <= max(len(ids) // 3, 1)]
    before = min(SHUFFLED, (len(ids) - 1 - lengths[-1]) // 2)
    found, smaller = list[_Measured](), 0
    for windows in WINDOWS:
        if own := [length for length in lengths if smaller < length <= windows.size]:
            found += _measured(reader, ids, full_nats, own, windows, before, rng)
        smaller = windows.size
    places = sum(one.places for one in found)
    return ContextLoss(
        lengths=lengths,
        dropped=[one.dropped for one in found],
        dropped_error=[one.dropped_error for one in found],
        num_shuffled=before,
        shuffled=[one.shuffled for one in found],
        difference_error=[one.difference_error for one in found],
        places=[one.places for one in found],
        full=sum(one.full_bits for one in found) / places if places else math.nan,
        full_at=[one.full_bits / one.places if one.places else math.nan for one in found],
    )


def half_lives(reading: Reading, cell: str) -> list[np.ndarray] | None:
    """The half-life of each cell of each layer in steps, [H]; None for a cell without a gate that keeps."""
    if cell not in FORGET:
        return None
    lives = []
    for values in reading.layers:
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(values[FORGET[cell]][0]), MIN_GATE_LOG).mean(axis=0)
        lives.append(np.log(2) / np.maximum(-logs, MIN_MEMORY_LOSS))
    return lives


def _measured(
    reader: Reader,
    ids: np.ndarray,
    full_nats: np.ndarray,
    lengths: list[int],
    windows: _Windows,
    before: int,
    rng: np.random.Generator,
) -> list[_Measured]:
    """Measures some lengths of the context in windows of the last of them.

    `before` tokens stand before the first window.
    """
    size = lengths[-1]
    last = len(ids) - 1 - size
    apart = len(_columns(size))  # so that no token is measured twice with nearly the same context
    starts = _spread(before, last, min(windows.number, 1 + (last - before) // apart))  # [windows]
    columns = np.concatenate([_columns(length) for length in lengths])
    dropped = _losses(reader, ids, starts, size, columns)  # [windows, columns]
    full = np.stack([full_nats[start : start + size] for start in starts])[:, columns] / np.log(2)
    some = _spread(0, len(starts) - 1, windows.shuffled)
    beyond = np.stack([rng.permutation(ids[start - before : start]) for start in starts[some]])  # [some, before]
    shuffled = _losses(reader, ids, starts[some], size, columns, beyond)
    edges = np.cumsum([len(_columns(length)) for length in lengths])[:-1]
    parts = (np.split(bits, edges, axis=1) for bits in (dropped - full, shuffled - dropped[some], full))
    return [
        _of_length(lost, np.where(np.isnan(bits[some]), np.nan, gained), bits)
        for lost, gained, bits in zip(*parts, strict=True)
    ]


def _of_length(lost: np.ndarray, difference: np.ndarray, full: np.ndarray) -> _Measured:
    """Sums up bits [windows, columns]: lost without the rest, lost by shuffled tokens besides, and with all text."""
    counts = ~np.isnan(full)
    dropped, more = _over_windows(lost), _over_windows(difference)
    places, full_bits = int(counts.sum()), float(full[counts].sum())
    return _Measured(dropped.mean, dropped.error, dropped.mean + more.mean, more.error, places, full_bits)


def _over_windows(values: np.ndarray) -> Estimate:
    """The mean over the windows [windows, columns] in which something counts.

    The losses in one window depend on each other, so the error is that of the means of windows.
    """
    counts = ~np.isnan(values)
    there = counts.any(axis=1)
    return estimated(np.where(counts, values, 0).sum(axis=1)[there] / counts.sum(axis=1)[there])


def _columns(length: int) -> np.ndarray:
    """The places in a window, from 0, at which a length of the context is measured: place n has n + 1 tokens."""
    return np.arange(length - (1 if length <= SHORT else length // 8), length)


def _spread(first: int, last: int, number: int) -> np.ndarray:
    """Whole numbers at equal distances, at most so many."""
    return np.unique(np.linspace(first, last, number).astype(int))


def _losses(
    reader: Reader,
    ids: np.ndarray,
    starts: np.ndarray,
    size: int,
    columns: np.ndarray,
    beyond: np.ndarray | None = None,
) -> np.ndarray:
    """The losses in windows of a text, bits [windows, columns].

    Args:
        reader: The network.
        ids: The text, [N].
        starts: The first token of each window, [windows].
        size: Tokens of a window.
        columns: Places in a window at which the loss is computed.
        beyond: Tokens to read before each window, [windows, n].
    """
    windows = np.stack([ids[start : start + size + 1] for start in starts])  # [windows, size + 1]
    state = None if beyond is None or not beyond.size else reader.read(beyond, keep=()).state
    features = reader.read(windows[:, :-1], state, keep=()).features  # [windows, size, E]
    return reader.losses(features[:, columns], windows[:, 1:][:, columns]) / np.log(2)

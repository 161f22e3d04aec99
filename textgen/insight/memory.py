"""How far back a network uses its text, and how long its cells keep what they hold.

A network that starts anew n tokens before a token, from zeros, has n tokens of context; its loss there, less that with
the whole text before it, is what the rest was worth. If the 64 tokens before are there in random order, and nothing
before them, the loss shows what their presence is worth without their order (after Khandelwal et al. 2018,
arXiv:1805.04623, who shuffle all of it). Both are read off windows that start all over the text: the place in a window
is the length of the context.

The half-life of a cell is ln 2 / -mean(ln f): after this many steps half of its memory is left, f being the
forget gate of an LSTM and the update gate z of a GRU. A plain recurrent network has no such gate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from textgen.insight.reading import Reader, Reading
from textgen.model.clamping import FORGET

NUM_SHORT, SHORT = 96, 16  # windows of few tokens, for the first lengths ...
NUM_LONG = 24  # ... and of many
LENGTHS = (1, 2, 3, 4, 6, 8, 12, SHORT, 32, 64, 128, 256)
STRIDE = 4  # of the places in long windows at which the loss is measured
SHUFFLED = 64  # tokens in random order before a window
SMALLEST_LOG = -30.0  # logarithm of a forget gate that rounding has closed
LEAST_LOSS = 1e-6  # minimum fraction of memory lost in a step: an always open gate has a half-life of 693,147 steps


@dataclass(frozen=True)
class ContextLoss:
    """The loss with a bounded context, less that with the whole text before.

    Attributes:
        lengths: Tokens of context, rising; each is the upper end of a range that starts after the one before.
        dropped: Bits a token lost if all tokens beyond are dropped. NaN where no token that counts was measured.
        shuffled: The same if the 64 before are in random order, and all before them dropped.
        full: Loss with the whole text before, bits per token, over the places at which `dropped` was measured.
    """

    lengths: list[int]
    dropped: list[float]
    shuffled: list[float]
    full: float


def context_loss(reader: Reader, reading: Reading, full_nats: np.ndarray, seed: int = 0) -> ContextLoss:
    """Measures the loss against the length of the context.

    Args:
        reader: The network.
        reading: Its reading of one text of N tokens.
        full_nats: Loss of the token after each token, with the whole text before it, nats [N - 1]; NaN where it does
            not count.
        seed: Seed of the random order.
    """
    ids, rng = reading.ids[0], np.random.default_rng(seed)
    ends = [length for length in LENGTHS if length <= max(len(ids) // 3, 1)]
    long = ends[-1]
    curves: dict[bool, list[float]] = {}
    for is_shuffled in (False, True):
        order = rng if is_shuffled else None
        short, short_full = _losses(reader, ids, full_nats, min(SHORT, long), NUM_SHORT, order)
        places = slice(SHORT + STRIDE - 1, None, STRIDE)  # so that each range has the same fraction of them
        far, far_full = short, short_full
        if long > SHORT:
            far, far_full = _losses(reader, ids, full_nats, long, NUM_LONG, order, places)
        if not is_shuffled:
            full = _mean(np.concatenate([short_full, far_full], axis=None))
        curves[is_shuffled] = [
            _mean(short[:, begin:end] if end <= SHORT else far[:, (begin - SHORT) // STRIDE : (end - SHORT) // STRIDE])
            for begin, end in zip([0, *ends], ends, strict=False)
        ]
    return ContextLoss(ends, curves[False], curves[True], full)


def _mean(values: np.ndarray) -> float:
    """Mean of the numbers among the values; NaN if there is none."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if counted.size else math.nan


def half_lives(reading: Reading, cell: str) -> list[np.ndarray] | None:
    """The half-life of each cell of each layer in steps, [H]; None for a cell without a gate that keeps."""
    if cell not in FORGET:
        return None
    lives = []
    for values in reading.layers:
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(values[FORGET[cell]][0]), SMALLEST_LOG).mean(axis=0)
        lives.append(np.log(2) / np.maximum(-logs, LEAST_LOSS))
    return lives


def _losses(
    reader: Reader,
    ids: np.ndarray,
    full_nats: np.ndarray,
    length: int,
    number: int,
    rng: np.random.Generator | None,
    places: slice = slice(None),
) -> tuple[np.ndarray, np.ndarray]:
    """Bits more than with the full context, and bits with it, [windows, length]: column n has n + 1 tokens of context.

    With `rng` each window follows up to `SHUFFLED` of the tokens before it, in random order: in a short text up to
    half of it, so that there are several windows. Only the columns at `places` are computed.

    Args:
        reader: The network.
        ids: The text, [N].
        full_nats: Loss of the token after each token with the full context, nats [N - 1].
        length: Tokens of a window.
        number: Windows, at most, at equal distances.
        rng: Order of the tokens before a window; None for windows without any.
        places: Columns to compute.
    """
    last = len(ids) - 1 - length
    before = 0 if rng is None else min(SHUFFLED, last // 2)
    starts = np.unique(np.linspace(before, last, number).astype(int))  # [windows]
    windows = np.stack([ids[start : start + length + 1] for start in starts])  # [windows, length + 1]
    state = None
    if rng is not None:
        beyond = np.stack([rng.permutation(ids[start - before : start]) for start in starts])  # [windows, before]
        state = reader.read(beyond, keep=()).state if beyond.size else None
    features = reader.read(windows[:, :-1], state, keep=()).features  # [windows, length, E]
    full = np.stack([full_nats[start : start + length] for start in starts])[:, places]  # [windows, columns]
    lost = reader.losses(features[:, places], windows[:, 1:][:, places]) - full
    return lost / np.log(2), full / np.log(2)

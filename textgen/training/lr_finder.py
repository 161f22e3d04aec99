"""Finds a learning rate for a network and a text: a short run in which it rises until the loss does, too.

After Smith 2017 (arXiv:1506.01186, section 3.3), who raises the rate linearly and looks at the accuracy. Here the rate
grows by the same factor at each update. At first it is too small to learn anything, then the loss falls faster and
faster, until the updates are so large that it rises. The rate at which it falls most steeply is a good peak for a
schedule.

Losses of single batches are noisy, and a running mean of them hardly smooths the first ones. So a fall counts relative
to its standard error, and one that noise explains is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from textgen.errors import TrainingError
from textgen.wording import shell_word

STEPS = 100  # maximum number of updates of a sweep
MIN_RATE_FACTOR, MAX_RATE_FACTOR = 1e-3, 1e3  # first and last learning rate of a sweep, relative to the planned one
DECAY = 0.9  # decay rate of the running mean that smooths the losses
TOO_HIGH = 1.2  # loss that ends the sweep, relative to the first one
SPAN = 5  # updates before and after a rate between which the fall of the loss is measured
CLEAR = 4.0  # standard errors by which the loss must fall, so that it is more than the noise of batches
MIN_NOISY = 10  # minimum number of losses whose noise can be estimated
MAD_OF_NORMAL = 0.6745  # median absolute deviation of the standard normal distribution
PLOT_ROWS, PLOT_COLUMNS = 12, 60


@dataclass(frozen=True)
class Point:
    """One update of a sweep.

    Attributes:
        learning_rate: Learning rate of the update.
        nats_per_token: Smoothed loss before the update.
    """

    learning_rate: float
    nats_per_token: float


def sweep_learning_rates(
    learning_rate: float, batches: Iterable[Any], learn: Callable[[Any, float], float]
) -> list[Point]:
    """Trains with rates rising from far below to far above a given one.

    Ends early if the loss is not finite, or clearly above the first one.

    Args:
        learning_rate: Rate in the middle of the sweep.
        batches: Batches to learn from.
        learn: Updates the weights with a batch and a rate; returns the loss before it, in nats per token.

    Returns:
        The points of the sweep, by rising rate.

    Raises:
        TrainingError: The first loss, which is that of the weights before any update, is not finite.

    Example:
        >>> points = sweep_learning_rates(1.0, range(1000), lambda batch, rate: 3.0)
        >>> len(points), round(points[0].nats_per_token, 6)
        (100, 3.0)
    """
    rates = np.geomspace(MIN_RATE_FACTOR * learning_rate, MAX_RATE_FACTOR * learning_rate, STEPS).tolist()
    points: list[Point] = []
    mean = 0.0
    for number, (batch, rate) in enumerate(zip(islice(batches, STEPS), rates, strict=False), start=1):
        nats = learn(batch, rate)
        mean = DECAY * mean + (1 - DECAY) * nats
        smoothed = mean / (1 - DECAY**number)
        if not math.isfinite(smoothed) or (points and smoothed > TOO_HIGH * points[0].nats_per_token):
            break
        points.append(Point(rate, smoothed))
    if not points:
        raise TrainingError(
            "The loss was not finite before the first update, so no learning rate can be suggested. Start from another "
            "model or from random weights, or set precision to float32."
        )
    return points


def suggestion(points: Sequence[Point]) -> float:
    """The rate at which the loss falls most steeply. Raises `TrainingError` if no fall is more than noise."""
    falls, noise = _falls(np.array([point.nats_per_token for point in points]))
    steepest = int(np.argmax(falls))
    if falls[steepest] <= max(1e-6, CLEAR * noise):
        raise TrainingError(
            "The loss fell at none of the learning rates that were tried, or by no more than it varies from batch to "
            "batch. Check learning_rate, around which they are chosen, or choose a larger batch_size."
        )
    return float(f"{points[steepest].learning_rate:.2g}")


def _falls(nats: np.ndarray) -> tuple[np.ndarray, float]:
    """Compares the falls of smoothed losses [n] with the noise of the losses.

    Returns:
        The fall around each point, [n], in units in which all have the same standard error; and this standard error,
        0 if there are too few losses to tell.
    """
    size, at = len(nats), np.arange(len(nats))
    ages = at[:, None] - at
    means = np.where(ages >= 0, DECAY ** np.maximum(ages, 0), 0.0)
    means /= means.sum(1, keepdims=True)  # nats = means @ losses
    span = min(SPAN, max(1, size // 10))
    before, after = np.maximum(at - span, 0), np.minimum(at + span, size - 1)
    errors = np.linalg.norm(means[after] - means[before], axis=1)  # if those of the losses are 1
    falls = (nats[before] - nats[after]) / np.maximum(errors, 1e-12)
    if size < MIN_NOISY:
        return falls, 0.0
    changes = np.abs(np.diff(np.linalg.solve(means, nats), 2))  # their standard deviation is √6 times the losses'
    return falls, float(np.median(changes)) / (MAD_OF_NORMAL * math.sqrt(6))


def describe(points: Sequence[Point], suggested: float | None, start: str) -> str:
    """Formats a sweep as a table, a plot and the suggested rate, if there is one.

    Args:
        points: The smoothed loss at each rate.
        suggested: The suggested rate; None if there is none.
        start: Model that the sweep started from, or "none": the rate is for a run that starts from the same.

    Returns:
        Lines of text.
    """
    rows = [f"{point.learning_rate:>13.3g}  {point.nats_per_token:.4f}" for point in points[:: max(1, STEPS // 20)]]
    head = "learning rate  nats per token"
    found = [] if suggested is None else ["", f"Suggested: --from {shell_word(start)} --learning-rate {suggested:g}"]
    return "\n".join([head, *rows, "", *plot(points, suggested), *found])


def plot(points: Sequence[Point], suggested: float | None) -> list[str]:
    """Plots a sweep in text: loss upwards, logarithm of the rate to the right, a bar at a suggested rate."""
    nats = np.array([point.nats_per_token for point in points])
    rates = np.log([point.learning_rate for point in points])
    low, high = float(nats.min()), float(nats.max())

    def column(rate: float) -> int:
        fraction = (rate - rates[0]) / max(1e-9, rates[-1] - rates[0])
        return round(min(1.0, max(0.0, fraction)) * (PLOT_COLUMNS - 1))  # a suggestion is rounded, so it may lie beyond

    grid = np.full((PLOT_ROWS, PLOT_COLUMNS), " ")
    if suggested is not None:
        grid[:, column(math.log(suggested))] = "|"
    for rate, value in zip(rates.tolist(), nats.tolist(), strict=True):
        grid[round((high - value) / max(1e-9, high - low) * (PLOT_ROWS - 1)), column(rate)] = "*"
    labels = [f"{high:8.3f} ", *[" " * 9] * (PLOT_ROWS - 2), f"{low:8.3f} "]
    ends = f"{points[0].learning_rate:.2g}", f"{points[-1].learning_rate:.2g}"
    axis = " " * 10 + ends[0] + ends[1].rjust(PLOT_COLUMNS - len(ends[0]))
    return [*(f"{label}|{''.join(row)}" for label, row in zip(labels, grid, strict=True)), axis]

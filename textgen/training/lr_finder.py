"""Finds a learning rate for a network and a text: a short run in which it rises until the loss does, too.

Smith 2017 (arXiv:1506.01186, section 3.3). The rate grows by the same factor at each update. At first it is too small
to learn anything, then the loss falls faster and faster, until the updates are so large that it rises. The rate at
which it falls most steeply is a good peak for a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from textgen.errors import TrainingError

STEPS = 100  # maximum number of updates of a sweep
LOWEST, HIGHEST = 1e-3, 1e3  # first and last learning rate, relative to the planned one
DECAY = 0.9  # decay rate of the running mean that smooths the losses
TOO_HIGH = 1.2  # loss that ends the sweep, relative to the first one
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

    Example:
        >>> points = sweep_learning_rates(1.0, range(1000), lambda batch, rate: 3.0)
        >>> len(points), round(points[0].nats_per_token, 6)
        (100, 3.0)
    """
    rates = np.geomspace(LOWEST * learning_rate, HIGHEST * learning_rate, STEPS).tolist()
    points: list[Point] = []
    mean = 0.0
    for number, (batch, rate) in enumerate(zip(islice(batches, STEPS), rates, strict=False), start=1):
        nats = learn(batch, rate)
        mean = DECAY * mean + (1 - DECAY) * nats
        smoothed = mean / (1 - DECAY**number)
        if not math.isfinite(smoothed) or (points and smoothed > TOO_HIGH * points[0].nats_per_token):
            break
        points.append(Point(rate, smoothed))
    return points


def suggestion(points: Sequence[Point]) -> float:
    """The rate at which the loss falls most steeply. Raises `TrainingError` if it never falls."""
    nats = np.array([point.nats_per_token for point in points])
    slopes = np.gradient(nats) if len(nats) > 1 else np.zeros(1)  # per step of the rate's logarithm
    steepest = int(np.argmin(slopes))
    if slopes[steepest] >= 0:
        raise TrainingError(
            "The loss fell at none of the learning rates that were tried. Check learning_rate: they are "
            "chosen around it."
        )
    return float(f"{points[steepest].learning_rate:.2g}")


def describe(points: Sequence[Point], suggested: float) -> str:
    """Formats a sweep as a table, a plot and the suggested rate."""
    rows = [f"{point.learning_rate:>13.3g}  {point.nats_per_token:.4f}" for point in points[:: max(1, STEPS // 20)]]
    head = "learning rate  nats per token"
    return "\n".join([head, *rows, "", *plot(points, suggested), "", f"Suggested: --learning-rate {suggested:g}"])


def plot(points: Sequence[Point], suggested: float) -> list[str]:
    """Plots a sweep in text: loss upwards, logarithm of the rate to the right, a bar at the suggested rate."""
    nats = np.array([point.nats_per_token for point in points])
    rates = np.log([point.learning_rate for point in points])
    low, high = float(nats.min()), float(nats.max())

    def column(rate: float) -> int:
        share = (rate - rates[0]) / max(1e-9, rates[-1] - rates[0])
        return round(min(1.0, max(0.0, share)) * (PLOT_COLUMNS - 1))  # a suggestion is rounded, so it may lie beyond

    grid = np.full((PLOT_ROWS, PLOT_COLUMNS), " ")
    grid[:, column(math.log(suggested))] = "|"
    for rate, value in zip(rates.tolist(), nats.tolist(), strict=True):
        grid[round((high - value) / max(1e-9, high - low) * (PLOT_ROWS - 1)), column(rate)] = "*"
    labels = [f"{high:8.3f} ", *[" " * 9] * (PLOT_ROWS - 2), f"{low:8.3f} "]
    ends = f"{points[0].learning_rate:.2g}", f"{points[-1].learning_rate:.2g}"
    axis = " " * 10 + ends[0] + ends[1].rjust(PLOT_COLUMNS - len(ends[0]))
    return [*(f"{label}|{''.join(row)}" for label, row in zip(labels, grid, strict=True)), axis]

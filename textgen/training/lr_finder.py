"""Which learning rate suits a network and a text: a short run in which it rises until the loss does, too.

Smith 2017 (arXiv:1506.01186, section 3.3). The rate grows by the same factor at each update. Far too small, nothing
is learned; then the loss falls faster and faster, and at last the updates are so large that it rises. The rate where it
falls most steeply is a good peak for a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from textgen.errors import TrainingError

STEPS = 100  # updates at most
LOWEST, HIGHEST = 1e-3, 1e3  # as shares of the rate that the plan has
MEMORY = 0.9  # of the running mean that smooths the losses
TOO_HIGH = 1.2  # times the first loss: there is nothing more to learn from larger rates
PLOT_ROWS, PLOT_COLUMNS = 12, 60


@dataclass(frozen=True)
class Point:
    """One update of the sweep."""

    learning_rate: float
    nats_per_token: float  # smoothed, of the batch before the update


def sweep(learning_rate: float, batches: Iterable[Any], learn: Callable[[Any, float], float]) -> list[Point]:
    """Raises the rate from far below to far above `learning_rate`; `learn` updates with a batch at a rate -> nats.

    Ends early when the loss is not finite, or clearly above the first one.
    """
    rates = np.geomspace(LOWEST * learning_rate, HIGHEST * learning_rate, STEPS).tolist()
    points: list[Point] = []
    mean = 0.0
    for number, (batch, rate) in enumerate(zip(islice(batches, STEPS), rates, strict=False), start=1):
        nats = learn(batch, rate)
        mean = MEMORY * mean + (1 - MEMORY) * nats
        smoothed = mean / (1 - MEMORY**number)
        if not math.isfinite(smoothed) or (points and smoothed > TOO_HIGH * points[0].nats_per_token):
            break
        points.append(Point(rate, smoothed))
    return points


def suggestion(points: Sequence[Point]) -> float:
    """The rate at which the loss falls most steeply. Raises `TrainingError` where it never falls."""
    nats = np.array([point.nats_per_token for point in points])
    slopes = np.gradient(nats) if len(nats) > 1 else np.zeros(1)  # of equal steps of the rate's logarithm
    steepest = int(np.argmin(slopes))
    if slopes[steepest] >= 0:
        raise TrainingError("The loss fell at no learning rate: is learning_rate, around which they are tried, right?")
    return float(f"{points[steepest].learning_rate:.2g}")


def describe(points: Sequence[Point], suggested: float) -> str:
    """A table, a plot and the suggestion, for people."""
    rows = [f"{point.learning_rate:>13.3g}  {point.nats_per_token:.4f}" for point in points[:: max(1, STEPS // 20)]]
    head = "learning rate  nats a token"
    return "\n".join([head, *rows, "", *plot(points, suggested), "", f"Suggested: --learning-rate {suggested:g}"])


def plot(points: Sequence[Point], suggested: float) -> list[str]:
    """Lines of characters: nats upwards, the logarithm of the rate to the right, the suggestion a bar."""
    nats = np.array([point.nats_per_token for point in points])
    rates = np.log([point.learning_rate for point in points])
    low, high = float(nats.min()), float(nats.max())

    def column(rate: float) -> int:
        return round((rate - rates[0]) / max(1e-9, rates[-1] - rates[0]) * (PLOT_COLUMNS - 1))

    grid = np.full((PLOT_ROWS, PLOT_COLUMNS), " ")
    grid[:, column(math.log(suggested))] = "|"
    for rate, value in zip(rates.tolist(), nats.tolist(), strict=True):
        grid[round((high - value) / max(1e-9, high - low) * (PLOT_ROWS - 1)), column(rate)] = "*"
    labels = [f"{high:8.3f} ", *[" " * 9] * (PLOT_ROWS - 2), f"{low:8.3f} "]
    ends = f"{points[0].learning_rate:.2g}", f"{points[-1].learning_rate:.2g}"
    axis = " " * 10 + ends[0] + ends[1].rjust(PLOT_COLUMNS - len(ends[0]))
    return [*(f"{label}|{''.join(row)}" for label, row in zip(labels, grid, strict=True)), axis]

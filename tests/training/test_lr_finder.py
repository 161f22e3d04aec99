"""The sweep of learning rates, on losses that are known."""

from __future__ import annotations

import math
from itertools import pairwise, repeat
from typing import Any

import numpy as np
import pytest

from textgen.errors import TrainingError
from textgen.training.lr_finder import (
    PLOT_COLUMNS,
    PLOT_ROWS,
    STEPS,
    Point,
    describe,
    plot,
    suggestion,
    sweep_learning_rates,
)


def curve(steepest: float) -> list[Point]:
    """Losses that fall most steeply, in the rate's logarithm, at one rate."""
    rates = [10 ** (-6 + number / 10) for number in range(60)]
    return [Point(rate, 5 - 2 / (1 + (steepest / rate) ** 2)) for rate in rates]


@pytest.mark.parametrize("steepest", [1e-4, 1e-2])
def test_the_rate_where_the_loss_falls_most_steeply_is_suggested(steepest: float) -> None:
    assert suggestion(curve(steepest)) == pytest.approx(steepest, rel=0.3)


def test_rates_rise_by_one_factor_around_the_planned_one() -> None:
    points = sweep_learning_rates(0.01, repeat(None), lambda batch, rate: 3.0)
    assert len(points) == STEPS
    assert [point.nats_per_token for point in points] == pytest.approx([3.0] * STEPS)
    rates = [point.learning_rate for point in points]
    assert [rates[0], rates[-1]] == pytest.approx([1e-5, 10.0])
    factors = [later / rate for rate, later in pairwise(rates)]
    assert factors == pytest.approx([factors[0]] * (STEPS - 1))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e9])
def test_a_loss_that_explodes_ends_the_sweep(wrong: float) -> None:
    seen: list[float] = []

    def learn(batch: Any, rate: float) -> float:
        seen.append(rate)
        return wrong if len(seen) == 30 else 4.0

    assert len(sweep_learning_rates(1.0, repeat(None), learn)) == 29
    assert len(seen) == 30


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_first_loss_that_is_not_finite_is_one_clear_line(wrong: float) -> None:
    with pytest.raises(TrainingError, match="not finite before the first update"):
        sweep_learning_rates(1.0, repeat(None), lambda batch, rate: wrong)


def noisy_sweep(seed: int, steepest: float, fall: float = 2.0) -> list[Point]:
    """A sweep around a rate of 0.01, with losses that fall most steeply at one rate and vary from batch to batch."""
    rng = np.random.default_rng(seed)

    def learn(batch: Any, rate: float) -> float:
        return 5 - fall / (1 + steepest / rate) + 0.05 * rng.normal()

    return sweep_learning_rates(0.01, repeat(None), learn)


@pytest.mark.parametrize("steepest", [0.003, 0.03])
def test_noise_of_batches_is_not_suggested(steepest: float) -> None:
    """Least of all that of the first losses, which are hardly smoothed."""
    suggested = [suggestion(noisy_sweep(seed, steepest)) for seed in range(8)]
    assert max(abs(math.log(rate / steepest)) for rate in suggested) < math.log(5)


def test_a_fall_that_noise_explains_is_none() -> None:
    for seed in range(8):
        with pytest.raises(TrainingError, match=r"fell at none .* batch to batch\. Check learning_rate"):
            suggestion(noisy_sweep(seed, 0.01, fall=0.0))


@pytest.mark.parametrize("points", [[Point(1.0, 3.0)], [Point(1.0, 3.0), Point(2.0, 3.0)], [Point(1, 3), Point(2, 4)]])
def test_a_loss_that_never_falls_suggests_nothing(points: list[Point]) -> None:
    with pytest.raises(TrainingError, match="fell at none of the learning rates"):
        suggestion(points)


def test_the_plot_marks_losses_and_the_suggestion() -> None:
    points = curve(1e-3)
    lines = plot(points, 1e-3)
    assert len(lines) == PLOT_ROWS + 1
    assert {len(line) for line in lines} == {PLOT_COLUMNS + 10}
    assert lines[0].startswith("   5.000 |*")
    assert lines[-2].rstrip().endswith("*")
    assert sum(line[10:].count("*") for line in lines[:-1]) == PLOT_COLUMNS
    assert describe(points, 1e-3, "english").endswith("\nSuggested: --from english --learning-rate 0.001")
    assert describe(points, 1e-3, "my novel").endswith("\nSuggested: --from 'my novel' --learning-rate 0.001")
    assert "Suggested" not in describe(points, None, "none")


@pytest.mark.parametrize(
    ("rates", "nats", "column"),
    [([0.1044, 0.1155], [3.0, 2.9], 0), ([0.10, 0.108, 0.1155], [3.0, 2.99, 2.8], -1)],
)
def test_a_suggestion_that_is_rounded_beyond_the_rates_is_at_their_end(
    rates: list[float], nats: list[float], column: int
) -> None:
    points = [Point(rate, loss) for rate, loss in zip(rates, nats, strict=True)]
    bars = [line[10:][column] for line in plot(points, suggestion(points))[:-1]]
    assert bars.count("|") == PLOT_ROWS - 1  # one of them is the loss

"""Learning rates against their closed forms, and against PyTorch's where that has the same schedule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from textgen.errors import ConfigError
from textgen.training.config import SCHEDULES, TrainingConfig
from textgen.training.schedules import scheduled_learning_rate, total_steps, warmup_limit


def config(schedule: str, **settings: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "learning_rate": 1.0,
        "warmup_fraction": 0.0,
        "final_learning_rate_fraction": 0.2,
    } | settings
    return TrainingConfig(schedule=schedule, **values)


def test_schedules_at_their_corners() -> None:
    settings = TrainingConfig(learning_rate=1.0, warmup_fraction=0.1, final_learning_rate_fraction=0.2)
    for schedule, middle in (("cosine", 0.6), ("linear", 0.6), ("constant", 1.0)):
        changed = replace(settings, schedule=schedule)
        assert scheduled_learning_rate(changed, 0.0) == 0.0
        assert scheduled_learning_rate(changed, 0.05) == pytest.approx(0.5)
        assert scheduled_learning_rate(changed, 0.1) == pytest.approx(1.0)
        assert scheduled_learning_rate(changed, 0.55) == pytest.approx(middle)
        assert scheduled_learning_rate(changed, 1.0) == pytest.approx(1.0 if schedule == "constant" else 0.2)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (config("exponential"), {0.0: 1.0, 0.25: 0.2**0.25, 0.5: math.sqrt(0.2), 1.0: 0.2}),
        (config("exponential", hold_fraction=0.5), {0.3: 1.0, 0.5: 1.0, 0.75: math.sqrt(0.2), 1.0: 0.2}),
        (
            config("step", num_decays=3),
            {0.0: 1.0, 0.24: 1.0, 0.26: 0.5, 0.49: 0.5, 0.51: 0.25, 0.76: 0.125, 1.0: 0.125},
        ),
        (config("step", num_decays=1, decay_factor=0.1, hold_fraction=0.5), {0.74: 1.0, 0.76: 0.1, 1.0: 0.1}),
        (config("inverse-sqrt", warmup_fraction=0.04), {0.02: 0.5, 0.04: 1.0, 0.16: 0.5, 0.64: 0.25, 1.0: 0.2}),
        (config("inverse-sqrt", warmup_fraction=0.04, hold_fraction=0.1), {0.1: 1.0, 0.14: 1.0, 0.26: 0.5}),
        (
            config("triangular", num_cycles=2),
            {0.0: 0.2, 0.125: 0.6, 0.25: 1.0, 0.375: 0.6, 0.5: 0.2, 0.75: 1.0, 1.0: 0.2},
        ),
        (config("triangular", num_cycles=1, warmup_fraction=0.5), {0.25: 0.1, 0.5: 0.2, 0.75: 1.0}),
        (config("one-cycle"), {0.0: 0.04, 0.15: 0.52, 0.3: 1.0, 0.65: 0.6, 1.0: 0.2}),
        (
            config("linear", warmup_fraction=0.1, hold_fraction=0.4),
            {0.05: 0.5, 0.1: 1.0, 0.5: 1.0, 0.75: 0.6, 1.0: 0.2},
        ),
        (config("cosine", hold_fraction=1.0), {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
        (config("one-cycle", hold_fraction=0.5), {0.0: 0.04, 0.075: 0.52, 0.15: 1.0, 0.65: 1.0, 0.825: 0.6, 1.0: 0.2}),
        (config("one-cycle", hold_fraction=0.4, warmup_fraction=0.2), {0.2: 0.04, 0.32: 1.0, 0.72: 1.0, 0.86: 0.6}),
        (
            config("triangular", num_cycles=2, hold_fraction=0.2),
            {0.0: 0.2, 0.1: 0.6, 0.2: 1.0, 0.4: 1.0, 0.5: 0.6, 0.6: 0.2, 0.8: 1.0, 1.0: 0.2},
        ),
    ],
    ids=lambda value: value.schedule if isinstance(value, TrainingConfig) else "",
)
def test_schedules_are_their_closed_forms(settings: TrainingConfig, expected: dict[float, float]) -> None:
    for progress, rate in expected.items():
        assert scheduled_learning_rate(settings, progress) == pytest.approx(rate), progress


@pytest.mark.parametrize("schedule", ["one-cycle", "triangular"])
@pytest.mark.parametrize(("warmup", "hold"), [(0.0, 1.0), (0.5, 0.5), (0.7, 0.6)])
def test_a_schedule_that_rises_itself_needs_time_for_it(schedule: str, warmup: float, hold: float) -> None:
    """Otherwise the first update after the warm-up, which ends far below the peak, would have the peak."""
    with pytest.raises(ConfigError, match="sum of warmup_fraction and hold_fraction must be below 1"):
        config(schedule, warmup_fraction=warmup, hold_fraction=hold)
    assert config("cosine", warmup_fraction=warmup, hold_fraction=hold)
    part = 0.9 / (warmup + hold)
    below = config(schedule, warmup_fraction=part * warmup, hold_fraction=part * hold)
    rates = [scheduled_learning_rate(below, step / 10_000) for step in range(10_001)]
    assert max(after - before for before, after in itertools.pairwise(rates)) < 0.02


def test_plateau_is_lowered_at_each_reduction() -> None:
    settings = config("plateau", decay_factor=0.25, warmup_fraction=0.1)
    assert scheduled_learning_rate(settings, 0.05) == pytest.approx(0.5)
    assert [scheduled_learning_rate(settings, 0.5, n) for n in range(3)] == [1.0, 0.25, 0.0625]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_stay_between_nothing_and_the_peak_and_the_warm_up_meets_the_schedule(schedule: str) -> None:
    settings = config(schedule, warmup_fraction=0.1, hold_fraction=0.1)
    rates = [scheduled_learning_rate(settings, n / 1000) for n in range(1001)]
    assert rates[0] == 0.0
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(rates[101], abs=0.02)


TORCH: dict[str, tuple[TrainingConfig, Callable[[Any, Any], Any]]] = {
    "cosine": (config("cosine"), lambda torch, sgd: torch.CosineAnnealingLR(sgd, 100, eta_min=0.2)),
    "linear": (config("linear"), lambda torch, sgd: torch.LinearLR(sgd, 1.0, 0.2, 100)),
    "exponential": (config("exponential"), lambda torch, sgd: torch.ExponentialLR(sgd, 0.2**0.01)),
    "step": (config("step", num_decays=3), lambda torch, sgd: torch.StepLR(sgd, 25, 0.5)),
    "triangular": (
        config("triangular", num_cycles=2),
        lambda torch, sgd: torch.CyclicLR(sgd, 0.2, 1.0, step_size_up=25, cycle_momentum=False),
    ),
    "one-cycle": (
        config("one-cycle"),
        lambda torch, sgd: torch.OneCycleLR(sgd, 1.0, 101, pct_start=31 / 101, final_div_factor=0.2, div_factor=25),
    ),
}


@pytest.mark.oracles("torch")
@pytest.mark.parametrize("schedule", TORCH)
def test_schedules_are_pytorch_s(schedule: str) -> None:
    import torch

    settings, make = TORCH[schedule]
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = make(torch.optim.lr_scheduler, sgd)
    for step in range(100):
        assert scheduled_learning_rate(settings, step / 100) == pytest.approx(sgd.param_groups[0]["lr"], abs=1e-6), step
        sgd.step()
        theirs.step()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"schedule": "inverse-sqrt", "warmup_fraction": 0.0}, "warmup_fraction"),
        ({"schedule": "exponential", "final_learning_rate_fraction": 0}, "final_learning_rate_fraction"),
    ],
)
def test_schedules_that_cannot_be(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=f"{settings['schedule']}.*set {word} above 0"):
        TrainingConfig(**settings)


def test_a_run_of_nothing_but_warm_up_only_rises() -> None:
    settings = TrainingConfig(learning_rate=1.0, warmup_fraction=1.0)
    assert [scheduled_learning_rate(settings, p) for p in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]


def test_the_warm_up_of_a_run_that_is_limited_by_time_takes_a_number_of_updates() -> None:
    timed = TrainingConfig(learning_rate=1.0, minutes=1.0, epochs=None)
    assert [warmup_limit(timed, step, math.inf) for step in (1, 5, 24, 25, 1000)] == [
        0.04,
        0.2,
        0.96,
        math.inf,
        math.inf,
    ]
    assert [warmup_limit(timed, step, 100) for step in (1, 5, 10)] == [0.1, 0.5, math.inf]  # a tenth of few updates
    assert warmup_limit(timed, 1, 5) == math.inf
    slow = [warmup_limit(timed, step, math.inf, seconds) for step, seconds in ((1, 0.0), (2, 3.0), (3, 6.0))]
    assert slow == [0.04, 0.5, math.inf]  # a tenth of the time
    assert warmup_limit(replace(timed, warmup_fraction=0.0), 1, math.inf) == math.inf
    assert warmup_limit(replace(timed, minutes=None, steps=1000), 1, 1000) == math.inf


def test_the_budget_in_steps() -> None:
    assert total_steps(TrainingConfig(epochs=2.5), 10) == 25
    assert total_steps(TrainingConfig(steps=7), 10) == 7
    assert total_steps(TrainingConfig(epochs=0.01), 10) == 1
    assert total_steps(TrainingConfig(minutes=1.0), 10) == math.inf
    assert total_steps(TrainingConfig(steps=7, epochs=0.5), 10) == 5

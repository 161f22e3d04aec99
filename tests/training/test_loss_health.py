"""Which losses take a run back, and which it lives with."""

from __future__ import annotations

import math

import numpy as np

from textgen.training.loss_health import HIGH_STEPS, MAX_LEFT_OUT, Health
from textgen.training.loss_scale import MAX_SCALE, MIN_SCALE, PATIENT_STEPS, LossScale


def noted(health: Health, losses: list[float]) -> list[int]:
    """Where in `losses` the run would go back."""
    return [number for number, nats in enumerate(losses) if health.record(nats, math.isfinite(nats))]


LEARNING = [5.0 * 0.99**n for n in range(150)]


def test_a_run_that_learns_has_no_fault() -> None:
    assert noted(Health(), LEARNING) == []


def test_single_updates_are_left_out_and_counted() -> None:
    health = Health()
    assert noted(health, [5.0, math.nan, 4.0, math.inf, math.nan, 4.0] * 3) == []
    assert health.left_out == 9


def test_a_window_without_targets_at_the_beginning_is_not_what_later_losses_are_compared_with() -> None:
    assert noted(Health(), [0.0, *LEARNING]) == []
    assert noted(Health(), [0.0, *LEARNING, *[5.1] * HIGH_STEPS]) == [len(LEARNING) + HIGH_STEPS]


def test_several_in_a_row_are_a_fault() -> None:
    assert noted(Health(), [5.0, *[math.nan] * MAX_LEFT_OUT]) == [MAX_LEFT_OUT]
    assert noted(Health(), [math.nan] * MAX_LEFT_OUT) == [MAX_LEFT_OUT - 1]


def test_a_loss_that_stays_above_the_first_is_a_fault_once_something_was_learnt() -> None:
    assert noted(Health(), [*LEARNING, *[5.1] * HIGH_STEPS]) == [len(LEARNING) + HIGH_STEPS - 1]
    assert noted(Health(), [*LEARNING, *[5.1] * (HIGH_STEPS - 1), 4.9, *[5.1] * (HIGH_STEPS - 1)]) == []
    assert noted(Health(), [5.0, *[5.5] * 50]) == []


def test_hard_passages_are_none() -> None:
    assert noted(Health(), [*LEARNING, *[4.9] * 100]) == []


def test_the_loss_scale_halves_on_overflow_and_doubles_when_long_without() -> None:
    scale = LossScale(8.0)
    assert scale.record(is_finite=False)
    assert scale.scale == 4.0
    assert not any(scale.record(is_finite=True) for _ in range(PATIENT_STEPS - 1))
    assert scale.scale == 4.0
    scale.record(is_finite=True)
    assert scale == LossScale(8.0)


def test_the_loss_scale_has_bounds_beyond_which_it_is_not_to_blame() -> None:
    scale = LossScale(MIN_SCALE)
    assert not scale.record(is_finite=False)
    assert np.isfinite(np.float16(MAX_SCALE))  # it multiplies gradients that are float16
    highest = LossScale(MAX_SCALE, PATIENT_STEPS - 1)
    highest.record(is_finite=True)
    assert highest.scale == MAX_SCALE


def test_the_steps_without_overflow_are_counted_anew_after_one() -> None:
    scale = LossScale(8.0)
    for _ in range(PATIENT_STEPS - 1):
        scale.record(is_finite=True)
    scale.record(is_finite=False)
    scale.record(is_finite=True)
    assert scale == LossScale(4.0, steps=1)

"""The speed of a run, without the steps that are compiled."""

from __future__ import annotations

import pytest

from textgen.training.stopwatch import SpeedMeter


def test_the_first_step_of_a_process_does_not_count() -> None:
    meter = SpeedMeter()
    shown = [meter.add(speed) for speed in (10.0, *[1000.0] * 10)]
    assert shown == [10.0, *[pytest.approx(1000.0)] * 10]


def test_the_mean_is_of_all_steps_at_first_and_then_of_the_newest() -> None:
    meter = SpeedMeter()
    shown = [meter.add(speed) for speed in (1.0, 100.0, 300.0, *[500.0] * 200)]
    assert shown[2] == pytest.approx((0.95 * 100 + 300) / 1.95)
    assert shown[-1] == pytest.approx(500.0, rel=1e-3)


def test_the_full_softmax_after_a_sampled_one_has_a_speed_of_its_own() -> None:
    """Its first step is compiled, too; until the second, the last speed is shown."""
    meter = SpeedMeter()
    for speed in (10.0, *[1000.0] * 10):
        meter.add(speed, is_sampled=True)
    shown = [meter.add(speed, is_sampled=False) for speed in (20.0, 400.0, 400.0)]
    assert shown == [pytest.approx(1000.0), pytest.approx(400.0), pytest.approx(400.0)]


def test_each_length_of_the_windows_is_compiled_once() -> None:
    meter = SpeedMeter()
    steps = [(10.0, 1.0), (1000.0, 1.0), (20.0, 0.5), (1000.0, 1.0), (1000.0, 0.5)]
    assert [meter.add(speed, window_fraction=fraction) for speed, fraction in steps][1:] == [pytest.approx(1000.0)] * 4

"""A few steps recorded for TensorBoard's profiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from textgen.reports import StepReport
from textgen.runtime import load_tensorflow

load_tensorflow()
from textgen.profiler import Profiler  # noqa: E402


def step(number: int) -> StepReport:
    return StepReport(number, 0.5, 0.1, 2.0, 1e-3, 0.7, {}, 12345.0, 61.0)


@pytest.mark.parametrize("steps", [2, 100])
def test_a_profile_is_recorded_also_when_the_run_ends_early(steps: int, tmp_path: Path) -> None:
    profiler = Profiler(tmp_path, steps)
    for number in range(1, 14):
        profiler.on_step(step(number))
        done = bool(list(tmp_path.glob("plugins/profile/*/*.xplane.pb")))
        assert done == (number >= 12 and steps == 2)
    profiler.on_end()
    profiler.on_end()
    assert len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))) == 1


def test_a_run_that_is_too_short_has_no_profile(tmp_path: Path) -> None:
    profiler = Profiler(tmp_path, 1)
    profiler.on_step(step(1))
    profiler.on_end()
    assert not list(tmp_path.iterdir())

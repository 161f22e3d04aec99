"""A few steps recorded for TensorBoard's profiler."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

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


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (0, "and there were 0."),
        (1, "and there were 1."),
        (10, "and there were 10."),
        (11, ""),
        (12, ""),
        (20, ""),
    ],
)
def test_a_run_that_is_too_short_for_a_profile_says_so(
    run: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.profiler.tf", MagicMock())
    lines: list[str] = []
    profiler = Profiler(tmp_path, 2, lines.append)
    for number in range(1, run + 1):
        profiler.on_step(step(number))
    profiler.on_end()
    assert len(lines) == bool(said)
    assert all(line.startswith("No step was recorded: ") and line.endswith(said) for line in lines)

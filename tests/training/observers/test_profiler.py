"""A few steps recorded for TensorBoard's profiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from textgen.system.runtime import load_tensorflow
from textgen.training.observers.observer import StepReport

load_tensorflow()
from textgen.training.observers.profiler import SKIPPED, Profiler  # noqa: E402


def step(number: int) -> StepReport:
    return StepReport(number, 0.5, 0.1, 2.0, 1e-3, 0.7, {}, 12345.0, 61.0)


def recorded(folder: Path) -> list[int]:
    """The steps whose marks are in the recordings of a folder."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    steps: list[int] = []
    for file in folder.glob("plugins/profile/*/*.xplane.pb"):
        for plane in XSpace.FromString(file.read_bytes()).planes:
            events = [event for line in plane.lines for event in line.events]
            marks = [event for event in events if plane.event_metadata[event.metadata_id].name == "train"]
            stats = [stat for mark in marks for stat in mark.stats]
            steps += [stat.int64_value for stat in stats if plane.stat_metadata[stat.metadata_id].name == "step_num"]
    return sorted(steps)


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


@pytest.mark.parametrize("run", [0, 1, SKIPPED, SKIPPED + 1, SKIPPED + 2, 2 * SKIPPED])
def test_a_run_that_is_too_short_for_a_profile_says_so(run: int, tmp_path: Path) -> None:
    """The recording begins with the step after the first ones; a run that has none leaves no file."""
    lines: list[str] = []
    profiler = Profiler(tmp_path, 2, lines.append)
    for number in range(1, run + 1):
        profiler.on_step(step(number))
    profiler.on_end()
    is_short = run <= SKIPPED
    said = f"No step was recorded: a profile begins after the first 10 steps, and there were {run}."
    assert lines == ([said] if is_short else [])
    begun = range(SKIPPED + 1, min(run + 1, SKIPPED + 2) + 1)  # the last of a run that ends is marked, but never comes
    assert recorded(tmp_path) == (list(begun) if run >= SKIPPED else [])

"""The script that measures how fast a training is: what counts of the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from script_modules import load_script


@pytest.mark.parametrize(
    ("least", "durations", "median"),
    [
        (3, [50.0, 50.0, 50.0, 4.0, 2.0, 9.0], 4.0),  # the first three do not count
        (3, [50.0, 50.0, 50.0, 1.0, 1.5, 2.5, 4.0], 2.0),  # of four, the mean of those in the middle
        (5, [50.0, 50.0, 50.0, 8.0, 8.0, 8.0, 2.0, 2.0], 8.0),
    ],
)
def test_the_speed_is_that_of_the_median_step(
    least: int, durations: list[float], median: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, now = load_script("benchmark_training", monkeypatch), 0.0
    left: Iterator[float] = iter(durations)

    def step() -> float:
        nonlocal now
        now += next(left)
        return 0.0

    monkeypatch.setattr(script, "time", SimpleNamespace(perf_counter=lambda: now))
    assert script.measure(step, 100.0, least)["tokens_per_second"] == pytest.approx(100.0 / median)
    assert next(left, None) is None, "it ends after the time and the least number of steps"


def test_keras_is_measured_more_than_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger of two would be no median."""
    script, found = load_script("benchmark_training", monkeypatch), dict[str, int]()
    monkeypatch.setattr(script, "keras_step", lambda run: None)
    monkeypatch.setattr(script, "measure", lambda step, tokens, least: found.update(least=least))
    script.work({"framework": "keras", "batch_size": 64})
    assert found["least"] >= 3

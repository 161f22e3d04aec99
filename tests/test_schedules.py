"""Learning rates at the corners of their schedules."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from textgen.config import TrainingConfig
from textgen.schedules import scheduled_learning_rate, total_steps


def test_schedules_at_their_corners() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=0.1, final_learning_rate=0.2)
    for schedule, middle in (("cosine", 0.6), ("linear", 0.6), ("constant", 1.0)):
        changed = replace(config, schedule=schedule)
        assert scheduled_learning_rate(changed, 0.0) == 0.0
        assert scheduled_learning_rate(changed, 0.05) == pytest.approx(0.5)
        assert scheduled_learning_rate(changed, 0.1) == pytest.approx(1.0)
        assert scheduled_learning_rate(changed, 0.55) == pytest.approx(middle)
        assert scheduled_learning_rate(changed, 1.0) == pytest.approx(1.0 if schedule == "constant" else 0.2)


def test_a_run_of_nothing_but_warm_up_only_rises() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=1.0)
    assert [scheduled_learning_rate(config, p) for p in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]


def test_the_budget_in_steps() -> None:
    assert total_steps(TrainingConfig(epochs=2.5), 10) == 25
    assert total_steps(TrainingConfig(steps=7), 10) == 7
    assert total_steps(TrainingConfig(epochs=0.01), 10) == 1
    assert total_steps(TrainingConfig(minutes=1.0), 10) == math.inf
    assert total_steps(TrainingConfig(steps=7, epochs=0.5), 10) == 5

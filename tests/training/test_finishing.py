"""The mix of fine-tuned weights with those before them, against all mixes scored one by one."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest

from textgen.model.language_model import LanguageModel
from textgen.training.finishing import FRACTIONS, mix_with_start, mixed


class Weights:
    """A model with one weight, and a loss that is least where the weight is `goal`."""

    def __init__(self, tuned: float, goal: float) -> None:
        self.arrays = {"a": np.array([tuned, 0.0], np.float32)}
        self.goal = goal
        self.scored: list[float] = []

    def weights_as_arrays(self) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in self.arrays.items()}

    def assign_weights(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def score(self) -> float:
        self.scored.append(float(self.arrays["a"][0]))
        return abs(self.scored[-1] - self.goal)


@pytest.mark.parametrize(
    ("goal", "fraction", "scored"),
    [(1.0, 0.0, 2), (0.78, 0.2, 4), (0.0, 0.5, 6), (0.94, 0.1, 3)],
    ids=["tuned", "between", "start", "first"],
)
def test_the_mix_with_the_lowest_loss_is_chosen(goal: float, fraction: float, scored: int) -> None:
    model, start = Weights(1.0, goal), {"a": np.array([0.0, 2.0], np.float32)}
    mix = mix_with_start(cast(LanguageModel, model), start, model.score)
    assert mix.fraction == fraction
    assert mix.nats_per_token == pytest.approx(abs(1 - fraction - goal), abs=1e-6)
    np.testing.assert_allclose(model.arrays["a"], [1 - fraction, 2 * fraction], rtol=1e-6)
    losses = {each: abs(1 - each - goal) for each in (0.0, *FRACTIONS)}
    assert min(losses, key=losses.__getitem__) == fraction
    assert len(model.scored) == scored  # it stops after the first fraction that is worse


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_frozen_weights_stay_as_they_are_in_a_mix(fraction: float) -> None:
    array = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    (same,) = mixed({"a": array}, {"a": array.copy()}, fraction).values()
    np.testing.assert_array_equal(same, array)


def test_a_mix_whose_loss_is_no_number_is_not_chosen() -> None:
    model, start = Weights(1.0, 1.0), {"a": np.array([0.0, 2.0], np.float32)}
    scores = iter([3.0, math.nan, 2.0])
    assert mix_with_start(cast(LanguageModel, model), start, lambda: next(scores)) == (0.0, 3.0)
    np.testing.assert_array_equal(model.arrays["a"], [1.0, 0.0])


def test_a_network_gets_the_mixed_weights(model: LanguageModel) -> None:
    tuned = model.weights_as_arrays()
    start = {name: array + 1 for name, array in tuned.items()}
    scores = iter([3.0, 2.0, 1.0, 4.0])
    try:
        assert mix_with_start(model, start, lambda: next(scores)) == (0.2, 1.0)
        for name, array in model.weights_as_arrays().items():
            np.testing.assert_allclose(array, tuned[name] + 0.2, atol=1e-6)
    finally:
        model.assign_weights(tuned)

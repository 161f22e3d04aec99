"""Means of the weights against plain means and recursions, and when NT-ASGD begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textgen.errors import ConfigError
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.weight_averaging import Averaging, make_averaging

load_tensorflow()

Weights = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(ModelConfig(7, embedding_dim=2, hidden_units=2, num_layers=1), pad_id=0)


def averaging(model: LanguageModel, **settings: Any) -> Averaging:
    return make_averaging(TrainingConfig(**settings), model)


def walk(model: LanguageModel, steps: int, seed: int = 0) -> list[Weights]:
    """Weights that a run could pass through."""
    rng = np.random.default_rng(seed)
    shapes = model.config.weight_shapes().items()
    return [{name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes} for _ in range(steps)]


def take(model: LanguageModel, average: Averaging, weights: Weights, *, validate: bool = False) -> None:
    model.assign_weights(weights)
    average.on_step()
    if validate:
        average.before_validation()


def assert_mean(average: Averaging, path: list[Weights], shares: np.ndarray) -> None:
    mean = average.mean()
    assert mean is not None
    for name, array in mean.items():
        expected = np.tensordot(shares / shares.sum(), np.stack([weights[name] for weights in path]), 1)
        np.testing.assert_allclose(array, expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 0.9999999])
def test_ema_is_the_mean_with_falling_shares(model: LanguageModel, decay: float) -> None:
    average, path = averaging(model, weight_averaging="ema", ema_decay=decay), walk(model, 6)
    for count, weights in enumerate(path, start=1):
        take(model, average, weights)
        assert_mean(average, path[:count], decay ** np.arange(count - 1, -1, -1.0))


@pytest.mark.parametrize("settings", [{"weight_averaging": "ema"}, {"weight_averaging": "last-k", "num_averaged": 7}])
def test_weights_that_never_change_are_their_own_average(model: LanguageModel, settings: dict[str, Any]) -> None:
    """So that frozen layers stay as they are, also where a sum of seven would be rounded."""
    (frozen,) = walk(model, 1)
    model.assign_weights(frozen)
    average = averaging(model, **settings)
    for _ in range(10):
        take(model, average, frozen, validate=True)
        mean = average.mean()
        assert mean
        for name, array in frozen.items():
            np.testing.assert_array_equal(mean[name], array)


def test_last_k_is_the_mean_of_the_last_validations(model: LanguageModel) -> None:
    average, path = averaging(model, weight_averaging="last-k", num_averaged=3), walk(model, 10)
    for count, weights in enumerate(path, start=1):
        take(model, average, weights, validate=count % 2 == 0)
        if count > 1:
            assert_mean(average, path[1:count:2][-3:], np.ones(min(3, count // 2)))


@pytest.mark.parametrize(
    ("nonmonotone", "scores", "begins"),
    [
        (1, [5, 4, 3, 2, 1], None),
        (1, [5, 4, 4.5, 3], None),  # worse than the one before, but that one is not compared with
        (1, [5, 4, 4.5, 4.2], 4),
        (2, [5, 4, 4.5, 4.2, 4.1], 5),
        (3, [5, 4, 4.5, 4.2, 4.1, 3.9], None),
        (3, [5, 4, 4.5, 4.2, 4.1, 4.0, 4.01], 7),
        (5, [5, 6, 6, 6, 6, 6, 6], 7),
    ],
)
def test_asgd_begins_when_a_score_is_worse_than_the_best_of_long_ago(
    model: LanguageModel, nonmonotone: int, scores: list[float], begins: int | None
) -> None:
    average = averaging(model, optimizer="asgd", nonmonotone_interval=nonmonotone)
    first = None
    for count, score in enumerate(scores, start=1):
        older = scores[: count - 1][:-nonmonotone]  # as the paper's Algorithm 1 has it
        average.on_validation(score)
        assert average.is_waiting == (first is None and not (older and score > min(older)))
        first = first or (None if average.is_waiting else count)
    assert first == begins


def test_asgd_compares_no_scores_of_different_texts(model: LanguageModel) -> None:
    average = averaging(model, optimizer="asgd", nonmonotone_interval=1)
    for score in (1.0, 0.9, 0.8):
        average.on_validation(score)
    average.forget_scores()
    for score, is_waiting in ((2.0, True), (1.9, True), (2.1, False)):
        average.on_validation(score)
        assert average.is_waiting == is_waiting


def test_asgd_is_the_plain_mean_since_it_began(model: LanguageModel) -> None:
    average, path = averaging(model, optimizer="asgd", nonmonotone_interval=1), walk(model, 8)
    for weights in path[:4]:
        take(model, average, weights)
        assert average.mean() is None
    for score in (1.0, 2.0, 3.0):
        average.on_validation(score)
    assert average.mean() is None  # not before a step
    for count, weights in enumerate(path[4:], start=1):
        take(model, average, weights)
        average.on_validation(-float(count))
        assert_mean(average, path[4 : 4 + count], np.ones(count))


KINDS: list[dict[str, Any]] = [
    {"weight_averaging": "ema", "ema_decay": 0.9},
    {"weight_averaging": "last-k", "num_averaged": 2},
    {"optimizer": "asgd", "nonmonotone_interval": 1},
    {},
]


@pytest.mark.parametrize("settings", KINDS, ids=["ema", "last-k", "asgd", "none"])
def test_a_restored_one_goes_on_bit_for_bit(model: LanguageModel, settings: dict[str, Any]) -> None:
    whole, path = averaging(model, **settings), walk(model, 9)
    kept = averaging(model, **settings)
    for count, weights in enumerate(path):
        if count == 5:
            tensors = {name: np.array(array) for name, array in whole.tensors().items()}
            assert {name: array.shape for name, array in kept.tensors().items()} == {
                name: array.shape for name, array in tensors.items()
            }
            kept.restore(tensors)
        for average in (whole, kept) if count >= 5 else (whole,):
            take(model, average, weights, validate=True)
            average.on_validation(float(count))
    expected = whole.tensors()
    for name, array in kept.tensors().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("settings", KINDS, ids=["ema", "last-k", "asgd", "none"])
def test_raw_weights_come_back_whatever_happens(model: LanguageModel, settings: dict[str, Any]) -> None:
    average, path = averaging(model, **settings), walk(model, 5)
    for score, weights in enumerate(path):
        take(model, average, weights, validate=True)
        average.on_validation(float(score))
    mean = average.mean() or path[-1]

    def fail() -> None:
        with average.applied():
            for name, array in model.weights_as_arrays().items():
                np.testing.assert_array_equal(array, mean[name])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_array_equal(array, path[-1][name])


def test_a_name_without_an_averaging_is_an_error(model: LanguageModel) -> None:
    config = TrainingConfig()
    object.__setattr__(config, "weight_averaging", "new")
    with pytest.raises(ValueError, match="no weight averaging 'new'"):
        make_averaging(config, model)


def test_two_means_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="asgd already averages the weights: set weight_averaging to none"):
        TrainingConfig(optimizer="asgd", weight_averaging="ema")

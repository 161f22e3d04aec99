"""A model that learns from what it reads, against the reference's gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import random_weights

from textgen.evaluation.config import DynamicConfig
from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.system.runtime import load_tensorflow

load_tensorflow()
from streams import stream_in  # noqa: E402

from textgen.evaluation.dynamic_evaluation import EPSILON, Learner  # noqa: E402
from textgen.model.language_model import LanguageModel  # noqa: E402

PAD = 0


@pytest.fixture
def model() -> LanguageModel:
    config = ModelConfig(11, embedding_dim=5, hidden_units=6, num_layers=1)
    model = LanguageModel(config, pad_id=PAD)
    model.assign_weights(random_weights(config))
    return model


def windows(number: int, length: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    ids = np.random.default_rng(1).integers(1, 11, number * length + 1).astype(np.int32)
    starts = range(0, number * length, length)
    return [(ids[None, start : start + length], ids[None, start + 1 : start + length + 1]) for start in starts]


@pytest.mark.parametrize("clip_norm", [0.1, 100.0])
def test_scores_then_steps_by_the_reference_s_gradient(model: LanguageModel, clip_norm: float) -> None:
    """Each window is scored before it is learned from, and the state is carried over."""
    config = DynamicConfig(dynamic_learning_rate=0.2, dynamic_decay=0.1, dynamic_window=4, dynamic_clip_norm=clip_norm)
    trained = {name: array.astype(np.float64) for name, array in model.weights_as_arrays().items()}
    weights, expected_state, state = trained, reference.initial_state(trained, 1), model.initial_state(1)
    learner = Learner(model, config)
    parts = windows(3)
    parts[-1][1][0, 2:] = PAD  # which neither counts nor teaches
    for inputs, targets in parts:
        expected, gradients, expected_state, _ = reference.loss_and_gradients(weights, inputs, targets, expected_state)
        clipped, _ = reference.clip_by_global_norm(gradients, clip_norm)
        weights = {n: w - 0.2 * clipped[n] + 0.1 * (trained[n] - w) for n, w in weights.items()}
        nats, features, state = learner.read(inputs, targets, state)
        assert nats.numpy().sum() / np.count_nonzero(targets) == pytest.approx(expected, rel=1e-4)
        assert features.shape == (1, 4, 5)
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_allclose(array, weights[name], atol=1e-5)


def test_each_weight_steps_by_the_size_of_its_own_gradients(model: LanguageModel) -> None:
    config = DynamicConfig(
        dynamic_learning_rate=0.2, dynamic_decay=0.3, dynamic_window=4, dynamic_clip_norm=1e3, dynamic_rms=True
    )
    trained = {name: array.astype(np.float64) for name, array in model.weights_as_arrays().items()}
    weights, squares = trained, {name: np.zeros_like(weight) for name, weight in trained.items()}
    expected_state, state, learner = reference.initial_state(trained, 1), model.initial_state(1), Learner(model, config)
    for number, (inputs, targets) in enumerate(windows(3), start=1):
        _, gradients, expected_state, _ = reference.loss_and_gradients(weights, inputs, targets, expected_state)
        squares = {name: squares[name] + gradients[name] ** 2 for name in weights}
        whole = np.mean(np.concatenate([square.ravel() for square in squares.values()])) / number
        scales = {name: np.sqrt(square / number / whole) for name, square in squares.items()}
        weights = {
            name: weight
            - 0.2 * gradients[name] / (scales[name] + EPSILON)
            + np.minimum(1, 0.3 * scales[name]) * (trained[name] - weight)
            for name, weight in weights.items()
        }
        _, _, state = learner.read(inputs, targets, state)
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_allclose(array, weights[name], atol=2e-4, err_msg=name)


def test_what_was_seen_is_forgotten_too(model: LanguageModel) -> None:
    learner = Learner(model, DynamicConfig(dynamic_rms=True, dynamic_learning_rate=1.0))
    runs = []
    for _ in range(2):
        state = model.initial_state(1)
        for inputs, targets in windows(3):
            nats, _, state = learner.read(inputs, targets, state)
        runs.append(nats.numpy())
        learner.restore()
    np.testing.assert_array_equal(runs[0], runs[1])


def test_restores_bit_for_bit(model: LanguageModel) -> None:
    before = model.weights_as_arrays()
    learner, state = Learner(model, DynamicConfig(dynamic_learning_rate=1.0)), model.initial_state(1)
    for inputs, targets in windows(2):
        _, _, state = learner.read(inputs, targets, state)
    assert all((model.weights_as_arrays()[name] != array).any() for name, array in before.items())
    learner.restore()
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_array_equal(array, before[name], strict=True)


def test_a_whole_stream_is_learned(model: LanguageModel, tmp_path: Path) -> None:
    stream = stream_in(tmp_path, [[5, 6, 7, 8, 2]] * 30, vocab_size=11)
    inputs, targets = np.array([[2, 5, 6, 7]], np.int32), np.array([[5, 6, 7, 8]], np.int32)
    before, _ = model(inputs)
    Learner(model, DynamicConfig(dynamic_learning_rate=0.5, dynamic_window=8)).learn(stream)
    after, _ = model(inputs)
    losses = [reference.cross_entropy(np.asarray(logits), targets)[0] for logits in (before, after)]
    assert losses[1] < 0.5 * losses[0]

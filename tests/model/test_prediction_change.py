"""How much rounding changes predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from exact_models import config_of
from networks import random_weights

from textgen.model.numpy_model import NumpyModel
from textgen.model.prediction_change import IMPOSSIBLE, PredictionChange, compared, compared_on_own_text, drawn
from textgen.model.probabilities import log_softmax


class Shifted:
    """A network whose logits are those of another times a factor."""

    def __init__(self, network: NumpyModel, factor: float) -> None:
        self.network, self.factor = network, factor

    def initial_state(self, batch_size: int) -> Any:
        return self.network.initial_state(batch_size)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        logits, state = self.network.step(ids, state)
        return logits * self.factor, state


def network() -> NumpyModel:
    config = config_of("lstm")
    return NumpyModel(config, random_weights(config, scale=0.25))


def change_by(rounded: Any, openings: list[list[int]], never: Sequence[int] = (2,)) -> PredictionChange:
    return compared_on_own_text(network(), rounded, openings, never).change


def test_numbers_are_their_definition() -> None:
    """Of tokens that count, in parts of any shape."""
    rng = np.random.default_rng(0)
    parts = [
        (*log_softmax(rng.normal(size=(2, *shape, 5))), rng.integers(5, size=shape), rng.random(shape) < 0.7)
        for shape in ((4, 3), (6,))
    ]
    found = compared(parts)
    nats, rounded_nats, entropy, divergence, same = [], [], [], [], []
    for log_p, log_q, targets, counts in parts:
        for place in np.argwhere(counts):
            p, q, target = log_p[tuple(place)], log_q[tuple(place)], targets[tuple(place)]
            nats.append(-p[target])
            rounded_nats.append(-q[target])
            entropy.append(-sum(math.exp(one) * one for one in p))
            divergence.append(sum(math.exp(one) * (one - other) for one, other in zip(p, q, strict=True)))
            same.append(p.argmax() == q.argmax())
    rise = math.exp(np.mean(rounded_nats) - np.mean(nats)) - 1
    change = (rise, np.mean(divergence), np.mean(same), len(same))
    assert astuple(found.change) == pytest.approx(change)
    means = [np.mean(each) for each in (nats, rounded_nats, entropy)]
    assert [found.nats_per_token, found.rounded_nats_per_token, found.entropy_nats] == pytest.approx(means)


def test_a_record_is_read_again() -> None:
    change = PredictionChange(0.002, 0.001, 0.99, 2048)
    assert PredictionChange.from_dict(change.to_dict()) == change
    with pytest.raises(TypeError):
        PredictionChange.from_dict({"divergence_nats": 0.001})


def test_a_network_that_is_sharper_differs_the_more_the_sharper_it_is() -> None:
    same = change_by(network(), [[3, 1]])
    assert same == PredictionChange(0, 0, 1, 2048)
    assert same.is_small
    near, far = (change_by(Shifted(network(), factor), [[3, 1]]) for factor in (1.1, 2))
    assert 0 < near.divergence_nats < far.divergence_nats
    assert near.same_top_fraction == far.same_top_fraction == 1


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    p = np.array([[0.0, 0.5, 0.0, 0.2, 0.3, 0.0], [0.1, 0.0, 0.0, 0.0, 0.0, 0.9]])
    log_probs = np.log(np.maximum(p, 1e-300)) + np.where(p > 0, 0, IMPOSSIBLE)
    rows = np.repeat(log_probs, 20_000, axis=0)
    ids = drawn(rows, np.random.default_rng(0))
    assert ids.dtype == np.int32
    for found, expected in zip(ids.reshape(2, -1), p, strict=True):
        counts = np.bincount(found, minlength=6)
        assert not counts[expected == 0].any()
        np.testing.assert_allclose(counts / len(found), expected, atol=0.012)


class Uniform:
    """Random numbers of the one kind that NumPy makes fast."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed).random


def test_the_noise_is_that_of_numpy() -> None:
    log_probs = log_softmax(np.random.default_rng(1).normal(size=(50, 300)))
    rng: Any = Uniform(2)
    noise = np.random.default_rng(2).gumbel(size=log_probs.shape)
    np.testing.assert_array_equal(drawn(log_probs, rng), (log_probs + noise).argmax(axis=-1))


def test_a_token_that_is_never_written_does_not_count() -> None:
    class Other(Shifted):
        def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            logits, state = self.network.step(ids, state)
            logits[:, 2] += 9
            return logits, state

    assert change_by(Other(network(), 1), [[1]], never=[]).divergence_nats > 1
    assert change_by(Other(network(), 1), [[1]]).divergence_nats == 0


def test_texts_begin_with_each_opening() -> None:
    class Other(Shifted):
        def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            logits, state = self.network.step(ids, state)
            logits[ids == 2] *= 2
            return logits, state

    first, other = (change_by(Other(network(), 1), [[3, id]]).divergence_nats for id in (1, 2))
    both = change_by(Other(network(), 1), [[3, 1], [3, 2]]).divergence_nats
    assert first == 0
    assert 0 < both < other


@pytest.mark.parametrize(
    "bad",
    [
        {"perplexity_change": -0.004},
        {"perplexity_change": 0.004},
        {"divergence_nats": 0.003},
        {"same_top_fraction": 0.96},
    ],
)
def test_bounds(bad: dict[str, Any]) -> None:
    good = PredictionChange(0.002, 0.001, 0.99, 2048)
    assert good.is_small
    assert not replace(good, **bad).is_small

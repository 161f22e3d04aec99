"""What rounding costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from exact_models import config_of
from networks import random_weights

from textgen.model.numpy_model import NumpyModel
from textgen.model.rounding import Loss, loss_of


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


def test_a_network_that_is_sharper_differs_the_more_the_sharper_it_is() -> None:
    same = loss_of(network(), network(), [[3, 1]], never=[2])
    assert (same.perplexity, same.kl, same.same_top) == (0, 0, 1)
    assert same.is_small
    near, far = (loss_of(network(), Shifted(network(), factor), [[3, 1]], never=[2]) for factor in (1.1, 2))
    assert 0 < near.kl < far.kl
    assert near.same_top == far.same_top == 1


def test_a_token_that_is_never_written_does_not_count() -> None:
    class Other(Shifted):
        def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            logits, state = self.network.step(ids, state)
            logits[:, 2] += 9
            return logits, state

    assert loss_of(network(), Other(network(), 1), [[1]]).kl > 1
    assert loss_of(network(), Other(network(), 1), [[1]], never=[2]).kl == 0


def test_texts_begin_with_each_opening() -> None:
    class Other(Shifted):
        def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            logits, state = self.network.step(ids, state)
            logits[ids == 2] *= 2
            return logits, state

    first, other = (loss_of(network(), Other(network(), 1), [[3, id]], never=[2]).kl for id in (1, 2))
    both = loss_of(network(), Other(network(), 1), [[3, 1], [3, 2]], never=[2]).kl
    assert first == 0
    assert 0 < both < other


@pytest.mark.parametrize("bad", [{"perplexity": -0.004}, {"perplexity": 0.004}, {"kl": 0.003}, {"same_top": 0.96}])
def test_bounds(bad: dict[str, Any]) -> None:
    good = Loss(perplexity=0.002, kl=0.001, same_top=0.99, tokens=2048)
    assert good.is_small
    assert not replace(good, **bad).is_small

"""First weights that are not those of the layers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from textgen.model.config import CELLS, ModelConfig
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig

load_tensorflow()

from textgen.model.language_model import LanguageModel  # noqa: E402
from textgen.training.initializers import initialize  # noqa: E402

H = 16
CONFIG = ModelConfig(11, embedding_dim=6, hidden_units=H, num_layers=2)


def changes(config: ModelConfig, **settings: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The weights that are not what they were: name -> before, after."""
    model = LanguageModel(config, pad_id=0, seed=3)
    before = model.weights_as_arrays()
    initialize(model, replace(TrainingConfig(seed=3), **settings))  # type: ignore[arg-type]
    after = model.weights_as_arrays()
    return {name: (before[name], after[name]) for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize("cell", CELLS)
def test_layers_begin_as_the_settings_say_that_are_not_given(cell: str) -> None:
    assert not changes(replace(CONFIG, cell=cell))


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_glorot_fills_its_range(direction: str) -> None:
    changed = changes(replace(CONFIG, direction=direction), recurrent_initializer="glorot")
    assert len(changed) == (2 if direction == "forward" else 4)
    assert all(name.endswith("/recurrent_kernel") for name in changed)
    most = math.sqrt(6 / (H + 4 * H))
    for _, kernel in changed.values():
        assert 0.95 * most < np.abs(kernel).max() <= most
        assert np.std(kernel) == pytest.approx(most / math.sqrt(3), rel=0.05)
    assert len({kernel.tobytes() for _, kernel in changed.values()}) == len(changed)


@pytest.mark.parametrize("cell", ["lstm", "peephole", "mogrifier"])
def test_only_forget_gates_begin_with_another_bias(cell: str) -> None:
    changed = changes(replace(CONFIG, cell=cell), forget_bias=-2.0)
    assert changed.keys() == {f"{cell}_0/bias", f"{cell}_1/bias"}
    for _, bias in changed.values():
        np.testing.assert_array_equal(bias, np.repeat([0.0, -2.0, 0.0, 0.0], H))


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_cells_without_a_forget_gate_are_left_alone(cell: str) -> None:
    assert not changes(replace(CONFIG, cell=cell), forget_bias=-2.0)


def first_weights(seed: int, **settings: object) -> np.ndarray:
    model = LanguageModel(CONFIG, pad_id=0, seed=seed)
    initialize(model, replace(TrainingConfig(seed=seed), **settings))  # type: ignore[arg-type]
    return model.weights_as_arrays()["lstm_0/recurrent_kernel"]


@pytest.mark.parametrize("apart", [1 << 31, 1 << 32, 1 << 62])
@pytest.mark.parametrize("initializer", ["orthogonal", "glorot"])
def test_seeds_far_apart_give_other_weights(apart: int, initializer: str) -> None:
    one, two = (first_weights(seed, recurrent_initializer=initializer) for seed in (5, 5 + apart))
    assert not np.allclose(one, two)

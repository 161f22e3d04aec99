"""Cells that are watched and held."""

from __future__ import annotations

import numpy as np
import pytest
from networks import random_weights

from textgen.errors import ConfigError
from textgen.model.clamping import (
    VALUES,
    Clamp,
    Place,
    clamped_step,
    input_part,
    keep,
    parse_clamp,
    parse_clamps,
    watched_step,
)
from textgen.model.config import CELLS, ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.reference import cell_of, of_layer

KINDS = [
    *(ModelConfig(11, embedding_dim=6, hidden_units=8, num_layers=2, cell=cell) for cell in CELLS),
    ModelConfig(11, embedding_dim=6, hidden_units=8, num_layers=2, cell="gru", reset_after=False),
    ModelConfig(11, embedding_dim=6, hidden_units=8, num_layers=2, cell="rnn", activation="relu"),
    ModelConfig(11, embedding_dim=6, hidden_units=8, num_layers=2, cell="mogrifier", mogrifier_rank=2),
]
NAMES = [f"{config.cell}-{number}" for number, config in enumerate(KINDS)]


def some_step(config: ModelConfig) -> tuple[np.ndarray, tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    rng, size = np.random.default_rng(1), cell_of(config).state_size
    state = tuple(rng.normal(size=[3, 8]).astype(np.float32) for _ in range(size))
    return rng.normal(size=[3, 6]).astype(np.float32), state, of_layer(random_weights(config), f"{config.cell}_0")


@pytest.mark.parametrize("config", KINDS, ids=NAMES)
def test_a_watched_step_computes_the_equations_of_the_reference(config: ModelConfig) -> None:
    x, state, weights = some_step(config)
    expected, record = cell_of(config).step(x, state, weights)
    after, values = watched_step(config)(input_part(config, x, weights), state, weights, keep)
    for mine, theirs in zip(after, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    for name, gate in cell_of(config).gates(record).items():
        np.testing.assert_allclose(values[name], gate, rtol=1e-5, atol=1e-6)
    assert set(values) == set(VALUES[config.cell])


@pytest.mark.parametrize("config", KINDS, ids=NAMES)
def test_a_clamp_to_the_cell_s_own_values_changes_no_bit(config: ModelConfig) -> None:
    x, state, weights = some_step(config)
    step = watched_step(config)
    after, values = step(input_part(config, x, weights), state, weights, keep)
    for name in VALUES[config.cell]:
        for row in range(len(x)):
            held = clamped_step(config, weights, [Clamp(Place(0, 3, name), float(values[name][row, 3]))], 0)(x, state)
            for mine, own in zip(held, after, strict=True):
                assert mine[row].tobytes() == own[row].tobytes()


@pytest.mark.parametrize("config", KINDS, ids=NAMES)
def test_a_clamped_model_is_made_of_a_free_one_which_stays_as_it_is(config: ModelConfig) -> None:
    weights = random_weights(config)
    clamps = parse_clamps(["L1/5=0.75"], config)
    free, ids = NumpyModel(config, weights), np.array([[1, 2, 3], [4, 5, 6]])
    before, _ = free.features(ids, free.initial_state(2))
    held = free.clamped(clamps)
    mine, _ = held.features(ids, held.initial_state(2))
    again, _ = free.features(ids, free.initial_state(2))
    expected = NumpyModel(config, weights, clamps)
    own, _ = expected.features(ids, expected.initial_state(2))
    assert mine.tobytes() == own.tobytes() != again.tobytes() == before.tobytes()


def test_clamps_are_the_same_in_any_order_and_the_later_of_two_counts() -> None:
    config = KINDS[0]
    clamps = parse_clamps(["L1/5=1", "L0/3.f=1", " L1/5.c=0.50"], config)
    assert clamps == parse_clamps(["L0/3.f=1.0", "L1/5=.5"], config)
    assert [str(clamp) for clamp in clamps] == ["L0/3.f=1.0", "L1/5.c=0.5"]


@pytest.mark.parametrize("config", KINDS, ids=NAMES)
def test_a_clamped_model_holds_its_cell_and_writes_otherwise(config: ModelConfig) -> None:
    weights = random_weights(config)
    memory = "c" if "c" in VALUES[config.cell] else "h"
    model, held = NumpyModel(config, weights), NumpyModel(config, weights, [parse_clamp("L1/5=0.75", config)])
    ids, start = np.array([1, 2]), model.initial_state(2)
    logits, after = held.step(ids, start)
    free_logits, free = model.step(ids, start)
    assert (after[1][1 if memory == "c" else 0][:, 5] == 0.75).all()
    np.testing.assert_array_equal(after[0][0], free[0][0])  # the layer below knows nothing of it
    assert np.abs(logits - free_logits).max() > 1e-3
    keeps = [unit for unit in range(8) if unit != 5]
    np.testing.assert_allclose(after[1][0][:, keeps], free[1][0][:, keeps], rtol=1e-5, atol=1e-6)


BAD = {
    "L9/1=1": "There is no cell L9/1: this model has the cells L0/0 to L1/7.",
    "L0/8=1": "There is no cell L0/8",
    "L0/1.z=1": "There is no value 'z' in L0/1.z: a cell of kind LSTM has c, f, g, h, i, o.",
    "89=1": "A cell is written as in L1/89",
    "L0/1": "A clamp must be CELL=NUMBER",
    "L0/1=nan": "A clamp must be CELL=NUMBER",
    "L0/1=1e9": "A clamp must be CELL=NUMBER",
    "L0/1.f=1.5": "A clamp must set a gate to a number from 0 to 1",
}


@pytest.mark.parametrize(("text", "message"), BAD.items())
def test_a_clamp_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_clamp(text, KINDS[0])
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["L{}/1=1", "L1/{}=1", "L1/2={}", "L{}"])
def test_of_a_clamp_of_thousands_of_digits_a_line_is_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Received: '.*\.\.\.") as error:
        parse_clamp(text.format("9" * 5000), KINDS[0])
    assert len(str(error.value)) < 400

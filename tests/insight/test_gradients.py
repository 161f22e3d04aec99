"""The gradient by lag is that of finite differences, for every cell and structure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import random_weights

from textgen.insight.gradients import gradient_flow, input_gradient, untrained_flow, untrained_flows
from textgen.insight.reading import Reader
from textgen.model.config import CELLS, ModelConfig
from textgen.model.reference import forward, stack_of

BASE = ModelConfig(9, embedding_dim=5, hidden_units=6, num_layers=2)
KINDS = [
    *(replace(BASE, cell=cell) for cell in CELLS),
    replace(BASE, residual=True, layer_norm=True),
    replace(BASE, tie_embeddings=False, embedding_dim=6),
    replace(BASE, attention=3),
]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.cell}-{config.residual}-{config.attention}")
def test_gradient_equals_finite_differences(config: ModelConfig) -> None:
    weights = {name: array.astype(np.float64) for name, array in random_weights(config).items()}
    reader = Reader(config, weights)
    ids, targets = np.arange(6)[None].astype(np.int32), np.array([7])  # each token once, so a row moves one embedding
    state = [tuple(array.astype(np.float64) for array in layer) for layer in reader.model.initial_state(1)]
    gradient = input_gradient(reader, ids, targets, state)[0]
    tied, kernel = config.tie_embeddings, weights["embedding/table"].T.copy()

    def logit(table: np.ndarray) -> float:
        moved = weights | {"embedding/table": table}
        if tied:  # the output layer stays: the gradient is that of the input
            moved["head/kernel"] = kernel
        return float(forward(moved, ids, state, stack_of(config))[0][0, -1, targets[0]])

    step = 1e-5
    for place in range(6):
        for column in range(config.embedding_dim):
            up, down = weights["embedding/table"].copy(), weights["embedding/table"].copy()
            up[place, column] += step
            down[place, column] -= step
            expected = (logit(up) - logit(down)) / (2 * step)
            assert gradient[place, column] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_gradient_before_training_lasts_longer_only_with_an_open_gate() -> None:
    flows = untrained_flows(replace(BASE, hidden_units=16), 60)
    last = {name: flow.norms[-1] / max(flow.norms) for name, flow in flows.items()}
    assert last["rnn"] < 1e-6
    assert last["gru"] <= last["rnn"], "its update gate starts half open"
    assert last["lstm_bias_0"] <= last["rnn"]
    assert last["lstm"] > 10 * last["rnn"]
    assert untrained_flow(BASE, "lstm", 3.0, 60).norms[-1] > untrained_flow(BASE, "lstm", 1.0, 60).norms[-1]
    assert flows["rnn"].hundredth_lag


@pytest.mark.parametrize(
    ("cell", "variant"), [("rnn", {"activation": "relu"}), ("gru", {"reset_after": False}), ("lstm", {})]
)
def test_the_untrained_network_of_the_same_kind_is_of_the_same_variant(cell: str, variant: dict[str, Any]) -> None:
    plain, flows = (untrained_flows(replace(BASE, cell=cell, **more), 20) for more in ({}, variant))
    for name, flow in flows.items():
        assert (flow.norms != plain[name].norms) == (name == cell and variant != {}), name


def test_a_setting_that_a_cell_does_not_have_changes_no_untrained_network() -> None:
    assert untrained_flows(replace(BASE, activation="relu"), 20) == untrained_flows(BASE, 20)


def test_gradient_by_lag_of_a_text_is_finite_and_bounded_by_the_text() -> None:
    reader = Reader(BASE, random_weights(BASE))
    ids = np.random.default_rng(0).integers(0, 9, [1, 90]).astype(np.int32)
    flow = gradient_flow(reader, reader.read(ids), np.ones(89, bool))
    assert len(flow.norms) == 30
    assert np.isfinite(flow.norms).all()
    assert min(flow.norms) > 0


@pytest.mark.parametrize("at", ["first", "last", "every other"])
def test_gradient_by_lag_leaves_out_tokens_that_do_not_count(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, which may stand at any place."""
    reader = Reader(BASE, random_weights(BASE))
    ids = np.random.default_rng(0).integers(0, 8, [1, 90]).astype(np.int32)
    is_scored = np.ones(89, bool)
    is_scored[{"first": slice(29, 30), "last": slice(88, 89), "every other": slice(29, None, 2)}[at]] = False
    ids[0, 1:][~is_scored] = 8
    reading = reader.read(ids)
    monkeypatch.setattr("textgen.insight.gradients.NUM_PLACES", 90)
    flow = gradient_flow(reader, reading, is_scored)
    gradients = [
        input_gradient(reader, ids[:, end - 30 : end], ids[0, [end]], reader.state_at(reading, [end - 30]))[0]
        for end in range(30, 90)
        if is_scored[end - 1]
    ]
    expected = np.log(np.linalg.norm(gradients, axis=-1)).mean(axis=0)
    np.testing.assert_allclose(np.log(flow.norms), expected[::-1], rtol=1e-4)

"""What the textbooks say of gradients over many steps, and what it means for learning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.model import reference
from textgen.model.config import ModelConfig

B, STEPS, H = 4, 200, 16
LSTM = ModelConfig(8, embedding_dim=H, hidden_units=H, num_layers=1)
RNN = ModelConfig(8, embedding_dim=H, hidden_units=H, num_layers=1, cell="rnn")


def layer_weights(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    weights = reference.initial_weights(config, np.random.default_rng(seed), np.float64)
    return reference.of_layer(weights, f"{config.cell}_0")


def with_glorot(weights: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    limit = math.sqrt(6 / (H + H))
    return weights | {"recurrent_kernel": np.random.default_rng(seed).uniform(-limit, limit, [H, H])}


def flow(config: ModelConfig, weights: dict[str, np.ndarray], seed: int) -> float:
    """How much of the gradient of the last output arrives at the first input; inputs are standard normal."""
    rng, cell = np.random.default_rng(seed), reference.cell_of(config)
    state = tuple(np.zeros([B, H]) for _ in range(cell.state_size))
    hs, _, records = reference.layer_forward(cell, rng.normal(size=[B, STEPS, H]), state, weights)
    dhs = np.zeros_like(hs)
    dhs[:, -1] = rng.normal(size=[B, H])
    dx, _, _ = reference.layer_backward(cell, dhs, tuple(np.zeros_like(array) for array in state), records, weights)
    return float(np.linalg.norm(dx[:, 0]) / np.linalg.norm(dx[:, -1]))


def mean_flow(flows: list[float]) -> float:
    """The geometric mean: these numbers differ by orders of magnitude."""
    return math.exp(np.log(flows).mean())


def test_a_plain_network_s_gradient_vanishes_and_an_lstm_s_is_larger_by_a_thousand_times_and_more() -> None:
    plain = [flow(RNN, layer_weights(RNN, seed), seed) for seed in range(5)]
    glorot = [flow(RNN, with_glorot(layer_weights(RNN, seed), seed), seed) for seed in range(5)]
    assert max(plain + glorot) < 1e-30
    gated = [flow(LSTM, layer_weights(LSTM, seed), seed) for seed in range(5)]
    assert min(gated) > 1000 * max(plain + glorot)


def test_the_forget_bias_decides_how_much_of_the_gradient_an_lstm_keeps() -> None:
    flows = []
    for bias in (0.0, 1.0, 6.0):
        weights = layer_weights(LSTM, 0)
        weights["bias"][H : 2 * H] = bias
        flows.append(flow(LSTM, weights, 0))
    assert flows[1] > 1000 * flows[0]
    assert flows[2] > 0.01  # a gate that has learned to stay open


def test_orthogonal_recurrent_kernels_keep_more_of_the_gradient_than_glorot_s() -> None:
    seeds = range(20)
    orthogonal = mean_flow([flow(RNN, layer_weights(RNN, seed), seed) for seed in seeds])
    glorot = mean_flow([flow(RNN, with_glorot(layer_weights(RNN, seed), seed), seed) for seed in seeds])
    assert orthogonal > 10 * glorot


def test_at_rest_orthogonal_kernels_keep_the_gradient_and_glorot_s_lose_hold_of_it() -> None:
    """Near zero tanh has slope 1, so that over 200 steps there is only the kernel, 200 times."""
    lengths: dict[str, list[float]] = {"orthogonal": [], "glorot": []}
    for seed in range(8):
        weights = layer_weights(RNN, seed)
        gradient = np.random.default_rng(seed).normal(size=H)
        for name, kernel in (("orthogonal", weights), ("glorot", with_glorot(weights, seed))):
            power = np.linalg.matrix_power(kernel["recurrent_kernel"], STEPS)
            lengths[name].append(float(np.linalg.norm(power @ gradient) / np.linalg.norm(gradient)))
    np.testing.assert_allclose(lengths["orthogonal"], 1, rtol=1e-9)
    assert max(lengths["glorot"]) > 100  # explodes with some
    assert min(lengths["glorot"]) < 0.01  # and vanishes with others


def test_clipping_bounds_a_gradient_that_explodes() -> None:
    config = ModelConfig(8, embedding_dim=4, hidden_units=H, num_layers=1, cell="rnn", activation="relu")
    stack = reference.stack_of(config)
    weights = reference.initial_weights(config, np.random.default_rng(0), np.float64)
    weights["rnn_0/recurrent_kernel"] = 1.2 * np.eye(H)
    ids = np.random.default_rng(1).integers(1, 8, [1, STEPS + 1])
    state = reference.initial_state(weights, 1, stack)
    _, gradients, _, _ = reference.loss_and_gradients(weights, ids[:, :-1], ids[:, 1:], state, stack=stack)
    clipped, length = reference.clip_by_global_norm(gradients, 0.5)
    assert length > 1e12
    assert math.sqrt(sum(np.square(gradient).sum() for gradient in clipped.values())) == pytest.approx(0.5)


@given(st.lists(st.floats(-1e100, 1e100), min_size=1), st.floats(1e-6, 1e6))
def test_no_clipped_gradient_is_longer_than_the_limit(values: list[float], norm: float) -> None:
    clipped, length = reference.clip_by_global_norm({"a": np.array(values[:1]), "b": np.array(values[1:])}, norm)
    after = math.sqrt(sum(np.square(gradient).sum() for gradient in clipped.values()))
    assert after <= norm * (1 + 1e-9)
    assert after == pytest.approx(min(norm, length))


# === A copy task: a symbol, a hundred blanks, the symbol again ===

SYMBOLS, BLANK, LAG, UPDATES = 8, 1, 100, 1200


def copies(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [32, LAG]; only the last target counts, the others are padding."""
    symbols = rng.integers(2, 2 + SYMBOLS, 32)
    inputs, targets = np.full([32, LAG], BLANK, np.int32), np.zeros([32, LAG], np.int32)
    inputs[:, 0] = targets[:, -1] = symbols
    return inputs, targets


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "learns"), [("lstm", True), ("gru", True), ("rnn", False)])
def test_gated_cells_learn_to_copy_over_a_hundred_steps_and_a_plain_one_does_not(cell: str, learns: bool) -> None:
    """The gates are told how long to remember (Tallec & Ollivier 2018); a plain network has none to tell."""
    from textgen.system.runtime import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    from textgen.model.language_model import LanguageModel
    from textgen.training.config import TrainingConfig
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.train_step import TrainStep

    units = 32
    shape = ModelConfig(
        2 + SYMBOLS, units, units, 1, dropout=0.0, embedding_dropout=0.0, tie_embeddings=False, cell=cell
    )
    model, rng = LanguageModel(shape, pad_id=0, seed=1), np.random.default_rng(0)
    weights = model.weights_as_arrays()
    weights["embedding/table"] = rng.normal(size=weights["embedding/table"].shape).astype(np.float32)
    bias = weights[f"{cell}_0/bias"]
    if cell == "lstm":
        bias[units : 2 * units] = math.log(LAG)
        bias[:units] = -math.log(LAG)  # what is kept so long must be written rarely
    elif cell == "gru":
        bias[0, :units] = math.log(LAG)
    model.assign_weights(weights)
    config = TrainingConfig(batch_size=32, sequence_length=LAG, weight_decay=0.0, clip_norm=1.0)
    update, losses = TrainStep(model, config, Distribution()), [math.inf]
    while len(losses) < UPDATES and np.mean(losses[-20:]) > 0.05:
        inputs, targets = map(tf.constant, copies(rng))
        gradient = update.gradient(inputs, targets, model.initial_state(32), len(losses))
        update.apply(gradient, learning_rate=0.01)
        losses.append(gradient.nats)
    if learns:
        assert np.mean(losses[-20:]) < 0.05
    else:
        assert np.mean(losses[-20:]) > 0.5 * math.log(SYMBOLS)  # it may hold on to one of the three bits

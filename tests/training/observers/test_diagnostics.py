"""What is said of the inside of a network, against equations written out and answers that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import encode_and_split
from textgen.model.config import ModelConfig
from textgen.model.reference import forward, initial_state, initial_weights, stack_of
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.observers.diagnostics import Diagnosis, diagnose, norms, update_ratios, window

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel

SHAPE = ModelConfig(11, embedding_dim=3, hidden_units=4, num_layers=2)
INPUTS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], np.int32)
CELLS = {
    "lstm": SHAPE,
    "peephole": replace(SHAPE, cell="peephole"),
    "mogrifier": replace(SHAPE, cell="mogrifier"),
    "gru": replace(SHAPE, cell="gru"),
    "gru, reset before": replace(SHAPE, cell="gru", reset_after=False),
    "rnn": replace(SHAPE, cell="rnn"),
    "residual, layer norm": replace(SHAPE, hidden_units=3, residual=True, layer_norm=True),
    "attention": replace(SHAPE, attention=3),
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_gates_are_those_of_the_equations() -> None:
    weights = initial_weights(SHAPE, np.random.default_rng(0), np.float64)
    seen = diagnose(weights, INPUTS)
    assert list(seen.gates) == [f"lstm_{layer}/{gate}" for layer in (0, 1) for gate in "ifo"]
    h, c = np.zeros([2, 2, 4]), np.zeros([2, 2, 4])  # of each layer
    for t in range(5):
        x = weights["embedding/table"][INPUTS[:, t]]
        for layer in (0, 1):
            kernel, recurrent, bias = (
                weights[f"lstm_{layer}/{part}"] for part in ("kernel", "recurrent_kernel", "bias")
            )
            i, f, g, o = np.split(x @ kernel + h[layer] @ recurrent + bias, 4, axis=1)
            c[layer] = sigmoid(f) * c[layer] + sigmoid(i) * np.tanh(g)
            x = h[layer] = sigmoid(o) * np.tanh(c[layer])
            for gate, value in zip("ifo", (i, f, o), strict=True):
                np.testing.assert_allclose(seen.gates[f"lstm_{layer}/{gate}"][t], sigmoid(value), rtol=1e-12)
    for layer in (0, 1):
        assert seen.cell_norms[f"lstm_{layer}"] == pytest.approx(np.sqrt((c[layer] ** 2).sum(axis=1)).mean())


@pytest.mark.parametrize("config", list(CELLS.values()), ids=list(CELLS))
def test_every_cell_has_its_own_gates_and_a_memory(config: ModelConfig) -> None:
    weights, stack = initial_weights(config, np.random.default_rng(0)), stack_of(config)
    seen = diagnose(weights, INPUTS, stack)
    layers = [f"{config.cell}_{number}" for number in (0, 1)]
    gates = {"gru": "zr", "rnn": ""}.get(config.cell, "ifo")
    assert list(seen.gates) == [f"{layer}/{gate}" for layer in layers for gate in gates]
    assert all(values.shape == (5, 2, config.hidden_units) for values in seen.gates.values())
    _, state, _ = forward(weights, INPUTS, initial_state(weights, 2, stack), stack)
    for layer, arrays in zip(layers, state[:2], strict=True):
        assert seen.cell_norms[layer] == pytest.approx(np.linalg.norm(arrays[-1], axis=1).mean())


def test_the_weights_of_a_model_are_named_as_here_and_its_memory_is_as_long(model: LanguageModel) -> None:
    inputs = np.random.default_rng(0).integers(0, model.config.vocab_size, (3, 7)).astype(np.int32)
    seen = diagnose(model.weights_as_arrays(), inputs)
    _, state = model.features(inputs)
    for layer, (_, c) in enumerate(state):
        expected = np.linalg.norm(c.numpy(), axis=1).mean()
        assert seen.cell_norms[f"lstm_{layer}"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("config", list(CELLS.values()), ids=list(CELLS))
def test_gates_without_kernels_are_what_their_bias_says(config: ModelConfig) -> None:
    rng, order = np.random.default_rng(0), "zrg" if config.cell == "gru" else "ifgo"
    weights = {name: np.zeros(shape) for name, shape in config.weight_shapes().items()}
    biases = {name: rng.normal(size=bias.shape) for name, bias in weights.items() if name.endswith("/bias")}
    seen = diagnose({**weights, **biases}, INPUTS, stack_of(config))
    for name, values in seen.gates.items():
        layer, gate = name.split("/")
        bias = biases[f"{layer}/bias"].reshape(-1, len(order), config.hidden_units).sum(axis=0)[order.index(gate)]
        np.testing.assert_allclose(values, np.broadcast_to(sigmoid(bias), values.shape), rtol=1e-12)


@pytest.mark.parametrize(("bias", "closed", "open_"), [(-9.0, 1.0, 0.0), (0.0, 0.0, 0.0), (9.0, 0.0, 1.0)])
def test_saturation_of_gates_that_a_bias_holds(bias: float, closed: float, open_: float) -> None:
    weights = {name: 0.01 * weight for name, weight in initial_weights(SHAPE, np.random.default_rng(0)).items()}
    weights["lstm_1/bias"] = np.repeat(np.array([0, bias, 0, 0], np.float32), 4)  # the forget gates of the upper layer
    seen = diagnose(weights, INPUTS)
    assert (seen.closed["lstm_1/f"], seen.open["lstm_1/f"]) == (closed, open_)
    assert (seen.closed["lstm_1/i"], seen.open["lstm_1/i"]) == (0.0, 0.0)


def test_shares_and_norms() -> None:
    seen = Diagnosis({"g": np.array([0.05, 0.1, 0.9, 0.95, 0.99])}, {})
    assert (seen.closed, seen.open) == ({"g": 0.2}, {"g": 0.4})
    assert norms({"a": np.array([3.0, 4.0])}) == {"a": 5.0}


def test_update_ratios_leave_out_weights_that_were_zero() -> None:
    before = {"a": np.array([3.0, 4.0]), "b": np.zeros(2)}
    assert update_ratios(before, {"a": np.array([3.0, 4.5]), "b": np.ones(2)}) == {"a": pytest.approx(0.1)}


def test_the_window_spans_the_stream(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
    data = encode_and_split(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file")), tokenizer)
    ids = data.train.read(0, len(data.train))
    middle = (len(ids) - 10) // 2
    expected = [ids[start : start + 10] for start in (0, middle, len(ids) - 10)]
    np.testing.assert_array_equal(window(data.train, rows=3, steps=10), expected)
    np.testing.assert_array_equal(window(data.valid, rows=4, steps=10**6), [data.valid.read(0, len(data.valid))])

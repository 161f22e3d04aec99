"""The network in ONNX Runtime: the numbers of NumPy in float32, nearly those in int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textgen.generation.text_state import join, pick
from textgen.model import onnx_int8
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.onnx_graph import Float32Products, Graph, state_names, step_graph
from textgen.model.onnx_int8 import int8_network
from textgen.model.onnx_model import OnnxModel, session_options
from textgen.model.reference import initial_weights

SHAPE: dict[str, Any] = {"embedding_dim": 12, "hidden_units": 16, "num_layers": 2}
NETWORKS = [
    *({"cell": cell} for cell in ("lstm", "gru", "rnn", "peephole", "mogrifier")),
    {"cell": "gru", "reset_after": False},
    {"cell": "rnn", "activation": "relu"},
    {"cell": "mogrifier", "mogrifier_rounds": 4, "mogrifier_rank": 3},
    {"cell": "lstm", "layer_norm": True, "residual": True, "tie_embeddings": False, "embedding_dim": 16},
    {"cell": "gru", "attention": 5, "layer_norm": True},
]


def network(seed: int = 0, scale: float = 1.0, **settings: Any) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A network of random weights, none of which is 0."""
    config = ModelConfig(50, **SHAPE | settings)
    rng = np.random.default_rng(seed)
    weights = initial_weights(config, rng)
    return config, {
        name: (scale * (array + rng.normal(0, 0.1, array.shape))).astype(np.float32) for name, array in weights.items()
    }


@pytest.mark.parametrize(("version", "spins"), [("1.25.1", "0"), ("1.26.0", "1"), ("2.0.0.dev1", "1")])
def test_threads_wait_actively_only_where_the_time_is_limited(
    version: str, spins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.__version__", version)
    options = session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == spins
    if spins == "1":
        assert int(options.get_session_config_entry("session.intra_op.spin_duration_us")) < 1000


def in_float32(config: ModelConfig, weights: dict[str, np.ndarray]) -> OnnxModel:
    return OnnxModel(step_graph(config, weights).SerializeToString(), config)


@pytest.mark.parametrize("settings", NETWORKS, ids=lambda each: "-".join(map(str, each.values())))
def test_float32_gives_the_numbers_of_numpy(settings: dict[str, Any]) -> None:
    config, weights = network(**settings)
    ours, other = NumpyModel(config, weights), in_float32(config, weights)
    state, other_state = ours.initial_state(3), other.initial_state(3)
    for ids in np.random.default_rng(1).integers(50, size=(256, 3), dtype=np.int32):
        logits, state = ours.step(ids, state)
        other_logits, other_state = other.step(ids, other_state)
        np.testing.assert_allclose(other_logits, logits, atol=1e-4)
    for before, after in zip(state, other_state, strict=True):
        for array, other_array in zip(before, after, strict=True):
            assert other_array.dtype == array.dtype
            np.testing.assert_allclose(other_array, array, atol=1e-4)


def test_texts_join_and_leave() -> None:
    config, weights = network(cell="lstm")
    model, reference = in_float32(config, weights), NumpyModel(config, weights)
    ids = np.random.default_rng(0).integers(50, size=(3, 6), dtype=np.int32)
    read = model.read(ids, model.initial_state(3))
    np.testing.assert_allclose(np.array(read), reference.read(ids, reference.initial_state(3)), atol=1e-5)
    alone = [model.read(row[None], model.initial_state(1)) for row in ids]
    together = model.read(ids[:2, :4], model.initial_state(2))
    together = join([together, model.read(ids[2:, :4], model.initial_state(1))])
    together = model.read(ids[[0, 2], 4:], pick(together, [0, 2]))
    for row, expected in enumerate((alone[0], alone[2])):
        for layer, expected_layer in zip(pick(together, [row]), expected, strict=True):
            np.testing.assert_allclose(np.array(layer), np.array(expected_layer), atol=1e-6)


def test_state_names_are_those_of_the_graph() -> None:
    config, weights = network(cell="gru", attention=5)
    graph = step_graph(config, weights, time_axis=True).graph
    assert [each.name for each in graph.input] == ["input_ids", *state_names(config, "past")]
    assert [each.name for each in graph.output] == ["logits", *state_names(config, "present")]
    assert [len(each.type.tensor_type.shape.dim) for each in graph.input] == [2, 2, 2, 3, 2]


def test_ranges_are_the_largest_magnitudes() -> None:
    config, weights = network(cell="rnn", num_layers=1)
    products = Float32Products(ranges=True)
    model = OnnxModel(step_graph(config, weights, products).SerializeToString(), config)
    _, _, found = model.step_with_more(np.array([7], np.int32), model.initial_state(1))
    ranges = dict(zip(products.outputs, found, strict=True))
    assert list(ranges) == ["range.rnn_0.0", "range.rnn_0.1", "range.projection.0", "range.head.0"]
    assert ranges["range.rnn_0.0"] == np.abs(weights["embedding/table"][7]).max()
    assert ranges["range.rnn_0.1"] == 0


def test_the_table_is_held_once_whatever_needs_it_first() -> None:
    """As embedding and as output layer, in one graph or in one after the other."""
    table, bias, products = np.ones((5, 3), np.float32), np.zeros(5, np.float32), Float32Products()
    for _ in range(2):
        graph = Graph()
        products.tied(graph, "head", "x", table, bias, "logits")
        products.embedding(graph, table, "input_ids")
        gemm, gather = graph.nodes
        assert gemm.input[1] == gather.input[0]
        assert [list(each.dims) for each in graph.constants] == [[5, 3], [5]]


def test_every_opening_is_within_the_ranges() -> None:
    """Labels are never drawn, so only what texts open with has them; there are more than texts to write."""
    config, weights = network(cell="lstm", tie_embeddings=False)
    labels = list(range(10, 50))
    weights["head/bias"][labels] = -60.0
    scales = np.random.default_rng(1).uniform(5, 50, (len(labels), 1))
    weights["embedding/table"][labels] *= scales.astype(np.float32)
    largest = np.abs(weights["embedding/table"]).max()
    found = onnx_int8._ranges(config, weights, [[1, label] for label in labels])
    assert found["lstm_0.0"] == largest
    without = onnx_int8._ranges(config, weights, [[1]])
    assert without["lstm_0.0"] < largest / 2


@pytest.mark.parametrize("settings", NETWORKS, ids=lambda each: "-".join(map(str, each.values())))
def test_int8_predicts_nearly_the_same(settings: dict[str, Any]) -> None:
    config, weights = network(**settings | {"hidden_units": 32, "embedding_dim": 32})
    _, change = int8_network(config, weights, openings=[[1]])
    assert abs(change.perplexity_change) <= 0.003
    assert 0 < change.divergence_nats <= 0.002
    assert change.tokens == 2048


def test_int8_does_not_depend_on_the_texts_beside() -> None:
    config, weights = network(cell="lstm", hidden_units=48)
    data, _ = int8_network(config, weights, openings=[[1]])
    model = OnnxModel(data, config)
    ids = np.random.default_rng(0).integers(50, size=(9, 20), dtype=np.int32)
    together, state = [], model.initial_state(9)
    alone, states = [], [model.initial_state(1) for _ in ids]
    for column in ids.T:
        logits, state = model.step(column, state)
        together.append(logits)
        rows = [model.step(column[row : row + 1], states[row]) for row in range(9)]
        alone.append(np.concatenate([logits for logits, _ in rows]))
        states = [after for _, after in rows]
    np.testing.assert_array_equal(np.array(together), np.array(alone))


def test_a_network_that_loses_much_is_told() -> None:
    config, weights = network(tie_embeddings=False)
    for layer in range(2):  # chaotic: a rounding changes all that follows
        weights[f"lstm_{layer}/kernel"] *= 8
        weights[f"lstm_{layer}/recurrent_kernel"] *= 8
    weights["head/kernel"] *= 8
    _, change = int8_network(config, weights, openings=[[1]])
    assert not change.is_small
    assert change.divergence_nats > 0.002

"""Networks that read backward, and both ways: forward networks over reversed text, two of them side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights
from streams import EOS, PAD, NumberTokenizer, documents_in, numbered, ring_of, stream_in, stream_of

from textgen.dataset.batches import Batches
from textgen.errors import ConfigError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.evaluation.dynamic_evaluation import Learner
from textgen.evaluation.evaluator import Evaluator
from textgen.evaluation.scoring import Scorer
from textgen.model.config import BACKWARD, CELLS, ModelConfig
from textgen.model.directions import one_way
from textgen.model.language_model import LanguageModel
from textgen.model.layers.dropout import Noise
from textgen.model.numpy_model import NumpyModel
from textgen.model.reference import stack_of
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.observers.diagnostics import diagnose, diagnose_directions
from textgen.training.planning.estimates import tokens_per_second, training_memory
from textgen.training.train_step import TrainStep

load_tensorflow()

V = 40
BOTH = ModelConfig(V, 6, 8, 2, dropout=0.0, embedding_dropout=0.0, direction="both")
WAYS = ("forward", "backward")


def network(config: ModelConfig, weights: dict[str, np.ndarray]) -> LanguageModel:
    model = LanguageModel(config, pad_id=PAD)
    model.assign_weights(weights)
    return model


@pytest.fixture
def untraced() -> Iterator[None]:
    """TensorFlow's functions run as Python: for a few steps that is quicker than compiling them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def halves(weights: dict[str, np.ndarray]) -> dict[str, LanguageModel]:
    return {way: network(*one_way(BOTH, weights, way)) for way in WAYS}


# === The halves of a network ===


@pytest.mark.parametrize("cell", CELLS)
def test_each_half_is_a_network_of_its_own(cell: str) -> None:
    config = replace(BOTH, cell=cell, layer_norm=True, tie_embeddings=False)
    weights = random_weights(config)
    parts = {way: one_way(config, weights, way) for way in WAYS}
    for way, (own_config, own) in parts.items():
        assert own_config == replace(config, direction=way)
        assert {name: array.shape for name, array in own.items()} == own_config.weight_shapes()
    backward = parts["backward"][1]
    for name, array in weights.items():
        assert array is (backward if name.startswith(BACKWARD) else parts["forward"][1])[name.removeprefix(BACKWARD)]
    shared = [name for name in backward if f"{BACKWARD}{name}" not in weights]
    assert shared == ["embedding/table", "projection/kernel", "projection/bias", "head/kernel", "head/bias"]


@pytest.mark.parametrize(("direction", "other"), [("forward", "backward"), ("backward", "forward")])
def test_a_network_of_one_direction_has_no_other(direction: str, other: str) -> None:
    config = replace(BOTH, direction=direction)
    weights = random_weights(config)
    assert one_way(config, weights, direction) == (config, weights)
    with pytest.raises(ConfigError, match=f"reads text {direction} only.*with the setting direction both, or {other}"):
        one_way(config, weights, other)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_only_one_of_two_directions_is_a_network_of_its_own(direction: str) -> None:
    config = replace(BOTH, direction=direction)
    weights = random_weights(config)
    with pytest.raises(ConfigError, match=r"^One direction is needed.*network\(\).* numpy_models\(\)"):
        one_way(config, weights, "both")
    for wrong in ("up", "", None, 5):
        with pytest.raises(ConfigError, match=f"^direction must be one of forward, backward. Received: {wrong!r}."):
            one_way(config, weights, wrong)  # type: ignore[arg-type]


# === Batches ===


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=12),
    st.integers(1, 7),
    st.integers(1, 7),
    st.none() | st.integers(0, 1 << 40),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.3]),
)
def test_the_reversed_ring_is_the_ring_reversed(
    lengths: list[int], rows: int, length: int, seed: int | None, epoch: int, random_bptt: float
) -> None:
    with stream_of(lengths) as stream:
        ways = {
            way: list(Batches(stream, rows, length, PAD, seed, random_bptt, direction=way).epoch(epoch))
            for way in ("forward", "backward", "both")
        }
    rings = {way: ring_of(ways[way]) for way in WAYS}
    assert np.array_equal(rings["backward"], np.roll(rings["forward"][::-1], 1)), "from the same place, the other way"
    reversed_documents = [(*document[-2::-1], EOS) for document in numbered(lengths)]
    assert sorted(documents_in(rings["backward"])) == sorted(reversed_documents)
    for forward, backward, both in zip(ways["forward"], ways["backward"], ways["both"], strict=True):
        for part in (0, 1):  # inputs, targets
            assert np.array_equal(both[part], np.hstack([forward[part], backward[part]]))


def test_batches_of_both_go_on_where_they_stopped_and_are_read_ahead(tmp_path: Path) -> None:
    stream = stream_in(tmp_path, numbered([5, 9, 4]))
    batches = Batches(stream, 2, 3, PAD, seed=1, direction="both")
    whole = list(batches.epoch(0))
    later = list(batches.dataset(0, 2, rows=slice(1, 2)).as_numpy_iterator())
    assert len(later) == len(whole) - 2
    for ours, expected in zip(later, whole[2:], strict=True):
        assert all(np.array_equal(own, both[1:2]) for own, both in zip(ours, expected, strict=True))


# === Training ===


def update_of(model: LanguageModel, **options: Any) -> TrainStep:
    config = TrainingConfig(batch_size=4, sequence_length=5, **options)
    return TrainStep(model, config, Distribution())


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("dropout", "options"),
    [
        (0.0, {"gradient_accumulation_steps": 2}),
        (0.4, {"activation_penalty": 0.7, "temporal_penalty": 0.9, "label_smoothing": 0.1}),
    ],
)
def test_a_gradient_of_both_is_the_mean_of_the_two_directions_gradients(
    tmp_path: Path, dropout: float, options: dict[str, float]
) -> None:
    """And each carries its own state: the second window begins where the first ended."""
    config = replace(BOTH, dropout=dropout, embedding_dropout=dropout, weight_drop=dropout / 2)
    weights = random_weights(config)
    stream = stream_in(tmp_path, numbered([11, 13, 9]), V)
    batches = list(Batches(stream, 4, 3, PAD, seed=0, direction="both").epoch(0))[:2]
    both = network(config, weights)
    parts = {way: network(*one_way(config, weights, way)) for way in WAYS}
    update, updates = update_of(both, **options), {way: update_of(parts[way], **options) for way in WAYS}
    state, states = both.initial_state(4), {way: parts[way].initial_state(4) for way in WAYS}
    for inputs, targets in batches:
        whole = update.gradient(inputs, targets, state, 3)
        single = {
            way: updates[way].gradient(inputs[:, half], targets[:, half], states[way], 3)
            for way, half in zip(WAYS, (slice(0, 3), slice(3, 6)), strict=True)
        }
        state, states = whole.state, {way: single[way].state for way in WAYS}
        assert whole.nats == pytest.approx((single["forward"].nats + single["backward"].nats) / 2, rel=1e-5)
        found = dict(zip(both.named_weights(), whole.gradients, strict=True))
        own = {way: dict(zip(parts[way].named_weights(), single[way].gradients, strict=True)) for way in WAYS}
        for name, gradient in found.items():
            plain = name.removeprefix(BACKWARD)
            ways = WAYS if f"{BACKWARD}{name}" not in found and name == plain else WAYS[name != plain :][:1]
            expected = sum(own[way][plain].numpy() for way in ways) / 2
            np.testing.assert_allclose(gradient, expected, atol=2e-6, err_msg=name)
        for carried, expected in zip(state, (states["forward"], states["backward"]), strict=True):
            for ours, theirs in zip(tf.nest.flatten(carried), tf.nest.flatten(expected), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_dropout_masks_are_those_of_a_network_of_one_direction() -> None:
    config = replace(BOTH, dropout=0.5, embedding_dropout=0.5)
    weights = random_weights(config)
    inputs = np.random.default_rng(0).integers(3, V, (4, 6)).astype(np.int32)
    noise = Noise(tf.constant([1, 2]), tf.constant(0), 4)
    features, _ = network(config, weights).features(inputs, noise=noise)
    for way, half in zip(WAYS, (slice(0, 3), slice(3, 6)), strict=True):
        own, _ = network(*one_way(config, weights, way)).features(inputs[:, half], noise=noise)
        np.testing.assert_allclose(features[:, half], own, atol=1e-6)


# === Scores ===


@pytest.mark.filterwarnings("ignore:Even though the .tf.config")
@pytest.mark.usefixtures("untraced")
def test_a_backward_network_scores_a_text_as_a_forward_one_the_reversed_text(tmp_path: Path) -> None:
    documents = numbered([7, 12, 3, 9])
    weights = random_weights(replace(BOTH, direction="forward"))
    (tmp_path / "reversed").mkdir()
    stream = stream_in(tmp_path, documents, V)
    turned = stream_in(tmp_path / "reversed", [[*document[-2::-1], EOS] for document in documents[::-1]], V)
    forward = network(replace(BOTH, direction="forward"), weights)
    backward = network(replace(BOTH, direction="backward"), weights)
    assert Evaluator(backward).nats(stream) == Evaluator(forward).nats(turned)
    assert Evaluator(backward).nats(stream)[0] != pytest.approx(Evaluator(forward).nats(stream)[0], rel=1e-3)


@pytest.mark.filterwarnings("ignore:Even though the .tf.config")
@pytest.mark.usefixtures("untraced")
def test_both_directions_are_scored_and_forward_is_the_main_one(tmp_path: Path) -> None:
    stream, weights = stream_in(tmp_path, numbered([7, 12, 8]), V), random_weights(BOTH)
    scores = Evaluator(network(BOTH, weights)).scores(stream)
    alone = {way: Evaluator(part).scores(stream) for way, part in halves(weights).items()}
    assert scores.nats_per_token == pytest.approx(alone["forward"].nats_per_token, rel=1e-6)
    assert scores.backward_nats_per_token == pytest.approx(alone["backward"].nats_per_token, rel=1e-6)
    assert scores.tokens == alone["forward"].tokens == len(stream)
    assert scores.to_dict().keys() - alone["forward"].to_dict().keys() == {"backward_nats_per_token"}


@pytest.mark.parametrize(
    "more", [{"neural_cache": NeuralCacheConfig()}, {"dynamic": DynamicConfig()}, {"ensemble": [None]}]
)
def test_what_is_for_one_direction_is_refused_for_both(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="need a model of one direction, not of both"):
        Evaluator(network(BOTH, random_weights(BOTH)), **more)


def test_a_text_is_scored_from_its_end() -> None:
    config = replace(BOTH, direction="backward")
    model, tokenizer = NumpyModel(config, random_weights(config)), NumberTokenizer(V)
    forward, backward = (Scorer(model, tokenizer, way).scores(["5 6 7 8", "9"]) for way in WAYS)
    turned = list(Scorer(model, tokenizer).scores(["8 7 6 5", "9"]))
    for ours, expected in zip(backward, turned, strict=True):
        assert ours.ids == expected.ids[::-1]
        np.testing.assert_allclose(ours.surprisal, expected.surprisal[::-1], rtol=1e-6)
    assert next(forward).ids == (5, 6, 7, 8, EOS)


@pytest.mark.usefixtures("untraced")
def test_learning_from_a_text_reads_it_backward(tmp_path: Path) -> None:
    stream = stream_in(tmp_path, numbered([9, 9]), V)
    weights = random_weights(replace(BOTH, direction="forward"))
    (tmp_path / "reversed").mkdir()
    turned = stream_in(tmp_path / "reversed", [[*each[-2::-1], EOS] for each in numbered([9, 9])[::-1]], V)
    learned = []
    for way, text in (("backward", stream), ("forward", turned)):
        model = network(replace(BOTH, direction=way), weights)
        Learner(model, DynamicConfig()).learn(text)
        learned.append(model.weights_as_arrays())
    assert all(np.array_equal(learned[0][name], learned[1][name]) for name in weights)


# === Around it ===


def test_the_inside_of_each_direction_is_looked_at() -> None:
    weights = random_weights(BOTH)
    inputs = np.random.default_rng(0).integers(3, V, (2, 7))
    found = diagnose_directions(BOTH, weights, inputs)
    for prefix, way, seen in (("", "forward", inputs), (BACKWARD, "backward", inputs[:, ::-1])):
        alone = diagnose(one_way(BOTH, weights, way)[1], seen, stack_of(BOTH))
        for name, gates in alone.gates.items():
            assert np.array_equal(found.gates[f"{prefix}{name}"], gates)
        for name, norm in alone.cell_norms.items():
            assert found.cell_norms[f"{prefix}{name}"] == norm
    assert len(found.gates) == 2 * len(alone.gates)


def test_two_directions_take_twice_the_work_and_more_memory() -> None:
    one = ModelConfig(8000, 256, 256)
    both, training = replace(one, direction="both"), TrainingConfig()
    speeds = [tokens_per_second(config, 1e11, "float32", 1 << 20) for config in (one, both)]
    assert speeds[0] / speeds[1] == pytest.approx(2, rel=0.01)
    recurrent = sum(np.prod(shape) for name, shape in one.weight_shapes().items() if name.startswith("lstm"))
    assert both.num_parameters - one.num_parameters == recurrent
    assert training_memory(both, training) > training_memory(one, training)
    assert tokens_per_second(replace(one, direction="backward"), 1e11, "float32") == tokens_per_second(
        one, 1e11, "float32"
    )

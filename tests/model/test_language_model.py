from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import random_weights

from textgen.errors import ConfigError, SavedModelError
from textgen.model import reference
from textgen.model.config import DROPOUTS, ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.layers import dropout
from textgen.model.layers.dropout import WEIGHT_SITE, Noise, weight_mask
from textgen.model.layers.recurrent import State
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.train_step import TrainStep

load_tensorflow()

B, T, E, V, PAD = 3, 7, 6, 11, 0
PAIRS = ((E, True, 1), (E, False, 3), (9, True, 3), (9, False, 1))  # each value with each of the others
SHAPES = [
    pytest.param(
        ModelConfig(V, E, hidden, layers, dropout=0.3, embedding_dropout=0.2, tie_embeddings=tied),
        id=f"H{hidden}-{'tied' if tied else 'untied'}-L{layers}",
        marks=[] if (hidden, tied, layers) in PAIRS else pytest.mark.slow,
    )
    for hidden in (E, 9)
    for tied in (True, False)
    for layers in (1, 3)
]
KINDS: dict[str, dict[str, Any]] = {
    "gru": {"cell": "gru"},
    "gru, reset before": {"cell": "gru", "reset_after": False},
    "rnn": {"cell": "rnn"},
    "rnn, relu": {"cell": "rnn", "activation": "relu"},
    "peephole": {"cell": "peephole"},
    "mogrifier": {"cell": "mogrifier", "mogrifier_rounds": 3},
    "mogrifier, low rank": {"cell": "mogrifier", "mogrifier_rounds": 4, "mogrifier_rank": 2},
    "residual": {"residual": True},
    "layer norm": {"layer_norm": True},
    "gru, residual and layer norm": {"cell": "gru", "residual": True, "layer_norm": True},
    "attention": {"attention": 4},
    "rnn, attention over more than a window": {"cell": "rnn", "attention": 10},
}
SHAPES += [pytest.param(ModelConfig(V, E, 9, 2, 0.3, 0.2, **kind), id=name) for name, kind in KINDS.items()]
CONFIG = ModelConfig(V, E, 9, 1, dropout=0.3, embedding_dropout=0.2)
LARGEST = ModelConfig(V, E, 9, 3, 0.3, 0.2, tie_embeddings=False, attention=5, word_dropout=0.2, weight_drop=0.3)
NO_NOISE: dict[str, Any] = dict.fromkeys(DROPOUTS, 0.0)
SILENT = replace(LARGEST, **NO_NOISE)


@functools.cache
def model_of(config: ModelConfig) -> LanguageModel:
    """With weights so large that every gate moves. Tests leave them as they are."""
    model = LanguageModel(config, pad_id=PAD)
    model.assign_weights(random_weights(config))
    return model


def random_window(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [B, T], the end of one row being padding."""
    text = np.random.default_rng(seed).integers(1, V, [B, T + 1])
    text[1, -3:] = PAD
    return text[:, :-1].astype(np.int32), text[:, 1:].astype(np.int32)


def random_state(config: ModelConfig, seed: int = 2) -> State:
    size = reference.cell_of(config).state_size
    rng = np.random.default_rng(seed)
    draws = rng.normal(0, 0.5, [config.num_layers, size, B, config.hidden_units])
    state = tuple(tuple(tf.constant(array, tf.float32) for array in layer) for layer in draws)
    if config.attention:  # nothing, a little, all that there can be
        memory = tf.constant(rng.normal(0, 0.5, [B, config.attention, config.hidden_units]), tf.float32)
        state += ((memory, tf.constant([[0.0], [2.0], [config.attention]])),)
    return state


def in_float64(model: LanguageModel, state: State) -> tuple[reference.Weights, reference.State]:
    """What the reference computes with, so that all of the error is the model's own."""
    weights = {name: value.astype(np.float64) for name, value in model.weights_as_arrays().items()}
    return weights, [tuple(array.numpy().astype(np.float64) for array in layer) for layer in state]


def assert_states_equal(state: State, expected: State | reference.State) -> None:
    assert len(state) == len(expected)
    for layer, layer_expected in zip(state, expected, strict=True):
        for array, array_expected in zip(layer, layer_expected, strict=True):
            assert array.dtype == tf.float32
            np.testing.assert_allclose(array, array_expected, atol=1e-5)


# === Forward ===


@pytest.mark.parametrize("config", SHAPES)
def test_logits_are_the_reference_s(config: ModelConfig) -> None:
    model, (inputs, _), state = model_of(config), random_window(), random_state(config)
    weights, state64 = in_float64(model, state)
    expected, expected_state, trace = reference.forward(weights, inputs, state64, reference.stack_of(config))
    logits, new_state = model(inputs, state)
    assert logits.shape == (B, T, V)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert_states_equal(new_state, expected_state)

    features, new_state = model.features(inputs, state)
    np.testing.assert_allclose(features, trace.features, atol=1e-5)
    assert_states_equal(new_state, expected_state)


@pytest.mark.parametrize("config", SHAPES)
def test_step_by_step_equals_one_pass(config: ModelConfig) -> None:
    model, (inputs, _), state = model_of(config), random_window(), random_state(config)
    expected, expected_state = model(inputs, state)
    for t in range(T):
        logits, state = model.step(inputs[:, t], state)
        assert logits.shape == (B, V)
        np.testing.assert_allclose(logits, expected[:, t], atol=1e-5)
    assert_states_equal(state, expected_state)


def test_two_halves_equal_the_whole() -> None:
    model, (inputs, _), state = model_of(LARGEST), random_window(), random_state(LARGEST)
    expected, expected_state = model(inputs, state)
    first, state = model(inputs[:, :3], state)
    second, state = model(inputs[:, 3:], state)
    np.testing.assert_allclose(tf.concat([first, second], 1), expected, atol=1e-5)
    assert_states_equal(state, expected_state)


def test_compiled_equals_eager() -> None:
    """With open shapes, as the generator compiles it."""
    model, (inputs, _), state = model_of(LARGEST), random_window(), random_state(LARGEST)
    signature = [
        tf.TensorSpec((None, None), tf.int32),
        tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:])), state),
    ]
    compiled = tf.function(lambda inputs, state: model(inputs, state), input_signature=signature)
    expected, expected_state = model(inputs, state)
    logits, new_state = compiled(inputs, state)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert_states_equal(new_state, expected_state)


def test_rows_are_independent() -> None:
    model, (inputs, _), state = model_of(LARGEST), random_window(), random_state(LARGEST)
    whole, _ = model(inputs, state)
    for row in range(B):
        own = tuple((h[row : row + 1], c[row : row + 1]) for h, c in state)
        np.testing.assert_allclose(model(inputs[row : row + 1], own)[0], whole[row : row + 1], atol=1e-5)


def test_the_initial_state_is_zeros() -> None:
    model, (inputs, _) = model_of(LARGEST), random_window()
    state = model.initial_state(B)
    assert [(h.shape, c.shape) for h, c in state] == [((B, 9), (B, 9))] * 3 + [((B, 5, 9), (B, 1))]
    assert not any(np.any(array) for layer in state for array in layer)
    np.testing.assert_array_equal(model(inputs)[0], model(inputs, state)[0])


# === Losses and gradients ===


BY_TABLE = ("H6-tied-L1", "H9-tied-L3", "gru, residual and layer norm", "attention")  # the others only in slow tests
READINGS = [
    pytest.param(
        *shape.values, reads_table, id=f"{shape.id}, by {'table' if reads_table else 'token'}",
        marks=pytest.mark.slow if shape.marks or (reads_table and shape.id not in BY_TABLE) else [],
    )
    for shape in SHAPES
    for reads_table in (False, True)
]  # fmt: skip


@pytest.mark.parametrize(("config", "reads_table"), READINGS)
def test_gradients_are_the_reference_s(config: ModelConfig, reads_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageModel, "_is_table_less_work", lambda *_: reads_table)
    model, (inputs, targets), state = model_of(config), random_window(), random_state(config)
    weights, state64 = in_float64(model, state)
    expected_loss, expected, expected_state, _ = reference.loss_and_gradients(
        weights, inputs, targets, state64, PAD, reference.stack_of(config)
    )
    named = model.named_weights()
    with tf.GradientTape() as tape:
        features, new_state = model.features(inputs, state)
        loss = model.summed_loss(features, targets) / tf.reduce_sum(tf.cast(targets != PAD, tf.float32))
    gradients = tape.gradient(loss, {name: weight.value for name, weight in named.items()})
    assert float(loss) == pytest.approx(expected_loss, abs=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert np.abs(expected[name]).max() > 1e-4, name
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected[name], atol=1e-5, rtol=1e-5, err_msg=name)
    assert_states_equal(new_state, expected_state)


def test_token_losses_are_cross_entropy_and_zero_at_padding() -> None:
    model, (inputs, targets) = model_of(CONFIG), random_window()
    logits, _ = model(inputs)
    losses = model.token_losses(model.features(inputs)[0], targets).numpy()
    assert losses.shape == (B, T)
    for row, t in np.ndindex(B, T):
        scores = logits[row, t].numpy().astype(np.float64)
        nats = math.log(np.exp(scores).sum()) - scores[targets[row, t]]
        assert losses[row, t] == (pytest.approx(nats, abs=1e-5) if targets[row, t] != PAD else 0.0)
    assert (targets == PAD).sum() == 3


# === Dropout ===


def noise(step: int = 0, **rows: int) -> Noise:
    return Noise(tf.constant([5, step], tf.int32), **rows)


def test_no_noise_no_dropout() -> None:
    model, (inputs, _), arrays = model_of(LARGEST), random_window(), model_of(LARGEST).weights_as_arrays()
    without = LanguageModel(SILENT, pad_id=PAD)
    without.assign_weights(arrays)
    plain, _ = without.features(inputs)
    np.testing.assert_array_equal(model.features(inputs)[0], plain)
    np.testing.assert_array_equal(without.features(inputs, noise=noise())[0], plain)
    assert np.abs(model.features(inputs, noise=noise())[0] - plain).max() > 0.01


CELL_KINDS: dict[str, dict[str, Any]] = {"lstm": {}}
CELL_KINDS |= {name: KINDS[name] for name in ("gru", "gru, reset before", "rnn", "peephole", "mogrifier")}


@pytest.mark.parametrize("kind", CELL_KINDS.values(), ids=list(CELL_KINDS))
def test_weight_drop_is_the_reference_with_masked_weights(kind: dict[str, Any]) -> None:
    config = ModelConfig(V, E, 9, 2, 0.0, 0.0, weight_drop=0.4, **kind)
    model, (inputs, targets), state = model_of(config), random_window(), random_state(config)
    weights, state64 = in_float64(model, state)
    kernels = [name for name in weights if name.endswith("recurrent_kernel")]
    masks = {}
    for number, name in enumerate(kernels):
        mask = weight_mask(weights[name].shape, 0.4, noise(), WEIGHT_SITE + number)
        masks[name] = np.asarray(mask, np.float64)
        weights[name] *= masks[name]
    first, second = masks.values()
    assert not np.array_equal(first, second)
    expected_loss, expected, expected_state, _ = reference.loss_and_gradients(
        weights, inputs, targets, state64, PAD, reference.stack_of(config)
    )
    named = {name: weight.value for name, weight in model.named_weights().items()}
    with tf.GradientTape() as tape:
        features, new_state = model.features(inputs, state, noise())
        loss = model.summed_loss(features, targets) / tf.reduce_sum(tf.cast(targets != PAD, tf.float32))
    assert float(loss) == pytest.approx(expected_loss, abs=1e-5)
    for name, gradient in tape.gradient(loss, named).items():
        exact = expected[name] * masks.get(name, 1.0)  # a silenced weight learns nothing
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), exact, atol=1e-5, rtol=1e-5, err_msg=name)
    assert_states_equal(new_state, expected_state)


@pytest.mark.parametrize("name", DROPOUTS)
def test_each_regularizer_alone_changes_what_is_learnt_from(name: str) -> None:
    alone: dict[str, Any] = {name: 0.4}
    model, (inputs, _) = LanguageModel(replace(SILENT, **alone), pad_id=PAD), random_window()
    model.assign_weights(model_of(LARGEST).weights_as_arrays())
    plain, _ = model.features(inputs)
    assert np.abs(model.features(inputs, noise=noise())[0] - plain).max() > 0.01


def test_the_same_noise_is_the_same_dropout() -> None:
    model, (inputs, _) = model_of(LARGEST), random_window()
    first, state = model.features(inputs, noise=noise(1))
    keras.utils.set_random_seed(99)  # no hidden generator is asked
    again, again_state = model.features(inputs, noise=noise(1))
    np.testing.assert_array_equal(first, again)
    assert_states_equal(again_state, state)
    np.testing.assert_array_equal(model(inputs, noise=noise(1))[0], model.head(first, model.embedding.embeddings))
    assert np.abs(first - model.features(inputs, noise=noise(2))[0]).max() > 0.01


def test_shards_have_the_dropout_of_the_whole_batch() -> None:
    model, (inputs, _), state = model_of(LARGEST), random_window(), random_state(LARGEST)
    whole, whole_state = model.features(inputs, state, noise(num_rows=B))
    np.testing.assert_array_equal(whole, model.features(inputs, state, noise())[0])
    for rows in (slice(0, 1), slice(1, 3)):
        own = tuple((h[rows], c[rows]) for h, c in state)
        features, new_state = model.features(inputs[rows], own, noise(first_row=rows.start, num_rows=B))
        np.testing.assert_allclose(features, whole[rows], atol=1e-5)
        assert_states_equal(new_state, tuple((h[rows], c[rows]) for h, c in whole_state))


def test_a_network_of_both_directions_reads_as_many_tokens_in_each() -> None:
    model = model_of(replace(LARGEST, attention=0, direction="both"))
    inputs, _ = random_window()
    for read in (model, model.features, model.read, tf.function(model.features)):
        with pytest.raises(ConfigError, match=r"reads T tokens .* together, as \[B, 2T\]. Received: 5 tokens"):
            read(inputs[:, :5])
        assert read(inputs[:, :6])[0].shape[1] == 6
    for step in (model.step, model.step_features):
        with pytest.raises(ConfigError, match=r"cannot read one token after another. .*network\(\"forward\"\)"):
            step(inputs[:, 0], model.initial_state(B))
    one_way = model_of(replace(LARGEST, attention=0))
    assert one_way(inputs[:, :5])[0].shape[1] == 5


@pytest.mark.parametrize(
    "kind", [{}, {"direction": "both"}, {"cell": "gru", "residual": True, "layer_norm": True}], ids=str
)
def test_rows_of_a_table_are_what_tokens_are(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Words silenced and padding among them."""
    model = model_of(replace(LARGEST, attention=0, embedding_dropout=0.0, **kind))
    inputs, targets = (array[:, :6] for array in random_window())
    results = []
    for reads_table in (False, True):
        monkeypatch.setattr(LanguageModel, "_is_table_less_work", lambda *_, reads_table=reads_table: reads_table)
        weights = [weight.value for weight in model.trainable_weights]
        with tf.GradientTape() as tape:
            features, state = model.features(inputs, noise=noise())
            loss = model.summed_loss(features, targets)
        results.append([features, *tf.nest.flatten(state), loss, *tape.gradient(loss, weights)])
    for by_token, by_table in zip(*results, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(by_table), tf.convert_to_tensor(by_token), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("vocab_size", "tokens", "options", "expected"),
    [
        (65, 1024, {}, True),
        (256, 1024, {"dropout": 0.4, "word_dropout": 0.1}, True),
        (65, 1, {}, False),
        (65, None, {}, False),
        (8000, 1024, {}, False),
        (65, 1024, {"embedding_dropout": 0.1}, False),
    ],
)
def test_the_table_is_read_where_that_is_less_work(
    vocab_size: int, tokens: int | None, options: dict[str, Any], expected: bool
) -> None:
    settings = {"dropout": 0.0, "embedding_dropout": 0.0, **options}
    model = LanguageModel(ModelConfig(vocab_size, 256, 8, 1, **settings), pad_id=PAD)
    assert model._is_table_less_work(tokens, noise()) is expected
    if tokens:  # without dropout, as when texts are scored
        assert model._is_table_less_work(tokens, None) is (expected or bool(settings["embedding_dropout"]))


# === Weights ===


@pytest.mark.parametrize("config", SHAPES)
def test_named_weights_are_those_of_the_config(config: ModelConfig) -> None:
    model = model_of(config)
    named = model.named_weights()
    assert {name: tuple(weight.shape) for name, weight in named.items()} == config.weight_shapes()
    assert {id(weight) for weight in named.values()} == {id(weight) for weight in model.trainable_weights}
    assert len(model.weights) == len(named)
    assert model.count_params() == config.num_parameters
    arrays = model.weights_as_arrays()
    assert {name: array.shape for name, array in arrays.items()} == config.weight_shapes()
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_arrays_are_copies() -> None:
    model = LanguageModel(CONFIG, pad_id=PAD)
    arrays = model.weights_as_arrays()
    arrays["head/bias"][:] = 7
    assert not model.head.bias.numpy().any()
    model.head.bias.assign(np.full(V, 3.0, np.float32))
    assert (arrays["head/bias"] == 7).all()


def test_assigned_weights_are_taken_over() -> None:
    model, (inputs, _) = LanguageModel(LARGEST, pad_id=PAD), random_window()
    model.assign_weights(model_of(LARGEST).weights_as_arrays())
    np.testing.assert_array_equal(model(inputs)[0], model_of(LARGEST)(inputs)[0])


def test_weights_that_do_not_fit() -> None:
    model = LanguageModel(CONFIG, pad_id=PAD)
    arrays = model.weights_as_arrays()
    with pytest.raises(SavedModelError, match="head/bias"):
        model.assign_weights({name: array for name, array in arrays.items() if name != "head/bias"})
    with pytest.raises(SavedModelError, match="head/extra"):
        model.assign_weights(arrays | {"head/extra": np.zeros(1, np.float32)})
    with pytest.raises(SavedModelError, match=r"head/bias.*\(11,\).*\(12,\)"):
        model.assign_weights(arrays | {"head/bias": np.zeros(V + 1, np.float32)})
    other = LanguageModel(LARGEST, pad_id=PAD)
    with pytest.raises(SavedModelError, match="lstm_1/kernel"):
        model.assign_weights(other.weights_as_arrays())
    for name, array in model.weights_as_arrays().items():  # nothing was taken over by halves
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("seed", [0, 1, (1 << 32) - 1, (1 << 63) - 1])
def test_the_same_seed_gives_the_same_weights(seed: int) -> None:
    first = LanguageModel(LARGEST, pad_id=PAD, seed=seed).weights_as_arrays()
    again = LanguageModel(LARGEST, pad_id=PAD, seed=seed).weights_as_arrays()
    other = LanguageModel(LARGEST, pad_id=PAD, seed=seed - 1 if seed else 7).weights_as_arrays()
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        if not name.endswith(("/bias", "/beta", "/gamma", "attention/output")):
            assert not np.array_equal(array, other[name]), name
    kernels = [first[f"lstm_{layer}/recurrent_kernel"] for layer in range(3)]
    assert not np.array_equal(kernels[0], kernels[1])


def test_first_weights() -> None:
    weights = LanguageModel(LARGEST, pad_id=PAD).weights_as_arrays()
    for layer in range(3):
        np.testing.assert_array_equal(
            weights[f"lstm_{layer}/bias"], np.repeat([0.0, 1.0, 0.0, 0.0], LARGEST.hidden_units)
        )
        kernel = weights[f"lstm_{layer}/recurrent_kernel"]
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(LARGEST.hidden_units), atol=1e-5)
    assert not weights["attention/output"].any()
    assert not weights["projection/bias"].any()
    assert not weights["head/bias"].any()
    assert 0.05 < np.abs(weights["embedding/table"]).max() <= 0.1


def test_start_bias_is_log_p() -> None:
    model = LanguageModel(CONFIG, pad_id=PAD)
    counts = np.arange(V, dtype=np.int64) * 1000
    model.start_bias(counts)
    bias = model.head.bias.numpy()
    smoothed = [count + 0.5 for count in counts.tolist()]
    np.testing.assert_allclose(bias, [math.log(n / sum(smoothed)) for n in smoothed], rtol=1e-6)
    assert np.isfinite(bias).all()
    assert np.exp(bias.astype(np.float64)).sum() == pytest.approx(1)
    np.testing.assert_allclose(np.exp(bias), counts / counts.sum(), atol=2e-5)

    model.assign_weights({n: a * (n == "head/bias") for n, a in model.weights_as_arrays().items()})
    inputs, targets = random_window()
    losses = model.token_losses(model.features(inputs)[0], targets)
    np.testing.assert_allclose(losses, np.where(targets == PAD, 0, -bias[targets]), atol=1e-5)


def test_training_true_means_dropout_or_is_refused() -> None:
    """Keras passes `training`; dropout is drawn from what the caller gives, so without it there is none to be had."""
    inputs, still = tf.ones((2, 6), tf.int32), ModelConfig(V, E, 9, 2, **NO_NOISE)
    for name in NO_NOISE:
        share: dict[str, Any] = {name: 0.9}
        model = model_of(replace(still, **share))
        with pytest.raises(ConfigError, match=r"training=True needs random numbers for dropout: .*noise=Noise"):
            model(inputs, training=True)
        plain, noisy = model(inputs)[0], model(inputs, noise=Noise([1, 2]), training=True)[0]
        assert not np.allclose(plain, noisy), name
        np.testing.assert_array_equal(model(inputs, training=False)[0], plain)
        np.testing.assert_array_equal(model(inputs, noise=Noise([1, 2]), training=False)[0], plain)
        np.testing.assert_array_equal(model(inputs, noise=Noise([1, 2]))[0], noisy)
    np.testing.assert_array_equal(model_of(still)(inputs, training=True)[0], model_of(still)(inputs)[0])
    stack = model_of(replace(still, dropout=0.9)).recurrent
    with pytest.raises(ConfigError, match="training=True needs random numbers for dropout"):
        stack(tf.ones((2, 6, E)), stack.initial_state(2), training=True)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_no_integers_are_transposed_in_training(direction: str) -> None:
    """oneDNN has no kernel for that and says so on stderr, however quiet TensorFlow is told to be."""
    shape = ModelConfig(5, E, 9, 2, **NO_NOISE, direction=direction, attention=0 if direction == "both" else 2)
    penalties: dict[str, Any] = {"activation_penalty": 1.0, "temporal_penalty": 1.0, "label_smoothing": 0.1}
    config = TrainingConfig(batch_size=4, sequence_length=8, steps=1, **penalties)
    model = LanguageModel(shape, pad_id=0)
    update = TrainStep(model, config, Distribution())
    rows = np.ones((4, 8 * len(shape.directions)), np.int32)  # enough ids that the table's rows are read
    traced: list[Any] = []
    gradient = update._compiled_gradient

    def noted(*arguments: Any) -> Any:
        traced.append(gradient.get_concrete_function(*arguments).graph.as_graph_def())
        return gradient(*arguments)

    update._compiled_gradient = noted
    update.gradient(tf.constant(rows), tf.constant(rows), model.initial_state(4), 0)
    (graph,) = traced
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    transposed = [tf.dtypes.as_dtype(node.attr["T"].type) for node in nodes if node.op.endswith("Transpose")]
    assert len(transposed) > 3
    assert not [dtype for dtype in transposed if dtype.is_integer]


def test_what_is_drawn_separately_has_random_numbers_of_its_own() -> None:
    """Each kind of noise folds a number of its own into the seed of the step; layers count on from theirs."""
    numbers = sorted(value for name, value in vars(dropout).items() if name.endswith("_SITE"))
    assert len(numbers) == 5
    assert min(after - before for before, after in itertools.pairwise(numbers)) >= 512

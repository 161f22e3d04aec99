"""The LSTM's own loop gives what Keras's gives, and its hand-written gradients are those of autodiff."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from textgen.model.layers import lstm
from textgen.model.layers.cudnn import backend
from textgen.model.layers.gru import GRU
from textgen.model.layers.lstm import LSTM
from textgen.model.layers.mogrifier import Mogrifier
from textgen.model.layers.peephole import Peephole
from textgen.model.layers.rnn import RNN
from textgen.system.runtime import load_tensorflow

load_tensorflow()

RNG = np.random.default_rng(1)


def normal(*shape: int) -> tf.Tensor:
    return tf.constant(RNG.normal(0, 1, shape), tf.float32)


def pair(units: int, inputs: int, **options: Any) -> tuple[LSTM, keras.layers.LSTM]:
    """Ours and Keras's, with the same random weights."""
    ours, keras_own = LSTM(units, **options), keras.layers.LSTM(units, **options)
    for layer in (ours, keras_own):
        layer.build((4 if options.get("stateful") else None, None, inputs))
    ours.set_weights([RNG.normal(0, 0.3, w.shape) for w in ours.get_weights()])
    keras_own.set_weights(ours.get_weights())
    return ours, keras_own


def results_and_gradients(layer: keras.layers.LSTM, inputs: list[tf.Tensor], compiled: bool, **call: Any) -> list[Any]:
    """All outputs of the layer, and the gradients of a function of them to inputs and weights."""

    def run(inputs: list[tf.Tensor]) -> Any:
        x, *state = inputs
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(layer(x, initial_state=state or None, **call))
            loss = tf.add_n([tf.reduce_sum(tf.sin(tf.cast(y, tf.float32) * (k + 1))) for k, y in enumerate(outputs)])
        return outputs, tape.gradient(loss, [inputs, [w.value for w in layer.trainable_variables]])

    return tf.nest.flatten((tf.function(run) if compiled else run)(inputs))


def assert_same(ours: list[Any], theirs: list[Any], tolerance: float = 1e-5) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(tf.cast(other, tf.float32)))))
        np.testing.assert_allclose(tf.cast(mine, tf.float32), tf.cast(other, tf.float32), atol=tolerance * scale)


SHAPES = [(1, 1, 1, 1), (1, 9, 3, 5), (7, 1, 4, 2), (5, 33, 6, 17), (16, 20, 32, 32)]


@pytest.mark.parametrize(
    ("shape", "compiled"),
    [
        *((shape, False) for shape in SHAPES),
        *(pytest.param(shape, True, marks=() if shape in SHAPES[2:4] else pytest.mark.slow) for shape in SHAPES),
    ],
)
def test_outputs_states_and_all_gradients_are_keras_s(shape: tuple[int, ...], compiled: bool) -> None:
    rows, steps, inputs, units = shape
    ours, theirs = pair(units, inputs, return_sequences=True, return_state=True)
    arguments = [normal(rows, steps, inputs), normal(rows, units), normal(rows, units)]
    mine, others = (results_and_gradients(layer, arguments, compiled) for layer in (ours, theirs))
    assert_same(mine, others)


@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": True},
        {"return_state": True},
        {"go_backwards": True, "return_sequences": True, "return_state": True},
        {"use_bias": False, "return_sequences": True},
        {"unroll": True, "return_sequences": True},
        {"activation": "relu", "return_sequences": True},
        {"recurrent_activation": "hard_sigmoid"},
        {},
    ],
    ids=lambda options: " ".join(options) or "none",
)
def test_options_mean_what_they_mean_to_keras(options: dict[str, Any]) -> None:
    ours, theirs = pair(6, 4, **options)
    arguments = [normal(3, 7, 4)]
    mine, others = (results_and_gradients(layer, arguments, True) for layer in (ours, theirs))
    assert_same(mine, others)


def test_a_mask_skips_steps_as_in_keras() -> None:
    mask = tf.constant([[True, True, False, True], [True, False, False, False], [False, True, True, True]])
    ours, theirs = pair(6, 4, return_sequences=True, return_state=True)
    arguments = [normal(3, 4, 4), normal(3, 6), normal(3, 6)]
    mine, others = (results_and_gradients(layer, arguments, False, mask=mask) for layer in (ours, theirs))
    assert_same(mine, others)


def test_input_dropout_is_one_mask_over_time_and_only_in_training() -> None:
    layer, _ = pair(6, 50, dropout=0.5, return_sequences=True)
    x = tf.ones((2, 3, 50))
    assert_same([layer(x, training=False)], [layer(x)])
    assert np.abs(layer(x, training=True) - layer(x)).max() > 1e-3


def test_shapes_that_are_not_known_beforehand_take_keras_s_loop() -> None:
    ours, theirs = pair(6, 4, return_sequences=True)
    run = tf.function(ours, input_signature=[tf.TensorSpec((None, None, 4))])
    for rows, steps in ((2, 3), (5, 9)):
        x = normal(rows, steps, 4)
        assert_same([run(x)], [theirs(x)])
    assert run.experimental_get_tracing_count() == 1


def test_two_windows_with_carried_state_are_one_long_window() -> None:
    layer, _ = pair(6, 4, return_sequences=True, return_state=True)
    x = normal(3, 10, 4)
    whole, *state = layer(x)
    first, *carried = layer(x[:, :4])
    second, *last = layer(x[:, 4:], initial_state=carried)
    assert_same([tf.concat([first, second], 1), *last], [whole, *state], 1e-6)


def test_time_first_is_the_same_thing() -> None:
    layer, _ = pair(6, 4, return_sequences=True, return_state=True)
    x, h, c = normal(3, 10, 4), normal(3, 6), normal(3, 6)
    outputs, state = layer.scan(tf.transpose(x, (1, 0, 2)), (h, c))
    assert_same([tf.transpose(outputs, (1, 0, 2)), *state], list(layer(x, initial_state=[h, c])), 1e-6)


def test_low_precision_is_near_and_keeps_the_state_in_float32() -> None:
    layer, _ = pair(32, 32, return_sequences=True, return_state=True)
    x, h, c = normal(20, 4, 32), normal(4, 32), normal(4, 32)
    exact = tf.nest.flatten(layer.scan(x, (h, c)))
    near = tf.nest.flatten(layer.scan(tf.cast(x, tf.bfloat16), (h, c)))
    assert [tensor.dtype for tensor in near] == [tf.bfloat16, tf.float32, tf.float32]
    for mine, other in zip(near, exact, strict=True):
        assert np.abs(tf.cast(mine, tf.float32) - other).max() < 0.05


def test_low_precision_has_nearly_the_same_gradients() -> None:
    """In float32 they are held to those of Keras above."""
    units = 16
    ours, theirs = pair(units, 8, return_sequences=True, return_state=True)
    x, state = normal(3, 9, 8), [normal(3, units), normal(3, units)]
    ours.set_weights([w * 0.3 for w in ours.get_weights()])
    theirs.set_weights(ours.get_weights())
    weights = [w.value for w in ours.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, *state])
        low = ours.scan(tf.cast(tf.transpose(x, (1, 0, 2)), tf.bfloat16), tuple(state))
        exact = theirs(x, initial_state=state)
        losses = [
            tf.add_n([tf.reduce_mean(tf.sin(tf.cast(y, tf.float32))) for y in tf.nest.flatten(result)])
            for result in (low, exact)
        ]
    mine = tape.gradient(losses[0], [x, *state, *weights])
    others = tape.gradient(losses[1], [x, *state, *[w.value for w in theirs.trainable_variables]])
    for ours_, theirs_ in zip(mine, others, strict=True):
        error = tf.norm(ours_ - theirs_) / tf.norm(theirs_)
        assert error < 0.03


def test_loops_inside_xla_never_convert_whole_arrays_of_low_precision() -> None:
    """Of a window's numbers in 16 bits, a step makes its own float32."""
    steps, rows, units = 7, 3, 5
    from_x = tf.zeros((steps, rows, 4 * units), tf.uint16)
    weights = tf.zeros((units, 4 * units)), tf.zeros(4 * units), tf.zeros((rows, units)), tf.zeros((rows, units))
    compiled = lstm._forward_loop.compiled().experimental_get_compiler_ir(from_x, *weights, tf.bfloat16)(
        "optimized_hlo"
    )
    gates, hidden, cells, last = lstm._forward_loop(from_x, *weights, tf.bfloat16)
    assert {array.dtype for array in (*gates, hidden)} == {tf.uint16}
    assert cells.dtype == last.dtype == tf.float32
    assert f"u16[{steps},{rows},{4 * units}]" in compiled
    assert f"f32[{steps},{rows},{4 * units}]" not in compiled


@pytest.mark.parametrize("is_backward", [False, True], ids=["forward", "backward"])
def test_products_of_a_step_are_of_low_precision(is_backward: bool) -> None:
    """XLA would compute a product of 16 bits, whose sums have 16 bits too, in float32."""
    steps, rows, units = 7, 16, 32
    bits, state = tf.zeros((steps, rows, units), tf.uint16), tf.zeros((rows, units))
    kernel, from_x = tf.zeros((units, 4 * units)), tf.zeros((steps, rows, 4 * units), tf.uint16)
    arguments: tuple[Any, ...] = from_x, kernel, tf.zeros(4 * units), state, state
    if is_backward:
        arguments = bits, state, state, [bits] * 4, tf.zeros((steps + 1, rows, units)), tf.transpose(kernel)
    loop = lstm._backward_loop if is_backward else lstm._forward_loop
    code = loop.compiled().experimental_get_compiler_ir(*arguments, tf.bfloat16)("hlo")
    products = re.findall(r"= (\w+)\[\S* dot\((\w+)\[\S* \S+ (\w+)\[", code)
    assert set(products) == {("f32", "bf16", "bf16")}


def test_gates_are_kept_far_more_precisely_than_in_bfloat16() -> None:
    gates = tf.concat([[-1.0, 0.0, 1.0], tf.linspace(-1.0, 1.0, 100_001)], 0)
    kept = lstm._kept(gates, tf.bfloat16)
    assert kept.dtype == tf.uint16
    assert np.abs(lstm._of_kept(kept) - gates).max() <= 0.51 / 32767
    assert np.abs(tf.cast(tf.cast(gates, tf.bfloat16), tf.float32) - gates).max() > 50 / 32767
    np.testing.assert_array_equal(lstm._of_kept(kept)[:3], gates[:3])
    assert lstm._of_kept(lstm._kept(gates, tf.float32)) is gates


def test_a_bfloat16_policy_works_and_its_gradients_are_near() -> None:
    ours, theirs = pair(16, 8, return_sequences=True)
    mixed = LSTM(16, return_sequences=True, dtype="mixed_bfloat16")
    mixed.build((None, None, 8))
    mixed.set_weights(ours.get_weights())
    x = [normal(4, 12, 8)]
    low, exact = (results_and_gradients(layer, x, True) for layer in (mixed, theirs))
    assert low[0].dtype == tf.bfloat16
    assert [w.dtype for w in mixed.weights] == ["float32"] * 3
    for mine, other in zip(low, exact, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(other))))
        assert np.abs(tf.cast(mine, tf.float32) - other).max() < 0.05 * scale


def test_it_stays_a_keras_layer() -> None:
    layer, theirs = pair(5, 3, return_sequences=True)
    assert isinstance(layer, keras.layers.LSTM)
    assert layer.get_config() | {"name": ""} == theirs.get_config() | {"name": ""}
    again = LSTM.from_config(layer.get_config())
    again.build((None, None, 3))
    again.set_weights(layer.get_weights())
    x = normal(2, 4, 3)
    assert_same([again(x)], [layer(x)], 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras with NumPy 2
def test_it_is_copied_by_a_layer_around_it_saved_and_loaded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Bidirectional(LSTM(4, return_sequences=True)), LSTM(3)])
    x = normal(2, 5, 3)
    expected = model(x)
    assert isinstance(model.layers[0].backward_layer, LSTM)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), expected)
    assert isinstance(again.layers[0].backward_layer, LSTM)


def test_a_layer_that_was_saved_before_it_had_a_name_of_its_own_is_loaded() -> None:
    before = keras.saving.serialize_keras_object(LSTM(3)) | {"registered_name": "LSTM"}
    assert before["module"] == "textgen.model.layers.lstm"
    layer = keras.saving.deserialize_keras_object(before, custom_objects={"LSTM": LSTM})
    assert isinstance(layer, LSTM)
    assert layer.units == 3


@pytest.mark.parametrize("compiled", [False, True])
def test_double_precision_is_that_of_keras(compiled: bool) -> None:
    ours, keras_own = pair(5, 3, dtype="float64", return_sequences=True)
    x = tf.cast(normal(4, 6, 3), tf.float64)
    results = [results_and_gradients(layer, [x], compiled) for layer in (ours, keras_own)]
    for mine, other in zip(*results, strict=True):
        assert mine.dtype == other.dtype == tf.float64
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)


def test_inside_a_model_that_keras_trains() -> None:
    model = keras.Sequential([keras.Input((6, 3)), LSTM(8), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = RNG.normal(0, 1, (32, 6, 3)).astype(np.float32)
    y = x.sum((1, 2))[:, None]
    history = model.fit(x, y, epochs=8, batch_size=10, verbose=0)  # the last batch has 2 rows
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.parametrize(("gpus", "path"), [(1, "cuDNN"), (0, "own loop, compiled by XLA")])
def test_the_path_taken_is_said(
    gpus: int, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tensorflow.config.list_logical_devices", lambda kind: [object()] * gpus)
    backend.cache_clear()
    try:
        with caplog.at_level("INFO", logger="textgen.model.layers.cudnn"):
            assert [backend(), backend()] == [path, path]
    finally:
        backend.cache_clear()
    assert caplog.messages == [f"LSTM by {path}"]


class CuDNN:
    """Takes the place of Keras's loop, where cuDNN would be called: keeps what it was handed, and computes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, Any, Any]] = []
        original = keras.layers.LSTM.inner_loop

        def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            self.calls.append((sequences, initial_state, mask))
            return original(layer, sequences, initial_state, mask, training)

        monkeypatch.setattr("textgen.model.layers.lstm.backend", lambda: "cuDNN")
        monkeypatch.setattr(keras.layers.LSTM, "inner_loop", inner_loop)


def test_as_a_layer_of_keras_it_hands_everything_on_to_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair(5, 4, return_sequences=True, return_state=True)
    arguments = [normal(3, 7, 4), normal(3, 5), normal(3, 5)]
    cudnn = CuDNN(monkeypatch)
    mine = results_and_gradients(ours, arguments, False)
    assert len(cudnn.calls) == 1
    assert_same(mine, results_and_gradients(theirs, arguments, False))


def test_shards_of_a_batch_add_up_to_the_whole() -> None:
    layer, _ = pair(6, 4, return_sequences=True)
    x = normal(6, 5, 4)
    whole = results_and_gradients(layer, [x], True)
    parts = [results_and_gradients(layer, [x[rows]], True) for rows in (slice(0, 3), slice(3, 6))]
    for first, second, both in zip(*parts, whole, strict=True):
        if both.shape == first.shape:  # gradients of weights
            np.testing.assert_allclose(first + second, both, atol=1e-4)


# === Options ===


NAMES = ("use_bias", "go_backwards", "return_sequences", "return_state")
PRODUCT = [dict(zip(NAMES, values, strict=True)) for values in itertools.product([True, False], repeat=len(NAMES))]
SINGLY: list[dict[str, Any]] = [
    {"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"activation": None},
    {"activation": "relu", "use_bias": False}, {"unroll": True}, {"unroll": True, "use_bias": False},
    {"stateful": True}, {"recurrent_dropout": 0.3}, {"dropout": 0.3}, {"dropout": 0.3, "use_bias": False},
    {"use_cudnn": False}, {"unit_forget_bias": False}, {"kernel_constraint": "non_neg"}, {"kernel_regularizer": "l2"},
    {"seed": 3},
    {"kernel_initializer": "ones", "recurrent_initializer": "zeros", "bias_initializer": "ones"},
]  # fmt: skip


@pytest.mark.parametrize("options", [*PRODUCT, *SINGLY], ids=str)
def test_every_option_of_keras_means_the_same_or_is_refused_by_name(options: dict[str, Any]) -> None:
    """Called, step by step, and time first, each against Keras's own layer and cell."""
    ours, theirs = pair(6, 3, **options)
    assert [w.path.split("/")[-1] for w in ours.weights] == [w.path.split("/")[-1] for w in theirs.weights]
    x, h, c = normal(4, 5, 3), normal(4, 6), normal(4, 6)
    assert_same(tf.nest.flatten(ours(x, initial_state=[h, c])), tf.nest.flatten(theirs(x, initial_state=[h, c])))
    state, expected = (h, c), [h, c]
    for at in range(5):
        state, (_, expected) = ours.step(x[:, at], state), theirs.cell(x[:, at], expected)
        assert_same(list(state), expected)
    refused = [name for name in ("go_backwards", "return_sequences") if options.get(name) is (name == "go_backwards")]
    refused = refused or ([] if "return_sequences" in options else ["return_sequences"])
    if refused:
        with pytest.raises(ValueError, match=refused[0]):
            ours.scan(tf.transpose(x, (1, 0, 2)), (h, c))
    else:
        outputs, after = ours.scan(tf.transpose(x, (1, 0, 2)), (h, c))
        assert_same([outputs[-1], *after], [expected[0], *expected])


@pytest.mark.parametrize("options", [{**options, "return_sequences": True} for options in SINGLY], ids=str)
def test_time_first_with_every_option(options: dict[str, Any]) -> None:
    ours, theirs = pair(6, 3, **options)
    x, h, c = normal(4, 5, 3), normal(4, 6), normal(4, 6)
    expected = [h, c]
    for at in range(5):
        _, expected = theirs.cell(x[:, at], expected)
    outputs, after = ours.scan(tf.transpose(x, (1, 0, 2)), (h, c))
    assert_same([outputs[-1], *after], [expected[0], *expected])
    mask = tf.cast(normal(6, 24) > 0, tf.float32)
    if any(name in options for name in ("activation", "recurrent_activation")):
        with pytest.raises(ValueError, match="weight mask"):
            ours.scan(tf.transpose(x, (1, 0, 2)), (h, c), mask)
    else:
        ours.scan(tf.transpose(x, (1, 0, 2)), (h, c), mask)


def test_second_derivatives_are_those_of_keras_where_it_is_unrolled_and_an_error_elsewhere() -> None:
    ours, theirs = pair(6, 3, return_sequences=True, unroll=True)
    x = tf.constant(normal(4, 5, 3))

    def second(layer: Any) -> tf.Tensor:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x) ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(penalty, x)

    expected = second(theirs)
    assert float(tf.norm(expected)) > 0.01
    assert_same([second(ours)], [expected])
    with pytest.raises(tf.errors.UnimplementedError):
        second(pair(6, 3, return_sequences=True)[0])


@pytest.mark.parametrize("cell", [GRU, RNN, Peephole, Mogrifier])
@pytest.mark.parametrize(
    "option", ["use_bias", "go_backwards", "return_sequences", "return_state", "stateful", "unroll", "dropout"]
)
def test_other_cells_refuse_what_they_do_not_know(cell: Any, option: str) -> None:
    with pytest.raises((TypeError, ValueError), match=option):
        cell(4, **{option: True})

"""What cuDNN would be handed on a GPU, and that it means the same there.

No GPU is needed: a function takes the place of TensorFlow's operation. It unpacks the weights as the documentation of
cuDNN says they are packed, and computes cuDNN's equations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from textgen.model.config import ModelConfig
from textgen.model.layers.recurrent import make_layer
from textgen.system.runtime import load_tensorflow

load_tensorflow()

T, B, E, H, V = 7, 3, 4, 5, 9
RNG = np.random.default_rng(2)


def normal(*shape: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.cast(tf.constant(RNG.normal(0, 0.7, shape), tf.float32), dtype)


class CuDNN:
    """Takes the place of `tf.raw_ops.CudnnRNNV3`, and keeps what it was handed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = list[dict[str, Any]]()
        monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", self)
        for module in ("lstm", "gru"):
            monkeypatch.setattr(f"textgen.model.layers.{module}.backend", lambda: "cuDNN")

    def __call__(self, **arguments: Any) -> tuple[tf.Tensor, ...]:
        """Documentation: cudnnGetRNNWeightParams (linLayerID), cudnnRNNMode_t (the equations)."""
        self.calls.append(arguments)
        assert arguments["time_major"]
        assert arguments["is_training"]
        x, h = arguments["input"], arguments["input_h"][0]
        gates = {"lstm": 4, "gru": 3}[arguments["rnn_mode"]]
        shapes = [(H, E)] * gates + [(H, H)] * gates + [(H,)] * 2 * gates
        parts = tf.split(arguments["params"], [int(np.prod(shape)) for shape in shapes])
        parts = [tf.cast(tf.reshape(part, shape), tf.float32) for part, shape in zip(parts, shapes, strict=True)]
        w, r, b_w, b_r = (parts[start * gates : (start + 1) * gates] for start in range(4))
        outputs, h = [], tf.cast(h, tf.float32)
        c = tf.cast(arguments["input_c"][0], tf.float32) if gates == 4 else None
        for step in tf.unstack(tf.cast(x, tf.float32)):
            from_x = [step @ tf.transpose(m) + b for m, b in zip(w, b_w, strict=True)]
            from_h = [h @ tf.transpose(m) + b for m, b in zip(r, b_r, strict=True)]
            if gates == 4:
                i, f, new, o = (a + b for a, b in zip(from_x, from_h, strict=True))
                c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(new)
                h = tf.sigmoid(o) * tf.tanh(c)
            else:
                reset, update = (tf.sigmoid(from_x[k] + from_h[k]) for k in (0, 1))
                new = tf.tanh(from_x[2] + reset * from_h[2])
                h = (1 - update) * new + update * h
            outputs.append(h)
        last = [tf.cast(array[None], x.dtype) for array in (h, h if c is None else c)]
        return tf.cast(tf.stack(outputs), x.dtype), *last, tf.zeros(0, x.dtype), tf.zeros(0, tf.int8)


def layer_of(cell: str) -> Any:
    layer = make_layer(ModelConfig(V, E, H, 1, cell=cell), f"{cell}_0")
    layer.build((None, None, E))
    for weight in layer.trainable_weights:
        weight.assign(normal(*weight.shape))
    return layer


def results(layer: Any, x: tf.Tensor, state: tuple[tf.Tensor, ...], **options: Any) -> list[tf.Tensor]:
    """Outputs, state, and the gradients of a function of them."""
    with tf.GradientTape() as tape:
        tape.watch([x, *state])
        outputs, last = layer.scan(x, state, **options)
        loss = sum(tf.reduce_sum(tf.sin(tf.cast(y, tf.float32))) for y in (outputs, *last))
    weights = [weight.value for weight in layer.trainable_weights]
    return [outputs, *last, *map(tf.convert_to_tensor, tape.gradient(loss, [x, *state, *weights]))]


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16], ids=lambda dtype: str(dtype.name))
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("form", ["rows", "table", "mask"])
def test_cudnn_gets_and_gives_what_the_own_loop_does(
    cell: str, form: str, dtype: tf.DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the precision of the inputs; but in float32 for bfloat16, which TensorFlow would cast to it all the same."""
    layer = layer_of(cell)
    x = normal(V, E, dtype=dtype) if form == "table" else normal(T, B, E, dtype=dtype)
    options: dict[str, Any] = {}
    if form == "table":
        options["ids"] = tf.constant(RNG.integers(0, V, (T, B)), tf.int32)
    if form == "mask":  # weight drop
        options["mask"] = tf.cast(normal(H, (4 if cell == "lstm" else 3) * H) > 0, tf.float32)
    state = tuple(normal(B, H) for _ in layer.initial_state(1))
    own = results(layer, x, state, **options)
    cudnn = CuDNN(monkeypatch)
    theirs = results(layer, x, state, **options)
    (call,) = cudnn.calls
    assert (call["input"].shape, call["input_h"].shape) == ((T, B, E), (1, B, H))
    assert call["input_c"].shape == ((1, B, H) if cell == "lstm" else ())
    assert call["sequence_lengths"].numpy().tolist() == [T] * B
    assert {call[name].dtype for name in ("input", "input_h", "input_c", "params")} == {
        tf.float32 if dtype == tf.bfloat16 else dtype
    }
    assert [(each.shape, each.dtype) for each in theirs] == [(each.shape, each.dtype) for each in own]
    for mine, other in zip(theirs, own, strict=True):
        other = tf.cast(other, tf.float32).numpy()
        tolerance = (1e-5 if dtype == tf.float32 else 0.04) * max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(tf.cast(mine, tf.float32), other, atol=tolerance)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_bfloat16_rounds_nothing_but_inputs_and_outputs(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of(cell), normal(T, B, E, dtype=tf.bfloat16)
    state = tuple(normal(B, H) for _ in layer.initial_state(1))
    CuDNN(monkeypatch)
    low, last = layer.scan(x, state)
    exact, exact_last = layer.scan(tf.cast(x, tf.float32), state)
    assert low.dtype == tf.bfloat16
    np.testing.assert_array_equal(low, tf.cast(exact, tf.bfloat16))
    for mine, other in zip(last, exact_last, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_tensorflow_has_the_operation_for_gpus_in_each_precision() -> None:
    from tensorflow.python.framework import kernels

    for name in ("CudnnRNNV3", "CudnnRNNBackpropV3"):
        known = kernels.get_registered_kernels_for_op(name).kernel
        types = {type_ for kernel in known for each in kernel.constraint for type_ in each.allowed_values.list.type}
        wanted = {tf.float32, tf.float16}
        assert {dtype.as_datatype_enum for dtype in wanted} <= types or not tf.test.is_built_with_cuda()


def test_what_cudnn_cannot_do_is_done_by_the_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GRU with the reset gate before the product, and cells that cuDNN does not have."""
    cudnn = CuDNN(monkeypatch)
    for config in (
        ModelConfig(V, E, H, 1, cell="gru", reset_after=False),
        ModelConfig(V, E, H, 1, cell="rnn"),
        ModelConfig(V, E, H, 1, cell="peephole"),
    ):
        layer = make_layer(config, "layer")
        layer.build((None, None, E))
        layer.scan(normal(T, B, E), layer.initial_state(B))
    assert not cudnn.calls

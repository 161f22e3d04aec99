"""The LSTM and the GRU of cuDNN, NVIDIA's library for GPUs: a whole window in one call, in any precision.

Keras calls cuDNN too, but only in float32 and without a mask of the recurrent kernel. TensorFlow's operation computes
in the type of its inputs: float32, bfloat16 or float16. It takes all weights of a layer as one array, in the order that
the documentation of cudnnGetRNNWeightParams gives: the matrices of the gates from x, each transposed, then those from
h, then the biases from x and from h.

    LSTM   i, f, g, o       the gates of `textgen.model.layers.lstm`, in the same order
    GRU    r, z, g          h = z * h + (1 - z) * g with the reset gate after the product; our order is z, r, g
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import tensorflow as tf

log = logging.getLogger(__name__)


@functools.cache
def kernel_path() -> str:
    """Returns a short name of the LSTM implementation used on this machine, and logs it once."""
    path = "cuDNN" if tf.config.list_logical_devices("GPU") else "own loop, compiled by XLA"
    log.info("LSTM by %s", path)
    return path


def cudnn_lstm(
    x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Runs the steps of an LSTM on a GPU.

    Args:
        x: Inputs [T, B, in], in the precision in which to compute.
        kernel: W, [in, 4H].
        recurrent_kernel: U, [H, 4H].
        bias: b, [4H].
        h: Output before the first step, [B, H].
        c: Cell state before the first step, [B, H].

    Returns:
        Outputs [T, B, H] in the precision of x, and (h, c) after the last step, float32.
    """
    biases = [tf.zeros_like(bias), bias]  # cuDNN has two, which it adds
    weights = [tf.split(matrix, 4, axis=-1) for matrix in (kernel, recurrent_kernel, *biases)]
    outputs, h, c = _run("lstm", x, weights, h, c)
    return outputs, (h, c)


def cudnn_gru(
    x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor]]:
    """Runs the steps of a GRU with the reset gate after the recurrent product on a GPU.

    Args:
        x: Inputs [T, B, in], in the precision in which to compute.
        kernel: W, [in, 3H].
        recurrent_kernel: U, [H, 3H].
        bias: b of x W and of h U, [2, 3H].
        h: Output before the first step, [B, H].

    Returns:
        Outputs [T, B, H] in the precision of x, and (h,) after the last step, float32.
    """
    weights = []
    for matrix in (kernel, recurrent_kernel, *tf.unstack(bias)):
        z, r, g = tf.split(matrix, 3, axis=-1)
        weights.append([r, z, g])
    outputs, h, _ = _run("gru", x, weights, h, tf.zeros_like(h))  # it has no cell state
    return outputs, (h,)


def _run(
    mode: str, x: tf.Tensor, weights: Sequence[Sequence[tf.Tensor]], h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Calls cuDNN; weights are the gates of W, U and both biases. Gradients reach all of them."""
    steps, rows = tf.unstack(tf.shape(x)[:2])
    outputs, h, c, _, _ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=tf.cast(h, x.dtype)[None],  # [1, B, H]: one layer
        input_c=tf.cast(c, x.dtype)[None] if mode == "lstm" else tf.zeros((), x.dtype),
        params=_packed(weights, x.dtype),
        sequence_lengths=tf.fill([rows], steps),
        rnn_mode=mode,
        is_training=True,  # keeps what the gradient needs
        time_major=True,
    )
    return outputs, tf.cast(h[0], tf.float32), tf.cast(c[0], tf.float32) if mode == "lstm" else h


def _packed(weights: Sequence[Sequence[tf.Tensor]], dtype: tf.DType) -> tf.Tensor:
    """All weights as one array, as cuDNN wants them."""
    flat = [tf.reshape(tf.transpose(gate), (-1,)) for part in weights for gate in part]
    return tf.cast(tf.concat(flat, 0), dtype)

"""The LSTM and the GRU of cuDNN, NVIDIA's library for GPUs: a whole window in one call.

Keras calls cuDNN too, but only in float32 and without a mask of the recurrent kernel. Here it computes in float16 if
that is the precision of the inputs, else in float32. TensorFlow's operation also takes bfloat16, but casts everything
to float32 and back, so rounding weights and states before it would cost accuracy and time and gain nothing.

The weights of a layer are one array: see `textgen.model.layers.cudnn_order`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import tensorflow as tf

from textgen.model.layers.cudnn_order import GATES, in_order_of_cudnn

log = logging.getLogger(__name__)


@functools.cache
def backend() -> str:
    """Returns what runs the steps of LSTM and GRU on this machine, and logs it once.

    It is "cuDNN" or "own loop, compiled by XLA".
    """
    name = "cuDNN" if tf.config.list_logical_devices("GPU") else "own loop, compiled by XLA"
    log.info("LSTM by %s", name)
    return name


def cudnn_lstm(
    x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Runs the steps of an LSTM on a GPU.

    Args:
        x: Inputs [T, B, in]. The steps are computed in float16 if these are, else in float32.
        kernel: W, [in, 4H].
        recurrent_kernel: U, [H, 4H].
        bias: b, [4H].
        h: Output before the first step, [B, H].
        c: Cell state before the first step, [B, H].

    Returns:
        Outputs [T, B, H] in the precision of x, and (h, c) after the last step, float32.
    """
    biases = [tf.zeros_like(bias), bias]  # cuDNN has two, which it adds
    outputs, h, c = _run("lstm", x, (kernel, recurrent_kernel, *biases), h, c)
    return outputs, (h, c)


def cudnn_gru(
    x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor]]:
    """Runs the steps of a GRU with the reset gate after the recurrent product on a GPU.

    Args:
        x: Inputs [T, B, in]. The steps are computed in float16 if these are, else in float32.
        kernel: W, [in, 3H].
        recurrent_kernel: U, [H, 3H].
        bias: The biases of x W and of h' U, [2, 3H].
        h: Output before the first step, [B, H].

    Returns:
        Outputs [T, B, H] in the precision of x, and (h,) after the last step, float32.
    """
    weights = kernel, recurrent_kernel, *tf.unstack(bias)
    outputs, h, _ = _run("gru", x, weights, h, tf.zeros_like(h))  # it has no cell state
    return outputs, (h,)


def _run(
    mode: str, x: tf.Tensor, weights: Sequence[tf.Tensor], h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Calls cuDNN; weights are W, U and both biases. Gradients reach all of them."""
    dtype = tf.float32 if x.dtype == tf.bfloat16 else x.dtype  # what cuDNN computes in: see above
    steps, rows = tf.unstack(tf.shape(x)[:2])
    outputs, h, c, _, _ = tf.raw_ops.CudnnRNNV3(
        input=tf.cast(x, dtype),
        input_h=tf.cast(h, dtype)[None],  # [1, B, H]: one layer
        input_c=tf.cast(c, dtype)[None] if mode == "lstm" else tf.zeros((), dtype),
        params=packed(mode, weights, dtype),
        sequence_lengths=tf.fill([rows], steps),
        rnn_mode=mode,
        is_training=True,  # keeps what the gradient needs
        time_major=True,
    )
    return tf.cast(outputs, x.dtype), tf.cast(h[0], tf.float32), tf.cast(c[0], tf.float32) if mode == "lstm" else h


def packed(mode: str, weights: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """Packs the weights of a layer into one array, as cuDNN takes them.

    Args:
        mode: "lstm" or "gru".
        weights: W [in, blocks * H], U [H, blocks * H], and the biases from x and from h, [blocks * H].
        dtype: Type of the array.

    Returns:
        One flat array of all weights.
    """
    gates = [tf.split(matrix, len(GATES[mode]), axis=-1) for matrix in weights]
    flat = [tf.reshape(tf.transpose(gate), (-1,)) for gate in in_order_of_cudnn(mode, gates)]
    return tf.cast(tf.concat(flat, 0), dtype)

"""The gated recurrent unit (Cho et al. 2014), with the reset gate before or after the recurrent product.

The setting `reset_after` of `textgen.model.config.ModelConfig` chooses; by default the gate comes after the product.

z, r = sigmoid(x W_zr + h' U_zr + b_zr)           h = z * h' + (1 - z) * g
before: g = tanh(x W_g + (r * h') U_g + b_g)      after: g = tanh(x W_g + b_g + r * (h' U_g + b2_g))

' marks the step before, b2 is a second bias.

On a GPU cuDNN runs the steps (`textgen.model.layers.cudnn`) if the reset gate comes after the product.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from textgen.model.layers.cudnn import backend, cudnn_gru
from textgen.model.layers.layer import LayerState, RecurrentLayer, chosen_rows, split
from textgen.model.layers.loop import (
    Arrays,
    Cell,
    Past,
    Weights,
    product_over_time,
    step_kernel,
    step_product,
    sum_over_time,
)


class GRU(RecurrentLayer):
    """A gated recurrent unit with the weights of `keras.layers.GRU`, gate order z, r, g.

    Args:
        units: Number of units (H).
        reset_after: Whether to apply the reset gate after the recurrent product. The layer then has two biases,
            [2, 3H].
        **kwargs: Arguments of `RecurrentLayer`.
    """

    blocks = 3

    def __init__(self, units: int, reset_after: bool = True, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.reset_after = reset_after
        self.cell = AFTER if reset_after else BEFORE

    def scan(
        self, x: tf.Tensor, state: LayerState, mask: tf.Tensor | None = None, ids: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, LayerState]:
        """Runs the layer over a window. The arguments are those of `RecurrentLayer.scan`."""
        if not self.reset_after or backend() != "cuDNN":
            return super().scan(x, state, mask, ids)
        weights = self._step_weights()
        recurrent_kernel = weights["recurrent_kernel"] if mask is None else weights["recurrent_kernel"] * mask
        kernel = tf.convert_to_tensor(self.kernel)
        return cudnn_gru(chosen_rows(x, ids), kernel, recurrent_kernel, weights["bias"], *state)

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)


def _forward_after(weights: Weights, dtype: tf.DType) -> Any:
    kernel, (bias, recurrent_bias) = step_kernel(weights["recurrent_kernel"], dtype), tf.unstack(weights["bias"])

    def step(from_x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        x_z, x_r, x_g = split(from_x + bias, 3)
        h_z, h_r, h_g = split(step_product(h, kernel) + recurrent_bias, 3)
        z, r = tf.sigmoid(x_z + h_z), tf.sigmoid(x_r + h_r)
        g = tf.tanh(x_g + r * h_g)
        return [z, r, g, h_g], [g + z * (h - g)]

    return step


def _backward_after(weights: Weights, dtype: tf.DType) -> Any:
    transposed = step_kernel(weights["recurrent_kernel"], dtype)

    def step(from_x: tf.Tensor, before: Arrays, after: Arrays, saved: Arrays, d_state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (z, r, g, h_g), (dh,) = before, saved, d_state
        d_z = dh * (h - g) * z * (1 - z)
        d_g = dh * (1 - z) * (1 - g * g)
        d_r = d_g * h_g * r * (1 - r)
        through_reset = d_g * r
        dh = dh * z + step_product(tf.concat([d_z, d_r, through_reset], 1), transposed)
        return [tf.concat([d_z, d_r, d_g], 1), through_reset], [dh]

    return step


def _gradients_after(weights: Weights, past: Past, dtype: tf.DType) -> dict[str, tf.Tensor]:
    columns = 2 * past.before[0].shape[-1]
    d_recurrent = tf.concat([past.d_inputs[..., :columns], past.emitted[0]], 2)  # [T, B, 3H], of h' U + b2
    return {
        "recurrent_kernel": product_over_time(past.before[0], d_recurrent, dtype),
        "bias": tf.stack([sum_over_time(past.d_inputs), sum_over_time(d_recurrent)]),
    }


def _forward_before(weights: Weights, dtype: tf.DType) -> Any:
    *gates, candidate = split(step_kernel(weights["recurrent_kernel"], dtype), 3)
    kernel, bias = tf.concat(gates, 1), weights["bias"]

    def step(from_x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        x_z, x_r, x_g = split(from_x + bias, 3)
        h_z, h_r = split(step_product(h, kernel), 2)
        z, r = tf.sigmoid(x_z + h_z), tf.sigmoid(x_r + h_r)
        g = tf.tanh(x_g + step_product(r * h, candidate))
        return [z, r, g], [g + z * (h - g)]

    return step


def _backward_before(weights: Weights, dtype: tf.DType) -> Any:
    *gates, candidate = tf.split(step_kernel(weights["recurrent_kernel"], dtype), 3)  # [H, H] each
    transposed = tf.concat(gates, 0)

    def step(from_x: tf.Tensor, before: Arrays, after: Arrays, saved: Arrays, d_state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (z, r, g), (dh,) = before, saved, d_state
        d_z = dh * (h - g) * z * (1 - z)
        d_g = dh * (1 - z) * (1 - g * g)
        d_seen = step_product(d_g, candidate)  # gradient of r * h'
        d_r = d_seen * h * r * (1 - r)
        dh = dh * z + d_seen * r + step_product(tf.concat([d_z, d_r], 1), transposed)
        return [tf.concat([d_z, d_r, d_g], 1)], [dh]

    return step


def _gradients_before(weights: Weights, past: Past, dtype: tf.DType) -> dict[str, tf.Tensor]:
    (h,), (_, r, _), columns = past.before, past.saved, 2 * past.before[0].shape[-1]
    of_gates = product_over_time(h, past.d_inputs[..., :columns], dtype)
    of_candidate = product_over_time(r * h, past.d_inputs[..., columns:], dtype)
    return {"recurrent_kernel": tf.concat([of_gates, of_candidate], 1), "bias": sum_over_time(past.d_inputs)}


AFTER = Cell(_forward_after, _backward_after, _gradients_after)
BEFORE = Cell(_forward_before, _backward_before, _gradients_before)

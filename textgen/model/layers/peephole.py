"""The peephole LSTM, whose gates also read the cell state of their unit (Gers, Schraudolph & Schmidhuber 2002).

z = x W + h' U + b                                ' marks the step before
i = sigmoid(z_i + p_i * c')                       f = sigmoid(z_f + p_f * c')
c = f * c' + i * tanh(z_g)
o = sigmoid(z_o + p_o * c)                        h = o * tanh(c)
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from textgen.model.layers.layer import RecurrentLayer, forget_bias_one, split
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


def _forward(weights: Weights, dtype: tf.DType) -> Any:
    kernel, bias = step_kernel(weights["recurrent_kernel"], dtype), weights["bias"]
    p_i, p_f, p_o = tf.unstack(weights["peepholes"])

    def step(from_x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c = state
        z_i, z_f, z_g, z_o = split(from_x + step_product(h, kernel) + bias, 4)
        i, f, g = tf.sigmoid(z_i + p_i * c), tf.sigmoid(z_f + p_f * c), tf.tanh(z_g)
        c = f * c + i * g
        o = tf.sigmoid(z_o + p_o * c)
        return [i, f, g, o], [o * tf.tanh(c), c]

    return step


def _backward(weights: Weights, dtype: tf.DType) -> Any:
    transposed = step_kernel(weights["recurrent_kernel"], dtype)
    p_i, p_f, p_o = tf.unstack(weights["peepholes"])

    def step(from_x: tf.Tensor, before: Arrays, after: Arrays, saved: Arrays, d_state: Arrays) -> tuple[Arrays, Arrays]:
        (_, c), (_, new_c), (i, f, g, o), (dh, dc) = before, after, saved, d_state
        tanh_c = tf.tanh(new_c)
        d_o = dh * tanh_c * o * (1 - o)
        dc = dc + dh * o * (1 - tanh_c * tanh_c) + d_o * p_o
        d_i, d_f, d_g = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g)
        dz = tf.concat([d_i, d_f, d_g, d_o], 1)  # [B, 4H]
        return [dz], [step_product(dz, transposed), dc * f + d_i * p_i + d_f * p_f]

    return step


def _gradients(weights: Weights, past: Past, dtype: tf.DType) -> dict[str, tf.Tensor]:
    d_i, d_f, _, d_o = split(past.d_inputs, 4)
    seen = [d_i * past.before[1], d_f * past.before[1], d_o * past.after[1]]
    return {
        "recurrent_kernel": product_over_time(past.before[0], past.d_inputs, dtype),
        "bias": sum_over_time(past.d_inputs),
        "peepholes": tf.stack([sum_over_time(part) for part in seen]),
    }


class Peephole(RecurrentLayer):
    """An LSTM with weights `peepholes` [3, H] from the cell state to the gates i, f and o."""

    cell = Cell(_forward, _backward, _gradients)
    blocks = 4
    state_size = 2
    _initial_bias = staticmethod(forget_bias_one)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights; the peepholes are initialized to zeros."""
        super().build(input_shape)
        self.peepholes = self._weight("peepholes", (3, self.units), "zeros")

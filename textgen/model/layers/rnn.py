"""The simple recurrent layer: h = tanh(x W + h' U + b), or relu instead of tanh. ' marks the step before."""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from textgen.model.layers.layer import RecurrentLayer
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


class RNN(RecurrentLayer):
    """A simple recurrent layer (Elman 1990; with relu, Le, Jaitly & Hinton 2015).

    It has the weights of `keras.layers.SimpleRNN`. U starts orthogonal, also with relu, for which the paper starts it
    at the identity.

    Args:
        units: Number of units (H).
        activation: "tanh" or "relu".
        **kwargs: Arguments of `RecurrentLayer`.
    """

    blocks = 1

    def __init__(self, units: int, activation: str = "tanh", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.cell = {"tanh": TANH, "relu": RELU}[activation]


def _forward(weights: Weights, dtype: tf.DType, *, relu: bool) -> Any:
    kernel, bias = step_kernel(weights["recurrent_kernel"], dtype), weights["bias"]
    activation = tf.nn.relu if relu else tf.tanh

    def step(from_x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        return [], [activation(from_x + step_product(state[0], kernel) + bias)]

    return step


def _backward(weights: Weights, dtype: tf.DType, *, relu: bool) -> Any:
    transposed = step_kernel(weights["recurrent_kernel"], dtype)

    def step(from_x: tf.Tensor, before: Arrays, after: Arrays, saved: Arrays, d_state: Arrays) -> tuple[Arrays, Arrays]:
        (h,), (dh,) = after, d_state
        dz = dh * tf.cast(h > 0, tf.float32) if relu else dh * (1 - h * h)
        return [dz], [step_product(dz, transposed)]

    return step


def _gradients(weights: Weights, past: Past, dtype: tf.DType) -> dict[str, tf.Tensor]:
    return {
        "recurrent_kernel": product_over_time(past.before[0], past.d_inputs, dtype),
        "bias": sum_over_time(past.d_inputs),
    }


TANH = Cell(partial(_forward, relu=False), partial(_backward, relu=False), _gradients)
RELU = Cell(partial(_forward, relu=True), partial(_backward, relu=True), _gradients)

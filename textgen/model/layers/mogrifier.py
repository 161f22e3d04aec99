"""The mogrifier LSTM: input and state gate each other before each step (Melis et al. 2020, arXiv:1909.01792).

    odd rounds: x = 2 sigmoid(h' Q) * x         even rounds: h' = 2 sigmoid(x Q) * h'        then an LSTM step

' marks the step before. The input of a step depends on h', so x W cannot be computed before the loop.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from textgen.model.config import round_names
from textgen.model.layers.layer import RecurrentLayer, forget_bias_one
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
from textgen.model.layers.lstm import lstm_gates, lstm_gates_backward


class Mogrifier(RecurrentLayer):
    """A mogrifier LSTM.

    The matrices of the rounds are weights `round_1`, ...; with a rank, factors `round_1_left`, `round_1_right`, ...

    Args:
        units: Number of units (H).
        rounds: Number of gating rounds before each step.
        rank: Rank of the matrices of the rounds; full rank if None.
        **kwargs: Arguments of `RecurrentLayer`.
    """

    blocks = 4
    state_size = 2
    _initial_bias = staticmethod(forget_bias_one)

    def __init__(self, units: int, rounds: int = 5, rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.rounds = rounds
        self.rank = rank
        self.cell = Cell(_forward, _backward, _gradients)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for inputs [T, B, in]."""
        super().build(input_shape)
        for number in range(1, self.rounds + 1):
            rows, columns = (self.units, input_shape[-1]) if number % 2 else (input_shape[-1], self.units)
            if self.rank is None:
                self._weight(f"round_{number}", (rows, columns), "glorot_uniform")
            else:
                self._weight(f"round_{number}_left", (rows, self.rank), "glorot_uniform")
                self._weight(f"round_{number}_right", (self.rank, columns), "glorot_uniform")

    def _inputs(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(x, tf.float32)

    def _step_weights(self) -> dict[str, tf.Tensor]:
        return {weight.name: tf.convert_to_tensor(weight) for weight in self.weights}


def _rounds(weights: Weights) -> list[list[str]]:
    """Returns the names of the matrices of each round: one, or two low-rank factors."""
    rounds: list[list[str]] = []
    while names := round_names(len(rounds) + 1, weights):
        rounds.append(names)
    return rounds


def _ends(x: tf.Tensor, h: tf.Tensor, gates: Arrays) -> tuple[Arrays, Arrays]:
    """Returns x and h before the first round and after each round."""
    xs, hs = [x], [h]
    for number, gate in enumerate(gates, start=1):
        xs.append(2 * gate * xs[-1] if number % 2 else xs[-1])
        hs.append(hs[-1] if number % 2 else 2 * gate * hs[-1])
    return xs, hs


def _forward(weights: Weights, dtype: tf.DType) -> Any:
    rounds = _rounds(weights)
    kernels = {name: step_kernel(weight, dtype) for name, weight in weights.items() if name != "bias"}

    def step(x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c = state
        gates = []
        for number, names in enumerate(rounds, start=1):
            product = h if number % 2 else x
            for name in names:
                product = step_product(product, kernels[name])
            gates.append(tf.sigmoid(product))
            x, h = (2 * gates[-1] * x, h) if number % 2 else (x, 2 * gates[-1] * h)
        z = (
            step_product(x, kernels["kernel"]) + step_product(h, kernels["recurrent_kernel"]) + weights["bias"]
        )  # [B, 4H]
        *saved, c, h = lstm_gates(tf.split(z, 4, axis=1), c)
        return [*gates, *saved], [h, c]

    return step


def _backward(weights: Weights, dtype: tf.DType) -> Any:
    rounds = _rounds(weights)
    transposed = {name: step_kernel(weight, dtype) for name, weight in weights.items() if name != "bias"}

    def step(x: tf.Tensor, before: Arrays, after: Arrays, saved: Arrays, d_state: Arrays) -> tuple[Arrays, Arrays]:
        gates, (h, c), (dh, dc) = saved[: len(rounds)], before, d_state
        xs, hs = _ends(x, h, gates)
        *dz, dc = lstm_gates_backward(saved[len(rounds) :], c, after[1], dh, dc)
        dz = tf.concat(dz, 1)  # [B, 4H]
        dx, dh = step_product(dz, transposed["kernel"]), step_product(dz, transposed["recurrent_kernel"])
        d_products: list[tf.Tensor] = []
        for number in range(len(rounds), 0, -1):
            gate, target, d_target = gates[number - 1], (xs if number % 2 else hs)[number - 1], dx if number % 2 else dh
            d_product = d_target * 2 * target * gate * (1 - gate)
            d_products.insert(0, d_product)
            for name in reversed(rounds[number - 1]):
                d_product = step_product(d_product, transposed[name])
            dx, dh = (2 * gate * dx, dh + d_product) if number % 2 else (dx + d_product, 2 * gate * dh)
        return [dx, dz, *d_products], [dh, dc]

    return step


def _gradients(weights: Weights, past: Past, dtype: tf.DType) -> dict[str, tf.Tensor]:
    rounds = _rounds(weights)
    xs, hs = _ends(past.inputs, past.before[0], past.saved[: len(rounds)])
    dz, *d_products = past.emitted
    gradients = {
        "kernel": product_over_time(xs[-1], dz, dtype),
        "recurrent_kernel": product_over_time(hs[-1], dz, dtype),
        "bias": sum_over_time(dz),
    }
    for number, (names, d_product) in enumerate(zip(rounds, d_products, strict=True), start=1):
        source = (hs if number % 2 else xs)[number - 1]
        if len(names) == 2:
            left, right = names
            gradients[right] = product_over_time(tf.tensordot(source, weights[left], 1), d_product, dtype)
            d_product = tf.tensordot(d_product, tf.transpose(weights[right]), 1)
        gradients[names[0]] = product_over_time(source, d_product, dtype)
    return gradients

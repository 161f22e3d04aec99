"""The recurrent layers, stacked: state in, state out."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from textgen.layers.dropout import Noise, variational_dropout

State = tuple[tuple[tf.Tensor, tf.Tensor], ...]  # a layer each: hidden state h and cell state c, [B, H] float32


class LSTM(keras.layers.LSTM):
    """Keras's LSTM (gate order i, f, c, o; orthogonal recurrent kernel; forget bias 1) with a single step.

    Hochreiter & Schmidhuber 1997; `textgen.reference` has the equations.
    """

    def step(self, x: tf.Tensor, state: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of time: x [B, E], state (h, c) -> the new (h, c), each [B, H]."""
        h, c = state
        z = tf.matmul(x, self.cell.kernel) + tf.matmul(h, self.cell.recurrent_kernel) + self.cell.bias  # [B, 4H]
        i, f, g, o = tf.split(z, 4, axis=-1)  # [B, H] each
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c


class RecurrentStack(keras.layers.Layer):
    """`num_layers` of LSTM, each reading the one below, with dropout between them and after the last."""

    def __init__(self, num_layers: int, hidden_units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.layers = [
            LSTM(
                hidden_units,
                return_sequences=True,
                return_state=True,
                dtype=self.dtype_policy,
                name=f"lstm_{i}",
            )
            for i in range(num_layers)
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights; the first layer reads the embedding, the others what is below them."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = (*input_shape[:-1], self.hidden_units)

    def call(self, x: tf.Tensor, state: State, noise: Noise | None = None) -> tuple[tf.Tensor, State]:
        """x [B, T, E], state before its first step -> outputs [B, T, H], state after its last."""
        new_state = []
        for site, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True), start=1):
            x, h, c = layer(x, initial_state=list(layer_state))  # [B, T, H]
            x = variational_dropout(x, self.dropout, noise, site)
            new_state.append((h, c))
        return x, tuple(new_state)

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One step of time without dropout: x [B, E] -> output [B, H], state."""
        new_state = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            h, c = layer.step(x, layer_state)
            new_state.append((h, c))
            x = h
        return x, tuple(new_state)

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Zeros: nothing read yet."""
        return tuple(
            (tf.zeros((batch_size, self.hidden_units)), tf.zeros((batch_size, self.hidden_units))) for _ in self.layers
        )

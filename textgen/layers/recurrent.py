"""The recurrent layers, stacked: state in, state out."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from textgen.layers.dropout import Noise, variational_dropout
from textgen.layers.lstm import LSTM

State = tuple[tuple[tf.Tensor, tf.Tensor], ...]  # a layer each: hidden state h and cell state c, [B, H] float32


class RecurrentStack(keras.layers.Layer):
    """`num_layers` of LSTM, each reading the one below, with dropout between them and after the last."""

    def __init__(self, num_layers: int, hidden_units: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # the state stays float32, whatever x is
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.layers = [
            LSTM(hidden_units, return_sequences=True, return_state=True, name=f"lstm_{i}") for i in range(num_layers)
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights; the first layer reads the embedding, the others what is below them."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = (*input_shape[:-1], self.hidden_units)

    def call(self, x: tf.Tensor, state: State, noise: Noise | None = None) -> tuple[tf.Tensor, State]:
        """x [B, T, E], state before its first step -> outputs [B, T, H], state after its last.

        The precision of x is that of the outputs and of the large matrix products.
        """
        x = tf.transpose(x, (1, 0, 2))  # [T, B, E]
        new_state = []
        for site, (layer, (h, c)) in enumerate(zip(self.layers, state, strict=True), start=1):
            x, h, c = layer.scan(x, h, c)  # [T, B, H]
            x = variational_dropout(x, self.dropout, noise, site, time_axis=0)
            new_state.append((h, c))
        return tf.transpose(x, (1, 0, 2)), tuple(new_state)  # [B, T, H]

    def step(self, x: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One step of time without dropout: x [B, E] -> output [B, H], state."""
        new_state = []
        for layer, (h, c) in zip(self.layers, state, strict=True):
            h, c = layer.step(x, h, c)
            new_state.append((h, c))
            x = tf.cast(h, x.dtype)
        return x, tuple(new_state)

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Zeros: nothing read yet."""
        return tuple(
            (tf.zeros((batch_size, self.hidden_units)), tf.zeros((batch_size, self.hidden_units))) for _ in self.layers
        )

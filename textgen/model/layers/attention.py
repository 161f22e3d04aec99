"""A causal attention head over past outputs of the recurrent layers (Merity 2019, arXiv:1911.11423).

`textgen.model.reference.attention` has the equations. Each of T outputs attends to itself and to the N outputs before
it. Outputs from before the window are part of the state, so the result does not depend on where windows begin. All T
outputs are computed with a few matrix products.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from textgen.model.layers.dropout import Noise, variational_dropout
from textgen.model.layers.layer import in_float32, seeded
from textgen.model.reference.norm import NORM_EPSILON

State = tuple[tf.Tensor, tf.Tensor]  # last N outputs, normalized [B, N, H]; their number [B, 1]; float32


class Attention(keras.layers.Layer):
    """Adds a weighted mean of the previous `window` outputs to each output.

    The output kernel is initialized to zeros, so the layer initially returns its input.

    Args:
        window: Number of previous outputs to attend to (N).
        dropout: Dropout rate of the weighted mean.
        seed: Seed of the initial weights.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, window: int, dropout: float = 0.0, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**in_float32(kwargs))
        self.seed = seed
        self.window = window
        self.dropout = dropout
        self.norm = keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype="float32", name="norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for inputs [B, T, H]."""
        self.norm.build(input_shape)
        square = (input_shape[-1], input_shape[-1])
        drawn = seeded("glorot_uniform", self.seed, f"{self.name}/query")
        self.query = self.add_weight(shape=square, initializer=drawn, name="query")
        self.output_kernel = self.add_weight(shape=square, initializer="zeros", name="output")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the outputs, [B, T, H], without the state."""
        return input_shape

    def read(self, x: tf.Tensor, state: State, noise: Noise | None = None, site: int = 0) -> tuple[tf.Tensor, State]:
        """Applies attention to a window.

        Args:
            x: Outputs of the recurrent layers [B, T, H]. Products with weights run in their precision. Scores and
                attention weights are float32, since low precision does not make their products faster on a CPU.
            state: State before the window.
            noise: Source of dropout.
            site: Number of this use of dropout in the network.

        Returns:
            The outputs with attention added [B, T, H], and the state after the window.
        """
        (memory, count), width = state, float(x.shape[-1])
        normed = tf.cast(self.norm(x), tf.float32)  # [B, T, H]
        keys = tf.concat([memory, normed], 1)  # [B, N + T, H]
        queries = tf.matmul(tf.cast(normed, x.dtype), tf.cast(self.query / width, x.dtype))  # [B, T, H]
        scores = tf.matmul(tf.cast(queries, tf.float32), keys, transpose_b=True)  # [B, T, N + T]
        steps = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
        shares = tf.nn.softmax(tf.where(self._visible(steps, count), scores, tf.float32.min))
        mixed = tf.matmul(shares, keys)  # [B, T, H]
        found = tf.matmul(tf.cast(mixed, x.dtype), tf.cast(self.output_kernel / math.sqrt(width), x.dtype))
        found = variational_dropout(found, self.dropout, noise, site)
        return x + found, (keys[:, steps:], tf.minimum(count + tf.cast(steps, tf.float32), self.window))

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Returns the initial state of `batch_size` streams: zeros."""
        return tf.zeros((batch_size, self.window, self.query.shape[0])), tf.zeros((batch_size, 1))

    def _visible(self, steps: int | tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Returns the attention mask: the outputs of memory and window that each step sees, bool [B, T, N + T]."""
        place = tf.range(self.window + steps)
        age = place[self.window :, None] - place  # [T, N + T]
        is_there = tf.cast(place, tf.float32) >= self.window - count  # [B, N + T]
        return ((age >= 0) & (age <= self.window)) & is_there[:, None]

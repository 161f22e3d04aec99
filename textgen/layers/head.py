"""The output layer: features to logits over the vocabulary, and to losses."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class Head(keras.layers.Layer):
    """logits = features @ kernel + bias, where a tied head's kernel is the embedding table, transposed.

    Tying halves the parameters that a vocabulary costs and helps (Press & Wolf 2017, arXiv:1608.05859).
    The bias should start at log p(piece): without it the network has to carry the frequencies of the
    pieces in its cell state, which then drifts over long texts.
    """

    def __init__(self, vocab_size: int, tied: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.tied = tied

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the bias [V] and, unless tied, a kernel [E, V] of its own."""
        self.bias = self.add_weight(
            shape=(self.vocab_size,), initializer="zeros", name="bias", autocast=False
        )  # float32, as the logits are
        self.kernel = None if self.tied else self.add_weight(
            shape=(input_shape[-1], self.vocab_size), initializer="glorot_uniform", name="kernel"
        )  # fmt: skip

    def call(self, features: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """features [..., E], embedding table [V, E] -> logits [..., V], float32."""
        kernel = tf.transpose(table) if self.kernel is None else self.kernel
        return tf.cast(tf.matmul(features, tf.cast(kernel, features.dtype)), tf.float32) + self.bias

    def token_losses(self, features: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, pad_id: int) -> tf.Tensor:
        """features [B, T, E], targets [B, T] -> nats [B, T]; 0 where the target is `pad_id`."""
        logits = self(features, table)  # [B, T, V]
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        return tf.where(targets == pad_id, 0.0, nats)  # [B, T]

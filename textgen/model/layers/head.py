"""The output layer: features -> logits and losses.

With a large vocabulary the logits of a window, [B*T, V], would be by far the largest array of training. Losses and
gradients are therefore computed in chunks of rows, and the logits of a chunk are freed before the next one. XLA
compiles softmax, loss and gradient of a chunk into a few passes over memory. Products run in the layer's precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from textgen.model.layers.fused import Fused
from textgen.model.layers.layer import in_float32, seeded

CHUNK_ELEMENTS = 1 << 22  # maximum number of logits in memory, per shard of a batch


class Head(keras.layers.Layer):
    """Computes logits = features @ kernel + bias. A tied head uses the transposed embedding table as kernel.

    Tying halves the parameters of the vocabulary and improves the loss (Press & Wolf 2017, arXiv:1608.05859). The bias
    should start at the log frequency of each token. Until the bias has learned them, the network would otherwise have
    to keep the frequencies in its cell state, which then drifts over long texts.

    Args:
        vocab_size: Tokens in the vocabulary (V).
        tied: Whether to use the embedding table as kernel.
        seed: Seed of the initial weights.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, vocab_size: int, tied: bool, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**in_float32(kwargs))
        self.seed = seed
        self.vocab_size = vocab_size
        self.tied = tied

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the bias [V] and, unless tied, a kernel [E, V]."""
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")
        self.kernel = None
        if not self.tied:
            drawn = seeded("glorot_uniform", self.seed, f"{self.name}/kernel")
            self.kernel = self.add_weight(shape=(input_shape[-1], self.vocab_size), initializer=drawn, name="kernel")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the logits, [..., V]."""
        return (*input_shape[:-1], self.vocab_size)

    def call(self, features: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Computes logits.

        Args:
            features: Inputs, [..., E].
            table: Embedding table, [V, E]; used if the head is tied.

        Returns:
            Logits, [..., V] float32.
        """
        kernel = tf.cast(table if self.tied else self.kernel, features.dtype)
        logits = tf.matmul(features, kernel, transpose_b=self.tied)
        return tf.cast(logits, tf.float32) + self.bias

    def summed_loss(
        self,
        features: tf.Tensor,
        table: tf.Tensor,
        targets: tf.Tensor,
        pad_id: int,
        label_smoothing: float = 0.0,
        scale: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the sum of the losses of all tokens.

        Args:
            features: Inputs, [B, T, E].
            table: Embedding table, [V, E].
            targets: Next token ids, [B, T].
            pad_id: Targets with this id are ignored.
            label_smoothing: Fraction of each target spread evenly over all tokens (Szegedy et al. 2016,
                arXiv:1512.00567). It changes the gradient only; the returned loss is not smoothed.
            scale: Factor by which the caller multiplies the loss, for float16; None for none. The gradients with
                respect to the logits, which are in the precision of the features, are multiplied by it before they are
                rounded, so that small ones do not vanish.

        Returns:
            The sum in nats, a float32 scalar.
        """
        kernel = table if self.tied else self.kernel
        rows = tf.reshape(features, (-1, features.shape[-1]))  # [B*T, E]
        weights = tf.convert_to_tensor(kernel), tf.convert_to_tensor(self.bias)
        return _summed_loss(rows, *weights, tf.reshape(targets, (-1,)), pad_id, self.tied, label_smoothing, scale)

    def token_losses(self, features: tf.Tensor, table: tf.Tensor, targets: tf.Tensor, pad_id: int) -> tf.Tensor:
        """Computes the loss of each token.

        Args:
            features: Inputs, [B, T, E].
            table: Embedding table, [V, E].
            targets: Next token ids, [B, T].
            pad_id: Targets with this id get the loss 0.

        Returns:
            Losses in nats, [B, T].
        """
        rows, flat = tf.reshape(features, (-1, features.shape[-1])), tf.reshape(targets, (-1,))
        kernel = tf.cast(table if self.tied else self.kernel, features.dtype)
        bias, nats = tf.convert_to_tensor(self.bias), []
        for chunk in row_chunks(rows.shape[0], self.vocab_size):
            logits = tf.matmul(rows[chunk], kernel, transpose_b=self.tied)  # [n, V]
            nats.append(_token_losses(logits, bias, flat[chunk]))
        return tf.where(targets == pad_id, 0.0, tf.reshape(tf.concat(nats, 0), tf.shape(targets)))  # [B, T]


def row_chunks(rows: int | None, vocab_size: int) -> Iterator[slice]:
    """Splits rows of logits into chunks of at most `CHUNK_ELEMENTS`; one chunk if `rows` is not known."""
    if rows is None:
        yield slice(None)
        return
    size = max(1, CHUNK_ELEMENTS // vocab_size)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _summed_loss(
    features: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    pad_id: int,
    tied: bool,
    label_smoothing: float,
    scale: tf.Tensor | None,
) -> tf.Tensor:
    """Computes the summed loss in nats of features [N, E], kernel [V, E] if tied else [E, V], and targets [N]."""

    @tf.custom_gradient
    def run(features, kernel, bias):  # type: ignore[no-untyped-def]
        low = tf.cast(kernel, features.dtype)
        d_features: list[tf.Tensor] = []
        sums: list[tf.Tensor] = []  # nats, d_kernel, d_bias, summed over chunks
        for chunk in row_chunks(features.shape[0], bias.shape[0]):
            with tf.control_dependencies([*sums, *d_features[-1:]]):  # runs chunks one after the other, to save memory
                part = tf.identity(features[chunk])  # [n, E]
            logits = tf.matmul(part, low, transpose_b=tied)  # [n, V]
            nats, d_logits = _loss_and_gradient(
                tf.stop_gradient(logits), tf.stop_gradient(bias), targets[chunk], pad_id, label_smoothing, scale
            )
            pair = (d_logits, part) if tied else (part, d_logits)
            d_features.append(tf.matmul(d_logits, low, transpose_b=not tied))  # [n, E]
            d_kernel = tf.cast(tf.matmul(*pair, transpose_a=True), tf.float32)  # shape of the kernel
            ones = tf.ones((1, d_logits.shape[0]), d_logits.dtype)
            d_bias = tf.cast(tf.matmul(ones, d_logits)[0], tf.float32)  # faster than a sum over rows
            own = [nats, d_kernel, d_bias]
            sums = [before + new for before, new in zip(sums, own, strict=True)] if sums else own
        nats, d_kernel, d_bias = sums
        gradients = tf.concat(d_features, 0), d_kernel, d_bias

        def scaled(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            factor = upstream if scale is None else upstream / scale  # they have the scale already
            return tuple(tf.cast(factor, gradient.dtype) * gradient for gradient in gradients)

        return nats, scaled

    return run(features, kernel, bias)


@Fused
def _loss_and_gradient(
    logits: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    pad_id: int,
    label_smoothing: float,
    scale: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the summed loss in nats of logits [n, V], and the gradient of the smoothed loss, [n, V] like them.

    The gradient is multiplied by the scale before it is rounded to the precision of the logits.
    """
    exponentials, total, nats = _exponentials_and_losses(logits, bias, targets)
    counts = tf.cast(targets != pad_id, tf.float32)  # [n]
    is_target = tf.range(logits.shape[1])[None] == targets[:, None]  # [n, V]
    evenly = label_smoothing / logits.shape[1]
    wanted = tf.where(is_target, 1.0 - label_smoothing + evenly, evenly)
    d_logits = (exponentials / total - wanted) * counts[:, None]
    if scale is not None:
        d_logits *= scale
    return tf.reduce_sum(nats * counts), tf.cast(d_logits, logits.dtype)


@Fused
def _token_losses(logits: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the losses in nats [n] of logits [n, V]."""
    return _exponentials_and_losses(logits, bias, targets)[-1]


def _exponentials_and_losses(
    logits: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns exp(l - max l) [n, V] for l = logits [n, V] + bias [V], its sums [n, 1], and the losses in nats [n].

    The losses are those of the targets [n].
    """
    biased = tf.cast(logits, tf.float32) + bias  # [n, V]
    top = tf.reduce_max(biased, 1, keepdims=True)  # [n, 1]
    exponentials = tf.exp(biased - top)
    total = tf.reduce_sum(exponentials, 1, keepdims=True)
    of_targets = tf.cast(tf.gather(logits, targets, axis=1, batch_dims=1), tf.float32) + tf.gather(bias, targets)  # [n]
    return exponentials, total, tf.math.log(total[:, 0]) + top[:, 0] - of_targets

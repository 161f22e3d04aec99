"""What the scale of a loss for float16 does to its gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from textgen.model.layers.head import Head

RARE = 2e-8  # probability of the last token: less than half of the least number of float16

Loss = Callable[[Head, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | None], tf.Tensor]


def check_scale(loss: Loss, upstream: float, shape: tuple[int, int, int], vocab_size: int) -> None:
    """Checks that a scale keeps small gradients of a loss in float16, and changes no others.

    Args:
        loss: Returns the loss of a tied head on features, a table and targets, with a scale.
        upstream: Factor by which the loss is multiplied.
        shape: Shape of the features, B, T and E.
        vocab_size: Number of tokens.
    """
    head, features, table = Head(vocab_size, True), tf.ones(shape), tf.zeros((vocab_size, shape[-1]))
    head(features, table)
    head.bias.assign([*[0.0] * (vocab_size - 1), np.log(RARE * (vocab_size - 1))])
    targets, scale = tf.ones(shape[:2], tf.int32), tf.constant(1024.0)

    def gradients(dtype: tf.DType, scale: tf.Tensor | None) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(table)
            total = upstream * loss(head, tf.cast(features, dtype), table, targets, scale)
        found = tape.gradient(total, [table, head.bias.value])
        return [np.asarray(tf.convert_to_tensor(each)) / upstream for each in found]

    exact, scaled, vanished = gradients(tf.float32, None), gradients(tf.float16, scale), gradients(tf.float16, None)
    for ours, theirs in zip(scaled, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=5e-3)
    assert scaled[1][-1] == pytest.approx(RARE * shape[0] * shape[1], rel=5e-3)
    assert not vanished[0][-1].any()
    for ours, theirs in zip(gradients(tf.float32, scale), exact, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # a power of 2 changes no digit

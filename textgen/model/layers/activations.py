"""AR and TAR penalties on the last layer's outputs (Merity, Keskar & Socher 2018, arXiv:1708.02182, section 4.6).

Activation regularization (AR) penalizes large outputs after dropout; temporal activation regularization (TAR) penalizes
large differences between successive outputs before dropout.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Activations(NamedTuple):
    """The outputs of the last recurrent layer in a window.

    Attributes:
        before: Output before the first step, [B, H] float32.
        outputs: Outputs of all steps, [T, B, H].
        dropped: The same after dropout, [T, B, H].
    """

    before: tf.Tensor
    outputs: tf.Tensor
    dropped: tf.Tensor


def summed_penalty(
    activations: Activations, targets: tf.Tensor, pad_id: int, *, activation: float, temporal: float
) -> tf.Tensor:
    """Computes the sum of the AR and TAR penalties of all tokens.

    The penalty of a token is activation * mean(dropped^2) + temporal * mean((output - previous output)^2), with means
    over the H units. It does not depend on other rows, so sums over parts of a batch add up. The first output of a
    window is compared with the last one of the window before.

    Args:
        activations: Outputs of the last layer.
        targets: Target ids [B, T]. Padding is not counted.
        pad_id: Id of the padding.
        activation: Factor of AR.
        temporal: Factor of TAR.

    Returns:
        The sum, a float32 scalar.
    """
    costs = tf.zeros((1, 1))  # [T, B]
    if activation:
        costs += activation * tf.reduce_mean(tf.square(tf.cast(activations.dropped, tf.float32)), 2)
    if temporal:
        outputs = tf.cast(activations.outputs, tf.float32)
        previous = tf.concat([activations.before[None], outputs[:-1]], 0)
        costs += temporal * tf.reduce_mean(tf.square(outputs - previous), 2)
    costs = tf.transpose(costs)  # [B, T]; transposing the ids instead would make oneDNN print a warning
    return tf.reduce_sum(tf.where(targets == pad_id, 0.0, costs))

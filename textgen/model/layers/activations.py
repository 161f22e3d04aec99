"""What the last recurrent layer said, and what it costs to say much or to change one's mind.

Merity, Keskar & Socher 2018 (arXiv:1708.02182, section 4.6): activation regularisation holds down the outputs after
dropout, temporal activation regularisation the steps between outputs before it.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Activations(NamedTuple):
    """Of the last recurrent layer, in one window."""

    before: tf.Tensor  # [B, H] float32: its output before the first step
    outputs: tf.Tensor  # [T, B, H]
    dropped: tf.Tensor  # [T, B, H]: the same after dropout


def summed_penalty(
    activations: Activations, targets: tf.Tensor, pad_id: int, *, activation: float, temporal: float
) -> tf.Tensor:
    """The penalties of all tokens, targets [B, T], added up; padding does not count.

    A token costs activation * mean(dropped^2) + temporal * mean((output - output before)^2), means over the H units.
    As each token has its own, a sum over rows is the sum over any parts of them, and the share of a token does not
    depend on how many there are. The first output of a window is compared with the last of the window before.
    """
    costs = tf.zeros((1, 1))  # [T, B]
    if activation:
        costs += activation * tf.reduce_mean(tf.square(tf.cast(activations.dropped, tf.float32)), 2)
    if temporal:
        outputs = tf.cast(activations.outputs, tf.float32)
        previous = tf.concat([activations.before[None], outputs[:-1]], 0)
        costs += temporal * tf.reduce_mean(tf.square(outputs - previous), 2)
    costs = tf.transpose(costs)  # [B, T]; rather than the ids: oneDNN, which transposes no integers, would say so
    return tf.reduce_sum(tf.where(targets == pad_id, 0.0, costs))

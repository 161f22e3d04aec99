"""Layer normalization in plain NumPy (Ba, Kiros & Hinton 2016, arXiv:1607.06450)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from textgen.model.reference.cells import Array

NORM_EPSILON = 1e-5  # avoids a division by zero for a constant vector


class NormRecord(NamedTuple):
    """What the backward pass of a layer normalization needs.

    Attributes:
        standard: x with mean 0 and variance 1.
        deviation: Standard deviation of x, [..., 1].
    """

    standard: Array
    deviation: Array


def norm_forward(x: Array, gamma: Array, beta: Array) -> tuple[Array, NormRecord]:
    """Normalizes each vector to mean 0 and variance 1, then scales it by gamma and shifts it by beta.

    Args:
        x: Vectors, [..., n].
        gamma: Scale, [n].
        beta: Shift, [n].

    Returns:
        The normalized vectors [..., n], and what the backward pass needs.
    """
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + NORM_EPSILON)
    standard = (x - x.mean(axis=-1, keepdims=True)) / deviation
    return standard * gamma + beta, NormRecord(standard, deviation)


def norm_backward(dy: Array, record: NormRecord, gamma: Array) -> tuple[Array, Array, Array]:
    """The gradients of x, gamma and beta.

    Adding a constant to x or scaling it does not change y, so dx has no part in these two directions.
    """
    standard, deviation = record
    d = dy * gamma
    along = (d * standard).mean(axis=-1, keepdims=True)
    dx = (d - d.mean(axis=-1, keepdims=True) - standard * along) / deviation
    size = dy.shape[-1]
    return dx, (dy * standard).reshape(-1, size).sum(axis=0), dy.reshape(-1, size).sum(axis=0)

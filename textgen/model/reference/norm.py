"""Layer normalisation in plain NumPy (Ba, Kiros & Hinton 2016, arXiv:1607.06450)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from textgen.model.reference.cells import Array

NORM_EPSILON = 1e-5  # keeps a constant vector from a division by zero


class Normed(NamedTuple):
    """What a layer normalisation leaves."""

    standard: Array  # x with mean 0 and variance 1
    deviation: Array  # [..., 1], of x


def norm_forward(x: Array, gamma: Array, beta: Array) -> tuple[Array, Normed]:
    """Layer normalisation: the numbers of each vector with mean 0 and variance 1, then scaled and moved."""
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + NORM_EPSILON)
    standard = (x - x.mean(axis=-1, keepdims=True)) / deviation
    return standard * gamma + beta, Normed(standard, deviation)


def norm_backward(dy: Array, normed: Normed, gamma: Array) -> tuple[Array, Array, Array]:
    """The gradients of x, gamma and beta. No change of x along its mean or its length would change y."""
    standard, deviation = normed
    d = dy * gamma
    along = (d * standard).mean(axis=-1, keepdims=True)
    dx = (d - d.mean(axis=-1, keepdims=True) - standard * along) / deviation
    size = dy.shape[-1]
    return dx, (dy * standard).reshape(-1, size).sum(axis=0), dy.reshape(-1, size).sum(axis=0)

"""Dropout with one mask over time, drawn from a seed that the caller passes in.

A mask that changed at every step would wipe out the memory of a recurrent network; one mask for all T
steps of a window leaves each unit either on or off (Gal & Ghahramani 2016, arXiv:1512.05287).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from textgen.errors import ConfigError


@dataclass(frozen=True)
class Noise:
    """Where the randomness of one training step comes from: nothing is drawn from hidden generators."""

    seed: Any  # int32 [2]: seed of the run, number of the step
    first_row: Any = 0  # which rows of the whole batch these are, so that a batch cut into shards
    num_rows: int | None = None  # gets the masks that it would get in one piece


def noise_of_call(noise: Noise | None, training: bool | None, *rates: float) -> Noise | None:
    """The noise of a Keras call: None with training=False. Raises `ConfigError` with training=True and none given."""
    if training and noise is None and any(rates):
        raise ConfigError("training=True means dropout, which is drawn from noise: give noise=Noise(seed) as well.")
    return None if training is False else noise


def variational_dropout(x: tf.Tensor, rate: float, noise: Noise | None, site: int, *, time_axis: int = 1) -> tf.Tensor:
    """Silences a share `rate` of the units of `x` [B, T, H], the same ones at all T steps, and scales the rest.

    `site` numbers the places of a network where dropout happens, so that each has masks of its own.
    Without `noise` nothing is dropped. With `time_axis=0`, x is [T, B, H].
    """
    if noise is None or rate == 0.0:
        return x
    rows = x.shape[1 - time_axis] or tf.shape(x)[1 - time_axis]
    shape = (rows if noise.num_rows is None else noise.num_rows, x.shape[-1])
    mask = tf.slice(_mask(shape, rate, noise, site), (noise.first_row, 0), (rows, x.shape[-1]))  # [B, H]
    return x * tf.expand_dims(tf.cast(mask, x.dtype), time_axis)


def word_dropout(
    x: tf.Tensor, ids: tf.Tensor, vocab_size: int, rate: float, noise: Noise | None, site: int
) -> tf.Tensor:
    """Silences x [B, T, E] wherever it stands for one of a share `rate` of all pieces, and scales the rest.

    The same as silencing whole rows of the embedding table: a piece is there or not, wherever it comes in the
    batch, which is why the network must not lean on any one of them (Gal & Ghahramani 2016, section 4.2).
    """
    if noise is None or rate == 0.0:
        return x
    mask = tf.gather(_mask((vocab_size,), rate, noise, site), ids)  # [B, T]
    return x * tf.cast(mask, x.dtype)[..., None]


def weight_mask(shape: Any, rate: float, noise: Noise | None, site: int) -> tf.Tensor | None:
    """What a matrix of this shape is multiplied with so that a share `rate` of its weights is silenced; None: all stay.

    DropConnect (Wan et al. 2013) on what a layer tells itself, the same at all steps of a window and for all rows of
    the batch (Merity, Keskar & Socher 2018, arXiv:1708.02182, section 2).
    """
    return None if noise is None or rate == 0.0 else _mask(shape, rate, noise, site)


def _mask(shape: Any, rate: float, noise: Noise, site: int) -> tf.Tensor:
    """0 with probability `rate`, else what keeps the mean: float32."""
    seed = tf.random.experimental.stateless_fold_in(noise.seed, site)
    drawn = tf.random.stateless_uniform(shape, seed, alg="philox")
    return tf.where(drawn < rate, 0.0, 1.0 / (1.0 - rate))

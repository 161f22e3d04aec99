"""Dropout with one mask for all time steps, drawn from an explicit seed.

With one mask for all T steps of a window, each row of a batch trains one thinned network: a unit is on or off at all
steps, as the weights are the same at all of them (Gal & Ghahramani 2016, arXiv:1512.05287). The masks act on the
embedding, between layers and before the output. Unlike in that paper, h is not masked on its way to the next step:
`weight_mask` regularizes the recurrent kernel instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from textgen.errors import ConfigError

# Numbers of the random streams of a step, folded into its seed: each mask, and the draw of candidates, has its own.
EMBEDDING_SITE = 0  # of the embedding; layer n of the recurrent stack, counted from 1, has the number n
ATTENTION_SITE = 1 << 9
WORD_SITE = 1 << 10
WEIGHT_SITE = 1 << 11  # of the recurrent kernel of the first layer; the layers above have the next numbers
DRAW_SITE = 1 << 12


@dataclass(frozen=True)
class Noise:
    """The source of all randomness of a training step.

    `first_row` and `num_rows` make the masks of a shard equal to those of the same rows in the whole batch.

    Attributes:
        seed: Seed of the run and number of the step, int32 [2].
        first_row: Number of the first row of the shard within the batch.
        num_rows: Rows of the whole batch; None if this is the whole batch.
    """

    seed: Any
    first_row: Any = 0
    num_rows: int | None = None


def noise_of_call(noise: Noise | None, training: bool | None, *rates: float) -> Noise | None:
    """Selects the noise of a Keras call.

    Args:
        noise: Noise given to the call.
        training: The argument of the call, as in Keras.
        *rates: Dropout rates of the layer.

    Returns:
        The noise; None if `training` is False.

    Raises:
        ConfigError: `training` is True and a rate is not 0, but there is no noise.
    """
    if training and noise is None and any(rates):
        raise ConfigError(
            "training=True needs random numbers for dropout: pass noise=Noise(seed) as well. The fit of Keras cannot "
            "pass it: call textgen.train, or make the network with all rates of dropout 0."
        )
    return None if training is False else noise


def variational_dropout(x: tf.Tensor, rate: float, noise: Noise | None, site: int, *, time_axis: int = 1) -> tf.Tensor:
    """Drops the same units of x at all time steps and scales the others (Gal & Ghahramani 2016).

    Args:
        x: Values [B, T, H], or [T, B, H] with `time_axis=0`.
        rate: Fraction of units to drop.
        noise: Source of the mask; nothing is dropped if None.
        site: Number of this use of dropout in the network, so that each has its own mask.
        time_axis: Axis of time, 0 or 1.

    Returns:
        Values of the shape of x.
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
    """Drops the embedding of some tokens wherever they occur in the batch, and scales the others.

    This is dropout of whole rows of the embedding table, so the network cannot rely on any single token (Gal &
    Ghahramani 2016, section 4.2).

    Args:
        x: Embeddings, [B, T, E].
        ids: Their token ids, [B, T].
        vocab_size: Tokens in the vocabulary (V).
        rate: Fraction of tokens to drop.
        noise: Source of the mask; nothing is dropped if None.
        site: Number of this use of dropout.

    Returns:
        Embeddings, [B, T, E].
    """
    if noise is None or rate == 0.0:
        return x
    mask = tf.gather(_mask((vocab_size,), rate, noise, site), ids)  # [B, T]
    return x * tf.cast(mask, x.dtype)[..., None]


def weight_mask(shape: Any, rate: float, noise: Noise | None, site: int) -> tf.Tensor | None:
    """Draws a mask for recurrent weights, shared by all steps of a window and all rows of the batch.

    DropConnect (Wan et al. 2013) on the recurrent kernel, as in Merity, Keskar & Socher 2018 (arXiv:1708.02182, section
    2).

    Args:
        shape: Shape of the kernel.
        rate: Fraction of weights to drop.
        noise: Source of the mask.
        site: Number of this use of dropout.

    Returns:
        Factors of the kernel, float32; None if nothing is dropped.
    """
    return None if noise is None or rate == 0.0 else _mask(shape, rate, noise, site)


def _mask(shape: Any, rate: float, noise: Noise, site: int) -> tf.Tensor:
    """Draws factors: 0 with probability `rate`, otherwise 1 / (1 - rate), float32."""
    with tf.device("CPU:0"):  # on a GPU its integers would be copied to the processor and back, which waits for the GPU
        seed = tf.random.experimental.stateless_fold_in(noise.seed, site)
    drawn = tf.random.stateless_uniform(shape, seed, alg="philox")
    return tf.where(drawn < rate, 0.0, 1.0 / (1.0 - rate))

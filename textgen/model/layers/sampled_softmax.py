"""Sampled softmax: the loss of a large vocabulary from some of its logits.

Most logits are needed only for their sum Z = sum over v of exp(l_v). Here, K candidates stand for all V tokens, the
same ones for all targets of a step. Token v is among them with probability q_v, and counts 1 / q_v times:

    Z = exp(l_target) + sum over candidates v other than the target of exp(l_v - log q_v)
    loss = log Z - l_target

The expectation of Z is exact, that of its logarithm a little too small (Jean et al. 2015, arXiv:1412.2007). The logit
of the target is computed apart, so a candidate that happens to be the target is left out.

The more often a token occurs, the larger is its part of Z. So q_v grows with the count of v in the training text, and
is 1 for the most frequent tokens, which are always candidates. The draw is systematic: of q_v laid end to end, each of
length 1 at most, it takes the tokens at u, u + 1, ... u + K - 1, for one random number u below 1. There are always K of
them, and all differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from textgen.model.layers.dropout import DRAW_SITE
from textgen.model.layers.fused import Fused
from textgen.model.layers.head import Head, row_chunks

POWER = 0.75  # power of the counts; below 1, rare tokens are candidates more often (Mikolov et al. 2013)


class Candidates(NamedTuple):
    """The tokens that stand for all others in a step.

    Attributes:
        ids: Token ids, int32 [K].
        log_probabilities: The log of the probability of each to be a candidate, float32 [K].
    """

    ids: tf.Tensor
    log_probabilities: tf.Tensor


def candidate_probabilities(counts: np.ndarray, size: int) -> np.ndarray:
    """The probability of each token to be a candidate: proportional to a power of its count, but 1 at most.

    Args:
        counts: How often each token occurs, [V].
        size: Number of candidates (K), below V.

    Returns:
        Probabilities float64 [V], whose sum is `size`.

    Example:
        >>> candidate_probabilities(np.array([100, 7, 7, 7]), 2).round(3).tolist()
        [1.0, 0.333, 0.333, 0.333]
    """
    weights = (counts.astype(np.float64) + 0.5) ** POWER  # also of tokens that never occur: they have logits
    probabilities = np.zeros(len(counts))
    is_open = np.ones(len(counts), bool)
    while True:
        left = size - np.count_nonzero(~is_open)
        probabilities[is_open] = left * weights[is_open] / weights[is_open].sum()
        if probabilities.max() <= 1.0:
            return probabilities
        is_open &= probabilities < 1.0
        probabilities[~is_open] = 1.0


class CandidateSampler:
    """Draws the candidates of a step, the same ones on every replica and in every shard.

    Attributes:
        size: Number of candidates (K).
    """

    def __init__(self, counts: np.ndarray, size: int) -> None:
        """Prepares draws of `size` candidates by counts [V]."""
        self.size = size
        probabilities = candidate_probabilities(counts, size)
        self._ends = np.cumsum(probabilities)
        self._logs = np.log(probabilities).astype(np.float32)

    def draw(self, seed: tf.Tensor) -> Candidates:
        """Draws candidates from a seed, int32 [2]; on the processor, so that it need not wait for a GPU."""
        with tf.device("CPU:0"):
            own = tf.random.experimental.stateless_fold_in(seed, DRAW_SITE)
            first = tf.random.stateless_uniform((), own, dtype=tf.float64, alg="philox")
            places = first + tf.range(self.size, dtype=tf.float64)
            found = tf.searchsorted(tf.constant(self._ends), places, side="right")
            ids = tf.minimum(found, len(self._ends) - 1)  # the sum of all may be rounded to less than K
            return Candidates(ids, tf.gather(tf.constant(self._logs), ids))


def sampled_loss(
    head: Head,
    features: tf.Tensor,
    table: tf.Tensor,
    targets: tf.Tensor,
    pad_id: int,
    candidates: Candidates,
    scale: tf.Tensor | None = None,
) -> tf.Tensor:
    """Estimates the sum of the losses of all tokens, like `Head.summed_loss` without smoothing.

    Args:
        head: Output layer.
        features: Its inputs, [B, T, E].
        table: Embedding table, [V, E]; used if the head is tied.
        targets: Next token ids, [B, T].
        pad_id: Targets with this id are ignored.
        candidates: Tokens that stand for all others.
        scale: Factor by which the caller multiplies the loss, or None: see `Head.summed_loss`.

    Returns:
        The sum in nats, a float32 scalar.
    """
    kernel = tf.convert_to_tensor(table) if head.tied else tf.transpose(tf.convert_to_tensor(head.kernel))
    rows = tf.reshape(features, (-1, features.shape[-1]))  # [B*T, E]
    bias = tf.convert_to_tensor(head.bias)
    return _sampled_loss(rows, kernel, bias, tf.reshape(targets, (-1,)), candidates, pad_id, scale)


def _sampled_loss(
    features: tf.Tensor,
    table: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    candidates: Candidates,
    pad_id: int,
    scale: tf.Tensor | None,
) -> tf.Tensor:
    """Computes the summed loss of features [N, E], table [V, E], bias [V] and targets [N].

    The gradients of table and bias are slices: they touch the rows of candidates and targets only.
    """
    touched = tf.concat([candidates.ids, targets], 0)  # [K + N]

    @tf.custom_gradient
    def run(features, table, bias):  # type: ignore[no-untyped-def]
        rows = tf.cast(tf.gather(table, candidates.ids), features.dtype)  # [K, E]
        shift = tf.gather(bias, candidates.ids) - candidates.log_probabilities  # [K]
        of_chunks: list[list[tf.Tensor]] = []  # d_features, gradients of the rows and biases of targets
        sums: list[tf.Tensor] = []  # nats, d_rows, d_shift, summed over chunks
        for chunk in row_chunks(features.shape[0], rows.shape[0]):
            with tf.control_dependencies([*sums, *(of_chunks[-1] if of_chunks else [])]):  # in turn, to save memory
                part = tf.identity(features[chunk])  # [n, E]
            of_chunk, new = _chunk_gradients(
                part, rows, shift, table, bias, targets=targets[chunk], ids=candidates.ids, pad_id=pad_id, scale=scale
            )
            of_chunks.append(of_chunk)
            sums = [before + each for before, each in zip(sums, new, strict=True)] if sums else new
        nats, d_rows, d_shift = sums
        d_features, d_target_rows, d_own = (tf.concat(each, 0) for each in zip(*of_chunks, strict=True))
        d_table, d_bias = tf.concat([d_rows, d_target_rows], 0), tf.concat([d_shift, d_own], 0)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.IndexedSlices, tf.IndexedSlices]:
            factor = upstream if scale is None else upstream / scale  # they have the scale already
            return (
                tf.cast(factor, d_features.dtype) * d_features,
                tf.IndexedSlices(factor * d_table, touched, tf.shape(table)),
                tf.IndexedSlices(factor * d_bias, touched, tf.shape(bias)),
            )

        return nats, gradients

    return run(features, table, bias)


def _chunk_gradients(
    part: tf.Tensor,
    rows: tf.Tensor,
    shift: tf.Tensor,
    table: tf.Tensor,
    bias: tf.Tensor,
    *,
    targets: tf.Tensor,
    ids: tf.Tensor,
    pad_id: int,
    scale: tf.Tensor | None,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Loss and gradients, multiplied by the scale, of features [n, E] and targets [n].

    Returns:
        The gradients of features [n, E], rows of targets [n, E] and their biases [n]; and the sums over targets: nats
        and the gradients of the rows [K, E] and biases [K] of candidates.
    """
    target_rows = tf.gather(table, targets)  # [n, E]
    own = _target_logits(part, target_rows, tf.gather(bias, targets))
    logits = tf.matmul(part, rows, transpose_b=True)  # [n, K]
    nats, d_logits, d_own = _loss_of_candidates(logits, shift, own, targets, ids, pad_id, scale)
    d_part, d_target_rows = _target_gradients(tf.matmul(d_logits, rows), d_own, part, target_rows)
    d_rows = tf.cast(tf.matmul(d_logits, part, transpose_a=True), tf.float32)
    ones = tf.ones((1, d_logits.shape[0]), d_logits.dtype)
    d_shift = tf.cast(tf.matmul(ones, d_logits)[0], tf.float32)  # faster than a sum over rows
    return [d_part, d_target_rows, d_own], [nats, d_rows, d_shift]


@Fused
def _target_logits(features: tf.Tensor, rows: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """The logit of each target, [n], from features [n, E], rows of the table [n, E] and bias [n]."""
    return tf.reduce_sum(tf.cast(features, tf.float32) * rows, -1) + bias


@Fused
def _target_gradients(
    d_features: tf.Tensor, d_own: tf.Tensor, features: tf.Tensor, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds the part of the targets to the gradient of the features [n, E]; also the gradient of their rows, [n, E]."""
    with_own = tf.cast(d_features, tf.float32) + d_own[:, None] * rows
    return tf.cast(with_own, d_features.dtype), d_own[:, None] * tf.cast(features, tf.float32)


@Fused
def _loss_of_candidates(
    logits: tf.Tensor,
    shift: tf.Tensor,
    own: tf.Tensor,
    targets: tf.Tensor,
    ids: tf.Tensor,
    pad_id: int,
    scale: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the summed loss in nats, and its gradients with respect to the logits.

    These are those of candidates, [n, K], and of targets, [n]. The gradients are multiplied by the scale, those of
    candidates before they are rounded.
    """
    is_target = ids[None] == targets[:, None]  # [n, K]
    shifted = tf.where(is_target, -np.inf, tf.cast(logits, tf.float32) + shift)
    top = tf.maximum(tf.reduce_max(shifted, 1), own)
    exponentials, of_own = tf.exp(shifted - top[:, None]), tf.exp(own - top)
    total = tf.reduce_sum(exponentials, 1) + of_own  # [n]
    counts = tf.cast(targets != pad_id, tf.float32)
    nats = tf.math.log(total) + top - own
    d_logits, d_own = exponentials * (counts / total)[:, None], (of_own / total - 1.0) * counts
    if scale is not None:
        d_logits, d_own = scale * d_logits, scale * d_own
    return tf.reduce_sum(nats * counts), tf.cast(d_logits, logits.dtype), d_own

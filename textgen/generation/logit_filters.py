"""What changes the logits of the next piece without looking back: temperature, and what leaves pieces out.

Functions of `Candidates`, the logits of the pieces that are still there, and of settings [B, 1]: every row of a batch
may have its own. A piece that is left out has the logit -inf; each function sees what those before it have left.
Pieces that are equally likely are treated alike, so a tie at a border stays whole.

Sums are float64: which pieces stay does not hang on how many rows or impossible pieces stand beside them.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

FEW = 128  # pieces that are not worth sorting out further
BLOCK = 64  # probabilities that are added up at once when a share of them is looked for
LOWEST = np.finfo(np.float32).min  # of all logits but -inf
GROUPS = 500  # groups of pieces whose highest logits tell about the highest of all
ZIPF_PIECES = 100  # likeliest pieces from which mirostat 1 estimates how steeply probabilities fall


class Candidates:
    """The pieces that may come next, and what the functions of this page want to know about them.

    `ids` [B, C] are theirs, None where they are 0 to C - 1. Of the `given` logits [B, C] those below a floor [B, 1] are
    left out. Where it `shrinks`, once most pieces are left out only the others are carried on, in the order of their
    ids; rows that have fewer than others are filled up with -inf.
    """

    def __init__(
        self,
        given: np.ndarray,
        ids: np.ndarray | None = None,
        floor: np.ndarray | None = None,
        *,
        shrinks: bool = False,
    ) -> None:
        self.given = given
        self.ids = ids
        self.shrinks = shrinks
        self._floor = floor

    @cached_property
    def logits(self) -> np.ndarray:
        """The logits [B, C]; -inf is left out."""
        return self.given if self._floor is None else _keep(self.given, self.given >= self._floor)

    @cached_property
    def highest(self) -> np.ndarray:
        """The highest logit [B, 1]."""
        return np.max(self.logits, axis=-1, keepdims=True)

    @cached_property
    def below(self) -> np.ndarray:
        """The logits less the highest [B, C]: 0 and less."""
        return np.asarray(self.logits - self.highest)

    @cached_property
    def log_total(self) -> np.ndarray:
        """log of the sum of exp(below) [B, 1]: a piece's log probability is `below - log_total`."""
        return np.asarray(np.log(np.sum(np.exp(self.below), axis=-1, keepdims=True, dtype=np.float64)), np.float32)

    @cached_property
    def entropy(self) -> np.ndarray:
        """In nats [B, 1]."""
        log_p = np.maximum(self.below - self.log_total, -1e4)
        return np.asarray(-np.sum(np.exp(log_p) * log_p, axis=-1, keepdims=True, dtype=np.float64), np.float32)

    def ids_at(self, columns: np.ndarray) -> np.ndarray:
        """The ids [B] of the pieces that stand in these columns [B]."""
        return columns if self.ids is None else np.asarray(self.ids[np.arange(len(columns)), columns])

    def with_logits(self, logits: np.ndarray) -> Candidates:
        """The same pieces with other logits [B, C]."""
        return Candidates(logits, self.ids, shrinks=self.shrinks)

    def above(self, floor: np.ndarray) -> Candidates:
        """Those whose logit is at least a floor [B, 1], which leaves the highest."""
        floor = np.maximum(floor, LOWEST if self._floor is None else self._floor, dtype=np.float32)
        few = self._few(self.given >= floor)
        left = few or Candidates(self.given, self.ids, floor, shrinks=self.shrinks)
        left.highest = self.highest
        return left

    def only(self, kept: np.ndarray) -> Candidates:
        """Those for which `kept` [B, C] is true."""
        return self._few(kept & (self.logits > -np.inf)) or self.with_logits(_keep(self.logits, kept))

    def _few(self, kept: np.ndarray) -> Candidates | None:
        """What is kept, without gaps, where it is few."""
        size = kept.shape[-1]
        if not self.shrinks or size <= FEW or np.count_nonzero(kept) > kept.size / 8:
            return None
        flat = np.flatnonzero(kept)
        rows = flat // size
        counts = np.bincount(rows, minlength=len(kept))
        width = int(counts.max())
        places = np.arange(len(flat)) + np.repeat(np.arange(len(kept)) * width - (np.cumsum(counts) - counts), counts)
        logits, ids = np.full((len(kept), width), -np.inf, np.float32), np.zeros((len(kept), width), np.int64)
        logits.reshape(-1)[places] = self.given.reshape(-1)[flat]
        ids.reshape(-1)[places] = flat - rows * size if self.ids is None else self.ids.reshape(-1)[flat]
        return Candidates(logits, ids, shrinks=True)


def temperature(
    pieces: Candidates,
    t: np.ndarray,
    dynatemp_range: np.ndarray | float = 0.0,
    dynatemp_exponent: np.ndarray | float = 1.0,
) -> Candidates:
    """Divides the logits by t: below 1 sharpens, above 1 flattens, 0 leaves the likeliest piece alone.

    With a range, t itself moves between t - range, where the model is sure, and t + range, where all pieces are
    equally likely: t - range + 2 range (entropy / highest entropy)^exponent, as in llama.cpp.
    """
    if np.any(dynatemp_range):
        t = np.where(np.asarray(dynatemp_range) > 0, _dynamic(pieces, t, dynatemp_range, dynatemp_exponent), t)
    if (t > 1e-6).all():
        return pieces.with_logits(pieces.logits / t)  # the same, at a fraction of the cost
    likeliest = np.arange(pieces.logits.shape[-1])[None, :] == np.argmax(pieces.logits, axis=-1)[:, None]  # [B, C]
    alone = np.where(likeliest, np.float32(0.0), np.float32(-np.inf))
    return pieces.with_logits(np.where(t > 0.0, pieces.logits / np.maximum(t, 1e-6), alone))


def top_k(pieces: Candidates, k: np.ndarray) -> Candidates:
    """Leaves the k likeliest pieces; 0 leaves all."""
    if ((k > 0) & (k <= GROUPS)).all() and pieces.given.shape[-1] >= 2 * GROUPS:
        pieces = pieces.above(_below_kth(pieces.given, k))
    size = pieces.logits.shape[-1]
    ranks = np.where((k > 0) & (k < size), size - k, 0)  # [B, 1]
    floor = np.take_along_axis(np.sort(pieces.logits, axis=-1), ranks, axis=-1)
    return pieces.above(np.where(ranks > 0, floor, -np.inf))


def top_p(pieces: Candidates, p: np.ndarray) -> Candidates:
    """Leaves the fewest pieces, likeliest first, that hold at least probability p; 1 leaves all.

    Holtzman et al. 2020, arXiv:1904.09751. The likeliest piece always stays.
    """
    descending = np.sort(pieces.logits, axis=-1)[:, ::-1]
    last = reaching(np.exp(descending - pieces.highest), np.where(p < 1.0, p, 0.0))  # [B, 1]
    return pieces.above(np.where(p < 1.0, np.take_along_axis(descending, last, axis=-1), -np.inf))


def min_p(pieces: Candidates, p: np.ndarray) -> Candidates:
    """Leaves pieces at least p times as likely as the likeliest; 0 leaves all.

    Nguyen et al. 2024, arXiv:2407.01082.
    """
    return pieces.above(np.where(p > 0.0, pieces.highest + np.log(np.maximum(p, 1e-38)), -np.inf))


def typical_p(pieces: Candidates, p: np.ndarray) -> Candidates:
    """Leaves the fewest pieces that hold probability p, those first whose surprise is nearest the mean; 1 leaves all.

    Locally typical sampling, Meister et al. 2023, arXiv:2202.00666. The mean surprise is the entropy.
    """
    log_p = pieces.below - pieces.log_total
    distance = np.abs(log_p + pieces.entropy)
    return pieces.only(_fewest(distance, np.exp(log_p), np.where(p < 1.0, p, 0.0)) | (p >= 1.0))


def top_n_sigma(pieces: Candidates, n: np.ndarray) -> Candidates:
    """Leaves logits at most n standard deviations below the highest; 0 leaves all.

    Tang et al. 2024, arXiv:2411.07641. The deviation is that of the logits that are still there.
    """
    size = pieces.logits.shape[-1]
    deviations = pieces.logits - pieces.highest  # [B, C]
    impossible = np.flatnonzero(deviations == -np.inf)
    missing = np.bincount(impossible // size, minlength=len(deviations))[:, None]
    count = (size - missing).astype(np.float32)  # [B, 1]
    np.put(deviations, impossible, 0.0)
    deviations -= np.einsum("bv->b", deviations)[:, None] / count  # from the mean
    np.put(deviations, impossible, 0.0)
    sigma = np.sqrt(np.einsum("bv,bv->b", deviations, deviations)[:, None] / count)
    return pieces.above(np.where(n > 0.0, pieces.highest - n * sigma, -np.inf))


def epsilon_cutoff(pieces: Candidates, epsilon: np.ndarray) -> Candidates:
    """Leaves pieces of at least probability epsilon, and the likeliest; 0 leaves all.

    Hewitt et al. 2022, arXiv:2210.15191.
    """
    floor = np.minimum(np.log(np.maximum(epsilon, 1e-38)) + pieces.log_total, 0.0) + pieces.highest
    return pieces.above(np.where(epsilon > 0.0, floor, -np.inf))


def eta_cutoff(pieces: Candidates, epsilon: np.ndarray) -> Candidates:
    """Like `epsilon_cutoff`, but at sqrt(epsilon) exp(-entropy) where that is lower: where much is possible.

    Hewitt et al. 2022, arXiv:2210.15191.
    """
    return epsilon_cutoff(pieces, np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-pieces.entropy)))


def xtc(pieces: Candidates, probability: np.ndarray, threshold: np.ndarray, uniforms: np.ndarray) -> Candidates:
    """Where uniforms [B, 1] < probability: of the pieces with probability >= threshold, leaves the least likely.

    "Exclude top choices", as in llama.cpp: what is obvious gives way to what is likely enough. Less likely pieces
    stay; so does everything where a single piece is above the threshold.
    """
    high = pieces.below - pieces.log_total >= np.log(np.maximum(threshold, 1e-38))  # [B, C]
    lowest = np.min(np.where(high, pieces.logits, np.float32(np.inf)), axis=-1, keepdims=True)  # [B, 1]
    return pieces.only((pieces.logits <= lowest) | (uniforms >= probability))


def mirostat(pieces: Candidates, version: np.ndarray, mu: np.ndarray) -> Candidates:
    """Leaves pieces so that a draw surprises by at most about mu [B, 1] bits; version 0 leaves all.

    Basu et al. 2021, arXiv:2007.14966. Version 2 leaves pieces of at most mu bits, and the likeliest. Version 1
    leaves the k likeliest, with k from the exponent s of Zipf's law, estimated on the likeliest pieces:
    k = (e 2^mu / (1 - V^-e))^(1/s) with e = s - 1.
    """
    floor = np.full((len(pieces.logits), 1), -np.inf, np.float32)
    if (version == 1).any():
        descending = np.sort(pieces.logits, axis=-1)[:, ::-1]
        floor = np.where(version == 1, np.take_along_axis(descending, _zipf_k(descending, mu) - 1, axis=-1), floor)
    if (version == 2).any():
        surprising = np.minimum(pieces.log_total - mu * np.log(2), 0.0).astype(np.float32)
        floor = np.where(version == 2, pieces.highest + surprising, floor)
    return pieces.above(floor)


def reaching(weights: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The index [B, 1] at which the sum of weights [B, N], from the first on, goes beyond a share [B, 1] of them all.

    Of many it is looked for among blocks of weights first, and then inside one block: most are added up only once.
    Sums are float64, since 64,000 small float32 numbers do not add up to 1. A weight of 0 is never the one.
    """
    if weights.shape[-1] <= FEW:
        cumulative = np.cumsum(weights, axis=-1, dtype=np.float64)
        return np.asarray(np.count_nonzero(cumulative <= _threshold(cumulative, share), axis=-1, keepdims=True))
    if weights.shape[-1] % BLOCK:
        filler = np.zeros((len(weights), -weights.shape[-1] % BLOCK), weights.dtype)
        weights = np.concatenate([weights, filler], axis=-1)
    blocks = np.reshape(weights, (len(weights), -1, BLOCK)).astype(np.float64)
    cumulative = np.cumsum(np.einsum("bnk->bn", blocks), axis=-1)  # [B, N / BLOCK]
    threshold = _threshold(cumulative, share)  # [B, 1]
    block = np.sum(cumulative <= threshold, axis=-1, keepdims=True)  # [B, 1]
    before = np.where(block > 0, np.take_along_axis(cumulative, np.maximum(block - 1, 0), axis=-1), 0.0)
    inside = np.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # [B, BLOCK]
    within = np.sum(before + np.cumsum(inside, axis=-1) <= threshold, axis=-1, keepdims=True)
    last = np.max(np.where(inside > 0, np.arange(BLOCK), 0), axis=-1, keepdims=True)  # where rounding went beyond it
    return block * BLOCK + np.minimum(within, last)


def surprise(pieces: Candidates, columns: np.ndarray) -> np.ndarray:
    """Bits of surprise [B, 1] at the drawn pieces, which stand in these columns [B, 1]."""
    return (pieces.log_total - np.take_along_axis(pieces.below, columns, axis=-1)) / np.log(2)


def _threshold(cumulative: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A share [B, 1] of a sum, always less than all of it."""
    return share * cumulative[:, -1:] * (1 - 1e-12)


def _dynamic(pieces: Candidates, t: np.ndarray, spread: np.ndarray | float, exponent: np.ndarray | float) -> np.ndarray:
    """The temperature [B, 1] between t - spread and t + spread that suits the entropy."""
    highest = np.log(np.maximum(np.count_nonzero(pieces.logits > -np.inf, axis=-1, keepdims=True), 2))
    share = np.clip(pieces.entropy / highest, 0.0, 1.0)
    low, high = np.maximum(t - spread, 0.0), t + spread
    return np.asarray(low + (high - low) * share**exponent, np.float32)


def _zipf_k(descending: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """k [B, 1] of mirostat 1, from sorted logits [B, V]."""
    size = descending.shape[-1]
    likeliest = descending[:, :ZIPF_PIECES].astype(np.float64)
    possible = likeliest[:, 1:] > -np.inf
    b = np.subtract(likeliest[:, :-1], likeliest[:, 1:], where=possible, out=np.zeros(possible.shape))
    rank = np.arange(1, likeliest.shape[-1])
    t = np.where(possible, np.log((rank + 1) / rank), 0.0)  # what b is at s = 1
    s = np.sum(t * b, axis=-1, keepdims=True) / np.maximum(np.sum(t * t, axis=-1, keepdims=True), 1e-9)
    s = np.maximum(s, 1e-6)
    e = np.where(np.abs(s - 1.0) < 1e-6, 1e-6, s - 1.0)
    log_k = (np.log(e / -np.expm1(-e * np.log(max(size, 2)))) + mu * np.log(2)) / s
    return np.clip(np.exp(np.minimum(log_k, np.log(2 * size))), 1, size).astype(np.int64)


def _keep(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """-inf where `kept` is false: without a branch a piece, and so several times as quick as `np.where`."""
    added = kept.astype(np.int32)
    added -= 1  # -1, all bits, where a piece is left out
    added &= np.float32(-np.inf).view(np.int32)
    return np.asarray(logits + added.view(np.float32))


def _below_kth(logits: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Something at most the k-th highest logit [B, 1] of each row, and not much less, for k up to `GROUPS`.

    It is the k-th highest of the highest logits of groups: k groups have a piece of at least that.
    """
    size = logits.shape[-1] // GROUPS * GROUPS
    groups = np.max(logits[:, :size].reshape(len(logits), -1, GROUPS), axis=1)  # [B, GROUPS]
    return np.take_along_axis(np.sort(groups, axis=-1), GROUPS - k, axis=-1)


def _fewest(keys: np.ndarray, weights: np.ndarray, share: np.ndarray) -> np.ndarray:
    """True for the fewest pieces, lowest keys first, that hold `share` of the weights; what ties with the last stays.

    Keys and weights are float32 and not negative, so their bits are ordered as they are: key and weight of a piece
    are sorted as one number of 64 bits.
    """
    pairs = np.sort(keys.view(np.uint32).astype(np.uint64) << 32 | weights.view(np.uint32), axis=-1)
    last = reaching((pairs & 0xFFFFFFFF).astype(np.uint32).view(np.float32), share)  # [B, 1]
    return keys <= (np.take_along_axis(pairs, last, axis=-1) >> 32).astype(np.uint32).view(np.float32)

"""What changes the logits of the next piece without looking back: temperature, and what leaves pieces out.

Pure functions of logits [B, V] and settings [B, 1]: every row of a batch may have its own. A piece that is left out
has the logit -inf, which the functions also take: each sees what those before it have left. Pieces that are equally
likely are treated alike, so a tie at a border stays whole.

Sums are float64: which pieces stay does not hang on how many rows or impossible pieces stand beside them.
"""

from __future__ import annotations

import numpy as np

BLOCK = 64  # probabilities that are added up at once when a share of them is looked for
ZIPF_PIECES = 100  # likeliest pieces from which mirostat 1 estimates how steeply probabilities fall


def temperature(
    logits: np.ndarray,
    t: np.ndarray,
    dynatemp_range: np.ndarray | float = 0.0,
    dynatemp_exponent: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Divides the logits by t: below 1 sharpens, above 1 flattens, 0 leaves the likeliest piece alone.

    With a range, t itself moves between t - range, where the model is sure, and t + range, where all pieces are
    equally likely: t - range + 2 range (entropy / highest entropy)^exponent, as in llama.cpp.
    """
    if np.any(dynatemp_range):
        t = np.where(np.asarray(dynatemp_range) > 0, _dynamic(logits, t, dynatemp_range, dynatemp_exponent), t)
    if (t > 1e-6).all():
        return logits / t  # the same, at a fraction of the cost
    likeliest = np.arange(logits.shape[-1])[None, :] == np.argmax(logits, axis=-1)[:, None]  # [B, V]
    return np.where(t > 0.0, logits / np.maximum(t, 1e-6), _keep(np.zeros_like(logits), likeliest))


def top_k(logits: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Leaves the k likeliest pieces; 0 leaves all."""
    return _keep(logits, logits >= _kth(logits, k))


def top_p(logits: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Leaves the fewest pieces, likeliest first, that hold at least probability p; 1 leaves all.

    Holtzman et al. 2020, arXiv:1904.09751. The likeliest piece always stays.
    """
    descending = -np.sort(-logits, axis=-1)
    last = reaching(np.exp(descending - descending[:, :1]), np.where(p < 1.0, p, 0.0))  # [B, 1]
    return _keep(logits, (logits >= np.take_along_axis(descending, last, axis=-1)) | (p >= 1.0))


def min_p(logits: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Leaves pieces at least p times as likely as the likeliest; 0 leaves all.

    Nguyen et al. 2024, arXiv:2407.01082.
    """
    floor = np.where(p > 0.0, np.max(logits, axis=-1, keepdims=True) + np.log(np.maximum(p, 1e-38)), -np.inf)  # [B, 1]
    return _keep(logits, logits >= floor)


def typical_p(logits: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Leaves the fewest pieces that hold probability p, those first whose surprise is nearest the mean; 1 leaves all.

    Locally typical sampling, Meister et al. 2023, arXiv:2202.00666. The mean surprise is the entropy.
    """
    log_p = _log_probabilities(logits)
    distance = np.abs(-log_p - _entropy(log_p))
    return _keep(logits, _fewest(distance, np.exp(log_p), np.where(p < 1.0, p, 0.0)) | (p >= 1.0))


def top_n_sigma(logits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Leaves logits at most n standard deviations below the highest; 0 leaves all.

    Tang et al. 2024, arXiv:2411.07641. The deviation is that of the logits that are still there.
    """
    highest = np.max(logits, axis=-1, keepdims=True)
    deviations = highest - logits  # [B, V]
    impossible = np.flatnonzero(np.isinf(deviations))
    missing = np.bincount(impossible // logits.shape[-1], minlength=len(logits))[:, None]
    count = (logits.shape[-1] - missing).astype(np.float32)  # [B, 1]
    np.put(deviations, impossible, 0.0)
    deviations -= np.sum(deviations, axis=-1, keepdims=True) / count  # from the mean
    np.put(deviations, impossible, 0.0)
    sigma = np.sqrt(np.einsum("bv,bv->b", deviations, deviations)[:, None] / count)
    return _keep(logits, logits >= np.where(n > 0.0, highest - n * sigma, -np.inf))


def epsilon_cutoff(logits: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
    """Leaves pieces of at least probability epsilon, and the likeliest; 0 leaves all.

    Hewitt et al. 2022, arXiv:2210.15191.
    """
    return _keep_above(logits, _log_probabilities(logits), epsilon)


def eta_cutoff(logits: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
    """Like `epsilon_cutoff`, but at sqrt(epsilon) exp(-entropy) where that is lower: where much is possible.

    Hewitt et al. 2022, arXiv:2210.15191.
    """
    log_p = _log_probabilities(logits)
    return _keep_above(logits, log_p, np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-_entropy(log_p))))


def xtc(logits: np.ndarray, probability: np.ndarray, threshold: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Where uniforms [B, 1] < probability: of the pieces with probability >= threshold, leaves the least likely.

    "Exclude top choices", as in llama.cpp: what is obvious gives way to what is likely enough. Less likely pieces
    stay; so does everything where a single piece is above the threshold.
    """
    high = _log_probabilities(logits) >= np.log(np.maximum(threshold, 1e-38))  # [B, V]
    lowest = np.min(logits, axis=-1, keepdims=True, where=high, initial=np.inf)  # [B, 1]
    return _keep(logits, (logits <= lowest) | (uniforms >= probability))


def mirostat(logits: np.ndarray, version: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Leaves pieces so that a draw surprises by at most about mu [B, 1] bits; version 0 leaves all.

    Basu et al. 2021, arXiv:2007.14966. Version 2 leaves pieces of at most mu bits, and the likeliest. Version 1
    leaves the k likeliest, with k from the exponent s of Zipf's law, estimated on the likeliest pieces:
    k = (e 2^mu / (1 - V^-e))^(1/s) with e = s - 1.
    """
    floor = np.full((len(logits), 1), -np.inf, np.float32)
    highest = np.max(logits, axis=-1, keepdims=True)
    if (version == 1).any():
        descending = -np.sort(-logits, axis=-1)
        floor = np.where(version == 1, np.take_along_axis(descending, _zipf_k(descending, mu) - 1, axis=-1), floor)
    if (version == 2).any():
        floor = np.where(version == 2, np.minimum(_log_total(logits) - mu * np.log(2), highest), floor)
    return _keep(logits, logits >= floor)


def reaching(weights: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The index [B, 1] at which the sum of weights [B, N], from the first on, goes beyond a share [B, 1] of them all.

    It is looked for among blocks of weights first, and then inside one block: most are added up only once. Sums are
    float64, since 64,000 small float32 numbers do not add up to 1. A weight of 0 is never the one.
    """
    if weights.shape[-1] % BLOCK:
        filler = np.zeros((len(weights), -weights.shape[-1] % BLOCK), weights.dtype)
        weights = np.concatenate([weights, filler], axis=-1)
    blocks = np.reshape(weights, (len(weights), -1, BLOCK))
    cumulative = np.cumsum(np.sum(blocks, axis=-1, dtype=np.float64), axis=-1)  # [B, N / BLOCK]
    threshold = share * cumulative[:, -1:] * (1 - 1e-12)  # [B, 1]
    block = np.sum(cumulative <= threshold, axis=-1, keepdims=True)  # [B, 1]
    before = np.where(block > 0, np.take_along_axis(cumulative, np.maximum(block - 1, 0), axis=-1), 0.0)
    inside = np.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # [B, BLOCK]
    cumulative = before + np.cumsum(inside, axis=-1, dtype=np.float64)
    within = np.sum(cumulative <= threshold, axis=-1, keepdims=True)
    last = np.max(np.where(inside > 0, np.arange(BLOCK), 0), axis=-1, keepdims=True)  # where rounding went beyond it
    return block * BLOCK + np.minimum(within, last)


def surprise(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Bits of surprise [B, 1] at pieces ids [B, 1] drawn from softmax(logits [B, V])."""
    return np.take_along_axis(-_log_probabilities(logits), ids, axis=-1) / np.log(2)


def _dynamic(logits: np.ndarray, t: np.ndarray, spread: np.ndarray | float, exponent: np.ndarray | float) -> np.ndarray:
    """The temperature [B, 1] between t - spread and t + spread that suits the entropy."""
    highest = np.log(np.maximum(np.count_nonzero(logits > -np.inf, axis=-1, keepdims=True), 2))
    share = np.clip(_entropy(_log_probabilities(logits)) / highest, 0.0, 1.0)
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


def _kth(logits: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The k-th highest logit [B, 1] of each row; -inf where k is 0 or beyond them all."""
    size = logits.shape[-1]
    ranks = np.where((k > 0) & (k < size), size - k, 0).astype(np.int64)  # [B, 1]
    wanted = np.unique(ranks)
    ascending = np.partition(logits, wanted, axis=-1) if len(wanted) == 1 else np.sort(logits, axis=-1)
    return np.where(ranks > 0, np.take_along_axis(ascending, ranks, axis=-1), -np.inf)


def _fewest(keys: np.ndarray, weights: np.ndarray, share: np.ndarray) -> np.ndarray:
    """True for the fewest pieces, lowest keys first, that hold `share` of the weights; what ties with the last stays.

    Keys and weights are float32 and not negative, so their bits are ordered as they are: key and weight of a piece
    are sorted as one number of 64 bits.
    """
    pairs = np.sort(keys.view(np.uint32).astype(np.uint64) << 32 | weights.view(np.uint32), axis=-1)
    last = reaching((pairs & 0xFFFFFFFF).astype(np.uint32).view(np.float32), share)  # [B, 1]
    return keys <= (np.take_along_axis(pairs, last, axis=-1) >> 32).astype(np.uint32).view(np.float32)


def _log_total(logits: np.ndarray) -> np.ndarray:
    """log of the sum of exp(logits), [B, 1]."""
    highest = np.max(logits, axis=-1, keepdims=True)
    total = np.sum(np.exp(logits - highest), axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(highest + np.log(total), np.float32)


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    return logits - _log_total(logits)


def _entropy(log_p: np.ndarray) -> np.ndarray:
    """In nats [B, 1]."""
    total = np.sum(np.exp(log_p) * np.maximum(log_p, -1e4), axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(-total, np.float32)


def _keep_above(logits: np.ndarray, log_p: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Leaves pieces of at least this probability, and the likeliest."""
    floor = np.log(np.maximum(probability, 1e-38))
    return _keep(logits, (log_p >= floor) | (logits == np.max(logits, axis=-1, keepdims=True)) | (probability <= 0))


def _keep(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    result = np.full_like(logits, -np.inf)
    np.copyto(result, logits, where=kept)
    return result

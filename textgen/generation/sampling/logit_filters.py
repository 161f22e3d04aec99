"""Temperature and filters: they change the logits of the next token without looking at earlier tokens.

Functions of `Candidates`, the tokens that are left, and of settings [B, 1]: every text of a batch may have its own. A
token that is filtered out has the logit -inf; each function sees what those before it have left. Tokens that are
equally likely are treated alike, so a tie at a threshold stays whole.

Sums are float64, so that which tokens stay does not depend on the number of rows or of impossible tokens.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

FEW = 128  # number of candidates that is not worth shrinking further
BLOCK = 64  # probabilities that are added up at once to find where a fraction of them ends
MIN_LOGIT = np.finfo(np.float32).min  # lowest finite logit
MIN_TEMPERATURE = 1e-6  # lowest temperature that counts: lower ones above 0 are raised to it
MIN_PROBABILITY = 1e-38  # smaller probabilities and multipliers are raised to it, so that they have a logarithm
MIN_LOG_PROBABILITY = -1e4  # lowest logarithm of a probability in an entropy
GROUPS = 500  # number of groups of tokens; the maxima of the groups bound the k-th highest logit
ZIPF_TOKENS = 100  # likeliest tokens from which mirostat 1 estimates how steeply probabilities fall


class Candidates:
    """The tokens that may come next, and quantities that several filters need, computed when they are first used.

    Attributes:
        given: Logits [B, C]; those below the floor are filtered out.
        ids: Token ids [B, C]; None if they are 0 to C - 1.
        allowed: Which tokens are not filtered out already, bool [B, C]; None if all of them are left.
        shrinks: Whether only the remaining tokens are carried on once most are filtered out, in the order of their ids.
            Rows with fewer tokens than others are padded with -inf.
    """

    def __init__(
        self,
        given: np.ndarray,
        ids: np.ndarray | None = None,
        floor: np.ndarray | None = None,
        *,
        allowed: np.ndarray | None = None,
        shrinks: bool = False,
    ) -> None:
        """Makes candidates from logits.

        Args:
            given: Logits [B, C].
            ids: Token ids [B, C]; by default 0 to C - 1.
            floor: Lowest logit that is kept, [B, 1]; by default all are.
            allowed: See the attribute.
            shrinks: See the attribute.
        """
        self.given = given
        self.ids = ids
        self.allowed = allowed
        self.shrinks = shrinks
        self._floor = floor

    @cached_property
    def logits(self) -> np.ndarray:
        """The logits [B, C]; -inf where a token is filtered out."""
        if self._floor is not None:
            return _keep(self.given, self.at_least(self._floor))
        return self.given if self.allowed is None else _keep(self.given, self.allowed)

    @cached_property
    def highest(self) -> np.ndarray:
        """The highest logit [B, 1]."""
        return np.asarray(self.logits.max(axis=-1, keepdims=True))

    @cached_property
    def below(self) -> np.ndarray:
        """The logits minus the highest, [B, C]."""
        return np.asarray(self.logits - self.highest)

    @cached_property
    def log_total(self) -> np.ndarray:
        """log(sum(exp(below))) [B, 1]: a token's log probability is `below - log_total`."""
        return np.asarray(np.log(np.sum(np.exp(self.below), axis=-1, keepdims=True, dtype=np.float64)), np.float32)

    @cached_property
    def entropy(self) -> np.ndarray:
        """The entropy in nats, [B, 1]."""
        log_p = np.maximum(self.below - self.log_total, MIN_LOG_PROBABILITY)
        return np.asarray(-np.sum(np.exp(log_p) * log_p, axis=-1, keepdims=True, dtype=np.float64), np.float32)

    def ids_at(self, columns: np.ndarray) -> np.ndarray:
        """Returns the token ids [B] in these columns [B]."""
        return columns if self.ids is None else np.asarray(self.ids[np.arange(len(columns)), columns])

    def with_logits(self, logits: np.ndarray) -> Candidates:
        """Returns the same tokens with other logits [B, C]."""
        return Candidates(logits, self.ids, shrinks=self.shrinks)

    def above(self, floor: np.ndarray) -> Candidates:
        """Keeps the tokens whose logit is at least `floor` [B, 1], and always the likeliest."""
        floor = np.maximum(floor, MIN_LOGIT if self._floor is None else self._floor, dtype=np.float32)
        few = self._few(self.at_least(floor))
        left = few or Candidates(self.given, self.ids, floor, allowed=self.allowed, shrinks=self.shrinks)
        left.highest = self.highest
        return left

    def only(self, kept: np.ndarray) -> Candidates:
        """Keeps the tokens for which `kept` [B, C] is true."""
        return self._few(kept & (self.logits > -np.inf)) or self.with_logits(_keep(self.logits, kept))

    def of_rows(self, rows: np.ndarray) -> Candidates:
        """Returns the tokens of some rows, before any floor."""
        return Candidates(self.given[rows], allowed=None if self.allowed is None else self.allowed[rows])

    def at_least(self, floor: np.ndarray | float) -> np.ndarray:
        """Returns which tokens are allowed and have at least this logit, bool [B, C]."""
        kept = np.asarray(self.given >= floor)
        if self.allowed is not None:
            kept &= self.allowed
        return kept

    def _few(self, kept: np.ndarray) -> Candidates | None:
        """The kept tokens without gaps if they are few, otherwise None."""
        size = kept.shape[-1]
        if not self.shrinks or size <= FEW or np.count_nonzero(kept) > kept.size / 8:
            return None
        if len(kept) == 1:  # the same as below, but much faster
            (columns,) = kept[0].nonzero()
            logits = self.given[:, columns].astype(np.float32, copy=False)
            return Candidates(logits, columns[None] if self.ids is None else self.ids[:, columns], shrinks=True)
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
    candidates: Candidates,
    t: np.ndarray,
    dynatemp_range: np.ndarray | float = 0.0,
    dynatemp_exponent: np.ndarray | float = 1.0,
) -> Candidates:
    """Divides the logits by t: below 1 sharpens, above 1 flattens, 0 keeps only the likeliest token.

    With a range, the temperature varies between t - range, where the model is certain, and t + range, where all tokens
    are equally likely: t - range + 2 range (entropy / highest entropy)^exponent, as in llama.cpp.

    Args:
        candidates: The tokens that may come next.
        t: The temperature, [B, 1].
        dynatemp_range: The range, [B, 1]; 0 for none.
        dynatemp_exponent: The exponent, [B, 1].

    Returns:
        The tokens that are left, with their new logits.
    """
    if np.asarray(dynatemp_range).any():
        t = np.where(np.asarray(dynatemp_range) > 0, _dynamic(candidates, t, dynatemp_range, dynatemp_exponent), t)
    if (t > MIN_TEMPERATURE).all():
        left = candidates.with_logits(candidates.logits / t)  # the same as below, but much faster
        left.highest = candidates.highest / t
        return left
    likeliest = (
        np.arange(candidates.logits.shape[-1])[None, :] == np.argmax(candidates.logits, axis=-1)[:, None]
    )  # [B, C]
    alone = np.where(likeliest, np.float32(0.0), np.float32(-np.inf))
    return candidates.with_logits(np.where(t > 0.0, candidates.logits / np.maximum(t, MIN_TEMPERATURE), alone))


def top_k(candidates: Candidates, k: np.ndarray) -> Candidates:
    """Keeps the k likeliest tokens; 0 keeps all.

    Fan, Lewis & Dauphin 2018, arXiv:1805.04833.
    """
    if ((k > 0) & (k <= GROUPS)).all() and candidates.given.shape[-1] >= 2 * GROUPS:
        candidates = candidates.above(
            _below_kth(candidates.given if candidates.allowed is None else candidates.logits, k)
        )
    size = candidates.logits.shape[-1]
    ranks = np.where((k > 0) & (k < size), size - k, 0)  # [B, 1]
    floor = np.take_along_axis(np.sort(candidates.logits, axis=-1), ranks, axis=-1)
    return candidates.above(np.where(ranks > 0, floor, -np.inf))


def top_p(candidates: Candidates, p: np.ndarray) -> Candidates:
    """Keeps the fewest tokens, likeliest first, that hold at least probability p; 1 keeps all.

    Holtzman et al. 2020, arXiv:1904.09751. The likeliest token always stays.
    """
    descending = np.sort(candidates.logits, axis=-1)[:, ::-1]
    last = inverse_cdf(np.exp(descending - candidates.highest), np.where(p < 1.0, p, 0.0))  # [B, 1]
    return candidates.above(np.where(p < 1.0, np.take_along_axis(descending, last, axis=-1), -np.inf))


def min_p(candidates: Candidates, p: np.ndarray) -> Candidates:
    """Keeps tokens at least p times as likely as the likeliest; 0 keeps all.

    Nguyen et al. 2024, arXiv:2407.01082.
    """
    return candidates.above(np.where(p > 0.0, candidates.highest + np.log(np.maximum(p, MIN_PROBABILITY)), -np.inf))


def typical_p(candidates: Candidates, p: np.ndarray) -> Candidates:
    """Keeps the fewest tokens that hold probability p, those first whose surprisal is nearest the entropy; 1 keeps all.

    Locally typical sampling, Meister et al. 2023, arXiv:2202.00666.
    """
    log_p = candidates.below - candidates.log_total
    distance = np.abs(log_p + candidates.entropy)
    return candidates.only(_fewest(distance, np.exp(log_p), np.where(p < 1.0, p, 0.0)) | (p >= 1.0))


def top_n_sigma(candidates: Candidates, n: np.ndarray) -> Candidates:
    """Keeps logits at most n standard deviations below the highest; 0 keeps all.

    Tang et al. 2024, arXiv:2411.07641. The deviation is that of the logits that are left.
    """
    possible = candidates.logits > -np.inf  # [B, C]
    bits = -possible.astype(np.int32)  # all of a number where a token is possible, otherwise none
    count = np.array([[np.count_nonzero(row)] for row in possible], np.int64)  # [B, 1]; quicker than by `axis`
    deviations = candidates.logits - candidates.highest
    deviations.view(np.int32)[:] &= bits  # -inf becomes 0
    deviations -= (np.einsum("bv->b", deviations, dtype=np.float64)[:, None] / count).astype(np.float32)  # the mean
    deviations.view(np.int32)[:] &= bits
    variance = np.einsum("bv,bv->b", deviations, deviations, dtype=np.float64)[:, None] / count
    sigma = np.sqrt(variance).astype(np.float32)
    return candidates.above(np.where(n > 0.0, candidates.highest - n * sigma, -np.inf))


def epsilon_cutoff(candidates: Candidates, epsilon: np.ndarray) -> Candidates:
    """Keeps tokens of at least probability epsilon, and the likeliest; 0 keeps all.

    Hewitt et al. 2022, arXiv:2210.15191.
    """
    floor = np.minimum(np.log(np.maximum(epsilon, MIN_PROBABILITY)) + candidates.log_total, 0.0) + candidates.highest
    return candidates.above(np.where(epsilon > 0.0, floor, -np.inf))


def eta_cutoff(candidates: Candidates, epsilon: np.ndarray) -> Candidates:
    """Like `epsilon_cutoff`, but at sqrt(epsilon) exp(-entropy) where that is lower, so that high entropy keeps more.

    Hewitt et al. 2022, arXiv:2210.15191.
    """
    return epsilon_cutoff(candidates, np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-candidates.entropy)))


def xtc(candidates: Candidates, probability: np.ndarray, threshold: np.ndarray, uniforms: np.ndarray) -> Candidates:
    """Where uniforms [B, 1] < probability: of the tokens with probability >= threshold, keeps only the least likely.

    "Exclude top choices", as in llama.cpp. Less likely tokens stay, and so does everything if a single token is above
    the threshold.

    Args:
        candidates: The tokens that may come next.
        probability: Probability with which anything is dropped, [B, 1].
        threshold: Probability from which on a token counts as a top choice, [B, 1].
        uniforms: Random numbers in [0, 1), [B, 1].

    Returns:
        The tokens that are left.
    """
    high = candidates.below - candidates.log_total >= np.log(np.maximum(threshold, MIN_PROBABILITY))  # [B, C]
    lowest = np.min(np.where(high, candidates.logits, np.float32(np.inf)), axis=-1, keepdims=True)  # [B, 1]
    return candidates.only((candidates.logits <= lowest) | (uniforms >= probability))


def mirostat(candidates: Candidates, version: np.ndarray, mu: np.ndarray, vocab_size: int) -> Candidates:
    """Drops tokens more surprising than mu [B, 1] bits, in version 1 by an estimate; version 0 keeps all.

    The caller moves mu after each draw, so that the surprisals of draws come near `mirostat_tau` on average. Basu et
    al. 2021, arXiv:2007.14966. Version 2 keeps tokens of at most mu bits, and the likeliest. Version 1 keeps the k
    likeliest, with k from the exponent s of Zipf's law, estimated on the likeliest tokens:
    k = (e 2^mu / (1 - V^-e))^(1/s) with e = s - 1.

    Args:
        candidates: The tokens that may come next.
        version: The version, [B, 1].
        mu: Largest surprisal in bits, [B, 1].
        vocab_size: V, the number of tokens in the vocabulary.

    Returns:
        The tokens that are left.
    """
    floor = np.full((len(candidates.logits), 1), -np.inf, np.float32)
    if (version == 1).any():
        descending = np.sort(candidates.logits, axis=-1)[:, ::-1]
        last = np.minimum(_zipf_k(descending, mu, vocab_size), descending.shape[-1]) - 1  # [B, 1]
        floor = np.where(version == 1, np.take_along_axis(descending, last, axis=-1), floor)
    if (version == 2).any():
        surprising = np.minimum(candidates.log_total - mu * np.log(2), 0.0).astype(np.float32)
        floor = np.where(version == 2, candidates.highest + surprising, floor)
    return candidates.above(floor)


def draw_plainly(candidates: Candidates, log_min_p: float | None, t: float, uniform: float) -> int:
    """Draws a token of one text after `min_p` and `temperature` alone, as most texts do.

    The token is the same as with these functions one after the other. For one text this takes half the time, because
    settings and limits are plain numbers instead of arrays.

    Args:
        candidates: All tokens, which no filter has seen, [1, V].
        log_min_p: log(p) of `min_p`; None keeps all tokens.
        t: The temperature, above `MIN_TEMPERATURE`.
        uniform: A random number in [0, 1).

    Returns:
        The token id.
    """
    highest = candidates.highest[0, 0]
    if log_min_p is None:
        return _inverse_cdf_of_row(np.exp(candidates.logits[0] / t - highest / t), uniform)
    (ids,) = candidates.at_least(highest + log_min_p)[0].nonzero()
    return int(ids[_inverse_cdf_of_row(np.exp(candidates.given[0, ids] / t - highest / t), uniform)])


def inverse_cdf(weights: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Returns the index [B, 1] at which the cumulative sum of weights exceeds a fraction of the total.

    Long rows are searched by blocks first, then inside one block, so that most weights are added up only once. Sums are
    float64, since 64,000 small float32 numbers do not add up to 1. The index never has the weight 0.

    Args:
        weights: Weights of at least 0, [B, N].
        fraction: Fraction of their total, in [0, 1), [B, 1].
    """
    if len(weights) == 1:
        return np.array([[_inverse_cdf_of_row(weights[0], fraction.item())]])
    if weights.shape[-1] <= FEW:
        cumulative = np.cumsum(weights, axis=-1, dtype=np.float64)
        threshold = _threshold(cumulative[:, -1:], fraction)  # [B, 1]
        return np.asarray(np.count_nonzero(cumulative <= threshold, axis=-1, keepdims=True))
    blocks = _blocks(weights)  # [B, N / BLOCK, BLOCK]
    cumulative = np.einsum("bnk->bn", blocks).cumsum(axis=-1)  # [B, N / BLOCK]
    threshold = _threshold(cumulative[:, -1:], fraction)  # [B, 1]
    block = np.sum(cumulative <= threshold, axis=-1, keepdims=True)  # [B, 1]
    before = np.where(block > 0, np.take_along_axis(cumulative, np.maximum(block - 1, 0), axis=-1), 0.0)
    inside = np.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # [B, BLOCK]
    within = np.sum(before + np.cumsum(inside, axis=-1) <= threshold, axis=-1, keepdims=True)
    last = np.max(np.where(inside > 0, np.arange(BLOCK), 0), axis=-1, keepdims=True)  # where rounding went beyond it
    return block * BLOCK + np.minimum(within, last)


def _inverse_cdf_of_row(weights: np.ndarray, fraction: float) -> int:
    """What `inverse_cdf` finds in one row of weights [N], in a third of the time."""
    if len(weights) <= FEW:
        cumulative = weights.cumsum(dtype=np.float64)
        return int(cumulative.searchsorted(_threshold(cumulative[-1], fraction), "right"))
    blocks = _blocks(weights)
    cumulative = np.einsum("nk->n", blocks).cumsum()  # [N / BLOCK]
    threshold = _threshold(cumulative[-1], fraction)
    block = int(cumulative.searchsorted(threshold, "right"))
    inside = blocks[block]
    sums = inside.cumsum()
    if block:
        sums += cumulative[block - 1]
    within = int(sums.searchsorted(threshold, "right"))
    return block * BLOCK + min(within, int(inside.nonzero()[0][-1]))


def _blocks(weights: np.ndarray) -> np.ndarray:
    """Weights [..., N] in float64, filled up with zeros to blocks, [..., N / BLOCK, BLOCK]."""
    *rows, size = weights.shape
    if size % BLOCK:
        weights = np.concatenate([weights, np.zeros((*rows, -size % BLOCK), weights.dtype)], axis=-1)
    return weights.reshape(*rows, -1, BLOCK).astype(np.float64)


def surprisal_bits(candidates: Candidates, columns: np.ndarray) -> np.ndarray:
    """Returns the surprisal in bits, [B, 1], of the drawn tokens in these columns [B, 1]."""
    return (candidates.log_total - np.take_along_axis(candidates.below, columns, axis=-1)) / np.log(2)


def _threshold(total: Any, fraction: Any) -> Any:
    """A fraction of a sum, always less than the sum."""
    return fraction * total * (1 - 1e-12)


def _dynamic(
    candidates: Candidates, t: np.ndarray, spread: np.ndarray | float, exponent: np.ndarray | float
) -> np.ndarray:
    """The temperature [B, 1] between t - spread and t + spread that the entropy determines."""
    highest = np.log(np.maximum(np.count_nonzero(candidates.logits > -np.inf, axis=-1, keepdims=True), 2))
    fraction = np.clip(candidates.entropy / highest, 0.0, 1.0)
    low, high = np.maximum(t - spread, 0.0), t + spread
    return np.asarray(low + (high - low) * fraction**exponent, np.float32)


def _zipf_k(descending: np.ndarray, mu: np.ndarray, vocab_size: int) -> np.ndarray:
    """k [B, 1] of mirostat 1, from sorted logits [B, C]."""
    # As many columns for few candidates as for many, so that the order of sums is the same
    likeliest = np.full((len(descending), ZIPF_TOKENS), -np.inf)
    likeliest[:, : descending.shape[-1]] = descending[:, :ZIPF_TOKENS]
    possible = likeliest[:, 1:] > -np.inf
    b = np.subtract(likeliest[:, :-1], likeliest[:, 1:], where=possible, out=np.zeros(possible.shape))
    rank = np.arange(1, likeliest.shape[-1])
    t = np.where(possible, np.log((rank + 1) / rank), 0.0)  # what b is at s = 1
    s = np.sum(t * b, axis=-1, keepdims=True) / np.maximum(np.sum(t * t, axis=-1, keepdims=True), 1e-9)
    s = np.maximum(s, 1e-6)
    e = np.where(np.abs(s - 1.0) < 1e-6, 1e-6, s - 1.0)
    log_k = (np.log(e / -np.expm1(-e * np.log(max(vocab_size, 2)))) + mu * np.log(2)) / s
    return np.clip(np.exp(np.minimum(log_k, np.log(2 * vocab_size))), 1, vocab_size).astype(np.int64)


def _keep(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """-inf where `kept` is false; without a branch for each token, so several times as fast as `np.where`."""
    added = kept.astype(np.int32)
    added -= 1  # -1, all bits, where a token is filtered out
    added &= np.float32(-np.inf).view(np.int32)
    return np.asarray(logits + added.view(np.float32))


def _below_kth(logits: np.ndarray, k: np.ndarray) -> np.ndarray:
    """A number [B, 1] at most the k-th highest logit of each row, and close to it, for k up to `GROUPS`.

    It is the k-th highest of the maxima of groups: k groups have a token of at least that.
    """
    size = logits.shape[-1] // GROUPS * GROUPS
    groups = np.max(logits[:, :size].reshape(len(logits), -1, GROUPS), axis=1)  # [B, GROUPS]
    return np.take_along_axis(np.sort(groups, axis=-1), GROUPS - k, axis=-1)


def _fewest(keys: np.ndarray, weights: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """True for the fewest candidates, lowest keys first, with `fraction` of the weights, and for ties with the last.

    Keys and weights are float32 and not negative, so they are ordered as their bits are: key and weight of a token are
    sorted as one number of 64 bits.
    """
    pairs = np.sort(keys.view(np.uint32).astype(np.uint64) << 32 | weights.view(np.uint32), axis=-1)
    last = inverse_cdf((pairs & 0xFFFFFFFF).astype(np.uint32).view(np.float32), fraction)  # [B, 1]
    return keys <= (np.take_along_axis(pairs, last, axis=-1) >> 32).astype(np.uint32).view(np.float32)

"""The samplers in exact arithmetic: the same logits and settings give the same draw on every machine.

They do what `textgen.generation.sampling.logit_filters` and `textgen.generation.sampling.penalties` do, for one text at
a time. They are written so that they can be repeated in another language to the last bit:

- Numbers are float64, and settings are taken as they are given. exp, log and power are those of
  `textgen.model.exact_math`.
- What is left of the vocabulary is a list in ascending order of the ids. Sums go along it from its first token to its
  last. Where a sampler sorts, the highest logit comes first, equal ones by ascending id, and sums follow that order.
- `below` is a logit minus the highest, `log_total` the log of the sum of exp(below), and the log probability of a token
  below - log_total, in this order.

Ties at a threshold stay whole, as in the ordinary chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from textgen.generation.config import SamplingConfig
from textgen.generation.sampling.logit_filters import (
    MIN_LOG_PROBABILITY,
    MIN_PROBABILITY,
    MIN_TEMPERATURE,
    ZIPF_TOKENS,
)
from textgen.generation.sampling.penalties import MAX_PENALTY, DrySettings, count_ids, repetitions
from textgen.generation.sampling.vocabulary_tables import SplitTexts
from textgen.model.exact_math import LN2, exp, log, power, total


@dataclass(frozen=True, eq=False)
class Remaining:
    """The tokens that may come next.

    Attributes:
        ids: Token ids in ascending order, int64 [N], N at least 1.
        logits: Their logits, float64 [N], all above -inf.
    """

    ids: np.ndarray
    logits: np.ndarray

    @cached_property
    def highest(self) -> float:
        """The highest logit."""
        return float(np.max(self.logits))

    @cached_property
    def below(self) -> np.ndarray:
        """Each logit minus the highest, [N]."""
        return np.asarray(self.logits - self.highest)

    @cached_property
    def log_total(self) -> float:
        """log(sum of exp(below))."""
        return log(float(total(exp(self.below))))

    @cached_property
    def log_p(self) -> np.ndarray:
        """Log probabilities in nats, [N]: below - log_total."""
        return np.asarray(self.below - self.log_total)

    @cached_property
    def entropy(self) -> float:
        """The entropy in nats: 0 minus the sum of exp(log_p) * log_p, where log_p counts as -10,000 at least."""
        log_p = np.maximum(self.log_p, MIN_LOG_PROBABILITY)
        return 0.0 - float(total(exp(log_p) * log_p))

    def only(self, kept: np.ndarray) -> Remaining:
        """Keeps the tokens for which `kept`, bool [N], is true."""
        return Remaining(self.ids[kept], self.logits[kept])

    def above(self, floor: float) -> Remaining:
        """Keeps logits of at least `floor`, and always the highest."""
        return self.only(self.logits >= min(floor, self.highest))


def possible(logits: np.ndarray, least: float = 0.0) -> Remaining:
    """The tokens of a vocabulary, logits [V], whose logit is above -inf; with `least` at once what `min_p` keeps."""
    kept = logits >= np.max(logits) + log(max(least, MIN_PROBABILITY)) if least > 0 else logits > -np.inf
    ids = np.flatnonzero(kept)
    return Remaining(ids, logits[ids])


def draw_exactly(left: Remaining, uniform: float) -> int:
    """Draws a token: with weights exp(below), the one in `first_above`.

    Args:
        left: The tokens.
        uniform: The fraction, a random number in [0, 1).

    Returns:
        Its id.
    """
    return int(left.ids[first_above(exp(left.below), uniform)])


def first_above(weights: np.ndarray, fraction: float) -> int:
    """The first place at which the cumulative sum exceeds fraction * the whole sum; the last one if none does."""
    cumulative = np.cumsum(weights)
    place = int(np.searchsorted(cumulative, fraction * cumulative[-1], side="right"))
    return min(place, len(weights) - 1)


# === Penalties: they look at the last tokens, history int [W], the newest at the end; -1 where there is none ===


def penalties(
    left: Remaining, history: np.ndarray, repeat: float, presence: float, frequency: float, last_n: int
) -> Remaining:
    """Lowers the logits of tokens that are among the last `last_n`.

    A logit above 0 is divided by `repeat`, another one multiplied by it; then presence is subtracted, then frequency *
    the number of occurrences.

    Args:
        left: The tokens that may come next.
        history: The tokens of the text so far, int [N]; -1 where there is none.
        repeat: The factor.
        presence: What is subtracted once from the logit of a token that occurs.
        frequency: What is subtracted for each of its occurrences.
        last_n: Tokens at the end of the history that count.

    Returns:
        The same tokens with other logits.
    """
    counts = count_ids(history[max(0, len(history) - last_n) :])
    ids = np.flatnonzero(counts)
    counts = counts[ids]
    places = np.searchsorted(left.ids, ids)
    there = left.ids[np.minimum(places, len(left.ids) - 1)] == ids
    places, counts = places[there], counts[there]
    logits = left.logits.copy()
    value = logits[places]
    value = np.where(value > 0, value / repeat, value * repeat)
    logits[places] = (value - presence) - frequency * counts
    return Remaining(left.ids, logits)


def dry(
    left: Remaining,
    history: np.ndarray,
    breakers: np.ndarray,
    texts: SplitTexts | None,
    multiplier: float,
    base: float,
    allowed_length: int,
    last_n: int,
) -> Remaining:
    """Lowers the logits of tokens that would prolong a repetition of n tokens beyond `allowed_length`.

    Subtracted is exp(min(log(base) * (n - allowed_length) + log(multiplier), log(1e6))), for the largest n of a token.
    A repetition ends at a token of `breakers`, and at one with which one of `texts` ends; neither is lowered.

    Args:
        left: The tokens that may come next.
        history: The tokens of the text so far, int [N]; -1 where there is none.
        breakers: The tokens that end a repetition, bool [V].
        texts: Texts that end a repetition where several tokens spell them; None if there are none.
        multiplier: The penalty of a token that prolongs a repetition of `allowed_length` tokens.
        base: The factor of the penalty for each further token.
        allowed_length: Length of the longest repetition that is not penalized.
        last_n: Tokens at the end of the history in which repetitions are looked for.

    Returns:
        The same tokens with other logits.
    """
    settings = DrySettings(*(np.array([[value]]) for value in (multiplier, base, allowed_length, last_n)))
    _, following, lengths = repetitions(history[None], breakers[None], settings, [texts])
    longest = np.zeros(len(breakers), lengths.dtype)
    by_length = np.argsort(lengths, kind="stable")
    longest[following[by_length]] = lengths[by_length]
    lengths = longest[left.ids]  # of each token that is left; 0 if it prolongs no repetition
    logits = left.logits.copy()
    for length in np.unique(lengths[lengths > 0]).tolist():
        exponent = log(base) * (length - allowed_length) + log(max(multiplier, MIN_PROBABILITY))
        logits[lengths == length] -= float(exp(min(exponent, log(MAX_PENALTY))))
    return Remaining(left.ids, logits)


# === Filters and the temperature ===


def top_n_sigma(left: Remaining, n: float) -> Remaining:
    """Keeps logits of at least highest - n * sigma, the standard deviation of what is left.

    d = below - sum(below) / N, and sigma = sqrt(sum(d * d) / N).
    """
    size = len(left.ids)
    d = left.below - float(total(left.below)) / size
    return left.above(left.highest - n * float(np.sqrt(float(total(d * d)) / size)))


def top_k(left: Remaining, k: int) -> Remaining:
    """Keeps the k highest logits, and those that equal the k-th."""
    return left if k >= len(left.ids) else left.above(float(np.sort(left.logits)[-k]))


def typical_p(left: Remaining, p: float) -> Remaining:
    """Keeps the fewest tokens that hold more than p, nearest the entropy first, and those as near as the last.

    The distance is |log_p + entropy|; equal ones come by ascending id. Weights are exp(log_p).
    """
    distance = np.abs(left.log_p + left.entropy)
    order = np.argsort(distance, kind="stable")
    last = first_above(exp(left.log_p)[order], p)
    return left.only(distance <= distance[order[last]])


def top_p(left: Remaining, p: float) -> Remaining:
    """Keeps the highest logits up to the first at which the cumulative sum of exp(below) exceeds p * its total."""
    order = np.argsort(-left.logits, kind="stable")
    last = first_above(exp(left.below[order]), p)
    return left.above(float(left.logits[order[last]]))


def min_p(left: Remaining, p: float) -> Remaining:
    """Keeps logits of at least highest + log(p)."""
    return left.above(left.highest + log(max(p, MIN_PROBABILITY)))


def epsilon_cutoff(left: Remaining, epsilon: float) -> Remaining:
    """Keeps logits of at least min(log(epsilon) + log_total, 0) + highest."""
    return left.above(min(log(max(epsilon, MIN_PROBABILITY)) + left.log_total, 0.0) + left.highest)


def eta_cutoff(left: Remaining, epsilon: float) -> Remaining:
    """`epsilon_cutoff` at min(epsilon, sqrt(epsilon) * exp(-entropy))."""
    return epsilon_cutoff(left, min(epsilon, float(np.sqrt(epsilon)) * float(exp(-left.entropy))))


def xtc(left: Remaining, probability: float, threshold: float, uniform: float) -> Remaining:
    """If uniform < probability: drops the tokens with log_p >= log(threshold), except the lowest of their logits.

    Args:
        left: The tokens that may come next.
        probability: Probability with which anything is dropped.
        threshold: Probability from which on a token counts as likely.
        uniform: A random number in [0, 1).

    Returns:
        The tokens that are left.
    """
    high = left.log_p >= log(max(threshold, MIN_PROBABILITY))
    if uniform >= probability or not high.any():
        return left
    return left.only(left.logits <= np.min(left.logits[high]))


def temperature(left: Remaining, t: float, dynatemp_range: float = 0.0, dynatemp_exponent: float = 1.0) -> Remaining:
    """Divides the logits by t, or by 1e-6 if t is less; 0 keeps the highest logit alone, that of the lowest id.

    With a range, t becomes low + (high - low) * power(fraction, exponent), where low = max(t - range, 0),
    high = t + range and fraction = entropy / log(max(N, 2)), from 0 to 1.

    Args:
        left: The N tokens that may come next.
        t: The temperature.
        dynatemp_range: The range; 0 for none.
        dynatemp_exponent: The exponent of the fraction.

    Returns:
        The tokens that are left, with their new logits.
    """
    if dynatemp_range > 0:
        fraction = min(max(left.entropy / log(max(len(left.ids), 2)), 0.0), 1.0)
        low, high = max(t - dynatemp_range, 0.0), t + dynatemp_range
        t = low + (high - low) * power(fraction, dynatemp_exponent)
    if t <= 0:
        place = int(np.argmax(left.logits))
        return Remaining(left.ids[place : place + 1], left.logits[place : place + 1])
    return Remaining(left.ids, left.logits / max(t, MIN_TEMPERATURE))


# === Mirostat: it replaces all filters, and remembers a number mu of bits ===


def draw_with_mirostat(
    left: Remaining, config: SamplingConfig, mu: float, uniform: float, vocab_size: int
) -> tuple[int, float]:
    """Draws a token with `mirostat`.

    Args:
        left: The tokens that may come next.
        config: Settings of the text.
        mu: Largest surprisal of a token, in bits.
        uniform: A random number in [0, 1).
        vocab_size: Number of tokens in the vocabulary.

    Returns:
        Its id, and mu for the next draw: mu - eta * (its bits - tau), where the bits of a token are
        (log_total - below) / ln 2 before the filter. The first mu is 2 * tau.
    """
    id = draw_exactly(mirostat(left, config.mirostat, mu, vocab_size), uniform)
    bits = (left.log_total - float(left.below[np.searchsorted(left.ids, id)])) / LN2
    return id, mu - config.mirostat_eta * (bits - config.mirostat_tau)


def mirostat(left: Remaining, version: int, mu: float, vocab_size: int) -> Remaining:
    """Drops tokens more surprising than mu bits, in version 1 by an estimate.

    Version 2 keeps logits of at least highest + min(log_total - mu * ln 2, 0); version 1 the k highest logits, and
    those that equal the k-th, with k from `zipf_k`.

    Args:
        left: The tokens that may come next.
        version: Version of mirostat, 1 or 2.
        mu: Largest surprisal of a token, in bits.
        vocab_size: Number of tokens in the vocabulary.

    Returns:
        The tokens that are left.
    """
    if version == 2:
        return left.above(left.highest + min(left.log_total - mu * LN2, 0.0))
    descending = np.sort(left.logits)[::-1]
    k = zipf_k(descending[:ZIPF_TOKENS], mu, vocab_size)
    return left if k >= len(left.ids) else left.above(float(descending[k - 1]))


def zipf_k(descending: np.ndarray, mu: float, vocab_size: int) -> int:
    """k of mirostat 1: floor(((e / (1 - V^-e)) 2^mu)^(1 / s)) with e = s - 1, from 1 to V.

    s is sum(t * b) / sum(t * t), with b the differences of neighbours among the highest logits and t = log((i + 1) / i)
    for the i-th of them. Neither s nor |e| counts as less than 1e-6; where |e| would, e is 1e-6.

    Args:
        descending: The highest logits, at most 100.
        mu: Bits.
        vocab_size: V.
    """
    rank = np.arange(1.0, len(descending))
    t = np.array([log(ratio) for ratio in ((rank + 1) / rank).tolist()])
    b = descending[:-1] - descending[1:]
    s = float(total(t * b)) / float(total(t * t)) if len(rank) else 0.0
    s = max(s, 1e-6)
    e = 1e-6 if abs(s - 1) < 1e-6 else s - 1
    log_k = (log(e / (1 - float(exp(-e * log(vocab_size))))) + mu * LN2) / s
    return int(min(max(np.floor(exp(min(log_k, log(2 * vocab_size)))), 1), vocab_size))


# Their inputs: see `textgen.generation.sampling.sampler_settings.TRANSFORMS`.
EXACT: Mapping[str, Callable[..., Remaining]] = {
    "penalties": penalties,
    "dry": dry,
    "top_n_sigma": top_n_sigma,
    "top_k": top_k,
    "typical_p": typical_p,
    "top_p": top_p,
    "min_p": min_p,
    "epsilon_cutoff": epsilon_cutoff,
    "eta_cutoff": eta_cutoff,
    "xtc": xtc,
    "temperature": temperature,
}

"""How much the predictions of a network change when its weights or its arithmetic are rounded.

Both networks read one text and predict its tokens. The text is given, or the network writes it itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textgen.model.probabilities import log_softmax
from textgen.model.protocols import NextTokenModel
from textgen.wording import percent

MAX_PERPLEXITY_CHANGE = 0.003  # largest change of perplexity that rounding may cost, as a fraction
MAX_DIVERGENCE = 0.002  # largest mean Kullback-Leibler divergence D(p‖q) that it may cost, in nats per token
MIN_SAME_TOP = 0.97  # fraction of tokens at which the likeliest one must stay the same; two are often nearly equal
ROWS, STEPS = 32, 64  # texts that a network writes, and tokens of each
SEED = 1
IMPOSSIBLE = -1e9  # the logit of a token that is never written

# Log probabilities of the network and of the rounded one in nats [..., V], the tokens that follow [...], and which of
# these count, bool [...]
Predictions = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PredictionChange:
    """How much predictions change on a text. The names of the fields are those of JSON.

    Attributes:
        perplexity_change: Relative change of the perplexity: 0.001 is 0.1 % more.
        divergence_nats: Kullback-Leibler divergence D(p‖q) = sum of p log(p / q), mean over tokens, with the
            predictions p of the network and q of the rounded one.
        same_top_fraction: Fraction of the tokens at which both find the same token likeliest.
        tokens: Number of tokens measured.
    """

    perplexity_change: float
    divergence_nats: float
    same_top_fraction: float
    tokens: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PredictionChange:
        """Makes it from the values of a record.

        Raises:
            TypeError: There are other names, or some are missing.
        """
        return cls(**values)

    def to_dict(self) -> dict[str, float]:
        """Returns the fields by name."""
        return asdict(self)

    @property
    def is_small(self) -> bool:
        """Whether the rounded network may stand for the other."""
        return (
            abs(self.perplexity_change) <= MAX_PERPLEXITY_CHANGE
            and self.divergence_nats <= MAX_DIVERGENCE
            and self.same_top_fraction >= MIN_SAME_TOP
        )

    def __str__(self) -> str:
        return (
            f"perplexity {percent(self.perplexity_change, 2, sign=True)}, KL {self.divergence_nats:.5f} nats, "
            f"{percent(self.same_top_fraction)} the same likeliest token"
        )


@dataclass(frozen=True)
class Comparison:
    """The predictions of a network and of the rounded one on a text.

    Attributes:
        nats_per_token: Loss of the network.
        rounded_nats_per_token: Loss of the rounded network.
        entropy_nats: Entropy of the predictions of the network, mean over tokens.
        change: The difference of the predictions.
    """

    nats_per_token: float
    rounded_nats_per_token: float
    entropy_nats: float
    change: PredictionChange


def compared(predictions: Iterable[Predictions]) -> Comparison:
    """Compares predictions.

    Args:
        predictions: Those of each part of a text. At least one token counts.

    Returns:
        The losses, the entropy and the difference of the predictions, each a mean over the tokens that count.
    """
    nats, rounded_nats, entropy, divergence, same, tokens = 0.0, 0.0, 0.0, 0.0, 0, 0
    for log_p, log_q, targets, counts in predictions:
        p = np.exp(log_p)  # [..., V]
        nats -= _total(_chosen(log_p, targets), counts)
        rounded_nats -= _total(_chosen(log_q, targets), counts)
        entropy -= _total((p * log_p).sum(axis=-1), counts)
        divergence += _total((p * (log_p - log_q)).sum(axis=-1), counts)
        same += int(np.count_nonzero((log_p.argmax(axis=-1) == log_q.argmax(axis=-1))[counts]))
        tokens += int(np.count_nonzero(counts))
    rise = float(np.expm1((rounded_nats - nats) / tokens))
    change = PredictionChange(rise, divergence / tokens, same / tokens, tokens)
    return Comparison(nats / tokens, rounded_nats / tokens, entropy / tokens, change)


def compared_on_own_text(
    network: NextTokenModel,
    rounded: NextTokenModel,
    openings: Sequence[Sequence[int]],
    never: Sequence[int] = (),
    seed: int = SEED,
) -> Comparison:
    """Compares two networks on texts that the first one writes.

    Args:
        network: The network.
        rounded: The same with rounded weights or arithmetic.
        openings: The tokens that texts begin with, as many for each: see `spread`.
        never: Tokens that are never written, and do not count.
        seed: Seed of the texts.

    Returns:
        See `compared`.

    Raises:
        SavedModelError: Logits are not finite.
    """
    return compared(_while_writing((network, rounded), openings, never, np.random.default_rng(seed)))


def spread(openings: Sequence[Sequence[int]], rows: int) -> np.ndarray:
    """Chooses the tokens that each of several texts begins with, as many texts for each opening as possible.

    Args:
        openings: The tokens of each opening [N, T].
        rows: Number of texts. If it is less than N, the openings are chosen at equal distances.

    Returns:
        The tokens of each text, int32 [rows, T].

    Example:
        >>> spread([[1, 7], [1, 8]], 3).tolist()
        [[1, 7], [1, 7], [1, 8]]
    """
    return np.array(openings, np.int32)[np.arange(rows) * len(openings) // rows]


def drawn(log_probs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a token for each row of log probabilities [B, V], int32 [B]: Gumbel noise, then the largest.

    The noise is that of `rng.gumbel`, which takes several times as long: it computes one logarithm at a time.
    """
    noise = rng.random(log_probs.shape)
    np.log(np.subtract(1, noise, out=noise), out=noise)
    np.log(np.negative(noise, out=noise), out=noise)  # the negated noise
    return np.subtract(log_probs, noise, out=noise).argmax(axis=-1).astype(np.int32)


def _while_writing(
    networks: tuple[NextTokenModel, NextTokenModel],
    openings: Sequence[Sequence[int]],
    never: Sequence[int],
    rng: np.random.Generator,
) -> Iterator[Predictions]:
    """Yields the predictions of both networks for each token that the first one writes."""
    states = [each.initial_state(ROWS) for each in networks]
    *before, ids = spread(openings, ROWS).T  # int32 [ROWS] each
    for read in before:
        states = [each.step(read, state)[1] for each, state in zip(networks, states, strict=True)]
    for _ in range(STEPS):
        steps = [each.step(ids, state) for each, state in zip(networks, states, strict=True)]
        states = [state for _, state in steps]
        log_p, log_q = (_log_probs(logits, never) for logits, _ in steps)  # [ROWS, V] each
        ids = drawn(log_p, rng)
        yield log_p, log_q, ids, np.ones(ROWS, bool)


def _log_probs(logits: np.ndarray, never: Sequence[int]) -> np.ndarray:
    """Log probabilities [B, V], where tokens that are never written are impossible."""
    logits = logits.astype(np.float64)
    logits[:, never] = IMPOSSIBLE
    return log_softmax(logits)


def _chosen(log_probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The log probability of each target: [..., V], [...] -> [...]."""
    return np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]


def _total(values: np.ndarray, counts: np.ndarray) -> float:
    """The sum of the values [...] that count."""
    return float(values[counts].sum())

"""The loss of accuracy from rounding weights: predictions with rounded weights beside those of the network itself.

Both read a text that the network writes, as llama.cpp measures it: how much do the probabilities change?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from textgen.model.probabilities import LEAST_SAME_TOP, MOST_DIVERGENCE, MOST_PERPLEXITY, differences, log_softmax
from textgen.wording import percent

ROWS, STEPS = 32, 64  # texts that are written, and tokens of each
SEED = 1
IMPOSSIBLE = -1e9  # the logit of a token that is never written


class Network(Protocol):
    """A network that reads one token of each text at a time, such as `textgen.model.numpy_model.NumpyModel`."""

    def initial_state(self, batch_size: int) -> Any:
        """Returns the state of `batch_size` texts before their first token."""

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads ids int32 [B]. Returns the logits of the next tokens [B, V], and the state after `ids`."""


@dataclass(frozen=True)
class Loss:
    """The loss of accuracy from rounding, on text that the network writes.

    Attributes:
        perplexity: Relative change of the perplexity: 0.001 is 0.1 % more.
        kl: Kullback-Leibler divergence of the predictions from those of the network, mean over tokens, nats.
        same_top: Share of the tokens at which the likeliest token is the same.
        tokens: Number of tokens measured.
    """

    perplexity: float
    kl: float
    same_top: float
    tokens: int

    @property
    def is_small(self) -> bool:
        """Whether the rounded network may stand for the other."""
        return (
            abs(self.perplexity) <= MOST_PERPLEXITY and self.kl <= MOST_DIVERGENCE and self.same_top >= LEAST_SAME_TOP
        )

    def __str__(self) -> str:
        return (
            f"perplexity {percent(self.perplexity, 2, sign=True)}, KL {self.kl:.5f} nats, "
            f"{percent(self.same_top)} the same likeliest token"
        )


def loss_of(network: Network, rounded: Network, openings: Sequence[Sequence[int]], never: Sequence[int] = ()) -> Loss:
    """Compares two networks on texts that the first one writes.

    Args:
        network: The network.
        rounded: The same with rounded weights.
        openings: The tokens that texts begin with, as many for each: see `spread`.
        never: Tokens that are never written, and do not count.

    Raises:
        SavedModelError: Logits are not finite.
    """
    networks, rng = (network, rounded), np.random.default_rng(SEED)
    states = [each.initial_state(ROWS) for each in networks]
    *before, ids = spread(openings, ROWS).T
    for read in before:
        states = [each.step(read, state)[1] for each, state in zip(networks, states, strict=True)]
    nats, divergence, same = 0.0, 0.0, 0
    for _ in range(STEPS):
        (logits, after), (others, other_after) = (
            each.step(ids, state) for each, state in zip(networks, states, strict=True)
        )
        states = [after, other_after]
        expected, found = (_log_probs(each, never) for each in (logits, others))  # [ROWS, V]
        ids = drawn(expected, rng)
        nats += float((expected - found)[np.arange(ROWS), ids].sum())
        kl, is_same = differences(expected, found)
        divergence += float(kl.sum())
        same += int(is_same.sum())
    tokens = ROWS * STEPS
    return Loss(float(np.expm1(nats / tokens)), divergence / tokens, same / tokens, tokens)


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
    """Draws a token for each row of log probabilities [B, V], int32 [B]: Gumbel noise, then the largest."""
    noise = rng.gumbel(size=log_probs.shape).astype(np.float32)
    return (log_probs + noise).argmax(axis=-1).astype(np.int32)


def _log_probs(logits: np.ndarray, never: Sequence[int]) -> np.ndarray:
    logits = logits.astype(np.float64)
    logits[:, never] = IMPOSSIBLE
    return log_softmax(logits)

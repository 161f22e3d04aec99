"""Converting logits to log probabilities, in NumPy."""

from __future__ import annotations

import numpy as np

from textgen.errors import SavedModelError

MOST_PERPLEXITY = 0.003  # largest rise of perplexity that rounding weights may cost, as a share
MOST_DIVERGENCE = 0.002  # largest mean Kullback-Leibler divergence that it may cost, in nats per token
LEAST_SAME_TOP = 0.97  # share of tokens at which the likeliest one must stay the same; two are often nearly equal
LARGEST = 1e28  # largest logit: one beyond it overflows float32 when divided by a low temperature
NOT_FINITE = (
    "The model's predictions are not finite numbers, so nothing can be drawn: its weights or its state are damaged, or "
    "it diverged when it was adapted. Lower the learning rate of the adaptation, or take the model from a backup."
)


def is_finite(logits: np.ndarray) -> bool:
    """Returns whether the largest logit at each position [..., V] is finite and not too large."""
    return bool((np.abs(logits.max(axis=-1)) <= LARGEST).all())


def require_finite(logits: np.ndarray) -> None:
    """Checks that the largest logit at each position is finite and not too large.

    Args:
        logits: Logits, [..., V].

    Raises:
        SavedModelError: A maximum over the vocabulary is not finite, or exceeds `LARGEST` in absolute value.
    """
    if not is_finite(logits):
        raise SavedModelError(NOT_FINITE)


def differences(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compares predictions.

    Args:
        p: Log probabilities in nats, [..., V].
        q: Others, [..., V].

    Returns:
        The Kullback-Leibler divergence of q from p in nats, [...], and whether both find the same token likeliest,
        bool [...].
    """
    return (np.exp(p) * (p - q)).sum(axis=-1), p.argmax(axis=-1) == q.argmax(axis=-1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Computes log probabilities from logits.

    Args:
        logits: Logits, [..., V].

    Returns:
        Log probabilities in nats, [..., V].

    Raises:
        SavedModelError: The logits are not finite.

    Example:
        >>> np.exp(log_softmax(np.zeros(4))).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    require_finite(logits)
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True, dtype=np.float64))

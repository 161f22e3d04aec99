"""Converting logits to log probabilities, in NumPy."""

from __future__ import annotations

import numpy as np

from textgen.errors import SavedModelError

MAX_LOGIT = 1e28  # largest logit: one beyond it overflows float32 when divided by a low temperature
UNLIKELY = np.errstate(under="ignore")  # probabilities that become 0, whatever a program has set for its own numbers
NOT_FINITE = (
    "The model's predictions are not finite numbers, so nothing can be drawn: its weights or its state are damaged, or "
    "it diverged when it was adapted. Lower the learning rate of the adaptation, or take the model from a backup."
)


def is_finite(logits: np.ndarray) -> bool:
    """Returns whether the largest logit at each position [..., V] is finite and not too large."""
    return bool((np.abs(logits.max(axis=-1)) <= MAX_LOGIT).all())


def require_finite(logits: np.ndarray) -> None:
    """Checks that the largest logit at each position is finite and not too large.

    Args:
        logits: Logits, [..., V].

    Raises:
        SavedModelError: A maximum over the vocabulary is not finite, or exceeds `MAX_LOGIT` in absolute value.
    """
    if not is_finite(logits):
        raise SavedModelError(NOT_FINITE)


@UNLIKELY
def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """Computes the log of the sum of the exponentials of the logits.

    A logit minus it is a log probability in nats.

    Args:
        logits: Logits, [..., V].

    Returns:
        Float64, [..., 1].

    Example:
        >>> float(np.exp(log_sum_exp(np.zeros(4)))[0])
        4.0
    """
    highest = logits.max(axis=-1, keepdims=True)
    return np.asarray(highest + np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True, dtype=np.float64)))


@UNLIKELY
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

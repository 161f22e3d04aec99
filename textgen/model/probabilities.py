"""Logits to log probabilities, in NumPy."""

from __future__ import annotations

import numpy as np

from textgen.errors import SavedModelError

LARGEST = 1e28  # of logits: beyond it settings such as a low temperature would take them out of float32
NOT_FINITE = (
    "The model's predictions are not finite numbers, so nothing can be drawn: its weights or its state are damaged, or "
    "it diverged when it was adapted. Lower the learning rate of the adaptation, or take the model from a backup."
)


def require_finite(logits: np.ndarray) -> None:
    """Raises `SavedModelError` where the highest of the logits [..., V] is not a number to go by."""
    if not (np.abs(np.max(logits, axis=-1)) <= LARGEST).all():
        raise SavedModelError(NOT_FINITE)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logits [..., V] -> log probabilities, nats. Raises `SavedModelError` for logits that are not finite."""
    require_finite(logits)
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True, dtype=np.float64))

"""Compares what an export wrote with the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from textgen.errors import SavedModelError
from textgen.wording import plain

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder

STEPS = 256  # tokens of the text that is read
TOLERANCE = 1e-4  # largest difference of a logit, in units of the largest logit if that is above 1

Logits = Callable[[np.ndarray], np.ndarray]


def check_logits(model: ModelFolder, logits: Logits, what: str) -> None:
    """Checks that another implementation computes the same logits as the model, on random tokens.

    Args:
        model: The model. Of a model of both directions the forward network counts.
        logits: The other implementation: token ids int32 [T] of one text, from the initial state -> logits [T, V].
        what: What was written, for the error message.

    Raises:
        SavedModelError: The logits have another shape, or differ by more than `TOLERANCE`.
    """
    ids = np.random.default_rng(0).integers(model.model_config.vocab_size, size=STEPS, dtype=np.int32)
    expected = model_logits(model, ids)
    found = np.asarray(logits(ids), np.float64)
    if found.shape != expected.shape:
        raise SavedModelError(
            f"{what} gives logits of shape {found.shape}, the model {expected.shape}. Nothing was written."
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):  # true for NaN, too
        raise SavedModelError(
            f"{what} differs from the model by up to {plain(difference, 2)} in a logit. Nothing was written."
        )


def model_logits(model: ModelFolder, ids: np.ndarray) -> np.ndarray:
    """Computes the logits of the model after each token of a text.

    Args:
        model: The model. Of a model of both directions the forward network counts.
        ids: Token ids int32 [T].

    Returns:
        The logits, float32 [T, V].
    """
    writer = model.numpy_model(model.main_direction)
    state = writer.initial_state(1)
    rows = []
    for token in ids:
        row, state = writer.step(np.array([token], np.int32), state)
        rows.append(row[0])
    return np.stack(rows)

"""Several networks of one vocabulary, as a model to generate with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from textgen.model.probabilities import UNLIKELY, log_sum_exp, require_finite
from textgen.model.protocols import StepModel


class EnsembleModel:
    """Generates with the mean of networks' probabilities, by the calls of `textgen.model.protocols.StepModel`.

    The state of a text is a tuple of the states of the networks. A network that is given twice counts twice.

    Attributes:
        exact: False: the mean is computed in float32.
    """

    exact = False

    def __init__(self, models: Sequence[StepModel]) -> None:
        """Makes a model of several.

        Args:
            models: The networks, at least one.
        """
        self._models = tuple(models)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """Returns the state of `batch_size` texts before their first token."""
        return tuple(model.initial_state(batch_size) for model in self._models)

    def read(self, inputs: np.ndarray, state: tuple[Any, ...]) -> tuple[Any, ...]:
        """Reads tokens int32 [B, T] after a state and returns the state after them."""
        return tuple(model.read(inputs, own) for model, own in zip(self._models, state, strict=True))

    def step(self, ids: np.ndarray, state: tuple[Any, ...]) -> tuple[np.ndarray, tuple[Any, ...]]:
        """Reads one token of each text.

        Args:
            ids: Token ids, int32 [B].
            state: The state before them.

        Returns:
            The logits of the next tokens, float32 [B, V], and the state after the tokens read. They are the log of the
            mean probabilities plus the log of the sum of the exponentials of the first network's logits, so that their
            signs, which decide how `repeat_penalty` changes them, mean what those of that network mean.

        Raises:
            SavedModelError: The logits of a network are not finite.
        """
        steps = [model.step(ids, own) for model, own in zip(self._models, state, strict=True)]
        return mean_logits([logits for logits, _ in steps]), tuple(own for _, own in steps)


@UNLIKELY
def mean_logits(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Computes logits of the mean of probabilities.

    Args:
        logits: The logits of each model, float32 [B, V].

    Returns:
        The log of the mean probabilities, plus `log_sum_exp` of the first model's logits, float32 [B, V]. If all models
        have the same logits, they are the result to the last bit.

    Raises:
        SavedModelError: The logits of a model are not finite.

    Example:
        >>> one, other = (np.log(np.array([[p, 1 - p]], np.float32)) for p in (0.5, 0.1))
        >>> np.exp(mean_logits([one, other])).round(3).tolist()
        [[0.30000001192092896, 0.699999988079071]]
    """
    for each in logits:
        require_finite(each)
    first, *others = map(log_sum_exp, logits)
    shifts = [np.zeros_like(first), *(first - other for other in others)]  # to one sum of exponentials
    shifted = np.stack([each + shift.astype(np.float32) for each, shift in zip(logits, shifts, strict=True)])
    highest = shifted.max(axis=0)  # [B, V]
    return np.asarray(highest + np.log(np.exp(shifted - highest).mean(axis=0)))

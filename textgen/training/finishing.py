"""Mixes the best weights of a fine-tuning run, at its end, with the weights that it started from.

Weights between the start and the fine-tuned ones often predict better than either (WiSE-FT, Wortsman et al. 2022,
arXiv:2109.01903):

    w = tuned + fraction * (start - tuned)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from textgen.model.language_model import LanguageModel

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)  # fractions of the start, tried in this order


def mixed(tuned: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray], fraction: float) -> dict[str, np.ndarray]:
    """The weights tuned + fraction * (start - tuned): weights that are the same in both stay as they are.

    Example:
        >>> mixed({"a": np.array([4.0])}, {"a": np.array([0.0])}, fraction=0.25)
        {'a': array([3.])}
    """
    return {name: array + fraction * (start[name] - array) for name, array in tuned.items()}


class Mix(NamedTuple):
    """A mix of fine-tuned weights with those that the run started from.

    Attributes:
        fraction: Fraction of the start; 0 for the fine-tuned weights alone.
        nats_per_token: Loss on held-out text.
    """

    fraction: float
    nats_per_token: float


def mix_with_start(model: LanguageModel, start: Mapping[str, np.ndarray], score: Callable[[], float]) -> Mix:
    """Gives a model the mix of fine-tuned weights and start that has the lowest loss.

    The fraction of the start rises until the loss does.

    Args:
        model: The model, with its fine-tuned weights.
        start: Weights by name that the run started from.
        score: Returns the loss of the model with the weights that it has, on held-out text, in nats per token.

    Returns:
        The mix.
    """
    tuned, best = model.weights_as_arrays(), Mix(0.0, score())
    for fraction in FRACTIONS:
        model.assign_weights(mixed(tuned, start, fraction))
        nats = score()
        if not nats < best.nats_per_token:  # a loss that is NaN is not
            break
        best = Mix(fraction, nats)
    model.assign_weights(mixed(tuned, start, best.fraction) if best.fraction else tuned)
    return best

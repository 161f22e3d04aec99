"""What may still improve the best weights when a fine-tuning run ends: a mix with the weights of the base model.

Weights between those of a base model and those that were fine-tuned from it often predict better than either (WiSE-FT,
Wortsman et al. 2022, arXiv:2109.01903):

    w = (1 - share) * tuned + share * base
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from textgen.model.language_model import LanguageModel

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the base model, tried in this order


def mixed(tuned: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """The weights (1 - share) * tuned + share * base.

    Example:
        >>> mixed({"a": np.array([4.0])}, {"a": np.array([0.0])}, share=0.25)
        {'a': array([3.])}
    """
    return {name: (1 - share) * array + share * base[name] for name, array in tuned.items()}


def mix_with_base(model: LanguageModel, base: Mapping[str, np.ndarray], score: Callable[[], float]) -> float:
    """Gives a model the mix of its weights with those of its base model that has the lowest loss.

    The share of the base rises until the loss does.

    Args:
        model: The model, with its fine-tuned weights.
        base: Weights of the base model by name.
        score: Returns the loss of the model with the weights that it has, on held-out text.

    Returns:
        The share of the base; 0 if the fine-tuned weights were the best.
    """
    tuned, best, chosen = model.weights_as_arrays(), score(), 0.0
    for share in SHARES:
        model.assign_weights(mixed(tuned, base, share))
        nats = score()
        if not nats < best:  # a loss that is NaN is not
            break
        best, chosen = nats, share
    model.assign_weights(mixed(tuned, base, chosen) if chosen else tuned)
    return chosen

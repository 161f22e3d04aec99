"""How far an exported network with rounded weights is from the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textgen.errors import SavedModelError
from textgen.model.prediction_change import (
    MAX_DIVERGENCE,
    MAX_PERPLEXITY_CHANGE,
    MIN_SAME_TOP,
    PredictionChange,
    compared_on_own_text,
)
from textgen.model.protocols import NextTokenModel
from textgen.wording import percent

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder


def check_quality(model: ModelFolder, other: NextTokenModel, what: str, instead: str) -> PredictionChange:
    """Checks that the predictions of a network are close to those of a model.

    Args:
        model: The model. Of a model of both directions the forward network counts.
        other: The network.
        what: What was written, for the error message.
        instead: The format to advise.

    Returns:
        The change of the predictions by its rounding.

    Raises:
        SavedModelError: They are too far apart; the message says how far.
    """
    network, tokenizer = model.numpy_model(model.main_direction), model.tokenizer
    change = compared_on_own_text(network, other, tokenizer.openings, tokenizer.never_written).change
    if not change.is_small:
        raise SavedModelError(
            f"{what} would lose too much by rounding: {change} (allowed are {percent(MAX_PERPLEXITY_CHANGE)}, "
            f"{MAX_DIVERGENCE} and at least {percent(MIN_SAME_TOP, 0)}). "
            f"Nothing was written: export the model as {instead}."
        )
    return change

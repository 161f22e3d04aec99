"""The loss of accuracy from exact arithmetic: how far its predictions are from those of the same model in float32.

Weights are rounded to int8 and what a matrix reads to some thousand levels (`textgen.model.exact_model`), so
predictions change a little. Three numbers tell how much, on a text that the model has not seen: the perplexity of both,
the Kullback-Leibler divergence D(p‖q), with the predictions p in float32 and q in exact arithmetic, and how often both
find the same token likeliest. Beyond `MAX_PERPLEXITY_CHANGE` or `MAX_DIVERGENCE` of `textgen.model.prediction_change`
a model is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from textgen.dataset.batches import Batches
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError
from textgen.evaluation.scoring import perplexity
from textgen.model.prediction_change import (
    MAX_DIVERGENCE,
    MAX_PERPLEXITY_CHANGE,
    PredictionChange,
    Predictions,
    compared,
)
from textgen.model.probabilities import log_softmax
from textgen.model.protocols import FeatureModel
from textgen.wording import percent

MAX_TOKENS = 1 << 15  # maximum number of tokens that are scored, spread over the text
ROWS = 32  # texts side by side, at most
ROW_TOKENS = 512  # tokens in a row, at least: the first tokens of a row lack their context
WINDOW = 8  # tokens whose predictions are in memory at once (T)


@dataclass(frozen=True)
class Exactness:
    """How exact predictions compare. `to_dict` has the names of `textgen evaluate --exact --json`.

    Attributes:
        perplexity_per_token: Of the model in float32.
        exact_perplexity_per_token: In exact arithmetic.
        change: The change of the predictions by exact arithmetic.
    """

    perplexity_per_token: float
    exact_perplexity_per_token: float
    change: PredictionChange

    def to_dict(self) -> dict[str, float]:
        """Returns the fields by name, with those of the change."""
        return {
            "perplexity_per_token": self.perplexity_per_token,
            "exact_perplexity_per_token": self.exact_perplexity_per_token,
            **self.change.to_dict(),
        }

    def check(self) -> None:
        """Raises `ConfigError` if the predictions change by more than is allowed."""
        change = self.change
        if change.perplexity_change <= MAX_PERPLEXITY_CHANGE and change.divergence_nats <= MAX_DIVERGENCE:
            return
        raise ConfigError(
            "Exact arithmetic changes this model too much: its perplexity by "
            f"{percent(change.perplexity_change, 2, sign=True)} (at most {percent(MAX_PERPLEXITY_CHANGE, sign=True)}), "
            f"its predictions by {change.divergence_nats:.4f} nats per token (at most {MAX_DIVERGENCE}). Write without "
            "exact arithmetic."
        )


def exactness(
    ordinary: FeatureModel, exact: FeatureModel, stream: TokenStream, pad_id: int, max_tokens: int = MAX_TOKENS
) -> Exactness:
    """Compares the predictions of two networks on a text.

    Args:
        ordinary: The network in float32, reading forward.
        exact: The same network in exact arithmetic.
        stream: The text.
        pad_id: Id of the padding.
        max_tokens: Tokens to score, at most about.

    Returns:
        The comparison.
    """
    found = compared(_predictions(ordinary, exact, stream, pad_id, max_tokens))
    return Exactness(perplexity(found.nats_per_token), perplexity(found.rounded_nats_per_token), found.change)


def _predictions(
    ordinary: FeatureModel, exact: FeatureModel, stream: TokenStream, pad_id: int, max_tokens: int
) -> Iterator[Predictions]:
    """Log probabilities of both [B, T, V], the targets [B, T], and which of these count, window by window."""
    rows = max(1, min(ROWS, len(stream) // ROW_TOKENS))
    batches = Batches(stream, rows, min(WINDOW, len(stream)), pad_id)
    states = [model.initial_state(rows) for model in (ordinary, exact)]
    for inputs, targets in islice(batches.epoch(0), max(1, max_tokens // (rows * WINDOW))):
        log_probs = []
        for number, model in enumerate((ordinary, exact)):
            features, states[number] = model.features(inputs, states[number])
            log_probs.append(log_softmax(model.logits(features).astype(np.float64)))
        yield log_probs[0], log_probs[1], targets, targets != pad_id

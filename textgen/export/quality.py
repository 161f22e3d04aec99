"""How far an exported network with rounded weights is from the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from textgen.errors import SavedModelError
from textgen.model.probabilities import LEAST_SAME_TOP, MOST_DIVERGENCE, MOST_PERPLEXITY, log_softmax

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder

ROWS, STEPS = 16, 64  # texts that the model writes to be measured on, and tokens of each
SEED = 20


class StepModel(Protocol):
    """A network that reads one token of each text at a time: `textgen.model.numpy_model.NumpyModel`."""

    def initial_state(self, batch_size: int) -> Any:
        """Returns the state of `batch_size` texts before their first token."""

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads ids int32 [B]. Returns the logits of the next tokens [B, V], and the state after `ids`."""


@dataclass(frozen=True)
class Quality:
    """How similar the predictions of two networks are.

    Attributes:
        divergence: Mean Kullback-Leibler divergence from the first to the second network, in nats per token.
        same_top: Share of tokens for which the likeliest one is the same.
    """

    divergence: float
    same_top: float

    @property
    def perplexity(self) -> float:
        """Rise of perplexity on text that the first network writes, as a share.

        The mean loss on such text rises by the divergence.
        """
        return math.expm1(self.divergence)

    @property
    def is_good(self) -> bool:
        """Whether the second network can stand for the first."""
        is_close = self.perplexity <= MOST_PERPLEXITY and self.divergence <= MOST_DIVERGENCE
        return is_close and self.same_top >= LEAST_SAME_TOP

    def __str__(self) -> str:
        return (
            f"perplexity +{self.perplexity:.2%}, mean KL divergence {self.divergence:.4f} nats, same likeliest token "
            f"{self.same_top:.1%}"
        )


def quality_of(model: ModelFolder, other: StepModel) -> Quality:
    """Compares the predictions of a network with those of a model on texts that the model writes.

    Args:
        model: The model. Of a model of both directions the forward network counts.
        other: The network.

    Returns:
        How similar they are.

    Raises:
        SavedModelError: Logits are not finite.
    """
    writer, random = model.writer(model.main_direction), np.random.default_rng(SEED)
    states = [writer.initial_state(ROWS), other.initial_state(ROWS)]
    *opening, last = (np.full(ROWS, id, np.int32) for id in model.tokenizer.opening())
    for ids in opening:
        states = [each.step(ids, state)[1] for each, state in zip((writer, other), states, strict=True)]
    ids, divergence, same = last, 0.0, 0
    for _ in range(STEPS):
        logits, states[0] = writer.step(ids, states[0])
        others, states[1] = other.step(ids, states[1])
        p, q = (_log_probabilities(each, model) for each in (logits, others))
        divergence += float((np.exp(p) * (p - q)).sum())
        same += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        ids = (p + random.gumbel(size=p.shape)).argmax(axis=1).astype(np.int32)
    return Quality(divergence / (ROWS * STEPS), same / (ROWS * STEPS))


def check_quality(model: ModelFolder, other: StepModel, what: str, instead: str) -> Quality:
    """Checks that the predictions of a network are close to those of a model.

    Args:
        model: The model.
        other: The network.
        what: What was written, for the error message.
        instead: The format to advise.

    Returns:
        How similar they are.

    Raises:
        SavedModelError: They are too far apart; the message says how far.
    """
    quality = quality_of(model, other)
    if not quality.is_good:
        raise SavedModelError(
            f"{what} would lose too much by rounding: {quality} (allowed are +{MOST_PERPLEXITY:.1%}, {MOST_DIVERGENCE} "
            f"and at least {LEAST_SAME_TOP:.0%}). Nothing was written: export the model as {instead}."
        )
    return quality


def _log_probabilities(logits: np.ndarray, model: ModelFolder) -> np.ndarray:
    logits = logits.astype(np.float64)
    logits[:, model.tokenizer.never_written] = -1e9
    return log_softmax(logits)

"""What a network of one direction offers to those who use it.

`textgen.model.numpy_model.NumpyModel` offers all of it. The state of a network is a nest of arrays whose first axis is
the text, [B, ...]; nothing changes it in place.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class StatefulModel(Protocol):
    """A network that reads texts, whose state is passed in and out."""

    def initial_state(self, batch_size: int) -> Any:
        """Returns the state of `batch_size` texts before their first token: a nest of arrays [B, ...]."""


class NextTokenModel(StatefulModel, Protocol):
    """A network that predicts the next token of each text, one step at a time."""

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads one token of each text.

        Args:
            ids: Token ids, int32 [B].
            state: The state before them, a nest of arrays [B, ...].

        Returns:
            The logits of the next tokens, float32 [B, V], and the state after the tokens read. If the network is exact,
            they are float64 and the same bits on every machine and in every batch.
        """


class StepModel(NextTokenModel, Protocol):
    """A network to generate with: `NumpyModel`, `CompiledModel`, `OnnxModel` or `ExactModel` of `textgen.model`.

    Attributes:
        exact: Whether it computes in exact arithmetic (`textgen.model.exact_model`), so that what is drawn from its
            logits is drawn in exact arithmetic, too.
    """

    exact: bool

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """Reads several tokens without computing logits.

        Args:
            inputs: Token ids, int32 [B, T].
            state: The state before them, a nest of arrays [B, ...].

        Returns:
            The state after them.
        """


class FeatureModel(StatefulModel, Protocol):
    """A network whose output layer is computed apart.

    Attributes:
        embedding_dim: Size of the token embedding, and of what the output layer reads (E).
    """

    embedding_dim: int

    def features(self, inputs: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads token ids int32 [B, T]. Returns the inputs of the output layer [B, T, E] and the state after them."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the logits of the next tokens [..., V] for features [..., E]."""


class ScoringModel(StatefulModel, Protocol):
    """A network that scores given tokens."""

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads tokens and scores the next ones.

        Args:
            inputs: Token ids, int32 [B, T].
            targets: The token after each, int32 [B, T].
            state: The state before the inputs, a nest of arrays [B, ...].

        Returns:
            The loss of each target, nats [B, T], and the state after the inputs.
        """

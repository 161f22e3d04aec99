"""A model that computes each text by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from textgen.generation.text_state import join, pick
from textgen.model.protocols import StepModel


class RowByRow:
    """A model that computes each text by itself, as if it were alone.

    The last digits of a matrix product depend on whether it has one row or more. With this model the numbers of a text
    are those of the text alone, to the last bit, whatever is beside it. It takes as long as one text after another.

    Attributes:
        exact: As of the model.
    """

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.exact = model.exact
        self.initial_state = model.initial_state

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """Reads several tokens of each text: see `StepModel`."""
        rows = range(len(inputs))
        return join([self._model.read(inputs[row : row + 1], pick(state, [row])) for row in rows]) if rows else state

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads one token of each text: see `StepModel`."""
        done = [self._model.step(ids[row : row + 1], pick(state, [row])) for row in range(len(ids))]
        return np.concatenate([logits for logits, _ in done]), join([after for _, after in done])

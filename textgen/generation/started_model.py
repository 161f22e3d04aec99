"""A model whose texts begin in a given state."""

from __future__ import annotations

from typing import Any

from textgen.generation.text_state import pick
from textgen.model.protocols import StepModel


class StartedModel:
    """A model whose texts begin in a given state, such as one of `textgen.training.state_tuning`.

    Attributes:
        exact: As of the model.
    """

    def __init__(self, model: StepModel, model_state: Any) -> None:
        self._model_state = model_state
        self.read, self.step = model.read, model.step
        self.exact = model.exact

    def initial_state(self, batch_size: int) -> Any:
        """Returns the given state for each of `batch_size` texts."""
        return pick(self._model_state, [0] * batch_size)

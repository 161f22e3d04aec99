"""The steps that networks in NumPy share, whatever their arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from textgen.model.config import ModelConfig
from textgen.model.reference.attention import attention_state
from textgen.model.reference.cells import CellState, cell_of

State = tuple[CellState, ...]  # of each layer, (h,) or (h, c), [B, H]; then that of attention, if any
Step = Callable[[np.ndarray, CellState], CellState]  # x [B, in], state of a layer -> its new state
Norm = Callable[[np.ndarray], np.ndarray]  # x [B, in] -> normalized, [B, in]
# Sampling checks that logits are finite, and a very small number may become 0, whatever a program has set for its own.
QUIET = np.errstate(over="ignore", under="ignore", invalid="ignore")


def zero_state(config: ModelConfig, batch_size: int) -> State:
    """The state of a network before the first token: zeros, float32 [B, H] for each layer."""
    shape = (batch_size, config.hidden_units)
    arrays = range(cell_of(config).state_size)
    state: State = tuple(tuple(np.zeros(shape, np.float32) for _ in arrays) for _ in range(config.num_layers))
    if config.attention:
        state += (attention_state(batch_size, config.attention, shape[1], np.dtype(np.float32)),)
    return state


class SteppedNetwork(ABC):
    """A network that computes one token of each text at a time.

    It reads several tokens one after another, unless a subclass overrides that.

    Args:
        layers: The step of each layer.
        norms: The layer normalization before each layer; None for a layer without.
        residual: Whether a layer's input is added to its output, where both have the same size.
    """

    def __init__(self, layers: Sequence[Step], norms: Sequence[Norm | None], residual: bool) -> None:
        self._layers = layers
        self._norms = norms
        self._residual = residual

    def read(self, inputs: np.ndarray, state: State) -> State:
        """Reads token ids.

        Args:
            inputs: Token ids int32 [B, T].
            state: State before them.

        Returns:
            The state after them.
        """
        for ids in inputs.T:
            _, state = self._features(ids, state)
        return state

    def step(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Reads one token of each text.

        Args:
            ids: Token ids int32 [B].
            state: State before them.

        Returns:
            The logits of the next tokens [B, V], and the state after `ids`.
        """
        features, state = self._features(ids, state)
        return self.logits(features), state  # [B, V]

    def features(self, inputs: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Reads token ids.

        Args:
            inputs: Token ids int32 [B, T].
            state: State before them.

        Returns:
            The inputs of the output layer [B, T, E], and the state after `inputs`.
        """
        steps = []
        for ids in inputs.T:
            features, state = self._features(ids, state)
            steps.append(features)
        return np.stack(steps, axis=1), state  # [B, T, E]

    @abstractmethod
    def logits(self, features: np.ndarray) -> np.ndarray:
        """The logits of the next tokens [..., V] from features [..., E]."""

    @abstractmethod
    def _features(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """ids int32 [B] -> input of the output layer [B, E], state after them."""

    def _through_layers(self, x: np.ndarray, state: State) -> tuple[np.ndarray, list[CellState]]:
        """x [B, E] -> output of the last recurrent layer [B, H], state of each layer after it."""
        states = []
        # The state of attention, if there is any, comes last and is left out.
        for step, norm, before in zip(self._layers, self._norms, state, strict=False):
            below = x
            if norm:
                x = norm(x)
            after = step(x, before)
            x = after[0]  # [B, H]
            if self._residual and x.shape == below.shape:
                x = x + below
            states.append(after)
        return x, states

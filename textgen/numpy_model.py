"""The network for writing, in NumPy: ready in a fraction of a second, where TensorFlow takes seconds to load.

The mathematics of `textgen.reference`, arranged for speed: what stands before a step, x and h, is one row, and
the weights that it meets are kept one row for each number of the result, so that the product for a single text
reads memory from front to back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textgen.config import ModelConfig

State = tuple[tuple[np.ndarray, np.ndarray], ...]  # a layer each: hidden state h and cell state c, [B, H] float32


class NumpyModel:
    """Writes with given weights. The same calls as `textgen.compiled_model.CompiledModel`, the same results."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
        self._config = config
        self._table = weights["embedding/table"]  # [V, E]
        self._layers = [_joined(weights, f"lstm_{layer}") for layer in range(config.num_layers)]
        narrows = config.hidden_units != config.embedding_dim
        self._projection = (weights["projection/kernel"], weights["projection/bias"]) if narrows else None
        head = weights.get("head/kernel")
        self._head = self._table if head is None else np.ascontiguousarray(head.T)  # [V, E]
        self._head_bias = weights["head/bias"]

    def initial_state(self, batch_size: int) -> State:
        """The state of texts that have read nothing."""
        shape = (batch_size, self._config.hidden_units)
        return tuple((np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in self._layers)

    def read(self, inputs: np.ndarray, state: State) -> State:
        """inputs int32 [B, T], state before them -> state after them."""
        for ids in inputs.T:
            _, state = self._features(ids, state)
        return state

    def step(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """One step: ids int32 [B], state before them -> logits [B, V] of the next pieces, state after them."""
        features, state = self._features(ids, state)
        return features @ self._head.T + self._head_bias, state  # [B, V]

    def _features(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """ids int32 [B] -> what the output layer reads, [B, E], and the state after them."""
        x = self._table[ids]  # [B, E]
        new_state = []
        for (weights, bias), (h, c) in zip(self._layers, state, strict=True):
            z = np.concatenate([x, h], axis=1) @ weights.T + bias  # [B, 4H]
            i, f, g, o = np.split(z, 4, axis=1)  # [B, H] each
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            x = _sigmoid(o) * np.tanh(c)
            new_state.append((x, c))
        if self._projection:
            kernel, bias = self._projection
            x = x @ kernel + bias  # [B, E]
        return x, tuple(new_state)


def _joined(weights: Mapping[str, np.ndarray], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a layer for x and h together, [4H, E+H], and its bias [4H]."""
    both = np.concatenate([weights[f"{layer}/kernel"], weights[f"{layer}/recurrent_kernel"]])
    return np.ascontiguousarray(both.T), weights[f"{layer}/bias"]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5  # never overflows

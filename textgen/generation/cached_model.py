"""A network that writes with a neural cache."""

from __future__ import annotations

import numpy as np

from textgen.evaluation.config import CacheConfig
from textgen.evaluation.neural_cache import Network, NeuralCache, State


class CachedModel:
    """Writes with a network and a cache, through the same calls as `textgen.model.numpy_model.NumpyModel`.

    What the cache remembers of a text is part of the text's state, so each of a batch has its own.
    """

    def __init__(self, model: Network, config: CacheConfig) -> None:
        self._model = model
        self._cache = NeuralCache(config)

    def initial_state(self, batch_size: int) -> State:
        """The state of texts that have read nothing."""
        return self._model.initial_state(batch_size), self._cache.initial_memory(batch_size, self._model.embedding_dim)

    def read(self, inputs: np.ndarray, state: State) -> State:
        """inputs int32 [B, T], state before them -> state after them."""
        features, of_network = self._model.features(inputs, state[0])
        return of_network, self._cache.remember(state[1], inputs, features)

    def step(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """One step: ids int32 [B], state before them -> log probabilities [B, V] of the next pieces, state after."""
        features, of_network = self._model.features(ids[:, None], state[0])  # [B, 1, E]
        log_probs = self._cache.log_probs(state[1], ids, features[:, 0], self._model.logits(features[:, 0]))
        return log_probs, (of_network, self._cache.remember(state[1], ids[:, None], features))

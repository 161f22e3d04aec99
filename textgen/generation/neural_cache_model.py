"""A network with a neural cache, as a model to generate with."""

from __future__ import annotations

import numpy as np

from textgen.evaluation.config import NeuralCacheConfig
from textgen.evaluation.neural_cache import NeuralCache, State
from textgen.model.probabilities import log_sum_exp
from textgen.model.protocols import FeatureModel


class NeuralCacheModel:
    """Generates with a network and a neural cache, by the calls of `textgen.model.protocols.StepModel`.

    The contents of the cache are part of a text's state, so each text of a batch has its own.

    Attributes:
        exact: False: the cache computes in float32.
    """

    exact = False

    def __init__(self, model: FeatureModel, config: NeuralCacheConfig) -> None:
        self._model = model
        self._neural_cache = NeuralCache(config)

    def initial_state(self, batch_size: int) -> State:
        """Returns the state of `batch_size` texts before their first token."""
        contents = self._neural_cache.initial_memory(batch_size, self._model.embedding_dim)
        return self._model.initial_state(batch_size), contents

    def read(self, inputs: np.ndarray, state: State) -> State:
        """Reads tokens int32 [B, T] after a state and returns the state after them."""
        features, of_network = self._model.features(inputs, state[0])
        return of_network, self._neural_cache.remember(state[1], inputs, features)

    def step(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Reads one token of each text.

        Args:
            ids: Token ids, int32 [B].
            state: The state before them.

        Returns:
            The logits of the next tokens, float32 [B, V], and the state after the tokens read. They are the mixed log
            probabilities plus the log of the sum of the exponentials of the network's logits, so that their signs,
            which decide how `repeat_penalty` changes them, mean what those of the network mean.
        """
        features, of_network = self._model.features(ids[:, None], state[0])  # [B, 1, E]
        logits = self._model.logits(features[:, 0])
        log_probs = self._neural_cache.log_probs(state[1], ids, features[:, 0], logits)
        state = of_network, self._neural_cache.remember(state[1], ids[:, None], features)
        return (log_probs + log_sum_exp(logits)).astype(np.float32), state

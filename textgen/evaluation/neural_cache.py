"""The neural cache: tokens that came recently after a similar state of the network become likelier.

Grave, Joulin & Usunier 2017, arXiv:1612.04426. h_t is the input of the output layer after the token x_t (in the paper
the last hidden layer). The last N pairs (h_i, x_{i+1}), where N is `neural_cache_window`, form a second model:

    p_cache(w) = sum of exp(theta * h_t . h_i) over i from t-N to t-1 where x_{i+1} = w, divided by that over all i
    p(w)       = (1 - lambda) * p_network(w) + lambda * p_cache(w)

Before the second token there is no pair, and p = p_network. Nothing is learned, and at most N pairs are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from textgen.evaluation.config import NeuralCacheConfig
from textgen.model.probabilities import UNLIKELY, log_sum_exp

Memory = tuple[np.ndarray, np.ndarray]  # h after each of the last N tokens [B, N, E]; the tokens [B, N], -1 for none
State = tuple[Any, Memory]  # of the network and of the cache


class NeuralCache:
    """The computations of the cache. Its memory of B texts is passed in and out, and never changed in place."""

    def __init__(self, config: NeuralCacheConfig) -> None:
        self._config = config

    def initial_memory(self, batch_size: int, width: int) -> Memory:
        """Returns the memory of texts before their first token.

        Args:
            batch_size: Number of texts, B.
            width: Size of the output layer's input, E.
        """
        size = self._config.neural_cache_window
        return np.zeros((batch_size, size, width), np.float32), np.full((batch_size, size), -1, np.int32)

    def remember(self, memory: Memory, inputs: np.ndarray, features: np.ndarray) -> Memory:
        """Returns the memory after more tokens.

        Args:
            memory: The memory before them.
            inputs: Token ids, int32 [B, T].
            features: The inputs of the output layer after each, [B, T, E].
        """
        keys, ids = (
            np.concatenate([before, more], axis=1) for before, more in zip(memory, (features, inputs), strict=True)
        )
        size = self._config.neural_cache_window
        return keys[:, -size:], ids[:, -size:]

    def token_losses(
        self, memory: Memory, inputs: np.ndarray, features: np.ndarray, targets: np.ndarray, nats: np.ndarray
    ) -> np.ndarray:
        """Mixes the cache into the losses of a network.

        Args:
            memory: The memory before the inputs.
            inputs: Token ids, int32 [B, T].
            features: The inputs of the output layer after each, [B, T, E].
            targets: The token after each, int32 [B, T].
            nats: The loss of each target under the network alone, [B, T].

        Returns:
            The loss of each target under both, nats [B, T].
        """
        weights, followers = self._attend(memory, inputs, features)
        p_cache = np.where(followers[:, None] == targets[:, :, None], weights, 0.0).sum(axis=-1)  # [B, T]
        return -self._mix(-nats.astype(np.float64), p_cache, weights)

    def log_probs(self, memory: Memory, ids: np.ndarray, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Mixes the cache into the logits of a network.

        Args:
            memory: The memory before the ids.
            ids: The newest tokens, int32 [B].
            features: The inputs of the output layer after them, [B, E].
            logits: The logits of the next tokens, [B, V].

        Returns:
            Log probabilities under both, nats [B, V].
        """
        weights, followers = self._attend(memory, ids[:, None], features[:, None])
        p_cache = np.zeros(logits.shape)
        np.add.at(p_cache, (np.arange(len(ids))[:, None], followers), weights[:, 0])  # no pair: nothing added to V - 1
        log_p = logits - logits.max(axis=-1, keepdims=True).astype(np.float64)
        log_p -= log_sum_exp(log_p)
        return self._mix(log_p, p_cache, weights).astype(np.float32)

    @UNLIKELY
    def _attend(self, memory: Memory, inputs: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weight of each pair after each of T tokens, [B, T, N + T - 1], and the token of each pair.

        The weights of a step sum to 1, or are all 0 if there is no pair.
        """
        size, steps = self._config.neural_cache_window, inputs.shape[1]
        keys = np.concatenate([memory[0], features[:, :-1]], axis=1)  # [B, N + T - 1, E], h_i
        ids = np.concatenate([memory[1], inputs], axis=1)  # [B, N + T]
        age = np.arange(size, size + steps)[:, None] - np.arange(size + steps - 1)  # [T, N + T - 1], t - i
        counts = (age > 0) & (age <= size) & (ids[:, None, :-1] >= 0)
        scores = np.where(counts, self._config.neural_cache_theta * features @ keys.transpose(0, 2, 1), -np.inf)
        highest = np.maximum(scores.max(axis=-1, keepdims=True), np.finfo(np.float32).min)
        weights = np.exp(scores - highest)
        return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1.0), ids[:, 1:]

    def _mix(self, log_p: np.ndarray, p_cache: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mixes log probabilities of the network with probabilities of the cache; returns log probabilities in nats."""
        fraction = self._config.neural_cache_lambda * weights.any(axis=-1)  # [B, T]
        fraction = fraction.reshape(log_p.shape[0], -1)  # beside [B, T] or [B, V], where T = 1
        with np.errstate(divide="ignore", under="ignore"):  # the logarithm of 0 is what it should be
            return np.logaddexp(np.log1p(-fraction) + log_p, np.log(fraction * p_cache))

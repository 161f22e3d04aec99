"""The neural cache: what came lately where the network was in a like state becomes likelier.

Grave, Joulin & Usunier 2017, arXiv:1612.04426. h_t is what the output layer reads after the piece x_t (in the paper
the last hidden layer). The last N pairs (h_i, x_{i+1}), N the `cache_window`, are a second model:

    p_cache(w) = sum of exp(theta * h_t . h_i) over i from t-N to t-1 where x_{i+1} = w, divided by that over all i
    p(w)       = (1 - lambda) * p_network(w) + lambda * p_cache(w)

Before the second piece there is no pair, and p = p_network. Nothing is learned, and no more than N pairs are kept.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from textgen.evaluation.config import CacheConfig

Memory = tuple[np.ndarray, np.ndarray]  # h after each of the last N pieces [B, N, E]; those pieces [B, N], -1 for none
State = tuple[Any, Memory]  # of the network and of the cache


class Network(Protocol):
    """A model that a cache can go with: `textgen.model.numpy_model.NumpyModel`."""

    embedding_dim: int

    def initial_state(self, batch_size: int) -> Any:
        """The state of texts that have read nothing."""

    def features(self, inputs: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """inputs int32 [B, T], state before them -> what the output layer reads, [B, T, E], state after them."""

    def logits(self, features: np.ndarray) -> np.ndarray:
        """features [..., E] -> logits [..., V] of the next pieces."""


class NeuralCache:
    """The mathematics of the cache; what it remembers of B texts goes in and out, and is never changed in place."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config

    def initial_memory(self, batch_size: int, width: int) -> Memory:
        """That of B texts that have read nothing; `width` is E."""
        size = self._config.cache_window
        return np.zeros((batch_size, size, width), np.float32), np.full((batch_size, size), -1, np.int32)

    def remember(self, memory: Memory, inputs: np.ndarray, features: np.ndarray) -> Memory:
        """Memory after pieces `inputs` int32 [B, T], after which the output layer read `features` [B, T, E]."""
        keys, ids = (
            np.concatenate([before, more], axis=1) for before, more in zip(memory, (features, inputs), strict=True)
        )
        size = self._config.cache_window
        return keys[:, -size:], ids[:, -size:]

    def token_losses(
        self, memory: Memory, inputs: np.ndarray, features: np.ndarray, targets: np.ndarray, nats: np.ndarray
    ) -> np.ndarray:
        """nats [B, T] of each target by the network alone -> by both; `memory` is that before the inputs [B, T]."""
        weights, followers = self._attend(memory, inputs, features)
        p_cache = np.where(followers[:, None] == targets[:, :, None], weights, 0.0).sum(axis=-1)  # [B, T]
        return -self._mix(-nats.astype(np.float64), p_cache, weights)

    def log_probs(self, memory: Memory, ids: np.ndarray, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """logits [B, V] of the network -> log probabilities of both, nats [B, V].

        `memory` is that before the ids [B], after which the output layer read `features` [B, E].
        """
        weights, followers = self._attend(memory, ids[:, None], features[:, None])
        p_cache = np.zeros(logits.shape)
        np.add.at(p_cache, (np.arange(len(ids))[:, None], followers), weights[:, 0])  # no pair: nothing added to V - 1
        log_p = logits - logits.max(axis=-1, keepdims=True).astype(np.float64)
        log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
        return self._mix(log_p, p_cache, weights).astype(np.float32)

    def _attend(self, memory: Memory, inputs: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much each pair counts after each of T pieces, [B, T, N + T - 1], and the piece of each pair.

        The weights of a step sum to 1, or are all 0 where there is no pair.
        """
        size, steps = self._config.cache_window, inputs.shape[1]
        keys = np.concatenate([memory[0], features[:, :-1]], axis=1)  # [B, N + T - 1, E], h_i
        ids = np.concatenate([memory[1], inputs], axis=1)  # [B, N + T]
        age = np.arange(size, size + steps)[:, None] - np.arange(size + steps - 1)  # [T, N + T - 1], t - i
        counts = (age > 0) & (age <= size) & (ids[:, None, :-1] >= 0)
        scores = np.where(counts, self._config.cache_theta * features @ keys.transpose(0, 2, 1), -np.inf)
        highest = np.maximum(scores.max(axis=-1, keepdims=True), np.finfo(np.float32).min)
        weights = np.exp(scores - highest)
        return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1.0), ids[:, 1:]

    def _mix(self, log_p: np.ndarray, p_cache: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Log probabilities of the network and probabilities of the cache -> log probabilities, nats."""
        share = self._config.cache_lambda * weights.any(axis=-1)  # [B, T]
        share = share.reshape(log_p.shape[0], -1)  # beside [B, T] or [B, V], where T = 1
        with np.errstate(divide="ignore"):  # the logarithm of 0 is what it should be
            return np.logaddexp(np.log1p(-share) + log_p, np.log(share * p_cache))

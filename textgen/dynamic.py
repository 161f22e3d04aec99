"""Dynamic evaluation: a model that learns from each window of a text, once it has said how likely that was.

Krause, Kahembwe, Murray & Renals 2018, arXiv:1709.07432, with plain gradient descent. After each window

    w += -learning_rate * g + decay * (trained - w)

where g is the gradient of the window's mean loss in nats, shortened to `dynamic_clip_norm` if it is longer. The decay
lets go of what was learned long ago. The trained weights are kept, and `restore` puts them back bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from textgen.batches import Batches
from textgen.config import DynamicConfig
from textgen.model import LanguageModel
from textgen.tokens import TokenStream


class Learner:
    """Changes the weights of a model by what it reads, until they are restored."""

    def __init__(self, model: LanguageModel, config: DynamicConfig) -> None:
        self._model = model
        self._config = config
        self._weights = list(model.named_weights().values())
        self._trained = [tf.constant(weight.numpy()) for weight in self._weights]
        self._compiled = tf.function(self._read)

    def read(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """A window: inputs, targets int32 [B, T], state before them -> nats [B, T], features [B, T, E], state after.

        All of these are by the weights before the window; then they change.
        """
        return self._compiled(inputs, targets, state)

    def learn(self, stream: TokenStream) -> None:
        """Reads a stream from its beginning to its end."""
        window, direction = min(self._config.dynamic_window, len(stream)), self._model.config.direction
        batches = Batches(stream, 1, window, self._model.pad_id, direction=direction)
        state = self._model.initial_state(1)
        for inputs, targets in batches.epoch(0):
            _, _, state = self.read(inputs, targets, state)

    def restore(self) -> None:
        """Puts the trained weights back."""
        for weight, trained in zip(self._weights, self._trained, strict=True):
            weight.assign(trained)

    def _read(self, inputs: tf.Tensor, targets: tf.Tensor, state: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        values = [weight.value for weight in self._weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            features, state = self._model.features(inputs, state)
            nats = self._model.token_losses(features, targets)
            count = tf.math.count_nonzero(targets != self._model.pad_id, dtype=tf.float32)
            loss = tf.reduce_sum(nats) / tf.maximum(count, 1.0)
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, values)]
        gradients, _ = tf.clip_by_global_norm(gradients, self._config.dynamic_clip_norm)
        for value, trained, gradient in zip(values, self._trained, gradients, strict=True):
            back = self._config.dynamic_decay * (trained - value)
            value.assign_add(back - self._config.dynamic_learning_rate * gradient)
        return nats, features, state

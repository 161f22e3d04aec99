"""Dynamic evaluation: a model that learns from each window of a text after predicting it.

Krause, Kahembwe, Murray & Renals 2018, arXiv:1709.07432, with plain gradient descent. After each window

    w += -learning_rate * g + decay * (trained - w)

where g is the gradient of the window's mean loss in nats, clipped to the norm `dynamic_clip_norm`. The decay forgets
what was learned long ago. The trained weights are kept, and `restore` puts them back bit for bit.

With `dynamic_rms` each weight has a step size of its own, larger where its gradients are small, and decays faster the
larger they are:

    r = root of the mean of g^2 over all windows so far     s = r / (root of the mean of r^2 over all weights)
    w += -learning_rate * g / (s + 0.01) + min(1, decay * s) * (trained - w)

This is after section 5 of the paper, which divides the gradient by r itself and scales the decay by r / mean(r); here
both use s, so that one learning rate suits every model. The paper takes the mean of g^2 over the training text, which
may not be available with a saved model; here it is taken over the text read so far, so the first steps are imprecise.
s^2 is 1 on average, so steps are about as long as without it, but longer ones pay: the best learning rate is 0.1 to 0.2
without it, and 0.4 with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from textgen.dataset.batches import Batches
from textgen.dataset.token_stream import TokenStream
from textgen.evaluation.config import DynamicConfig
from textgen.model.language_model import LanguageModel
from textgen.system.runtime import compiled

EPSILON = 0.01  # added to s, so that weights with small gradients do not take huge steps


class Learner:
    """Changes the weights of a model by the text it reads, until they are restored."""

    def __init__(self, model: LanguageModel, config: DynamicConfig) -> None:
        self._model = model
        self._config = config
        self._weights = list(model.named_weights().values())
        self._trained = [tf.constant(weight.numpy()) for weight in self._weights]
        rms = config.dynamic_rms
        self._squares = [tf.Variable(tf.zeros_like(trained), trainable=False) for trained in self._trained if rms]
        self._windows = tf.Variable(0.0, trainable=False)  # over which the squares are summed
        self._compiled = compiled(self._read)

    def read(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Reads a window and then learns from it.

        Args:
            inputs: Token ids, int32 [B, T].
            targets: The token after each, int32 [B, T].
            state: The state before the inputs.

        Returns:
            The loss of each target in nats [B, T], the inputs of the output layer [B, T, E], and the state after; all
            computed with the weights before the window.
        """
        return self._compiled(inputs, targets, state)

    def learn(self, stream: TokenStream) -> None:
        """Reads a stream from beginning to end."""
        window, direction = min(self._config.dynamic_window, len(stream)), self._model.config.direction
        batches = Batches(stream, 1, window, self._model.pad_id, direction=direction)
        state = self._model.initial_state(1)
        for inputs, targets in batches.epoch(0):
            _, _, state = self.read(inputs, targets, state)

    def restore(self) -> None:
        """Puts the trained weights back."""
        for weight, trained in zip(self._weights, self._trained, strict=True):
            weight.assign(trained)
        for seen in (*self._squares, self._windows):
            seen.assign(tf.zeros_like(seen))

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
        rate, decay = self._config.dynamic_learning_rate, self._config.dynamic_decay
        scales = self._scales(gradients)
        for value, trained, gradient, scale in zip(values, self._trained, gradients, scales, strict=True):
            step = gradient if scale is None else gradient / (scale + EPSILON)
            back = decay if scale is None else tf.minimum(1.0, decay * scale)
            value.assign_add(back * (trained - value) - rate * step)
        return nats, features, state

    def _scales(self, gradients: list[tf.Tensor]) -> list[tf.Tensor | None]:
        """s of each weight after these gradients; None if all weights have the same step size."""
        if not self._squares:
            return [None] * len(gradients)
        windows = self._windows.assign_add(1.0)
        pairs = zip(self._squares, gradients, strict=True)
        means = [squares.assign_add(tf.square(gradient)) / windows for squares, gradient in pairs]
        size = sum(mean.shape.num_elements() for mean in means)
        whole = tf.add_n([tf.reduce_sum(mean) for mean in means]) / size
        return [tf.sqrt(mean / tf.maximum(whole, 1e-30)) for mean in means]

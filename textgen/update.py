"""One update of the weights: loss, gradient, clipping, AdamW."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from textgen.config import TrainingConfig
from textgen.layers.dropout import Noise
from textgen.model import LanguageModel
from textgen.runtime import join_states, shard_rows


class Update:
    """Takes a batch and the state before it, changes the weights, gives back the state after it.

    Each core takes a shard of the rows: two halves of a batch on two cores are quicker than both cores inside
    each of many small operations. The result is that of the whole batch.
    """

    def __init__(self, model: LanguageModel, config: TrainingConfig) -> None:
        self.optimizer = make_optimizer(config, model)
        self._model = model
        self._config = config
        self._strategy = tf.distribute.get_strategy()
        self._compiled = tf.function(self._distributed)
        self._compiled_apply = tf.function(self._apply, jit_compile=not tf.config.list_physical_devices("GPU"))

    def __call__(
        self, inputs: tf.Tensor, targets: tf.Tensor, state: Any, learning_rate: float, step: int
    ) -> tuple[float, np.ndarray, Any]:
        """inputs, targets [B, T] -> mean nats a token, gradient norm of each weight, state after the window.

        Where loss or gradient are not finite the weights stay as they are.
        """
        seed = np.array([self._config.seed & 0x7FFFFFFF, step], np.int32)
        rate = tf.constant(learning_rate, tf.float32)
        nats, norms, state = self._compiled(inputs, targets, state, rate, seed)
        return float(nats), norms.numpy(), state

    def _distributed(self, *arguments: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        return self._strategy.run(self._replica, args=arguments)

    def _replica(
        self, inputs: tf.Tensor, targets: tf.Tensor, state: Any, learning_rate: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        count = tf.cast(tf.math.count_nonzero(targets != self._model.pad_id), tf.float32)
        batch_size = inputs.shape[0]
        losses, gradients, states = [], [], []
        for rows in shard_rows(batch_size):
            shard_state = tf.nest.map_structure(lambda array, rows=rows: array[rows], state)
            noise = Noise(seed, rows.start, batch_size)
            loss, gradient, shard_state = self._gradient(inputs[rows], targets[rows], shard_state, noise)
            losses.append(loss)
            gradients.append(gradient)
            states.append(shard_state)
        total = [tf.add_n(parts) / count for parts in zip(*gradients, strict=True)]
        loss, norms = tf.add_n(losses) / count, tf.stack([tf.norm(gradient) for gradient in total])
        norm = tf.norm(norms)

        def apply() -> tf.Tensor:
            scale = tf.minimum(1.0, self._config.clip_norm / (norm + 1e-12))
            self._compiled_apply(total, scale, learning_rate)
            return norm

        tf.cond(tf.math.is_finite(loss) & tf.math.is_finite(norm), apply, lambda: norm)
        return loss, norms, join_states(states)

    def _gradient(
        self, inputs: tf.Tensor, targets: tf.Tensor, state: Any, noise: Noise
    ) -> tuple[tf.Tensor, list[tf.Tensor], Any]:
        """Sum of nats, its gradient, state."""
        variables = [weight.value for weight in self._model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            features, state = self._model.features(inputs, state, noise)
            loss = self._model.summed_loss(features, targets)
        return loss, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)], state

    def _apply(self, gradients: list[tf.Tensor], scale: tf.Tensor, learning_rate: tf.Tensor) -> None:
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply([gradient * scale for gradient in gradients], self._model.trainable_variables)


def make_optimizer(config: TrainingConfig, model: LanguageModel) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); biases do not decay."""
    optimizer = keras.optimizers.AdamW(learning_rate=0.0, weight_decay=config.weight_decay, beta_2=0.99, epsilon=1e-8)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    model.optimizer = optimizer  # where Keras callbacks look for it
    return optimizer

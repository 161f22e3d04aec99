"""How a gradient becomes a step of the weights."""

from __future__ import annotations

import keras

from textgen.config import TrainingConfig
from textgen.model import LanguageModel


def make_optimizer(config: TrainingConfig, model: LanguageModel) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); biases do not decay."""
    optimizer = keras.optimizers.AdamW(learning_rate=0.0, weight_decay=config.weight_decay, beta_2=0.99, epsilon=1e-8)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    optimizer._all_reduce_sum_gradients = list  # the gradients that it gets are sums over all replicas
    model.optimizer = optimizer  # where Keras callbacks look for it
    return optimizer

"""Optimizers: how a gradient changes the weights.

With g the gradient of a weight w, and lr the learning rate:

    sgd       w -= lr * g; with momentum: v = momentum * v - lr * g, w += v
    asgd      sgd, later with an average of the weights (see `textgen.training.weight_averaging`)
    rmsprop   g divided by a running root mean square of g, element by element (Hinton 2012, lecture 6e)
    adam      a running mean of g, divided likewise (Kingma & Ba 2015, arXiv:1412.6980)
    adamw     adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)
    lamb      Adam's step, scaled to the norm of each weight (You et al. 2020, arXiv:1904.00962)

Weight decay acts on matrices, not on biases and norms. For adamw and lamb it is decoupled: w -= lr * weight_decay * w,
beside the step. For the others it is part of the gradient: g += weight_decay * w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from textgen.model.language_model import LanguageModel
from textgen.training.config import DECOUPLED, TrainingConfig


def make_optimizer(config: TrainingConfig, model: LanguageModel) -> keras.optimizers.Optimizer:
    """Makes the Keras optimizer that the settings name, built for the trained weights of a model."""
    optimizer, weights = _keras_optimizer(config), trained_weights(config, model)
    if config.optimizer in DECOUPLED:
        optimizer.exclude_from_weight_decay(var_list=[weight for weight in weights if not decays(weight)])
    optimizer.build(weights)
    optimizer._all_reduce_sum_gradients = list  # it gets gradients that are summed over all replicas already
    model.optimizer = optimizer  # where Keras callbacks look for it
    return optimizer


def trained_weights(config: TrainingConfig, model: LanguageModel) -> list[keras.Variable]:
    """The weights of the layers that are not in `freeze_layers`."""
    return [weight for name, weight in model.named_weights().items() if name.split("/")[0] not in config.freeze_layers]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    config: TrainingConfig,
    gradients: Sequence[tf.Tensor],
    weights: Sequence[keras.Variable],
    learning_rate: tf.Tensor,
) -> None:
    """One update of the weights, weight decay included.

    Args:
        optimizer: Optimizer from `make_optimizer`.
        config: Settings of training.
        gradients: Clipped gradients, one for each weight.
        weights: Weights from `trained_weights`.
        learning_rate: Learning rate of this update.
    """
    if config.optimizer not in DECOUPLED and config.weight_decay:
        pairs = zip(gradients, weights, strict=True)
        gradients = [g + config.weight_decay * tf.convert_to_tensor(w) if decays(w) else g for g, w in pairs]
    optimizer.learning_rate.assign(learning_rate)
    optimizer.apply(gradients, weights)


def decays(weight: Any) -> bool:
    """Whether weight decay acts on a weight: on matrices, not on biases, norms and peepholes of whatever shape."""
    return len(weight.shape) > 1 and weight.name not in ("bias", "peepholes")


def _keras_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """The optimizer without weights; its learning rate is set at each step."""
    adaptive = {"beta_1": config.beta_1, "beta_2": config.beta_2, "epsilon": config.epsilon}
    decoupled = {"weight_decay": config.weight_decay}
    match config.optimizer:
        case "sgd" | "asgd":
            return keras.optimizers.SGD(0.0, config.momentum)
        case "rmsprop":
            return keras.optimizers.RMSprop(0.0, config.beta_2, config.momentum, config.epsilon)
        case "adam":
            return keras.optimizers.Adam(0.0, **adaptive)
        case "lamb":
            return keras.optimizers.Lamb(0.0, **adaptive, **decoupled)
        case _:
            return keras.optimizers.AdamW(0.0, **adaptive, **decoupled)

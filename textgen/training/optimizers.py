"""How a gradient becomes a step of the weights.

In this file g is the gradient of a weight w, and lr the learning rate:

    sgd       w -= lr * g; with momentum the steps go on: v = momentum * v - lr * g, w += v
    asgd      the same, and later on the mean of the weights (see `textgen.training.weight_averaging`)
    rmsprop   g is divided by a running root mean square of itself, w by w (Hinton 2012, lecture 6e)
    adam      the running mean of g, divided likewise (Kingma & Ba 2015, arXiv:1412.6980)
    adamw     the same with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)
    lamb      Adam's step, scaled to the length of each weight (You et al. 2020, arXiv:1904.00962)

Weight decay pulls matrices towards 0 and leaves biases and norms alone. It is decoupled for adamw and lamb,
w -= lr * weight_decay * w beside the step; for the others it is part of the gradient, g += weight_decay * w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from textgen.model.language_model import LanguageModel
from textgen.training.config import DECOUPLED, TrainingConfig


def make_optimizer(config: TrainingConfig, model: LanguageModel) -> keras.optimizers.Optimizer:
    """The Keras optimizer that `config` names, built for the weights of `model`."""
    optimizer, weights = _keras_optimizer(config), trained_weights(config, model)
    if config.optimizer in DECOUPLED:
        optimizer.exclude_from_weight_decay(var_list=[weight for weight in weights if not decays(weight)])
    optimizer.build(weights)
    optimizer._all_reduce_sum_gradients = list  # the gradients that it gets are sums over all replicas
    model.optimizer = optimizer  # where Keras callbacks look for it
    return optimizer


def trained_weights(config: TrainingConfig, model: LanguageModel) -> list[keras.Variable]:
    """The weights of the layers that are not frozen."""
    return [weight for name, weight in model.named_weights().items() if name.split("/")[0] not in config.freeze_layers]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    config: TrainingConfig,
    gradients: Sequence[tf.Tensor],
    weights: Sequence[keras.Variable],
    learning_rate: tf.Tensor,
) -> None:
    """One step, with all of the weight decay; the gradients are clipped already."""
    if config.optimizer not in DECOUPLED and config.weight_decay:
        pairs = zip(gradients, weights, strict=True)
        gradients = [g + config.weight_decay * tf.convert_to_tensor(w) if decays(w) else g for g, w in pairs]
    optimizer.learning_rate.assign(learning_rate)
    optimizer.apply(gradients, weights)


def decays(weight: Any) -> bool:
    """Whether weight decay touches it: matrices do decay; biases, norms and peepholes do not, whatever their shape."""
    return len(weight.shape) > 1 and weight.name not in ("bias", "peepholes")


def _keras_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """The learning rate is set at each step."""
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

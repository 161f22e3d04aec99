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

Two settings are for fine-tuning. Weight decay towards the start puts w - w0 in place of w, where w0 is the weight
before the first step (L2-SP, Li, Grandvalet & Davoine 2018, arXiv:1802.01483). Discriminative learning rates multiply
lr by a factor for each layer (ULMFiT, Howard & Ruder 2018, arXiv:1801.06146).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from textgen.model.config import VECTORS, ModelConfig
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


def trained_names(config: TrainingConfig, model: LanguageModel) -> list[str]:
    """The names of the weights whose layers are not in `freeze_layers`."""
    return [name for name in model.named_weights() if name.split("/")[0] not in config.freeze_layers]


def trained_weights(config: TrainingConfig, model: LanguageModel) -> list[keras.Variable]:
    """The weights of `trained_names`."""
    named = model.named_weights()
    return [named[name] for name in trained_names(config, model)]


def layer_depths(config: ModelConfig) -> dict[str, int]:
    """How many layers lie above each layer: 0 for the output layer, and for the embedding too if it is tied to it."""
    names = {name.split("/")[0] for name in config.weight_shapes()}
    depths = {name: config.num_layers - int(name.rsplit("_", 1)[1]) for name in names if name[-1].isdigit()}
    depths["embedding"] = 0 if config.tie_embeddings else config.num_layers + 1
    return dict.fromkeys(names, 0) | depths


def learning_rate_factors(config: TrainingConfig, model: LanguageModel) -> list[float]:
    """The factor of the learning rate of each weight from `trained_weights`."""
    depths = layer_depths(model.config)
    return [config.layer_learning_rate_decay ** depths[name.split("/")[0]] for name in trained_names(config, model)]


class Update:
    """An update of the weights: the optimizer's step, weight decay and discriminative learning rates.

    Attributes:
        optimizer: The Keras optimizer.
        weights: The trained weights.
    """

    def __init__(self, config: TrainingConfig, model: LanguageModel) -> None:
        """Makes an update in the scope of a strategy, while the model still has its first weights.

        Args:
            config: Settings of training.
            model: The network.
        """
        self.optimizer = make_optimizer(config, model)
        self.weights = trained_weights(config, model)
        self._config = config
        self._factors = learning_rate_factors(config, model) if config.layer_learning_rate_decay < 1 else None
        self._start: dict[str, tf.Variable] = {}
        if config.decay_target == "start":
            self._start = {
                name: tf.Variable(weight.numpy(), trainable=False)
                for name, weight in model.named_weights().items()
                if decays(weight)
            }
        self._origins = [self._start.get(name) for name in trained_names(config, model)]

    @property
    def variables(self) -> list[keras.Variable]:
        """All that `apply` changes: the weights, and what the optimizer remembers."""
        return [*self.weights, *self.optimizer.variables]

    def set_start(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets the weights towards which weights decay, by name."""
        for name, variable in self._start.items():
            variable.assign(arrays[name])

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Updates the weights on a replica.

        Args:
            gradients: Clipped gradients, one for each weight.
            learning_rate: Learning rate of this update.
        """
        before = [tf.convert_to_tensor(weight) for weight in self.weights]
        if self._config.optimizer not in DECOUPLED and self._config.weight_decay:
            gradients = [g + d for g, d in zip(gradients, self._decay(before), strict=True)]
        elif self._start:  # instead of the optimizer's own, which is towards zero
            decay = self._decay(before)
            _assign(self.weights, [w - learning_rate * d for w, d in zip(before, decay, strict=True)])
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply(gradients, self.weights)
        if self._factors:
            after = [tf.convert_to_tensor(weight) for weight in self.weights]
            rows = zip(self._factors, before, after, strict=True)
            _assign(self.weights, [old + factor * (new - old) for factor, old, new in rows])

    def _decay(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor | float]:
        """The weight decay of each weight, not yet multiplied by the learning rate."""
        rows = zip(self.weights, values, self._origins, strict=True)
        excess = [0.0 if not decays(weight) else w if w0 is None else w - w0 for weight, w, w0 in rows]
        return [self._config.weight_decay * each for each in excess]


def _assign(weights: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    """Sets weights on a replica, as Keras's optimizers do."""

    def on_all(strategy: tf.distribute.Strategy, values: Sequence[Any]) -> None:
        for weight, value in zip(weights, values, strict=True):
            strategy.extended.update(weight.value, _set, args=(value,), group=False)

    tf.distribute.get_replica_context().merge_call(on_all, args=(list(values),))


def _set(variable: tf.Variable, value: tf.Tensor) -> None:
    variable.assign(value)


def decays(weight: Any) -> bool:
    """Whether weight decay acts on a weight: on matrices, not on biases, norms and peepholes of whatever shape."""
    return len(weight.shape) > 1 and weight.name not in VECTORS


def _keras_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """The optimizer without weights; its learning rate is set at each step."""
    adaptive = {"beta_1": config.beta_1, "beta_2": config.beta_2, "epsilon": config.epsilon}
    decoupled = {"weight_decay": config.weight_decay if config.decay_target == "zero" else 0.0}
    match config.optimizer:
        case "sgd" | "asgd":
            return keras.optimizers.SGD(0.0, config.momentum)
        case "rmsprop":
            return keras.optimizers.RMSprop(0.0, config.beta_2, config.momentum, config.epsilon)
        case "adam":
            return keras.optimizers.Adam(0.0, **adaptive)
        case "lamb":
            return keras.optimizers.Lamb(0.0, **adaptive, **decoupled)
        case "adamw":
            return keras.optimizers.AdamW(0.0, **adaptive, **decoupled)
        case other:
            raise ValueError(f"There is no optimizer {other!r}.")

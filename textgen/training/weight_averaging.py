"""Averages of the weights, which often score better than the weights of any single step.

Training continues with the raw weights. Held-out text is scored with the average, which is also saved as the best
model.

    ema       exponential moving average: a step counts `ema_decay` times as much as the one after it, with the bias
              correction of Adam
    last-k    mean of the weights at the last `num_averaged` validations (Vaswani et al. 2017)
    asgd      mean of all steps (Polyak & Juditsky 1992) since the held-out loss stopped falling: the optimizer NT-ASGD
              (Merity, Keskar & Socher 2018, arXiv:1708.02182)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from textgen.model.language_model import LanguageModel
from textgen.system.runtime import compiled
from textgen.training.config import TrainingConfig


class Averaging:
    """No averaging; the base class of all kinds."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    @property
    def is_waiting(self) -> bool:
        """Whether the average has still to begin; until then, patience does not count."""
        return False

    def on_step(self) -> None:
        """Called after each update of the weights."""

    def on_validation(self, nats: float) -> None:
        """Called after each validation, with its loss in nats per token."""

    def before_validation(self) -> None:
        """Called before each validation."""

    def forget_scores(self) -> None:
        """Called if later validations score another text than earlier ones."""

    def mean(self) -> dict[str, np.ndarray] | None:
        """The averaged weights by name; None if there is no average (yet)."""
        return None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the model the averaged weights inside the block, and the raw ones back after it, bit for bit."""
        mean = self.mean()
        if mean is None:
            yield
            return
        raw = self._model.weights_as_arrays()
        self._model.assign_weights(mean)
        try:
            yield
        finally:
            self._model.assign_weights(raw)

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays that a checkpoint keeps; their shapes never change."""
        return {}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restores what `tensors` returned."""


class ExponentialMean(Averaging):
    """An average updated at each step: mean += fraction * (weights - mean)."""

    def __init__(self, model: LanguageModel, decay: float) -> None:
        super().__init__(model)
        self._decay = decay
        self._count = 0  # steps in the average
        self._mean = {name: tf.Variable(array) for name, array in model.weights_as_arrays().items()}
        self._compiled_move = compiled(self._move)

    def on_step(self) -> None:
        """Adds the weights to the average."""
        self._count += 1
        self._compiled_move(tf.constant(self._fraction(self._count), tf.float32))

    def mean(self) -> dict[str, np.ndarray] | None:
        """The average of the steps so far; None before the first."""
        return {name: mean.numpy() for name, mean in self._mean.items()} if self._count else None

    def tensors(self) -> dict[str, np.ndarray]:
        """The average and the number of its steps."""
        means = {f"mean/{name}": mean.numpy() for name, mean in self._mean.items()}
        return means | {"count": np.array(self._count, np.int64)}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restores what `tensors` returned."""
        for name, mean in self._mean.items():
            mean.assign(tensors[f"mean/{name}"])
        self._count = int(tensors["count"])

    def _fraction(self, count: int) -> float:
        """Weight of the newest of `count` steps: 1 for the first, towards 1 - decay."""
        return (1 - self._decay) / (1 - self._decay**count)

    def _move(self, fraction: tf.Tensor) -> None:
        for name, weight in self._model.named_weights().items():
            mean = self._mean[name]
            mean.assign_add(fraction * (tf.convert_to_tensor(weight) - mean))


class TriggeredMean(ExponentialMean):
    """The mean of all steps since the held-out loss stopped falling (NT-ASGD)."""

    def __init__(self, model: LanguageModel, nonmonotone: int) -> None:
        super().__init__(model, decay=1.0)
        # first the lowest of all older losses, then the last `nonmonotone` ones
        self._scores = np.full(nonmonotone + 1, np.inf)
        self._has_begun = False

    @property
    def is_waiting(self) -> bool:
        """Whether the loss is still falling."""
        return not self._has_begun

    def on_step(self) -> None:
        """Adds the weights to the average, once it has begun."""
        if self._has_begun:
            super().on_step()

    def on_validation(self, nats: float) -> None:
        """Begins the average if the loss is above the best of those more than `nonmonotone` validations before."""
        least, *last = self._scores
        self._has_begun = self._has_begun or bool(nats > least)
        self._scores = np.array([min(least, last[0]), *last[1:], nats])

    def forget_scores(self) -> None:
        """Forgets all losses. An average that has begun goes on."""
        self._scores = np.full_like(self._scores, np.inf)

    def tensors(self) -> dict[str, np.ndarray]:
        """The average, and the losses that decide when it begins."""
        return super().tensors() | {"scores": self._scores, "has_begun": np.array(self._has_begun)}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restores what `tensors` returned."""
        super().restore(tensors)
        self._scores, self._has_begun = tensors["scores"], bool(tensors["has_begun"])

    def _fraction(self, count: int) -> float:
        return 1 / count


class LastMean(Averaging):
    """The mean of the weights at the last few validations."""

    def __init__(self, model: LanguageModel, last: int) -> None:
        super().__init__(model)
        weights = model.weights_as_arrays().items()
        self._kept = {name: np.zeros((last, *array.shape), np.float32) for name, array in weights}
        self._last = last
        self._count = 0  # validations so far

    def before_validation(self) -> None:
        """Replaces the oldest weights by the current ones."""
        for name, array in self._model.weights_as_arrays().items():
            self._kept[name][self._count % self._last] = array
        self._count += 1

    def mean(self) -> dict[str, np.ndarray] | None:
        """The mean of the kept weights; None before the first validation.

        It is the first of them plus the mean difference, so that frozen weights stay as they are.
        """
        full = min(self._count, self._last)
        kept = {name: array[:full] for name, array in self._kept.items()}
        return {name: array[0] + (array - array[0]).mean(0) for name, array in kept.items()} if full else None

    def tensors(self) -> dict[str, np.ndarray]:
        """The kept weights and the number of validations."""
        return {f"kept/{name}": kept for name, kept in self._kept.items()} | {"count": np.array(self._count, np.int64)}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Restores what `tensors` returned."""
        self._kept = {name: np.array(tensors[f"kept/{name}"]) for name in self._kept}
        self._count = int(tensors["count"])


def make_averaging(config: TrainingConfig, model: LanguageModel) -> Averaging:
    """Makes the averaging that the settings name: `weight_averaging`, or that of the optimizer asgd."""
    if config.optimizer == "asgd":
        return TriggeredMean(model, config.nonmonotone_interval)
    match config.weight_averaging:
        case "ema":
            return ExponentialMean(model, config.ema_decay)
        case "last-k":
            return LastMean(model, config.num_averaged)
        case "none":
            return Averaging(model)
        case other:
            raise ValueError(f"There is no weight averaging {other!r}.")

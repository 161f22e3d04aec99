"""The mean of the weights over a stretch of the run: it often scores better than where the run happens to stand.

Training goes on with the raw weights; held-out text is scored with the mean, which is also what is saved as best.

    ema       mean of all steps so far, a step counting `ema_decay` times as much as the one after it
              (Polyak & Juditsky 1992; divided by the sum of these shares, as Adam's means are)
    last-k    plain mean of the weights at the last `average_last` validations (Vaswani et al. 2017)
    asgd      plain mean of all steps since the held-out loss stopped falling: the optimizer NT-ASGD
              (Merity, Keskar & Socher 2018, arXiv:1708.02182)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from textgen.model.language_model import LanguageModel
from textgen.training.config import TrainingConfig


class Averaging:
    """No averaging at all, and what the kinds of it have in common."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    @property
    def is_waiting(self) -> bool:
        """Whether a mean is still to begin: patience should not run out before."""
        return False

    def on_step(self) -> None:
        """After each update of the weights."""

    def on_validation(self, nats: float) -> None:
        """After held-out text was scored, with nats a token."""

    def before_validation(self) -> None:
        """Before held-out text is scored."""

    def mean(self) -> dict[str, np.ndarray] | None:
        """The averaged weights by name; None where there is no mean, or not yet."""
        return None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights; after it the raw ones, bit for bit."""
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
        """What a checkpoint keeps; the shapes never change."""
        return {}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes over what `tensors` gave."""


class ExponentialMean(Averaging):
    """A mean that follows the weights step by step: mean += share * (weights - mean)."""

    def __init__(self, model: LanguageModel, decay: float) -> None:
        super().__init__(model)
        self._decay = decay
        self._count = 0  # steps in the mean
        self._mean = {name: tf.Variable(array) for name, array in model.weights_as_arrays().items()}
        self._compiled_move = tf.function(self._move, autograph=False)

    def on_step(self) -> None:
        """Takes the weights into the mean."""
        self._count += 1
        self._compiled_move(tf.constant(self._share(self._count), tf.float32))

    def mean(self) -> dict[str, np.ndarray] | None:
        """That of the steps so far."""
        return {name: mean.numpy() for name, mean in self._mean.items()} if self._count else None

    def tensors(self) -> dict[str, np.ndarray]:
        """The mean and the number of steps in it."""
        means = {f"mean/{name}": mean.numpy() for name, mean in self._mean.items()}
        return means | {"count": np.array(self._count, np.int64)}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes over what `tensors` gave."""
        for name, mean in self._mean.items():
            mean.assign(tensors[f"mean/{name}"])
        self._count = int(tensors["count"])

    def _share(self, count: int) -> float:
        """Of the newest of `count` steps: 1 for the first, in the end 1 - decay."""
        return (1 - self._decay) / (1 - self._decay**count)

    def _move(self, share: tf.Tensor) -> None:
        for name, weight in self._model.named_weights().items():
            mean = self._mean[name]
            mean.assign_add(share * (tf.convert_to_tensor(weight) - mean))


class TriggeredMean(ExponentialMean):
    """The plain mean of all steps from the moment that the held-out loss is no longer the best for long."""

    def __init__(self, model: LanguageModel, nonmonotone: int) -> None:
        super().__init__(model, decay=1.0)
        self._scores = np.full(nonmonotone + 1, np.inf)  # the last ones, and before them the least of all older ones
        self._has_begun = False

    @property
    def is_waiting(self) -> bool:
        """Until the mean begins."""
        return not self._has_begun

    def on_step(self) -> None:
        """Takes the weights into the mean, once it has begun."""
        if self._has_begun:
            super().on_step()

    def on_validation(self, nats: float) -> None:
        """Begins the mean when a score is worse than the best of those `nonmonotone` or more validations before."""
        least, *last = self._scores
        self._has_begun = self._has_begun or bool(nats > least)
        self._scores = np.array([min(least, last[0]), *last[1:], nats])

    def tensors(self) -> dict[str, np.ndarray]:
        """The mean, and the scores that it waits for."""
        return super().tensors() | {"scores": self._scores, "has_begun": np.array(self._has_begun)}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes over what `tensors` gave."""
        super().restore(tensors)
        self._scores, self._has_begun = tensors["scores"], bool(tensors["has_begun"])

    def _share(self, count: int) -> float:
        return 1 / count


class LastMean(Averaging):
    """The plain mean of the weights at the last few validations."""

    def __init__(self, model: LanguageModel, last: int) -> None:
        super().__init__(model)
        weights = model.weights_as_arrays().items()
        self._kept = {name: np.zeros((last, *array.shape), np.float32) for name, array in weights}
        self._last = last
        self._count = 0  # validations so far

    def before_validation(self) -> None:
        """Keeps the weights in the place of the oldest."""
        for name, array in self._model.weights_as_arrays().items():
            self._kept[name][self._count % self._last] = array
        self._count += 1

    def mean(self) -> dict[str, np.ndarray] | None:
        """That of the weights kept."""
        full = min(self._count, self._last)
        return {name: kept[:full].mean(0) for name, kept in self._kept.items()} if full else None

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights kept, and the number of validations."""
        return {f"kept/{name}": kept for name, kept in self._kept.items()} | {"count": np.array(self._count, np.int64)}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes over what `tensors` gave."""
        self._kept = {name: np.array(tensors[f"kept/{name}"]) for name in self._kept}
        self._count = int(tensors["count"])


def make_averaging(config: TrainingConfig, model: LanguageModel) -> Averaging:
    """The kind that `config` names."""
    if config.optimizer == "asgd":
        return TriggeredMean(model, config.nonmonotone_interval)
    match config.weight_averaging:
        case "ema":
            return ExponentialMean(model, config.ema_decay)
        case "last-k":
            return LastMean(model, config.num_averaged)
        case _:
            return Averaging(model)

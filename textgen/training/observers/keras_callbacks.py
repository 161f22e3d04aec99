"""Runs Keras callbacks in the training loop of textgen.

For callbacks, an epoch lasts from one validation to the next, since `val_loss` is known there, and a batch is one
update of the weights.

If a callback sets `model.optimizer.learning_rate`, the run uses that rate from the next step on, instead of the rate of
the schedule. Callbacks that read it get the learning rate of a window of full length.

A resumed run begins the epoch again in which it ended, for callbacks that count. The rate that they set in this
`on_epoch_begin` does not count: it was set when the epoch first began, and one that is relative to the rate before
would change it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np

from textgen.errors import ConfigError
from textgen.training.config import TrainingConfig
from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport
from textgen.wording import short_repr

SET_THE_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


def check_callbacks(callbacks: Sequence[object]) -> None:
    """Checks that all are Keras callbacks. Raises `ConfigError`."""
    for number, callback in enumerate(callbacks):
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(
                f"callbacks[{number}] must be an object of keras.callbacks.Callback. Received: {short_repr(callback)}."
            )


def refuse_two_schedules(
    callbacks: Sequence[keras.callbacks.Callback], config: TrainingConfig, num_workers: int = 1
) -> None:
    """Checks that nothing else sets the learning rate if a Keras callback does.

    Args:
        callbacks: Keras callbacks of the run.
        config: Settings of training.
        num_workers: Number of processes that train together.

    Raises:
        ConfigError: A callback sets the learning rate, and the schedule is not constant or several processes train
            together.
    """
    for name in (type(callback).__name__ for callback in callbacks if isinstance(callback, SET_THE_RATE)):
        if config.schedule != "constant":
            raise ConfigError(
                f"{name} sets the learning rate, and so does the schedule {config.schedule}: choose the schedule "
                "constant, which leaves it to the callback."
            )
        if num_workers > 1:
            raise ConfigError(f"{name} sets the learning rate of one process, and {num_workers} train together.")


class KerasCallbacks(Observer):
    """Calls `keras.callbacks.Callback` objects at the steps and validations of a run."""

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, config: TrainingConfig
    ) -> None:
        """Prepares the callbacks.

        Args:
            callbacks: The callbacks.
            model: The model, on which callbacks may set `stop_training` and the learning rate.
            config: Settings of training.

        Raises:
            ConfigError: A callback and the schedule would both set the learning rate.
        """
        super().__init__()
        refuse_two_schedules(callbacks, config)
        self._model = model
        self._config = config
        self._callbacks = keras.callbacks.CallbackList(list(callbacks), model=model)
        self._epoch = 0
        self._last_rate = config.learning_rate

    def on_start(self, run: RunReport) -> None:
        """Calls `on_train_begin` and the first `on_epoch_begin`."""
        self._model.stop_training = False
        self.learning_rate = run.learning_rate
        self._epoch = run.validations
        with self._rate():
            self._callbacks.on_train_begin()
        before = self.learning_rate
        with self._rate():
            self._callbacks.on_epoch_begin(self._epoch)
        if run.step and run.learning_rate is not None:  # which this epoch, begun before, has set already
            self.learning_rate = before

    def on_step(self, report: StepReport) -> None:
        """Calls `on_train_batch_begin` and `on_train_batch_end`, with `loss` in nats per token."""
        self._last_rate = report.learning_rate / report.window_fraction
        logs = {"loss": report.nats_per_token, "learning_rate": self._last_rate}
        with self._rate():
            self._callbacks.on_train_batch_begin(report.step - 1)
            self._callbacks.on_train_batch_end(report.step - 1, logs)
        self._note_stop()

    def on_validation(self, report: ValidationReport) -> None:
        """Calls `on_epoch_end`, with `loss` and `val_loss` in nats per token, and `on_epoch_begin`."""
        logs = {
            "loss": report.train_nats_per_token,
            "val_loss": report.nats_per_token,
            "val_perplexity": report.perplexity_per_token,
            "val_bits_per_byte": report.bits_per_byte,
        }
        with self._rate():
            self._callbacks.on_epoch_end(self._epoch, logs)
            self._epoch += 1
            self._callbacks.on_epoch_begin(self._epoch)
        self._note_stop()

    def on_end(self) -> None:
        """Calls `on_train_end`."""
        self._callbacks.on_train_end()

    @contextmanager
    def _rate(self) -> Iterator[None]:
        """Sets the optimizer's learning rate for callbacks to read, and adopts the rate if they change it."""
        shown = self._config.learning_rate if self._config.schedule == "constant" else self._last_rate
        shown = shown if self.learning_rate is None else self.learning_rate
        optimizer = self._model.optimizer
        optimizer.learning_rate = shown
        yield
        rate = float(optimizer.learning_rate.numpy())
        if rate != float(np.float32(shown)):
            self.learning_rate = rate

    def _note_stop(self) -> None:
        if self._model.stop_training:
            self.stop_reason = "a Keras callback stopped it"

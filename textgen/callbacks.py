"""Keras callbacks on our own training loop.

For them a Keras epoch is the stretch between two validations, since that is where `val_loss` is known, and
a batch is one update of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from textgen.reports import Observer, RunReport, StepReport, ValidationReport


class KerasCallbacks(Observer):
    """Passes what happens in a run on to `keras.callbacks.Callback` objects."""

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model) -> None:
        super().__init__()
        self._model = model
        self._callbacks = keras.callbacks.CallbackList(list(callbacks), model=model)
        self._epoch = 0

    def on_start(self, run: RunReport) -> None:
        """Keras's on_train_begin."""
        self._model.stop_training = False
        self._callbacks.on_train_begin()
        self._callbacks.on_epoch_begin(self._epoch)

    def on_step(self, report: StepReport) -> None:
        """Keras's on_train_batch_begin and on_train_batch_end, with `loss` in nats a token."""
        self._callbacks.on_train_batch_begin(report.step - 1)
        logs = {"loss": report.nats_per_token, "learning_rate": report.learning_rate}
        self._callbacks.on_train_batch_end(report.step - 1, logs)
        self._look()

    def on_validation(self, report: ValidationReport) -> None:
        """Keras's on_epoch_end, with `loss` and `val_loss` in nats a token."""
        logs = {
            "loss": report.train_nats_per_token,
            "val_loss": report.nats_per_token,
            "val_perplexity": report.perplexity_per_token,
            "val_bits_per_byte": report.bits_per_byte,
        }
        self._callbacks.on_epoch_end(self._epoch, logs)
        self._epoch += 1
        self._callbacks.on_epoch_begin(self._epoch)
        self._look()

    def on_end(self) -> None:
        """Keras's on_train_end."""
        self._callbacks.on_train_end()

    def _look(self) -> None:
        if self._model.stop_training:
            self.stop_reason = "a Keras callback stopped it"

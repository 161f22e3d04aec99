"""What Keras callbacks see of a run, and what they change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.observers.observer import RunReport, StepReport

load_tensorflow()


def step_report(number: int, learning_rate: float, window_fraction: float) -> StepReport:
    return StepReport(number, 0.5, 0.1, 2.0, learning_rate, 0.7, {}, 12345.0, 61.0, window_fraction=window_fraction)


def test_callbacks_see_and_set_the_rate_of_a_full_window_also_after_a_shorter_one() -> None:
    import keras

    from textgen.training.observers.keras_callbacks import KerasCallbacks

    seen: list[float] = []

    class Halves(keras.callbacks.Callback):
        """Halves the learning rate after the third step."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            rate = float(self.model.optimizer.learning_rate.numpy())
            seen.extend([rate, logs["learning_rate"]])
            if batch == 2:
                self.model.optimizer.learning_rate = rate * 0.5

    model: Any = SimpleNamespace(optimizer=keras.optimizers.SGD(), stop_training=False)
    observer = KerasCallbacks([Halves()], model, TrainingConfig(schedule="cosine", learning_rate=0.02))
    observer.on_start(RunReport("songs", {}))
    for number, fraction in enumerate((1.0, 0.5, 0.25), start=1):
        observer.on_step(step_report(number, fraction * 0.01, fraction))
    assert seen == pytest.approx([0.01] * 6)
    assert observer.learning_rate == pytest.approx(0.005)

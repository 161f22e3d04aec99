"""Keras callbacks and observers in a run: what they see, stop and set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trained_runs
from trained_runs import Watch, plan_for

from textgen.errors import ConfigError
from textgen.training.observers.observer import StepReport
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

tensorflow, text = trained_runs.tensorflow, trained_runs.text  # fixtures


def test_keras_callbacks_see_the_run_and_can_stop_it(text: Path, tmp_path: Path) -> None:
    import keras

    class Stop(keras.callbacks.Callback):
        """Records what Keras says and stops after two validations."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[str, Any]] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen.append(("batch", logs["loss"]))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seen.append(("epoch", logs["val_loss"]))
            self.model.stop_training = epoch == 1

    callback = Stop()
    history = tmp_path / "history.csv"
    saved = train(
        plan_for(text),
        tmp_path / "songs",
        options=RunOptions(callbacks=[callback, keras.callbacks.CSVLogger(str(history))]),
    )
    assert [kind for kind, _ in callback.seen].count("epoch") == 2
    assert "callback" in saved.training["status"]
    assert len(history.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras with NumPy 2
def test_keras_callbacks_set_the_learning_rate_from_the_next_step_on(text: Path, tmp_path: Path) -> None:
    """The scheduler sets it before the first step, and both with each validation; resuming goes on with it."""
    from keras.callbacks import LearningRateScheduler, ReduceLROnPlateau

    seen: list[tuple[int, float]] = []

    def schedule(epoch: int, rate: float) -> float:
        seen.append((epoch, rate))
        return 0.008 if epoch == 0 else rate

    plan = plan_for(
        text, schedule="constant", warmup_fraction=0.0, learning_rate=0.01, num_validations=3, patience=None
    )
    plateau = ReduceLROnPlateau(monitor="loss", mode="max", factor=0.5, patience=1, min_lr=0.003)  # falls: no gain
    watch = Watch(8)
    train(
        plan,
        tmp_path / "songs",
        options=RunOptions(observers=[watch], callbacks=[LearningRateScheduler(schedule), plateau]),
    )
    assert [report.learning_rate for report in watch.steps] == pytest.approx([0.008] * 8)
    assert [rate for _, rate in seen] == pytest.approx([0.01, 0.008, 0.004])
    later = Watch()
    resume(tmp_path / "songs", options=RunOptions(observers=[later], callbacks=[LearningRateScheduler(schedule)]))
    assert [report.learning_rate for report in later.steps] == pytest.approx([0.004] * 4)
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 2, 3]
    assert seen[3][1] == pytest.approx(0.004)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras with NumPy 2
@pytest.mark.parametrize("epochs", [(4, 3, 1, 4, 4), pytest.param((4, 4, 4, 4), marks=pytest.mark.slow)])
def test_a_rate_relative_to_the_one_before_is_set_once_for_each_epoch(
    text: Path, tmp_path: Path, epochs: tuple[int, ...]
) -> None:
    """Also in an epoch that a resumed run begins again, and in the next one of a run that was finished."""
    from keras.callbacks import LearningRateScheduler

    settings = {"schedule": "constant", "warmup_fraction": 0.0, "learning_rate": 0.01, "patience": None}
    rates: list[float] = []
    plan = plan_for(text, **settings, steps=12, num_validations=3)
    stop = 7 if 3 in epochs else 12  # which ends an epoch, as any validation does
    for begin, end in ((0, stop), (stop, 16)):
        watch = Watch(end)
        options = RunOptions(observers=[watch], callbacks=[LearningRateScheduler(lambda epoch, rate: rate / 2)])
        if begin:
            resume(tmp_path / "songs", {"steps": 16, "num_validations": 4}, options=options)
        else:
            train(plan, tmp_path / "songs", options=options)
        rates += [report.learning_rate for report in watch.steps]
    expected = [0.01 / 2 ** (number + 1) for number, length in enumerate(epochs) for _ in range(length)]
    assert rates == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras with NumPy 2
def test_a_resumed_run_has_the_rate_that_is_set_at_its_beginning(text: Path, tmp_path: Path) -> None:
    from keras.callbacks import Callback

    class Lower(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = 0.0001

    plan = plan_for(text, schedule="constant", warmup_fraction=0.0, learning_rate=0.01, steps=4, num_validations=2)
    train(plan, tmp_path / "songs", options=RunOptions(observers=[]))
    watch = Watch(8)
    options = RunOptions(observers=[watch], callbacks=[Lower()])
    resume(tmp_path / "songs", {"steps": 8, "num_validations": 4}, options=options)
    assert [report.learning_rate for report in watch.steps] == pytest.approx([0.0001] * 4)


def test_a_callback_and_a_schedule_cannot_both_set_the_learning_rate(text: Path, tmp_path: Path) -> None:
    from keras.callbacks import Callback, LearningRateScheduler, ReduceLROnPlateau

    class Own(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 5:
                self.model.optimizer.learning_rate = 0.001

    plan = plan_for(text, schedule="cosine", learning_rate=0.01, num_validations=1)
    for callback in (LearningRateScheduler(lambda epoch: 0.1), ReduceLROnPlateau()):
        with pytest.raises(ConfigError, match=f"{type(callback).__name__} sets .* so does the schedule cosine: choose"):
            train(plan, tmp_path / "songs", options=RunOptions(callbacks=[callback]))
    assert not (tmp_path / "songs").exists()
    watch = Watch()
    train(plan, tmp_path / "songs", options=RunOptions(observers=[watch], callbacks=[Own()]))
    rates = [report.learning_rate for report in watch.steps]
    assert rates[6:] == pytest.approx([0.001] * 6)  # whoever writes a callback of his own means it
    assert min(rates[:6]) > 0.001


@pytest.mark.slow
def test_a_new_learning_rate_replaces_the_one_that_a_callback_set(text: Path, tmp_path: Path) -> None:
    class Sets(Watch):
        def on_step(self, report: StepReport) -> None:
            super().on_step(report)
            self.learning_rate = 1e-7

    given = {"schedule": "constant", "warmup_fraction": 0.0, "num_validations": 1}
    train(plan_for(text, **given), tmp_path / "songs", options=RunOptions(observers=[Sets(3)]))
    kept, changed = Watch(6), Watch(9)
    resume(tmp_path / "songs", options=RunOptions(observers=[kept]))
    resume(tmp_path / "songs", {"learning_rate": 0.02}, options=RunOptions(observers=[changed]))
    assert {report.learning_rate for report in kept.steps} == {1e-7}
    assert {report.learning_rate for report in changed.steps} == {0.02}

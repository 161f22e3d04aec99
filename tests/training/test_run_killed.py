"""Runs that are killed: they go on as if they had not been."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import trained_runs
from events import curves
from processes import child_process
from safetensors.numpy import load_file
from trained_runs import TINY, Run, Watch, checkpoints_of, plan_for

from textgen.training.checkpoints import newest_checkpoint
from textgen.training.observers.observer import Observer, StepReport, ValidationReport
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

tensorflow, text, whole_run = trained_runs.tensorflow, trained_runs.text, trained_runs.whole_run  # fixtures


class Killed(BaseException):
    """As sudden as a kill: nobody catches it."""


class KilledAt(Observer):
    """Ends everything at a step, or in the validation or the save after it."""

    def __init__(self, step: int, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._step, self._when, self._patch = step, when, monkeypatch

    def on_step(self, report: StepReport) -> None:
        if report.step == self._step:
            if self._when == "step":
                raise Killed
            place = "textgen.training.validator.Validator.save_best" if self._when == "validation" else "os.rename"
            self._patch.setattr(place, self._die, raising=False)

    def on_validation(self, report: ValidationReport) -> None:
        if report.step == self._step and self._when == "validation":
            raise Killed

    def _die(self, *arguments: object) -> None:
        raise Killed


@pytest.mark.parametrize(
    ("step", "when"),
    [
        (13, "step"),
        pytest.param(27, "step", marks=pytest.mark.slow),
        pytest.param(60, "step", marks=pytest.mark.slow),
        pytest.param(20, "validation", marks=pytest.mark.slow),
        pytest.param(20, "save", marks=pytest.mark.slow),
        pytest.param(60, "save", marks=pytest.mark.slow),
    ],
)
def test_a_killed_and_resumed_run_equals_one_that_was_not(
    whole_run: Run, tmp_path: Path, step: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the curves in TensorBoard are as if nothing had been."""
    monkeypatch.setattr("textgen.training.observers.tensorboard.UPDATES_FRACTION", 1e9)
    monkeypatch.setattr("textgen.training.observers.tensorboard.LOOKS_FRACTION", 1e9)
    plan, whole = whole_run.plan(), whole_run.saved
    assert 2 < whole.training["progress"]["epochs"] < 5
    with monkeypatch.context() as patch, pytest.raises(Killed):
        train(plan, tmp_path / "killed", options=RunOptions(observers=[KilledAt(step, when, patch)]))
    watch = Watch()
    resumed = resume(tmp_path / "killed", options=RunOptions(observers=[watch]))
    if watch.steps:  # one that was killed after its last save has nothing left to do
        assert step - 10 < watch.steps[0].step <= step + 1
    last = "checkpoints/step-000000060/tensors.safetensors"
    assert (whole.folder / last).read_bytes() == (resumed.folder / last).read_bytes()
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(resumed.weights()[name], array)
    assert resumed.training["scores"] == whole.training["scores"]
    assert resumed.training["history"] == whole.training["history"]
    assert [scores["step"] for scores in whole.training["history"]] == [10, 20, 30, 40, 50, 60]
    shown = curves(whole.folder / "logs")
    assert [at for at, _ in shown["loss/train_nats_per_token"]] == [10, 20, 30, 40, 50, 60]
    assert [at for at, _ in shown["gate_above_0.9/lstm_1/f"]] == [10, 20, 30, 40, 50, 60]
    assert curves(resumed.folder / "logs") == shown


@pytest.mark.slow
def test_a_killed_run_whose_budget_is_smaller_now_is_finished(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(text, steps=100, num_validations=1, checkpoint_minutes=0.0)
    with pytest.raises(Killed):
        train(plan, tmp_path / "killed", options=RunOptions(observers=[KilledAt(4, "step", monkeypatch)]))
    (checkpoint, _), watch = newest_checkpoint(tmp_path / "killed" / "checkpoints"), Watch()
    saved = resume(tmp_path / "killed", {"steps": 2}, options=RunOptions(observers=[watch]))
    assert ([report.step for report in watch.validations], watch.steps) == ([3], [])
    assert saved.training["status"] == "finished: the planned length was reached already"
    assert saved.training["progress"]["best_step"] == 3
    for name, array in saved.weights().items():
        np.testing.assert_array_equal(array, checkpoint.tensors[f"weights/{name}"])
    longer = Watch()
    resume(tmp_path / "killed", {"steps": 5}, options=RunOptions(observers=[longer]))
    assert [report.step for report in longer.steps] == [4, 5]


@pytest.mark.slow
def test_a_run_too_short_for_saves_is_saved_at_its_end_and_resumed_from_its_beginning(
    whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights are those of a checkpoint or of before, so that a resumed run finds them."""
    monkeypatch.setattr("textgen.training.checkpoints.SAVING_FRACTION", 0.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        train(whole_run.plan(), tmp_path / "killed", options=RunOptions(observers=[KilledAt(45, "step", patch)]))
    assert checkpoints_of(tmp_path / "killed") == ["step-000000000"]
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    watch = Watch()
    resumed = resume(tmp_path / "killed", options=RunOptions(observers=[watch]))
    assert [report.step for report in watch.validations] == [10, 20, 30, 40, 50, 60]
    assert checkpoints_of(resumed.folder) == ["step-000000000", "step-000000060"]
    for name, array in whole_run.saved.weights().items():
        np.testing.assert_array_equal(resumed.weights()[name], array)
    assert resumed.training["scores"] == whole_run.saved.training["scores"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_at_random_times_change_nothing(text: Path, tmp_path: Path) -> None:
    steps = 12_000  # more than 20 starts take
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (TINY | {"steps": steps}).items()]
    command = [sys.executable, "-m", "textgen", "train", "--models-dir", str(tmp_path), "--name"]
    fresh = [str(text), "--documents", "line", "--checkpoint-minutes", "0.002", *options]
    subprocess.run([*command, "whole", *fresh], check=True)
    rng = random.Random(1)
    arguments, kills = fresh, 0
    while True:
        with child_process([*command, "killed", *arguments]) as process, suppress(subprocess.TimeoutExpired):
            assert process.wait(rng.uniform(4, 9) if kills < 20 else None) == 0
            break
        kills += 1
        arguments = ["--resume"] if list((tmp_path / "killed" / "checkpoints").glob("step-*")) else fresh
    assert kills == 20
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], array)

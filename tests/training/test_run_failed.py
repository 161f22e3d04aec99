"""Runs that an error ends: what they leave, and how they are resumed."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trained_runs
from trained_runs import Watch, checkpoints_of, plan_for

from textgen.errors import SavedModelError, TokenizerError, TrainingError
from textgen.saved_model.layout import CARD, read_training
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model, write_training
from textgen.storage.files import CannotWrite
from textgen.training import run
from textgen.training.observers.observer import Observer, StepReport, ValidationReport
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

tensorflow, text = trained_runs.tensorflow, trained_runs.text  # fixtures


def test_a_failure_before_the_first_step_leaves_no_folder(text: Path, tmp_path: Path) -> None:
    plan = plan_for(text)
    broken = replace(plan, tokenizer_config=replace(plan.tokenizer_config, vocab_size=5000))
    with pytest.raises(TokenizerError, match="vocab_size 5000 is more than this text allows"):
        train(broken, tmp_path / "songs")
    assert not (tmp_path / "songs").exists()


def test_a_run_that_fails_before_its_first_step_leaves_no_model(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: Any) -> None:
        raise TrainingError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("textgen.training.trainer.check_room", no_room)
        with pytest.raises(TrainingError, match="no room"):
            train(plan_for(text), tmp_path / "songs")
    with pytest.raises(SavedModelError, match="has saved no model yet"):
        load_model("songs", tmp_path)
    assert train(plan_for(text, steps=2), tmp_path / "songs").training["progress"]["step"] == 2


def test_the_best_weights_are_saved_when_an_error_ends_a_run(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.training.checkpoints.SAVING_FRACTION", 0.0)

    class Broken(Watch):
        def on_step(self, report: StepReport) -> None:
            if report.step == 10:
                raise RuntimeError("the callback is broken")

    with pytest.raises(RuntimeError, match="the callback is broken"):
        train(plan_for(text), tmp_path / "songs", options=RunOptions(observers=[Broken()]))
    saved = load_model(str(tmp_path / "songs"))
    assert saved.training["status"] == "failed: the callback is broken"
    assert saved.training["progress"]["best_step"] == 8
    assert checkpoints_of(saved.folder) == ["step-000000000"]


def test_an_error_of_saving_does_not_hide_the_one_before(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise SavedModelError("nothing can be saved")

    monkeypatch.setattr("textgen.training.run.save_model", fails)
    plan = plan_for(text, num_validations=1)

    class Fails(Observer):
        def on_step(self, report: StepReport) -> None:
            raise TrainingError("the first error")

    with pytest.raises(TrainingError, match="the first error"):
        train(plan, tmp_path / "songs", options=RunOptions(observers=[Fails()]))
    assert read_training(tmp_path / "songs")["status"] == "failed: the first error"


@contextmanager
def failing_saves(first: int = 0) -> Iterator[None]:
    """Saving a model fails from the `first`-th time on, counted from 0, as on a full disk or one that is read-only."""
    saves = itertools.count()

    def save_or_fail(*arguments: Any) -> None:
        if next(saves) >= first:
            raise CannotWrite(arguments[0], os.strerror(errno.ENOSPC))
        save_model(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "save_model", save_or_fail)
        yield


def test_a_run_whose_first_save_fails_is_resumed_from_its_checkpoint(text: Path, tmp_path: Path) -> None:
    with failing_saves(), pytest.raises(CannotWrite):
        train(plan_for(text), tmp_path / "songs")
    record = read_training(tmp_path / "songs")
    assert record["status"].startswith("failed: Cannot write")
    assert (record["scores"], record["progress"]["step"], record["progress"]["best_step"]) == ({}, 4, 0)
    assert checkpoints_of(tmp_path / "songs") == ["step-000000000"]
    assert resume(tmp_path / "songs").training["progress"]["step"] == 12


@pytest.mark.slow
def test_scores_that_an_older_version_recorded_of_weights_that_it_could_not_save_are_left_out(
    text: Path, tmp_path: Path
) -> None:
    with failing_saves(), pytest.raises(CannotWrite):
        train(plan_for(text), tmp_path / "songs")
    record = read_training(tmp_path / "songs")
    scores = {"nats_per_token": 0.001, "bits_per_byte": 0.001}
    write_training(tmp_path / "songs", record | {"scores": scores, "progress": record["progress"] | {"best_step": 4}})
    saved = resume(tmp_path / "songs")
    assert saved.training["progress"]["best_step"] == 12
    assert saved.training["scores"]["nats_per_token"] > 1


def test_a_record_tells_of_the_weights_that_are_saved_when_saving_better_ones_fails(text: Path, tmp_path: Path) -> None:
    watch, folder = Watch(), tmp_path / "songs"
    with failing_saves(first=1), pytest.raises(CannotWrite):
        train(plan_for(text), folder, options=RunOptions(observers=[watch]))
    first, second = watch.validations
    assert second.nats_per_token < first.nats_per_token
    saved = load_model(str(folder))
    assert saved.training["scores"]["nats_per_token"] == first.nats_per_token
    assert saved.training["scores"]["bits_per_byte"] == first.bits_per_byte
    assert (saved.training["progress"]["step"], saved.training["progress"]["best_step"]) == (8, 4)
    assert f"{first.bits_per_byte:.2f}" in (folder / CARD).read_text(encoding="utf-8")
    with failing_saves(), pytest.raises(CannotWrite):
        resume(folder)
    assert read_training(folder)["progress"]["best_step"] == 4  # also where nothing was saved since


class FailsAtValidation(Watch):
    """Ends the run with an error after a number of validations."""

    def __init__(self, validations: int) -> None:
        super().__init__()
        self.number = validations

    def on_validation(self, report: ValidationReport) -> None:
        super().on_validation(report)
        if len(self.validations) == self.number:
            raise TrainingError("the test says so")


LEARNS_FAST: dict[str, Any] = {
    "learning_rate": 0.2, "warmup_fraction": 0.0, "schedule": "plateau", "plateau_patience": 0, "decay_factor": 0.7,
    "num_validations": 6, "patience": None,
}  # fmt: skip


@pytest.fixture
def failed(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that failed after its fourth validation, before its first save."""
    monkeypatch.setattr("textgen.training.checkpoints.SAVING_FRACTION", 0.0)
    watch, folder = FailsAtValidation(4), tmp_path / "failed"
    with pytest.raises(TrainingError, match="the test says so"):
        train(plan_for(text, **LEARNS_FAST), folder, options=RunOptions(observers=[watch]))
    first, second, third, fourth = (report.nats_per_token for report in watch.validations)
    assert fourth < second < third < first, "the third one reduces the learning rate"
    assert read_training(folder)["scores"]["nats_per_token"] == fourth
    assert checkpoints_of(folder) == ["step-000000000"]
    return folder


@pytest.mark.slow
def test_a_run_that_failed_is_resumed_exactly(failed: Path, text: Path, tmp_path: Path) -> None:
    """Validations that it makes again count as they did, although better weights are saved."""
    resumed, whole = resume(failed), train(plan_for(text, **LEARNS_FAST), tmp_path / "whole")
    last = "checkpoints/step-000000012/tensors.safetensors"
    assert (whole.folder / last).read_bytes() == (failed / last).read_bytes()
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(resumed.weights()[name], array)
    assert resumed.training["scores"] == whole.training["scores"]
    assert resumed.training["progress"]["best_step"] == whole.training["progress"]["best_step"]


@pytest.mark.slow
def test_what_a_failed_run_has_saved_is_replaced_only_by_better_weights(failed: Path) -> None:
    """Not even if it is stopped and resumed once more."""
    before, weights_before, watch = read_training(failed), load_model(str(failed)).weights(), Watch(3)
    slow = {"learning_rate": 1e-6, "schedule": "constant"}
    stopped = resume(failed, slow, options=RunOptions(observers=[watch]))
    assert not watch.validations[0].improved  # although the checkpoint knows of no better one
    for saved in (stopped, resume(failed, {**slow, "num_validations": 4})):
        assert saved.training["scores"] == before["scores"]
        assert saved.training["progress"]["best_step"] == before["progress"]["best_step"]
        for name, array in weights_before.items():
            np.testing.assert_array_equal(saved.weights()[name], array)
    better = resume(failed, {"learning_rate": 0.03, "steps": 40, "schedule": "constant"})
    assert better.training["scores"]["nats_per_token"] < before["scores"]["nats_per_token"]
    assert better.training["progress"]["best_step"] > 12

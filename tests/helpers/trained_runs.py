"""Runs on songs: their settings, what watches them, and some trained ones that several tests look at."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.system.runtime import load_tensorflow
from textgen.training.observers.observer import Observer, StepReport, ValidationReport
from textgen.training.planning.plan import Hardware, Plan, make_plan
from textgen.training.run import train
from textgen.training.run_setup import RunOptions

TINY: dict[str, Any] = {
    "tokenizer": "char", "hidden_units": 24, "embedding_dim": 16, "num_layers": 1, "batch_size": 4,
    "sequence_length": 16, "steps": 12, "num_validations": 3, "dropout": 0.2, "valid_tokens": 500,
}  # fmt: skip


class Watch(Observer):
    """Keeps all reports, and stops the run at a step if told to."""

    def __init__(self, stop_at: int = 0) -> None:
        super().__init__()
        self.steps: list[StepReport] = []
        self.validations: list[ValidationReport] = []
        self.stop_at = stop_at

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)
        if report.step == self.stop_at:
            self.stop_reason = "the test says so"

    def on_validation(self, report: ValidationReport) -> None:
        self.validations.append(report)


class Snapshot(Watch):
    """Copies the folder of a run as it is after a step: what is left of one that is killed then."""

    def __init__(self, step: int, folder: Path, copy: Path) -> None:
        super().__init__()
        self._step, self._folder, self._copy = step, folder, copy

    def on_step(self, report: StepReport) -> None:
        super().on_step(report)
        if report.step == self._step + 1:  # only now its checkpoint is written
            shutil.copytree(self._folder, self._copy)


@pytest.fixture(autouse=True)
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    load_tensorflow()
    save_at_validations(monkeypatch)


def save_at_validations(patch: pytest.MonkeyPatch) -> None:
    """Each validation is followed by a save, although the runs of tests are too short for that."""
    patch.setattr("textgen.training.checkpoints.SAVING_FRACTION", 1e9)


def write_songs(path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = ["moon", "river", "the", "old", "fox", "sang", "a", "slow", "song", "of", "rain", "and"]
    lines = [" ".join(rng.choice(words, 6)) for _ in range(120)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_songs(tmp_path / "songs.txt")


def plan_for(text: Path, **settings: Any) -> Plan:
    corpus = Corpus([text], CorpusConfig(documents="line"))
    return make_plan(corpus, {**TINY, **settings}, hardware=Hardware(flops=1e11))


@dataclass(frozen=True)
class Run:
    """A run that several tests look at. They leave its folder and its text as they are."""

    text: Path
    settings: dict[str, Any]
    saved: ModelFolder
    watch: Watch
    cache: Path

    def plan(self) -> Plan:
        return plan_for(self.text, **self.settings)

    def copy(self, folder: Path, patch: pytest.MonkeyPatch) -> Path:
        """A copy of its folder that a test may change, with a copy of its cache. Gives the copied folder."""
        patch.setenv("TEXTGEN_CACHE", str(shutil.copytree(self.cache, folder / "cache", dirs_exist_ok=True)))
        return Path(shutil.copytree(self.saved.folder, folder / "songs"))


def run_with(tmp_path_factory: pytest.TempPathFactory, name: str, **settings: Any) -> Run:
    """Trains with a cache of its own, once for all processes in which tests run."""
    load_tensorflow()
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"run-{name}"
    settings = {"num_layers": 2, **settings}
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if not (folder / "watch").exists():
            folder.mkdir(exist_ok=True)
            patch.setenv("TEXTGEN_CACHE", str(folder / "cache"))
            patch.setattr("textgen.training.observers.tensorboard.UPDATES_FRACTION", 1e9)
            patch.setattr("textgen.training.observers.tensorboard.LOOKS_FRACTION", 1e9)
            save_at_validations(patch)
            songs, watch = write_songs(folder / "songs.txt"), Watch()
            train(plan_for(songs, **settings), folder / name, options=RunOptions(observers=[watch]))
            (folder / "watch").write_bytes(pickle.dumps(watch))
    watch = pickle.loads((folder / "watch").read_bytes())
    return Run(folder / "songs.txt", settings, load_model(str(folder / name)), watch, folder / "cache")


@pytest.fixture(scope="module")
def base_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Long enough to learn the songs, without noise."""
    silent = {"dropout": 0.0, "embedding_dropout": 0.0}
    return run_with(tmp_path_factory, "base", steps=150, learning_rate=0.03, **silent)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With dropout on, over the edges of epochs, and with everything that TensorBoard shows."""
    settings = {"steps": 60, "num_validations": 6, "batch_size": 8, "dropout": 0.3}
    return run_with(tmp_path_factory, "whole", **settings)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two validations in twelve steps."""
    return run_with(tmp_path_factory, "short", num_validations=2, patience=None)


def weights(saved: ModelFolder) -> dict[str, np.ndarray]:
    return saved.weights()


def checkpoints_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))

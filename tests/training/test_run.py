"""Training runs from start to end: saved, stopped, resumed, fine-tuned, failed."""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from disk import unreadable
from events import curves
from filelock import FileLock
from processes import child_process
from safetensors.numpy import load_file

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.word_filter import count_words
from textgen.errors import (
    ConfigError,
    CorpusError,
    Interrupted,
    SavedModelError,
    TextgenError,
    TokenizerError,
    TrainingError,
    Unreadable,
)
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.model.compiled_model import CompiledModel
from textgen.model.config import CELLS
from textgen.model.language_model import LanguageModel
from textgen.saved_model.layout import NGRAMS, WORDS, read_training
from textgen.saved_model.saved_model import ModelFolder, load_model
from textgen.saved_model.saving import write_training
from textgen.settings import to_dict
from textgen.storage.files import CannotWrite
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST
from textgen.system.runtime import load_tensorflow
from textgen.training import run
from textgen.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from textgen.training.loss_health import Health
from textgen.training.loss_scale import LossScale
from textgen.training.observers.observer import Observer, StepReport, ValidationReport
from textgen.training.planning.plan import Hardware, Plan, Sources, make_plan
from textgen.training.run import join, resume, train
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


def test_a_run_learns_and_leaves_everything_that_the_design_names(base_run: Run) -> None:
    saved, watch = base_run.saved, base_run.watch
    assert watch.steps[-1].nats_per_token < 0.8 * watch.steps[0].nats_per_token
    assert [report.step for report in watch.steps] == list(range(1, 151))
    for name in ("config.json", "tokenizer.model", "model.safetensors", "MANIFEST.json", "training.json", "README.md"):
        assert (saved.folder / name).stat().st_size
    assert list((saved.folder / "logs").glob("events*"))
    assert list((saved.folder / "checkpoints").glob("step-*"))
    assert saved.training["status"].startswith("finished")
    assert saved.training["scores"]["tokens"] == saved.training["tokens"]["valid"]
    assert watch.validations[-1].sample
    ids = TokenStream(Path(saved.training["tokens"]["folder"]), "train").read(0, saved.training["tokens"]["train"])
    assert saved.ngrams().novelty_of_ids(ids, saved.tokenizer).copied_fraction == 1.0
    documents = np.split(ids, np.flatnonzero(ids == saved.tokenizer.eos_id))
    counts = count_words([f"{saved.tokenizer.decode(document.tolist())}\n" for document in documents])
    words = saved.words()
    assert words
    assert counts
    assert words.knows(list(counts)).all()


def test_the_starting_loss_is_that_of_the_unigram_distribution(base_run: Run) -> None:
    counts = TokenStream(Path(base_run.saved.training["tokens"]["folder"]), "train").counts
    shares = counts[counts > 0] / counts.sum()
    entropy = -float((shares * np.log(shares)).sum())
    assert base_run.watch.steps[0].nats_per_token == pytest.approx(entropy, abs=0.15)


def test_another_seed_trains_other_weights(short_run: Run, tmp_path: Path) -> None:
    """That the same one trains the same weights, the runs that are stopped or killed and resumed show."""
    other = weights(train(plan_for(short_run.text, **short_run.settings, seed=1), tmp_path / "other"))
    for name, array in weights(short_run.saved).items():
        assert not np.array_equal(array, other[name]), name


@pytest.fixture
def two_alphabets(tmp_path: Path) -> Path:
    """Documents labelled low, of the letters a to e, and high, of v to z; a few are without a label."""
    rng = np.random.default_rng(0)
    path = tmp_path / "alphabets.csv"
    rows = ["by,text"]
    for number in range(160):
        label, letters = (("low", "abcde"), ("high", "vwxyz"))[number % 2]
        rows.append(f"{label if number % 15 else ''},{''.join(rng.choice(list(letters), 30))}")
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_labels_say_what_is_written_also_by_a_run_that_was_resumed(two_alphabets: Path, tmp_path: Path) -> None:
    settings = {**TINY, "tokenizer": "byte", "learning_rate": 0.03, "steps": 150, "patience": None}
    plan = make_plan(Corpus([two_alphabets], CorpusConfig(labels="by")), settings, hardware=Hardware(flops=1e11))
    assert set(plan.facts.labels) == {"low", "high"}
    train(plan, tmp_path / "model", options=RunOptions(observers=[Watch(70)]))
    saved = resume(tmp_path / "model")
    assert saved.tokenizer.labels == plan.facts.labels
    assert saved.training["labels"] == list(plan.facts.labels)
    assert f"| labels | {', '.join(plan.facts.labels)} |" in (saved.folder / "README.md").read_text(encoding="utf-8")
    generator = Generator(saved.numpy_model(), saved.tokenizer)
    for label, letters in (("low", "abcde"), ("high", "vwxyz")):
        texts = generator.generate("", SamplingConfig(label=label, seed=1, max_tokens=8), num=20)
        found = [character in letters for text in texts for character in text.text]
        assert len(found) > 100
        assert sum(found) > 0.95 * len(found)
    unlabelled = "".join(text.text for text in generator.generate("", SamplingConfig(seed=1, max_tokens=8), num=40))
    assert all(set(letters) & set(unlabelled) for letters in ("abcde", "vwxyz"))


@pytest.mark.slow
def test_fine_tuning_keeps_labels_and_takes_on_more(two_alphabets: Path, tmp_path: Path) -> None:
    settings = {**TINY, "steps": 3}
    first = train(
        make_plan(Corpus([two_alphabets], CorpusConfig(labels="by")), settings, hardware=Hardware(flops=1e11)),
        tmp_path / "first",
    )
    other = two_alphabets.with_name("other.csv")
    other.write_text(two_alphabets.read_text().replace("high,", "new,"), encoding="utf-8")
    corpus = Corpus([other], CorpusConfig(labels="by"))
    said: list[str] = []
    tuned = train(
        make_plan(
            corpus,
            {"batch_size": 4, "sequence_length": 16, "steps": 1, "learning_rate": 0.0},
            sources=Sources(start=first),
            hardware=Hardware(flops=1e11),
        ),
        tmp_path / "tuned",
        options=RunOptions(say=said.append),
    )
    assert "Labels that first does not know: new." in said
    assert tuned.tokenizer.labels == (*first.tokenizer.labels, "new")
    size = first.tokenizer.vocab_size
    for name, array in tuned.weights().items():
        before = first.weights()[name]
        kept = array[:size] if len(array) > len(before) else array
        np.testing.assert_array_equal(kept, before)
    assert tuned.ngrams().novelty(next(corpus.documents()), tuned.tokenizer).longest_copy
    Generator(tuned.numpy_model(), tuned.tokenizer).generate("", SamplingConfig(label="new", max_tokens=2))


NOISES: dict[str, Any] = {
    "dropout": 0.2, "embedding_dropout": 0.1, "word_dropout": 0.1, "weight_drop": 0.3, "random_bptt": 0.05,
}  # fmt: skip


@pytest.mark.slow
def test_a_run_with_sampled_segmentation_is_resumed_exactly(text: Path, tmp_path: Path) -> None:
    """In a later epoch, whose text is as long but has another number of pieces."""
    own = {"tokenizer": "unigram", "subword_alpha": 0.2, "steps": 40, "sequence_length": 32}
    plan = plan_for(text, num_validations=2, patience=None, weight_averaging="none", **own)
    watch = Watch()
    saved = train(plan, tmp_path / "whole", options=RunOptions(observers=[watch]))
    assert watch.steps[29].epochs > 1
    train(plan, tmp_path / "parts", options=RunOptions(observers=[Watch(30)]))
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000040/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    assert saved.training["scores"]["tokens"] == saved.training["tokens"]["valid"]  # in the likeliest pieces


def test_vocabularies_with_one_way_to_cut_are_refused(text: Path) -> None:
    with pytest.raises(ConfigError, match=r"subword_alpha needs .*: char has one way"):
        plan_for(text, subword_alpha=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("two_shards")
def test_a_run_with_all_noises_is_resumed_exactly(text: Path, tmp_path: Path) -> None:
    """Before its first short window, in shards whose noise differs, and with an average of the weights.

    It is also before the run goes on from a sampled to the full softmax, of which validations are from the beginning.
    """
    others = {"weight_averaging": "ema", "ema_decay": 0.8, "sampled_softmax": 5, "full_softmax_fraction": 0.25}
    often = {"num_validations": 2, "checkpoint_minutes": 0.0}
    plan = plan_for(text, patience=None, schedule="constant", **often, **NOISES, **others)
    watch = Snapshot(4, tmp_path / "whole", tmp_path / "parts")
    train(plan, tmp_path / "whole", options=RunOptions(observers=[watch]))
    rates = [report.learning_rate for report in watch.steps]
    assert [number for number in range(1, 12) if rates[number] < rates[number - 1]] == [4]
    full = [report.learning_rate / report.window_fraction for report in watch.steps]
    assert full[4:] == pytest.approx([plan.training_config.learning_rate] * 8)
    assert newest_checkpoint(tmp_path / "parts" / "checkpoints")[0].position["step"] == 4
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000012/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()


@pytest.mark.parametrize("stop_at", [1, *(pytest.param(step, marks=pytest.mark.slow) for step in (5, 12))])
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(short_run: Run, tmp_path: Path, stop_at: int) -> None:
    train(short_run.plan(), tmp_path / "parts", options=RunOptions(observers=[Watch(stop_at)]))
    rest = Watch()
    resume(tmp_path / "parts", options=RunOptions(observers=[rest]))
    assert [r.nats_per_token for r in rest.steps] == [r.nats_per_token for r in short_run.watch.steps[stop_at:]]
    last = f"step-{12:09d}/tensors.safetensors"
    folders = short_run.saved.folder, tmp_path / "parts"
    checkpoints = [(folder / "checkpoints" / last).read_bytes() for folder in folders]
    assert checkpoints[0] == checkpoints[1]
    names = "step", "epochs", "nats_per_token", "bits_per_byte"
    history = [{name: getattr(report, name) for name in names} for report in short_run.watch.validations]
    stopped = [scores for scores in read_training(folders[1])["history"] if scores["step"] != stop_at]
    assert read_training(folders[0])["history"] == history
    assert stopped == [scores for scores in history if scores["step"] != stop_at]
    indices = [(folder / NGRAMS).read_bytes() for folder in folders]
    assert indices[0] == indices[1]


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_run_that_reads_backward_is_resumed_exactly_and_writes_samples(
    text: Path, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fine-tuning goes on in the same direction. Windows of both are no longer: they learn at the same rate."""
    settings = {
        "num_validations": 2,
        "checkpoint_minutes": 0.0,
        "patience": None,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "learning_rate": 0.01,
    }
    sampling = SamplingConfig(max_tokens=20, min_tokens=10, seed=0)
    monkeypatch.setattr("textgen.training.run.SAMPLE", sampling)
    plan = plan_for(text, direction=direction, **settings)
    watch = Snapshot(4, tmp_path / "whole", tmp_path / "parts")
    whole = train(plan, tmp_path / "whole", options=RunOptions(observers=[watch]))
    assert newest_checkpoint(tmp_path / "parts" / "checkpoints")[0].position["step"] == 4
    resume(tmp_path / "parts")
    last = f"checkpoints/step-{12:09d}/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    assert {report.learning_rate for report in watch.steps} == {0.01}
    if direction == "backward":
        expected = Infiller(whole.numpy_model("backward"), whole.tokenizer).infill(config=sampling)[0].text
    else:
        expected = Generator(whole.numpy_model(), whole.tokenizer).generate("", sampling)[0].text
    assert [report.sample for report in watch.validations if report.improved][-1] == expected != ""
    assert whole.model_config.direction == direction
    scores = whole.training["scores"]
    assert ("backward_nats_per_token" in scores) == (direction == "both")
    words = {"backward": "of 24 units, backward", "both": "of 24 units in each direction"}
    assert words[direction] in (whole.folder / "README.md").read_text(encoding="utf-8")
    fine = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")} | {"steps": 1}
    tuned = make_plan(
        Corpus([text], CorpusConfig(documents="line")),
        fine,
        sources=Sources(start=whole),
        hardware=Hardware(flops=1e11),
    )
    assert tuned.model_config.direction == direction


def test_resuming_a_run_that_has_no_index_of_n_grams_or_words_makes_them(
    short_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_model(str(short_run.copy(tmp_path, monkeypatch)))
    expected = [(whole.folder / name).read_bytes() for name in (NGRAMS, WORDS)]
    manifest = json.loads((whole.folder / MANIFEST).read_bytes())
    for name in (NGRAMS, WORDS):
        del manifest["files"][name]
        (whole.folder / name).unlink()
    (whole.folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    without = load_model(str(whole.folder))
    assert not without.has_ngrams
    assert without.words() is None
    resumed = resume(whole.folder)
    assert resumed.has_ngrams
    assert resumed.words()
    assert [(resumed.folder / name).read_bytes() for name in (NGRAMS, WORDS)] == expected


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


def checkpoints_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


def test_a_process_that_cannot_read_the_checkpoint_does_not_begin_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "read_run", lambda *given: None)
    save_checkpoint(tmp_path / "checkpoints", 5, Checkpoint({"w": np.zeros(1, "float32")}, {"step": 5}))
    with unreadable(tmp_path / "checkpoints"), pytest.raises(Unreadable, match="Input/output error"):
        join(tmp_path, RunOptions())


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
    "learning_rate": 0.15, "warmup_fraction": 0.0, "schedule": "plateau", "plateau_patience": 0, "decay_factor": 0.7,
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


def test_the_scores_of_a_stopped_run_are_those_of_the_weights_that_it_saved(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose last validation, here the second, was not its best."""
    from textgen.evaluation.evaluator import Evaluator

    score, nats = Evaluator.scores, itertools.count(3.0)
    monkeypatch.setattr(Evaluator, "scores", lambda *arguments: replace(score(*arguments), nats_per_token=next(nats)))

    class Stops(Watch):
        def on_step(self, report: StepReport) -> None:
            if report.step == 10:
                signal.raise_signal(signal.SIGINT)

    watch = Stops()
    with pytest.raises(Interrupted):
        train(plan_for(text, patience=None), tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert [(report.step, report.nats_per_token) for report in watch.validations] == [(4, 3.0), (8, 4.0)]
    training, (checkpoint, _) = read_training(tmp_path / "songs"), newest_checkpoint(tmp_path / "songs" / "checkpoints")
    assert training["progress"]["best_step"] == 4
    assert training["scores"]["nats_per_token"] == checkpoint.position["best_nats_per_token"] == 3.0


def test_a_run_that_is_stopped_twice_before_its_first_validation_saves_the_weights_of_the_second_time(
    text: Path, tmp_path: Path
) -> None:
    class Stops(Observer):
        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

        def on_step(self, report: StepReport) -> None:
            if report.step == self.step:
                signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "songs"
    with pytest.raises(Interrupted):
        train(plan_for(text, num_validations=1), folder, options=RunOptions(observers=[Stops(3)]))
    first = load_model(str(folder)).weights()
    with pytest.raises(Interrupted, match="everything is saved"):
        resume(folder, options=RunOptions(observers=[Stops(6)]))
    saved, (checkpoint, _) = load_model(str(folder)), newest_checkpoint(folder / "checkpoints")
    assert saved.training["progress"]["step"] == checkpoint.position["step"] == 6
    assert any(not np.array_equal(array, first[name]) for name, array in saved.weights().items())
    for name, array in saved.weights().items():
        np.testing.assert_array_equal(array, checkpoint.tensors[f"weights/{name}"])


def test_a_script_without_spaces_is_learned_and_its_model_loaded(tmp_path: Path) -> None:
    """It has no words, so neither the scores nor the card tell of any."""
    rng = np.random.default_rng(0)
    text = tmp_path / "prose.txt"
    text.write_text("\n".join("".join(rng.choice([*"天地玄黃宇宙洪荒"], 8000)) for _ in range(4)), encoding="utf-8")
    saved = load_model(str(train(plan_for(text, tokenizer="char"), tmp_path / "prose").folder))
    assert saved.training["scores"].keys().isdisjoint({"words", "perplexity_per_word"})
    assert "per word" not in (saved.folder / "README.md").read_text(encoding="utf-8")
    assert "Infinity" not in (saved.folder / "training.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("valid_tokens", "final"),
    [
        (64, 192),
        pytest.param(256, 256, marks=pytest.mark.slow),
        pytest.param(10_000, None, marks=pytest.mark.slow),
    ],
    ids=["part", "more", "all"],
)
def test_the_final_scores_are_those_of_the_best_weights_on_the_held_out_text(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid_tokens: int, final: int | None
) -> None:
    """Whether the last validation has scored all of it, or a part."""
    from textgen.dataset.token_cache import encode_and_split
    from textgen.evaluation.evaluator import Evaluator

    trained = TINY["steps"] * TINY["batch_size"] * TINY["sequence_length"]
    monkeypatch.setattr("textgen.training.run.LEAST_FINAL_TOKENS", 60)
    monkeypatch.setattr("textgen.training.run.FINAL_FRACTION", 0.25)
    monkeypatch.setattr("textgen.training.run.FINAL_TOKENS", trained // 4)
    assert trained // 4 == 192
    saved = train(plan_for(text, valid_tokens=valid_tokens, precision="float32"), tmp_path / "songs")
    data = encode_and_split(Corpus([text], CorpusConfig(documents="line")), saved.tokenizer)
    own = Evaluator(saved.network(), token_bytes=saved.tokenizer.token_bytes).scores(data.valid, final)
    assert saved.training["scores"]["tokens"] == own.tokens == pytest.approx(final or len(data.valid), rel=0.03)
    assert saved.training["scores"]["nats_per_token"] == pytest.approx(own.nats_per_token, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 32, "num_validations": 8, "patience": None}, [0, 12, 24, 32]),
        pytest.param({"steps": 64, "num_validations": 1}, [0, 30, 60, 64], marks=pytest.mark.slow),
    ],
    ids=["as often as they pay", "as checkpoints"],
)
def test_saves_at_validations_take_a_small_share_of_the_time(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: list[int]
) -> None:
    """The clock is the test's: a step takes 1 s and a save 0.5 s, so one is worth it after 10 s."""
    from textgen.training import trainer

    now = 0.0

    def taking(seconds: float, function: Any) -> Any:
        def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return slow

    saves = list[int]()

    def noted(folder: Path, step: int, *arguments: Any, **options: Any) -> None:
        saves.append(step)
        save_checkpoint(folder, step, *arguments, **options)

    monkeypatch.setattr("textgen.training.checkpoints.SAVING_FRACTION", 0.05)
    monkeypatch.setattr("textgen.training.trainer.time.perf_counter", lambda: now)
    monkeypatch.setattr("textgen.training.trainer.save_checkpoint", taking(0.5, noted))
    monkeypatch.setattr(trainer.Trainer, "_step", taking(1.0, trainer.Trainer._step))
    train(plan_for(text, checkpoint_minutes=0.5, **settings), tmp_path / "songs")
    assert saves == expected


@pytest.mark.parametrize(
    ("minutes", "given", "later", "expected"),
    [(0.5, {}, 60.0, 12), (0.5, {"num_validations": 4}, 60.0, 4), (60.0, {}, 0.5, 12), (0.5, {}, None, 3)],
)
def test_a_run_that_is_made_longer_gets_more_validations(
    minutes: float, given: dict[str, Any], later: float | None, expected: int
) -> None:
    from textgen.training.config import TrainingConfig
    from textgen.training.planning.validations import plan_patience, validations_in
    from textgen.training.resumption import _changed_training

    values = {"num_validations": validations_in(60 * minutes), **given}
    recorded = to_dict(TrainingConfig(minutes=minutes, patience=plan_patience(values["num_validations"]), **values))
    record = {"training": recorded, "is_patience_planned": True}  # of a version that recorded no more
    changed = _changed_training(record, {"steps": 500} if later is None else {"minutes": later})
    assert changed.num_validations == expected
    assert changed.patience == max(5, expected // 2)


@pytest.mark.parametrize(
    ("step", "seconds", "later", "expected"),
    [
        (60, 20.0, {"minutes": 60.0}, 12),
        (60, 20.0, {"minutes": 600.0}, 120),
        (60, 20.0, {"minutes": 0.1}, 3),
        (60, 20.0, {"epochs": 400.0}, 10),
        (60, 20.0, {"epochs": 8.0}, 4),
        (60, 20.0, {"steps": 400}, 10),
        (60, 120.0, {"steps": 6000}, 40),
        (60, 20.0, {"epochs": 6.0, "minutes": 600.0}, 4),
        (0, 0.0, {"epochs": 400.0}, 10),
        (0, 0.0, {"minutes": 60.0}, 12),
        (0, 0.0, {"steps": 6000}, 3),
        (60, 20.0, {"epochs": 400.0, "num_validations": 2}, 2),
        (60, 20.0, {"weight_decay": 0.5}, 3),
    ],
    ids=str,
)
def test_a_planned_number_of_validations_grows_with_any_budget(
    text: Path, step: int, seconds: float, later: dict[str, Any], expected: int
) -> None:
    """Of a run of three passes with three validations."""
    from textgen.training.resumption import _changed_training, _still_planned

    training = to_dict(plan_for(text, steps=None, epochs=3.0).training_config)
    progress = {"step": step, "epochs": step / 20, "seconds": seconds}
    record = {"training": training, "progress": progress, "are_validations_planned": True}
    record |= _still_planned(record, later)
    assert _changed_training(record, later).num_validations == expected
    given = record | {"are_validations_planned": False}
    assert _changed_training(given, later).num_validations == later.get("num_validations", 3)


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


OF_CELL: dict[str, dict[str, Any]] = {
    "gru": {"reset_after": False},
    "rnn": {"activation": "relu"},
    "mogrifier": {"mogrifier_rank": 3},
}
COMBINATIONS: list[dict[str, Any]] = [
    {"cell": cell, **options}
    for cell in CELLS
    for options in (
        {"num_layers": 1, "embedding_dim": 24, "residual": True},
        {
            "num_layers": 2,
            "tie_embeddings": False,
            "layer_norm": True,
            "residual": True,
            "dropout": 0.0,
            "attention": 20,
        },
        {"num_layers": 2, "embedding_dropout": 0.3, **OF_CELL.get(cell, {})},
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda settings: ", ".join(map(str, settings.values())))
def test_every_cell_trains_resumes_saves_and_writes(text: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    plan = plan_for(text, steps=6, num_validations=2, patience=None, **settings)
    snapshot = Snapshot(3, tmp_path / "whole", tmp_path / "parts")
    saved = train(plan, tmp_path / "whole", options=RunOptions(observers=[snapshot]))
    assert newest_checkpoint(tmp_path / "parts" / "checkpoints")[0].position["step"] == 3
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000006/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    assert any(
        name.startswith(f"{settings['cell']}_0/") for name in load_file(tmp_path / "whole" / "model.safetensors")
    )
    sampling = SamplingConfig(max_tokens=20, seed=3)
    texts = [
        Generator(writer, saved.tokenizer).generate(["the", "a slow"], sampling)
        for writer in (saved.numpy_model(), CompiledModel(saved.network()))
    ]
    assert texts[0] == texts[1]
    assert CELLS[settings["cell"]] in (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_resuming_can_lengthen_a_run_and_needs_no_corpus_while_tokens_are_cached(text: Path, tmp_path: Path) -> None:
    train(plan_for(text), tmp_path / "songs")
    text.unlink()
    watch = Watch()
    saved = resume(tmp_path / "songs", {"steps": 20}, options=RunOptions(observers=[watch]))
    assert [report.step for report in watch.steps] == list(range(13, 21))
    assert [report.step for report in watch.validations] == [14, 20], "as often as in a run of 20 from the beginning"
    assert saved.training["progress"]["step"] == 20


def test_a_resumption_that_cannot_be_leaves_the_run_as_it_was(
    short_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other settings than those that the position in the text or the checkpoint depends on; another process."""
    new = tmp_path / "new"
    new.mkdir()
    with locked(new), pytest.raises(TextgenError, match="Another process is writing to"):
        train(short_run.plan(), new)
    folder = short_run.copy(tmp_path, monkeypatch)
    before = read_training(folder)
    with locked(folder), pytest.raises(TextgenError, match="Another process is writing to"):
        resume(folder, {"steps": 13})
    for name, value in {"sequence_length": 8, "seed": 1, "random_bptt": 0.5, "subword_alpha": 0.1}.items():
        with pytest.raises(ConfigError, match=f"{name} was fixed when the run began"):
            resume(folder, {"steps": 13, name: value})
    newest = newest_checkpoint(folder / "checkpoints")[0]
    newest.tensors["state/000"] = newest.tensors["state/000"][:2]  # that of a smaller batch
    save_checkpoint(folder / "checkpoints", 12, newest)
    with pytest.raises(TrainingError, match="does not fit the model and batch size"):
        resume(folder, {"steps": 13})
    assert read_training(folder) == before


def test_a_card_that_cannot_be_written_leaves_the_settings_of_the_run_as_they_were(
    short_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_run.copy(tmp_path, monkeypatch)
    before = read_training(folder)

    def no_room(*arguments: Any) -> str:
        raise CannotWrite(folder / "README.md", "no room", "Make room.")

    monkeypatch.setattr("textgen.saved_model.saving.card_file", no_room)
    with pytest.raises(CannotWrite, match="no room"):
        resume(folder, {"steps": 14})
    assert read_training(folder) == before


def test_what_a_run_is_resumed_with_is_written_down_before_its_first_step(
    short_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder, records = short_run.plan(), short_run.copy(tmp_path, monkeypatch), []

    class Look(Observer):
        def on_step(self, report: StepReport) -> None:
            records.append(json.loads((folder / "training.json").read_text(encoding="utf-8")))

    same = {name: getattr(plan.training_config, name) for name in ("sequence_length", "seed", "random_bptt")}
    resume(folder, {"steps": 14, **same}, options=RunOptions(observers=[Look()]))
    assert [(record["status"], record["training"]["steps"]) for record in records] == [("running", 14)] * 2


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


def test_resuming_on_tokens_of_another_version_is_refused(
    short_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_run.copy(tmp_path, monkeypatch)
    record = read_training(folder)
    shutil.rmtree(tmp_path / "cache" / "tokens")
    record["tokens"]["train"] -= 1  # it lacked the end of the document
    write_training(folder, record)
    with pytest.raises(TrainingError, match="encodes or splits the corpus differently"):
        resume(folder, {"steps": 30})


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="no training to resume"):
        resume(tmp_path / "nothing")


@pytest.mark.slow
def test_a_run_begins_with_the_weights_that_were_asked_for(text: Path, tmp_path: Path) -> None:
    same = {"steps": 2, "learning_rate": 0.0, "num_layers": 2}
    asked = {"forget_bias": -1.0, "recurrent_initializer": "glorot", "carry_state": False}
    saved = train(plan_for(text, **same, **asked), tmp_path / "songs")
    usual = train(plan_for(text, **same), tmp_path / "usual")
    ours, theirs = saved.weights(), usual.weights()
    assert {name for name in ours if not np.array_equal(ours[name], theirs[name])} == {
        f"lstm_{layer}/{part}" for layer in (0, 1) for part in ("recurrent_kernel", "bias")
    }
    units = TINY["hidden_units"]
    np.testing.assert_array_equal(ours["lstm_1/bias"], np.repeat([0.0, -1.0, 0.0, 0.0], units))
    with pytest.raises(ConfigError, match=r"forget_bias was fixed when the run began, as -1\.0"):
        resume(saved.folder, {"steps": 4, "forget_bias": 1.0})


def test_a_model_is_never_overwritten(short_run: Run) -> None:
    before = (short_run.saved.folder / MANIFEST).read_bytes()
    with pytest.raises(TrainingError, match="already holds a model"):
        train(short_run.plan(), short_run.saved.folder)
    assert (short_run.saved.folder / MANIFEST).read_bytes() == before


def test_fine_tuning_starts_from_the_model_and_leaves_it_alone(base_run: Run, text: Path, tmp_path: Path) -> None:
    base = base_run.saved
    before = (base.folder / "model.safetensors").read_bytes()
    other = tmp_path / "other.txt"
    lines = text.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(" ".join(sorted(line.split())) for line in lines), encoding="utf-8")
    corpus = Corpus([other], CorpusConfig(documents="line"))
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")} | {"steps": 3}
    plan = make_plan(corpus, settings, sources=Sources(start=base), hardware=Hardware(flops=1e11))
    watch = Snapshot(0, tmp_path / "tuned", tmp_path / "killed")
    tuned = train(plan, tmp_path / "tuned", options=RunOptions(observers=[watch]))
    assert watch.steps[0].nats_per_token < 2.3  # a fresh model starts at about 2.7
    assert tuned.tokenizer.fingerprint() == base.tokenizer.fingerprint()
    assert tuned.training["start"]["name"] == "base"
    assert (base.folder / "model.safetensors").read_bytes() == before
    for trained in (base, tuned):
        ids = TokenStream(Path(trained.training["tokens"]["folder"]), "train").read(0, 1000)
        assert tuned.ngrams().novelty_of_ids(ids, tuned.tokenizer).copied_fraction == 1.0
    share = base.ngrams().novelty_of_ids(ids, base.tokenizer).copied_fraction
    assert share is not None
    assert share < 0.5
    resumed = resume(tmp_path / "killed")
    for name in (NGRAMS, WORDS):
        assert (resumed.folder / name).read_bytes() == (tuned.folder / name).read_bytes()
    assert len((tuned.folder / WORDS).read_bytes()) > len((base.folder / WORDS).read_bytes())
    for name, value in (("hidden_units", 8), ("forget_bias", 0.0)):
        with pytest.raises(ConfigError, match=f"{name} cannot be set when fine-tuning"):
            make_plan(corpus, {name: value}, sources=Sources(start=base), hardware=Hardware(flops=1e11))


def test_fine_tuning_with_another_vocabulary_carries_over_what_both_know(
    base_run: Run, text: Path, tmp_path: Path
) -> None:
    base = base_run.saved
    before = {path: path.read_bytes() for path in base.folder.rglob("*") if path.is_file()}
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8").replace("moon", "Möön"), encoding="utf-8")
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")} | {"steps": 3}
    corpus, said, watch = Corpus([other], CorpusConfig(documents="line")), list[str](), Watch()
    plan = make_plan(
        corpus, settings | {"tokenizer": "char"}, sources=Sources(start=base), hardware=Hardware(flops=1e11)
    )
    tuned = train(plan, tmp_path / "tuned", options=RunOptions(observers=[watch], say=said.append))
    size, known = tuned.tokenizer.vocab_size, len({*base.tokenizer.pieces()} & {*tuned.tokenizer.pieces()})
    assert {*tuned.tokenizer.pieces()} - {*base.tokenizer.pieces()} == {"M", "ö"}
    assert f"{known:,} of {size:,} tokens are known to base; 0 begin as the mean of the tokens that spell them." in said
    assert watch.steps[0].nats_per_token < 2.6  # a fresh model starts at about 2.8
    assert {path: path.read_bytes() for path in base.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_frozen_layers_stay_as_they_are(base_run: Run, text: Path, tmp_path: Path, optimizer: str) -> None:
    frozen, base = ["embedding", "lstm_0"], base_run.saved
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 5, "freeze_layers": frozen, "optimizer": optimizer}
    tuned = train(
        make_plan(Corpus([text], CorpusConfig(documents="line")), settings, sources=Sources(start=base)),
        tmp_path / "tuned",
    )
    resumed = resume(tuned.folder, {"steps": 8})
    for name, array in base.weights().items():
        assert np.array_equal(resumed.weights()[name], array) == (name.split("/")[0] in frozen), name


@pytest.mark.slow
def test_decay_towards_the_base_is_resumed_exactly_also_without_the_base(
    base_run: Run, text: Path, tmp_path: Path
) -> None:
    base = load_model(str(shutil.copytree(base_run.saved.folder, tmp_path / "base")))
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 6, "decay_target": "start", "weight_decay": 30.0, "layer_learning_rate_decay": 0.5}
    settings |= {"weight_averaging": "ema", "freeze_layers": ["lstm_1"]}
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), settings, sources=Sources(start=base))
    train(plan, tmp_path / "whole")
    train(plan, tmp_path / "parts", options=RunOptions(observers=[Watch(3)]))
    first = base.weights()
    shutil.rmtree(base.folder)
    with pytest.raises(ConfigError, match="decay_target was fixed when the run began, as start"):
        resume(tmp_path / "parts", {"decay_target": "zero"})
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000006/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    kept = load_file(tmp_path / "parts" / last)
    for name, array in first.items():
        np.testing.assert_array_equal(kept[f"start/{name}"], array)


def test_the_weights_of_a_run_are_mixed_with_those_of_its_base_where_that_scores_better(
    base_run: Run, text: Path, tmp_path: Path
) -> None:
    base, corpus = base_run.saved, Corpus([text], CorpusConfig(documents="line"))
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 3, "learning_rate": 0.05, "num_validations": 1, "schedule": "constant"}  # a step too far
    hardware = Hardware(flops=1e11)
    tuned, mix = (
        train(
            make_plan(corpus, settings | {"interpolate_start": wanted}, sources=Sources(start=base), hardware=hardware),
            tmp_path / name,
        )
        for name, wanted in (("tuned", False), ("mix", True))
    )
    fraction = mix.training["start_fraction"]
    assert fraction > 0
    assert mix.training["scores"]["nats_per_token"] < tuned.training["scores"]["nats_per_token"]
    first, best = base.weights(), tuned.weights()
    for name, array in mix.weights().items():
        np.testing.assert_allclose(array, (1 - fraction) * best[name] + fraction * first[name], atol=1e-6)


@pytest.mark.slow
def test_a_mix_with_the_base_is_replaced_only_by_better_weights(base_run: Run, text: Path, tmp_path: Path) -> None:
    base, corpus, folder = base_run.saved, Corpus([text], CorpusConfig(documents="line")), tmp_path / "mix"
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 3, "learning_rate": 0.05, "num_validations": 1, "schedule": "constant"}
    plan = make_plan(corpus, settings | {"interpolate_start": True}, sources=Sources(start=base))
    before, (checkpoint, _) = train(plan, folder).training, newest_checkpoint(folder / "checkpoints")
    watch = Watch()
    longer = {"steps": 9, "num_validations": 3, "learning_rate": 1e-4, "patience": 1}
    after = resume(folder, longer, options=RunOptions(observers=[watch]))
    unmixed, mixed = checkpoint.position["best_nats_per_token"], before["scores"]["nats_per_token"]
    losses = [each.nats_per_token for each in watch.validations]
    assert mixed < losses[1] < losses[0] < unmixed, "patience compares only weights that are not mixed"
    assert not any(each.improved for each in watch.validations)
    assert after.training["progress"]["best_step"] == 3
    assert after.training["scores"]["nats_per_token"] <= mixed
    fraction, first, tuned = after.training["start_fraction"], base.weights(), checkpoint.tensors
    assert fraction >= before["start_fraction"] > 0
    for name, array in after.weights().items():
        np.testing.assert_allclose(array, (1 - fraction) * tuned[f"weights/{name}"] + fraction * first[name], atol=1e-6)
    resumed, _ = newest_checkpoint(folder / "checkpoints")
    for name in first:  # training went on from the unmixed weights
        np.testing.assert_allclose(resumed.tensors[f"weights/{name}"], tuned[f"weights/{name}"], atol=3e-3)


@pytest.mark.parametrize(
    ("later", "step", "weight", "fraction"),
    [(None, 3, 0.48, 0.7), (1.0, 9, 0.5, 0.5), (1.3, 3, 0.48, 0.7)],
    ids=["none", "better", "worse"],
)
def test_the_better_of_two_mixes_is_saved(
    later: float | None, step: int, weight: float, fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is the distance from 0.5, the start is 0, and the saved weight 0.8 is half of the start already."""
    from textgen.training.position import Position
    from textgen.training.validator import Validated

    class Model:
        """A network of one weight."""

        def assign_weights(self, weights: dict[str, np.ndarray]) -> None:
            self.weights = weights

        def weights_as_arrays(self) -> dict[str, np.ndarray]:
            return dict(self.weights)

    saved = list[tuple[float, float, int]]()
    finished: Any = object.__new__(run._Run)
    finished._model = Model()
    finished._model.assign_weights({"a": np.array(0.8)})
    evaluator = SimpleNamespace(nats=lambda *given: (abs(finished._model.weights["a"] - 0.5), 0))
    runner_up = later and Validated(9, 2.0, {"a": np.array(later)})
    position = Position(best_nats_per_token=3.0, best_step=2, kept_nats_per_token=0.3, kept_step=3)
    finished._trainer = SimpleNamespace(
        position=position,
        validator=SimpleNamespace(evaluator=evaluator, runner_up=runner_up),
        tensors=SimpleNamespace(start_weights={"a": np.array(0.0)}),
    )
    config = SimpleNamespace(interpolate_start=True, valid_tokens=5)
    finished._setup = SimpleNamespace(training_config=config, data=SimpleNamespace(valid=None))
    finished._record = {"start_fraction": 0.5}

    def save(self: Any, scores: None, *, start_fraction: float) -> None:
        saved.append((float(self._model.weights["a"]), start_fraction, position.saved_step))

    monkeypatch.setattr(run._Run, "_save", save)
    finished._mix_with_start()
    ((mixed, of_start, of_step),) = saved
    assert mixed == pytest.approx(weight)
    assert of_start == pytest.approx(fraction)
    assert of_step == step


@pytest.mark.parametrize("settings", [{"decay_target": "start"}, {"interpolate_start": True}])
def test_settings_that_need_a_base_are_refused_without_one(text: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}.* needs a model to start from"):
        plan_for(text, **settings)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["lstm_2"], "There is no layer 'lstm_2' to freeze. There are: embedding, lstm_0, lstm_1, projection, head."),
        (["embedding", "lstm_0", "lstm_1", "projection", "head"], "nothing is left to train"),
    ],
)
def test_layers_that_cannot_be_frozen_are_named(text: Path, freeze: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for(text, num_layers=2, freeze_layers=freeze)
    assert message in str(caught.value)


class Poison(Observer):
    """Makes an output of the network infinite after some steps, as a bug or bad memory would."""

    def __init__(self, steps: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._steps = list(steps)
        self._models: list[LanguageModel] = []
        start_bias = LanguageModel.start_bias

        def remember(model: LanguageModel, counts: np.ndarray) -> None:
            self._models.append(model)
            start_bias(model, counts)

        monkeypatch.setattr(LanguageModel, "start_bias", remember)

    def on_step(self, report: StepReport) -> None:
        if self._steps and report.step == self._steps[0]:
            self._steps.pop(0)
            bias = np.array(self._models[-1].head.bias.numpy())
            bias[5] = np.nan
            self._models[-1].head.bias.assign(bias)

    def on_fault(self, line: str) -> None:
        self.lines.append(line)


def test_a_loss_that_is_no_number_takes_the_run_back_to_its_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, watch = Poison([21], monkeypatch), Watch()
    saved = train(
        plan_for(text, steps=40, num_validations=2), tmp_path / "songs", options=RunOptions(observers=[poison, watch])
    )
    assert saved.training["status"].startswith("finished")
    assert (saved.training["progress"]["left_out"], saved.training["progress"]["rollbacks"]) == (5, 1)
    assert all(np.isfinite(array).all() for array in saved.weights().values())
    assert [report.step for report in watch.steps] == [*range(1, 22), *range(21, 41)]
    assert [line.split(":")[0] for line in poison.lines[:4]] == ["Step 22", "Step 23", "Step 24", "Step 25"]
    assert poison.lines[4].startswith("At step 26 the loss or its gradient was not finite 5 times in a row: returned")
    assert "weights of step 20" in poison.lines[4]
    windows = watch.steps[20].epochs, watch.steps[21].epochs
    assert windows[1] - windows[0] == pytest.approx(6 * watch.steps[0].epochs)  # those since are skipped


def test_too_many_faults_end_the_run_and_leave_the_last_good_weights(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison([6, 6, 6], monkeypatch)
    with pytest.raises(
        TrainingError, match=r"At step 8 the weights .*going back to a checkpoint 2 times.*learning_rate"
    ):
        train(plan_for(text, steps=12, max_rollbacks=2), tmp_path / "songs", options=RunOptions(observers=[poison]))
    saved = load_model(str(tmp_path / "songs"))
    assert all(np.isfinite(array).all() for array in saved.weights().values())
    assert saved.training["status"].startswith("failed")
    assert saved.training["progress"]["best_step"] == 4


@pytest.mark.parametrize("is_finite", [True, False])
def test_a_run_that_diverges_before_its_first_validation_leaves_no_model_of_it(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_finite: bool
) -> None:
    poison = Poison([] if is_finite else [3], monkeypatch)
    if is_finite:
        monkeypatch.setattr(Health, "record", lambda health, nats, finite: "the loss was high" * (nats < 9))
    plan = plan_for(text, num_validations=1, steps=20, max_rollbacks=0)
    with pytest.raises(TrainingError, match=r"training stopped\. No weights are kept\. Try a smaller learning_rate"):
        train(plan, tmp_path / "songs", options=RunOptions(observers=[poison]))
    assert read_training(tmp_path / "songs")["status"].startswith("failed: At step ")
    with pytest.raises(SavedModelError, match="has saved no model yet"):
        load_model("songs", tmp_path)


def test_a_run_that_diverges_leaves_the_weights_of_its_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[float]()

    def record(health: Health, nats: float, is_finite: bool) -> str:
        seen.append(nats)
        return "the loss was high" if len(seen) == 4 else ""

    monkeypatch.setattr(Health, "record", record)
    plan = plan_for(text, num_validations=1, max_rollbacks=0, checkpoint_minutes=0.0)
    with pytest.raises(TrainingError, match=r"At step 4 .* The weights of step 3 are kept\."):
        train(plan, tmp_path / "songs")
    saved, (checkpoint, _) = load_model(str(tmp_path / "songs")), newest_checkpoint(tmp_path / "songs" / "checkpoints")
    assert checkpoint.position["step"] == saved.training["progress"]["step"] == 3
    for name, array in weights(saved).items():
        np.testing.assert_array_equal(array, checkpoint.tensors[f"weights/{name}"])


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


def test_a_perplexity_beyond_all_numbers_is_recorded_as_the_largest(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a run that has diverged: no file holds infinity."""
    monkeypatch.setattr("textgen.evaluation.evaluator.perplexity", lambda nats: math.inf)
    saved = train(plan_for(text, steps=1, num_validations=1), tmp_path / "songs")
    assert saved.training["scores"]["perplexity_per_token"] == sys.float_info.max


class Faults(Watch):
    """Keeps what is said of faults, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = list[str]()

    def on_fault(self, line: str) -> None:
        self.lines.append(line)


def test_a_held_out_loss_that_is_no_number_takes_the_run_back_to_its_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although all weights are finite, as where an activation overflows."""
    from textgen.evaluation.evaluator import Evaluator
    from textgen.evaluation.scores import Scores

    score, faults = Evaluator.scores, [math.nan, math.inf, 0.0, 0.0, 0.0]

    def scores(*arguments: Any) -> Scores:
        made = score(*arguments)
        return replace(made, nats_per_token=made.nats_per_token + faults.pop(0))

    monkeypatch.setattr(Evaluator, "scores", scores)
    watch = Faults()
    train(plan_for(text), tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert [line.split(":")[0] for line in watch.lines] == [
        "At step 4 the loss on the held-out text was not finite"
    ] * 2
    assert [report.step for report in watch.validations] == [4, 8, 12]
    training = read_training(tmp_path / "songs")
    assert training["progress"]["rollbacks"] == 2
    assert training["scores"]["nats_per_token"] == min(report.nats_per_token for report in watch.validations)


@pytest.mark.slow
def test_a_second_fault_after_a_checkpoint_takes_the_run_back_to_the_one_before(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No score has shown yet that the weights of the first are good."""
    from textgen.evaluation.evaluator import Evaluator
    from textgen.evaluation.scores import Scores

    score, faults = Evaluator.scores, [0.0, math.nan, math.nan, math.nan, 0.0, 0.0, 0.0]

    def scores(*arguments: Any) -> Scores:
        made = score(*arguments)
        return replace(made, nats_per_token=made.nats_per_token + faults.pop(0))

    monkeypatch.setattr(Evaluator, "scores", scores)
    watch = Faults()
    plan = plan_for(text, checkpoint_minutes=0.0, keep_checkpoints=2)
    train(plan, tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert [line.partition(": ")[2].partition(";")[0] for line in watch.lines] == [
        "returned to the weights of step 7",
        "returned to the weights of step 6",
        "returned to the weights of step 7",  # which was written again
    ]
    assert [report.step for report in watch.validations] == [4, 8, 12]


def test_a_run_whose_budget_is_spent_before_it_has_any_weights_is_not_finished(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textgen.evaluation.evaluator import Evaluator

    score = Evaluator.scores
    monkeypatch.setattr(Evaluator, "scores", lambda *arguments: replace(score(*arguments), nats_per_token=math.nan))
    plan = plan_for(text, steps=None, minutes=0.0005, num_validations=1)
    with pytest.raises(
        TrainingError, match=r"not finite, when the planned length was reached: .* No weights are kept\."
    ):
        train(plan, tmp_path / "songs")
    assert read_training(tmp_path / "songs")["status"].startswith("failed: At step ")
    with pytest.raises(SavedModelError, match="has saved no model yet"):
        load_model("songs", tmp_path)


def test_scores_that_are_no_numbers_are_not_recorded(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the backward network, and of the final evaluation, where those of the best validation stay."""
    from textgen.evaluation.evaluator import Evaluator
    from textgen.evaluation.scores import Scores

    def scores(evaluator: Evaluator, stream: TokenStream, max_tokens: int) -> Scores:
        made = replace(score(evaluator, stream, max_tokens), backward_nats_per_token=math.nan)
        return replace(made, nats_per_token=math.nan) if max_tokens > 64 else made

    score = Evaluator.scores
    monkeypatch.setattr(Evaluator, "scores", scores)
    watch = Watch()
    train(plan_for(text, valid_tokens=64), tmp_path / "songs", options=RunOptions(observers=[watch]))
    recorded = read_training(tmp_path / "songs")["scores"]
    assert recorded["nats_per_token"] == min(report.nats_per_token for report in watch.validations)
    assert "backward_nats_per_token" not in recorded


def test_weights_that_are_not_finite_are_never_saved(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison([8], monkeypatch)  # of 12 steps with 3 validations: just before a checkpoint
    train(plan_for(text), tmp_path / "songs", options=RunOptions(observers=[poison]))
    assert "At step 8 the weights were not finite" in poison.lines[0]
    for file in (tmp_path / "songs" / "checkpoints").glob("*/*.safetensors"):
        assert all(np.isfinite(array).all() for array in load_file(file).values())


@pytest.mark.slow
def test_float16_learns_as_float32_does(text: Path, tmp_path: Path) -> None:
    scores = [
        train(plan_for(text, precision=precision), tmp_path / precision).training["scores"]["nats_per_token"]
        for precision in ("float32", "float16")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)


@pytest.mark.slow
def test_float16_lowers_the_scale_of_its_loss_where_it_overflows_and_counts_no_fault(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**30, 0))
    watch, plan = Watch(), plan_for(text, precision="float16", steps=24, num_validations=2)
    saved = train(plan, tmp_path / "whole", options=RunOptions(observers=[watch]))
    assert saved.training["progress"]["left_out"] == 0
    assert 4 < len(watch.steps) < 20  # the others were left out, and told to nobody
    train(plan, tmp_path / "parts", options=RunOptions(observers=[Watch(20)]))
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000024/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()


def test_early_stopping(text: Path, tmp_path: Path) -> None:
    watch = Watch()
    short = {"steps": 400, "num_validations": 100, "patience": 3}
    plan = plan_for(text, **short, learning_rate=1.0, warmup_fraction=0.0)
    saved = train(plan, tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert "no better score in 3 validations" in saved.training["status"]
    assert watch.steps[-1].step < 400
    best = min(report.nats_per_token for report in watch.validations)
    assert saved.training["progress"]["best_step"] in [r.step for r in watch.validations if r.nats_per_token == best]


@pytest.mark.slow
def test_a_run_that_patience_ended_gets_all_of_it_again_with_new_settings(text: Path, tmp_path: Path) -> None:
    watches = [Watch() for _ in range(3)]
    plan = plan_for(text, steps=40, num_validations=20, patience=2, learning_rate=0.0)
    train(plan, tmp_path / "songs", options=RunOptions(observers=[watches[0]]))
    resume(tmp_path / "songs", options=RunOptions(observers=[watches[1]]))
    resume(tmp_path / "songs", {"weight_decay": 0.1}, options=RunOptions(observers=[watches[2]]))
    assert [len(watch.validations) for watch in watches] == [3, 1, 2]


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


def test_a_budget_in_minutes_is_kept_and_the_schedule_ends_with_it(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the test's: it goes on by 20 ms whenever somebody looks at it."""
    ticks = itertools.count()
    monkeypatch.setattr("textgen.training.trainer.time.perf_counter", lambda: 0.02 * next(ticks))
    watch = Watch()
    plan = plan_for(text, steps=None, minutes=0.05, num_validations=2)
    saved = train(plan, tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert 3.0 <= saved.training["progress"]["seconds"] < 6.0
    assert saved.training["status"].startswith("finished: the limit of 0.05 minutes is reached at epoch ")
    assert watch.steps[-1].learning_rate < 0.2 * plan.training_config.learning_rate


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


def test_the_speed_of_a_step_counts_neither_validations_nor_checkpoints(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the test's: a step takes 1 s, a validation 100 s, and writing a checkpoint 1,000 s."""
    from textgen.training import trainer, validator

    now = 0.0

    def taking(seconds: float, function: Any) -> Any:
        def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr("textgen.training.trainer.time.perf_counter", lambda: now)
    monkeypatch.setattr(trainer.Trainer, "_step", taking(1.0, trainer.Trainer._step))
    monkeypatch.setattr(validator.Validator, "_score", taking(100.0, validator.Validator._score))
    monkeypatch.setattr(trainer.Trainer, "save_checkpoint", taking(1000.0, trainer.Trainer.save_checkpoint))
    watch = Watch()
    saved = train(
        plan_for(text, num_validations=3, checkpoint_minutes=0.0),
        tmp_path / "songs",
        options=RunOptions(observers=[watch]),
    )
    assert [report.tokens_per_second for report in watch.steps] == pytest.approx([4 * 16.0] * 12)
    assert saved.training["progress"]["seconds"] > 300  # which is all the time that the run took


def test_a_validation_file_is_used_instead_of_a_share(text: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("the old fox sang\na song of rain", encoding="utf-8")
    corpus = Corpus([text], CorpusConfig(documents="line"))
    valid = Corpus([held_out], CorpusConfig(documents="line"))
    plan = make_plan(corpus, TINY, sources=Sources(valid=valid), hardware=Hardware(flops=1e11))
    saved = train(plan, tmp_path / "songs")
    assert saved.training["scores"]["bytes"] == len("the old fox sang") + len("a song of rain")


@pytest.mark.slow
def test_scores_of_a_longer_held_out_text_are_not_compared_with_those_of_its_beginning(
    text: Path, tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out.txt"
    easy = "o " * 50 + "\n"  # of the most frequent characters
    held_out.write_text(easy + text.read_text(encoding="utf-8"), encoding="utf-8")
    lines = CorpusConfig(documents="line")
    settings = TINY | {"num_validations": 1, "steps": 4, "valid_tokens": 64, "learning_rate": 0.01}
    plan = make_plan(
        Corpus([text], lines),
        settings,
        sources=Sources(valid=Corpus([held_out], lines)),
        hardware=Hardware(flops=1e11),
    )
    first, second = Watch(), Watch()
    train(plan, tmp_path / "songs", options=RunOptions(observers=[first]))
    saved = resume(tmp_path / "songs", {"steps": 8, "valid_tokens": 10_000}, options=RunOptions(observers=[second]))
    assert second.validations[0].nats_per_token > first.validations[0].nats_per_token
    assert second.validations[0].improved
    assert saved.training["progress"]["best_step"] == 8


@pytest.mark.parametrize(
    ("best", "is_same", "record", "scored"),
    [
        (None, False, {}, []),
        (2.0, True, {}, []),
        (2.0, False, {}, [("other", 4)]),
        (2.0, True, {"start_fraction": 0.2}, [("newer", 4)]),
        (2.0, False, {"start_fraction": 0.2}, [("newer", 4)]),
        (2.0, True, {"scores": {"nats_per_token": 2.0}, "progress": {"best_step": 4}}, []),
        (2.0, True, {"scores": {"nats_per_token": 1.5}, "progress": {"best_step": 8}}, [("newer", 8)]),
        (None, False, {"scores": {"nats_per_token": 1.5}, "progress": {"best_step": 8}}, [("newer", 8)]),
        (2.0, False, {"scores": {"nats_per_token": 1.5}, "progress": {"best_step": 8}}, [("other", 8)]),
        (2.0, True, {"scores": {}, "progress": {"best_step": 8}}, []),
    ],
    ids=[
        "no score", "the same text", "another text", "mixed weights", "mixed weights, another text", "the same step",
        "newer weights", "newer weights, no score", "newer weights, another text",
        "weights that no validation has chosen",
    ],
)  # fmt: skip
def test_saved_weights_are_scored_again_only_if_their_score_cannot_be_compared(
    best: float | None,
    is_same: bool,
    record: dict[str, Any],
    scored: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.position import Position

    made = list[tuple[str, int]]()

    class Comparing:
        """A validator that is told whether the text is the same."""

        def is_same_text(self, position: Position) -> bool:
            assert position.valid_tokens == 70
            return is_same

        def rescore_best(self, position: Position, weights: object, step: int) -> None:
            assert weights == "saved weights"
            made.append(("other", step))

        def keep_saved(self, position: Position, weights: object, step: int) -> None:
            assert weights == "saved weights"
            made.append(("newer", step))

    position = Position(best_nats_per_token=best, best_step=0 if best is None else 4, valid_tokens=70)
    monkeypatch.setattr(run, "load_model", lambda name: SimpleNamespace(weights=lambda: "saved weights"))
    resumed = object.__new__(run._Run)
    resumed._record, resumed._distribution, resumed._step_timeout = record, Distribution(), None
    resumed._trainer = SimpleNamespace(position=position, validator=Comparing())  # type: ignore[assignment]
    resumed._setup = SimpleNamespace(folder=Path("songs"))  # type: ignore[assignment]
    resumed._rescore_saved()
    assert made == scored


@pytest.mark.parametrize(("num_workers", "limit"), [(1, None), (2, 7.0)])
def test_only_several_processes_have_a_limit_of_waiting(
    num_workers: int, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = list[float | None]()
    trainer = SimpleNamespace(position=SimpleNamespace(step=0, validations=0, learning_rate=None))
    trainer.run = lambda observers, about, step_timeout: limits.append(step_timeout)
    monkeypatch.setattr("textgen.training.trainer.Trainer", lambda *parts, **others: trainer)
    monkeypatch.setattr(run, "training_data", lambda *parts: None)
    monkeypatch.setattr(run._Run, "_build", lambda self: None)
    monkeypatch.setattr(run._Run, "_make_observers", lambda self, options: [])
    distribution = SimpleNamespace(num_workers=num_workers, is_chief=True, together=nullcontext, total=list)
    record: dict[str, Any] = {"corpus": {"paths": [], "valid": None}, "tokenizer": {}, "model": {}, "training": {}}
    setup: Any = SimpleNamespace(record=record, data=None)
    setup.folder, setup.tokenizer, setup.training_config = Path("songs"), SimpleNamespace(token_bytes=None), None
    options: Any = SimpleNamespace(distribution=distribution, step_timeout=7.0)
    run._Run(setup, None, options).steps()
    assert limits == [limit]


@pytest.mark.parametrize("worker", [0, 1])
def test_no_process_waits_for_ever_for_the_others_at_the_end(worker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits, evaluator = list[float | None](), SimpleNamespace(on_window=None)

    @contextmanager
    def noted(seconds: float | None) -> Iterator[Callable[[], None]]:
        limits.append(seconds)
        yield lambda: None

    monkeypatch.setattr(run, "load_model", lambda name: SimpleNamespace(weights=dict))
    for name in ("_mix_with_start", "_final_scores"):
        monkeypatch.setattr(run._Run, name, lambda self: None)
    monkeypatch.setattr(run, "require_held", lambda folder: None)
    monkeypatch.setattr(run._Run, "_write", lambda self, state, scores: None)
    ended: Any = object.__new__(run._Run)
    ended._setup, ended._step_timeout = SimpleNamespace(folder=Path("songs")), 7.0
    ended._model = SimpleNamespace(assign_weights=lambda weights: None)
    ended._trainer = SimpleNamespace(validator=SimpleNamespace(evaluator=evaluator))
    ended._distribution = SimpleNamespace(
        is_chief=worker == 0, num_workers=2, together=noted, total=lambda values: [1.0]
    )
    ended._finish("the planned length is reached")
    assert limits == [7.0]
    assert (evaluator.on_window is not None) == (worker == 0)


def test_a_failure_before_the_first_step_leaves_no_folder(text: Path, tmp_path: Path) -> None:
    plan = plan_for(text)
    broken = replace(plan, tokenizer_config=replace(plan.tokenizer_config, vocab_size=5000))
    with pytest.raises(TokenizerError, match="vocab_size 5000 is more than this text allows"):
        train(broken, tmp_path / "songs")
    assert not (tmp_path / "songs").exists()


def test_a_batch_larger_than_the_corpus_is_refused(text: Path) -> None:
    with pytest.raises(CorpusError, match="less than one batch"):
        plan_for(text, batch_size=512)


AVERAGED = [
    pytest.param({"weight_averaging": "ema", "ema_decay": 0.8}, id="ema", marks=pytest.mark.slow),
    pytest.param(
        {"optimizer": "asgd", "nonmonotone_interval": 1, "momentum": 0.9, "schedule": "plateau", "plateau_patience": 0},
        id="asgd",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("settings", AVERAGED)
def test_an_averaged_run_is_interrupted_and_resumed_exactly(
    text: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    class CtrlC(Watch):
        def on_step(self, report: StepReport) -> None:
            super().on_step(report)
            if report.step == 7:
                os.kill(os.getpid(), signal.SIGINT)

    plan = plan_for(text, num_validations=6, patience=None, **settings)
    whole, rest = Watch(), Watch()
    saved = train(plan, tmp_path / "whole", options=RunOptions(observers=[whole]))
    with pytest.raises(Interrupted):
        train(plan, tmp_path / "parts", options=RunOptions(observers=[CtrlC()]))
    resumed = resume(tmp_path / "parts", options=RunOptions(observers=[rest]))
    assert [r.nats_per_token for r in rest.validations] == [r.nats_per_token for r in whole.validations[3:]]
    last = f"step-{12:09d}/tensors.safetensors"
    checkpoints = [(tmp_path / name / "checkpoints" / last).read_bytes() for name in ("whole", "parts")]
    assert checkpoints[0] == checkpoints[1]
    for name, array in weights(saved).items():
        np.testing.assert_array_equal(array, weights(resumed)[name])

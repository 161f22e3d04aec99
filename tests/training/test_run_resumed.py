"""Runs that are stopped and resumed: exactly as if they had not been, longer, with other settings, or not at all."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trained_runs
from disk import unreadable
from trained_runs import TINY, Run, Snapshot, Watch, plan_for, weights

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, Interrupted, SavedModelError, TextgenError, TrainingError, Unreadable
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.saved_model.layout import NGRAMS, WORDS, read_training
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import write_training
from textgen.storage.files import CannotWrite
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST
from textgen.training import run
from textgen.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from textgen.training.observers.observer import Observer, StepReport
from textgen.training.planning.plan import Hardware, Sources, make_plan
from textgen.training.run import join, resume, train
from textgen.training.run_setup import RunOptions

short_run, tensorflow, text = trained_runs.short_run, trained_runs.tensorflow, trained_runs.text  # fixtures


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


NOISES: dict[str, Any] = {
    "dropout": 0.2, "embedding_dropout": 0.1, "word_dropout": 0.1, "weight_drop": 0.3, "random_bptt": 0.05,
}  # fmt: skip


def test_a_run_of_an_older_version_reads_the_windows_of_its_version(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record does not tell of windows, none of which begins a text."""
    plan, rest = plan_for(text, num_validations=1), tmp_path / "rest"
    train(plan, tmp_path / "newer")
    with monkeypatch.context() as patch:
        patch.setattr("textgen.training.run_start.WINDOWS_FORMAT", 1)
        snapshot = Snapshot(0, tmp_path / "older", rest)
        train(plan, tmp_path / "older", options=RunOptions(observers=[snapshot]))
    record = read_training(rest)
    assert record.pop("windows_format") == 1
    write_training(rest, record)
    assert "windows_format" not in resume(rest).training
    last = "checkpoints/step-000000012/tensors.safetensors"
    newer, older, resumed = ((tmp_path / name / last).read_bytes() for name in ("newer", "older", "rest"))
    assert newer != older == resumed


def test_a_run_of_a_newer_version_with_other_windows_is_not_resumed(short_run: Run, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folder = short_run.copy(tmp_path, patch)
        record = read_training(folder)
        write_training(folder, record | {"windows_format": record["windows_format"] + 1})
        with pytest.raises(TrainingError, match=r"A newer version of textgen began the run .* start a new run\.$"):
            resume(folder, {"steps": 20})


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


@pytest.mark.parametrize(
    ("averaging", "saved_as"), [("none", "weights"), ("ema", "average/mean"), ("last-k", "weights")]
)
def test_a_run_that_is_stopped_before_its_first_validation_saves_its_average(
    text: Path, tmp_path: Path, averaging: str, saved_as: str
) -> None:
    """As a validation would. The mean of the last validations has not begun."""

    class Stops(Observer):
        def on_step(self, report: StepReport) -> None:
            if report.step == 3:
                signal.raise_signal(signal.SIGINT)

    plan = plan_for(text, num_validations=1, weight_averaging=averaging, learning_rate=0.03, warmup_fraction=0.0)
    with pytest.raises(Interrupted):
        train(plan, tmp_path / "songs", options=RunOptions(observers=[Stops()]))
    saved, (checkpoint, _) = load_model(str(tmp_path / "songs")), newest_checkpoint(tmp_path / "songs" / "checkpoints")
    assert saved.training["progress"]["best_step"] == saved.training["progress"]["step"] == 3
    for name, array in saved.weights().items():
        np.testing.assert_array_equal(array, checkpoint.tensors[f"{saved_as}/{name}"])
        is_raw = np.array_equal(array, checkpoint.tensors[f"weights/{name}"])
        assert is_raw == (saved_as == "weights"), name


@pytest.mark.slow
def test_resuming_can_lengthen_a_run_and_needs_no_corpus_while_tokens_are_cached(text: Path, tmp_path: Path) -> None:
    train(plan_for(text), tmp_path / "songs")
    text.unlink()
    watch = Watch()
    saved = resume(tmp_path / "songs", {"steps": 20}, options=RunOptions(observers=[watch]))
    assert [report.step for report in watch.steps] == list(range(13, 21))
    assert [report.step for report in watch.validations] == [14, 20], "as often as in a run of 20 from the beginning"
    assert saved.training["progress"]["step"] == 20


@pytest.mark.slow
def test_a_run_that_patience_ended_gets_all_of_it_again_with_new_settings(text: Path, tmp_path: Path) -> None:
    watches = [Watch() for _ in range(3)]
    plan = plan_for(text, steps=40, num_validations=20, patience=2, learning_rate=0.0)
    train(plan, tmp_path / "songs", options=RunOptions(observers=[watches[0]]))
    resume(tmp_path / "songs", options=RunOptions(observers=[watches[1]]))
    resume(tmp_path / "songs", {"weight_decay": 0.1}, options=RunOptions(observers=[watches[2]]))
    assert [len(watch.validations) for watch in watches] == [3, 1, 2]


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


def test_a_process_that_cannot_read_the_checkpoint_does_not_begin_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "read_run", lambda *given: None)
    save_checkpoint(tmp_path / "checkpoints", 5, Checkpoint({"w": np.zeros(1, "float32")}, {"step": 5}))
    with unreadable(tmp_path / "checkpoints"), pytest.raises(Unreadable, match="Input/output error"):
        join(tmp_path, RunOptions())

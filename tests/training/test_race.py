"""A race of two plans: who wins, what is left of it, and that nothing of the winner's run is lost."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from base_models import FABLES, save_base
from model_folders import TRAINING_VALUES

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.walk import has_record
from textgen.errors import Interrupted, TrainingError
from textgen.evaluation import excerpt
from textgen.saved_model.creation import claimed
from textgen.saved_model.layout import CARD, CHECKPOINTS, CONFIG, LOGS, TRAINING, WEIGHTS, read_training, training_bytes
from textgen.saved_model.loading import load_model
from textgen.saved_model.removal import remove_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.file_replacement import rename
from textgen.storage.files import TEMPORARY, CannotWrite
from textgen.storage.folders import replace_folder
from textgen.storage.manifests import MANIFEST
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.training import run
from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport
from textgen.training.planning import start_choice
from textgen.training.planning.plan import Hardware, Plan, Sources, make_plan
from textgen.training.planning.start_choice import Fit, StartChoice
from textgen.training.race import FirstTenth, _move, race
from textgen.training.run_setup import RunOptions, RunSetup
from textgen.training.run_start import begin
from textgen.wording import silent

FABLES_20_KB = FABLES[:20_000]
SETTINGS: dict[str, Any] = {"steps": 20, "batch_size": 4, "sequence_length": 16, "valid_tokens": 300, "seed": 3}


@dataclass(frozen=True)
class Contender:
    """What a race asks of a plan."""

    start_name: str
    choice: StartChoice = field(default_factory=lambda: StartChoice(None, "in doubt", is_open=True))

    @property
    def sources(self) -> Sources:
        start = None if self.start_name == "none" else cast(ModelFolder, _Named(self.start_name))
        return Sources(start=start)


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass
class Track:
    """Trains nothing: each contender reports the score that it is given, or raises."""

    outcomes: Mapping[str, float | Exception]
    seen: list[Path] = field(default_factory=list)

    def contend(self, plan: Plan, folder: Path, options: RunOptions) -> RunSetup:
        self.seen.append(folder)
        (folder / CHECKPOINTS).mkdir(parents=True)
        (folder / CHECKPOINTS / "step-2").write_text(plan.start_name)
        outcome = self.outcomes[plan.start_name]
        if isinstance(outcome, Exception):
            raise outcome
        for name in (MANIFEST, TRAINING):
            (folder / name).write_text(plan.start_name)
        (watch,) = options.observers
        for step, score in ((1, outcome + 1), (2, outcome), (3, outcome + 1)):
            assert not watch.stop_reason
            watch.on_step(StepReport(step, 0.1, 0.04 * step, 3.0, 0.01, 0.5, {}, 100.0, 9.0))
            watch.on_validation(ValidationReport(step, 0.1, 3.0, 2.0, 7.0, score, step < 3, ""))
        assert watch.stop_reason
        nothing = cast(Any, None)
        return RunSetup(folder, {"labels": [plan.start_name]}, *[nothing] * 6)


def run_race(folder: Path, outcomes: Mapping[str, float | Exception]) -> tuple[RunSetup, list[str]]:
    said, track = list[str](), Track(outcomes)
    plans = [cast(Plan, Contender(name)) for name in outcomes]
    folder.mkdir()
    setup = race(plans, folder, track.contend, RunOptions(say=said.append))
    assert all(place.name == folder.name for place in track.seen)  # the card of the model has its name
    return setup, said


@pytest.mark.parametrize(("base", "none", "winner"), [(1.9, 2.4, "english"), (2.5, 2.4, "none")])
def test_the_better_one_in_bits_a_byte_goes_on_with_its_files(
    tmp_path: Path, base: float, none: float, winner: str
) -> None:
    folder = tmp_path / "songs"
    setup, said = run_race(folder, {"english": base, "none": none})
    assert setup.folder == folder
    assert {path.name for path in folder.iterdir()} == {CHECKPOINTS, MANIFEST, TRAINING}
    assert (folder / CHECKPOINTS / "step-2").read_text() == winner
    assert setup.record["labels"] == [winner]
    assert setup.record["start"] == {
        "name": None if winner == "none" else winner,
        "decided_by": "race",
        "reason": f"bits per byte after a tenth of the run: english {base:.3f}, random weights {none:.3f}",
        "unknown_byte_fraction": None,
        "token_ratio": None,
        "bits_per_byte": {"english": base, "none": none},
        "relative_loss": None,
    }
    assert f"From random weights: {none:.3f} bits per byte on held-out text." in said


@pytest.mark.parametrize("steps", [10, 490, 4900])
def test_a_contender_is_stopped_at_a_tenth_of_its_run_exactly(steps: int) -> None:
    """The quotient of steps may be rounded below a tenth."""
    watch, validation = FirstTenth(silent), ValidationReport(1, 0.1, 3.0, 2.0, 7.0, 1.0, True, "")
    for step in range(1, steps // 10 + 1):
        assert not watch.stop_reason
        watch.on_step(StepReport(step, 0.1, rounded_down(step / steps), 3.0, 0.01, 0.5, {}, 100.0, 9.0))
        watch.on_validation(validation)
    assert watch.stop_reason


def rounded_down(number: float) -> float:
    return math.nextafter(number, 0.0)


def test_what_an_unfinished_run_left_gives_way_to_the_files_of_the_winner(tmp_path: Path) -> None:
    folder, track = tmp_path / "songs", Track({"english": 2.0, "none": 2.5})
    for name in (CHECKPOINTS, LOGS):
        (folder / name).mkdir(parents=True)
        (folder / name / "old").write_text("left by a run that saved no model")

    def contend(plan: Plan, place: Path, options: RunOptions) -> RunSetup:
        setup = track.contend(plan, place, options)
        (place / LOGS).mkdir()
        (place / LOGS / "new").write_text(plan.start_name)
        return setup

    race([cast(Plan, Contender(name)) for name in track.outcomes], folder, contend, RunOptions())
    assert {path.name for path in folder.iterdir()} == {CHECKPOINTS, LOGS, MANIFEST, TRAINING}
    assert [path.name for path in (folder / LOGS).iterdir()] == ["new"]
    assert [path.name for path in (folder / CHECKPOINTS).iterdir()] == ["step-2"]


def test_one_that_cannot_be_trained_loses(tmp_path: Path) -> None:
    setup, said = run_race(tmp_path / "songs", {"english": TrainingError("There is not enough memory."), "none": 9.0})
    assert setup.record["start"]["name"] is None
    assert "From english: There is not enough memory." in said


def test_if_neither_can_be_trained_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="from each of the models"):
        run_race(tmp_path / "songs", {"english": TrainingError("no"), "none": TrainingError("no")})
    assert list((tmp_path / "songs").iterdir()) == []


def test_without_room_beside_the_model_it_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "songs").write_bytes(b"")
    with pytest.raises(CannotWrite, match=r"Cannot write .*songs: Not a directory\."):
        race([], tmp_path / "songs", Track({}).contend, RunOptions())


def in_doubt(folder: Path, **settings: Any) -> Plan:
    (folder / "songs.txt").write_text(FABLES_20_KB, encoding="utf-8")
    corpus = Corpus([folder / "songs.txt"], CorpusConfig(documents="line"))
    plan = make_plan(
        corpus, {**SETTINGS, **settings}, sources=Sources(may_choose_base=True), hardware=Hardware(flops=1e11)
    )
    assert plan.rival
    return plan


@pytest.fixture
def doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a base, and every text is in doubt about it."""
    save_base(tmp_path / "bases")
    monkeypatch.setattr(start_choice, "SHORT_TEXT", 0)
    monkeypatch.setattr(start_choice, "SUITABLE_UP_TO", Fit(0.0, 0.1))
    monkeypatch.setattr(start_choice, "UNSUITABLE_ABOVE", Fit(1.0, 9.0))
    load_tensorflow()


def test_an_interrupted_race_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, doubt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plan: Plan, folder: Path, options: RunOptions) -> RunSetup:
        folder.mkdir(parents=True)
        (folder / TRAINING).write_text("{}")
        raise Interrupted("Stopped at step 1; everything is saved.", signal.SIGINT)

    monkeypatch.setattr(run, "_contend", interrupted)
    with pytest.raises(Interrupted, match=r"nothing is saved\. Start again") as caught:
        run.train(in_doubt(tmp_path), tmp_path / "models" / "songs")
    assert caught.value.exit_code == 130
    assert not (tmp_path / "models" / "songs").exists()


def test_what_a_killed_race_left_is_swept_away_by_the_next_run(tmp_path: Path) -> None:
    left = tmp_path / "songs" / f"{TEMPORARY}race-abc" / "english" / "songs"
    left.mkdir(parents=True)
    (left / TRAINING).write_text("{}")
    with claimed(tmp_path / "songs"):
        assert list((tmp_path / "songs").iterdir()) == []


@pytest.mark.parametrize("moved", range(1, 9))
def test_a_race_that_is_killed_at_its_end_leaves_what_can_be_used_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """After any number of files."""
    folder, moves = tmp_path / "models" / "songs", [0]
    source = folder / f"{TEMPORARY}race-abc" / "none" / "songs"
    (source / CHECKPOINTS / "step-000000001").mkdir(parents=True)
    (source / LOGS).mkdir()
    for name in (WEIGHTS, CONFIG, MODEL_FILE, MANIFEST, CARD):
        (source / name).write_bytes(b"x")
    (source / TRAINING).write_bytes(training_bytes(TRAINING_VALUES))

    def killed(move: Callable[..., Any]) -> Callable[..., Any]:
        def moving(*arguments: Any, **options: Any) -> None:
            if moves[0] == moved:
                raise KeyboardInterrupt
            moves[0] += 1
            move(*arguments, **options)

        return moving

    monkeypatch.setattr("textgen.training.race.replace_folder", killed(replace_folder))
    monkeypatch.setattr("textgen.training.race.rename", killed(rename))
    with suppress(KeyboardInterrupt):
        _move(source, folder)
    assert has_record(folder)
    if (folder / CHECKPOINTS).exists():
        assert (folder / MANIFEST).exists(), "a run to resume has all of its files"
    if not (folder / MANIFEST).exists():
        with claimed(folder):
            assert list(folder.iterdir()) == [], "it is trained again"
        (folder / TRAINING).write_bytes(training_bytes(TRAINING_VALUES))
    remove_model(folder)
    assert list(folder.parent.iterdir()) == []


class Watch(Observer):
    """Keeps the steps and what it is told first, and stops the run at a step."""

    def __init__(self, stop_at: int = 0) -> None:
        super().__init__()
        self.stop_at, self.steps, self.start = stop_at, list[int](), RunReport("", {})

    def on_start(self, run: RunReport) -> None:
        self.start = run

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report.step)
        if report.step == self.stop_at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_the_winner_ends_with_the_weights_that_it_has_without_a_race_also_if_it_is_resumed(
    tmp_path: Path, doubt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, watch = in_doubt(tmp_path), Watch(stop_at=9)
    with pytest.raises(Interrupted, match="Use resume"):
        run.train(plan, tmp_path / "raced", RunOptions([watch]))
    assert (watch.steps[0], watch.start.step) == (3, 2)  # the first two are those of the race
    record = read_training(tmp_path / "raced")
    assert record["start"]["decided_by"] == "race"
    scores = record["start"]["bits_per_byte"]
    winner = min(scores, key=scores.get)
    assert record["start"]["name"] == (None if winner == "none" else winner)
    monkeypatch.setattr(run, "race", None)  # a resumed run does not decide again
    resumed = run.resume(tmp_path / "raced")
    assert resumed.training["start"] == record["start"]
    assert {path.name for path in resumed.folder.iterdir() if path.name.startswith(TEMPORARY)} == set()
    assert f"| started from | {'random weights' if winner == 'none' else winner} (bits per byte after a tenth" in (
        resumed.folder / CARD
    ).read_text(encoding="utf-8")
    assert plan.rival
    alone = next(each for each in (plan, plan.rival) if each.start_name == winner)
    straight = run.train(replace(alone, rival=None), tmp_path / "straight")
    ours, theirs = resumed.weights(), straight.weights()
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight, err_msg=name)
    assert resumed.training["progress"]["step"] == straight.training["progress"]["step"] == SETTINGS["steps"]
    assert load_model(str(tmp_path / "raced")).training["scores"] == straight.training["scores"]


def test_contenders_score_the_same_text_whatever_their_vocabularies_make_of_it(
    tmp_path: Path, doubt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "songs.txt").write_text(FABLES * 3, encoding="utf-8")
    corpus = Corpus([tmp_path / "songs.txt"], CorpusConfig(documents="line"))
    settings = {"steps": 20, "batch_size": 4, "sequence_length": 16}
    plan = make_plan(corpus, settings, sources=Sources(may_choose_base=True), hardware=Hardware(flops=1e11))
    assert plan.rival
    monkeypatch.setattr(excerpt, "STRETCH_BYTES", 2000)
    shares, scored = list[float](), list[set[int]]()
    for each in (plan, plan.rival):
        with claimed(tmp_path / each.start_name):
            setup = begin(each, tmp_path / each.start_name)
        assert read_training(setup.folder)["training"]["valid_tokens"] == setup.training_config.valid_tokens
        valid, sizes = setup.data.valid, setup.tokenizer.token_bytes
        shares.append(setup.training_config.valid_tokens / len(valid))
        part = excerpt.excerpt(valid, sizes, shares[-1], 32)
        assert part
        assert len(part.stretches) > 1
        ends = np.concatenate([[0], np.cumsum(sizes[valid.read(0, len(valid))])])
        scored.append({byte for first, end in part.stretches for byte in range(ends[first], ends[end])})
    assert 0.2 < shares[0] < 1
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)
    assert len(scored[0] & scored[1]) > 0.95 * len(scored[0] | scored[1])


class Reader(Observer):
    """Reads what is recorded at the first step, and stops the run."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.record = folder, dict[str, Any]()

    def on_step(self, report: StepReport) -> None:
        self.record = self.record or read_training(self.folder)
        self.stop_reason = "the test says so"


@pytest.mark.slow
def test_what_the_race_has_reached_is_recorded_from_the_first_step_after_it(tmp_path: Path, doubt: None) -> None:
    reader = Reader(tmp_path / "raced")
    run.train(in_doubt(tmp_path), reader.folder, RunOptions([reader]))
    assert (reader.record["progress"]["step"], reader.record["progress"]["best_step"]) == (2, 2)
    assert reader.record["scores"]["bits_per_byte"] == min(reader.record["start"]["bits_per_byte"].values())


def test_the_decision_of_a_run_without_a_race_is_recorded(tmp_path: Path) -> None:
    save_base(tmp_path / "bases")
    (tmp_path / "songs.txt").write_text(FABLES_20_KB, encoding="utf-8")
    corpus = Corpus([tmp_path / "songs.txt"], CorpusConfig(documents="line"))
    plan = make_plan(corpus, SETTINGS, sources=Sources(may_choose_base=True), hardware=Hardware(flops=1e11))
    with claimed(tmp_path / "songs"):
        setup = begin(plan, tmp_path / "songs")
    recorded = json.loads((tmp_path / "songs" / TRAINING).read_text(encoding="utf-8"))
    assert recorded["start"] == setup.record["start"] == plan.choice.to_dict()
    assert (recorded["start"]["name"], recorded["start"]["decided_by"]) == ("english", "rule")

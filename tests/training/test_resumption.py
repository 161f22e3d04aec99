"""Resuming: the same text, vocabulary and network or not at all, and nothing of a folder from elsewhere is believed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import runs
from click.testing import CliRunner
from disk import unreadable
from runs import SETTINGS, TEXT, begun
from trained_runs import plan_for

from textgen.api import train
from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.bloom_filter import BloomFilter
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.prepared_corpus import open_corpus
from textgen.errors import (
    ConfigError,
    CorpusError,
    RemoteError,
    SavedModelError,
    TextgenError,
    TrainingError,
    WorkerLost,
)
from textgen.saved_model import ownership
from textgen.saved_model.creation import claimed
from textgen.saved_model.folder_contents import has_steps
from textgen.saved_model.layout import CARD, CHECKPOINTS, LOGS, NGRAMS, TRAINING, WORDS, read_training
from textgen.saved_model.loading import load_model
from textgen.saved_model.registry import status_of
from textgen.saved_model.saving import save_ngrams, write_training
from textgen.settings import to_dict
from textgen.storage import lock_in_folder
from textgen.storage.cache_folder import cache_folder
from textgen.storage.files import write_file
from textgen.storage.leftovers import move_aside
from textgen.storage.lock_in_folder import LOCK_FILE
from textgen.storage.locks import HAS_FLOCK, InUse, locked
from textgen.storage.manifests import MANIFEST, read_manifest
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.training import resumption, run, run_start
from textgen.training.checkpoints import has_checkpoint
from textgen.training.config import BUDGETS
from textgen.training.planning.plan import Hardware, Plan, Sources, make_plan
from textgen.training.resumption import ResumeSources, must_name_corpus, read_run
from textgen.training.run_setup import RunOptions, RunSetup

folder, plan, text = runs.folder, runs.plan, runs.text  # fixtures


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[RunSetup]:
    """The runs that `resume` has made ready; none of them trains."""
    ready: list[RunSetup] = []

    class Ready:
        def __init__(self, setup: RunSetup, *others: object) -> None:
            ready.append(setup)

        def train(self) -> None:
            pass

    monkeypatch.setattr(run, "_Run", Ready)
    return ready


def read(folder: Path, settings: dict[str, Any] | None = None, given: ResumeSources | None = None) -> RunSetup:
    return read_run(folder, settings or {}, given or ResumeSources())


def sent_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this is another user, who was sent the folder: his cache is another one."""
    monkeypatch.setenv("TEXTGEN_CACHE", str(folder.parent.parent / "another-cache"))


# === Links ===


@pytest.mark.parametrize(
    "place", [CARD, TRAINING, LOGS, CHECKPOINTS, MODEL_FILE, MANIFEST, "notes", f"{CHECKPOINTS}/step-000000001"]
)
def test_no_link_in_the_folder_of_a_run_is_followed(
    folder: Path, place: str, tmp_path: Path, resumed: list[RunSetup]
) -> None:
    mine = tmp_path / "mine"
    if (folder / place).exists():
        (folder / place).rename(mine)
    else:
        mine.write_bytes(b"mine")
    (folder / place).symlink_to(mine)
    before = {path: path.read_bytes() for path in [mine, *mine.rglob("*")] if path.is_file()}
    with pytest.raises(SavedModelError, match="is a link"):
        run.resume(folder)
    with pytest.raises(SavedModelError, match="is a link"), claimed(folder):
        raise AssertionError
    assert not resumed
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / place).is_symlink()


def test_what_is_written_to_a_folder_never_goes_through_a_link(folder: Path, tmp_path: Path) -> None:
    """Whoever else writes there may do so after the look at it."""
    record = read_training(folder)
    for name in (CARD, TRAINING, NGRAMS, f"{NGRAMS}.new", MANIFEST):
        mine = tmp_path / f"mine-{name}"
        mine.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"mine")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(mine)
        before = mine.read_bytes()
        write_training(folder, record | {"status": "other"})
        with suppress(SavedModelError):  # a link to the manifest is not read
            save_ngrams(folder, NgramIndex(6, [BloomFilter.for_size(10)]))
        assert mine.read_bytes() == before, name


def test_what_a_killed_run_left_half_written_is_swept(folder: Path, resumed: list[RunSetup]) -> None:
    (folder / LOGS).mkdir()
    for place in (folder, folder / LOGS, folder / CHECKPOINTS):
        (place / ".tmp-0123456789abcdef").write_bytes(b"half")
    run.resume(folder)
    assert not list(folder.rglob(".tmp-*"))


@pytest.fixture
def lock_of_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock file of a process that was killed, on a file system without locks."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("textgen.storage.locks.LOCK_SECONDS", 0.0)
    lock_file = folder / LOCK_FILE
    lock_file.write_text('{"machine": "another", "process": 1, "started": "1"}', encoding="utf-8")
    return lock_file


SEVERAL: Any = SimpleNamespace(num_workers=2, local_rows=lambda config: slice(0, 1))


@pytest.mark.skipif(not HAS_FLOCK, reason="there is no flock to refuse")
def test_a_run_of_several_processes_goes_on_once_the_lock_of_a_killed_one_is_stale(
    folder: Path, lock_of_another_machine: Path, resumed: list[RunSetup], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()

    def sleep(seconds: float) -> None:
        os.utime(lock_of_another_machine, (0, 0))

    monkeypatch.setattr("textgen.storage.locks.time.sleep", sleep)
    with pytest.raises(InUse):
        run.resume(folder)
    run.resume(folder, options=RunOptions(distribution=SEVERAL, say=said.append))
    assert len(resumed) == 1
    assert said[0] == f"Another process is writing to {folder}: waiting for it to end."


@pytest.mark.skipif(not HAS_FLOCK, reason="there is no flock to refuse")
@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_lock_that_lasts_ends_a_run_of_several_processes_with_the_code_of_a_lost_one(
    is_resumed: bool, folder: Path, plan: Plan, lock_of_another_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.storage.lock_in_folder.BEAT_SECONDS", -lock_in_folder.STALE_SECONDS)
    options = RunOptions(distribution=SEVERAL)
    with pytest.raises(WorkerLost, match="Another process is still writing to") as caught:
        run.resume(folder, options=options) if is_resumed else run.train(plan, folder, options)
    assert caught.value.exit_code == 75


def test_a_checkpoint_that_a_killed_run_had_moved_aside_is_resumed_from(folder: Path, resumed: list[RunSetup]) -> None:
    checkpoint = folder / CHECKPOINTS / "step-000000001"
    move_aside(checkpoint)
    assert has_steps(folder)
    assert has_checkpoint(folder / CHECKPOINTS)
    run.resume(folder)
    assert len(resumed) == 1
    assert checkpoint.is_dir()


def test_nothing_of_a_failed_run_is_part_of_the_run_in_its_place(
    plan: Plan, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was killed before its first checkpoint; the second has no vocabulary in a file, index or filter."""
    folder = tmp_path / "models" / "songs"
    with claimed(folder):
        run_start.begin(plan, folder)
    assert {MODEL_FILE, NGRAMS, WORDS} <= {path.name for path in folder.iterdir()}
    monkeypatch.setattr(run_start, "MAX_NGRAMS", 0)
    monkeypatch.setattr(run_start, "MAX_TOKENS", 0)
    corpus = Corpus([text], CorpusConfig(documents="line"))
    begun(make_plan(corpus, SETTINGS | {"tokenizer": "byte"}, hardware=Hardware(flops=1e11)), folder)
    setup, saved = read(folder), load_model("songs")
    assert (setup.tokenizer.kind, setup.record["files"]) == ("byte", {})
    assert (saved.tokenizer.kind, saved.has_ngrams, saved.words()) == ("byte", False, None)


# === Where the text is ===


def test_what_was_begun_here_needs_no_corpus_to_be_named(folder: Path, text: Path, resumed: list[RunSetup]) -> None:
    run.resume(folder)
    assert len(resumed[0].data.train) > 100
    assert read(folder).record["corpus"]["paths"] == [str(text)]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["corpus"].update(paths=["/etc/hostname"]),
        lambda record: record["corpus"].update(valid=["/etc/hostname"]),
        lambda record: record["tokens"].update(folder="/etc"),
        lambda record: record.update(signature="0" * 64),
        lambda record: record.update(signature="\u6708"),
        lambda record: record.update(signature=5),
        lambda record: record.pop("signature"),
    ],
)
def test_paths_that_were_not_written_here_are_asked_for(
    folder: Path, text: Path, change: Callable[[dict[str, Any]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_training(folder)
    change(record)
    write_training(folder, record)
    opened: list[Any] = []
    monkeypatch.setattr("textgen.training.resumption.open_corpus", lambda *arguments: opened.append(arguments))
    monkeypatch.setattr("textgen.training.resumption.TokenData.cached", lambda *arguments: opened.append(arguments))
    assert must_name_corpus(folder)
    with pytest.raises(TrainingError, match=r"were not written by you on this machine.*name the corpus"):
        read(folder)
    assert not opened


def test_whether_the_corpus_of_a_run_must_be_named_can_be_asked(folder: Path, tmp_path: Path) -> None:
    assert not must_name_corpus(folder)
    assert not must_name_corpus(tmp_path / "none")


def test_a_folder_that_was_sent_resumes_once_its_corpus_is_named(
    folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch, resumed: list[RunSetup]
) -> None:
    sent_elsewhere(folder, monkeypatch)
    with pytest.raises(TrainingError, match="were not written by you on this machine"):
        run.resume(folder)
    run.resume(folder, sources=ResumeSources([text]))
    run.resume(folder)  # it was written down
    assert len(resumed) == 2
    assert (cache_folder() / "key").stat().st_mode & 0o777 == 0o600


def test_a_folder_may_be_moved(folder: Path, tmp_path: Path, resumed: list[RunSetup]) -> None:
    run.resume(folder.rename(tmp_path / "elsewhere"))
    assert resumed


@pytest.mark.parametrize("settings", [{}, {"encoding": "utf-8"}])
def test_a_run_from_before_an_encoding_could_be_left_open_is_resumed(folder: Path, settings: dict[str, Any]) -> None:
    """Its record says utf-8, whether that was given or not, and the pages of its text were in what they name."""
    record = read_training(folder)
    assert record["corpus"]["config"]["encoding"] is None
    record["corpus"]["config"]["encoding"] = "utf-8"
    write_training(folder, record)
    assert read(folder, settings).corpus_config.encoding == "utf-8"
    del record["corpus"]["corpus_format"]
    write_training(folder, record)
    assert read(folder, settings).corpus_config.encoding is None


def test_a_run_of_a_version_that_called_its_start_a_base_is_resumed(folder: Path) -> None:
    record = read_training(folder)
    record |= {"from": None, "base": record.pop("start")}
    record["training"] |= {"decay_target": "base", "interpolate_base": record["training"].pop("interpolate_start")}
    write_training(folder, record)
    setup = read(folder, {"decay_target": "start", "interpolate_start": False}, ResumeSources(start="none"))
    assert (setup.training_config.decay_target, setup.record["start"]["name"]) == ("start", None)
    assert not setup.record.keys() & {"from", "base"}


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_changed_corpus_is_refused_whatever_the_cache_holds(folder: Path, text: Path, is_cached: bool) -> None:
    if not is_cached:
        shutil.rmtree(Path(read(folder).record["tokens"]["folder"]))
    text.write_text(TEXT.replace("moon", "noon", 1), encoding="utf-8")
    for given in (ResumeSources(), ResumeSources([text])):
        with pytest.raises(TrainingError, match=r"The corpus has changed since .* under another name"):
            read(folder, given=given)


def test_a_corpus_that_is_gone_is_read_from_the_cache_or_asked_for(folder: Path, text: Path) -> None:
    moved, said = text.rename(text.with_name("moved.txt")), list[str]()
    found = read_run(folder, {}, ResumeSources(), said.append)
    assert said == [f"{text} no longer exists. Training continues with its text from the cache folder."]
    ids = found.data.train.read(0, 50)
    shutil.rmtree(found.record["tokens"]["folder"])
    with pytest.raises(TrainingError, match=rf"{text} no longer exists\. .*name the corpus at its new place"):
        read(folder)
    again = read(folder, given=ResumeSources([moved]))
    assert (again.data.train.read(0, 50) == ids).all()
    assert again.record["corpus"]["paths"] == [str(moved)]


@pytest.fixture
def memory() -> Iterator[Any]:
    """The files at memory://."""
    system = pytest.importorskip("fsspec", reason='pip install ".[remote]"').filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def prepared_at(memory: Any, text: Path, name: str) -> None:
    """Prepares a text in a folder, and copies it to memory://prepared."""
    folder = text.with_name(name)
    prepare_corpus([str(text)], folder, {"tokenizer": "char", "documents": "line"})
    memory.store.clear()
    for path in folder.rglob("*"):
        if path.is_file():
            memory.pipe(f"/prepared/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.mark.parametrize("kind", ["text", "prepared folder"])
def test_a_text_at_an_address_is_asked_for_again(memory: Any, text: Path, tmp_path: Path, kind: str) -> None:
    address, settings = "memory://songs.txt", dict(SETTINGS)
    if kind == "text":
        memory.pipe("/songs.txt", text.read_bytes())
    else:
        address, settings = "memory://prepared", {**settings, "documents": "line"}
        prepared_at(memory, text, "prepared")
    plan = make_plan(open_corpus([address], CorpusConfig(documents="line")), settings, hardware=Hardware(flops=1e11))
    folder, said = begun(plan, tmp_path / "models" / "songs"), list[str]()
    places, files = read_training(folder)["corpus"]["paths"], dict(memory.store)
    ids = read_run(folder, {}, ResumeSources(), said.append).data.train.read(0, 50)
    assert said == []

    memory.store.clear()  # what it held is in the cache
    found = read_run(folder, {}, ResumeSources(), said.append)
    (line,) = said
    assert places[0] in line
    assert line.endswith(" Training continues with its text from the cache folder.")
    assert "no longer exists" not in line
    assert (found.data.train.read(0, 50) == ids).all()
    with pytest.raises(RemoteError):
        read(folder, given=ResumeSources([address]))  # named again, it must be there
    shutil.rmtree(found.record["tokens"]["folder"])
    with pytest.raises(TrainingError, match="is not in the cache folder: name the corpus at its new place"):
        read(folder)

    memory.store.update(files)
    assert (read(folder).data.train.read(0, 50) == ids).all()
    text.write_text(TEXT.replace("moon", "noon", 1), encoding="utf-8")
    if kind == "text":
        memory.pipe("/songs.txt", text.read_bytes())
    else:
        prepared_at(memory, text, "prepared-again")
    with pytest.raises(TrainingError, match="The corpus has changed since"):
        read(folder)


def test_a_prepared_folder_of_which_a_shard_was_made_again_of_other_text_is_refused(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Corpus, "glance", lambda _: "as before")  # which may miss a change in the middle of a file
    monkeypatch.setattr(Corpus, "section_glance", lambda *_: "")
    out, settings = tmp_path / "prepared", {"tokenizer": "char", "documents": "line", "shards": 2}
    prepared = prepare_corpus([str(text)], out, settings)
    plan = make_plan(prepared, {**SETTINGS, "documents": "line"}, hardware=Hardware(flops=1e11))
    folder = begun(plan, tmp_path / "models" / "songs")
    assert read(folder).data
    shutil.rmtree(out / prepared.shard_name(2))
    with pytest.raises(CorpusError, match="1 of 2 shards are missing"):
        read(folder)
    lines = text.read_text(encoding="utf-8").splitlines()
    text.write_text("\n".join([*lines[: len(lines) // 2], *reversed(lines[len(lines) // 2 :])]), encoding="utf-8")
    prepare_corpus([str(text)], out, settings)
    with pytest.raises(TrainingError, match="The corpus has changed since the run was started"):
        read(folder)
    record = read_training(folder)
    record["corpus"]["fingerprint"] = prepared.settings.digest()  # of a version that did not look at the shards
    (folder / TRAINING).write_text(json.dumps(record), encoding="utf-8")
    assert read(folder).data


def test_held_out_text_is_the_same_and_can_be_named_too(text: Path, tmp_path: Path) -> None:
    held_out = text.with_name("held.txt")
    held_out.write_text("a song of rain\nthe fox\n", encoding="utf-8")
    lines = CorpusConfig(documents="line")
    plan = make_plan(
        Corpus([text], lines),
        dict(SETTINGS),
        sources=Sources(valid=Corpus([held_out], lines)),
        hardware=Hardware(flops=1e11),
    )
    folder = begun(plan, tmp_path / "models" / "songs")
    moved = held_out.rename(held_out.with_name("moved.txt"))
    assert read(folder, given=ResumeSources(valid=moved)).record["corpus"]["valid"] == [str(moved)]
    with pytest.raises(ConfigError, match="the held-out text was fixed when the run began, as a file"):
        read(folder, {"valid_fraction": 0.1}, ResumeSources(valid=moved))
    moved.write_text("another song of rain\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="The held-out text has changed"):
        read(folder, given=ResumeSources(valid=moved))


@pytest.fixture
def beside(text: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run with a file of held-out text, and this file."""
    held_out = text.with_name("held.txt")
    held_out.write_text("a song of rain\nthe fox\n", encoding="utf-8")
    lines = CorpusConfig(documents="line")
    sources = Sources(valid=Corpus([held_out], lines))
    plan = make_plan(Corpus([text], lines), dict(SETTINGS), sources=sources, hardware=Hardware(flops=1e11))
    return begun(plan, tmp_path / "models" / "songs"), held_out


def test_a_text_that_is_left_is_the_same_where_the_other_one_is_gone(beside: tuple[Path, Path], text: Path) -> None:
    folder, held_out = beside
    moved = text.rename(text.with_name("moved.txt"))
    assert read(folder, given=ResumeSources(valid=held_out)).data  # the corpus comes from the cache
    other = text.with_name("other.txt")
    with pytest.raises(TextgenError, match=r"other\.txt"):
        read(folder, given=ResumeSources(valid=other))
    other.write_text("another song of rain\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="The held-out text has changed"):
        read(folder, given=ResumeSources(valid=other))
    kept = held_out.rename(text.with_name("kept.txt"))
    assert read(folder).data
    other.rename(held_out)
    with pytest.raises(TrainingError, match="The held-out text has changed"):
        read(folder)
    held_out.unlink()
    text.write_text(moved.read_text(encoding="utf-8").replace("moon", "noon", 1), encoding="utf-8")
    with pytest.raises(TrainingError, match="The corpus has changed"):
        read(folder)
    assert kept.exists()


def test_paths_that_are_too_many_are_asked_for_however_often_a_run_is_resumed(
    plan: Plan, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = text.with_name("\u6708" * 20 + ".txt")  # of three bytes each
    text.rename(name)
    plan = replace(plan, corpus=Corpus([name], CorpusConfig(documents="line")))
    monkeypatch.setattr(resumption, "PATHS_BYTES", len(str(name)) + 30)
    folder = begun(plan, tmp_path / "models" / "songs")
    assert read_training(folder)["corpus"]["paths"] == []
    assert must_name_corpus(folder)
    with pytest.raises(TrainingError, match=r"The corpus has too many paths .* name the corpus again"):
        read(folder)
    again = read(folder, given=ResumeSources([name])).record
    assert (again["corpus"]["paths"], again["corpus"]["valid"]) == ([], None)
    write_training(folder, again)
    assert read(folder, given=ResumeSources([name])).data


def test_paths_of_held_out_text_count_too(
    beside: tuple[Path, Path], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, held_out = beside
    monkeypatch.setattr(resumption, "PATHS_BYTES", len(str(text)) + len(str(held_out)))
    record = read(folder).record
    assert (record["corpus"]["paths"], record["corpus"]["valid"]) == ([], [])
    write_training(folder, record)
    with pytest.raises(TrainingError, match="name the corpus and the file of the held-out text again"):
        read(folder, given=ResumeSources([text]))
    assert read(folder, given=ResumeSources([text], held_out)).data


def test_where_no_key_can_be_kept_the_corpus_is_asked_for(
    plan: Plan, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_new_key", lambda: b"")
    folder = begun(plan, tmp_path / "models" / "songs")
    with pytest.raises(TrainingError, match="were not written by you on this machine"):
        read(folder)
    assert read(folder, given=ResumeSources([text])).data


@pytest.mark.parametrize("kind", ["short", "open to others", "a link"])
def test_a_key_that_others_may_know_is_none(tmp_path: Path, kind: str) -> None:
    signature = ownership.sign(["a"])
    key = cache_folder() / "key"
    assert ownership.is_signed(["a"], signature)
    assert not ownership.is_signed(["b"], signature)
    if kind == "short":
        key.write_bytes(b"x")
    elif kind == "open to others":
        key.chmod(0o644)
    else:
        key.rename(tmp_path / "elsewhere")
        key.symlink_to(tmp_path / "elsewhere")
    assert not ownership.is_signed(["a"], signature)
    assert ownership.is_signed(["a"], ownership.sign(["a"]))  # with another key
    assert not ownership.is_signed(["a"], signature)
    assert os.listdir(key.parent) == ["key"]


def test_a_key_that_cannot_be_read_for_a_moment_stays() -> None:
    signature = ownership.sign(["a"])
    with unreadable(cache_folder() / "key"):
        assert ownership.sign(["a"]) == ""
        assert not ownership.is_signed(["a"], signature)
    assert ownership.is_signed(["a"], signature)


# === Settings ===


def test_the_same_settings_again_are_no_error(folder: Path, plan: Plan, text: Path) -> None:
    every = dict(SETTINGS) | {"documents": "line", "freeze_layers": ()}
    assert read(folder, {"documents": None}).corpus_config == read(folder).corpus_config  # guessed, as at the beginning
    found = read(folder, every, ResumeSources([text]))
    assert found.training_config == plan.training_config
    vocab_size = found.model_config.vocab_size
    assert read(folder, {"vocab_size": vocab_size, "steps": 9}).training_config.steps == 9


def test_a_budget_that_is_repeated_keeps_the_passes_planned_beside_it(text: Path, tmp_path: Path) -> None:
    timed = {name: value for name, value in SETTINGS.items() if name != "steps"} | {"minutes": 10.0}
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), timed, hardware=Hardware(flops=1e11))
    assert plan.training_config.epochs
    folder = begun(plan, tmp_path / "models" / "songs")
    assert read(folder, {"minutes": 10}).training_config == plan.training_config
    assert read(folder, {"epochs": plan.training_config.epochs}).training_config == plan.training_config
    longer = read(folder, {"minutes": 20}).training_config
    assert (longer.minutes, longer.epochs) == (20, None)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_that_is_none_is_left_to_the_plan_which_was_made(plan: Plan, tmp_path: Path, name: str) -> None:
    limits: dict[str, Any] = {**dict.fromkeys(BUDGETS), name: 3}
    training = replace(plan.training_config, **limits)
    folder = begun(replace(plan, training_config=training), tmp_path / "models" / "songs")
    assert read(folder, {name: None}).training_config == training
    assert read(folder, dict.fromkeys(BUDGETS)).training_config == training
    other = read(folder, {**dict.fromkeys(BUDGETS), "minutes": 20}).training_config
    assert (other.minutes, other.epochs, other.steps) == (20, None, None)
    free = read(folder, {"patience": None, "clip_value": None}).training_config
    assert (free.patience, free.clip_value) == (None, None)


def test_patience_follows_the_validations_unless_it_was_given(plan: Plan, tmp_path: Path) -> None:
    for name, patience, expected in (("planned", plan.training_config.patience, 50), ("given", 7, 7)):
        training = replace(plan.training_config, patience=patience)
        folder = begun(replace(plan, training_config=training), tmp_path / "models" / name)
        assert read(folder, {"num_validations": 100}).training_config.patience == expected
        assert read(folder, {"num_validations": 100, "patience": 3}).training_config.patience == 3
        assert read(folder).training_config == training


def test_patience_that_was_given_stays_even_if_it_is_that_of_the_plan(text: Path, tmp_path: Path) -> None:
    settings = {"steps": 20, "batch_size": 4, "sequence_length": 16, "num_validations": 10}
    for given, expected in ({}, 50), ({"patience": 5}, 5):
        made = make_plan(Corpus([text]), {**settings, **given}, preset="tiny", hardware=Hardware(2e11))
        assert made.training_config.patience == 5
        folder = begun(made, tmp_path / "models" / f"songs-{expected}")
        assert read(folder, {"num_validations": 100}).training_config.patience == expected
    repeated = read(folder.with_name("songs-50"), {"patience": 5})
    write_training(folder, repeated.record)
    assert read(folder, {"num_validations": 100}).training_config.patience == 5
    write_training(folder, {key: value for key, value in repeated.record.items() if key != "is_patience_planned"})
    assert read(folder, {"num_validations": 100}).training_config.patience == 50, "an older record does not tell"


def test_whether_the_number_of_validations_was_planned_is_recorded(text: Path, tmp_path: Path) -> None:
    for given, expected in ({}, True), ({"num_validations": 10}, False):
        made = make_plan(Corpus([text]), {**SETTINGS, **given}, hardware=Hardware(flops=1e11))
        folder = begun(made, tmp_path / "models" / f"songs-{expected}")
        assert read(folder).record["are_validations_planned"] is expected
        assert read(folder, {"steps": 9}).record["are_validations_planned"] is expected
        write_training(folder, read(folder, {"num_validations": 4}).record)
        assert read(folder, {"minutes": 600.0}).training_config.num_validations == 4
    record = read_training(folder)
    del record["are_validations_planned"]
    write_training(folder, record)
    assert "are_validations_planned" not in read(folder).record, "an older record does not tell"


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


def test_the_time_of_compiling_does_not_count_for_the_length_of_a_longer_run(text: Path) -> None:
    """Only 80 of 120 seconds would be spent again, in each 60 steps."""
    from textgen.training.resumption import _length

    training = plan_for(text, steps=6000).training_config
    progress = {"step": 60, "epochs": 3.0, "seconds": 120.0}
    assert _length(progress, training) == (12_000.0, 300.0), "of an older version"
    assert _length(progress | {"compiling_seconds": 40.0}, training) == (8_000.0, 300.0)
    assert _length(progress | {"compiling_seconds": 70.0}, training) == (0.0, 300.0), "hardly measured"
    assert _length(progress | {"compiling_seconds": 40.0}, replace(training, minutes=20.0)) == (1200.0, 30.0)


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("seed", 4, "3"), ("hidden_units", 16, "8"), ("tokenizer", "bpe", "char"), ("documents", "file", "line"),
        ("vocab_size", 5000, r"\d+"), ("cell", "gru", "lstm"), ("dropout", 0.5, "0.2"), ("labels", "by", None),
        ("encoding", "utf-8", None), ("sequence_length", 9, "8"),
    ],
)  # fmt: skip
def test_other_settings_that_are_settled_are_named_with_what_they_were(
    folder: Path, name: str, value: Any, was: str | None
) -> None:
    how = "was not set when the run began" if was is None else f"was fixed when the run began, as {was}"
    with pytest.raises(ConfigError, match=rf"^{name} {how}: it cannot be changed when resuming"):
        read(folder, {name: value})


@pytest.mark.parametrize(
    ("given", "was"),
    [
        ({"optimizer": "rmsprop"}, "optimizer .* as sgd"),  # its mean squares have the shapes of sgd's velocities
        ({"momentum": 0.0}, r"momentum .* as 0\.5"),
        ({"weight_averaging": "ema"}, "weight_averaging .* as none"),
        ({"num_averaged": 2}, "num_averaged .* as 5"),
        ({"nonmonotone_interval": 2}, "nonmonotone_interval .* as 5"),
        ({"freeze_layers": ["embeding"]}, "freeze_layers .* as head"),
        ({"freeze_layers": ()}, "freeze_layers .* as head"),
        ({"batch_size": 4}, "batch_size times gradient_accumulation_steps .* as 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_checkpoints_depend_on_is_refused_by_name(
    text: Path, tmp_path: Path, given: dict[str, Any], was: str
) -> None:
    begin = {"optimizer": "sgd", "momentum": 0.5, "freeze_layers": ["head"]}
    plan = make_plan(Corpus([text]), {**SETTINGS, **begin}, hardware=Hardware(flops=1e11))
    folder = begun(plan, tmp_path / "models" / "songs")
    with pytest.raises(ConfigError, match=rf"^{was}: it cannot be changed when resuming\. .* start a new run\.$"):
        read(folder, given)
    fits = {**begin, "momentum": 0.9, "batch_size": 1, "gradient_accumulation_steps": 2, "weight_decay": 0.1}
    assert read(folder, fits).training_config.momentum == 0.9


def test_a_setting_that_does_nothing_in_the_run_is_refused(plan: Plan, tmp_path: Path) -> None:
    older = replace(plan, training_config=replace(plan.training_config, ema_decay=0.5))  # of a version that took it
    folder = begun(older, tmp_path / "models" / "songs")
    assert read(folder, {"ema_decay": 0.5}).training_config.ema_decay == 0.5
    with pytest.raises(ConfigError, match="With weight_averaging none, ema_decay does nothing: leave it out, or set"):
        read(folder, {"ema_decay": 0.9})


def test_the_automatic_precision_is_the_one_that_the_run_began_with(text: Path, tmp_path: Path) -> None:
    plan = make_plan(Corpus([text]), {**SETTINGS, "precision": "float16"}, hardware=Hardware(flops=1e11))
    folder = begun(plan, tmp_path / "models" / "songs")
    assert read(folder, {"precision": "auto"}).record["training"]["precision"] == "float16"
    assert read(folder, {"precision": "float32"}).training_config.precision == "float32"
    record = read_training(folder)
    record["training"]["precision"] = "auto"  # recorded by a resumption that failed for it
    write_training(folder, record)
    assert read(folder).training_config.precision in ("float32", "bfloat16", "float16")


@pytest.mark.parametrize("error", [TrainingError("no fit"), ValueError("odd"), KeyboardInterrupt()], ids=repr)
def test_a_resumption_that_cannot_begin_leaves_the_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*arguments: object) -> None:
        assert read_training(folder)["training"]["steps"] == 9
        raise error

    before = read_training(folder)
    monkeypatch.setattr(run, "_Run", fails)
    with pytest.raises(type(error)):
        run.resume(folder, {"steps": 9})
    assert read_training(folder) == before


def test_what_is_no_setting_is_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match="There is no setting 'stepps'"):
        read(folder, {"stepps": 3})


def test_the_same_model_and_vocabulary_again_are_no_error(folder: Path) -> None:
    from textgen.tokenizer.kinds import ByteTokenizer
    from textgen.tokenizer.model_file import read_tokenizer

    assert read(folder, given=ResumeSources(tokenizer=read_tokenizer(folder)))
    with pytest.raises(ConfigError, match="The vocabulary was fixed"):
        read(folder, given=ResumeSources(tokenizer=ByteTokenizer()))
    with pytest.raises(ConfigError, match="the model to start from was fixed when the run began, as none"):
        read(folder, given=ResumeSources(start="base"))


# === Damage ===


@pytest.mark.parametrize("saves", [True, False])
def test_a_vocabulary_that_was_altered_is_not_taken_over(plan: Plan, tmp_path: Path, saves: bool) -> None:
    folder = begun(plan, tmp_path / "models" / "songs", saves=saves)
    assert (folder / MANIFEST).exists() == saves
    data = bytearray((folder / MODEL_FILE).read_bytes())
    for position in (len(data) // 2, len(data) - 3):
        data[position] ^= 1
        (folder / MODEL_FILE).write_bytes(data)
        with pytest.raises(SavedModelError, match=f"{MODEL_FILE} was altered"):
            run.resume(folder)
        data[position] ^= 1
    (folder / MODEL_FILE).unlink()
    with pytest.raises(SavedModelError, match=f"{MODEL_FILE} is missing"):
        run.resume(folder)


def test_an_index_that_was_altered_is_not_taken_over(plan: Plan, tmp_path: Path) -> None:
    folder = begun(plan, tmp_path / "models" / "songs", saves=False)
    data = bytearray((folder / NGRAMS).read_bytes())
    data[-1] ^= 1
    (folder / NGRAMS).write_bytes(data)
    with pytest.raises(SavedModelError, match=f"{NGRAMS} was altered"):
        run.resume(folder)


def test_a_run_that_saved_a_model_has_a_manifest_of_what_was_written_first(folder: Path) -> None:
    files = read_training(folder)["files"]
    entries = read_manifest(folder)["files"]
    assert files == {name: entries[name] for name in (MODEL_FILE, NGRAMS, WORDS)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.pop("tokens"), "lacks 'tokens'"),
        (lambda record: record["corpus"].pop("fingerprint"), "lacks 'corpus.fingerprint'"),
        (lambda record: record["corpus"].update(config=5), "corpus.config should be an object, not 5"),
        (lambda record: record["corpus"].update(config={"documents": 5}), "documents must be"),
        (lambda record: record.update(status=5), "status should be a string, not 5"),
        (lambda record: record["training"].update(steps="x"), "steps must be"),
        (lambda record: record["model"].update(vocab_size=None), "vocab_size should be an integer"),
        (lambda record: record.update(files={MODEL_FILE: 1}), "should be an object, not 1"),
        (lambda record: record["progress"].update(epochs=1e999), "epochs should be a number, not inf"),
    ],
)
def test_a_damaged_record_is_one_clear_line(folder: Path, change: Callable[[Any], object], words: str) -> None:
    record = read_training(folder)
    change(record)
    write_file(folder / TRAINING, json.dumps(record).encode())  # `json_bytes` writes no infinity
    with pytest.raises(SavedModelError, match=rf"{TRAINING} is damaged: .*{words}.*\. Copy the whole folder again\.$"):
        run.resume(folder)


# === What to do ===


def advice(call: Callable[[], object]) -> str:
    with pytest.raises(TextgenError) as caught:
        call()
    return str(caught.value)


def test_advice_is_not_in_a_circle(plan: Plan, tmp_path: Path, resumed: list[RunSetup]) -> None:
    """Whatever is left of a run, what one command advises is not refused by the other."""
    folder = begun(plan, tmp_path / "models" / "songs", saves=False)
    assert "resume it" in advice(lambda: load_model("songs"))
    run.resume(folder)
    shutil.rmtree(folder / CHECKPOINTS)
    assert "train again as before" in advice(lambda: load_model("songs"))
    assert "train again without resuming" in advice(lambda: run.resume(folder))
    run.train(plan, folder)
    begun(plan, folder)  # over what a killed run has left
    assert "resume it, remove it" in advice(lambda: run.train(plan, folder))
    (folder / CHECKPOINTS / "step-000000001" / MANIFEST).unlink()
    assert "remove it and train again" in advice(lambda: run.resume(folder))
    shutil.rmtree(folder / CHECKPOINTS)
    assert "Start a new run from this model, with another name" in advice(lambda: run.resume(folder))
    assert "remove it, or choose another name" in advice(lambda: run.train(plan, folder))
    (folder / TRAINING).unlink()
    assert "Start a new run from it" in advice(lambda: run.resume(folder))


def command(*arguments: str) -> Any:
    return CliRunner().invoke(textgen, arguments, catch_exceptions=False, prog_name="textgen")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], ResumeSources]]:
    """What the command line asks of `resume`."""
    calls: list[tuple[str, dict[str, Any], ResumeSources]] = []

    def noted(target: Path, settings: dict[str, Any], sources: ResumeSources, **others: Any) -> Any:
        calls.append((target.name, settings, sources))
        raise TextgenError("far enough")

    monkeypatch.setattr("textgen.training.run.resume", noted)
    return calls


def test_without_a_name_the_newest_run_with_a_checkpoint_is_resumed(
    plan: Plan, text: Path, tmp_path: Path, asked: list[tuple[str, dict[str, Any], ResumeSources]]
) -> None:
    models = tmp_path / "models"
    for age, name in enumerate(("songs", "songs-2", "other")):
        begun(plan, models / name)
        if name == "other":  # it was killed while it replaced its only checkpoint
            move_aside(models / name / CHECKPOINTS / "step-000000001")
        os.utime(models / name / CHECKPOINTS, (1e9 + age, 1e9 + age))
    (models / "killed" / CHECKPOINTS).mkdir(parents=True)
    (models / "killed" / TRAINING).write_text("{}")
    (models / "linked").mkdir()
    (models / "linked" / CHECKPOINTS).symlink_to(models / "songs" / CHECKPOINTS)
    (models / "linked" / TRAINING).write_text("{}")
    command("train", "--resume")
    command("train", str(text), "--resume")
    assert [name for name, _, _ in asked] == ["other", "songs-2"]
    assert list(asked[1][2].paths) == [str(text)]


def test_with_a_corpus_of_another_name_the_runs_to_choose_from_are_named(
    plan: Plan, tmp_path: Path, asked: list[tuple[str, dict[str, Any], ResumeSources]]
) -> None:
    models = tmp_path / "models"
    (models / "killed" / CHECKPOINTS).mkdir(parents=True)
    (models / "killed" / TRAINING).write_text("{}")
    nothing = command("train", "poems.txt", "--resume")
    assert (nothing.exit_code, "There is no run to resume in" in nothing.stderr) == (1, True)
    for age, name in enumerate(("songs", "other")):
        begun(plan, models / name)
        os.utime(models / name / CHECKPOINTS, (1e9 + age, 1e9 + age))
    for paths in (["poems.txt"], ["poems/spring.txt", "poems/winter.txt"]):
        result = command("train", *paths, "--resume")
        assert (result.exit_code, "is named poems, after the text" in result.stderr) == (1, True)
        assert "set --name to one of: other, songs." in result.stderr
    assert not asked


def test_a_command_can_be_given_again_with_resume(
    folder: Path, text: Path, asked: list[tuple[str, dict[str, Any], ResumeSources]]
) -> None:
    flags = ["--preset", "tiny", "--valid-fraction", "0.2", "--steps", "9", "--hidden-units", "8"]
    command("train", str(text), "--name", "songs", "--resume", "--tokenizer-from", "songs", "--from", "base", *flags)
    ((name, settings, given),) = asked
    assert (name, given.start, list(given.paths)) == ("songs", "base", [str(text)])
    assert settings == {
        "embedding_dim": 8, "hidden_units": 8, "num_layers": 1, "valid_fraction": 0.2, "steps": 9,
    }  # fmt: skip
    assert given.tokenizer
    assert given.tokenizer.fingerprint() == load_model("songs").tokenizer.fingerprint()


def test_a_command_for_a_prepared_folder_can_be_given_again_with_resume(
    text: Path, tmp_path: Path, asked: list[tuple[str, dict[str, Any], ResumeSources]]
) -> None:
    own = {"tokenizer": "char", "character_coverage": 0.999, "sample_bytes": 100_000}
    prepared = prepare_corpus([str(text)], tmp_path / "prepared", {**own, "documents": "line"})
    given = {**SETTINGS, **own, "vocab_size": prepared.settings.tokenizer["vocab_size"]}
    folder = begun(make_plan(prepared, given, hardware=Hardware(flops=1e11)), tmp_path / "models" / "songs")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    command("train", str(tmp_path / "prepared"), "--name", "songs", "--resume", *flags)
    ((_, settings, sources),) = asked
    assert settings == given
    assert read(folder, settings, sources).tokenizer_config == read(folder).tokenizer_config
    with pytest.raises(ConfigError, match=r"^character_coverage was fixed when the run began, as 0\.999"):
        read(folder, {"character_coverage": 0.99})


@pytest.mark.parametrize("given", [{"hidden_units": 12}, {"hidden_units": 12, "embedding_dim": 10}, {"num_layers": 2}])
def test_a_preset_with_single_sizes_is_the_same_network_when_it_is_given_again(
    text: Path, tmp_path: Path, asked: list[tuple[str, dict[str, Any], ResumeSources]], given: dict[str, Any]
) -> None:
    others: dict[str, Any] = {"tokenizer": "char", "batch_size": 2, "sequence_length": 8, "steps": 4}
    plan = make_plan(Corpus([text]), {**others, **given}, preset="tiny", hardware=Hardware(flops=1e11))
    folder = begun(plan, tmp_path / "models" / "songs")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**others, **given}.items()]
    command("train", str(text), "--name", "songs", "--resume", "--preset", "tiny", *flags)
    with pytest.raises(TextgenError, match="far enough"):
        train(text, resume="songs", models_dir=folder.parent, preset="tiny", **others, **given)
    assert len(asked) == 2
    for _, settings, _ in asked:
        assert read(folder, settings).model_config == read(folder).model_config


READING = (  # commands that read a model and leave it as it is
    ("models", "show", "songs"),
    ("sample", "songs", "--max-tokens", "1"),
    ("score", "songs", "songs.txt"),
    ("embed", "songs", "songs.txt"),
    ("inspect", "songs", "songs.txt"),
    ("export", "songs", "songs.html"),
    ("train", "songs.txt", "--from", "songs", "--dry-run"),
)


def test_every_command_that_reads_a_model_says_so_the_same_way() -> None:
    """All that load one by name go through `load_model_to_read`."""
    cli = Path(run.__file__).parents[1] / "cli"
    loading = {path.name for path in cli.glob("*.py") if re.search(r"import load_model\b", path.read_text("utf-8"))}
    assert loading == {"default_model.py", "import_.py", "models.py"}  # the last two change models


def test_what_runs_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "songs.txt").write_text("the moon sang\n" * 100, encoding="utf-8")

    def row() -> Any:
        (found,) = json.loads(command("models", "list", "--json").stdout)
        return found

    assert row()["status"] == status_of(folder, {"status": "running"}) == "interrupted"
    with locked(folder):
        assert row()["status"] == "running"
        for arguments in READING:
            assert "songs is being trained at the moment; this is what was saved" in command(*arguments).stderr, (
                arguments
            )
        result = command("models", "remove", "songs", "--yes")
        assert (result.exit_code, "Another process is writing to" in result.stderr) == (1, True)
        (folder / MANIFEST).unlink()
        assert row()["status"] == "running"
        assert "resume it" not in row()["problem"]
    assert row()["status"] == "unknown"

"""Where a new model may be made, and what is left of a failed run."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from model_folders import NO_MODELS, OTHER_TOKENIZER, TRAINING_VALUES, everything_in, files_in, save, saved
from safetensors.numpy import save as to_safetensors

from textgen.dataset.bloom_filter import BloomFilter
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import word_filter
from textgen.errors import SavedModelError, TextgenError, TrainingError
from textgen.saved_model.creation import claimed, claimed_or_another, free_folder, refuse_in_model
from textgen.saved_model.layout import CARD, CHECKPOINTS, CONFIG, LOGS, NGRAMS, TRAINING, WEIGHTS, WORDS
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_ngrams, save_words, write_training
from textgen.storage.files import json_bytes, write_file
from textgen.storage.locks import Gone, is_locked, locked
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.model_file import MODEL_FILE, read_tokenizer

__all__ = ["saved"]


def other_network(folder: Path) -> None:
    folder.mkdir()
    for name in (CONFIG, WEIGHTS, MODEL_FILE):
        (folder / name).write_bytes(b"of another program")


def other_vocabulary(folder: Path) -> None:
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(b"of another program")


def own_vocabulary(folder: Path) -> None:
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(OTHER_TOKENIZER)


def other_words(folder: Path) -> None:
    own_vocabulary(folder)
    (folder / WORDS).write_bytes(to_safetensors({"words": np.zeros(1)}))


def other_ngrams(folder: Path) -> None:
    own_vocabulary(folder)
    words = word_filter(Counter(moon=3, fox=4, river=5))
    assert words
    save_words(folder, words)
    (folder / WORDS).rename(folder / NGRAMS)


def other_project(folder: Path) -> None:
    folder.mkdir()
    (folder / TRAINING).write_text('{"lr": 1}')
    (folder / CARD).write_text("# My project")


NO_PLACES = {kind: make for kind, (make, _) in NO_MODELS.items() if "link" not in kind} | {
    "another program's network": other_network,
    "another program's vocabulary": other_vocabulary,
    "a vocabulary that textgen tokenizer made": own_vocabulary,
    "another program's words": other_words,
    "a file that is not what its name says": other_ngrams,
    "another program's training with a card": other_project,
}


@pytest.mark.parametrize("kind", NO_PLACES)
def test_no_model_is_made_where_something_else_is(tmp_path: Path, kind: str) -> None:
    (tmp_path / "models").mkdir()
    NO_PLACES[kind](tmp_path / "models" / "x")
    before = everything_in(tmp_path)
    with pytest.raises(TrainingError, match="is not a model folder: "), claimed(tmp_path / "models" / "x"):
        raise AssertionError
    assert everything_in(tmp_path) == before


def test_a_model_is_made_in_one_folder_below_the_models_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project")
    for name in ("..", "deep/.."):
        with pytest.raises(SavedModelError, match="one part of a path"), claimed(tmp_path / "models" / name):
            raise AssertionError
    assert everything_in(tmp_path) == {"README.md": b"# My project"}


def test_what_a_killed_run_left_is_swept_and_its_folder_held(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    (folder / ".tmp-1").write_bytes(b"half")
    save_ngrams(folder, NgramIndex(6, [BloomFilter.for_size(10)]))
    (folder / MODEL_FILE).write_bytes(OTHER_TOKENIZER)
    with claimed(folder), pytest.raises(TextgenError, match="Another process is writing to"), claimed(folder):
        pass
    assert os.listdir(folder) == []


def test_a_folder_that_only_a_desktop_has_filled_is_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    (folder / ".DS_Store").touch()
    with claimed(folder):
        assert is_locked(folder)


def test_another_folder_is_claimed_in_place_of_one_that_was_made_meanwhile(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("x", "x-2", "x-3"))
    with claimed(first), claimed(second):
        others = iter([second, third])
        with claimed_or_another(first, lambda: next(others)) as place:
            assert place == third
        with pytest.raises(TextgenError, match="Another process is writing to"), claimed_or_another(first, None):
            pass
    with claimed_or_another(tmp_path / "y", lambda: pytest.fail("it is free")) as place:
        assert place == tmp_path / "y"


def failed_run(folder: Path) -> None:
    """What a run leaves that is killed before its first checkpoint."""
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(OTHER_TOKENIZER)
    save_ngrams(folder, NgramIndex(6, [BloomFilter.for_size(10)]))
    words = word_filter(Counter(moon=3, fox=4, river=5))
    assert words
    save_words(folder, words)
    write_training(folder, TRAINING_VALUES | {"status": "running"})
    (folder / LOGS / "plugins").mkdir(parents=True)
    (folder / LOGS / "events.out.tfevents.1").write_bytes(b"x")
    (folder / CHECKPOINTS / ".tmp-step-000000001-x").mkdir(parents=True)
    (folder / f"{CONFIG}.new").write_bytes(b"{}")


@pytest.mark.parametrize("left", ["all", "no record", "the record alone"])
def test_nothing_of_a_failed_run_is_part_of_the_next_model(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "models" / "x"
    failed_run(folder)
    if left != "all":  # killed before it had made all of them
        shutil.rmtree(folder / LOGS)
        shutil.rmtree(folder / CHECKPOINTS)
        (folder / CARD).unlink()
    if left == "no record":
        (folder / TRAINING).unlink()
    if left == "the record alone":
        for name in (MODEL_FILE, NGRAMS, WORDS, f"{CONFIG}.new"):
            (folder / name).unlink()
    with claimed(folder):
        assert os.listdir(folder) == []
        save(folder, ByteTokenizer())
    assert sorted(files_in(folder)) == sorted([CONFIG, MANIFEST, WEIGHTS])
    found = load_model("x")
    assert (found.training, found.has_ngrams, found.words()) == ({}, False, None)
    assert found.record["parameters"] == found.model_config.num_parameters
    assert read_tokenizer(folder).kind == "byte"


def test_a_failed_run_does_not_take_the_name_of_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    failed_run(folder)
    assert free_folder(tmp_path, "page.txt") == folder
    with claimed_or_another(folder, lambda: free_folder(tmp_path, "page.txt")) as place:
        assert place == folder
        save(folder, ByteTokenizer())
    assert free_folder(tmp_path, "page.txt") == tmp_path / "page-2"


@pytest.mark.parametrize("kept", ["empty", "runs", "checkpoint", "foreign file", "link", "link in it", *NO_PLACES])
def test_any_other_folder_takes_its_name(tmp_path: Path, kept: str) -> None:
    folder = tmp_path / "page"
    if kept in NO_PLACES:
        NO_PLACES[kept](folder)
    elif kept == "empty":
        folder.mkdir()
    elif kept == "link":
        failed_run(tmp_path / "other")
        folder.symlink_to(tmp_path / "other")
    else:
        failed_run(folder)
    if kept == "checkpoint":
        (folder / CHECKPOINTS / "step-000000001").mkdir()
    elif kept == "foreign file":
        (folder / "notes.txt").write_text("mine")
    elif kept == "link in it":
        (folder / LOGS / "link").symlink_to(tmp_path)
    with locked(folder) if kept == "runs" else nullcontext():
        assert free_folder(tmp_path, "page.txt") == tmp_path / "page-2"


@pytest.mark.parametrize("file", [f"{CHECKPOINTS}/best/state", f"{LOGS}/notes.txt", f"{LOGS}/mine/notes.txt"])
def test_what_somebody_put_among_the_files_of_a_failed_run_stays(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "models" / "x"
    failed_run(folder)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"mine")
    before = everything_in(folder)
    with pytest.raises(TrainingError, match="x is not a model folder: textgen did not write '"), claimed(folder):
        raise AssertionError
    assert everything_in(folder) == before
    assert free_folder(folder.parent, "x.txt") == folder.parent / "x-2"


def test_what_somebody_puts_among_the_logs_of_a_run_that_fails_stays(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    with suppress(KeyboardInterrupt), claimed(folder):
        (folder / LOGS).mkdir()
        (folder / LOGS / "notes.txt").write_bytes(b"mine")
        raise KeyboardInterrupt
    assert everything_in(folder) == {f"{LOGS}/notes.txt": b"mine"}


def stopped_after(folder: Path, written: Callable[[], object]) -> None:
    """Claims a folder, writes something into it, and is stopped."""
    with suppress(KeyboardInterrupt), claimed(folder):
        written()
        raise KeyboardInterrupt


@pytest.mark.parametrize("names", [(), (NGRAMS,), (NGRAMS, WORDS)])
def test_a_run_that_is_stopped_before_its_record_leaves_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = tmp_path / "models" / "x"
    failed_run(tmp_path / "other")
    stopped_after(folder, lambda: [shutil.copy(tmp_path / "other" / name, folder) for name in names])
    assert not folder.exists()
    stopped_after(folder, lambda: write_training(folder, TRAINING_VALUES | {"status": "running"}))
    assert (folder / TRAINING).exists(), "a run that has begun stays"


def test_a_checkpoint_that_was_moved_aside_when_a_run_was_killed_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    failed_run(folder)
    (folder / CHECKPOINTS / ".tmp-old-ab-step-000000001").mkdir()
    with pytest.raises(TrainingError, match="already holds a model: resume it"), claimed(folder):
        raise AssertionError
    assert (folder / CHECKPOINTS / "step-000000001").is_dir()
    assert (folder / TRAINING).exists()


@pytest.mark.parametrize("place", [WEIGHTS, "page.html", f"{CHECKPOINTS}/step-000000001/state.safetensors", "link"])
def test_nothing_is_written_into_the_folder_of_a_model(saved: Path, tmp_path: Path, place: str) -> None:
    (saved / CHECKPOINTS / "step-000000001").mkdir(parents=True)
    (tmp_path / "link").symlink_to(saved / WEIGHTS)
    path = tmp_path / "link" if place == "link" else saved / place
    with pytest.raises(SavedModelError, match=rf"Cannot write {path}: {saved} is the folder of a model and holds"):
        refuse_in_model(path)


def test_a_file_beside_or_below_a_model_may_be_written(saved: Path) -> None:
    (saved / "serving").mkdir()
    for path in (saved.parent / "page.html", saved.parent / "serving", saved / "serving" / "saved_model.pb"):
        refuse_in_model(path)
    failed_run(saved.parent / "failed")
    with pytest.raises(SavedModelError, match="failed is the folder of a model"):
        refuse_in_model(saved.parent / "failed" / MODEL_FILE)


def test_a_new_folder_in_that_of_a_model_is_refused_at_any_depth(saved: Path) -> None:
    (saved / "serving").mkdir()
    for path, is_filled in ((saved, True), (saved / "new", True), (saved / "new" / "deep" / "file", False)):
        with pytest.raises(SavedModelError, match=rf"Cannot write {path}: {saved} is the folder of a model"):
            refuse_in_model(path, is_filled=is_filled)
    refuse_in_model(saved / "serving", is_filled=True)
    with pytest.raises(SavedModelError, match="is the folder of a model"), claimed(saved / "models"):
        raise AssertionError
    assert not (saved / "models").exists()


def test_a_web_page_with_a_manifest_is_no_model(tmp_path: Path) -> None:
    """On a disk that ignores case its manifest.json has the name of ours."""
    write_file(tmp_path / CONFIG, b"{}")
    for manifest in ({"name": "my app", "icons": []}, {"files": {"index.html": {"size": 1, "sha256": "0"}}}):
        write_file(tmp_path / MANIFEST, json_bytes(manifest))
        refuse_in_model(tmp_path / "page.html")
    write_file(tmp_path / MANIFEST, json_bytes({"files": {CONFIG: {"size": 1, "sha256": "0"}}}))
    with pytest.raises(SavedModelError, match="is the folder of a model"):
        refuse_in_model(tmp_path / "page.html")


def test_a_folder_in_which_nothing_came_to_be_goes_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "models" / "x"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "models") == []


@pytest.mark.parametrize("write", ["model", "record", "index"])
def test_a_folder_that_was_moved_gets_no_model(tmp_path: Path, write: str) -> None:
    folder, moved = tmp_path / "models" / "x", tmp_path / "models" / "y"
    writes: dict[str, Callable[[], object]] = {
        "model": lambda: save(folder, ByteTokenizer()),
        "record": lambda: write_training(folder, TRAINING_VALUES),
        "index": lambda: save_ngrams(folder, NgramIndex(6, [BloomFilter.for_size(10)])),
    }

    def run() -> None:
        with claimed(folder):
            folder.rename(moved)
            folder.mkdir()
            (folder / MODEL_FILE).write_bytes(b"of another run")
            writes[write]()

    with pytest.raises(Gone, match="x was moved or removed"):
        run()
    assert everything_in(folder) == {MODEL_FILE: b"of another run"}
    assert everything_in(moved) == {}


def test_a_run_on_a_disk_that_fails_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, lstat, listdir = tmp_path / "models" / "x", Path.lstat, os.listdir

    def failing_lstat(path: Path) -> os.stat_result:
        if path.name == MANIFEST:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return lstat(path)

    def failing_listdir(path: Path) -> list[str]:
        if Path(path).name == CHECKPOINTS:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listdir(path)

    def run(patch: pytest.MonkeyPatch, place: object, name: str, fails: Callable[..., object]) -> None:
        with claimed(folder):
            save(folder, ByteTokenizer())
            if place is os:
                (folder / MANIFEST).unlink()  # only its checkpoints tell that there is a run
            patch.setattr(place, name, fails)
            raise KeyboardInterrupt

    for place, name, fails in ((Path, "lstat", failing_lstat), (os, "listdir", failing_listdir)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            run(patch, place, name, fails)
        assert (folder / WEIGHTS).exists()
        shutil.rmtree(folder)

"""A model is removed, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from model_folders import NO_MODELS, TRAINING_VALUES, everything_in, saved, three

from textgen.errors import SavedModelError, TextgenError
from textgen.saved_model.layout import (
    CARD,
    CHECKPOINTS,
    CONFIG,
    EMBEDDING_FILE,
    LOGS,
    PIECES_FILE,
    POSITION,
    PROJECTOR_FILE,
    TENSORS,
    TRAINING,
    WEIGHTS,
)
from textgen.saved_model.registry import list_models
from textgen.saved_model.removal import remove_model
from textgen.saved_model.saving import write_training
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.model_file import MODEL_FILE

__all__ = ["saved", "three"]


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def test_list_and_remove(three: Path) -> None:
    assert list_models() == list_models(three) == [three / "a", three / "b", three / "c"]
    remove_model(three / "b")
    assert not (three / "b").exists()
    assert list_models() == [three / "a", three / "c"]
    with pytest.raises(SavedModelError, match=r"There is no model 'b' in .*models"):
        remove_model(three / "b")
    assert list_models(three / "nowhere") == []


def test_what_a_failed_removal_leaves_is_no_model(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError("busy")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(SavedModelError, match=r"Cannot remove .*b: busy\."):
        remove_model(three / "b")
    assert list_models() == [three / "a", three / "c"]


def test_a_folder_that_cannot_be_opened_is_not_said_to_be_written(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", refuse)
    message = r"^Cannot remove .*b: Permission denied\. Change the permissions, or ask the owner to\.$"
    with pytest.raises(SavedModelError, match=message):
        remove_model(three / "b")


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("textgen.saved_model.removal.os.listdir", fail)
        with pytest.raises(SavedModelError, match=r"Cannot remove .*b: Input/output error\. Try again"):
            remove_model(three / "b")
    assert (three / "b" / WEIGHTS).exists()


def test_a_file_is_not_removed(three: Path) -> None:
    (three / "notes").write_text("mine")
    with pytest.raises(SavedModelError, match=r"Cannot remove .*notes: it is not a folder\. Remove it yourself"):
        remove_model(three / "notes")
    assert (three / "notes").read_text() == "mine"


@pytest.mark.parametrize("kind", NO_MODELS)
def test_what_is_no_model_is_not_removed(tmp_path: Path, kind: str) -> None:
    make, words = NO_MODELS[kind]
    (tmp_path / "models").mkdir()
    make(tmp_path / "models" / "x")
    before = everything_in(tmp_path)
    with pytest.raises(SavedModelError, match=rf"Cannot remove .*x: {words}"):
        remove_model(tmp_path / "models" / "x")
    assert everything_in(tmp_path) == before
    assert (tmp_path / "models" / "x").is_dir()


@pytest.mark.parametrize("kind", ["empty", "killed race", "record"])
def test_what_is_left_of_a_killed_training_is_removed(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    if kind != "empty":
        (folder / ".tmp-race-abc" / "none" / "x").mkdir(parents=True)
        (folder / ".tmp-race-abc" / "none" / "x" / WEIGHTS).write_bytes(b"0")
    if kind == "record":
        write_training(folder, TRAINING_VALUES)
        (folder / CARD).unlink()
    remove_model(folder)
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize("name", [".DS_Store", "._model.safetensors", "Thumbs.db", "desktop.ini", ".directory"])
def test_a_file_of_a_desktop_is_no_reason_to_keep_a_model(three: Path, name: str) -> None:
    (three / "left").mkdir()
    for model in ("a", "unfinished", "left"):
        (three / model / name).touch()
        remove_model(three / model)
        assert not (three / model).exists()


def test_a_folder_that_is_called_like_a_file_of_a_desktop_is_somebody_s_own(three: Path) -> None:
    drafts = three / "a" / "._drafts"
    drafts.mkdir()
    (drafts / "letter.txt").touch()
    with pytest.raises(TextgenError, match=r"textgen did not write '\._drafts' in it"):
        remove_model(three / "a")
    assert (drafts / "letter.txt").exists()


SOMEBODY_S = [
    f"{LOGS}/notes.txt",
    f"{LOGS}/inspect/notes.txt",
    f"{LOGS}/pieces.tsv/notes.txt",
    f"{LOGS}/events.out.tfevents.1/notes.txt",
    f"{LOGS}/plugins/profile/notes.txt",
    f"{CHECKPOINTS}/mine/thesis.txt",
    f"{CHECKPOINTS}/thesis.txt",
    f"{CHECKPOINTS}/step-000000001/thesis.txt",
    f"{CHECKPOINTS}/step-000000001/{MANIFEST}/thesis.txt",
    f"{CHECKPOINTS}/step-1-mine/thesis.txt",
    f"{TRAINING}/notes.txt",
    f"{CARD}.new/notes.txt",
    f"{LOGS}.new",
]


@pytest.mark.parametrize("file", SOMEBODY_S)
def test_what_somebody_put_below_the_folder_of_a_model_is_not_removed(saved: Path, file: str) -> None:
    (saved / file).parent.mkdir(parents=True, exist_ok=True)
    (saved / file).write_text("mine")
    before = everything_in(saved)
    with pytest.raises(SavedModelError, match=r"Cannot remove .*songs: textgen did not write '[^']+' in it") as error:
        remove_model(saved)
    assert file.startswith(str(error.value).split("'")[1]), "the path that somebody made is named"
    assert everything_in(saved) == before


@pytest.mark.parametrize("name", [LOGS, CHECKPOINTS])
def test_a_file_in_the_place_of_the_logs_or_the_checkpoints_is_not_removed(saved: Path, name: str) -> None:
    (saved / name).write_text("mine")
    with pytest.raises(SavedModelError, match=f"textgen did not write '{name}' in it"):
        remove_model(saved)
    assert (saved / name).read_text() == "mine"


def test_a_link_of_somebody_among_the_logs_is_not_removed(saved: Path, tmp_path: Path) -> None:
    (saved / LOGS).mkdir()
    (saved / LOGS / "mine").symlink_to(tmp_path)
    with pytest.raises(SavedModelError, match=f"textgen did not write '{LOGS}/mine' in it"):
        remove_model(saved)


def test_all_that_a_training_and_tensorboard_write_is_removed(saved: Path) -> None:
    for file in (
        f"{LOGS}/events.out.tfevents.1796056712.629935.4074",
        f"{LOGS}/{PIECES_FILE}",
        f"{LOGS}/{EMBEDDING_FILE}",
        f"{LOGS}/{PROJECTOR_FILE}",
        f"{LOGS}/.tmp-ab",
        f"{LOGS}/.DS_Store",
        f"{LOGS}/inspect/events.out.tfevents.1796056712.629935.4074",
        f"{LOGS}/plugins/profile/2026_11_30_10_34_12/vm.xplane.pb",
        f"{LOGS}/train/events.out.tfevents.1.host.2.0.v2",
        f"{LOGS}/train/keras_embedding.ckpt-1.weights.h5",
        f"{CHECKPOINTS}/.DS_Store",
        f"{CHECKPOINTS}/.tmp-old-ab-step-000000001/{POSITION}",
        f"{CHECKPOINTS}/step-000000002/.DS_Store",
        *(f"{CHECKPOINTS}/step-000000002/{name}" for name in (MANIFEST, TENSORS, POSITION)),
    ):
        (saved / file).parent.mkdir(parents=True, exist_ok=True)
        (saved / file).write_bytes(b"x")
    remove_model(saved)
    assert not saved.exists()


def test_a_model_that_is_in_use_is_not_removed(three: Path) -> None:
    before = everything_in(three)
    for name in ("a", "unfinished"):
        with locked(three / name), pytest.raises(TextgenError, match="Another process is writing to"):
            remove_model(three / name)
    assert everything_in(three) == before


@pytest.mark.parametrize("damage", [MANIFEST, CONFIG, WEIGHTS, MODEL_FILE])
def test_a_damaged_model_can_be_removed(saved: Path, damage: str) -> None:
    (saved / damage).write_bytes(b"{")
    (saved / LOGS).mkdir()
    (saved / ".tmp-123").write_bytes(b"")
    remove_model(saved)
    assert list(saved.parent.iterdir()) == []


def test_what_a_removal_could_not_delete_is_deleted_later(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: os.rmdir(path))
        with pytest.raises(SavedModelError, match=r"Cannot remove .*b: .* was renamed to .*\.tmp-removed-"):
            remove_model(three / "b")
    (left,) = three.glob(".tmp-removed-*")
    with locked(left):
        remove_model(three / "a")
        assert left.exists(), "another process is about to delete it"
    with pytest.raises(SavedModelError, match="There is no model 'b'"):
        remove_model(three / "b")
    assert not left.exists()


def test_a_signal_while_a_model_is_deleted_leaves_nothing_of_it(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really, calls = shutil.rmtree, list[Path]()

    def interrupted(path: Path, ignore_errors: bool = False) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        really(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^Interrupted\. .*b was being deleted by then, and is removed\.$"):
        remove_model(three / "b")
    assert list_models() == [three / "a", three / "c"]
    assert not list(three.glob(".tmp-*"))


def test_nothing_but_the_model_itself_is_removed_whatever_links_are_in_it(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (saved / LOGS).symlink_to(tmp_path / "mine")
    (saved / CHECKPOINTS).mkdir()
    (saved / CHECKPOINTS / "step-000000001").symlink_to(tmp_path / "mine")
    remove_model(saved)
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert not saved.exists()

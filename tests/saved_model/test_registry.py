"""Models by name: found, listed, and what their training is doing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from model_folders import prepared_corpus, save, saved, three

from textgen.errors import SavedModelError
from textgen.saved_model.layout import CONFIG, LOGS, WEIGHTS
from textgen.saved_model.loading import load_model
from textgen.saved_model.registry import (
    NoSuchModel,
    about_misnamed,
    find_model,
    find_run,
    list_models,
    list_runs,
    models_folder,
    status_of,
    why_empty,
)
from textgen.saved_model.removal import remove_model
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST, update_folder
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.model_file import MODEL_FILE

__all__ = ["saved", "three"]


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def test_find_model(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model() == three / "a"
    assert find_model("b") == find_model(str(three / "b")) == find_model("b", three) == three / "b"
    os.utime(three / "c" / MANIFEST)
    assert find_model() == find_model(None, three) == three / "c"
    elsewhere = save(tmp_path / "elsewhere", ByteTokenizer())
    assert find_model(str(elsewhere)) == elsewhere
    monkeypatch.chdir(tmp_path)
    assert find_model("elsewhere") == Path("elsewhere")
    assert load_model("b").name == "b"


def test_a_name_in_the_models_folder_goes_before_a_path(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(save(three.parent / "work" / "a", ByteTokenizer()).parent)
    assert find_model("a") == three / "a"


def test_a_model_that_is_not_there(three: Path, tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=rf"There is no model 'x' in {three}\. There are: a, b, c\."):
        find_model("x")
    with pytest.raises(SavedModelError, match="'unfinished' has saved no model yet, nor a checkpoint: train again"):
        find_model("unfinished")
    (three / "unfinished" / "checkpoints" / "step-000000000").mkdir(parents=True)
    with pytest.raises(SavedModelError, match="'unfinished' has saved no model yet: resume it, or remove it"):
        find_model("unfinished")
    with (
        locked(three / "unfinished"),
        pytest.raises(SavedModelError, match="'unfinished' is running and has saved no model yet: wait for"),
    ):
        find_model("unfinished")
    with pytest.raises(
        SavedModelError, match=r"There is no model 'x', since there is no folder .*empty\. .* set models_"
    ):
        find_model("x", tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        SavedModelError, match=r"There is no model 'x' in .*empty\. It holds no model yet: train one first\."
    ):
        find_model("x", tmp_path / "empty")
    with pytest.raises(SavedModelError, match=r"There is no model in .*empty yet\. Train a model first\."):
        find_model(None, tmp_path / "empty")
    text = tmp_path / "song.txt"
    text.write_text("la")
    with pytest.raises(SavedModelError, match=r"song\.txt' is a file, not a model\. There are: a, b, c\.$"):
        find_model(str(text))
    with pytest.raises(
        SavedModelError, match=r"song\.txt' is a file, not a model\. There is no model in .*none yet\.$"
    ):
        find_model(str(text), tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("novle", "There are: fables, novel. Bases: english. Did you mean 'novel'?"),
        ("englsh", "There are: fables, novel. Bases: english. Did you mean 'english'?"),
        ("x", "There are: fables, novel. Bases: english."),
    ],
)
def test_a_misspelled_name(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    for place in ("models/novel", "models/fables", "bases/english"):
        shutil.copytree(tiny_models / "tiny", tmp_path / place)
    monkeypatch.setenv("TEXTGEN_BASES", str(tmp_path / "bases"))
    with pytest.raises(NoSuchModel, match=f"{re.escape(expected)}$"):
        find_model(name)
    of_own = expected.replace(" Bases: english.", "").removesuffix(" Did you mean 'english'?")
    with pytest.raises(NoSuchModel, match=f"{re.escape(of_own)}$"):
        find_run(name)
    (tmp_path / "empty").mkdir()
    of_none = "It holds no model yet: train one first."
    of_bases = expected.replace("There are: fables, novel.", of_none).removesuffix(" Did you mean 'novel'?")
    with pytest.raises(NoSuchModel, match=f"{re.escape(of_bases)}$"):
        find_model(name, tmp_path / "empty")
    with pytest.raises(NoSuchModel, match=f"{re.escape(of_none)}$"):
        find_run(name, tmp_path / "empty")
    with pytest.raises(NoSuchModel, match=r" yours\. Bases: english\."):
        find_model(name, tmp_path / "none")
    with pytest.raises(SavedModelError, match=r" yet\. Train a model first\. Bases: english\.$"):
        find_model(None, tmp_path / "empty")
    with pytest.raises(SavedModelError, match=r" yet\. Train a model first\.$"):
        find_model(None, tmp_path / "empty", with_bases=False)


def test_a_training_without_a_model_is_a_run(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run("unfinished") == find_run(str(three / "unfinished")) == three / "unfinished"
    assert find_run((three / "unfinished").as_uri()) == three / "unfinished"
    assert find_run("b") == three / "b"
    assert list_runs() == [three / "a", three / "b", three / "c", three / "unfinished"]
    with pytest.raises(SavedModelError, match=r"There is no model 'x' in .*\. There are: a, b, c\."):
        find_run("x")
    monkeypatch.chdir(three)
    with pytest.raises(SavedModelError, match="'unfinished' has saved no model yet, nor a checkpoint"):
        find_model("unfinished", tmp_path / "elsewhere")
    (three / "checkpoints" / "checkpoints").mkdir(parents=True)  # of another program
    with pytest.raises(SavedModelError, match="There is no model 'checkpoints'"):
        find_run("checkpoints")
    remove_model(find_run("unfinished"))
    assert not (three / "unfinished").exists()


def test_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder("here") == Path("here")
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("TEXTGEN_MODELS")
    assert models_folder() == Path("saved_models")


def exported(folder: Path) -> None:
    update_folder(folder, {"saved_model.pb": b"x", "textgen-export.json": b"{}"})


@pytest.mark.parametrize("make", [exported, prepared_corpus])
def test_a_manifest_alone_does_not_make_a_model(three: Path, make: Callable[[Path], None]) -> None:
    make(three / "newest")
    assert find_model() == three / "a"
    assert list_models() == [three / "a", three / "b", three / "c"]
    assert list_runs() == [three / "a", three / "b", three / "c", three / "unfinished"]
    for name in ("newest", str(three / "newest")):
        for find in (find_model, find_run):
            with pytest.raises(
                SavedModelError, match=rf"newest is not a model: it has a {MANIFEST}, but neither {CONFIG}"
            ):
                find(name)


def test_a_first_save_that_was_cut_off_after_its_manifest_is_a_model(saved: Path) -> None:
    for name in (CONFIG, WEIGHTS, MODEL_FILE):
        (saved / name).rename(saved / f"{name}.new")
    assert list_models() == [saved]
    assert load_model("songs").weights()
    remove_model(saved)
    assert list_models() == []


@pytest.mark.parametrize(("inside", "path"), [("", "."), ("logs", "..")])
def test_the_current_folder_is_a_model_by_its_own_name(
    saved: Path, monkeypatch: pytest.MonkeyPatch, inside: str, path: str
) -> None:
    (saved / LOGS).mkdir()
    monkeypatch.chdir(saved / inside)
    assert load_model(path).name == find_run(path).name == "songs"
    assert find_model(path) == saved
    with pytest.raises(SavedModelError, match="There is no model ''"):
        find_model("")


def test_hidden_folders_and_those_that_are_being_removed_are_no_models(three: Path) -> None:
    (three / "a").rename(three / ".a")
    (three / "b").rename(three / ".tmp-removed-1")
    assert list_models() == [three / "c"]
    assert list_runs() == [three / "c", three / "unfinished"]


@pytest.mark.skipif(os.name == "nt", reason="Windows needs a permission to make links")
def test_a_link_that_leads_to_itself_hides_no_model(three: Path) -> None:
    before = list_models(three)
    (three / "loop").symlink_to("loop")
    assert list_models(three) == before
    assert find_model(before[0].name, three) == before[0]


def test_a_model_whose_name_has_a_joiner_is_found(three: Path) -> None:
    name = "می\u200cخواهم"
    (three / "b").rename(three / name)
    assert find_model(name, three) == three / name
    assert three / name in list_models(three)


def test_a_model_in_a_folder_whose_name_is_not_allowed_is_told(three: Path) -> None:
    for name in ("a", "c", "unfinished"):
        remove_model(three / name)
    (three / "b").rename(three / "b\n")
    (three / ".hidden").mkdir()
    assert list_models(three) == []
    message = r"models/b\\n holds a model, but a model cannot be called so: it has characters .*\. Rename it\."
    assert re.search(message, why_empty(three))
    with pytest.raises(SavedModelError, match=message + r"$"):  # and not that one must be trained
        find_model(None, three)
    with pytest.raises(SavedModelError, match=message):
        find_model("b", three)
    (three / "b\n").rename(three / ".b")
    assert about_misnamed(three) == ""


def test_the_state_of_a_training_is_what_runs_not_what_was_written_down(saved: Path) -> None:
    assert status_of(saved, {}) == "unknown"
    assert status_of(saved, {"status": "finished: the planned length is reached"}) == "finished"
    assert status_of(saved, {"status": "running"}) == "interrupted"  # by a kill
    assert status_of(saved, {"status": "finished\nforged  1  2"}) == "unknown"
    with locked(saved):
        for written in ("running", "interrupted", "failed: no room"):
            assert status_of(saved, {"status": written}) == "running"
        assert status_of(saved, {"status": "finished: the planned length is reached"}) == "finished"  # it is compressed

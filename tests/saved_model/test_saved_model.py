"""Saved models: what was saved comes back, and whatever is damaged is refused in one clear line."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import small_models
from safetensors.numpy import save as to_safetensors
from small_models import CORPUS, TRAINING_VALUES, files_in, save, small, weights_of

from textgen.dataset.bloom_filter import BloomFilter
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import word_filter
from textgen.errors import SavedModelError, TextgenError, TrainingError
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import CARD, CHECKPOINTS, CONFIG, LOGS, NGRAMS, TRAINING, WEIGHTS, WORDS, read_json
from textgen.saved_model.registry import (
    check_name,
    claimed,
    find_model,
    find_run,
    free_name,
    list_models,
    list_runs,
    models_folder,
    refuse_in_model,
    remove_model,
    state_of,
)
from textgen.saved_model.saved_model import load_model
from textgen.saved_model.saving import save_model, save_ngrams, save_words, write_training
from textgen.storage.files import json_bytes, write_file
from textgen.storage.folders import MANIFEST, update_folder
from textgen.storage.locks import locked
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.model_file import MODEL_FILE, read_tokenizer
from textgen.tokenizer.tokenizer import ByteTokenizer, Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel

saved = small_models.saved  # fixture


# --- There and back ----------------------------------------------------------------------------------------


def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, model: LanguageModel, tokenizer: Tokenizer) -> None:
    weights, kind = model.weights_as_arrays(), TokenizerConfig("char", vocab_size=300)
    save_model(tmp_path / "model", weights, model.config, kind, CORPUS, tokenizer)
    saved = load_model(str(tmp_path / "model"))
    assert (saved.model_config, saved.tokenizer_config, saved.corpus_config) == (model.config, kind, CORPUS)
    assert (saved.name, saved.folder, saved.training) == ("model", tmp_path / "model", {})
    found = saved.weights()
    assert found.keys() == weights.keys() == model.config.weight_shapes().keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == np.float32 for name, array in weights.items()
    )
    built = saved.network()
    ids = np.array([[2, 270, 263, 3]], np.int32)
    assert np.array_equal(built(ids)[0], model(ids)[0])


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word", "byte"])
def test_every_tokenizer_comes_back(tmp_path: Path, kind: str) -> None:
    text = "The cat sat on the mat.\nThe dog saw the cat, the cat saw the dog.\n"
    tokenizer = train_tokenizer([text] * 5, TokenizerConfig(kind))
    found = load_model(str(save(tmp_path / "model", tokenizer))).tokenizer
    assert (found.tokenizer, found.vocab_size) == (kind, tokenizer.vocab_size)
    assert found.fingerprint() == tokenizer.fingerprint()
    assert found.pieces() == tokenizer.pieces()
    assert found.encode(text + "月") == tokenizer.encode(text + "月")
    assert (tmp_path / "model" / MODEL_FILE).exists() == (kind != "byte")


# --- Damage ------------------------------------------------------------------------------------------------


def change(name: str, data: bytes) -> Callable[[Path], None]:
    """A file that the manifest agrees with: written so, not damaged on the way."""
    return lambda folder: update_folder(folder, {name: data})


def set_config(section: str, **values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())
        (config[section] if section else config).update(values)
        update_folder(folder, {CONFIG: json.dumps(config).encode()})  # `json_bytes` writes no NaN

    return damage


def drop_config(section: str, key: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())
        del (config[section] if section else config)[key]
        update_folder(folder, {CONFIG: json_bytes(config)})

    return damage


def set_weights(**arrays: np.ndarray | None) -> Callable[[Path], None]:
    """Weights with some changed, added, or, if None, left out; `__` in a name is `/`."""

    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_bytes())["model"]
        weights: dict[str, np.ndarray | None] = {**weights_of(ModelConfig(**config))}
        weights |= {name.replace("__", "/"): array for name, array in arrays.items()}
        left = {name: array for name, array in weights.items() if array is not None}
        update_folder(folder, {WEIGHTS: to_safetensors(left)})

    return damage


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 1)


def flip(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def forget(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        del manifest["files"][name]
        (folder / MANIFEST).write_bytes(json_bytes(manifest))

    return damage


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


OTHER_TOKENIZER = train_tokenizer(["ab"], TokenizerConfig("char")).serialized
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"{name} missing": (remove(name), f"{name} is missing") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    **{f"{name} cut": (cut(name), rf"{name} is [\d,]+ bytes long, not ") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    **{f"{name} altered": (flip(name), f"{name} was altered") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    **{f"{name} unnamed": (forget(name), f"does not name {name}") for name in (CONFIG, MODEL_FILE, WEIGHTS)},
    "manifest missing": (remove(MANIFEST), "There is no model"),
    "manifest cut": (lambda folder: os.truncate(folder / MANIFEST, 30), f"{MANIFEST} is damaged"),
    "manifest empty": (lambda folder: os.truncate(folder / MANIFEST, 0), f"{MANIFEST} is damaged"),
    "config is no JSON": (change(CONFIG, b"{"), "Cannot read"),
    "config is no text": (change(CONFIG, b"\xff\xfe\x00"), "Cannot read"),
    "config is a list": (change(CONFIG, b"[1]"), "should hold a JSON object"),
    "config is bottomless": (change(CONFIG, b"[" * 200_000), "Cannot read"),
    "config is empty": (change(CONFIG, b"{}"), "format version None.*Train the model again"),
    "newer format": (set_config("", format_version=3), "format version 3.*Upgrade textgen"),
    "older format": (set_config("", format_version=0), "format version 0.*Train the model again"),
    "no whole format": (set_config("", format_version=1.0), "format version 1.0.*Train the model again"),
    "odd format": (set_config("", format_version="new"), "format version 'new'.*Train the model again"),
    "no model": (drop_config("", "model"), "lacks 'model'"),
    "no tokenizer": (drop_config("", "tokenizer"), "lacks 'tokenizer'"),
    "model is null": (set_config("", model=None), "is damaged"),
    "model is a list": (set_config("", model=[1]), "is damaged"),
    "corpus is a text": (set_config("", corpus="line"), "is damaged"),
    "no vocab_size": (drop_config("model", "vocab_size"), "cannot be used: ModelConfig: .*vocab_size"),
    "unknown key": (set_config("model", memory=True), "cannot be used: ModelConfig has no setting 'memory'"),
    "unknown corpus key": (set_config("corpus", url="x"), "cannot be used: CorpusConfig has no setting 'url'"),
    "wrong type": (set_config("model", hidden_units="8"), "cannot be used: hidden_units must be an integer"),
    "not finite": (set_config("model", dropout=float("nan")), "cannot be used: dropout must be a number"),
    "units over the limit": (set_config("model", hidden_units=10**12), "cannot be used: hidden_units must be"),
    "negative units": (set_config("model", hidden_units=-1), "cannot be used: hidden_units must be"),
    "units beyond memory": (set_config("model", hidden_units=1 << 15, num_layers=64), "does not fit.*lstm_0/bias"),
    "attention over the limit": (set_config("model", attention=1 << 30), "cannot be used: attention must be"),
    "attention without weights": (set_config("model", attention=8), "does not fit.*attention/beta, attention/gamma"),
    "table beyond memory": (set_config("model", embedding_dim=1 << 15), "does not fit.*embedding/table"),
    "another vocabulary": (change(MODEL_FILE, OTHER_TOKENIZER), "the tokenizer has 262 tokens and the model"),
    "vocab_size of another": (set_config("model", vocab_size=1 << 20), "tokens and the model 1,048,576"),
    "a byte tokenizer": (set_config("tokenizer", tokenizer="byte"), "the configuration says byte"),
    "no SentencePiece": (change(MODEL_FILE, b"garbage"), "cannot be used: The vocabulary is not a SentencePiece"),
    "a weight of another shape": (set_weights(head__bias=np.zeros(7, np.float32)), r"does not fit.*\(head/bias\)"),
    "a weight transposed": (set_weights(lstm_0__kernel=np.zeros((12, 4), np.float32)), "does not fit.*lstm_0/kernel"),
    "a weight too many": (set_weights(extra=np.zeros(1, np.float32)), r"does not fit.*\(extra\)"),
    "a weight too few": (set_weights(head__bias=None), r"does not fit.*\(head/bias\)"),
    "float64": (set_weights(lstm_0__bias=np.zeros(12)), r"does not fit.*\(not float32\)"),
    "float16": (set_weights(lstm_0__bias=np.zeros(12, np.float16)), r"does not fit.*\(not float32\)"),
    "whole numbers": (set_weights(lstm_0__bias=np.zeros(12, np.int32)), r"does not fit.*\(not float32\)"),
    "no safetensors": (change(WEIGHTS, b"garbage" * 9), "is damaged"),
    "empty weights": (change(WEIGHTS, b""), "is damaged"),
    "a header without end": (change(WEIGHTS, struct.pack("<Q", 1 << 62)), "is damaged"),
    "weights beyond the file": (
        change(WEIGHTS, header('{"head/bias": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}')),
        "is damaged",
    ),
    "training is no JSON": (lambda folder: write_file(folder / TRAINING, b"{"), "Cannot read"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_line(saved: Path, kind: str) -> None:
    load_model(str(saved)).weights()
    damage, words = DAMAGE[kind]
    damage(saved)
    tracemalloc.start()
    with pytest.raises(SavedModelError, match=words) as caught:
        load_model(str(saved)).weights()
    assert tracemalloc.get_traced_memory()[1] < 5_000_000, "nothing is allocated that the file does not hold"
    tracemalloc.stop()
    message = str(caught.value)
    assert str(saved) in message
    assert message.count(str(saved)) == 1 or kind == "manifest missing"
    assert "\n" not in message
    assert re.search(r"(\.|: .*\.)$", message)


def test_a_vocabulary_that_is_taken_over_is_checked_too(saved: Path) -> None:
    assert read_tokenizer(saved).fingerprint() == load_model("songs").tokenizer.fingerprint()
    flip(MODEL_FILE)(saved)
    with pytest.raises(SavedModelError, match=f"{MODEL_FILE} was altered"):
        read_tokenizer(saved)


def test_a_vocabulary_beyond_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.model").open("wb") as file:
        file.truncate(12 << 30)
    with pytest.raises(TextgenError, match="has more than 268,435,456 bytes, the limit"):
        read_tokenizer(tmp_path / "huge.model")


def test_read_json(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes('{"a": "月"}'.encode())
    assert read_json(tmp_path / "file") == {"a": "月"}
    with pytest.raises(SavedModelError, match="Cannot read"):
        read_json(tmp_path / "nowhere")


# --- Which model -------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Models b, c and a, in the order of their making, and things that are none."""
    folder = tmp_path / "models"
    for age, name in enumerate("acb"):
        save(folder / name, ByteTokenizer())
        os.utime(folder / name / MANIFEST, (1e9 - age, 1e9 - age))
    (folder / "unfinished").mkdir()
    write_training(folder / "unfinished", TRAINING_VALUES)
    (folder / "file").write_bytes(b"")
    return folder


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
    with pytest.raises(SavedModelError, match=r"There is no model 'x' in .*empty\. It is empty\."):
        find_model("x", tmp_path / "empty")
    with pytest.raises(SavedModelError, match=r"There is no model in .*empty yet\. Train a model first\."):
        find_model(None, tmp_path / "empty")


def test_a_training_without_a_model_is_a_run(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run("unfinished") == find_run(str(three / "unfinished")) == three / "unfinished"
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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("poems.txt", "poems"),
        ("/texts/my poems.tar.gz", "my-poems"),
        ("texts/poems/", "poems"),
        ("詩.txt", "詩"),
        (".notes", "notes"),
        (".notes.txt", "notes"),
        (".", "here"),
        ("..", "work"),
        ("./texts/..", "here"),
        ("/", "model"),
        ("texts/*.txt", "model"),
        ("-", "stdin"),
        ("--", "model"),
        ("taken.txt", "taken-3"),
    ],
)
def test_a_name_made_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "here")
    folder = tmp_path / "models"
    for name in ("taken", "taken-2"):
        (folder / name).mkdir(parents=True)
    assert free_name(folder, path) == free_name(folder, Path(path)) == expected


def test_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder("here") == Path("here")
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("TEXTGEN_MODELS")
    assert models_folder() == Path("saved_models")


def exported(folder: Path) -> None:
    update_folder(folder, {"saved_model.pb": b"x", "textgen-export.json": b"{}"})


def prepared_corpus(folder: Path) -> None:
    update_folder(folder, {"prepared.json": b"{}", MODEL_FILE: b"x"})


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


def everything_in(folder: Path) -> dict[str, bytes | str]:
    """All files below a folder, and where its links lead."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            found[str(path.relative_to(folder))] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


# --- Names -------------------------------------------------------------------------------------------------

BAD_NAMES = {
    "": "is empty", ".": "one part of a path", "..": "one part of a path", "a/b": "one part of a path",
    "../outside": "one part of a path", "/etc": "one part of a path", "a\\b": "one part of a path",
    ".hidden": "hidden", ".tmp-removed-x": "hidden", "-rf": "look like options", "a\nb": "cannot be shown",
    "a\x1b]52;c;QQ==\x07": "cannot be shown", "a\0b": "cannot be shown", "caf\udce9": "cannot be shown",
    " a": "a space at an end", "a ": "a space at an end", "a" * 300: "more than 200 bytes", "月" * 67: "more than 200",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_one_part_of_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SavedModelError, match=BAD_NAMES[name]) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    with pytest.raises(SavedModelError, match="There is no model"):
        find_model(name, tmp_path / "models")


@pytest.mark.parametrize("name", ["novel", "poems-2", "詩", "my poems", "a.b", "a" * 200])
def test_other_names_are_let_be(name: str) -> None:
    assert check_name(name) == name


def test_a_name_made_from_a_long_path_can_be_had(tmp_path: Path) -> None:
    for path in ("a" * 255, "月" * 85, "é" * 127 + ".txt"):
        assert check_name(free_name(tmp_path, path))


def test_hidden_folders_and_those_that_are_being_removed_are_no_models(three: Path) -> None:
    (three / "a").rename(three / ".a")
    (three / "b").rename(three / ".tmp-removed-1")
    assert list_models() == [three / "c"]
    assert list_runs() == [three / "c", three / "unfinished"]


# --- What is removed ---------------------------------------------------------------------------------------


def other_training(folder: Path) -> None:
    folder.mkdir()
    (folder / TRAINING).write_text('{"lr": 1}')
    (folder / "results.csv").write_text("1")


def only_a_training(folder: Path) -> None:
    folder.mkdir()
    (folder / TRAINING).write_text('{"lr": 1}')


def with_notes(folder: Path) -> None:
    save(folder, ByteTokenizer())
    (folder / "notes.txt").write_text("mine")


def linked(folder: Path) -> None:
    folder.symlink_to(save(folder.parent.parent / "disk" / "model", ByteTokenizer()))


def project(folder: Path) -> None:
    folder.mkdir()
    (folder / CARD).write_text("# My project")


NO_MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a prepared corpus": (prepared_corpus, "textgen did not write 'prepared.json' in it"),
    "another program's training": (other_training, "textgen did not write 'results.csv' in it"),
    "nothing but a training.json": (only_a_training, "it has no model in it"),
    "a model with notes": (with_notes, "textgen did not write 'notes.txt' in it"),
    "a link": (linked, "it is a link to .*disk/model"),
    "a project": (project, "it has no model in it"),
    "an empty folder": (Path.mkdir, "it has no model in it"),
}


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
    remove_model(three / "a")
    assert left.exists()  # somebody may be about to
    os.utime(left, (0, 0))
    remove_model(three / "c")
    assert not left.exists()


def test_nothing_but_the_model_itself_is_removed_whatever_links_are_in_it(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (saved / LOGS).symlink_to(tmp_path / "mine")
    (saved / CHECKPOINTS).mkdir()
    (saved / CHECKPOINTS / "step-000000001").symlink_to(tmp_path / "mine")
    remove_model(saved)
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert not saved.exists()


# --- Where a model may be made -----------------------------------------------------------------------------


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


NO_PLACES = {kind: make for kind, (make, _) in NO_MODELS.items() if "link" not in kind and "empty" not in kind} | {
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


def failed_run(folder: Path) -> None:
    """What a run leaves that is killed before its first checkpoint."""
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(OTHER_TOKENIZER)
    save_ngrams(folder, NgramIndex(6, [BloomFilter.for_size(10)]))
    words = word_filter(Counter(moon=3, fox=4, river=5))
    assert words
    save_words(folder, words)
    write_training(folder, TRAINING_VALUES | {"state": "running"})
    (folder / LOGS / "plugins").mkdir(parents=True)
    (folder / LOGS / "events.out.tfevents.1").write_bytes(b"x")
    (folder / CHECKPOINTS / ".tmp-step-000000001-x").mkdir(parents=True)
    (folder / f"{CONFIG}.new").write_bytes(b"{}")


@pytest.mark.parametrize("is_recorded", [True, False])
def test_nothing_of_a_failed_run_is_part_of_the_next_model(tmp_path: Path, is_recorded: bool) -> None:
    folder = tmp_path / "models" / "x"
    failed_run(folder)
    if not is_recorded:  # killed before it had made all of them
        shutil.rmtree(folder / LOGS)
        shutil.rmtree(folder / CHECKPOINTS)
        (folder / TRAINING).unlink()
        (folder / CARD).unlink()
    with claimed(folder):
        assert os.listdir(folder) == []
        save(folder, ByteTokenizer())
    assert sorted(files_in(folder)) == sorted([CONFIG, MANIFEST, WEIGHTS])
    found = load_model("x")
    assert (found.training, found.has_ngrams, found.words()) == ({}, False, None)
    assert found.record["parameters"] == found.model_config.num_parameters
    assert read_tokenizer(folder).tokenizer == "byte"


def test_what_somebody_put_among_the_checkpoints_of_a_failed_run_stays(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "x"
    failed_run(folder)
    (folder / CHECKPOINTS / "best").mkdir()
    (folder / CHECKPOINTS / "best" / "state").write_bytes(b"mine")
    with claimed(folder):
        assert everything_in(folder) == {f"{CHECKPOINTS}/best/state": b"mine"}


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


# --- What a training is doing ------------------------------------------------------------------------------


def test_the_state_of_a_training_is_what_runs_not_what_was_written_down(saved: Path) -> None:
    assert state_of(saved, {}) == "unknown"
    assert state_of(saved, {"state": "finished: the budget is spent"}) == "finished"
    assert state_of(saved, {"state": "running"}) == "interrupted"  # by a kill
    with locked(saved):
        for written in ("running", "finished: the budget is spent", "interrupted"):
            assert state_of(saved, {"state": written}) == "running"


def test_a_config_of_an_untied_model_fits_its_weights(tmp_path: Path) -> None:
    config = replace(small(259), tie_embeddings=False, hidden_units=4)
    save_model(tmp_path, weights_of(config), config, TokenizerConfig("byte"), CORPUS, ByteTokenizer())
    assert load_model(str(tmp_path)).weights().keys() == config.weight_shapes().keys()

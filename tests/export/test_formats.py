"""The registry of formats: which one a name means, what it needs, and what may be replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from textgen import versions
from textgen.cli import textgen
from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.export import formats, pytorch
from textgen.export.attribution import TEXT_BYTES, Attribution
from textgen.export.formats import FORMATS, MARK, check_export, export_folder, export_model, format_for
from textgen.export.verification import STEPS, check_logits, model_logits
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.manifests import MANIFEST
from textgen.versions import install_command
from textgen.wording import visible

FOLDER = replace(FORMATS["pytorch"], name="folder", suffix="", folder=True)


def export(*arguments: str | Path) -> Any:
    return CliRunner().invoke(textgen, ["export", "tiny", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    return load_model("tiny")


def test_the_functions_are_there() -> None:
    for name, format_ in FORMATS.items():
        module, _, function = format_.write.partition(":")
        file = Path(formats.__file__).parents[2] / f"{module.replace('.', '/')}.py"
        assert f"def {function}(" in file.read_text(encoding="utf-8")
        assert name == format_.name
        assert bool(format_.modules) == bool(format_.extra)


@pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)
def test_a_suffix_means_a_format(format_: formats.Format, tmp_path: Path) -> None:
    if format_.suffix:
        assert format_for(tmp_path / f"a{format_.suffix}") is format_
        assert format_for(tmp_path / f"a.b{format_.suffix.upper()}") is format_
    assert format_for(tmp_path / "a.bin", format_.name) is format_


def test_a_licence_in_a_card_that_no_export_can_keep_is_named_with_its_card(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    card = tmp_path / "tiny" / "README.md"
    card.write_text("# tiny\n\n## Licence\n\n" + "a" * (TEXT_BYTES + 1), encoding="utf-8")
    where = ["--models-dir", str(tmp_path)]

    def exported(*arguments: str) -> Result:
        return CliRunner().invoke(textgen, ["export", "tiny", *arguments, *where], catch_exceptions=False)

    refused = exported(str(tmp_path / "page.html"))
    assert refused.exit_code == 1
    assert f"The licence in {card} has more than 1,048,576 bytes" in refused.stderr
    assert "--licence" not in refused.stderr
    assert exported(str(tmp_path / "other.html"), "--licence", "CC0").exit_code == 0
    assert exported(str(tmp_path / "weights.safetensors"), "--format", "pytorch").exit_code == 0


@pytest.mark.parametrize("option", ["licence", "note"])
@pytest.mark.parametrize("name", [name for name, format_ in FORMATS.items() if format_.keeps_attribution])
def test_a_text_that_is_not_valid_is_refused(
    name: str, option: str, tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell gives a byte that is not UTF-8; before any work, whatever is installed."""
    monkeypatch.setattr(versions, "missing", lambda modules: [])
    result = export(tmp_path / "out", "--format", name, f"--{option}", "caf\udce9")
    expected = f"Error: {option} must be valid text. Received: 'caf\\udce9', which holds half a character"
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.replace("--", "").startswith(expected)
    with pytest.raises(ConfigError, match=f"{option} must be valid text"):
        export_model(FORMATS[name], tiny, tmp_path / "out", Attribution(**{option: "\ud83d"}))
    assert not list(tmp_path.glob("out*"))


def test_a_name_that_tells_nothing_is_refused(tiny: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Set format_name, or .* suffixes \.safetensors \(pytorch\)"):
        format_for(tmp_path / "weights.bin")
    result = export(tmp_path / "weights.bin")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "Set --format, or name a file" in result.stderr
    assert not list(tmp_path.glob("weights*"))


@pytest.mark.parametrize(
    ("name", "suffix", "choose"),
    [
        ("onnx", ".html", "a name that ends in .onnx"),
        ("litert-int8", ".ONNX", "another name"),
        ("savedmodel", ".keras", "another name"),
    ],
)
def test_a_name_of_another_format_is_refused(
    name: str, suffix: str, choose: str, tiny: ModelFolder, tmp_path: Path
) -> None:
    result = export(tmp_path / f"a{suffix}", "--format", name)
    expected = (
        f"Error: The name {tmp_path / f'a{suffix}'} is that of a file in the format {suffix[1:].lower()}, not {name}. "
        f"Choose {choose}, or leave --format out.\n"
    )
    assert (result.exit_code, result.stderr) == (1, expected)
    assert not list(tmp_path.glob("a*"))


def test_a_variant_of_a_format_has_its_suffix(tmp_path: Path) -> None:
    assert format_for(tmp_path / "a.tflite", "litert-int8").name == "litert-int8"


def test_a_library_that_is_missing_is_named_with_its_extra(
    tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = replace(FORMATS["pytorch"], modules=("json", "no_such_library"), extra="nothing")
    monkeypatch.setitem(FORMATS, "pytorch", needy)
    result = export(tmp_path / "a.safetensors")
    expected = f"Error: The format pytorch needs no_such_library: {install_command('nothing')}.\n"
    assert (result.exit_code, result.stderr) == (1, expected)


def test_a_folder_is_replaced_only_if_an_export_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for text in ("first", "second"):
        check_export(FOLDER, path)
        with export_folder(path, "folder") as folder:
            (folder / "text").write_text(text)
        assert (path / "text").read_text() == text
    assert json.loads((path / MARK).read_text()) == {"format": "folder", "files": [MANIFEST, "text", MARK]}
    (path / MARK).unlink()
    with pytest.raises(TextgenError, match="is not a folder that textgen export wrote: choose another name"):
        check_export(FOLDER, path)
    (tmp_path / "file").touch()
    with pytest.raises(TextgenError, match="is not a folder that textgen export wrote"):
        check_export(FOLDER, tmp_path / "file")


@pytest.mark.parametrize("name", ["NOTES.txt", "assets.extra/notes.txt", "assets/link"])
def test_a_folder_to_which_somebody_has_added_a_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    with export_folder(path, "folder") as folder:
        (folder / "assets").mkdir()
        (folder / "assets" / "tokenizer.model").touch()
    for desktop in (".DS_Store", "assets/Thumbs.db", "assets/._tokenizer.model"):
        (path / desktop).touch()
    check_export(FOLDER, path)
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to(tmp_path) if name.endswith("link") else (path / name).touch()
    with pytest.raises(TextgenError, match=f"would be replaced, and textgen export did not write '{name}' in it"):
        check_export(FOLDER, path)


def test_a_file_that_is_added_while_an_export_runs_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with export_folder(path, "folder") as folder:
        (folder / "model").touch()
    with pytest.raises(TextgenError, match="would be replaced"), export_folder(path, "folder"):
        (path / "notes.txt").touch()
    assert (path / "notes.txt").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_only_a_desktop_has_filled_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    check_export(FOLDER, tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TextgenError, match="is not a folder that textgen export wrote"):
        check_export(FOLDER, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "page.html", "serving"])
def test_a_model_is_not_overwritten_by_its_export(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = Path(shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "tiny"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(
        textgen, ["export", ".", name, *(["--format", "savedmodel"] if "." not in name else [])]
    )
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert f"Cannot write {name}: {folder} is the folder of a model and holds nothing else." in result.stderr
    with pytest.raises(SavedModelError, match="is the folder of a model"):
        check_export(FOLDER if name == "serving" else FORMATS["pytorch"], folder / name)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("path", [".", ".."])
def test_an_export_needs_a_name(tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "empty" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty" / "er")
    result = export(path, "--format", "savedmodel")
    assert (result.exit_code, result.stderr) == (
        1, f"Error: Cannot write {path}: it is a folder that exists. Choose a name.\n"
    )  # fmt: skip
    assert export(path, "--format", "pytorch").exit_code == 2
    assert [found.name for found in (tmp_path / "empty").rglob("*")] == ["er"]


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff")
    with pytest.raises(TextgenError, match=r"TensorFlow takes only paths in UTF-8\. Choose another name or folder\."):
        check_export(FOLDER, path)


@pytest.mark.parametrize("name", ["novel [draft]", "[a]/out", "x[y/z]w", "a[]]", "one\\two"])
def test_a_folder_whose_path_tensorflow_would_read_as_a_pattern_is_refused(
    tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    expected = "TensorFlow reads [ ] and \\ in a path as a pattern. Choose another name or folder."
    result = export(path, "--format", "savedmodel")
    assert (result.exit_code, result.stderr) == (1, f"Error: Cannot write {path}: {expected}\n")
    monkeypatch.chdir(path.parent)
    with pytest.raises(TextgenError, match=re.escape(f"Cannot write {path.name}: {expected}")):
        check_export(FOLDER, Path(path.name))
    assert not path.exists()


@pytest.mark.parametrize("name", ["a[b", "a]b", "a]b[c", "a[]", "a*b", "a?b", "a{b,c}"])
def test_other_signs_may_be_in_the_path_of_a_folder(tmp_path: Path, name: str) -> None:
    import tensorflow as tf

    path = tmp_path / name
    check_export(FOLDER, path)
    module = tf.Module()
    module.number = tf.Variable(2.0)
    tf.saved_model.save(module, str(path))
    assert tf.saved_model.load(str(path)).number == 2.0


@pytest.mark.parametrize("name", ["litert", "litert-int8"])
@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("a[b]", "reads [ ] and \\ in a path as a pattern"),
        ("a\\b", "reads [ ] and \\ in a path as a pattern"),
        (os.fsdecode(b"\xff"), "takes only paths in UTF-8"),
    ],
)
def test_temporary_files_where_tensorflow_cannot_read_them_are_refused(
    name: str, folder: str, why: str, tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "missing", lambda modules: [])
    place = tmp_path / folder
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    result = export(tmp_path / "out.tflite", "--format", name)
    expected = f"Error: Cannot write {visible(str(place))}: TensorFlow {why}. Set TMPDIR to another folder.\n"
    assert (result.exit_code, result.stderr) == (1, expected)
    assert (os.listdir(tmp_path), os.listdir(place)) == ([folder], [])


def test_what_a_folder_is_to_hold_may_lie_where_a_path_is_a_pattern_but_in_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a[b]", os.fsdecode(b"\xff")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
        if name == "a[b]":
            check_export(FOLDER, tmp_path / "out")
        else:
            with pytest.raises(TextgenError, match=r"paths in UTF-8\. Set TMPDIR to another folder\."):
                check_export(FOLDER, tmp_path / "out")


def test_a_link_to_the_folder_of_an_export_stays(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    for text in ("first", "second"):
        check_export(FOLDER, link)
        with export_folder(link, "folder") as folder:
            (folder / "text").write_text(text)
        assert (target / "text").read_text() == text
        assert sorted(os.listdir(tmp_path)) == ["link", "target"]
        assert link.is_symlink()
    (target / "notes.txt").touch()
    with pytest.raises(TextgenError, match=f"{link} would be replaced, and textgen export did not write 'notes.txt'"):
        check_export(FOLDER, link)


def test_a_failed_export_leaves_the_folder_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with export_folder(path, "folder") as folder:
        (folder / "text").write_text("first")
    with suppress(SavedModelError), export_folder(path, "folder") as folder:
        (folder / "text").write_text("second")
        raise SavedModelError("what was written differs")
    assert (path / "text").read_text() == "first"
    assert [found.name for found in tmp_path.iterdir() if "tmp" in found.name] == []


def test_logits_that_differ_are_refused(tiny: ModelFolder) -> None:
    def logits(ids: np.ndarray) -> np.ndarray:
        return model_logits(tiny, ids)

    check_logits(tiny, logits, "a")
    for wrong, expected in (
        (lambda ids: logits(ids) + 0.01, "a differs from the model by up to 0.01 in a logit"),
        (lambda ids: logits(ids) * np.nan, "a differs from the model by up to nan in a logit"),
        (lambda ids: logits(ids)[:, 1:], f"a gives logits of shape \\({STEPS}, "),
    ):
        with pytest.raises(SavedModelError, match=expected):
            check_logits(tiny, wrong, "a")


def test_an_export_that_differs_is_not_left(tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("old")
    right = pytorch.to_torch
    monkeypatch.setattr(pytorch, "to_torch", lambda *args: {k: v * 1.01 for k, v in right(*args).items()})
    result = export(path)
    assert result.exit_code == 1
    assert "a.safetensors differs from the model by up to" in result.stderr
    assert path.read_text() == "old"
    monkeypatch.undo()
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny.folder.parent))
    assert export(path).exit_code == 0
    assert path.read_bytes() != b"old"

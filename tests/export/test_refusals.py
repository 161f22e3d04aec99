"""Exports that cannot be: one clear line, nothing half-written, and what was there stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from exported import model_of

from textgen import versions
from textgen.cli import textgen
from textgen.export import formats
from textgen.export.formats import export_folder
from textgen.tokenizer.tokenizer import Tokenizer

DiskOf = Callable[[int], AbstractContextManager[None]]
OURS = {"keras": "out.keras", "savedmodel": "out", "litert": "out.tflite", "litert-int8": "out.tflite"}


@pytest.fixture
def refused(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs an export that must be refused, checks that it leaves everything as it was, and returns what it says."""

    def export(name: str, disk: AbstractContextManager[None] | None = None, **options: Any) -> str:
        if not (tmp_path / "models").exists():
            model_of(tmp_path, tokenizer, **options)
        (tmp_path / "scratch").mkdir(exist_ok=True)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
        before = contents(tmp_path)
        words = ["export", "random", str(tmp_path / OURS[name]), "--format", name]
        if disk is None:
            result = run(words)
        else:
            with disk:
                result = run(words)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert contents(tmp_path) == before
        return line

    return export


def run(words: list[str]) -> Result:
    return CliRunner().invoke(textgen, words, catch_exceptions=False)


def contents(folder: Path) -> dict[Path, bytes | None]:
    """What is in a folder, without the modules that TensorFlow writes when it traces, and removes when it ends."""
    paths = [path for path in folder.rglob("*") if not path.name.startswith("__autograph_generated_file")]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("name", OURS)
def test_a_full_disk(name: str, refused: Callable[..., str], disk_of: DiskOf, tmp_path: Path) -> None:
    line = refused(name, disk_of(600), num_layers=1)
    assert line.startswith(f"Error: Cannot write {tmp_path}")
    assert "File too large. Free some space" in line


@pytest.mark.parametrize("name", OURS)
def test_a_folder_or_file_of_somebody_else_is_not_replaced(
    name: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / OURS[name]
    if formats.FORMATS[name].folder:
        path.mkdir()
        (path / "own.txt").write_text("own")
        assert "is not a folder that textgen export wrote: choose another name" in refused(name)
    else:
        (tmp_path / "models").mkdir()
        path.mkdir()
        result = run(["export", "random", str(path), "--format", name])
        assert result.exit_code == 2
        assert "is a directory" in result.stderr
        assert os.listdir(path) == []


@pytest.mark.parametrize("name", ["litert", "litert-int8"])
def test_without_its_extra(name: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "missing", lambda modules: [name for name in modules if name == "ai_edge_litert"])
    install = 'run pip install ".[litert]" in the folder of textgen\'s source'
    expected = f"Error: The format {name} needs ai_edge_litert: {install}."
    assert refused(name) == expected


def test_a_network_that_keras_cannot_express(refused: Callable[..., str]) -> None:
    expected = "The layers of Keras cannot express this network: cell peephole. Export it as savedmodel or litert."
    assert refused("keras", cell="peephole") == f"Error: {expected}"


@pytest.mark.parametrize(
    ("name", "kind"), [("novel.keras", "keras"), ("novel.TFLITE", "litert"), ("novel", "savedmodel")]
)
def test_what_cannot_be_imported_is_said(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "novel":
        with export_folder(path, "savedmodel"):
            pass
    else:
        path.write_bytes(b"")
    result = run(["import", str(path), "--name", "again"])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {path} is in the format {kind}, and textgen import reads pytorch and html only. Use the model that "
        "it was exported from.\n"
    )


def test_a_file_to_import_that_is_not_there_is_said_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    result = run(["import", str(path), "--name", "again"])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: Cannot read {path}: No such file or directory. Name a page of textgen export, or a .safetensors file "
        "of weights.\n"
    )

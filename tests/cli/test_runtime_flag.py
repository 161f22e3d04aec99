"""--runtime of textgen sample, write and serve: what computes the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import textgen as package
from textgen.cli import textgen
from textgen.errors import ConfigError
from textgen.model import onnx_model
from textgen.model.compiled_model import CompiledModel
from textgen.model.numpy_model import NumpyModel
from textgen.model.onnx_model import OnnxModel


@pytest.fixture(autouse=True)
def tiny(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(textgen, arguments, catch_exceptions=False)


def test_it_writes_alone_and_beside_others() -> None:
    several = run("sample", "tiny", "--runtime", "onnx", "--seed", "5", "--num", "3", "--max-tokens", "20", "--json")
    checking = "Checking how much accuracy the model tiny loses with 8-bit weights."
    assert several.stderr == f"{checking} This is done once and takes a few seconds.\n"
    values = [json.loads(line) for line in several.stdout.splitlines()]
    assert {each["runtime"] for each in values} == {"onnx"}
    texts = [each["text"] for each in values]
    for number, text in enumerate(texts):
        alone = run("sample", "tiny", "--runtime", "onnx", "--seed", str(5 + number), "--max-tokens", "20", "--json")
        assert alone.stderr == ""
        assert json.loads(alone.stdout)["text"] == text


def test_a_state_of_one_runtime_goes_on_in_another(tmp_path: Path) -> None:
    state = str(tmp_path / "here.state")
    assert run("sample", "tiny", "--runtime", "onnx", "--max-tokens", "5", "--save-state", state).exit_code == 0
    assert run("sample", "tiny", "--runtime", "numpy", "--max-tokens", "5", "--load-state", state).exit_code == 0


def test_models_show_tells_what_it_loses() -> None:
    assert "8 bits" not in run("models", "show", "tiny").stdout
    assert "int8_loss" not in json.loads(run("models", "show", "tiny", "--json").stdout)
    run("sample", "tiny", "--runtime", "onnx", "--max-tokens", "1")
    assert "With 8-bit weights in ONNX Runtime: perplexity " in run("models", "show", "tiny").stdout
    assert json.loads(run("models", "show", "tiny", "--json").stdout)["int8_loss"]["tokens"] == 2048


@pytest.mark.parametrize("flags", [("--neural-cache",), ("--clamp", "L1/3=0.5"), ("--ensemble", "tiny"), ("--exact",)])
def test_what_only_numpy_does_is_told(flags: tuple[str, ...]) -> None:
    result = run("sample", "tiny", "--runtime", "onnx", "--max-tokens", "1", *flags)
    assert result.exit_code == 2
    assert f"{flags[0]} needs --runtime numpy." in result.stderr
    assert run("sample", "tiny", "--runtime", "numpy", "--max-tokens", "1", *flags).exit_code == 0


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "LIBRARIES", ("onnx_of_nobody",))
    result = run("sample", "tiny", "--runtime", "onnx")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert (
        'ONNX Runtime needs onnx_of_nobody: run pip install ".[onnx]" in the folder of textgen\'s source.'
        in result.stderr
    )
    assert run("sample", "tiny", "--max-tokens", "1").exit_code == 0


def test_from_python() -> None:
    assert isinstance(package.load("tiny").model, NumpyModel)
    assert isinstance(package.load("tiny", runtime="onnx").model, OnnxModel)
    assert isinstance(package.load("tiny", runtime="tensorflow").model, CompiledModel)
    with pytest.raises(ConfigError, match="runtime"):
        package.load("tiny", runtime="pytorch")

"""textgen serve: what it says before it listens."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from textgen.cli import textgen
from textgen.server import serving
from textgen.server.config import ServerConfig


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would be served; nothing listens."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(serving, "serve", lambda *arguments: calls.append(arguments))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    return calls


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "msgspec" else find(name))
    result = CliRunner().invoke(textgen, ["serve"])
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: textgen serve needs msgspec: run pip install 'textgen[serve]'.\n",
    )


def test_settings_and_names_reach_the_server(tiny_models: Path, served: list[tuple[Any, ...]]) -> None:
    arguments = ["serve", "tiny", f"other={tiny_models / 'tiny'}", "--port", "0", "--slots", "8", "--no-page"]
    result = CliRunner().invoke(textgen, [*arguments, "--models-dir", str(tiny_models)])
    assert result.exit_code == 0, result.output
    ((config, places, models_dir, keys, _),) = served
    assert config == ServerConfig(port=0, slots=8, page=False)
    assert places == {"tiny": "tiny", "other": str(tiny_models / "tiny")}
    assert (models_dir, keys) == (tiny_models, [])


def test_an_open_server_without_a_key_is_warned_about(
    tiny_models: Path, served: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["serve", "--host", "0.0.0.0", "--models-dir", str(tiny_models)]
    assert "everybody who can reach 0.0.0.0" in CliRunner().invoke(textgen, arguments).stderr
    monkeypatch.setenv("TEXTGEN_API_KEY", "secret")
    assert CliRunner().invoke(textgen, arguments).stderr == ""
    assert served[1][3] == ["secret"]


def test_without_any_model_it_says_so(tmp_path: Path, served: list[tuple[Any, ...]]) -> None:
    result = CliRunner().invoke(textgen, ["serve", "--models-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "There is no model" in result.stderr
    assert not served

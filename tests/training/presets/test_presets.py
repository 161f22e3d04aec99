"""Sizes and presets of texts: settings that exist, and give way to those that are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError
from textgen.model.config import ModelConfig
from textgen.settings import from_dict, select
from textgen.tokenizer.config import TokenizerConfig
from textgen.training.config import TrainingConfig
from textgen.training.presets import SIZES, TEXT_PRESETS, with_preset

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_the_preset_of_a_text_is_settings_that_exist(name: str) -> None:
    size, settings = with_preset(name, {})
    assert size is None
    kinds = CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig
    assert set(settings) == {field for kind in kinds for field in select(kind, settings)}
    for kind in kinds:
        from_dict(
            kind, {"vocab_size": 100, **select(kind, settings)} if kind is ModelConfig else select(kind, settings)
        )


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_its_name_tells_its_size(name: str) -> None:
    _, settings = with_preset(name, {})
    _, unit, size, _ = name.split("-")
    assert settings["tokenizer"] == unit
    assert f"{settings['num_layers']}x{settings['hidden_units']}" == size


def test_what_is_given_wins() -> None:
    name = TEXT_PRESETS[0]
    _, settings = with_preset(name, {"hidden_units": 7, "seed": 3})
    assert (settings["hidden_units"], settings["seed"]) == (7, 3)
    assert with_preset("small", {"seed": 3}) == ("small", {"seed": 3})
    assert with_preset(None, {}) == (None, {})


def test_a_preset_that_does_not_exist(tmp_path: Path) -> None:
    import textgen as library

    with pytest.raises(ConfigError, match=r"There is no preset 'huge'. There are: tiny, small, medium, large, enwik8"):
        library.train(tmp_path / "text.txt", preset="huge")


def test_sizes_are_settings_of_the_model_and_grow() -> None:
    sizes = [from_dict(ModelConfig, {"vocab_size": 5000, **size}).num_parameters for size in SIZES.values()]
    assert sizes == sorted(sizes)


def test_the_program_takes_the_preset_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 100, encoding="utf-8")
    options = ["--preset", "tinyshakespeare-char-2x256-100s", "--hidden-units", "32", "--dry-run"]
    result = CliRunner().invoke(textgen, ["train", str(tmp_path / "text.txt"), *options])
    assert result.exit_code == 0, result.output
    assert "2 x LSTM of 32 units, embedding 256" in result.stdout
    assert "1.667 minutes" in result.stdout


@pytest.mark.slow
def test_the_preset_of_a_text_is_run_scored_and_written_down(tmp_path: Path) -> None:
    text = "to be or not to be, that is the question. " * 500
    (tmp_path / "tinyshakespeare.txt").write_text(text, encoding="utf-8")
    command = ["tinyshakespeare-char-2x256-100s", "--data", tmp_path, "--models-dir", tmp_path, "--minutes", "0.02"]
    script = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), *map(str, command)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = done.stdout.strip().splitlines()[-1].split(" | ")
    assert row[0] == "| tinyshakespeare-char-2x256-100s"
    assert 0 < float(row[2]) < 4
    missing = subprocess.run([*script[:3], "--data", str(tmp_path / "no")], capture_output=True, text=True)
    assert missing.returncode == 1
    assert missing.stderr.startswith("There is no ")

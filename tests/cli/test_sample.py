"""What `textgen sample` prints when, and which settings it refuses, with a model of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen
from textgen.generation.decoding import Decoder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def sample(models: Path, *arguments: str) -> Result:
    """The command with the model `tiny`; a bug shows its traceback."""
    command = ["sample", "tiny", "--models-dir", str(models), *arguments]
    return CliRunner().invoke(textgen, command, catch_exceptions=False, prog_name="textgen")


def from_lines(models: Path, prompts: Path, lines: list[dict[str, Any]], *arguments: str) -> Result:
    """The command with a .jsonl file of prompts."""
    prompts.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return sample(models, "--prompt-file", str(prompts), *arguments)


# === When texts appear ===


def test_ctrl_c_leaves_the_texts_that_are_finished(
    tiny_models: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Decoder.step, []

    def interrupted(decoder: Decoder) -> Any:
        taken.append(decoder)
        if len(taken) == 5:
            raise KeyboardInterrupt
        return step(decoder)

    monkeypatch.setattr(Decoder, "step", interrupted)
    lines = [{"prompt": "The", "max_tokens": 3}, {"prompt": "A", "max_tokens": 99, "min_tokens": 99}]
    result = from_lines(tiny_models, prompts, lines, "--json")
    assert (result.exit_code, result.stderr) == (130, "\nInterrupted.\n")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["prompt"], row["stop_reason"]) == ("The", "length")

"""textgen sample --clamp, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen

WRITE = ("--prompt", "The", "--seed", "3", "--max-tokens", "30", "--temperature", "1")


def sample(models: Path, *arguments: str) -> Result:
    arguments = ("sample", "tiny", *WRITE, *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, arguments, catch_exceptions=False, prog_name="textgen")


def test_a_clamp_changes_the_text_and_the_same_seed_gives_the_same_text(tiny_models: Path) -> None:
    free = sample(tiny_models).stdout
    held = sample(tiny_models, "--clamp", "L0/3=5", "--clamp", "L0/2.o=1").stdout
    assert held != free
    assert sample(tiny_models, "--clamp", "L0/3=5", "--clamp", "L0/2.o=1").stdout == held
    assert sample(tiny_models, "--clamp", "L0/3=-5").stdout not in (held, free)


def test_clamped_texts_side_by_side_are_those_written_alone(tiny_models: Path) -> None:
    clamp = ("--clamp", "L0/3=5", "--num", "3", "--json", "--batch-size")
    together = [json.loads(line)["text"] for line in sample(tiny_models, *clamp, "3").stdout.splitlines()]
    alone = [json.loads(line)["text"] for line in sample(tiny_models, *clamp, "1").stdout.splitlines()]
    assert together == alone


def test_a_state_belongs_to_the_clamps_it_was_written_with(tiny_models: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "a.state")
    assert sample(tiny_models, "--clamp", "L0/3=5", "--save-state", state).exit_code == 0
    assert sample(tiny_models, "--clamp", "L0/3=5", "--load-state", state).exit_code == 0
    refused = sample(tiny_models, "--load-state", state)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "is the state of another model" in refused.stderr


@pytest.mark.parametrize("clamp", ["L0/8=1", "L2/0=1", "L0/1.z=1", "L0/1.f=2", "89=1"])
def test_a_clamp_that_cannot_be_is_one_line(tiny_models: Path, clamp: str) -> None:
    result = sample(tiny_models, "--clamp", clamp)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("Error: ")

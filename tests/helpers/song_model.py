"""A model of songs that the command has trained, and the command in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen

POEMS = "\n\n".join(
    f"Song {n}\n{first} sings of the {second},\nand nobody {third}."
    for n, (first, second, third) in enumerate(
        (a, b, c)
        for a in ("The fox", "The owl", "The river", "The moon")
        for b in ("rain", "mill", "old road", "winter")
        for c in ("listens", "answers", "minds")
    )
)
TINY = [
    *("--tokenizer", "char", "--hidden-units", "16", "--num-layers", "1"),
    *("--batch-size", "4", "--sequence-length", "16", "--steps", "6", "--num-validations", "2"),
]


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """One command in this process; a bug shows its traceback."""
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


def rows_of(models: Path, *arguments: str, stdin: str | None = None, model: str = "songs") -> list[dict[str, Any]]:
    result = run("sample", model, "--models-dir", str(models), "--json", *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def models(training: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one in it, `songs`."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(training[0] / "my-songs", folder / "songs")
    return folder

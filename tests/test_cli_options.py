"""Options that several commands share, as a user meets them."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


# === Files to write ===

WRITING = {
    "tune-state": ["tune-state", "nobody", "missing.txt", "--out"],
    "tokenizer": ["tokenizer", "train", "missing.txt", "--out"],
    "embed": ["embed", "nobody", "missing.txt", "--out"],
    "sample": ["sample", "nobody", "--save-state"],
    "export": ["export", "nobody"],
}


@pytest.mark.parametrize("arguments", WRITING.values(), ids=WRITING)
@pytest.mark.parametrize(
    ("place", "code", "expected"),
    [
        ("missing/file", 1, "Error: Cannot write {place}: there is no folder {parent}. Make it first."),
        ("plain.txt/file", 1, "Error: Cannot write {place}: there is no folder {parent}. Make it first."),
        ("folder", 2, "'{place}' is a directory."),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_anything_is_read(
    tmp_path: Path, arguments: list[str], place: str, code: int, expected: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain.txt").touch()
    path = tmp_path / place
    result = run(*arguments, str(path))
    assert result.exit_code == code
    assert expected.format(place=path, parent=path.parent) in result.stderr.splitlines()[-1]
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["folder", "plain.txt"]


# === Standard input ===

READING = {
    "tokenizer encode": ["tokenizer", "encode", "byte"],
    "tokenizer decode": ["tokenizer", "decode", "byte"],
    "sample": ["sample", "tiny", "--prompt", "-"],
    "embed": ["embed", "tiny", "-"],
    "score --jsonl": ["score", "tiny", "--jsonl"],
    "score --follow": ["score", "tiny", "--follow"],
}


@pytest.mark.parametrize("arguments", READING.values(), ids=READING)
def test_standard_input_that_is_closed_is_one_clear_line(
    tiny_models: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(
        click.ClickException, match=r"^Standard input is closed: pipe a text into it, or name a file\.$"
    ):
        textgen(arguments, standalone_mode=False)


def test_writing_together_needs_a_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(click.ClickException, match="needs a terminal for keyboard and screen"):
        textgen(["write", "tiny"], standalone_mode=False)

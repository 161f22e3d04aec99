"""How much of a text was copied from the training text: --novelty and --no-copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import song_model
from song_model import POEMS, run

from textgen.cli.options import novelty_line
from textgen.dataset.ngram_index import Novelty
from textgen.saved_model.loading import load_model

models = song_model.models  # fixture


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((6, 0, None, 0, "", 0, 0.0), "novelty: too short to tell: it has no run of 6 tokens without unknown words."),
        ((6, 8, 0.0, 0, "", 0, 0.0), "novelty: 0.0 % of the runs of 6 tokens occur in the training text."),
        (
            (6, 8, 0.25, 7, "of the", 6, 0.08),
            "novelty: 25.0 % of the runs of 6 tokens occur in the training text (up to 8 % by mistake); "
            "the longest copy has at most 7 tokens: 'of the'",
        ),
        (
            (6, 8, 1.0, 2470, f"{'a' * 100} copy of a chapter\n{'b' * 100}", 6, 0.0),
            "novelty: 100.0 % of the runs of 6 tokens occur in the training text; "
            f"the longest copy has at most 2,470 tokens: '{'a' * 100}...{'b' * 100}'",
        ),
    ],
)
def test_the_line_about_copying(found: tuple[Any, ...], expected: str) -> None:
    assert novelty_line(Novelty(*found)) == expected


def test_novelty_of_what_is_written_and_of_a_text(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(POEMS, encoding="utf-8")
    where = ["--models-dir", str(models)]
    result = run("sample", "songs", "--novelty", "--max-tokens", "400", "--seed", "1", *where)
    assert result.stderr.startswith("novelty: ")
    result = run("sample", "songs", "--novelty", "--max-tokens", "5", "--num", "2", *where)
    assert result.stderr.count("too short to tell") == 2
    (row,) = run("sample", "songs", "--novelty", "--max-tokens", "40", "--json", *where).stdout.splitlines()
    assert json.loads(row)["novelty"].keys() == {
        "ngram", "ngrams", "copied_fraction", "longest_copy", "longest_copy_text", "longest_copy_characters",
        "false_positive_rate",
    }  # fmt: skip
    found = json.loads(run("evaluate", "songs", str(tmp_path / "other.txt"), "--novelty", "--json", *where).stdout)
    assert found["novelty"]["copied_fraction"] > 0.9  # a tenth was held out
    assert found["novelty"]["longest_copy_text"] in POEMS
    (tmp_path / "own.txt").write_text("What nobody has ever said about anything under the moon.", encoding="utf-8")
    result = run("evaluate", "songs", str(tmp_path / "own.txt"), "--novelty", *where)
    assert result.stdout.splitlines()[-1].startswith("novelty: 0.0 % of")


def test_no_copy_forbids_what_the_model_would_recite(models: Path, tmp_path: Path) -> None:
    ngram = load_model("songs", models).ngrams().ngram
    options = ["--temperature", "0", "--max-tokens", "80", "--models-dir", str(models), "--novelty", "--json"]
    row = json.loads(run("sample", "songs", "--no-copy", str(ngram - 1), *options).stdout)
    assert row["novelty"]["copied_fraction"] == 0.0
    result = run("sample", "songs", "--no-copy", str(ngram - 2), *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"--no-copy must be at least {ngram - 1}" in result.stderr


def test_a_model_without_an_index_cannot_tell_of_copying(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The cat\n", encoding="utf-8")
    where = ["--models-dir", str(tiny_models)]
    for command in (
        ["sample", "tiny", "--novelty"],
        ["sample", "tiny", "--no-copy", "30"],
        ["evaluate", "tiny", str(tmp_path / "text.txt"), "--novelty"],
    ):
        result = run(*command, *where)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "has no index of its training text" in result.stderr.splitlines()[-1]

"""What textgen evaluate says of the text that it has scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen
from textgen.saved_model.saved_model import load_model
from textgen.saved_model.saving import save_model

TEXT = "The cat sat on the mat.\nThe dog saw the cat.\nThe dog saw the mat.\n"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(textgen, ["evaluate", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> tuple[str, str]:
    """A model that was trained on lines, and the same as if it had been trained on files. And the text to score."""
    tiny = load_model("tiny", tiny_models)
    of_files = replace(tiny.corpus_config, documents="file")
    configs = tiny.model_config, tiny.tokenizer_config, of_files, tiny.tokenizer
    save_model(tmp_path / "of-files", tiny.weights(), *configs)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tiny_models / "tiny"), str(tmp_path / "of-files")


def test_the_scores_say_how_the_text_was_cut(models: tuple[str, str], tmp_path: Path) -> None:
    """The same weights and the same file, but newlines between documents are not bytes of the text."""
    model, text = models[0], str(tmp_path / "text.txt")
    lines, whole = (run(model, text, "--json", *more) for more in ([], ["--documents", "file"]))
    found, expected = json.loads(lines.stdout), json.loads(whole.stdout)
    assert (found.pop("documents_mode"), expected["documents_mode"]) == ("line", "file")
    assert (found["bytes"], expected["bytes"]) == (len(TEXT) - 3, len(TEXT))
    assert found["bits_per_byte"] != expected["bits_per_byte"]


def test_a_model_that_knows_other_documents_is_named(models: tuple[str, str], tmp_path: Path) -> None:
    model, of_files = models
    text, note = str(tmp_path / "text.txt"), "of-files was trained with documents by file, but this text is cut by line"
    result = run(model, text, "--ensemble", of_files)
    assert result.stdout.splitlines()[-1].split() == ["documents", "by", "line"]
    assert note in result.stderr
    assert "was trained with" not in run(of_files, text, "--ensemble", of_files).stderr

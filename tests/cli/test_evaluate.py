"""textgen evaluate: scores, and what is said of the text that was scored."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import song_model
from click.testing import CliRunner, Result
from networks import random_weights
from song_model import POEMS, TINY, run

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

models = song_model.models  # fixture

TEXT = "The cat sat on the mat.\nThe dog saw the cat.\nThe dog saw the mat.\n"


def evaluate(*arguments: str) -> Result:
    result = CliRunner().invoke(textgen, ["evaluate", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def two_models(tiny_models: Path, tmp_path: Path) -> tuple[str, str]:
    """A model that was trained on lines, and the same as if it had been trained on files. And the text to score."""
    tiny = load_model("tiny", tiny_models)
    of_files = replace(tiny.corpus_config, documents="file")
    configs = tiny.model_config, tiny.tokenizer_config, of_files, tiny.tokenizer
    save_model(tmp_path / "of-files", tiny.weights(), *configs)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tiny_models / "tiny"), str(tmp_path / "of-files")


def test_the_scores_say_how_the_text_was_cut(two_models: tuple[str, str], tmp_path: Path) -> None:
    """The same weights and the same file, but newlines between documents are not bytes of the text."""
    model, text = two_models[0], str(tmp_path / "text.txt")
    lines, whole = (evaluate(model, text, "--json", *more) for more in ([], ["--documents", "file"]))
    found, expected = json.loads(lines.stdout), json.loads(whole.stdout)
    assert (found.pop("documents_mode"), expected["documents_mode"]) == ("line", "file")
    assert (found["bytes"], expected["bytes"]) == (len(TEXT) - 3, len(TEXT))
    assert found["bits_per_byte"] != expected["bits_per_byte"]


def test_a_model_that_knows_other_documents_is_named(two_models: tuple[str, str], tmp_path: Path) -> None:
    model, of_files = two_models
    text, note = str(tmp_path / "text.txt"), "of-files was trained with documents by file, but this text is cut by line"
    result = evaluate(model, text, "--ensemble", of_files)
    assert result.stdout.splitlines()[-1].split() == ["documents", "by", "line"]
    assert note in result.stderr
    assert "was trained with" not in evaluate(of_files, text, "--ensemble", of_files).stderr


def test_a_separator_is_compared_as_it_is_read(tiny_models: Path, tmp_path: Path) -> None:
    tiny, mode, text = load_model("tiny", tiny_models), "separator:\r\n--\r\n", str(tmp_path / "text.txt")
    of_separator = replace(tiny.corpus_config, documents=mode)
    configs = tiny.model_config, tiny.tokenizer_config, of_separator, tiny.tokenizer
    save_model(tmp_path / "of-separator", tiny.weights(), *configs)
    Path(text).write_text(TEXT.replace("mat.", "mat.\n--\n"), encoding="utf-8")
    for given, newlines, is_said in (
        (mode, "normalize", False),
        (mode.replace("\r", ""), "normalize", False),
        (mode, "keep", True),
    ):
        options = ["--ensemble", str(tmp_path / "of-separator"), "--documents", given, "--newlines", newlines]
        assert ("was trained with" in evaluate(str(tiny_models / "tiny"), text, *options).stderr) is is_said


def test_a_separator_is_shown_as_it_is_typed(two_models: tuple[str, str], tmp_path: Path) -> None:
    """A newline in it would break the lines of a table. For programs it is as it is."""
    text, mode = str(tmp_path / "text.txt"), ["--documents", r"separator:\n\\"]
    result = evaluate(two_models[0], text, "--ensemble", two_models[1], *mode)
    assert result.stdout.splitlines()[-1].split() == ["documents", "by", r"separator:\n\\"]
    assert r"documents by file, but this text is cut by separator:\n\\: that model" in result.stderr
    assert json.loads(evaluate(two_models[0], text, "--json", *mode).stdout)["documents_mode"] == "separator:\n\\"
    assert run("corpus", "stats", text, *mode).stdout.splitlines()[-1].split() == ["documents", "by", r"separator:\n\\"]
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    plan = run("train", str(tmp_path / "songs.txt"), "--dry-run", *mode, *TINY, "--models-dir", str(tmp_path))
    assert "in 1 document by separator:\\n\\\\\n" in plan.stdout + plan.stderr, plan.output


def test_evaluate_prints_the_names_that_programs_read(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "songs.txt").write_text(POEMS, encoding="utf-8")
    (tmp_path / "other" / "picture.png").write_bytes(b"\x89PNG\0\0")
    result = run("evaluate", "songs", str(tmp_path / "other"), "--models-dir", str(models), "--json")
    assert f"Skipped {tmp_path / 'other' / 'picture.png'}: it looks like a binary file.\n" in result.stderr
    scores = json.loads(result.stdout)
    assert set(scores) == {
        "nats_per_token", "bits_per_byte", "perplexity_per_token", "perplexity_per_word", "tokens", "bytes", "words",
        "documents_mode",
    }  # fmt: skip
    assert scores["bytes"] == len(POEMS) - 2 * 47  # blank lines stand between documents, not in them
    assert "bits per byte" in run("evaluate", "songs", str(tmp_path / "other"), "--models-dir", str(models)).stdout


def test_evaluate_shows_what_attention_brings(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=1, attention=4)
    corpus = CorpusConfig(documents="line")
    save_model(tmp_path / "tiny", random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    (tmp_path / "other.txt").write_text("The cat sat.\nThe mat.\n", encoding="utf-8")
    arguments = ["evaluate", str(tmp_path / "tiny"), str(tmp_path / "other.txt")]
    scores = json.loads(run(*arguments, "--json").stdout)
    assert abs(scores["nats_per_token_without_attention"] - scores["nats_per_token"]) > 0.001
    assert re.search(r"^nats per token without attention +\d", run(*arguments).stdout, re.MULTILINE)


def test_evaluate_with_a_second_model(models: Path, tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["evaluate", "songs", str(tmp_path / "other.txt"), "--models-dir", str(models), "--json"]
    alone, twice = (json.loads(run(*arguments, *more).stdout) for more in ([], ["--ensemble", "songs"]))
    assert alone.pop("documents_mode") == twice.pop("documents_mode") == "blank-line"
    assert twice == pytest.approx(alone, rel=1e-6)
    result = run(*arguments, "--ensemble", str(tiny_models / "tiny"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "tiny and songs have different vocabularies" in result.stderr

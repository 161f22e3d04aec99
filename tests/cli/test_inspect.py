"""textgen inspect, as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from browsers import opened
from click.testing import CliRunner, Result
from loaded_modules import modules_after
from networks import random_weights

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import read_training
from textgen.saved_model.saving import save_model, write_training
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

BASE = Path(__file__).resolve().parents[2] / "saved_models" / "bases" / "english"
TEXT = "The cat (the dog) sat on the mat.\nThe dog saw the cat.\n\n床前明月光，疑是地上霜。\n" * 4


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def inspect(models: Path, *arguments: str, model: str = "tiny", stdin: str | None = None) -> Result:
    arguments = ("inspect", model, *arguments, "--models-dir", str(models))
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


def fresh(arguments: list[str]) -> str:
    """Code that runs a command and asserts that it succeeds."""
    return (
        f"from textgen.cli import textgen\ntry: textgen({arguments!r})\nexcept SystemExit as end: assert not end.code"
    )


def test_json_is_one_object_with_everything_that_was_seen(tiny_models: Path, text: str) -> None:
    result = inspect(tiny_models, text, "--documents", "file", "--json", "--cell", "L1/2", "--track", "cat=cat")
    found = json.loads(result.stdout)
    assert found["format"] == "textgen inspection 1"
    assert "".join(found["tokens"]["text"]) == TEXT
    assert len(found["tokens"]["surprisal"]) == found["text"]["tokens"] == len(found["tokens"]["rank"])
    assert {finding["follows"] for finding in found["cells"]} >= {"column", "cat", "inside brackets"}
    assert [(cell["layer"], cell["unit"]) for cell in found["changes"]["cells"]][-1] == (1, 2)
    assert set(found["gradient"]["untrained"]) == {"lstm", "lstm_bias_0", "gru", "rnn"}
    assert len(found["half_lives"]) == found["model"]["num_layers"] == 2
    assert "Reading" in result.stderr


@pytest.mark.parametrize("flags", [(), ("--max-tokens", "64")], ids=["read to the end", "cut"])
def test_records_without_text_are_told(tiny_models: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,n\n,1\n" + "the cat sat on the mat,2\n" * 30, encoding="utf-8")
    said = inspect(tiny_models, str(rows), *flags).stderr
    assert f"Skipped 1 record without text in {rows}, the first in line 2." in said


def test_surprisals_are_those_of_score(tiny_models: Path, text: str) -> None:
    found = json.loads(inspect(tiny_models, text, "--documents", "file", "--json").stdout)
    arguments = ("score", "tiny", text, "--documents", "file", "--tokens", "--no-end", "--json")
    scored = CliRunner().invoke(textgen, (*arguments, "--models-dir", str(tiny_models)), catch_exceptions=False)
    expected = json.loads(scored.stdout)["surprisal"]
    assert found["tokens"]["surprisal"][1:] == pytest.approx(expected, abs=2e-3)


def test_a_page_and_a_table(tiny_models: Path, text: str, tmp_path: Path) -> None:
    result = inspect(tiny_models, text, "--documents", "file", "--out", str(tmp_path / "a.html"), "--lesson")
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert '"lesson":{' in html
    first = result.stdout.splitlines()[0]
    assert first.startswith("tiny: 2 x LSTM of 8 units, read forward; ")
    (bits,) = re.findall(r'"bits_per_token":([\d.]+)', html)
    assert f", {float(bits):.3f} bits per token" in first
    assert "tokens of context" in result.stdout
    assert "open it in a browser" in result.stderr


def test_it_says_where_training_cut_the_gradient(tiny_models: Path, text: str, tmp_path: Path) -> None:
    cut = "In training the gradient stopped at the start of each window of at most 48 tokens."
    assert cut[:40] not in inspect(tiny_models, text, "--documents", "file").stdout  # nothing is known of its training
    shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "tiny")
    record = read_training(BASE)
    record["training"]["sequence_length"] = 48
    write_training(tmp_path / "models" / "tiny", record)
    assert inspect(tmp_path / "models", text, "--documents", "file").stdout.splitlines()[-1] == cut
    record["start"] = {"name": "novel", "decided_by": "given", "reason": "given"}
    write_training(tmp_path / "models" / "tiny", record)
    last = inspect(tmp_path / "models", text, "--documents", "file").stdout.splitlines()[-1]
    assert last.startswith("In its last training, which started from novel, the gradient stopped")
    assert last.endswith("The training of novel may have had longer windows.")


def test_without_a_file_the_model_writes_the_text(tiny_models: Path) -> None:
    result = inspect(tiny_models, "--json", "--max-tokens", "150")
    assert 100 < json.loads(result.stdout)["text"]["tokens"] <= 150
    assert "writes the text" in result.stderr


def test_a_long_text_is_cut_and_it_says_so(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("The cat sat. " * 80_000, encoding="utf-8")
    result = inspect(tiny_models, str(tmp_path / "long.txt"), "--documents", "file", "--max-tokens", "120", "--json")
    assert json.loads(result.stdout)["text"]["tokens"] == 120
    assert "The text is longer: only its first 120 tokens are used. --max-tokens changes this." in result.stderr


LINES_OF_TEXT = ["a" * 60, "b" * 60, "c" * 60]
PARTS: list[tuple[list[str], int, str, str, str]] = [
    # documents, tokens to use, and which part of them a network that reads backward uses: in three sentences
    (
        LINES_OF_TEXT,
        130,
        "only 130 tokens of its first 3 documents are used, of the last of these only its end.",
        "130 tokens of the first 3 documents were read, of the last of these only its end.",
        "只读了前 3 篇文档中的 130 个词元，其中最后一篇只读了末尾。",
    ),
    (
        LINES_OF_TEXT,
        122,
        "only the 122 tokens of its first 2 documents are used.",
        "the 122 tokens of the first 2 documents were read.",
        "只读了前 2 篇文档，共 122 个词元。",
    ),
    (
        ["a" * 200, "b"],
        64,
        "only the last 64 tokens of its first document are used.",
        "the last 64 tokens of the first document were read.",
        "只读了第一篇文档的最后 64 个词元。",
    ),
    (
        ["a" * 63, "b"],
        64,
        "only the 64 tokens of its first document are used.",
        "the 64 tokens of the first document were read.",
        "只读了第一篇文档，共 64 个词元。",
    ),
    (["a" * 200], 64, "only its last 64 tokens are used.", "its last 64 tokens were read.", "只读了最后 64 个词元。"),
]


@pytest.mark.parametrize(("documents", "most", "said", "english", "chinese"), PARTS, ids=lambda value: str(value)[:30])
def test_of_a_text_that_is_read_backward_it_says_which_part_is_used(
    documents: list[str], most: int, said: str, english: str, chinese: str, tmp_path: Path
) -> None:
    config = ModelConfig(259, embedding_dim=6, hidden_units=8, direction="backward")
    save_model(
        tmp_path / "back", random_weights(config), config, TokenizerConfig("byte"), CorpusConfig(), ByteTokenizer()
    )
    (tmp_path / "text.txt").write_text("\n".join(documents) + "\n", encoding="utf-8")
    page = tmp_path / "page.html"
    arguments = (str(tmp_path / "text.txt"), "--documents", "line", "--max-tokens", str(most), "--out", str(page))
    result = inspect(tmp_path, *arguments, model="back")
    assert f"The text is longer: {said} --max-tokens changes this." in result.stderr
    with opened("chromium") as browser:
        browser.open(page.as_uri())
        browser.until("document.querySelectorAll('main section').length > 5")
        notes = "document.querySelector('.notes').textContent"
        assert f"The text is longer than what is used: {english} --max-tokens" in browser.evaluate(notes)
        browser.evaluate("document.querySelector('.bar button').click()")
        assert chinese in browser.evaluate(notes)
        browser.check_faults()


BAD = {
    ("--cell", "L9/1"): "There is no cell L9/1",
    ("--cell", "8"): "A cell is written as in L1/89",
    ("--track", "who=("): "is no regular expression",
    ("--track", "who"): "--track must be NAME=REGEX",
    ("--track", "who=zzz+"): "--track must be found in the text",
    ("--label", "poe"): "label",
    ("--direction", "backward"): "This model reads text forward only",
    ("--max-tokens", "3"): "--max-tokens must be a number from 64",
}


@pytest.mark.parametrize(("flags", "message"), BAD.items(), ids=lambda value: " ".join(value)[:30])
def test_bad_input_is_one_clear_line(tiny_models: Path, text: str, flags: tuple[str, ...], message: str) -> None:
    result = inspect(tiny_models, text, *flags)
    assert (result.exit_code, result.stdout) == (2 if "must be a number" in message else 1, "")
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert message in last


def test_a_track_that_matches_only_beyond_the_tokens_that_are_used_says_what_to_do(
    tiny_models: Path, tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_text("The cat sat. " * 80 + "zzz", encoding="utf-8")
    result = inspect(tiny_models, str(tmp_path / "long.txt"), "--max-tokens", "64", "--track", "who=zzz")
    assert result.exit_code == 1
    assert "Error: --track must be found in what is used of the text: who=zzz matches nowhere in its" in result.stderr
    assert "Choose a larger --max-tokens, or give a part of the text with matches." in result.stderr


def test_a_text_of_one_token_is_refused(tiny_models: Path) -> None:
    result = inspect(tiny_models, "-", stdin="a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "too few to see anything" in result.stderr


def test_a_short_text_has_everything_but_cells_that_follow_something(tiny_models: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    result = inspect(tiny_models, "-", "--out", str(page), "--lesson", stdin="The cat sat on the mat.")
    assert result.exit_code == 0
    assert "too short" in result.stdout
    assert '"cells":[]' in page.read_text(encoding="utf-8")


def test_a_lesson_needs_a_page(tiny_models: Path) -> None:
    result = inspect(tiny_models, "--lesson")
    assert result.exit_code == 2
    assert "--out" in result.stderr


def test_both_directions(tokenizer: Tokenizer, tmp_path: Path, text: str) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="both")
    save_model(tmp_path / "both", random_weights(config), config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    forward = json.loads(inspect(tmp_path, text, "--documents", "file", "--json", model="both").stdout)
    arguments = (text, "--documents", "file", "--json", "--direction", "backward")
    backward = json.loads(inspect(tmp_path, *arguments, model="both").stdout)
    assert backward["text"]["direction"] == "backward"
    assert backward["tokens"]["text"][1:] == forward["tokens"]["text"][1:][::-1]
    refused = inspect(tmp_path, "--direction", "backward", model="both")
    assert (refused.exit_code, "name a file" in refused.stderr) == (1, True)


def test_labelled_documents(tmp_path: Path, tokenizer: Tokenizer, text: str) -> None:
    labelled = tokenizer.with_labels(["poe", "dickinson"])
    config = ModelConfig(labelled.vocab_size, embedding_dim=6, hidden_units=8)
    save_model(tmp_path / "authors", random_weights(config), config, TokenizerConfig("char"), CorpusConfig(), labelled)
    arguments = (text, "--documents", "blank-line", "--json")
    plain = json.loads(inspect(tmp_path, *arguments, model="authors").stdout)
    of_poe = json.loads(inspect(tmp_path, *arguments, "--label", "poe", model="authors").stdout)
    assert (plain["tokens"]["token"][1], of_poe["tokens"]["token"][1]) == ("<no label>", "<label poe>")
    assert plain["tokens"]["surprisal"][2] != of_poe["tokens"]["surprisal"][2]


def test_it_needs_no_tensorflow(tiny_models: Path, text: str, tmp_path: Path) -> None:
    arguments = ["inspect", "tiny", text, "--models-dir", str(tiny_models), "--out", str(tmp_path / "a.html")]
    assert not {"tensorflow", "keras"} & modules_after(fresh(arguments))
    assert (tmp_path / "a.html").exists()


@pytest.mark.parametrize("flag", [("--documents", "line"), ("--encoding", "cp1252")])
def test_how_to_read_a_text_needs_a_text(tiny_models: Path, flag: tuple[str, str]) -> None:
    arguments = ["inspect", "tiny", *flag, "--models-dir", str(tiny_models)]
    result = CliRunner().invoke(textgen, arguments, catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{flag[0]} needs PATHS." in result.stderr


@pytest.mark.parametrize(("own", "cores"), [(None, "1"), ("2", "2")])
def test_numpy_computes_on_one_core_unless_the_user_says_otherwise(
    tiny_models: Path, text: str, own: str | None, cores: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", own)
    arguments = ["inspect", "tiny", text, "--models-dir", str(tiny_models)]
    check = f"import os; assert os.environ['OPENBLAS_NUM_THREADS'] == '{cores}'"
    assert "numpy" in modules_after(f"{fresh(arguments)}\n{check}")  # it was set before NumPy read it

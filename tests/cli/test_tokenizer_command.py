from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from vocabularies import TEXT

from textgen.cli import textgen
from textgen.storage.manifests import update_folder
from textgen.tokenizer.model_file import read_tokenizer


def invoke(*arguments: str | Path, input: str | bytes | None = None) -> str:
    result = CliRunner().invoke(textgen, ["tokenizer", *map(str, arguments)], input, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.decode()


def refusal(*arguments: str | Path, input: bytes | None = None) -> str:
    """The one line that a mistake is answered with."""
    result = CliRunner().invoke(textgen, ["tokenizer", *map(str, arguments)], input)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "poems.txt").write_text(TEXT, encoding="utf-8")
    invoke("train", tmp_path / "poems.txt", "--out", tmp_path / "poems.model", "--vocab-size", "310")
    return tmp_path / "poems.model"


def test_commands_go_round(model: Path) -> None:
    text = " The cat\n\n明月 \r\n"
    ids = invoke("encode", model, text)
    assert ids == " ".join(map(str, read_tokenizer(model).encode(text))) + "\n"
    assert invoke("encode", model, input=text.encode()) == ids
    assert invoke("decode", model, input=ids) == text
    assert invoke("decode", model, input=invoke("encode", model, text, "--json")) == text
    assert invoke("decode", model, *ids.split()) == text
    assert invoke("encode", "byte", "é\n", "--tokens") == "<0xC3> <0xA9> \\n\n"
    assert invoke("decode", "byte", "198", "172") == "é"


def test_info(model: Path) -> None:
    facts = json.loads(invoke("info", model, "--json"))
    assert (facts["tokenizer"], facts["vocab_size"], facts["eos_id"]) == ("unigram", 310, 2)
    assert facts["bytes"] == model.stat().st_size
    lines = invoke("info", model, "--tokens").splitlines()
    assert lines[:4] == ["0\t<pad>", "1\t<unk>", "2\t<eos>", "3\t\\n"]
    assert len(lines) == 310
    assert "vocab_size   310" in invoke("info", model)
    assert "tokenizer    byte" in invoke("info", "byte")


def test_commands_find_saved_models_by_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model.parent / "saved_models" / "poems"
    update_folder(folder, {"config.json": b"{}", "tokenizer.model": model.read_bytes()})
    monkeypatch.chdir(model.parent)
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    assert invoke("decode", "poems", input=invoke("encode", "saved_models/poems", "cat")) == "cat"


def test_a_model_is_found_in_another_folder(model: Path, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "tokenizer.model": model.read_bytes()}
    update_folder(tmp_path / "elsewhere" / "poems", files)
    there = ("--models-dir", tmp_path / "elsewhere")
    ids = invoke("encode", "poems", "cat", *there)
    assert invoke("decode", "poems", *there, input=ids) == "cat"
    assert json.loads(invoke("info", "poems", "--json", *there))["vocab_size"] == 310
    assert "There is no model 'poems'" in refusal("encode", "poems", "cat")


def test_commands_refuse(model: Path) -> None:
    before = model.read_bytes()
    corpus = model.with_suffix(".txt")
    assert "exists" in refusal("train", corpus, "--out", model)
    assert "needs no training" in refusal("train", corpus, "--out", model, "--force", "--tokenizer", "byte")
    assert "not UTF-8" in refusal("encode", "byte", input=b"\xff")
    assert model.read_bytes() == before
    invoke("train", corpus, "--out", model, "--force", "--tokenizer", "word")
    assert read_tokenizer(model).kind == "word"
    wrong = CliRunner().invoke(textgen, ["tokenizer", "decode", "byte"], "1 two")
    assert (wrong.exit_code, wrong.stderr.splitlines()[-1]) == (
        2,
        "Error: IDS must be whole numbers. Received: 'two'.",
    )


@pytest.mark.parametrize("digits", [4000, 5000])
def test_an_id_of_thousands_of_digits_is_refused_in_a_line(digits: int) -> None:
    for words, text in ((["9" * digits], None), ([], "9" * digits)):
        result = CliRunner().invoke(textgen, ["tokenizer", "decode", "byte", *words], text)
        assert result.exit_code in (1, 2)
        assert 0 < len(result.stderr.splitlines()[-1]) < 400
        assert "set_int_max" not in result.stderr

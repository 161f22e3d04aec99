"""Scripts say in one line, without a traceback, what is missing or wrong in their arguments and files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from script_modules import load_script


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder has a text in another encoding, one without ends of lines, damaged results, and a model."""
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes("Käse\n".encode("latin-1") * 20)
    Path("one-line.txt").write_text("a word " * 100, encoding="utf-8")
    Path("lines.txt").write_text("some words\n" * 20_000, encoding="utf-8")
    Path("cut.jsonl").write_text(
        '{"change": "as it is", "seed": 0, "epochs": 3, "nats": 3.0}\n{"chan', encoding="utf-8"
    )


def ended(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The exit code of a script."""
    script = load_script(arguments[0], monkeypatch)
    monkeypatch.setattr(sys, "argv", [f"{arguments[0]}.py", *arguments[1:]])
    with pytest.raises(SystemExit) as caught:
        script.run_script(script.main)
    return caught.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ["ablation", "--data", "no-such.txt", "--json", "no.jsonl"],
        ["ablation", "--data", "lines.txt", "--json", "no-such/results.jsonl"],
        ["benchmark_encoding", "no-such.txt"],
        ["benchmark_encoding", "lines.txt", "--only", "no-such"],
        ["benchmark_sampling", "--only", "no-such"],
        ["benchmark_startup", "model", "--only", "no-such"],
        ["benchmark_training", "--only", "no-such"],
        ["benchmark_workers", "--only", "no-such"],
        ["benchmark_workers", "--json", "no-such/results.jsonl"],
        ["gallery", "no-such-model", "--out", "pages"],
        ["learning_curves", "--text", "a=no-such.txt", "--json", "results.jsonl"],
        ["learning_curves", "--text", "a=lines.txt", "--json", "no-such/results.jsonl"],
        ["measure_cells", "no-such-model", "no-such.txt"],
        ["measure_choices", "--text", "a=lines.txt", "--json", "no-such/results.jsonl"],
        ["measure_copies", "no-such-model", "--corpus", "no-such.txt"],
        ["measure_loops", "no-such-model", "no-such.txt"],
        ["measure_loops", "model", "lines.txt", "--only", "no-such"],
        ["measure_words", "no-such.txt", "no-such-model", "--corpus", "no-such.txt"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_is_missing_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(arguments, monkeypatch) == 1
    said = capsys.readouterr().err
    assert "no-such" in said
    assert said.count("\n") == 1
    assert not Path("pages").exists()


def test_a_missing_text_of_a_benchmark_names_the_command_that_fetches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = str(ended(["benchmark_quality", "--data", "no-such"], monkeypatch))
    assert (
        said == f"There is no {Path('no-such', 'ptb-train.txt')}: `textgen corpus fetch ptb-train` downloads the text."
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["ablation", "--data", "one-line.txt", "--json", "new.jsonl"], "no end of a line"),
        (
            ["ablation", "--data", "lines.txt", "--json", "cut.jsonl"],
            "cut.jsonl has no result of this script in line 2:",
        ),
        (["benchmark_encoding", "latin.txt"], "latin.txt is not UTF-8 text"),
        (
            ["learning_curves", "--text", "a=lines.txt", "--json", "cut.jsonl"],
            "cut.jsonl has no result of this script in line 1:",
        ),
        (
            ["measure_choices", "--text", "a=lines.txt", "--json", "cut.jsonl"],
            "cut.jsonl has no result of this script in line 1:",
        ),
        (["make_large_corpus", "no-folder/large.txt", "--bytes", "1"], "no-folder"),
        (["measure_loops", "model", "latin.txt"], "latin.txt is not UTF-8 text"),
        (["measure_words", "latin.txt", "model", "--corpus", "lines.txt"], "latin.txt is not UTF-8 text"),
        (["misfit_texts", "--out", "lines.txt"], "lines.txt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_file_of_another_kind_is_one_line(
    arguments: list[str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(arguments, monkeypatch) == 1
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["benchmark_sampling"],
        ["benchmark_startup", "model"],
        ["benchmark_training", "--only", "torch"],
        ["check_cudnn"],
        ["convert_torch_checkpoint", "model.pt", "state.safetensors"],
        ["make_torch_fixture"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_pytorch_its_comparisons_say_how_to_install_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("textgen.versions.missing", list)
    assert ended(arguments, monkeypatch) == 1
    said = capsys.readouterr().err
    assert 'needs torch: run pip install ".[benchmark]"' in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["benchmark_training", "--rounds", "0"], "--rounds: expected a whole number from 1 on, not '0'"),
        (["benchmark_workers", "--seconds", "nan"], "--seconds: expected a number above 0, not 'nan'"),
        (["learning_curves", "--text", "tales.txt"], "--text: expected a name, = and a value, not 'tales.txt'"),
        (["measure_choices", "--text", "tales.txt"], "--text: expected a name, = and a value, not 'tales.txt'"),
        (["measure_choices", "--minutes", "nan"], "--minutes: expected a number above 0, not 'nan'"),
        (
            ["measure_page", "model", "--tokens", "500"],
            "500 tokens are less than a text of 2,000: give more --tokens, or fewer --text-tokens.",
        ),
        (["measure_page", "model", "--link", "foo"], "--link: expected a name, = and a value, not 'foo'"),
        (["check_cudnn", "foo"], "unrecognized arguments: foo"),
        (["make_torch_fixture", "foo"], "unrecognized arguments: foo"),
        (["page_pictures", "foo"], "unrecognized arguments: foo"),
        (["command_reference", "foo"], "unrecognized arguments: foo"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(arguments, monkeypatch) == 2
    assert capsys.readouterr().err.endswith(f"{problem}\n")


class Silent:
    """A generator whose texts have this text only."""

    def __init__(self, text: str) -> None:
        self.text, self.calls = text, 0

    def generate(self, prompt: str, config: Any, num: int) -> list[Any]:
        self.calls += 1
        assert self.calls < 10, "it never ends"
        return [SimpleNamespace(text=self.text, ids=[1])] * num


@pytest.mark.parametrize(
    ("arguments", "text", "problem"),
    [
        (
            ["measure_words", "lines.txt", "model", "--corpus", "lines.txt"],
            "春眠不觉晓",
            "16 texts of the model had no words",
        ),
        (
            ["measure_copies", "model", "--corpus", "lines.txt"],
            "12 - 7\n",
            "16 texts of the model had nothing to count",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_model_that_writes_no_words_is_one_line(
    arguments: list[str], text: str, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = SimpleNamespace(generator=lambda: Silent(text))
    monkeypatch.setattr("textgen.saved_model.loading.load_model", lambda *_: model)
    assert ended(arguments, monkeypatch) == 1
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_a_browser_that_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("benchmarking", monkeypatch)
    monkeypatch.setattr("shutil.which", lambda *_: None)

    def main() -> None:
        with script.browser_of_tests("chromium"):
            pass

    with pytest.raises(SystemExit) as caught:
        script.run_script(main)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "Error: Chromium is not installed: apt-get install chromium\n"

"""Options that several commands share, as a user meets them."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from click.types import FloatParamType, IntParamType
from command_tree import commands_with, leaves
from files import write
from model_folders import small, weights_of

from textgen.cli import textgen
from textgen.cli.options import text_of
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError, CorpusError
from textgen.saved_model.saving import save_model
from textgen.settings import Settings, check_bounds, declared
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


# === Texts for a saved model ===


def test_a_text_is_read_as_that_of_the_training_unless_options_say_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = CorpusConfig(documents="line", text_field="body", labels="by")
    saved: Any = SimpleNamespace(reading=lambda given: replace(own, **given))
    write(tmp_path, "a.jsonl", '{"body": "one"}')
    binary = write(tmp_path, "b.bin", b"\0")
    assert text_of(saved, [str(tmp_path)], {"documents": "file"}).config == replace(own, documents="file")
    assert capsys.readouterr().err == f"Skipped {binary}: it looks like a binary file.\n"
    with pytest.raises(CorpusError, match="No document has a label 'author'"):
        text_of(saved, [str(tmp_path)], {"labels": "author"})


@pytest.mark.parametrize(
    "command",
    [
        *(f"{name} tiny a.csv" for name in ("score", "evaluate", "embed", "inspect", "models compress")),
        "tune-state tiny a.csv --out state",
        "sample tiny --adapt a.csv",
    ],
)
def test_each_command_reads_a_text_like_that_of_the_model(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    config, corpus = small(tokenizer.vocab_size), CorpusConfig(documents="line", text_column="body", delimiter=";")
    save_model(tmp_path / "tiny", weights_of(config), config, TokenizerConfig("char"), corpus, tokenizer)
    read: list[CorpusConfig] = []

    def opened(paths: Sequence[str], config: CorpusConfig) -> None:
        read.append(config)
        raise CorpusError("It has been opened.")

    for module in ("corpus.corpus", "saved_model.other_texts"):
        monkeypatch.setattr(f"textgen.{module}.Corpus", opened)
    result = run(*command.split(), "--models-dir", str(tmp_path))
    assert result.stderr == "Error: It has been opened.\n"
    assert [(each.text_column, each.delimiter) for each in read] == [("body", ";")]


OF_A_TEXT = {  # a text, by each command with PATHS, and by one with an option for a text
    **{name: f"{name} tiny a.csv" for name in ("score", "evaluate", "embed", "inspect")},
    "tune-state": "tune-state tiny a.csv --out state",
    "train": "train a.csv --dry-run",
    "corpus stats": "corpus stats a.csv",
    "corpus prepare": "corpus prepare a.csv --out prepared",
    "tokenizer train": "tokenizer train a.csv --out a.model",
    "sample": "sample tiny --adapt a.csv",
    "models compress": "models compress tiny a.csv --out small",
}


def test_all_commands_that_read_a_text_are_found() -> None:
    assert set(OF_A_TEXT) == commands_with("paths", textgen) | {"sample", "models compress"}


@pytest.mark.parametrize("command", OF_A_TEXT)
def test_only_options_of_the_command_are_advised(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    write(tmp_path, "a.csv", "body,by\nThe cat,me\nThe dog,you\n")
    result = run(*OF_A_TEXT[command].split())
    message = result.stderr.splitlines()[-1]
    assert "no column 'text'. Set --text-column to one of: body, by." in message
    options = [
        option for found in dict(leaves(textgen))[command].params for option in [*found.opts, *found.secondary_opts]
    ]
    assert set(re.findall(r"--[\w-]+", message)) <= set(options)
    assert not re.findall(r"\b[a-z]+_[a-z]+", message), "a setting without a flag"


# === Files to write ===

WRITING = {
    "tune-state": ["tune-state", "nobody", "missing.txt", "--out"],
    "tokenizer": ["tokenizer", "train", "missing.txt", "--out"],
    "embed": ["embed", "nobody", "missing.txt", "--out"],
    "sample": ["sample", "nobody", "--save-state"],
    "export": ["export", "nobody", "--format", "pytorch"],
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


IN_MODEL = {
    "inspect --png": ["inspect", "tiny", "missing.txt", "--png", "{model}"],
    "inspect --png, a new folder": ["inspect", "tiny", "missing.txt", "--png", "{model}/pictures/more"],
    "prepare": ["corpus", "prepare", "missing.txt", "--out", "{model}/prepared"],
    "train": ["train", "missing.txt", "--name", "new", "--models-dir", "{model}"],
    "train --dry-run": ["train", "missing.txt", "--dry-run", "--models-dir", "{model}/models"],
    "import": ["import", "{page}", "--name", "new", "--models-dir", "{model}"],
    "compress": ["models", "compress", "{model}", "missing.txt", "--out", "new", "--models-dir", "{model}"],
    "write": ["write", "tiny", "{model}/notes.txt"],
}


@pytest.mark.parametrize("arguments", IN_MODEL.values(), ids=IN_MODEL)
def test_nothing_new_is_made_in_the_folder_of_a_model(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """And the text is not read before."""
    models = tmp_path / "models"
    shutil.copytree(tiny_models / "tiny", models / "tiny")
    (tmp_path / "page.html").touch()
    monkeypatch.setenv("TEXTGEN_MODELS", str(models))
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)
    monkeypatch.setattr("textgen.editor.screen.run", lambda session: None)
    before = sorted(models.rglob("*"))
    result = run(*[part.format(model=models / "tiny", page=tmp_path / "page.html") for part in arguments])
    assert result.exit_code == 1
    assert f": {models / 'tiny'} is the folder of a model and holds nothing else." in result.stderr
    assert sorted(models.rglob("*")) == before


def test_a_text_that_is_in_the_folder_of_a_model_may_be_edited(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "tiny")
    monkeypatch.setenv("TEXTGEN_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)
    monkeypatch.setattr("textgen.editor.screen.run", lambda session: None)
    card = tmp_path / "models" / "tiny" / "README.md"
    card.write_text("Our model.", encoding="utf-8")
    assert run("write", "tiny", str(card)).exit_code == 0
    assert card.read_text(encoding="utf-8") == "Our model."


@pytest.mark.parametrize(
    "arguments", [["inspect", "nobody", "missing.txt", "--png"], ["corpus", "prepare", "missing.txt", "--out"]]
)
def test_a_folder_that_cannot_be_written_into_is_said_before_anything_is_read(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "plain.txt").touch()
    result = run(*arguments, str(tmp_path / "plain.txt" / "folder"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: Cannot write {tmp_path / 'plain.txt' / 'folder'}: Not a directory.")


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "nobody", "--prompt", "-"],
        ["embed", "nobody"],
        ["score", "nobody"],
        ["tokenizer", "encode", "nobody"],
        ["train", "-", "--from", "nobody", "--dry-run"],
        ["train", "-", "--tokenizer-from", "nobody", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_name_that_is_mistyped_is_reported_before_standard_input_is_read(
    tiny_models: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tiny_models))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a cat")))
    with pytest.raises(click.ClickException, match="nobody"):
        textgen(arguments, standalone_mode=False)
    assert sys.stdin.read() == "a cat"


def test_writing_together_needs_a_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(
        click.ClickException, match=r"needs a terminal\. To write to a file or a pipe, use textgen sample"
    ):
        textgen(["write", "tiny"], standalone_mode=False)


# === Prompts from files and standard input ===


@pytest.mark.parametrize(
    ("written", "prompt"),
    [
        (b"The cat\n", "The cat"),
        (b"The cat", "The cat"),
        (b"The cat\n\n", "The cat\n"),
        (b"\xef\xbb\xbfThe cat\r\nsat\r\n", "The cat\nsat"),
        (b"\n", ""),
    ],
)
def test_standard_input_and_a_file_are_read_alike(
    tmp_path: Path, tiny_models: Path, written: bytes, prompt: str
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(written)
    command = ["sample", "tiny", "--models-dir", str(tiny_models), "--max-tokens", "1", "--json"]
    of_file = run(*command, "--prompt-file", str(path))
    of_input = run(*command, "--prompt", "-", stdin=written)
    assert [json.loads(result.stdout)["prompt"] for result in (of_file, of_input)] == [prompt, prompt]


def test_a_prompt_that_is_not_utf_8_is_one_line(tmp_path: Path, tiny_models: Path) -> None:
    path = tmp_path / "prompt.txt"
    written = "床前明月光，疑是地上霜。举头望明月，低头思故乡。".encode("gb18030")
    path.write_bytes(written)
    command = ["sample", "tiny", "--models-dir", str(tiny_models)]
    messages = [
        run(*command, "--prompt-file", str(path)).stderr.replace(str(path), "it"),
        run(*command, "--prompt", "-", stdin=written).stderr.replace("Standard input", "it"),
    ]
    assert messages[0] == messages[1]
    assert messages[0] == (
        "Error: it is not UTF-8 text: byte 0xb4 at offset 0. It looks like gb18030. Convert it: "
        "iconv -f gb18030 -t utf-8 FILE > NEW.\n"
    )


# === Escapes in what is typed ===


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(r"\n", "\n"), (r"a\tb", "a\tb"), (r"\\n", r"\n"), (r"\d", r"\d"), ("\\", "\\"), (r"\r\n", "\r\n"), ("\n", "\n")],
)
def test_escapes_are_understood_where_a_shell_leaves_them(tiny_models: Path, typed: str, meant: str) -> None:
    command = ["sample", "tiny", "--models-dir", str(tiny_models), "--max-tokens", "1", "--json"]
    needs = {"require": ["--max-tokens", "20"], "dry-sequence-breakers": ["--dry-multiplier", "1"]}
    for flag in ("stop", "ban", "dry-sequence-breakers", "require"):
        more = needs.get(flag, [])
        config = json.loads(run(*command, *more, f"--{flag}", typed).stdout)["config"]
        assert config[flag.replace("-", "_")] == [meant]
    biased = json.loads(run(*command, "--logit-bias", f"{typed}=1").stdout)["config"]
    assert biased["logit_bias"] == [f"{meant}=1"]


def test_a_newline_typed_as_an_escape_ends_a_text(tiny_models: Path) -> None:
    command = [
        "sample",
        "tiny",
        "--models-dir",
        str(tiny_models),
        "--logit-bias",
        r"\n=50",
        "--max-tokens",
        "9",
        "--json",
    ]
    result = json.loads(run(*command, "--stop", r"\n").stdout)
    assert (result["text"], result["stop_reason"]) == ("", "stop")


# === Numbers ===


NUMBERS = {
    f"{words} {option.opts[0]}": option
    for words, command in leaves(textgen)
    for option in command.params
    if isinstance(option.type, FloatParamType)
}


def settings_below(kind: type[Settings]) -> list[type[Settings]]:
    """The classes of settings of the program, not those of tests."""
    found = [each for below in kind.__subclasses__() for each in (below, *settings_below(below))]
    return [each for each in found if each.__module__.startswith("textgen.")]


def test_all_commands_with_numbers_are_found() -> None:
    assert {"train --step-timeout", "score --threshold", "write --temperature", "sample --top-p"} <= NUMBERS.keys()


def test_all_numbers_are_refused_in_the_words_of_settings() -> None:
    numbers = [
        (parameter, command)
        for _, command in leaves(textgen)
        for parameter in command.params
        if isinstance(parameter.type, (FloatParamType, IntParamType))
    ]
    assert {"minutes", "steps", "num", "ids", "shards"} <= {parameter.name for parameter, _ in numbers}
    for parameter, command in numbers:
        with pytest.raises(click.UsageError) as caught:
            parameter.type.convert("1h", parameter, click.Context(command))
        name = parameter.opts[0] if isinstance(parameter, click.Option) else str(parameter.name).upper()
        kind = "a number" if isinstance(parameter.type, FloatParamType) else "an integer"
        assert caught.value.format_message() == f"{name} must be {kind}. Received: '1h'."


def converted(option: click.Parameter, command: click.Command, word: str) -> Any:
    """The value of a word for an option, whose bounds are those of its type or, for a setting, of its callback."""
    context = click.Context(command)
    value = option.type.convert(word, option, context)
    return option.callback(context, option, value) if option.callback else value


@pytest.mark.parametrize("digits", [21, 4000, 5000])
def test_an_integer_beyond_any_use_is_refused_in_a_line(digits: int) -> None:
    integers = {
        f"{words} {option.opts[0]}": (option, command)
        for words, command in leaves(textgen)
        for option in command.params
        if isinstance(option.type, IntParamType)
    }
    for elsewhere in ("tokenizer decode ids", "corpus prepare --shards"):  # checked with what they belong to
        integers.pop(elsewhere)
    assert {"sample --num", "sample --top-k", "embed --top", "train --threads", "train --steps"} <= integers.keys()
    for option, command in integers.values():
        with pytest.raises(click.UsageError, match=r"must be (a number|an integer)") as caught:
            converted(option, command, "9" * digits)
        assert len(caught.value.format_message()) < 400


@pytest.mark.parametrize("option", NUMBERS.values(), ids=NUMBERS)
def test_nan_is_no_number(option: click.Parameter) -> None:
    """By the type of the option or, where it is a setting, by the bounds of that."""
    is_range = isinstance(option.type, click.FloatRange)
    if is_range:
        with pytest.raises(click.UsageError, match=r"must be a number .* Received: nan\.$"):
            option.type.convert("nan", None, None)
        return
    name = str(option.name)
    bounds = [declared(kind)[name][1] for kind in settings_below(Settings) if name in declared(kind)]
    assert bounds
    for facts in bounds:
        with pytest.raises(ConfigError, match=f"^{name} must be a number .* Received: nan"):
            check_bounds(name, math.nan, facts)


@pytest.mark.parametrize("flag", ["--step-timeout", "--start-timeout"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e12", "0.5"])
def test_a_time_limit_that_no_timer_holds_is_refused(flag: str, value: str) -> None:
    result = run("train", "nothing.txt", flag, value)
    assert result.exit_code == 2
    assert f"Error: {flag} must be a number from 1 to 1,000,000. Received: " in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["score", "tiny", "--label", "sports", "--label", "business"],
        ["sample", "tiny", "--label=sports", "--num", "2", "--label", "sports"],
        ["train", "a.csv", "--labels", "author", "--labels", "year"],
    ],
    ids=lambda words: words[0],
)
def test_of_several_labels_none_is_silently_left_out(words: list[str]) -> None:
    result = run(*words)
    flag = "--labels" if words[0] == "train" else "--label"
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"Error: {flag} is given more than once: choose one.\n")

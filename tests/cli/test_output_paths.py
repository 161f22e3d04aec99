"""Files that commands write: what their help says of a file that is there, and that none is one to be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from command_tree import leaves
from files import write

from textgen.cli import textgen
from textgen.cli.command import INPUT
from textgen.cli.options import OutputFile
from textgen.cli.output_paths import OutputPath
from textgen.cli.tokenizer import KEPT

REPLACED = "An existing file is replaced."
WRITERS = ["sample", "embed", "inspect", "tune-state", "corpus fetch", "tokenizer train", "export"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), catch_exceptions=False)


FOUND = {
    name: command for name, command in leaves(textgen) if any(isinstance(p.type, OutputFile) for p in command.params)
}


def readers() -> Iterator[tuple[str, str]]:
    """Each command that writes a file, with each of its parameters that read one; a state goes on in the same file."""
    for name, command in FOUND.items():
        for each in command.params:
            is_read = isinstance(each.type, click.Path) and not isinstance(each.type, OutputPath)
            if is_read and each.name != "load_state":
                yield name, str(each.name)


def arguments_of(command: click.Command, out: str, read: str, path: str) -> Iterator[str]:
    """Arguments of a command with a file to write, and another for one of its parameters."""
    for each in command.params:
        value = out if isinstance(each.type, OutputFile) else path if each.name == read else None
        if isinstance(each, click.Argument):
            yield value or "nobody"
        elif value:
            yield from (each.opts[0], value)


def test_the_help_says_in_the_same_words_what_happens_to_a_file_that_is_there() -> None:
    assert list(FOUND) == WRITERS
    for name, command in FOUND.items():
        said = KEPT if name == "tokenizer train" else REPLACED
        for each in command.params:
            if isinstance(each.type, OutputFile) and isinstance(each, click.Option):
                assert str(each.help).endswith(f" {said}"), name
        shown = re.sub(r"\s+", " ", run(*name.split(), "--help-all" if name == "sample" else "--help").stdout)
        assert shown.count(said) == 1, name


@pytest.mark.parametrize(
    ("command", "suffix"),
    [("corpus fetch gutenberg:1", ".txt"), ("inspect nobody", ".html"), ("embed nobody", ".jsonl, .tsv or .npy")],
)
@pytest.mark.parametrize(("name", "what"), [("a.docx", "a Word file"), ("a.gz", "compressed with gzip")])
def test_text_is_not_written_under_the_name_of_another_format(
    tmp_path: Path, command: str, suffix: str, name: str, what: str
) -> None:
    for is_there in (False, True):
        result = run(*command.split(), "--out", tmp_path / name)
        assert (result.exit_code, result.stdout, (tmp_path / name).exists()) == (1, "", is_there)
        assert result.stderr == (
            f"Error: Plain text would be written, and by its name {tmp_path / name} would be {what}. "
            f"Name a file that ends in {suffix}.\n"
        )
        (tmp_path / name).touch()


@pytest.mark.parametrize(("name", "read"), list(readers()))
def test_no_command_replaces_a_file_that_it_reads(tmp_path: Path, name: str, read: str) -> None:
    letter = write(tmp_path, "letter.txt", "Dear reader")
    os.link(letter, tmp_path / "linked.txt")
    for path in (letter, tmp_path / "linked.txt"):
        result = run(*name.split(), *arguments_of(FOUND[name], str(letter), read, str(path)))
        assert result.exit_code == 2
        assert f"would replace {letter}, which is to be read (" in result.stderr
    assert letter.read_text() == "Dear reader"
    assert "to be read" not in run(*name.split(), *arguments_of(FOUND[name], str(letter), read, "missing.txt")).stderr


def test_a_state_may_go_on_in_the_file_that_it_is_read_from(tmp_path: Path) -> None:
    state = write(tmp_path, "novel.state", b"")
    result = run("sample", "nobody", "--load-state", state, "--save-state", state)
    assert "to be read" not in result.stderr


def test_a_state_that_goes_on_is_replaced_without_a_note(tiny_models: Path, tmp_path: Path) -> None:
    state, notes = str(tmp_path / "novel.state"), list[str]()
    for options in ([], ["--load-state", state], []):
        written = ["--max-tokens", "3", "--save-state", state]
        result = run("sample", "tiny", "--models-dir", tiny_models, *written, *options)
        assert result.exit_code == 0
        notes.append(result.stderr)
    assert [f"{state} was there already" in note for note in notes] == [False, False, True]


def test_every_command_with_a_text_and_a_file_to_write_is_among_them() -> None:
    assert {name for name, _ in readers()} == {"sample", "embed", "inspect", "tune-state", "tokenizer train"}


def test_nor_one_in_a_folder_or_a_glob_that_it_reads(tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    letters.mkdir()
    write(letters, "a.txt", "Dear reader")
    write(letters, "vectors.npy", b"\x93NUMPY\0\0")
    for path in (letters, letters / "*.txt", tmp_path / "**", f"file://{letters}"):
        result = run("embed", "nobody", path, "--out", letters / "a.txt")
        assert result.exit_code == 2
        assert result.stderr.endswith(
            f"Error: --out would replace {letters / 'a.txt'}, which is to be read (PATHS): choose another name.\n"
        )
        for other in ("vectors.npy", "new.jsonl"):  # the first is no text, so it is not read
            assert "to be read" not in run("embed", "nobody", path, "--out", letters / other).stderr


def test_a_note_says_that_a_file_was_replaced(tmp_path: Path) -> None:
    text, out = write(tmp_path, "a.txt", "Dear reader"), tmp_path / "a.model"
    train: list[str | Path] = ["tokenizer", "train", text, "--tokenizer", "char", "--out", out]
    said = f"{out} was there already and has been replaced.\n"
    assert said not in run(*train).stderr
    refused = run(*train)
    assert refused.stderr == (
        f"Error: {out} exists, and models may depend on it. Choose another name, or replace it with --force.\n"
    )
    assert run(*train, "--force").stderr.endswith(said)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/stdout")
def test_a_file_that_the_shell_has_opened_is_not_called_replaced(tmp_path: Path, tiny_models: Path) -> None:
    text, out = write(tmp_path, "a.txt", "the cat sat"), write(tmp_path, "out.tsv", "before\n")
    command = [sys.executable, "-m", "textgen", "embed", "tiny", str(text), "--models-dir", str(tiny_models)]
    with out.open("a") as file:
        done = subprocess.run(
            [*command, "--format", "tsv", "--out", "/dev/stdout"], stdout=file, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 0
    assert out.read_text(encoding="utf-8").startswith("before\n")
    assert "replaced" not in done.stderr


# === - for standard input and output ===


PATHS = {
    f"{words} {option.opts[0]}": (option, command)
    for words, command in leaves(textgen)
    for option in command.params
    if isinstance(option.type, click.Path)
}


def test_every_path_is_one_that_may_be_standard_input_or_one_that_refuses_it() -> None:
    assert {"sample --save-state", "sample --load-state", "train --config", "import file"} <= PATHS.keys()
    for option, command in PATHS.values():
        if option.type is INPUT:
            assert option.type.convert("-", option, click.Context(command)) == "-"
            continue
        name = option.opts[0] if isinstance(option, click.Option) else "FILE"
        what = "output" if isinstance(option.type, OutputPath) else "input"
        with pytest.raises(click.UsageError, match=rf"^{name} cannot be - \(standard {what}\): name a "):
            option.type.convert("-", option, click.Context(command))


@pytest.mark.parametrize(
    ("words", "received"),
    [
        ("sample tiny --prompt - --adapt -", "--prompt - and --adapt -"),
        ("sample tiny --prompt - --prompt -", "--prompt - and --prompt -"),
        ("sample tiny --prompt a --prompt-file - --prompt-lines -", "--prompt-file - and --prompt-lines -"),
        ("train - --valid-file -", "PATHS - and --valid-file -"),
    ],
)
def test_standard_input_is_read_only_once(words: str, received: str) -> None:
    result = run(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "Error: Standard input can be read only once: name it (-) in one place, and a file instead of it in the other. "
        f"Received: {received}."
    )

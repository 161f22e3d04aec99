"""What is suggested to those who mistype an option or a command, or know one from another program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from textgen.cli import textgen
from textgen.cli.typos import ARGUMENTS, COMMANDS, OF_FOLDERS, OPTIONS, meant_options


def all_commands(context: click.Context) -> Iterator[click.Context]:
    """A command and those below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from all_commands(click.Context(command, parent=context, info_name=name))


ALL = {each.command_path: each for each in all_commands(click.Context(textgen, info_name="textgen"))}


def options_of(path: str) -> list[str]:
    """The long options of a command, without dashes."""
    context = ALL[path]
    parameters = context.command.get_params(context)
    options = [option for each in parameters for option in (*each.opts, *each.secondary_opts)]
    return [option.removeprefix("--") for option in options if option.startswith("--")]


def arguments_of(path: str) -> set[str]:
    return {str(each.name) for each in ALL[path].command.params if isinstance(each, click.Argument)}


SPACES = "If a name has spaces, put it in quotes."


def error(words: str) -> str:
    result = CliRunner().invoke(textgen, words.split(), prog_name="textgen")
    assert result.exit_code == 2
    return result.stderr.rpartition("\nError: ")[2].rstrip("\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --nosuch", "No such option '--nosuch'."),
        ("train --epoch 3", "No such option '--epoch'. Did you mean '--epochs'?"),
        ("sample --temprature 1", "No such option '--temprature'. Did you mean '--temperature'?"),
        ("sample --promt x", "No such option '--promt'. Did you mean '--prompt'?"),
        ("sample --max_tokens 3", "No such option '--max_tokens'. Did you mean '--max-tokens'?"),
        ("sample --beams 3", "No such option '--beams'. Did you mean '--num-beams'?"),
        ("train --hidden 3", "No such option '--hidden'. Did you mean '--hidden-units'?"),
        ("sample --hunt 3", "No such option '--hunt'."),
        ("sample -1", "No such option '-1'."),
        ("train --version", "No such option '--version'."),
        ("train --num-beams 3", "No such option '--num-beams'."),
        ("embed --count 3", "No such option '--count'."),
        ("sample --minutes 5", "No such option '--minutes'."),
        ("train --hours 2", "No such option '--hours'."),
        ("--versio", "No such option '--versio'. Did you mean '--version'?"),
        ("models --hepl", "No such option '--hepl'. Did you mean '--help'?"),
        ("modelss", "No such command 'modelss'. Did you mean 'models'? textgen --help lists the commands."),
        ("models lst", "No such command 'lst'. Did you mean 'list'? textgen models --help lists the commands."),
        ("qqq", "No such command 'qqq'. textgen --help lists the commands."),
        ("corpus qqq", "No such command 'qqq'. textgen corpus --help lists the commands."),
    ],
)
def test_similar_words_are_suggested(words: str, message: str) -> None:
    assert error(words) == message


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("sample -n 3", "Did you mean '--num'?"),
        ("sample --count 3", "Did you mean '--num'?"),
        ("sample -p x", "Did you mean '--prompt'?"),
        ("sample --file x", "Did you mean '--prompt-file'?"),
        ("sample --length 3", "Did you mean '--max-tokens'?"),
        ("sample --lenght 3", "Did you mean '--max-tokens'?"),
        ("sample --words 30", "Did you mean '--max-tokens'?"),
        ("write --words 30", "Did you mean '--length'?"),
        ("sample --model novel", "Give MODEL without an option: textgen sample MODEL"),
        ("sample --modle novel", "Give MODEL without an option: textgen sample MODEL"),
        ("sample --out x", "The result goes to standard output: add > FILE."),
        ("sample --output x", "The result goes to standard output: add > FILE."),
        ("sample -o x", "The result goes to standard output: add > FILE."),
        ("export --output x", "Give FILE without an option: textgen export MODEL FILE"),
        ("embed --output x", "Did you mean '--out'?"),
        ("train -n x", "Did you mean '--name'?"),
        ("train -o x", "Did you mean '--name'?"),
        ("train --output x", "Did you mean '--name'?"),
        ("train --output-dir x", "Did you mean '--name'?"),
        ("train --output_file x", "Did you mean '--name'?"),
        ("train --file x", "Give PATHS without an option: textgen train PATHS"),
        ("train --train_file x", "Give PATHS without an option: textgen train PATHS"),
        ("train --data-file x", "Give PATHS without an option: textgen train PATHS"),
        ("serve --model english", "Give MODELS without an option: textgen serve MODELS"),
        ("serve --models english", "Give MODELS without an option: textgen serve MODELS"),
        ("import --input x", "Give FILE without an option: textgen import FILE"),
        ("tokenizer train -f x", "Give PATHS without an option: textgen tokenizer train PATHS"),
        ("tokenizer info --name x", "Give TOKENIZER without an option: textgen tokenizer info TOKENIZER"),
        ("train --lr 1", "Did you mean '--learning-rate'?"),
        ("train --base english", "Did you mean '--from'?"),
        ("train --lang english", "Did you mean '--from'?"),
        ("train --model english", "Did you mean '--from'?"),
        ("train --continue", "Did you mean '--resume'?"),
        ("train --data x", "Give PATHS without an option: textgen train PATHS"),
        ("train --force", "A model is not replaced: choose another --name, or delete the old one with textgen models "
         "remove."),
        ("train --overwrite", "A model is not replaced: choose another --name, or delete the old one with textgen "
         "models remove."),
        ("models remove a --force", "Did you mean '--yes'?"),
        ("evaluate --class x", "(Did you mean one of: '--label', '--labels'?)"),
    ],
)  # fmt: skip
def test_options_of_other_programs_are_understood(words: str, advice: str) -> None:
    option = next(word for word in words.split() if word.startswith("-"))
    assert error(words) == f"No such option '{option}'. {advice}"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("generate", "Did you mean 'sample'?"),
        ("fine-tune", "Did you mean 'train'?"),
        ("chat", "Did you mean 'serve' or 'write'?"),
        ("rm", "Did you mean 'models remove'?"),
        ("list", "Did you mean 'models list' or 'corpus list' or 'cache list'?"),
        ("resume", "Did you mean 'train --resume'?"),
        ("tune", "Did you mean 'tune-state'?"),
        ("models delete", "Did you mean 'remove'?"),
        ("models rm", "Did you mean 'remove'?"),
        ("models remov", "Did you mean 'remove'?"),
        ("models resume", "Did you mean 'textgen train --resume'?"),
        ("models train", "Did you mean 'textgen train'?"),
        ("models quantise", "Did you mean 'compress'?"),
        ("models restore", ""),
        ("models reuse", ""),
        ("cache clar", "Did you mean 'clear'?"),
        ("cache clock", ""),
    ],
)
def test_commands_of_other_programs_are_understood(words: str, advice: str) -> None:
    *group, name = words.split()
    there = f"{' '.join(['textgen', *group])} --help lists the commands."
    assert error(words) == " ".join(part for part in (f"No such command '{name}'.", advice, there) if part)


@pytest.mark.parametrize("group", ["", "models "])
@pytest.mark.parametrize("name", [*OF_FOLDERS, "renme"])
def test_who_wants_to_rename_a_model_is_told_of_its_folder(
    group: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTGEN_MODELS", str(tmp_path))
    verb = OF_FOLDERS.get(name, "rename")
    message = error(f"{group}{name} a b")
    assert message.startswith(f"No such command '{name}'. A model is a folder: {verb} it in {tmp_path}. ")
    assert "remove" not in message


def test_other_groups_have_nothing_to_rename() -> None:
    assert error("corpus rename a b") == "No such command 'rename'. textgen corpus --help lists the commands."


def test_each_word_of_other_programs_leads_to_what_there_is() -> None:
    options = {path: options_of(path) for path in ALL}
    for name, words in OPTIONS.items():
        having = [path for path in ALL if name in options[path]]
        assert having, name
        unused = [word for word in words.split() if not any(word not in options[path] for path in having)]
        assert unused == []
    for place, words in ARGUMENTS.items():
        command, _, name = place.rpartition(" ")
        having = [path for path in ALL if name in arguments_of(path) and path.endswith(command)]
        assert having, name
        for word in words.split():
            assert any(word not in options[path] for path in having)
    for command in COMMANDS:
        path, _, option = f"textgen {command}".partition(" --")
        assert path in ALL
        assert not option or option in options[path]
    assert set(OF_FOLDERS).isdisjoint(word for words in COMMANDS.values() for word in words.split())


@pytest.mark.parametrize("path", ALL)
def test_words_of_other_programs_stand_in_the_way_of_no_option(path: str) -> None:
    """Each option is suggested to who leaves out one of its letters, if that makes no word that has a meaning."""
    names, known = options_of(path), {word for words in OPTIONS.values() for word in words.split()}
    tried = 0
    for name in names:
        assert meant_options(name, names) == [name]
        mistyped = name[:2] + name[3:]
        if len(name) > 4 and mistyped not in {*names, *known}:
            tried += 1
            assert name in meant_options(mistyped, names)
    assert tried or max(map(len, names)) <= 4


@pytest.mark.parametrize("path", ALL)
def test_each_command_has_an_answer_to_each_word_of_other_programs(path: str) -> None:
    """One that is no error of ours, and no option that the command lacks."""
    words = {word for table in (OPTIONS, ARGUMENTS) for words in table.values() for word in words.split()}
    names = options_of(path)
    for word in sorted(words - set(names)):
        dash = "--" if len(word) > 1 else "-"
        result = CliRunner().invoke(textgen, [*path.split()[1:], f"{dash}{word}"], prog_name="textgen")
        if result.exit_code == 0:  # -h
            continue
        message = result.stderr.rpartition("\nError: ")[2]
        assert message.startswith(f"No such option '{dash}{word}'.")
        assert set(re.findall(r"'--(\S+?)'", message)) - {word} <= set(names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["sample", "english", "It was a dark night"],
            "Got unexpected extra argument (It was a dark night). To begin with a text, use --prompt \"TEXT\"; with "
            "that of a file, use --prompt-file FILE.",
        ),
        (
            ["sample", "english", "It", "was"],
            "Got unexpected extra arguments (It was). To begin with a text, use --prompt \"TEXT\"; with that of a "
            "file, use --prompt-file FILE.",
        ),
        (["export", "m", "页", "面.html"], "Got unexpected extra argument (面.html). " + SPACES),
        (["write", "m", "页", "面.txt"], "Got unexpected extra argument (面.txt). " + SPACES),
        (["models", "show", "my", "model"], "Got unexpected extra argument (model). " + SPACES),
        (["models", "list", "novel"], "Got unexpected extra argument (novel)."),
    ],
)  # fmt: skip
def test_what_an_argument_too_many_may_be_is_said(words: list[str], message: str) -> None:
    result = CliRunner().invoke(textgen, words, prog_name="textgen")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"\nError: {message}\n")


def test_the_help_comes_before_an_argument_too_many() -> None:
    result = CliRunner().invoke(textgen, ["sample", "a", "b", "--help"], prog_name="textgen")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "Usage: textgen sample [OPTIONS] [MODEL]")

"""What `--help` shows: how much, in which order, and that it is made from the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from textgen.cli import COMMANDS, textgen
from textgen.cli.command import SectionCommand, SectionOption
from textgen.cli.setting_options import setting_options
from textgen.corpus.config import OF_ONE_TEXT, CorpusConfig
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.model.config import ModelConfig
from textgen.settings import USUAL, Settings, declared, setting
from textgen.tokenizer.config import TokenizerConfig
from textgen.training.config import TrainingConfig, TuningConfig

SCREEN = 50  # lines


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(textgen, arguments, prog_name="textgen", terminal_width=100, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group, info_name="textgen")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


LEAVES = {" ".join(names): command for names, command in commands(textgen) if not isinstance(command, click.Group)}


@pytest.mark.parametrize(("command", "screens"), [([], 1), (["train"], 2), (["sample"], 2), (["evaluate"], 2)])
def test_the_usual_help_is_short(command: list[str], screens: int) -> None:
    lines = shown(*command, "--help").splitlines()
    assert len(lines) <= screens * SCREEN
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_in_the_table_is_that_of_the_command(name: str) -> None:
    command = textgen.get_command(click.Context(textgen), name)
    assert command is not None
    assert COMMANDS[name].help == f"{command.get_short_help_str(limit=200).removesuffix('.')}."


@pytest.mark.parametrize("group", [name for name, command in commands(textgen) if isinstance(command, click.Group)])
def test_the_list_of_commands_has_whole_sentences(group: tuple[str, ...]) -> None:
    usage, *listed = shown(*group, "--help").splitlines()
    assert usage.endswith("[ARGS]...")
    assert not [line for line in listed if line.endswith("...")]


def test_no_unknown_command_is_imported() -> None:
    result = CliRunner().invoke(textgen, ["nothing"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'nothing'" in result.stderr


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_shows_all_of_its_options_in_sections(name: str) -> None:
    command = LEAVES[name]
    assert isinstance(command, SectionCommand)
    sections = {getattr(option, "section", USUAL) for option in command.params if isinstance(option, click.Option)}
    usual = shown(*name.split(), "--help")
    if sections <= {USUAL}:
        assert "--help-all" not in usual
        return
    everything = shown(*name.split(), "--help-all")
    for option in command.params:
        if isinstance(option, click.Option):
            is_usual = getattr(option, "section", USUAL) == USUAL
            pattern = rf"(?m)^  {re.escape(option.opts[0])}\b"
            assert re.search(pattern, everything)
            assert bool(re.search(pattern, usual)) is is_usual
    titles = re.findall(r"(?m)^([A-Z][\w -]+):$", everything)
    assert titles[0] == USUAL
    assert set(titles) == {USUAL, *sections}
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(("names", "number"), [(["a"], "1 more option "), (["a", "b"], "2 more options ")])
def test_the_options_that_are_not_shown_are_counted(names: list[str], number: str) -> None:
    command = SectionCommand("stats", params=[SectionOption([f"--{name}"], section="Other") for name in names])
    assert f"\n{number}with --help-all: other." in CliRunner().invoke(command, ["--help"]).stdout


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        ("train", [CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig]),
        ("sample", [SamplingConfig, SearchConfig, NeuralCacheConfig, DynamicConfig]),
        ("evaluate", [CorpusConfig, NeuralCacheConfig, DynamicConfig]),
        ("score", [CorpusConfig]),
        ("tune-state", [CorpusConfig, TuningConfig]),
        ("corpus stats", [CorpusConfig]),
        ("corpus prepare", [CorpusConfig, TokenizerConfig]),
        ("tokenizer train", [CorpusConfig, TokenizerConfig]),
    ],
)
def test_every_setting_is_a_flag_with_the_help_of_its_field(command: str, kinds: list[type[Settings]]) -> None:
    options = {option.name: option for option in LEAVES[command].params if isinstance(option, SectionOption)}
    for kind in kinds:
        for name, (_, facts) in declared(kind).items():
            if (kind, name) == (ModelConfig, "vocab_size") or (command, name) == ("score", "labels"):
                continue  # the flag is the tokenizer's; labels in files are not scored
            assert f"--{name.replace('_', '-')}" in options[name].opts
            assert (options[name].help or "").startswith(facts.help)
            assert options[name].section == facts.section


READING_AS_TRAINED = ("evaluate", "score", "inspect", "tune-state", "embed", "models compress")
DEFAULT = re.compile(r"\[default: [^]]+\]|Guessed|Detected")


@pytest.mark.parametrize("command", READING_AS_TRAINED)
def test_a_text_for_a_model_is_read_as_its_training_text(command: str) -> None:
    options = {option.name: option for option in LEAVES[command].params if isinstance(option, SectionOption)}
    of_corpus = {name: options[name].help or "" for name in declared(CorpusConfig) if name in options}
    for name in OF_ONE_TEXT:
        assert "as in training" not in of_corpus.pop(name, "")
    for text in of_corpus.values():
        assert DEFAULT.findall(text) == ["[default: as in training]"]


def test_how_to_read_a_text_for_training_is_guessed() -> None:
    options = {option.name: option for option in LEAVES["train"].params if isinstance(option, SectionOption)}
    found = [DEFAULT.findall(options[name].help or "") for name in ("documents", "delimiter", "newlines")]
    assert found == [["Guessed"], ["Detected"], ["[default: normalize]"]]


@dataclass(frozen=True)
class Sample(Settings):
    """Settings of every type."""

    number: int = setting(3, "A number.", low=1, high=9)
    share: float = setting(0.0, "A share.")
    chosen: int = setting(1, "Chosen.", planned=True)
    on: bool = setting(True, "A switch.", off="without")
    word: str | None = setting(None, "A word.", metavar="WORD", escapes=True, section="More")
    words: Sequence[str] = setting((), "Words.", escapes=True, section="More")
    raw: Sequence[str] = setting((), "Raw words.", section="More")
    kind: str = setting("a", "A kind.", choices=("a", "b"), section="More")


@click.command(cls=SectionCommand)
@setting_options(Sample, leave_out=["chosen"])
def sampled(**options: object) -> None:
    """Print what is given."""
    click.echo(repr({name: value for name, value in options.items() if value is not None}))


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["--number", "9"], {"number": 9}),
        (["--without", "--kind", "b"], {"on": False, "kind": "b"}),
        (["--word", r"a\tb\\n"], {"word": "a\tb\\n"}),
        (["--words", r"\n", "--words", "b"], {"words": ("\n", "b")}),
        (["--raw", r"\n"], {"raw": (r"\n",)}),
    ],
)
def test_flags_of_every_type(arguments: list[str], values: dict[str, object]) -> None:
    result = CliRunner().invoke(sampled, arguments, catch_exceptions=False)
    assert result.stdout == f"{values}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--number", "99"], "--number must be a number from 1 to 9. Received: 99."),
        (["--number", "x"], "--number must be an integer. Received: 'x'."),
        (["--number", "1.5"], "--number must be an integer. Received: '1.5'."),
        (["--share", "1h"], "--share must be a number. Received: '1h'."),
        (["--kind", "c"], "Invalid value for '--kind': 'c' is not one of 'a', 'b'."),
    ],
)
def test_a_value_that_an_option_never_takes_is_wrong_usage(words: list[str], message: str) -> None:
    result = CliRunner().invoke(sampled, words, catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: sampled [OPTIONS]")
    assert f"\nError: {message}" in result.stderr


NEEDS_NEIGHBOURS = re.compile(r"\bthese (\w+)?\b|\bthe same[.,;]|\binstead\.|\bhere\.|\bthe other lines too\b", re.I)


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_each_help_is_understood_without_those_around_it(name: str) -> None:
    """It appears alone, too: in completions, in the schema of the server and in the reference."""
    for parameter in LEAVES[name].params:
        if isinstance(parameter, click.Option):
            assert not NEEDS_NEIGHBOURS.search(parameter.help or ""), parameter.help


def test_help_of_every_type() -> None:
    result = CliRunner().invoke(sampled, ["--help-all"], terminal_width=100)
    rows = {
        line.split()[0]: line.split("  ")[-1].strip() for line in result.stdout.splitlines() if line.startswith("  --")
    }
    assert rows["--number"] == "A number. [default: 3]"
    assert rows["--share"] == "A share. [default: 0]"
    assert rows["--on"] == "A switch. [default: on]"
    assert rows["--words"] == r"Words. Understands the escapes \n and \t. May be given several times."
    assert rows["--kind"] == "A kind. [default: a]"


@pytest.mark.parametrize("name", LEAVES)
def test_the_model_is_the_first_argument(name: str) -> None:
    arguments = [one.name for one in LEAVES[name].params if isinstance(one, click.Argument)]
    assert "model" not in arguments[1:]

"""What a word that is no option and no command was meant to be.

A word that other programs have for it comes first, then a similar word, and at last a part of its name. Words that say
what has no option and no command here are answered in a sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import click

SIMILAR = 0.75  # the least ratio of `difflib` of words that are suggested; below it few letters are in common
VERY_SIMILAR = 0.8  # of words that other programs have, of commands that delete and of options that replace files
DELETING = ("remove", "clear")
REPLACING = ("out", "force")
MIN_WORD_CHARS = 5  # of a mistyped word of other programs: shorter ones resemble many
OPTIONS = {
    "api-key-file": "api-key key",
    "batch-size": "b",
    "cell": "cell-type rnn",
    "dry-run": "plan",
    "epochs": "e",
    "force": "overwrite replace",
    "from": "base base-model finetune fine-tune init init-from lang language m model pretrained weights",
    "hidden-units": "hidden-size rnn-size",
    "host": "address bind",
    "label": "author category class tag",
    "labels": "author category class tag",
    "learning-rate": "l lr",
    "length": "l len max-tokens max-words num-tokens t tokens words",
    "max-seconds": "time timeout",
    "max-tokens": "characters chars l len length max-length max-new-tokens max-words n-predict num-tokens num-words "
    "tokens words",
    "minutes": "time",
    "models-dir": "model-dir",
    "name": "model-name n o out output output-dir output-file save-as save-dir title",
    "num": "count n number num-return-sequences num-samples samples texts",
    "out": "name o output output-dir output-file save-as",
    "patience": "early-stopping",
    "port": "p",
    "preset": "model-size size",
    "prompt": "begin beginning p prefix prime primer start start-string start-text text",
    "prompt-file": "corpus data f file i in input input-file path",
    "repeat-penalty": "repetition-penalty",
    "resume": "continue go-on restart",
    "seed": "random-seed random-state s",
    "sequence-length": "bptt context context-length seq-len",
    "steps": "epochs iterations iters max-steps",
    "temperature": "t temp",
    "valid-file": "test-file val validation",
    "valid-fraction": "val validation",
    "version": "v V",
    "yes": "f force y",
}
"""What other programs call an option."""
ARGUMENTS = {
    "model": "base lang language m model model-name name",
    "models": "m model models name",
    "paths": "corpus data data-file dataset f file files i in input input-file path text text-file train train-data "
    "train-file",
    "file": "f file o out output output-file path save-as",
    "import file": "f file i in input input-file model path",
    "tokenizer": "m model n name vocab vocabulary",
    "text": "i in input prompt text",
    "name": "n name title",
}
"""With which options other programs name an argument, of any command or of one."""
COMMANDS = {
    "corpus fetch": "download get",
    "corpus prepare": "",
    "corpus stats": "count statistics",
    "embed": "embedding embeddings search similar vectors",
    "evaluate": "eval perplexity ppl test",
    "export": "convert save",
    "import": "convert load",
    "inspect": "explain lesson visualize",
    "models list": "ls",
    "models show": "card describe info",
    "models compress": "quantize",
    "models remove": "del delete rm",
    "sample": "complete generate infer predict run",
    "score": "anomalies predict rank",
    "serve": "api chat http server ui web",
    "tensorboard": "curves plot",
    "tokenizer decode": "detokenize",
    "tokenizer encode": "tokenize",
    "tokenizer info": "describe show",
    "train": "fine-tune finetune fit learn",
    "train --resume": "continue restart resume",
    "tune-state": "style tune",
    "tokenizer train": "",
    "write": "chat edit editor",
    "corpus list": "ls",
    "cache list": "ls",
    "cache clear": "clean empty prune purge",
}
"""What other programs call a command; the name of one within a group is understood outside of it, too."""
OF_FOLDERS = {"rename": "rename", "move": "rename", "mv": "rename", "copy": "copy", "cp": "copy", "duplicate": "copy"}
"""What people want to do with a model, and do with its folder."""


@contextmanager
def suggesting_options(command: click.Command, ctx: click.Context) -> Iterator[None]:
    """Lets the error about an unknown option say which was meant.

    Click compares the dashes, too, which all options share, so that it suggests options that have little in common.
    """
    try:
        yield
    except click.NoSuchOption as error:
        options = [option for each in command.get_params(ctx) for option in (*each.opts, *each.secondary_opts)]
        names = [option.removeprefix("--") for option in options if option.startswith("--")]
        word = error.option_name.lstrip("-").replace("_", "-")
        found, advice = _meant(word, names, command, ctx)
        if not found and not advice and len(word) >= MIN_WORD_CHARS:
            known = {*_inverted(OPTIONS, names), *_words_of_arguments(command)}
            for near in _similar(word, known, VERY_SIMILAR)[:1]:
                found, advice = _meant(near, names, command, ctx)
        vars(error).update(possibilities=[f"--{name}" for name in found], message=f"{error.message} {advice}".rstrip())
        raise


def _meant(word: str, names: Collection[str], command: click.Command, ctx: click.Context) -> tuple[list[str], str]:
    """The options that an unknown one may be, or a sentence if it is none."""
    if not _options_called(word, names) and (advice := _advice(word, names, command, ctx)):
        return [], advice
    return meant_options(word, names), ""


def meant_options(word: str, names: Collection[str]) -> list[str]:
    """Which of the options of a command an unknown one may be.

    Args:
        word: The unknown option, without dashes.
        names: The options, without dashes.

    Example:
        >>> meant_options("lenght", ["length", "label"]), meant_options("lr", ["learning-rate", "label"])
        (['length'], ['learning-rate'])
    """
    if found := _options_called(word, names):
        return found
    if word not in {*OPTIONS, *_inverted(OPTIONS, OPTIONS)}:  # such as an option of another command: no typing error
        found = [name for name in _similar(word, names) if name not in REPLACING]
        found += _similar(word, [name for name in names if name in REPLACING], VERY_SIMILAR)
    return found or _with_part(word, names)


def _options_called(word: str, names: Collection[str]) -> list[str]:
    """The options of this name, but for underscores, or else those that other programs call so."""
    return [word] if word in names else _inverted(OPTIONS, names).get(word, [])


def _advice(word: str, names: Collection[str], command: click.Command, ctx: click.Context) -> str:
    """A sentence about an option of other programs that is none here; "" for others."""
    arguments = _arguments(command)
    if argument := _words_of_arguments(command).get(word):
        usage = " ".join(arguments[: arguments.index(argument) + 1]).upper()
        return f"Give {argument.upper()} without an option: {ctx.command_path} {usage}"
    writes = "out" in names or "name" in names or word == "name"
    if word in ("out", *OPTIONS["out"].split()) and "json" in names and not writes:
        return "The result goes to standard output: add > FILE."
    if word in ("force", *OPTIONS["force"].split()) and "name" in names:
        return "A model is not replaced: choose another --name, or delete the old one with textgen models remove."
    return ""


def _arguments(command: click.Command) -> list[str]:
    """The names of the arguments of a command."""
    return [str(each.name) for each in command.params if isinstance(each, click.Argument)]


def _words_of_arguments(command: click.Command) -> dict[str, str]:
    """The first argument of a command for which each word of other programs stands."""
    found: dict[str, str] = {}
    for argument in _arguments(command):
        for word in ARGUMENTS.get(f"{command.name} {argument}", ARGUMENTS.get(argument, "")).split():
            found.setdefault(word, argument)
    return found


class SuggestingGroup(click.Group):
    """A group of commands that suggests similar options and commands for those that it does not have."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options and the name of the command."""
        with suggesting_options(self, ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that is called. Raises `click.UsageError` if there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names and not ctx.resilient_parsing:
            raise _no_such_command(args[0], names, ctx)
        return super().resolve_command(ctx, args)


def _no_such_command(name: str, commands: Collection[str], ctx: click.Context) -> click.UsageError:
    """The error about an unknown command, with what was meant."""
    group = ctx.command_path.partition(" ")[2]  # "" for the program itself
    advice = _of_other_programs(name, group)
    if not advice:
        similar = [each for each in _similar(name, commands) if each not in DELETING]
        similar += _similar(name, [each for each in commands if each in DELETING], VERY_SIMILAR)
        advice = _did_you_mean(similar or _with_part(name, commands))
    if not advice:
        known = [*OF_FOLDERS, *(word for words in COMMANDS.values() for word in words.split())]
        advice = "".join(_of_other_programs(word, group) for word in _similar(name, known, VERY_SIMILAR)[:1])
    there = f" {ctx.command_path} --help lists the commands."
    return click.UsageError(f"No such command {name!r}.{advice}{there}", ctx)


def _of_other_programs(word: str, group: str) -> str:
    """What to do for what other programs have a command, as a sentence after a space; "" for other words."""
    if word in OF_FOLDERS and group in ("", "models"):
        from textgen.saved_model.registry import models_folder

        return f" A model is a folder: {OF_FOLDERS[word]} it in {models_folder()}."
    return _did_you_mean(_meant_commands(word, group))


def _did_you_mean(commands: Iterable[str]) -> str:
    """The question whether one of some commands is meant, after a space; "" if there are none."""
    names = " or ".join(map(repr, commands))
    return f" Did you mean {names}?" if names else ""


def _meant_commands(word: str, group: str) -> list[str]:
    """The commands that other programs call by a word, as they are typed in a group: those of the group, or all.

    Args:
        word: The word.
        group: The group, without the name of the program; "" for all commands.
    """
    found = [path for path, words in COMMANDS.items() if word in words.split() or path.endswith(f" {word}")]
    found = [word] if word in COMMANDS else found
    own = [path.removeprefix(f"{group} ") for path in found if path.startswith(f"{group} ")]
    return own or ([f"textgen {path}" for path in found] if group else found)


def _inverted(table: Mapping[str, str], names: Iterable[str]) -> dict[str, list[str]]:
    """Which of the names each word of a table stands for."""
    found: dict[str, list[str]] = {}
    for name in names:
        for word in table.get(name, "").split():
            found.setdefault(word, []).append(name)
    return found


def _similar(word: str, names: Iterable[str], least: float = SIMILAR) -> list[str]:
    """The names that look like a word, the most similar first."""
    from difflib import get_close_matches

    return get_close_matches(word, list(names), cutoff=least)


def _with_part(word: str, names: Iterable[str]) -> list[str]:
    """The names that have the word between their dashes, at most three. A number is none of a name."""
    return [name for name in names if word in name.split("-") and not word.isdigit()][:3]

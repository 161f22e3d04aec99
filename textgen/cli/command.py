"""Click commands whose help has the usual options first and the others in sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from textgen.cli import output
from textgen.cli.output_paths import (
    noting_replaced,
    parameter_name,
    refuse_inputs,
    refuse_repeated_input,
    say_what_is_replaced,
)
from textgen.cli.typos import SuggestingGroup, suggesting_options
from textgen.settings import USUAL
from textgen.wording import counted

SHOW_ALL = "textgen.show_all"  # key in the context: show all options
MAX_SHORT_HELP_CHARS = 200  # characters of the first sentence of a command's help
INPUT = click.Path(readable=False)
"""A file, a folder, a glob, an address or -. Shells complete it as a path; the library says if it cannot be read."""


class InputFile(click.Path):
    """A file that is read, but never standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path. Raises `click.UsageError` for -."""
        if value == "-":
            name = parameter_name(param) if param else "The file"
            raise click.UsageError(f"{name} cannot be - (standard input): name a file.", ctx)
        return super().convert(value, param, ctx)


INPUT_FILE = InputFile(readable=False)


class SectionOption(click.Option):
    """An option with a section."""

    def __init__(self, *args: Any, section: str = USUAL, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionCommand(click.Command):
    """A command whose `--help` shows the usual options, and whose `--help-all` shows all of them, in sections.

    Args:
        about_extra: What to do if there are more arguments than the command has, in a sentence.
    """

    def __init__(self, *args: Any, about_extra: str = "If a name has spaces, put it in quotes.", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about_extra = about_extra
        say_what_is_replaced(self.params)
        if any(_section(option) != USUAL for option in self.params):
            self.params.append(_help_all_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments.

        Raises:
            click.UsageError: There are more arguments than the command has; a path or a name is empty, which Python
                takes for the current folder; a file to write is one that the command reads; standard input would be
                read twice; or there are several labels where one is meant.
        """
        values: Mapping[str, Any] = {}
        with suggesting_options(self, ctx):
            if not ctx.resilient_parsing:
                values, _, given = self.make_parser(ctx).parse_args(list(args))
                _refuse_several_labels(given, ctx)
        for parameter in self.get_params(ctx):
            value = values.get(str(parameter.name))
            is_empty = "" in value if isinstance(value, (tuple, list)) else value == ""
            if is_empty and _is_path(parameter):
                what = "a model" if parameter.name == "model" else "a file or a folder"
                raise click.UsageError(f"{parameter.get_error_hint(ctx)} is empty: name {what}.", ctx)
        ctx.allow_extra_args = True  # they are refused below, with what to do
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise self.extra_arguments(rest, ctx)
        if not ctx.resilient_parsing:
            refuse_inputs(ctx)
            refuse_repeated_input(ctx)
        return rest

    def extra_arguments(self, extra: Sequence[str], ctx: click.Context) -> click.UsageError:
        """The error about arguments that the command does not have."""
        has_place = any(isinstance(each, click.Argument) for each in self.params)
        advice = f" {self.about_extra}" if has_place else ""
        noun = "argument" if len(extra) == 1 else "arguments"
        return click.UsageError(f"Got unexpected extra {noun} ({' '.join(extra)}).{advice}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command, and prints a note for each file that it has replaced."""
        with noting_replaced(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, or the usual ones and the titles of the other sections."""
        sections: dict[str, list[tuple[str, str]]] = {USUAL: []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                sections.setdefault(_section(parameter), []).append(record)
        shows_all = ctx.meta.get(SHOW_ALL, False)
        for title, records in sections.items():
            if shows_all or title == USUAL:
                with formatter.section(title):
                    formatter.write_dl(records)
        others = [title for title in sections if title != USUAL]
        if others and not shows_all:
            number = sum(len(sections[title]) for title in others)
            formatter.write_paragraph()
            formatter.write_text(f"{counted(number, 'more option')} with --help-all: {', '.join(map(_lower, others))}.")


def _refuse_several_labels(given: Sequence[click.Parameter], ctx: click.Context) -> None:
    """Raises `click.UsageError` if --label or --labels is among the given parameters twice. Click takes the last."""
    for parameter in given:
        if parameter.name in ("label", "labels") and given.count(parameter) > 1:
            raise click.UsageError(f"{parameter.opts[0]} is given more than once: choose one.", ctx)


class CommandGroup(SuggestingGroup):
    """A group of commands with sections, listed in the order in which they were added."""

    command_class = SectionCommand

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the names and first sentences, which Click would cut at the end of a line."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(MAX_SHORT_HELP_CHARS)) for name, command in self.commands.items()]
            )


def _is_path(parameter: click.Parameter) -> bool:
    is_named = isinstance(parameter, click.Argument) and parameter.name in ("model", "paths")
    return is_named or isinstance(parameter.type, click.Path) or parameter.metavar in ("FILE", "FOLDER", "MODEL")


def _section(parameter: click.Parameter) -> str:
    return getattr(parameter, "section", USUAL)


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _help_all_option() -> click.Option:
    def show(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta[SHOW_ALL] = True
            output.line(ctx.get_help())
            ctx.exit()

    return click.Option(
        ["--help-all"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show all options and exit.",
    )

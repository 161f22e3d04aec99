"""Click commands as textgen has them: loaded when called, with options in sections and rare ones under --help-all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import click

from textgen.settings import USUAL

SettingsDecorator = Any


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called.

    `lazy` maps a command's name to its module, attribute and short help, so that `--help` loads none of them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer meets them."""
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _ = self.lazy[cmd_name]
        path, _, attribute = module.partition(":")
        return getattr(import_module(path), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes names and short help without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


class SectionOption(click.Option):
    """An option with a section; those outside `USUAL` are shown by `--help-all` alone."""

    def __init__(self, *args: Any, section: str = USUAL, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionCommand(click.Command):
    """A command whose `--help` shows the usual options, and whose `--help-all` shows all, in sections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if any(_section(option) != USUAL for option in self.params):
            self.params.append(_help_all_option())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections that are asked for, and names the others."""
        sections: dict[str, list[tuple[str, str]]] = {USUAL: []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                sections.setdefault(_section(parameter), []).append(record)
        everything = ctx.meta.get(SHOW_ALL, False)
        for title, records in sections.items():
            if everything or title == USUAL:
                with formatter.section(title):
                    formatter.write_dl(records)
        if rare := [] if everything else [title for title in sections if title != USUAL]:
            number = sum(len(sections[title]) for title in rare)
            formatter.write_paragraph()
            formatter.write_text(f"--help-all shows {number} more options: {', '.join(map(_lower, rare))}.")


SHOW_ALL = "textgen.show_all"


def _section(parameter: click.Parameter) -> str:
    return getattr(parameter, "section", USUAL)


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _help_all_option() -> click.Option:
    def show(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta[SHOW_ALL] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()

    return click.Option(
        ["--help-all"], is_flag=True, expose_value=False, is_eager=True, callback=show, help="Show all options."
    )


def usual_first(options: Iterable[click.Option]) -> list[click.Option]:
    """The options with the usual ones before the others, otherwise in order."""
    return sorted(options, key=lambda option: _section(option) != USUAL)

"""What a word that is no option and no command was meant to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def suggesting_options(command: click.Command, ctx: click.Context) -> Iterator[None]:
    """Lets the error about an unknown option suggest those whose names are similar.

    Click compares the dashes, too, which all options share, so that it suggests options that have little in common.
    """
    try:
        yield
    except click.NoSuchOption as error:
        options = [option for each in command.get_params(ctx) for option in (*each.opts, *each.secondary_opts)]
        named = {option.lstrip("-"): option for option in options if option.startswith("--")}
        found = _similar(error.option_name.lstrip("-"), named)
        vars(error)["possibilities"] = [named[name] for name in found]
        raise


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


def _no_such_command(name: str, commands: Iterable[str], ctx: click.Context) -> click.UsageError:
    """The error about an unknown command, with the names of similar ones."""
    found = _similar(name, commands)
    meant = f" Did you mean {' or '.join(map(repr, found))}?" if found else ""
    return click.UsageError(f"No such command {name!r}.{meant} {ctx.command_path} --help lists the commands.", ctx)


def _similar(word: str, names: Iterable[str]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(word, list(names))

"""The commands of the program, by the words that call them."""

from __future__ import annotations

from collections.abc import Iterator

import click


def leaves(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    """All commands that are no groups, each with its words, such as "corpus stats"."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *names, name)
        else:
            yield " ".join([*names, name]), command


def commands_with(option: str, group: click.Group) -> set[str]:
    """The commands that have an option of this name."""
    return {words for words, command in leaves(group) if any(each.name == option for each in command.params)}

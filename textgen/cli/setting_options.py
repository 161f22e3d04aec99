"""Command-line flags made from settings: type, default, choices, bounds and help are those of the field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import click

from textgen.cli.command import SectionOption
from textgen.settings import Setting, declared

Decorator = Callable[[Any], Any]
BASE_TYPES: dict[str, dict[str, Any]] = {
    "float": {"type": float, "metavar": "X"},
    "int": {"type": int, "metavar": "N"},
    "str": {"type": str, "metavar": "TEXT"},
}


def option_group(*options: Decorator) -> Decorator:
    """One decorator out of several; `--help` lists them in the order given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def setting_options(kind: type, *, leave_out: Collection[str] = (), section: str | None = None) -> Decorator:
    """The flags of all settings of a kind.

    Args:
        kind: A `Settings` class.
        leave_out: Fields that the command takes in another way.
        section: Title for all of them, in place of those that the fields name.
    """
    names = [name for name in declared(kind) if name not in leave_out]
    return option_group(*[setting_option(kind, name, section=section) for name in names])


def setting_option(kind: type, name: str, *, section: str | None = None) -> Decorator:
    """The flag of one setting. Its value is None where the flag is not given."""
    annotation, facts = declared(kind)[name]
    flag = "--" + name.replace("_", "-")
    base = annotation.removesuffix(" | None")
    if base == "bool":
        flag = f"{flag}/--{facts.off or 'no-' + flag.removeprefix('--')}"
        shape: dict[str, Any] = {"default": None}
    elif base == "tuple[str, ...]":
        shape = {"multiple": True, "metavar": facts.metavar or "TEXT", "callback": _none_if_empty}
    elif facts.choices:
        shape = {"type": click.Choice(facts.choices)}
    else:
        shape = {**BASE_TYPES[base], **({"metavar": facts.metavar} if facts.metavar else {})}
    text = facts.help + _default(kind, name, facts)
    return click.option(flag, cls=SectionOption, section=section or facts.section, help=text, **shape)


def _none_if_empty(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return value or None


def _default(kind: type, name: str, facts: Setting) -> str:
    """What the help says of the default."""
    default = next(field.default for field in dataclasses.fields(kind) if field.name == name)
    if facts.planned:
        return " [default: chosen for you]"
    if default is dataclasses.MISSING or default is None or default == ():
        return ""
    if isinstance(default, bool):
        return " [default: on]" if default else " [default: off]"
    shown = ", ".join(map(repr, default)) if isinstance(default, tuple) else str(default).replace(";", "; ")
    return f" [default: {shown}]"

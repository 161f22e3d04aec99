"""Command-line flags made from settings: type, default, choices and help are those of the field."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import click
from click.shell_completion import CompletionItem
from click.types import FloatParamType, IntParamType

from textgen.cli.command import INPUT_FILE, SectionOption
from textgen.cli.output_paths import parameter_name
from textgen.errors import ConfigError
from textgen.settings import MAX_COUNT, NAMED_TYPES, Setting, check_bounds, declared
from textgen.wording import ESCAPES, short_repr, with_escapes

Decorator = Callable[[Any], Any]


class Number(FloatParamType):
    """A number. Any other text is refused as the values of settings are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number. Anything else is wrong usage."""
        try:
            return float(value)
        except ValueError:
            raise _wrong_type("float", value, param, ctx) from None


class Integer(IntParamType):
    """An integer. Any other text is refused as the values of settings are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the integer. Anything else is wrong usage."""
        try:
            return int(value)
        except ValueError:
            raise _wrong_type("int", value, param, ctx) from None


SHAPES: dict[str, dict[str, Any]] = {
    "float": {"type": Number(), "metavar": "X"},
    "int": {"type": Integer(), "metavar": "N"},
    "str": {"type": str, "metavar": "TEXT"},
    "bool": {"default": None},
    "Sequence[str]": {"multiple": True, "metavar": "TEXT"},
}
ESCAPED = {escape: chr(code) for code, escape in ESCAPES.items()}


class NumberRange(click.FloatRange):
    """A number in a range, which is refused as the values of settings are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number. Anything else is wrong usage."""
        number = Number().convert(value, param, ctx)
        _require_bounds(number, Setting("", self.min, self.max), param, ctx)
        return number


class IntegerRange(click.IntRange):
    """An integer in a range, which is refused as the values of settings are.

    Args:
        low: The smallest.
        high: The largest: without one, a number that is too large would fill the memory, or fail somewhere inside.
            `textgen.settings.MAX_COUNT` where every number of 64 bits will do.
    """

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)

    def _describe_range(self) -> str:
        """The range in the help, without an end where every number will do."""
        return f"x>={self.min}" if self.max == MAX_COUNT else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the integer. Anything else is wrong usage."""
        number = Integer().convert(value, param, ctx)
        _require_bounds(number, Setting("", self.min, self.max), param, ctx)
        return number


class OpenChoice(click.ParamType):
    """One of several values, or a text that begins as the open choice of a setting does."""

    def __init__(self, facts: Setting) -> None:
        self.facts = facts
        self.name = "|".join(facts.named_choices())

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What the help shows for the value, as for a `click.Choice`."""
        return f"[{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the value. Anything that the setting does not allow is wrong usage."""
        if not self.facts.allows(value):
            self.fail(f"{value!r} is not one of {', '.join(self.facts.named_choices())}.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The values, and the beginning of the open one."""
        known = [*self.facts.choices, str(self.facts.open_choice)]
        return [CompletionItem(choice) for choice in known if choice.startswith(incomplete)]


def option_group(*options: Decorator) -> Decorator:
    """One decorator out of several; `--help` lists their options in the order given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def setting_options(
    kind: type, *, leave_out: Collection[str] = (), defaults: Mapping[str, str] = MappingProxyType({})
) -> Decorator:
    """The flags of the settings of a kind.

    Args:
        kind: A `Settings` class.
        leave_out: Fields that get no flag.
        defaults: What the help shows as the default of a field, where a command has another than the field.
    """
    names = [name for name in declared(kind) if name not in leave_out]
    return option_group(*[setting_option(kind, name, defaults.get(name)) for name in names])


def setting_option(kind: type, name: str, default: str | None = None) -> Decorator:
    """The flag of one setting. Its value is None if it is not given; the help shows `default`, or else the field's."""
    annotation, facts = declared(kind)[name]
    base = annotation.removesuffix(" | None")
    flag = flag_of(name)
    shape = dict(SHAPES[base])
    if base == "bool":
        flag = f"{flag}/--{facts.off or 'no-' + flag.removeprefix('--')}"
    elif facts.choices:
        shape = {"type": OpenChoice(facts) if facts.open_choice else click.Choice(facts.choices)}
    elif facts.metavar:
        shape["metavar"] = facts.metavar
        if facts.metavar == "FILE":
            shape["type"] = INPUT_FILE
    if base == "Sequence[str]":
        shape["callback"] = _unescape_each if facts.escapes else _none_if_empty
    elif facts.escapes:
        shape["callback"] = _unescape
    elif base in ("int", "float"):
        shape["callback"] = partial(_bounded, facts)
    return click.option(flag, cls=SectionOption, section=facts.section, help=_help(kind, name, base, default), **shape)


def flag_of(name: str) -> str:
    """The flag that sets a field.

    >>> flag_of("top_k")
    '--top-k'
    """
    return "--" + name.replace("_", "-")


def unescaped(text: str) -> str:
    r"""The text with \n, \t, \r and \\ replaced by the characters that they stand for.

    >>> unescaped(r"a\nb")
    'a\nb'
    """
    return re.sub(r"\\[ntr\\]", lambda match: ESCAPED[match.group()], text)


def typed(parameter: click.Parameter, value: object) -> str:
    """The command-line word for a value; the inverse of the flag's parsing."""
    text = str(value)
    if parameter.callback not in (_unescape, _unescape_each):
        return text
    return with_escapes(text)


def _bounded(facts: Setting, ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None:
        _require_bounds(value, facts, parameter, ctx)
    return value


def _require_bounds(number: float, facts: Setting, param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Raises `click.UsageError` for a number that an option cannot have."""
    try:
        check_bounds(_shown(param), number, facts)
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None


def _wrong_type(kind: str, value: object, param: click.Parameter | None, ctx: click.Context | None) -> click.UsageError:
    """The error about a text that is no number of a kind."""
    return click.UsageError(f"{_shown(param)} must be {NAMED_TYPES[kind]}. Received: {short_repr(value)}.", ctx)


def _shown(param: click.Parameter | None) -> str:
    """What messages call a parameter, or a number that belongs to none."""
    return parameter_name(param) if param else "A number"


def _unescape(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return value and unescaped(value)


def _unescape_each(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return tuple(map(unescaped, value)) or None


def _none_if_empty(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return value or None


def _help(kind: type, name: str, base: str, default: str | None) -> str:
    """The help of a field, with how to type its value and the default: the one given, or that of the field."""
    _, facts = declared(kind)[name]
    parts = [facts.help]
    if default is None and facts.unset:
        parts.append(facts.unset)
    if facts.escapes:
        parts.append("Understands the escapes \\n and \\t.")
    if base == "Sequence[str]":
        parts.append("May be given several times.")
    own = next(field.default for field in dataclasses.fields(kind) if field.name == name)
    if shown := default or ("chosen for you" if facts.planned else _default(own)):
        parts.append(f"[default: {shown}]")
    return " ".join(parts)


def _default(value: object) -> str:
    """A default as the help shows it; empty for none."""
    if value is dataclasses.MISSING or value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value).replace(";", "; ")

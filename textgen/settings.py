"""Settings: frozen dataclasses whose fields carry their bounds and their help.

A field is declared once, beside the code that it configures:

    @dataclass(frozen=True)
    class SamplingConfig(Settings):
        temperature: float = setting(0.8, "Divide the logits by this.", low=0.0, high=100.0)

Everything else follows from the declaration: the check when an object is made, the command-line flag
(`--temperature`), the key in a TOML file given with `--config`, the key in JSON, the generated reference and the JSON
schema. `dataclasses.replace` makes a changed copy.

Example:
    >>> @dataclass(frozen=True)
    ... class Shape(Settings):
    ...     units: int = setting(8, "Units of the layer.", low=1, high=1024)
    >>> Shape(units=0)
    Traceback (most recent call last):
    ...
    textgen.errors.ConfigError: units must be a number from 1 to 1,024. Received: 0.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from textgen.errors import ConfigError
from textgen.wording import short_repr

MAX_NUMBER = 1 << 1000  # an integer up to this goes into a float, and prints in a line
MAX_COUNT = 1 << 62  # the most of a count without a limit of its own: beyond any use, and an integer of 64 bits
UNLIMITED = 1e30  # the most of a limit that can be switched off: beyond any use, and finite in float32
SETTINGS_BYTES = 1 << 20  # of a TOML file at most
MAX_LISTED = 20  # names of settings in a message
TINY = 1e-9  # the largest lower limit that stands for numbers greater than 0
TOML_ADVICE = "Correct the file: each line is of the form name = value."
USUAL = "Options"  # title of the flags that `--help` shows; those under other titles are shown by `--help-all`
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,),
    "None": (type(None),), "Sequence[str]": (list, tuple),
}  # fmt: skip
NAMED_TYPES = {
    "str": "text", "int": "an integer", "float": "a number", "bool": "true or false",
    "Sequence[str]": "a list of texts", "None": "none",
}  # fmt: skip
JSON_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"}, "int": {"type": "integer"}, "float": {"type": "number"}, "bool": {"type": "boolean"},
    "None": {"type": "null"}, "Sequence[str]": {"type": "array", "items": {"type": "string"}},
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is known of a field besides its type and default.

    Args:
        help: What the setting does, for `--help` and the reference.
        low: Least number allowed.
        high: Largest number allowed.
        choices: Values allowed.
        open_choice: A further choice, the beginning of a text of which the user writes the rest, such as `separator:`.
        section: Title under which `--help` shows the flag.
        planned: Whether `textgen.training.planning.plan` chooses a value where none is given.
        metavar: What `--help` shows for the value.
        off: Flag that switches a `bool` off, where it is not `--no-NAME`.
        escapes: Whether the flag reads \\n, \\t, \\r and \\\\ as escapes.
        unset: What happens without a value, as a sentence, where that is not the same for all commands.
    """

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    open_choice: str | None = None
    section: str = USUAL
    planned: bool = False
    metavar: str | None = None
    off: str | None = None
    escapes: bool = False
    unset: str = ""

    def allows(self, value: object) -> bool:
        """Checks whether a value is one of the choices."""
        if not isinstance(value, str):
            return False
        start = self.open_choice
        return value in self.choices or (start is not None and value.startswith(start) and len(value) > len(start))

    def named_choices(self) -> list[str]:
        """The choices as messages name them."""
        return [*self.choices, *([f"{self.open_choice}TEXT"] if self.open_choice else [])]


def setting(default: Any = dataclasses.MISSING, help: str = "", **facts: Any) -> Any:
    """Declares a field of a `Settings` class; `facts` are those of `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help, **facts)})


@dataclass(frozen=True)
class Settings:
    """Base of all settings. Checks each field when an object is made, and turns lists into tuples.

    Numbers of other libraries and truth values of NumPy, such as `np.int64(3)` and `np.True_`, become those of Python,
    which JSON and TOML have.

    Raises:
        ConfigError: A value has the wrong type, is out of bounds, or contradicts another.
    """

    def __post_init__(self) -> None:
        """Checks each field, then what the fields say together."""
        for name, (annotation, facts) in declared(type(self)).items():
            given = getattr(self, name)
            value = python_number(given)
            if value is not None or "None" not in annotation.split(" | "):
                check_bounds(name, value, facts)
            check_type(name, value, annotation)
            if isinstance(value, list):  # as in JSON; it could change later, and has no hash
                value = tuple(value)
            if value is not given:
                object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Checks what a field alone does not tell. Subclasses override it, and raise `ConfigError`."""


def declared(kind: Any) -> dict[str, tuple[str, Setting]]:
    """The annotation and the facts of each field of a `Settings` class, in order."""
    if kind not in _DECLARED:
        fields = dataclasses.fields(kind)
        _DECLARED[kind] = {f.name: (str(f.type), f.metadata.get("setting", Setting(""))) for f in fields}
    return _DECLARED[kind]


_DECLARED: dict[Any, dict[str, tuple[str, Setting]]] = {}


def python_number(value: Any) -> Any:
    """Returns a number of another library, or a truth value of NumPy, as that of Python, and other values unchanged."""
    if isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):  # of no abstract class
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def check_type(name: str, value: object, annotation: str) -> None:
    """Checks a value against an annotation such as `int | None`. Raises `ConfigError`."""
    kinds = tuple(kind for part in annotation.split(" | ") for kind in TYPES[part])
    wrong_item = isinstance(value, (list, tuple)) and any(not isinstance(item, str) for item in value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds) or wrong_item:
        named = " or ".join(NAMED_TYPES[part] for part in annotation.split(" | "))
        raise ConfigError(f"{name} must be {named}. Received: {short_repr(value)}.")


def check_bounds(name: str, value: Any, facts: Setting) -> None:
    """Checks a value against its choices and bounds. Raises `ConfigError`."""
    if facts.choices and not facts.allows(value):
        raise ConfigError(f"{name} must be one of {', '.join(facts.named_choices())}. Received: {short_repr(value)}.")
    if facts.low is None and facts.high is None:
        return
    low, high = -math.inf if facts.low is None else facts.low, math.inf if facts.high is None else facts.high
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or not abs(value) <= MAX_NUMBER:  # the last for infinity and NaN, too
        is_above = is_number and value > high
        is_open = high == math.inf or (high in (MAX_COUNT, UNLIMITED) and not is_above)
        limits = _limits(low, math.inf if is_open else high)
        is_unlimited = high == UNLIMITED and is_above
        advice = f" Without a limit, give a large number, such as {high:g}." if is_unlimited else ""
        raise ConfigError(f"{name} must be a number {limits}. Received: {short_repr(value)}.{advice}")


def _limits(low: float, high: float) -> str:
    """The rest of a sentence about a number. A tiny lower limit only excludes 0."""
    if 0 < low <= TINY:
        return "greater than 0" if high == math.inf else f"greater than 0 and at most {_plain(high)}"
    return f"of at least {_plain(low)}" if high == math.inf else f"from {_plain(low)} to {_plain(high)}"


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def check_text(name: str, *texts: str) -> None:
    """Checks that texts are valid Unicode. Raises `ConfigError`."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{name} must be valid text. Received: {text!r}, which holds half a character (a lone surrogate)."
            ) from None


Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """The settings as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The settings that `to_dict` wrote.

    Raises:
        ConfigError: A key is unknown or missing, or a value is not allowed.
    """
    fields = declared(kind)
    for name, value in values.items():
        if name not in fields:
            raise _no_setting(name, fields, _word(kind))
        check_type(name, python_number(value), fields[name][0])
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        is_required = field.default is field.default_factory is dataclasses.MISSING
        if is_required and field.name not in values:
            raise ConfigError(f"The {_word(kind)}setting {field.name!r} is missing.")
    return kind(**values)


def select(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the flat `values` that are settings of `kind`."""
    return {name: value for name, value in values.items() if name in declared(kind)}


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Checks names of settings.

    Args:
        names: The names.
        known: Names of all settings; one may come twice.

    Raises:
        ConfigError: A name is not known.
    """
    known = list(dict.fromkeys(known))
    for name in names:
        if name not in known:
            raise _no_setting(name, known)


def check_values(values: Mapping[str, Any], kinds: Sequence[type[Any]]) -> None:
    """Checks settings of several kinds, each by itself, as those in a file before others are added.

    Args:
        values: The flat settings.
        kinds: `Settings` classes. The first that has a setting decides what is allowed.

    Raises:
        ConfigError: A name is not known, or a value has the wrong type, is out of bounds or is a table.
    """
    for name, value in values.items():
        if any(isinstance(each, dict) for each in (value if isinstance(value, list) else [value])):
            raise ConfigError(
                f"A file of settings has no tables: remove [{name}], and write each setting as name = value."
            )
    fields: dict[str, tuple[str, Setting]] = {}
    for kind in kinds:
        fields = {**declared(kind), **fields}
    refuse_unknown(values, fields)
    for name, value in values.items():
        annotation, facts = fields[name]
        check_type(name, value, annotation)
        check_bounds(name, value, facts)


def _no_setting(name: str, known: Iterable[str], word: str = "") -> ConfigError:
    """The error for an unknown name, with a similar one or the first of all.

    Names are quoted, as they are spelled in a file or in Python.
    """
    from difflib import get_close_matches

    known = list(known)
    near = get_close_matches(name, known, n=1)
    more = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    there = f". There are: {', '.join(map(repr, known[:MAX_LISTED]))}{more}."
    # In brackets, as other messages go on after this one.
    advice = f" (did you mean {near[0]!r}?)." if near else there
    return ConfigError(f"There is no {word}setting {short_repr(name)}{advice}")


def _word(kind: type[Any]) -> str:
    """What settings are for, as a word with a space: `sampling ` for `SamplingConfig`; "" for other names."""
    name = kind.__name__
    return f"{name.removesuffix('Config').lower()} " if name.endswith("Config") else ""


def read_toml(path: str | Path) -> dict[str, Any]:
    """Flat settings from a TOML file such as `hidden_units = 512`. Raises `ConfigError`."""
    import tomllib  # takes time to import, and few commands read a file

    try:
        with Path(path).open("rb") as file:
            data = file.read(SETTINGS_BYTES + 1)
        if len(data) > SETTINGS_BYTES:
            raise ValueError(f"it has more than {SETTINGS_BYTES:,} bytes, the limit for a file of settings")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read the settings in {path}: {error.strerror or error}. Name a TOML file that can be read."
        ) from None
    except RecursionError:
        raise ConfigError(
            f"Cannot read the settings in {path}: tables or lists are nested too deep. {TOML_ADVICE}"
        ) from None
    except ValueError as error:  # no UTF-8, no TOML, or a number of thousands of digits
        raise ConfigError(
            f"Cannot read the settings in {path}: {str(error).removesuffix('.')}. {TOML_ADVICE}"
        ) from None


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """The JSON schema of an object with these settings.

    Example:
        >>> from textgen.generation.config import SearchConfig
        >>> json_schema(SearchConfig)["properties"]["num_beams"]["minimum"]
        1
    """
    required = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    properties = {name: _property(kind, name) for name in declared(kind)}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _property(kind: type[Any], name: str) -> dict[str, Any]:
    annotation, facts = declared(kind)[name]
    parts = annotation.split(" | ")
    value: dict[str, Any] = dict(JSON_TYPES[parts[0]]) | {"description": f"{facts.help} {facts.unset}".strip()}
    if facts.open_choice:
        value["pattern"] = f"^(?:{'|'.join(map(re.escape, facts.choices))}|{re.escape(facts.open_choice)}[\\s\\S]+)$"
    elif facts.choices:
        value["enum"] = [*facts.choices, *([None] if "None" in parts else [])]
    bounds = {"minimum": facts.low, "maximum": facts.high}
    value |= {key: bound for key, bound in bounds.items() if bound is not None and math.isfinite(bound)}
    if "None" in parts:
        value["type"] = [value["type"], "null"]
    default = next(field.default for field in dataclasses.fields(kind) if field.name == name)
    if default is not dataclasses.MISSING:
        value["default"] = list(default) if isinstance(default, tuple) else default
    return value

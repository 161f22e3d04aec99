"""Decodes JSON from files and validates its structure, with a clear one-line error.

A schema has the same structure as the value:

    str, bool          a value of that type
    int, float         a finite number; integers are at most 2 ** 63 in absolute value
    None               null
    (int, None)        any of several schemas
    [str]              a list of any length
    {"a": int}         an object with the key "a"; "a?" makes the key optional; other keys are ignored
    {str: int}         an object with any keys
    dict               any object
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from typing import Any

from textgen.wording import shortened, visible

MAX_INTEGER = 1 << 63  # maximum absolute value of an integer
SHOWN = 40  # maximum number of characters of a wrong value in a message
NAMES = {str: "a string", bool: "true or false", int: "an integer", float: "a number", dict: "an object"}
BY_ANNOTATION: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "None": None}


class RepeatedName(ValueError):
    """Raised when a name occurs twice in an object of JSON, so that one of its values would be lost.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {_shown(name)} occurs twice in an object")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of its names and values."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise RepeatedName(names.most_common(1)[0][0])
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object)
"""Decodes JSON in which no name occurs twice in an object."""


def decoded_json(data: str | bytes) -> Any:
    """Decodes JSON that may be damaged, or written to do harm.

    Args:
        data: The JSON, as text or in UTF-8.

    Returns:
        The value.

    Raises:
        RepeatedName: An object has a name twice.
        ValueError: The data is no JSON, or cannot be decoded. No other error is raised, whatever the data.
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("a byte-order mark is no part of JSON", text, 0)
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        if (why := why_no_json(error)) == str(error):
            raise
        raise ValueError(why) from None


def why_no_json(error: ValueError | RecursionError) -> str:
    """Returns what is wrong with JSON, in other words where those of Python are about Python.

    Args:
        error: An error of `DECODER`.
    """
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deep"
    return "a number has too many digits" if type(error) is ValueError else str(error)  # else of a class for JSON


def json_object(data: str | bytes) -> dict[str, Any]:
    """Decodes JSON that should hold an object; see `decoded_json`.

    Args:
        data: The JSON, as text or in UTF-8.

    Returns:
        The object.

    Raises:
        ValueError: The data is no JSON, or holds another value.

    Example:
        >>> json_object('["a"]')
        Traceback (most recent call last):
        ...
        ValueError: it should be an object, not a list
    """
    value = decoded_json(data)
    check(value, dict)
    return value


def check(value: Any, schema: Any, where: str = "") -> None:
    """Checks that a value matches a schema.

    Args:
        value: Decoded JSON value.
        schema: Schema, as described in the docstring of this module.
        where: Path of the value for error messages, such as "progress.step".

    Raises:
        ValueError: The value does not match. The message names the first difference.

    Example:
        >>> check({"step": 3, "best": None}, {"step": int, "best?": (float, None)})
        >>> check({"progress": {"step": "three"}}, {"progress": {"step": int}})
        Traceback (most recent call last):
        ...
        ValueError: progress.step should be an integer, not 'three'
    """
    if isinstance(schema, tuple):
        if not any(_fits(value, one, where) for one in schema):
            _refuse(value, schema, where)
    elif isinstance(schema, list):
        if not isinstance(value, list):
            _refuse(value, schema, where)
        for number, item in enumerate(value):
            check(item, schema[0], f"{where}[{number}]")
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            _refuse(value, schema, where)
        _check_keys(value, schema, f"{where}." if where else "")
    elif not _is(value, schema):
        _refuse(value, schema, where)


def of_fields(kind: type, **nested: Any) -> dict[str, Any]:
    """Creates a schema from the fields of a dataclass. The keys of those with a default are optional.

    Args:
        kind: Dataclass whose fields have types in `BY_ANNOTATION`, or unions of them.
        nested: Schemas by field name, which take precedence over the types of the fields.

    Returns:
        The schema of an object.
    """
    schema = dict[str, Any]()
    for field in dataclasses.fields(kind):
        is_required = field.default is field.default_factory is dataclasses.MISSING
        of_type = nested.get(field.name) or tuple(BY_ANNOTATION[part] for part in str(field.type).split(" | "))
        schema[field.name if is_required else f"{field.name}?"] = of_type
    return schema


def _check_keys(value: dict[str, Any], schema: dict[Any, Any], prefix: str) -> None:
    if str in schema:
        for key, item in value.items():
            check(item, schema[str], f"{prefix}{_shown(key)}")
        return
    for key, wanted in schema.items():
        name = key.removesuffix("?")
        if name in value:
            check(value[name], wanted, f"{prefix}{name}")
        elif name == key:
            raise ValueError(f"it lacks '{prefix}{name}'")


def _fits(value: Any, schema: Any, where: str) -> bool:
    try:
        check(value, schema, where)
    except ValueError:
        return False
    return True


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and -MAX_INTEGER <= value <= MAX_INTEGER
        return whole or (kind is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def _refuse(value: Any, schema: Any, where: str) -> None:
    raise ValueError(f"{where or 'it'} should be {_named(schema)}, not {_shown(value)}")


def _named(schema: Any) -> str:
    if isinstance(schema, tuple):
        return " or ".join(map(_named, schema))
    if schema is None:
        return "null"
    return "a list" if isinstance(schema, list) else NAMES[dict if isinstance(schema, dict) else schema]


def _shown(value: Any) -> str:
    """Formats a value for an error message, abbreviated to fit on one line."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a number of many digits"
    text = visible(repr(value)) if isinstance(value, str) else str(value)  # letters of all scripts as they are
    return shortened(text, SHOWN)

"""The structure of JSON that comes from a file: one schema for each kind of file, one clear line for what differs.

A schema is written as the value looks:

    str, bool          a value of that type
    int, float         a number of at most 2 ** 63, whole for int, finite for float
    None               null
    (int, None)        one of several
    [str]              a list of any length
    {"a": int}         an object with the key "a"; with the key "a?" it may be missing; other keys are let be
    {str: int}         an object with any keys
    dict               any object
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

LARGEST = 1 << 63  # number: it goes into any format, and prints in a line
SHOWN = 40  # characters of a wrong value
NAMES = {str: "a string", bool: "true or false", int: "an integer", float: "a number", dict: "an object"}
BY_ANNOTATION: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "None": None}


def check(value: Any, schema: Any, where: str = "") -> None:
    """Raises `ValueError` that names the first place where `value` differs from `schema`.

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
    """The schema of an object with the fields of a dataclass, each of which may be missing; `nested` are given."""
    fields = {field.name: str(field.type).split(" | ") for field in dataclasses.fields(kind)}
    return {
        f"{name}?": nested.get(name) or tuple(BY_ANNOTATION[part] for part in parts) for name, parts in fields.items()
    }


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
        whole = isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
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
    """A value as far as it goes into a line."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number of many digits"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."

"""Schemas: what fits is let through, what does not is named with its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from textgen.schema import check, of_fields


@dataclass
class Inner:
    scale: float = 1.0


@dataclass
class Outer:
    inner: Inner
    step: int = 0
    best: float | None = None
    name: str = ""
    is_done: bool = False


SCHEMA = of_fields(Outer, inner=of_fields(Inner))


@pytest.mark.parametrize(
    "value",
    [{}, {"step": 1}, {"best": None}, {"best": 1}, {"best": 1.5, "inner": {}}, {"inner": {"scale": 2}}, {"other": []}],
)
def test_what_fits(value: dict[str, Any]) -> None:
    assert check(value, SCHEMA) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it should be an object, not a list"),
        ({"step": 1.0}, "step should be an integer, not 1.0"),
        ({"step": True}, "step should be an integer, not True"),
        ({"step": 10**30}, "step should be an integer, not a number of many digits"),
        ({"best": "x"}, "best should be a number or null, not 'x'"),
        ({"best": float("nan")}, "best should be a number or null, not nan"),
        ({"best": False}, "best should be a number or null, not False"),
        ({"name": None}, "name should be a string, not None"),
        ({"is_done": 1}, "is_done should be true or false, not 1"),
        ({"inner": {"scale": {}}}, "inner.scale should be a number, not an object"),
        ({"inner": 5}, "inner should be an object, not 5"),
    ],
)
def test_what_does_not_fit(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check(value, SCHEMA)


def test_lists_maps_and_what_is_missing() -> None:
    check({"a": [1, 2], "b": {"x": None}}, {"a": [int], "b": {str: (int, None)}, "c?": str})
    for value, message in (
        ({"a": [1, "2"], "b": {}}, r"a\[1\] should be an integer, not '2'"),
        ({"a": [], "b": {"\x1b": "y"}}, r"b\.'\\x1b' should be an integer or null"),
        ({"a": []}, "it lacks 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            check(value, {"a": [int], "b": {str: (int, None)}, "c?": str})
    with pytest.raises(ValueError, match=r"'x{39}\.\.\.$"):
        check("x" * 1000, int)

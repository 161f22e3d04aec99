"""Texts as they are shown."""

from __future__ import annotations

import ast
import math
import os
import sys
from pathlib import Path

import pytest

from textgen.wording import plain, shell_word

PACKAGE = Path(__file__).resolve().parents[1] / "textgen"
WITH_EXPONENT = {
    ("wording.py", "number"),  # `plain` and `short`
    ("settings.py", "high"),  # limits of settings, as they are typed
    ("settings.py", "number"),
    ("cli/setting_options.py", "value"),  # defaults, as they are typed
    ("cli/embed.py", "number"),  # a table for programs
    ("training/lr_finder.py", "suggested"),  # a learning rate, to be typed
}
"""Numbers that are shown with an exponent where they are large or small, besides learning rates."""


def test_an_amount_is_written_without_an_exponent() -> None:
    numbers = [0.0, 0.5, 7, 150.0, 999.96, 1000.0, -1234567.0, 1e-6, 0.00012345678, 10**20, 1e15, math.inf]
    assert [plain(number, 4) for number in numbers] == [
        "0", "0.5", "7", "150", "1,000", "1,000", "-1,235,000", "0.000001", "0.0001235",
        "100,000,000,000,000,000,000", "1e+15", "inf",
    ]  # fmt: skip
    assert plain(sys.float_info.max) == "1.79769e+308"


def with_exponent(tree: ast.AST) -> list[str]:
    """The numbers that f-strings format with "g" or "e", except where they are rounded by that."""
    rounded = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
        for part in ast.walk(node)
    }
    return [
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue) and id(node) not in rounded and node.format_spec
        if ast.unparse(node.format_spec).rstrip("'\"").endswith(("g", "e"))
    ]


def test_no_amount_that_people_read_is_formatted_with_an_exponent() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in with_exponent(ast.parse(path.read_text(encoding="utf-8")))
        if not name.endswith("learning_rate")
    }
    assert found == WITH_EXPONENT, "use textgen.wording.plain"


def test_a_word_is_quoted_as_the_shell_of_windows_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In double quotes, with the backslashes before one doubled; single quotes would be part of the word."""
    expected = {
        "novel": "novel", "绝句": "绝句", "हिन्दी": "हिन्दी", r"C:\models\RUNNER~1": r"C:\models\RUNNER~1",
        r"C:\my models\a b": r'"C:\my models\a b"', 'say "hi"': r'"say \"hi\""', "a&b": '"a&b"', "a&b\\": r'"a&b\\"',
        "it's": '"it\'s"', "": '""',
    }  # fmt: skip
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        found = {word: shell_word(word) for word in expected}
    assert found == expected

"""What only looks like texts or tokens is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.arguments import check_prompt, several_paths, several_texts
from textgen.errors import ConfigError


def name_of(value: object) -> str:
    """The name of a case, which is the same in all processes."""
    return type(value).__name__ if isinstance(value, memoryview) else repr(value)


@pytest.mark.parametrize(
    "value", [np.array(3), np.array("abc"), memoryview(b"ab"), b"ab", {"a": 1}, [1.5], [True], None, 5], ids=name_of
)
def test_a_prompt_is_a_text_or_tokens(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"prompt (is|must be)"):
        check_prompt("prompt", value)


@pytest.mark.parametrize("value", [{1, 2}, (id for id in [1, 2]), {1: "a"}], ids=["set", "generator", "dict"])
def test_tokens_of_a_prompt_that_are_no_list_are_not_called_a_missing_text(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^prompt must be a text or a list of tokens\. Received: "):
        check_prompt("prompt", value)


@pytest.mark.parametrize("value", ["a", "", [], [1, 2], (3,), np.array([1, 2])], ids=name_of)
def test_prompts(value: Any) -> None:
    try:
        check_prompt("prompt", value)
    except ConfigError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("value", [np.array("a"), memoryview(b"ab"), b"ab", {"a": 1}, None, 5], ids=name_of)
def test_several_are_several(value: Any) -> None:
    for function in (several_texts, several_paths):
        with pytest.raises(ConfigError, match="must be a"):
            function("name", value)
    assert list(several_texts("name", np.array(["a", "b"]))) == ["a", "b"]


def test_a_path_of_any_kind_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (entry,) = os.scandir(tmp_path)
    assert several_paths("paths", entry) == [tmp_path / "a.txt"]  # type: ignore[arg-type]
    assert several_paths("paths", ["a", tmp_path]) == ["a", tmp_path]

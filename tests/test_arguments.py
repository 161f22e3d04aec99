"""What only looks like texts or tokens is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textgen.arguments import check_prompt, several_paths, several_texts
from textgen.errors import ConfigError


@pytest.mark.parametrize(
    "value", [np.array(3), np.array("abc"), memoryview(b"ab"), b"ab", {"a": 1}, [1.5], None, 5], ids=repr
)
def test_a_prompt_is_a_text_or_tokens(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"prompt (is|must be)"):
        check_prompt("prompt", value)


@pytest.mark.parametrize("value", ["a", "", [], [1, 2], (3,), np.array([1, 2])], ids=repr)
def test_prompts(value: Any) -> None:
    check_prompt("prompt", value)


@pytest.mark.parametrize("value", [np.array("a"), memoryview(b"ab"), b"ab", {"a": 1}, None, 5], ids=repr)
def test_several_are_several(value: Any) -> None:
    for function in (several_texts, several_paths):
        with pytest.raises(ConfigError, match="must be a"):
            function("name", value)
    assert list(several_texts("name", np.array(["a", "b"]))) == ["a", "b"]

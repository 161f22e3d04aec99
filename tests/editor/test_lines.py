"""How paragraphs are broken into lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from textgen.editor.lines import wrap


@given(
    text=st.text(st.sampled_from("ab  月光é\u0301\ufe0f！。”\u3000\u2009\xa0"), max_size=60),
    width=st.integers(2, 20),
)
def test_wrapped_lines_fit_and_lose_only_spaces(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("one two  three", ["one two", "three"]),
        ("one two ", ["one two "]),
        ("eightlong two", ["eightlon", "g two"]),
        ("He 月光月光", ["He 月光", "月光"]),
        ("月光a月光", ["月光a月", "光"]),
        ("月光月光。光", ["月光月", "光。光"]),
        ("月光月ab”光", ["月光月", "ab”光"]),
        ("月光月“光”", ["月光月“", "光”"]),
        ("月光月光!光", ["月光月", "光!光"]),
        ("月光月光］光", ["月光月", "光］光"]),
        ("月光月光？！”光", ["月光月", "光？！”", "光"]),
        ("。。。。。", ["。。。。", "。"]),
        ("one two ’tis", ["one two", "’tis"]),
        (" bcdefgh。", [" bcdefgh", "。"]),
        ("月光月光\ufe0f光", ["月光月光\ufe0f", "光"]),
        ("月光月光\u0301a", ["月光月光\u0301", "a"]),
    ],
)
def test_where_lines_break(text: str, lines: list[str]) -> None:
    assert wrap(text, 8) == lines

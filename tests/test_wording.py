"""Texts as they are shown."""

from __future__ import annotations

import os

import pytest

from textgen.wording import shell_word


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

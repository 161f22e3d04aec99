"""The standard streams on Windows."""

from __future__ import annotations

import io
import os
import sys
from types import SimpleNamespace

import pytest

from textgen import __main__ as program
from textgen import cli
from textgen.cli import stderr, windows_streams


class Stream(io.TextIOWrapper):
    """A standard output of Windows."""

    def __init__(self, *, is_console: bool = False) -> None:
        self._is_console = is_console
        super().__init__(io.BytesIO(), encoding="utf-8", newline="\r\n")

    def isatty(self) -> bool:
        return self._is_console


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts a library in place of colorama. Gives what is asked of the console, and when."""
    asked = list[str]()
    library = SimpleNamespace(just_fix_windows_console=lambda: asked.append("console"))
    monkeypatch.setitem(sys.modules, "colorama", library)
    return asked


def test_a_result_in_a_pipe_keeps_its_line_ends_and_the_console_its_own(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream, line in ((Stream(), b"a\n"), (Stream(is_console=True), b"a\r\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        windows_streams.prepare_streams()
        stream.write("a\n")
        stream.flush()
        assert stream.buffer.getvalue() == line  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", None)
    windows_streams.prepare_streams()
    assert asked == ["console"] * 3


@pytest.mark.parametrize(("name", "steps"), [("nt", ["console", "wrapped", "run"]), ("posix", ["wrapped", "run"])])
def test_the_console_is_asked_before_standard_error_is_wrapped(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, name: str, steps: list[str]
) -> None:
    monkeypatch.setattr(program, "leave_out_current_folder", lambda: None)
    monkeypatch.setattr(stderr, "keep_going_without_stderr", lambda: asked.append("wrapped"))
    monkeypatch.setattr(cli, "textgen", lambda **options: asked.append("run"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", name)
        program.main()
    assert asked == steps

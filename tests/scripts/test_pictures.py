"""The scripts that draw the pictures of README.md: what they run, and how they say that it failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from script_modules import load_script

FAILING = [sys.executable, "-S", "-c", "import sys; print('the reason', sys.argv[1]); sys.exit(3)"]
WORKING = [sys.executable, "-S", "-c", "import os; print('all', *map(os.isatty, (0, 1, 2)))"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such terminals")
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_a_command_that_fails_ends_the_script_with_what_it_said(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load_script("picture", monkeypatch)
    monkeypatch.setattr(script, "child_command", lambda _: FAILING)
    monkeypatch.setattr(script, "SHOWN", [script.Shown("textgen train fables.txt", terminal=terminal)])
    with pytest.raises(SystemExit) as caught:
        script.record()
    said = str(caught.value.code).replace("\r\n", "\n")
    assert said == "textgen train fables.txt ended with 3:\nthe reason train\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such terminals")
def test_what_commands_print_is_recorded_in_a_terminal_where_they_shall_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = load_script("picture", monkeypatch)
    monkeypatch.setattr(script, "child_command", lambda _: WORKING)
    monkeypatch.setattr(script, "SHOWN", [script.Shown("textgen one"), script.Shown("textgen two", terminal=False)])
    first, second = (line for line in script.record().split("\n") if line.startswith("all"))
    assert first == "all True True True"
    assert second.endswith("False False")


def test_an_inspection_that_fails_ends_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = load_script("page_pictures", monkeypatch)
    monkeypatch.setattr(script, "child_command", lambda _: FAILING)
    with pytest.raises(SystemExit, match=r"^textgen inspect ended with 3\.$"):
        script.draw_inspection(SimpleNamespace(), tmp_path)
    assert capfd.readouterr().out == "the reason inspect\n"

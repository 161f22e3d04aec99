"""textgen write: what keys do, what the screen shows, and the program in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console
from suggesters import Telling

from textgen.cli import textgen
from textgen.cli.keyboard import Key
from textgen.cli.write import KEYS, Screen
from textgen.editor.session import Session


def screen_of(path: Path, width: int = 80, height: int = 24) -> tuple[Session, Screen]:
    session = Session(Telling(), path, length=6, temperature=0.8)
    return session, Screen(session, Console(width=width, height=height))


# === Keys ===


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("a b", "ab"),
        ("a enter b", "a\nb"),
        ("a 2", "a 2: 6 0.8 0 0"),
        ("a tab", "a 1: 6 0.8 0 0"),
        ("a ctrl-v 2", "a2"),
        ("ctrl-v a 2", "a 2: 6 0.8 0 0"),
        ("0", "0"),
        ("a b backspace", "a"),
        ("a ctrl-w", ""),
        ("a 2 ctrl-z", "a"),
        ("a 2 ctrl-z ctrl-y", "a 2: 6 0.8 0 0"),
        ("ctrl-r 1", " 1: 6 0.8 0 1"),
        ("right right left 1", " 1: 6 0.8 1 0"),
        ("up up down 1", " 1: 6 0.9 0 0"),
        ("a unknown escape ctrl-b", "a"),
        ("9", ""),
    ],
)
def test_what_keys_do(tmp_path: Path, keys: str, text: str) -> None:
    session, screen = screen_of(tmp_path / "new.txt")
    for key in keys.split():
        screen.press(Key("text", key) if len(key) == 1 else Key(key))
    assert session.draft.text == text


def test_digits_that_are_pasted_are_text(tmp_path: Path) -> None:
    session, screen = screen_of(tmp_path / "new.txt")
    screen.press(Key("paste", "in 1984\n"))
    assert session.draft.text == "in 1984\n"


def test_a_message_stands_until_the_next_key(tmp_path: Path) -> None:
    _, screen = screen_of(tmp_path / "new.txt")
    screen.press(Key("ctrl-z"))
    assert "There is nothing to undo." in screen.frame().plain
    screen.press(Key("text", "a"))
    assert "There is nothing to undo." not in screen.frame().plain
    screen.press(Key("ctrl-s"))
    assert "Saved in" in screen.frame().plain


# === The screen ===


def test_a_frame(tmp_path: Path) -> None:
    session, screen = screen_of(tmp_path / "new.txt", 60, 24)
    session.replace("The cat\nsat on 月\t\x07")
    assert screen.frame().plain.split("\n") == [
        "new.txt *   18 characters   temperature 0.8   page 1",
        "The cat",
        "sat on 月    ·▏",
        "─" * 60,
        "1 100%   1: 6 0.8 0 0",
        "2  50%   2: 6 0.8 0 0",
        "1-9 take   Tab take 1   ^R redraw   ←→ page   ↑↓ temperature",
        "^Z ^Y undo, redo   ^W delete word   ^V digit   ^E editor",
        "^S save   ^C save and leave",
    ]


@pytest.mark.parametrize(
    "text", ["", "x" * 999 + "END", "月" * 999 + "END", "one two " * 99 + "END", "\n" * 99 + "END"]
)
@pytest.mark.parametrize("height", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("width", [4, 11, 30, 200])
def test_a_frame_fits_and_shows_the_end_of_the_text(tmp_path: Path, text: str, width: int, height: int) -> None:
    session, screen = screen_of(tmp_path / "new.txt", width, height)
    session.replace(text)
    lines = screen.frame().plain.split("\n")
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    if height >= 5:
        assert f"{text[-3:].strip()}▏" in "".join(lines)
    if width >= 11 and height >= 12:
        assert any(line.startswith("1 100") for line in lines)
    if width >= 200 and height >= 12:
        assert all(key in "\n".join(lines) for key, _, _ in KEYS)


# === In a terminal ===


class Terminal:
    """`textgen write` in a pseudo-terminal."""

    def __init__(self, models: Path, folder: Path, *arguments: str, **environment: str) -> None:
        self.outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        code = (
            "import sys; from textgen.cli import textgen\n"
            "try: textgen()\n"
            'finally: sys.stderr.write(f\'heavy: {sorted({"tensorflow", "keras"} & sys.modules.keys())}\\n\')'
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "write", "tiny", *arguments],
            stdin=inner, stdout=inner, stderr=inner, cwd=folder, start_new_session=True,
            env=os.environ | {"TEXTGEN_MODELS": str(models), "TERM": "xterm", "COLUMNS": "", "LINES": ""} | environment,
        )  # fmt: skip
        os.close(inner)

    def press(self, keys: str) -> None:
        os.write(self.outer, keys.encode())

    def see(self, expected: str, seconds: float = 60) -> str:
        """Waits until the pattern has been shown; what came until then, without control sequences."""
        shown, end = "", time.monotonic() + seconds
        while not re.search(expected, shown):
            assert select.select([self.outer], [], [], max(0, end - time.monotonic()))[0], (
                f"{expected!r} not in {shown}"
            )
            try:
                data = os.read(self.outer, 65536)
            except OSError:  # all that wrote to it are gone
                data = b""
            assert data, f"{expected!r} not in {shown}"
            shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown + data.decode(errors="replace"))
        return shown

    def close(self) -> None:
        os.close(self.outer)
        self.process.wait(60)


@pytest.fixture
def terminal(tiny_models: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tiny_models, tmp_path, "chapter.txt", "--num", "3", EDITOR="sed -i s/cat/dog/")
    terminal.see(r"(?s)1 +[0-9]+%.*\^C save and leave")
    yield terminal
    terminal.process.kill()
    terminal.process.wait(60)


def test_a_session(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press("The cat")
    terminal.see("The cat▏")
    terminal.press("\x1b[A")
    terminal.see(r"chapter.txt \*   7 characters   temperature 0.9")
    terminal.press("\t\x1a\x05")  # take, undo, editor
    terminal.see("The dog▏")
    terminal.press(" sat\r\x1b[200~in 1984\x1b[201~\x13")
    terminal.see(r"Saved in chapter\.txt\.")
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The dog sat\nin 1984"
    terminal.press("!\x03")
    assert "heavy: []" in terminal.see("heavy: .*\n")
    terminal.close()
    assert terminal.process.returncode == 0
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The dog sat\nin 1984!"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_lost_connection_or_a_signal_saves(terminal: Terminal, tmp_path: Path, number: int) -> None:
    terminal.press("The cat")
    terminal.see("The cat▏")
    terminal.process.send_signal(number)
    assert "Saved in chapter.txt." in terminal.see("heavy: .*\n")
    terminal.close()
    assert terminal.process.returncode == 128 + number
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The cat"


def test_a_terminal_that_goes_away_saves(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press("The cat")
    terminal.see("The cat▏")
    terminal.close()
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The cat"


def test_the_terminal_may_change_its_size(terminal: Terminal, tmp_path: Path) -> None:
    fcntl.ioctl(terminal.outer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    assert "─" * 21 not in terminal.see(r"─{20}[^─]")
    terminal.press("a\x03")
    terminal.see(r"Saved in chapter\.txt\.")
    terminal.close()
    assert terminal.process.returncode == 0
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "a"


def test_without_a_file_one_is_named_after_the_model(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("taken", encoding="utf-8")
    terminal = Terminal(tiny_models, tmp_path)
    terminal.see("tiny-2.txt   0 characters")
    terminal.press("a\x03")
    terminal.see("Saved in tiny-2.txt")
    terminal.close()
    assert (tmp_path / "tiny-2.txt").read_text(encoding="utf-8") == "a"


def test_a_terminal_that_is_not_utf_8(tiny_models: Path, tmp_path: Path) -> None:
    terminal = Terminal(tiny_models, tmp_path, PYTHONIOENCODING="latin-1")
    terminal.see(r"(?s)\?{80}.*\?\? page")
    terminal.press("a\x03")
    terminal.see("Saved in tiny.txt")
    terminal.close()
    assert terminal.process.returncode == 0
    assert (tmp_path / "tiny.txt").read_text(encoding="utf-8") == "a"


# === Mistakes ===


def test_no_terminal_is_one_clear_line(tiny_models: Path) -> None:
    result = CliRunner().invoke(textgen, ["write", "tiny", "--models-dir", str(tiny_models)])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: textgen write needs a terminal")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {"TERM": "dumb"}, "textgen write needs a terminal"),
        (["nowhere/a.txt"], {}, "there is no folder nowhere"),
        (["--num", "10"], {}, "10 is not in the range 1<=x<=9"),
        (["--temperature", "nan"], {}, "temperature must be a number"),
    ],
)
def test_mistakes(
    tiny_models: Path, tmp_path: Path, arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    terminal = Terminal(tiny_models, tmp_path, *arguments, **environment)
    shown = terminal.see("heavy: .*\n")
    terminal.close()
    assert expected in " ".join(shown.split())
    assert "Traceback" not in shown
    assert terminal.process.returncode in (1, 2)

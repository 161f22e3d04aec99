"""Commands that show a bar, as real processes on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest
from processes import child_process

SECONDS = 240  # a bar that waits for itself never ends


def shown(
    arguments: list[str], folder: Path, *, stop_at: str = "", stop_by: int = signal.SIGINT, **environment: str
) -> tuple[int, str]:
    """Runs textgen on a terminal of 70 columns; its exit code, and all that was shown there.

    Args:
        arguments: The command.
        folder: Folder to run it in.
        stop_at: Text at which the signal `stop_by` is sent.
        stop_by: By default that of Ctrl-C.
        environment: Variables to set.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    program = child_process(
        [sys.executable, "-m", "textgen", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "", "LINES": ""} | environment,
    )  # fmt: skip
    written = bytearray()

    def read() -> None:
        is_stopped = not stop_at
        with contextlib.suppress(OSError):  # the terminal is closed by the last process that has it
            while chunk := os.read(ours, 1 << 16):
                written.extend(chunk)
                if not is_stopped and stop_at.encode() in written:
                    is_stopped = True
                    process.send_signal(stop_by)

    reader = threading.Thread(target=read)
    try:
        with program as process:
            os.close(theirs)
            reader.start()
            code = process.wait(SECONDS)
    finally:
        reader.join()
        os.close(ours)
    return code, written.decode()


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("The cat sat on the mat.\n" * 200, encoding="utf-8")
    return path


TRAIN = [
    *("train", "text.txt", "--tokenizer", "byte", "--hidden-units", "8", "--num-layers", "1", "--batch-size", "4"),
    *("--sequence-length", "16", "--name", "cat", "--models-dir", "models"),
]
LIBRARY_LOG = re.compile(r"^[IWEF]\d{4} ", re.MULTILINE)  # how TensorFlow's lines begin


@pytest.mark.slow
@pytest.mark.parametrize(("locale", "bar"), [("C.UTF-8", "━━━"), ("C", "---")])
def test_a_training_shows_its_bar_and_ends(text: Path, locale: str, bar: str) -> None:
    plain: dict[str, Any] = {} if locale == "C.UTF-8" else {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, written = shown([*TRAIN, "--steps", "3"], text.parent, LC_ALL=locale, **plain)
    assert code == 0, written
    assert bar in written
    assert "tokens/s" in written
    assert "models/cat: finished: the planned length is reached after 3 steps" in written
    assert "\\u" not in written
    assert (text.parent / "models/cat/MANIFEST.json").is_file()


def test_ctrl_c_saves_a_training_under_its_bar(text: Path) -> None:
    code, written = shown([*TRAIN, "--steps", "1000000"], text.parent, stop_at="tokens/s")
    assert code == 130, written
    assert "everything is saved. Continue with textgen train --resume --name cat" in written.replace("\r\n", " ")
    assert json.loads((text.parent / "models/cat/training.json").read_bytes())["status"] == "interrupted"
    assert "Traceback" not in written
    assert not LIBRARY_LOG.search(written)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again


@pytest.mark.slow
def test_the_cursor_is_there_where_a_training_is_killed_under_its_bar(text: Path) -> None:
    """As after Ctrl-Z: the program cannot show it then."""
    code, written = shown([*TRAIN, "--steps", "1000000"], text.parent, stop_at="tokens/s", stop_by=signal.SIGKILL)
    assert code == -signal.SIGKILL, written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")

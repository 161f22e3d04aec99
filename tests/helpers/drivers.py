"""Screens of the editor in front of a display, as a user has them: keys and clicks go in, frames come out."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import pytest
from displays import Display
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output

from textgen.editor.frame import draw
from textgen.editor.screen import Screen
from textgen.editor.session import Session

PRESSED = {
    "enter": "\r",
    "tab": "\t",
    "backspace": "\x7f",
    "escape": "\x1b",
    "unknown": "\x1b[15~",  # F5
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1bOD",
    "page-up": "\x1b[5~",
    "page-down": "\x1b[6~",
    "paste": "\x1b[200~1\r\n2\r\x1b[A\x1b[201~",
} | {f"ctrl-{letter}": chr(ord(letter) - 96) for letter in "abcdefghijklmnopqrstuvwxyz"}


def left_after(session: Session, data: bytes, *, gone: bool = False) -> str:
    """What the screen is left with after these bytes; with `gone`, the terminal goes away after them."""
    with create_pipe_input() as pipe:
        pipe.send_bytes(data)
        if gone:
            pipe.close()
        return Screen(session, pipe, DummyOutput()).run()


class Driver:
    """A screen that runs in a thread, in front of a display."""

    def __init__(self, session: Session, pipe: PipeInput, width: int, height: int) -> None:
        self.session = session
        self.display = Display(width, height)
        self.error: BaseException | None = None
        self.left = ""
        self._pipe = pipe
        size = Size(rows=height, columns=width)
        output = Vt100_Output(self.display, lambda: size, term="xterm")  # type: ignore[arg-type]
        self.screen = Screen(session, pipe, output)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def press(self, *keys: str) -> None:
        self._pipe.send_text("".join(PRESSED.get(key, key) for key in keys))

    def click(self, pattern: str) -> None:
        """Clicks the line that the pattern matches, near its left."""
        lines = self.display.see(pattern).split("\n")
        y = next(y for y, line in enumerate(lines, 1) if re.search(pattern, line))
        self.press(f"\x1b[<0;3;{y}M", f"\x1b[<0;3;{y}m")

    def wheel(self, notches: int) -> None:
        self.press(f"\x1b[<{64 if notches > 0 else 65};3;3M" * abs(notches))

    def leave(self) -> str:
        self.press("ctrl-c")
        return self.wait()

    def wait(self) -> str:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.left

    def close(self) -> None:
        self._pipe.close()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            self.left = self.screen.run()
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.error = error


@pytest.fixture
def drive() -> Iterator[Callable[..., Driver]]:
    with create_pipe_input() as pipe, create_app_session():
        drivers: list[Driver] = []

        def start(session: Session, width: int = 80, height: int = 24) -> Driver:
            drivers.append(Driver(session, pipe, width, height))
            return drivers[-1]

        yield start
        for driver in drivers:
            driver.close()


def frame_of(session: Session, width: int, height: int) -> list[str]:
    """The lines of a frame that shows suggestions."""
    session.suggestions()
    return ["".join(text for _, text, *_ in line) for line in draw(session, width, height).lines]

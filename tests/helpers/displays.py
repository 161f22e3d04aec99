"""A terminal's display for tests: understands what prompt_toolkit writes, and can be waited for."""

from __future__ import annotations

import re
import threading
import unicodedata

from rich.cells import cell_len

TOKEN = re.compile("\x1b\\[([0-9;?]*)[ -/]*([@-~])|\x1b[^\\[]|\x1b\\[[0-9;?]*[ -/]*\\Z|\x1b\\Z|.", re.DOTALL)


class Display:
    """A grid of cells; also a file, for prompt_toolkit's `Vt100_Output` to write to."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.modes: set[str] = set()  # that are on
        self.written = ""  # all that came, without control sequences
        self._rest = ""
        self._changed = threading.Condition()
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._clear()

    @property
    def text(self) -> str:
        with self._changed:
            return "\n".join("".join(cells).rstrip() for cells in self._cells).rstrip("\n")

    def see(self, expected: str, seconds: float = 60) -> str:
        """Waits until another thread has written what shows the pattern, in which ^ and $ are those of lines."""
        with self._changed:
            found = self._changed.wait_for(lambda: re.search(expected, self.text, re.MULTILINE), seconds)
        assert found, f"{expected!r} is not in\n{self.text}"
        return self.text

    def write(self, text: str) -> None:
        with self._changed:
            text, self._rest = self._rest + text, ""
            for match in TOKEN.finditer(text):
                if match.group(2):
                    self._control(match.group(1), match.group(2))
                elif match.group().startswith("\x1b"):
                    self._rest = match.group() if match.end() == len(text) else ""
                else:
                    self.written += match.group()
                    self._put(match.group())
            self._changed.notify_all()

    def flush(self) -> None:
        """Everything has been shown."""

    def isatty(self) -> bool:
        return True

    def _clear(self) -> None:
        self._cells = [[" "] * self.width for _ in range(self.height)]
        self._x = self._y = 0

    def _control(self, arguments: str, command: str) -> None:
        if command in "hl" and arguments.startswith("?"):
            (self.modes.add if command == "h" else self.modes.discard)(arguments[1:])
            if arguments == "?1049":
                self._clear()
            return
        numbers = [int(number or 0) for number in arguments.replace("?", "").split(";")]
        by = numbers[0] or 1
        if command == "H":
            self._y, self._x = by - 1, (numbers[1] if len(numbers) > 1 else 1) - 1
        elif command in "ABCD":
            self._y = min(self.height - 1, max(0, self._y + {"A": -by, "B": by}.get(command, 0)))
            self._x = min(self.width - 1, max(0, min(self._x, self.width - 1) + {"C": by, "D": -by}.get(command, 0)))
        elif command == "K":
            self._erase(self._y, self._x)
        elif command == "J":
            self._erase(self._y, self._x if numbers[0] == 0 else 0)
            for y in range(self._y + 1 if numbers[0] == 0 else 0, self.height):
                self._erase(y, 0)

    def _erase(self, y: int, x: int) -> None:
        self._cells[y][x:] = [" "] * (self.width - x)

    def _put(self, character: str) -> None:
        if character == "\r":
            self._x = 0
        elif character == "\n":
            self._line_feed()
        elif character == "\b":
            self._x = max(0, min(self._x, self.width - 1) - 1)
        elif cell_len(character) == 0:
            self._cells[self._y][max(0, self._x - 1)] += character
        elif character.isprintable() or unicodedata.category(character) == "Zs":
            if self._x + cell_len(character) > self.width:
                self._line_feed()
                self._x = 0
            self._cells[self._y][self._x : self._x + cell_len(character)] = [character, ""][: cell_len(character)]
            self._x += cell_len(character)

    def _line_feed(self) -> None:
        if self._y == self.height - 1:
            self._cells = [*self._cells[1:], [" "] * self.width]
        else:
            self._y += 1

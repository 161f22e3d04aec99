"""Keys of a terminal, one by one, as they are pressed. Unix only."""

from __future__ import annotations

import codecs
import os
import re
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from textgen.cli import output

PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"  # around what is pasted, once a program asks for it
MARK_PASTES, MARK_NO_PASTES = "\x1b[?2004h", "\x1b[?2004l"
OUTPUT = 1  # where termios keeps the flags of output
UNFINISHED_SECONDS = 0.05  # how long the rest of a key may take on a slow line

NAMES = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\t": "tab", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x1b": "escape",
}  # fmt: skip
SEQUENCE = re.compile("\x1b(?:\\[[0-9;?]*[ -/]*[@-~]|O.|[^\\[O\x1b])")
BEGINS_SEQUENCE = re.compile("\x1b(?:\\[[0-9;?]*[ -/]*|O)?\\Z")


class Key(NamedTuple):
    """What was pressed: `text`, `paste`, `up`, `enter`, `ctrl-s`, ...; or `unknown`."""

    name: str
    text: str = ""  # of `text`, one character, and of `paste`


class KeyParser:
    """Bytes of a terminal -> keys; a key may come in several parts."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    @property
    def unfinished(self) -> bool:
        """Whether the beginning of a key has come, and its end may follow."""
        return bool(self._rest)

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Key]:
        """The keys that are certain; with `final`, nothing that belongs to them follows."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        while text:
            if text.startswith(PASTE_BEGINS):
                pasted, end, after = text.removeprefix(PASTE_BEGINS).partition(PASTE_ENDS)
                if not end:
                    self._rest = text
                    return
                yield Key("paste", pasted.replace("\r\n", "\n").replace("\r", "\n"))
                text = after
            elif BEGINS_SEQUENCE.match(text) and not final:
                self._rest = text
                return
            elif sequence := SEQUENCE.match(text):
                yield Key(NAMES.get(sequence.group(), "unknown"))
                text = text[sequence.end() :]
            else:
                yield _single(text[0])
                text = text[1:]


class Keyboard:
    """The keys of the terminal behind a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parser = KeyParser()

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Within, the terminal hands over each key at once and shows nothing by itself; Ctrl-C is a key."""
        before = termios.tcgetattr(self._descriptor)
        tty.setraw(self._descriptor)
        raw = termios.tcgetattr(self._descriptor)
        raw[OUTPUT] |= termios.OPOST  # a newline still begins at the left
        termios.tcsetattr(self._descriptor, termios.TCSANOW, raw)
        self._tell(MARK_PASTES)
        try:
            yield
        finally:
            with suppress(OSError, termios.error):  # the terminal may be gone
                self._tell(MARK_NO_PASTES)
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)

    def waiting(self, seconds: float) -> bool:
        """Whether something has been pressed, or is within so many seconds."""
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def keys(self) -> list[Key]:
        """What has been pressed; waits for the first. Raises `EOFError` where the terminal is gone."""
        keys: list[Key] = []
        while not keys:
            if self._parser.unfinished and not self.waiting(UNFINISHED_SECONDS):
                keys += self._parser.feed(b"", final=True)
                continue
            try:
                data = os.read(self._descriptor, 4096)
            except OSError:
                data = b""
            if not data:
                raise EOFError
            keys += self._parser.feed(data)
        return keys

    def _tell(self, sequence: str) -> None:
        output.control(sequence)


def _single(character: str) -> Key:
    if name := NAMES.get(character):
        return Key(name)
    if ord(character) < 27:
        return Key(f"ctrl-{chr(ord('a') + ord(character) - 1)}")
    return Key("text", character) if character.isprintable() else Key("unknown")

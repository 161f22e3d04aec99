"""Bytes of a terminal to keys."""

from __future__ import annotations

import os
import pty
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.cli.keyboard import PASTE_BEGINS, PASTE_ENDS, Key, Keyboard, KeyParser

KEYS = {
    "a": Key("text", "a"),
    "月": Key("text", "月"),
    "\u0301": Key("text", "\u0301"),
    "\r": Key("enter"),
    "\t": Key("tab"),
    "\x7f": Key("backspace"),
    "\x03": Key("ctrl-c"),
    "\x1a": Key("ctrl-z"),
    "\x1b[A": Key("up"),
    "\x1bOD": Key("left"),
    "\x1b[15~": Key("unknown"),  # F5
    "\x1b[1;5C": Key("unknown"),  # Ctrl and right
    "\x1bx": Key("unknown"),  # Alt and x
    f"{PASTE_BEGINS}1\r\n2\r\x1b[A{PASTE_ENDS}": Key("paste", "1\n2\n\x1b[A"),
}


@given(st.lists(st.sampled_from(list(KEYS))), st.lists(st.integers(1, 4)))
def test_keys_are_the_same_in_whatever_parts_they_come(pressed: list[str], sizes: list[int]) -> None:
    data = "".join(pressed).encode()
    parser = KeyParser()
    found: list[Key] = []
    for size in sizes:
        found += parser.feed(data[:size])
        data = data[size:]
    found += parser.feed(data)
    assert found == [KEYS[key] for key in pressed]
    assert not parser.unfinished


@given(st.binary())
def test_no_bytes_are_too_strange(data: bytes) -> None:
    parser = KeyParser()
    keys = [*parser.feed(data), *parser.feed(b"", final=True)]
    assert all(len(key.text) == 1 and key.text.isprintable() for key in keys if key.name == "text")
    assert not parser.unfinished or PASTE_BEGINS.encode() in data


def test_escape_alone_is_a_key_once_nothing_follows() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a\x1b")
    keyboard = Keyboard(reader)
    assert keyboard.keys() == [Key("text", "a")]
    assert keyboard.keys() == [Key("escape")]
    os.close(writer)
    with pytest.raises(EOFError):
        keyboard.keys()
    os.close(reader)


def test_the_terminal_is_raw_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)
    keyboard = Keyboard(inner)
    with keyboard.raw():
        assert not termios.tcgetattr(inner)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert not keyboard.waiting(0)
        os.write(outer, b"\x03")
        assert keyboard.waiting(5)
        assert keyboard.keys() == [Key("ctrl-c")]
    assert termios.tcgetattr(inner) == before
    assert capsys.readouterr().out == "\x1b[?2004h\x1b[?2004l"
    os.close(outer)
    os.close(inner)

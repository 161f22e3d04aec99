"""What keys do, and what bytes that are no keys do not."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from drivers import PRESSED, Driver, drive, left_after
from hypothesis import given, settings
from hypothesis import strategies as st
from suggesters import session_on_file

from textgen.editor.session import Session

__all__ = ["drive"]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("a b", "ab"),
        ("a enter b", "a\nb"),
        ("a ctrl-j b", "a\nb"),
        ("a 2", "a 2: 6 0.8 0 0"),
        ("a tab", "a 1: 6 0.8 0 0"),
        ("a ctrl-v 2", "a2"),
        ("ctrl-v a 2", "a 2: 6 0.8 0 0"),
        ("ctrl-v ctrl-s 2", " 2: 6 0.8 0 0"),
        ("0", "0"),
        ("月 é e\u0301", "月ée\u0301"),
        ("\u3000 月 \u00a0 \u202f \u2009", "\u3000月\u00a0\u202f\u2009"),
        ("می \u200c خواهم 👩 \u200d 🚀", "می\u200cخواهم👩\u200d🚀"),
        ("\x85 a \x9b \x00 b", "ab"),
        ("a b backspace", "a"),
        ("a b ctrl-h", "a"),
        ("a ctrl-w", ""),
        ("a 2 ctrl-z", "a"),
        ("a 2 ctrl-z ctrl-y", "a 2: 6 0.8 0 0"),
        ("ctrl-r 1", " 1: 6 0.8 0 1"),
        ("right right left 1", " 1: 6 0.8 1 0"),
        ("up up down 1", " 1: 6 0.9 0 0"),
        ("a unknown escape ctrl-b", "a"),
        ("a escape b c", "ac"),  # Alt and b
        ("a escape up c 1", "ac 1: 6 0.8 0 0"),  # Alt and up
        ("a \x1b[1;5C b", "ab"),  # Ctrl and right
        ("a \x1b[57358;5u b", "ab"),  # unknown to prompt_toolkit
        ("a \x1b[?1;2c b", "ab"),
        ("a \x1bOz b", "ab"),
        ("a \x1b[1M \x1b[;M \x1b[M~~~ \x1b[<999;1;1M b", "ab"),  # no events of the mouse
        ("a page-up b page-down c", "abc"),
        ("9", ""),
    ],
)
def test_what_keys_do(tmp_path: Path, keys: str, text: str) -> None:
    session = session_on_file(tmp_path / "new.txt")
    pressed = "".join(PRESSED.get(key, key) for key in keys.split(" "))
    assert left_after(session, f"{pressed}\x03".encode()) == "leave"
    assert session.draft.text == text


def test_digits_that_are_pasted_are_text(tmp_path: Path) -> None:
    session = session_on_file(tmp_path / "new.txt")
    left_after(session, b"\x1b[200~in 1984\r\n\x1b[201~\x03")
    assert session.draft.text == "in 1984\n"
    session.undo()  # one step
    assert session.draft.text == ""


DOES: dict[str, Callable[[Session], None]] = {
    "a": lambda session: session.type("a"),
    "月": lambda session: session.type("月"),
    "\u0301": lambda session: session.type("\u0301"),
    "enter": lambda session: session.type("\n"),
    "2": lambda session: session.take(2),
    "backspace": lambda session: session.delete_character(),
    "ctrl-w": lambda session: session.delete_word(),
    "ctrl-z": lambda session: session.undo(),
    "paste": lambda session: session.paste("1\n2\n\x1b[A"),
    "unknown": lambda session: None,
    "\x1b[1;5C": lambda session: None,
    "\x1b[57358;5u": lambda session: None,
    "\x1bx": lambda session: None,
    "\x1b[<35;3;3M": lambda session: None,  # the mouse moves
}


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(st.sampled_from(list(DOES)), max_size=60))
def test_keys_do_the_same_as_the_session(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    path = tmp_path_factory.mktemp("keys") / "new.txt"
    session, expected = session_on_file(path), session_on_file(path)
    left_after(session, "".join(PRESSED.get(key, key) for key in [*keys, "ctrl-c"]).encode())
    for key in keys:
        DOES[key](expected)
    assert session.draft.text == expected.draft.text


@settings(max_examples=30, deadline=None)
@given(
    data=st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\x1b", b"[", b"1", b";", b"M", b"<", b"a"])).map(b"".join)
)
def test_no_bytes_are_too_strange(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    session = session_on_file(tmp_path_factory.mktemp("bytes") / "new.txt")
    assert left_after(session, data, gone=True) in ("leave", "edit")
    assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") for c in session.draft.text)
    session.save()


def test_a_byte_that_is_not_utf_8_is_shown_as_such(tmp_path: Path) -> None:
    session = session_on_file(tmp_path / "new.txt")
    left_after(session, b"caf\xe9!\x03")
    assert session.draft.text == "caf\ufffd!"


def test_escape_alone_swallows_nothing_that_comes_later(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt"))
    driver.press("a", "escape")
    for _ in range(100):
        driver.press("b")
        try:
            driver.display.see("ab+▏", 0.2)
        except AssertionError:
            continue
        return
    pytest.fail("nothing can be typed after Escape")

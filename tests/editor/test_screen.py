"""What keys and mouse do, and what the screen shows; no terminal."""

from __future__ import annotations

import re
import signal
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from displays import Display
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import DummyInput, PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output
from rich.cells import cell_len
from suggesters import Telling, session_on_file

from textgen.editor import screen as screens
from textgen.editor.lines import wrap
from textgen.editor.screen import KEYS, Screen
from textgen.editor.session import Cancelled, Session
from textgen.errors import Interrupted, TextgenError
from textgen.generation.suggestions import Suggestion

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


class Slow(Telling):
    """Suggests only once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.asked = threading.Event()

    def suggest(self, text: str, **settings: float) -> list[Suggestion]:
        self.asked.set()
        assert self.may.wait(60)
        return super().suggest(text, **settings)  # type: ignore[arg-type]


# === Keys ===


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


def test_keys_after_the_editor_key_wait_for_the_editor(tmp_path: Path) -> None:
    session = session_on_file(tmp_path / "new.txt")
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        pipe.send_text("a\x05b\x03")
        assert (screen.run(), session.draft.text) == ("edit", "a")
        assert (screen.run(), session.draft.text) == ("leave", "ab")


def test_a_message_stands_until_the_next_key(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt"))
    driver.press("ctrl-z")
    driver.display.see(r"There is nothing to undo\.")
    driver.press("a")
    assert "There is nothing to undo." not in driver.display.see("a▏")
    driver.press("ctrl-s")
    driver.display.see("Saved in")
    driver.press("ctrl-v")
    driver.display.see(r"The next digit is text\.")
    assert driver.leave() == "leave"


# === The mouse ===


def test_a_click_takes_a_suggestion(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt", "So"))
    driver.click(r"^2  50%")
    driver.display.see(r"So 2: 6 0\.8 0 0▏")
    driver.click("^─")
    driver.press("!")
    driver.display.see(r"So 2: 6 0\.8 0 0!▏")


def test_the_wheel_and_the_page_keys_scroll(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    text = "\n".join(f"line {number}" for number in range(1, 101))
    driver = drive(session_on_file(tmp_path / "new.txt", text))
    driver.display.see("line 100▏")
    driver.wheel(2)
    shown = driver.display.see("line 94\n─ 6 lines below ─+")
    assert "line 95" not in shown
    driver.wheel(-1)
    driver.display.see("line 97\n─ 3 lines below ─+")
    driver.press("page-up")
    driver.display.see("line 8[0-9]\n─ 1[0-9] lines below")
    driver.wheel(99)
    driver.display.see(r"\A[^\n]*\nline 1\nline 2\n")
    driver.press("!")  # typing shows the end again
    driver.display.see("line 100!▏")
    driver.press("page-up", "page-down", "page-down")
    driver.display.see("line 100!▏\n──")


# === A slow model ===


def test_what_is_typed_shows_before_the_suggestions(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt", suggester=(slow := Slow())))
    driver.display.see("Computing suggestions")
    driver.press("The cat")
    driver.display.see("The cat▏")
    assert not driver.session.known()
    slow.may.set()
    driver.display.see("1 100%   1: 6 0.8 0 0")
    assert slow.calls <= 2  # nobody waits any more for those in between
    slow.may.clear()
    driver.press("!")
    driver.display.see(r"The cat!▏\n─+\n  100%   1: 6 0.8 0 0\n   50%")  # the old ones have no numbers
    slow.may.set()
    driver.display.see(r"The cat!▏\n─+\n1 100%   1: 6 0.8 0 0\n2  50%")


def test_taking_waits_for_the_suggestions_and_later_keys_for_that(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt", suggester=(slow := Slow())))
    driver.press("a", "2", "b", "tab", "ctrl-c")
    driver.display.see("a▏")
    slow.may.set()
    assert driver.wait() == "leave"
    assert driver.session.draft.text == "a 2: 6 0.8 0 0b 1: 6 0.8 0 0"


def test_ctrl_c_twice_waits_for_nothing(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt", suggester=(slow := Slow())))
    driver.press("a", "2")
    driver.display.see("a▏")
    driver.press("ctrl-c", "ctrl-c")
    driver.display.see(r"\A\Z")  # the other screen of the terminal is back
    slow.may.set()
    assert (driver.wait(), driver.session.draft.text) == ("leave", "a")


def test_leaving_cancels_what_is_being_computed(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    cancelled = threading.Event()

    class Steps(Telling):
        def suggest(self, text: str, **settings: float) -> list[Suggestion]:
            assert cancelled.wait(60)
            raise Cancelled

    session = Session(Steps(), tmp_path / "new.txt", length=6, temperature=0.8, cancelled=cancelled)
    driver = drive(session)
    driver.press("a")
    driver.display.see("a▏")
    assert driver.leave() == "leave"


# === What goes wrong ===


def test_an_error_of_the_suggestions_leaves_the_screen(tmp_path: Path) -> None:
    class Failing(Telling):
        def suggest(self, text: str, **settings: float) -> list[Suggestion]:
            raise TextgenError("no")

    session = session_on_file(tmp_path / "new.txt", suggester=Failing())
    with pytest.raises(TextgenError, match="no"):
        left_after(session, b"a")


def test_a_fault_of_the_program_leaves_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on_file(tmp_path / "new.txt")
    monkeypatch.setattr(session, "type", lambda character: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        left_after(session, b"a")


@pytest.mark.parametrize("when", ["before", "within"])
def test_an_interruption_leaves_the_screen_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.type("a")
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        if when == "before":
            monkeypatch.setattr(screen, "run", lambda: screen.interrupt(Interrupted("Terminated.", 15)))
        else:
            monkeypatch.setattr(session, "type", lambda character: screen.interrupt(Interrupted("Terminated.", 15)))
            pipe.send_text("b")
        with pytest.raises(Interrupted, match="Terminated"):
            screens.run(session)
    assert (tmp_path / "new.txt").read_text(encoding="utf-8") == "a"
    screen.interrupt(Interrupted("Terminated.", 15))  # a second one no longer matters


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_text_is_saved_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def save() -> None:
        signal.raise_signal(number)
        Session.save(session)

    session = session_on_file(tmp_path / "new.txt")
    monkeypatch.setattr(session, "save", save)
    before = signal.getsignal(number)
    with create_pipe_input() as pipe:
        pipe.send_text("a\x03")
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        screens.run(session)
    assert (tmp_path / "new.txt").read_text(encoding="utf-8") == "a"
    assert signal.getsignal(number) is before


def test_a_system_without_hangup_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")  # as on Windows
    session = session_on_file(tmp_path / "new.txt")
    with create_pipe_input() as pipe:
        pipe.send_text("a\x03")
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        before = signal.getsignal(signal.SIGTERM)
        screens.run(session)
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "new.txt").read_text(encoding="utf-8") == "a"


def test_a_terminal_that_cannot_be_written_to_is_gone(tmp_path: Path) -> None:
    class Gone(DummyOutput):
        def write(self, data: str) -> None:
            raise OSError("Input/output error")

    session = session_on_file(tmp_path / "new.txt")
    with create_pipe_input() as pipe:
        assert Screen(session, pipe, Gone()).run() == "leave"


# === The screen ===


def frame_of(session: Session, width: int, height: int) -> list[str]:
    session.suggestions()
    lines, _ = Screen(session, DummyInput(), DummyOutput()).frame(width, height)
    return ["".join(text for _, text, *_ in line) for line in lines]


def test_a_frame(tmp_path: Path) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.replace("The cat\nsat on 月\t\x07")
    assert frame_of(session, 60, 24) == [
        "new.txt *   18 characters   temperature 0.8   page 1",
        "The cat",
        "sat on 月    ·▏",
        "─" * 60,
        "1 100%   1: 6 0.8 0 0",
        "2  50%   2: 6 0.8 0 0",
        "1-9 take   Tab take 1   ^R redraw   ←→ page   ↑↓ temperature",
        "^Z ^Y undo, redo   ^W delete word   ^V digit",
        "PgUp PgDn scroll   ^E editor   ^S save   ^C save and leave",
    ]


def test_characters_without_width_are_shown_as_signs(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    session = session_on_file(
        tmp_path / "new.txt", "\u3000月\u00a0a\u2009b\nمی\u200cخ\n\u202ea\u2066b\u200b\u200d\ufeff\u2028!"
    )
    driver = drive(session, 40, 12)
    driver.display.see("^\u3000月 a\u2009b\nمی·خ\n·a·b····!▏$")


@pytest.mark.parametrize(
    "text", ["", "x" * 999 + "END", "月" * 999 + "END", "one two " * 99 + "END", "\n" * 99 + "END"]
)
@pytest.mark.parametrize("height", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("width", [4, 11, 30, 200])
def test_a_frame_fits_and_shows_the_end_of_the_text(tmp_path: Path, text: str, width: int, height: int) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.replace(text)
    lines = frame_of(session, width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    if height >= 5:
        assert f"{text[-3:].strip()}▏" in "".join(lines)
    if width >= 11 and height >= 12:
        assert any(line.startswith("1 100") for line in lines)
    if width >= 200 and height >= 12:
        assert all(key in "\n".join(lines) for key, _, _ in KEYS)


@pytest.mark.parametrize("message", ["Saved.", "The text is as it was before, so set EDITOR. " * 9])
@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [5, 10, 80])
def test_a_long_message_leaves_the_end_of_the_text_in_a_small_frame(
    tmp_path: Path, message: str, width: int, height: int
) -> None:
    session = session_on_file(tmp_path / "new.txt")
    session.replace("one two three")
    session.message = message
    session.suggestions()
    lines, cursor = Screen(session, DummyInput(), DummyOutput()).frame(width, height)
    assert cursor
    assert len(lines) <= height
    assert "".join(text for _, text, *_ in lines[cursor.y])[: cursor.x + 1].endswith("▏")
    assert height < 3 or message[:3] in "".join(text for line in lines for _, text, *_ in line)


def text_of(screen: Screen, width: int, height: int) -> list[str]:
    """The visible lines of the text."""
    lines = ["".join(text for _, text, *_ in line) for line in screen.frame(width, height)[0]]
    return lines[1 : next(at for at, line in enumerate(lines) if line.startswith("─"))]


@pytest.mark.parametrize("text", ["one two eleven, 12 " * 60, "床前明月光，疑是地上霜。" * 50, "月 a" * 300], ids=len)
@pytest.mark.parametrize("before", [0, 7, 20_000])
def test_lines_above_the_cursor_stay_while_a_long_paragraph_is_typed(tmp_path: Path, text: str, before: int) -> None:
    session = session_on_file(tmp_path / "new.txt")
    screen = Screen(session, DummyInput(), DummyOutput())
    shown: list[str] = []
    for end in range(500, 600):
        session.draft.text = "x\n" + "月" * before + text[:end]
        earlier, shown = shown, text_of(screen, 23, 24)
        assert len(shown) > 5
        moved = shown[:-1] == earlier[1:] or shown[:-2] == earlier[1:-1]  # the last word may move to a line of its own
        assert shown[:-1] == earlier[:-1] or moved or end == 500
    for _ in range(9):
        screen.scroll(1)
        earlier, shown = shown, text_of(screen, 23, 24)
        assert shown[1:] == earlier[:-1]


@pytest.mark.parametrize("length", [100, 20_000, 100_000])
def test_a_key_wraps_a_part_of_a_very_long_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    wrapped: list[int] = []

    def noted(text: str, width: int) -> list[str]:
        wrapped.append(len(text))
        return wrap(text, width)

    monkeypatch.setattr(screens, "wrap", noted)
    session = session_on_file(tmp_path / "new.txt")
    session.draft.text = "月" * length
    assert len(text_of(Screen(session, DummyInput(), DummyOutput()), 20, 24)) > 5
    assert max(wrapped) <= 16_384 + 20 * 24


def test_the_display_shows_the_frame_whatever_changed_before(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt"), 40, 12)
    for keys in (
        ["The cat "],
        ["床前明月光，疑是地上霜。"],
        ["backspace", "backspace", "e\u0301 "],
        ["enter", "tab", "ctrl-z"],
        ["paste"],
        ["ctrl-w", "2", "right", "up"],
        ["ctrl-z", "ctrl-z", "left", "!"],
    ):
        driver.press(*keys, "ctrl-s")
        driver.display.see(r"(?s)\n1 100%.*Saved in")  # else this thread would compute the suggestions, too
        expected = [line.rstrip() for line in frame_of(driver.session, 40, 12)]
        driver.display.see(re.escape("\n".join(expected).rstrip("\n")) + r"\Z")
        driver.press("ctrl-r")
        driver.display.see(r"▏\n─+\n1 100%.*1\n2")
    driver.leave()
    assert not driver.display.modes & {"1049", "2004", "1000", "1003", "1006"}


def test_the_mouse_and_pastes_are_asked_for(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    driver = drive(session_on_file(tmp_path / "new.txt"))
    driver.display.see("▏")
    assert {"1049", "2004", "1006"} <= driver.display.modes
    driver.leave()


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As SIGINT of a job that a script starts in the background."""
    before, interruptions = signal.signal(signal.SIGTERM, signal.SIG_IGN), list[object]()
    try:
        with screens._signals(SimpleNamespace(interrupt=interruptions.append)):  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert interruptions == []

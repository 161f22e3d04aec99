"""What keys and mouse do, and what the screen shows; no terminal."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drivers import Driver, drive, frame_of, left_after
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from suggesters import Telling, session_on_file

from textgen.editor import screen as screens
from textgen.editor.screen import Screen
from textgen.editor.session import Cancelled, Session
from textgen.errors import Interrupted, TextgenError
from textgen.generation.suggestions import Suggestion
from textgen.storage.files import CannotWrite

__all__ = ["drive"]


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


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# === Keys ===


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


# === Saving ===


@pytest.mark.parametrize(("pause", "longest"), [(0.01, 1000.0), (1000.0, 0.01)])
def test_a_text_is_saved_after_a_pause_or_after_long_typing_and_undo_goes_on(
    tmp_path: Path, drive: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch, pause: float, longest: float
) -> None:
    monkeypatch.setattr(screens, "SAVE_SECONDS", pause)
    monkeypatch.setattr(screens, "UNSAVED_SECONDS", longest)
    driver = drive(session_on_file(path := tmp_path / "new.txt"))
    driver.press("a")
    driver.display.see(r"new\.txt   [^*]*\na▏")
    assert path.read_text(encoding="utf-8") == "a"
    driver.press("b")
    until(lambda: path.read_text(encoding="utf-8") == "ab")
    driver.press("ctrl-z")
    until(lambda: path.read_text(encoding="utf-8") == "")
    assert "Saved" not in driver.display.see(r"\n▏")
    assert driver.leave() == "leave"


def test_a_text_that_waits_to_be_saved_is_saved_before_another_editor_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, found = session_on_file(path := tmp_path / "new.txt"), list[str]()
    monkeypatch.setattr(screens, "open_editor", lambda _: found.append(path.read_text(encoding="utf-8")))
    with create_pipe_input() as pipe:
        pipe.send_text("a\x05b\x03")
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        screens.run(session)
    assert (found, path.read_text(encoding="utf-8")) == (["a"], "ab")


def test_the_messages_of_saving_and_of_the_other_editor_are_both_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, shown = session_on_file(path := tmp_path / "new.txt"), list[str]()
    monkeypatch.setenv("VISUAL", "no-such-editor")

    class Screens(Screen):
        def _begin(self) -> None:
            shown.append(session.message)
            super()._begin()

    with create_pipe_input() as pipe:
        screen = Screens(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        path.write_text("theirs", encoding="utf-8")
        pipe.send_text("a\x05\x03")
        screens.run(session)
    saving, editor = shown[1].split("\n")
    assert saving == f"Saved in {session.path}, as another program has changed {path}."
    assert "no-such-editor" in editor


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
    def save(*, is_leaving: bool = False) -> None:
        if is_leaving:  # a slow test saves by itself before
            signal.raise_signal(number)
        Session.save(session, is_leaving=is_leaving)

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


def test_a_system_without_signals_of_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGHUP", "SIGTSTP", "SIGCONT"):  # as on Windows
        monkeypatch.delattr(signal, name)
    session = session_on_file(tmp_path / "new.txt")
    with create_pipe_input() as pipe:
        pipe.send_text("a\x03")
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        before = signal.getsignal(signal.SIGTERM)
        screens.run(session)
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "new.txt").read_text(encoding="utf-8") == "a"


def test_a_text_that_could_not_be_saved_is_said_once_and_without_keys_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise CannotWrite(path, "No space left on device")

    def end(_: Session) -> None:
        session.message = "Cannot read what the editor saved."
        raise Interrupted("Terminated.", 15)

    session = session_on_file(tmp_path / "new.txt")
    monkeypatch.setattr("textgen.editor.text_file.write_file", full)
    monkeypatch.setattr(screens, "open_editor", end)
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        pipe.send_text("a\x05")
        with pytest.raises(Interrupted):
            screens.run(session)
    assert session.message.split("\n") == [
        f"Cannot write {tmp_path / 'new.txt'}: No space left on device.",
        "Cannot read what the editor saved.",
    ]


def test_a_text_is_saved_before_the_process_stops_and_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list[str]()
    session = session_on_file(path := tmp_path / "new.txt")

    def stop() -> None:
        found.append(path.read_text(encoding="utf-8"))
        pipe.send_text("b\x03")

    monkeypatch.setattr(screens, "_stop_process", stop)
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        monkeypatch.setattr(session, "redraw", lambda: signal.raise_signal(signal.SIGTSTP))
        pipe.send_text("a\x12")
        screens.run(session)
    assert (found, path.read_text(encoding="utf-8")) == (["a"], "ab")


def test_the_newest_signal_says_how_the_screen_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on_file(tmp_path / "new.txt")

    def stop_and_continue() -> None:
        screen.pause(screens.STOP)
        screen.pause(screens.SHOW)

    monkeypatch.setattr(session, "redraw", stop_and_continue)
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        screen.pause(screens.STOP)  # there is nothing to leave
        pipe.send_text("a\x12")
        assert screen.run() == screens.SHOW
        pipe.send_text("b\x03")
        assert screen.run() == "leave"
    assert session.draft.text == "ab"


def test_a_signal_before_the_screen_appears_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on_file(tmp_path / "new.txt")
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        run = screen._app.run

        def stopped_first(**options: Any) -> str:
            screen.pause(screens.STOP)
            return run(**options)

        monkeypatch.setattr(screen._app, "run", stopped_first)
        pipe.send_text("\x03")
        assert screen.run() == screens.STOP


def test_while_there_is_no_screen_a_process_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = list[str]()
    monkeypatch.setattr(screens, "_stop_process", lambda: stopped.append("stopped"))
    with screens._signals(SimpleNamespace(is_running=False)):  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTSTP)
    assert stopped == ["stopped"]
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL


@pytest.mark.parametrize(("is_running", "expected"), [(True, ["background"]), (False, ["show"])])
def test_a_screen_that_goes_on_in_the_background_does_not_write_there(
    monkeypatch: pytest.MonkeyPatch, is_running: bool, expected: list[str]
) -> None:
    done = list[str]()
    monkeypatch.setattr(screens, "_is_in_background", lambda: True)
    before = signal.signal(signal.SIGTTOU, lambda *_: done.append("background"))
    try:
        with screens._signals(SimpleNamespace(is_running=is_running, pause=done.append)):  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGCONT)
    finally:
        signal.signal(signal.SIGTTOU, before)
    assert done == expected


def test_a_terminal_that_cannot_be_written_to_is_gone(tmp_path: Path) -> None:
    class Gone(DummyOutput):
        def write(self, data: str) -> None:
            raise OSError("Input/output error")

    session = session_on_file(tmp_path / "new.txt")
    with create_pipe_input() as pipe:
        assert Screen(session, pipe, Gone()).run() == "leave"


# === The screen ===


def test_characters_without_width_are_shown_as_signs(tmp_path: Path, drive: Callable[..., Driver]) -> None:
    session = session_on_file(
        tmp_path / "new.txt", "\u3000月\u00a0a\u2009b\nمی\u200cخ\n\u202ea\u2066b\u200b\u200d\ufeff\u2028!"
    )
    driver = drive(session, 40, 12)
    driver.display.see("^\u3000月 a\u2009b\nمی·خ\n·a·b····!▏$")
    assert driver.leave() == "leave"


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

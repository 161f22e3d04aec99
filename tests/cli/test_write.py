"""textgen write in a terminal."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner
from displays import Display
from processes import child_process, controlling

from textgen.cli import textgen
from textgen.editor.session import Session
from textgen.errors import TextgenError
from textgen.storage.files import CannotWrite

PROGRAM = (
    "import sys; from textgen.cli import textgen\n"
    "try: textgen()\n"
    'finally: sys.stderr.write(f\'heavy: {sorted({"tensorflow", "keras"} & sys.modules.keys())}\\n\')'
)
STARTED = r"(?s)^1 +[0-9]+%.*\^C save and quit"


class Terminal:
    """`textgen write` in a pseudo-terminal."""

    def __init__(self, models: Path, folder: Path, *arguments: str, **environment: str) -> None:
        self._closing = threading.Event()
        self.outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.settings = termios.tcgetattr(inner)
        self._program = child_process(
            self._command([sys.executable, "-c", PROGRAM, "write", "tiny", *arguments]),
            stdin=inner, stdout=inner, stderr=inner, cwd=folder, start_new_session=True,
            env=os.environ | {"TEXTGEN_MODELS": str(models), "TERM": "xterm", "COLUMNS": "", "LINES": ""} | environment,
        )  # fmt: skip
        self.process = self._program.__enter__()
        os.close(inner)

        self.display = Display()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _command(self, command: list[str]) -> list[str]:
        return command

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._program.__exit__(*error)
        self.close()

    def press(self, keys: str) -> None:
        os.write(self.outer, keys.encode())

    def see(self, expected: str, seconds: float = 60) -> str:
        """Waits until the pattern shows; all that shows then."""
        return self.display.see(expected, seconds)

    def end(self) -> str:
        """Waits until the program has ended; all that it has written."""
        self.process.wait(60)
        self._reader.join(60)
        return self.display.written

    def resize(self, width: int, height: int) -> None:
        self.display.resize(width, height)
        fcntl.ioctl(self.outer, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # as the system does for the terminal of a session

    def close(self) -> None:
        """The terminal goes away."""
        if not self._closing.is_set():
            self._closing.set()
            self._reader.join(60)
            os.close(self.outer)
        self.process.wait(60)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while not self._closing.is_set():
            if select.select([self.outer], [], [], 0.05)[0]:
                try:
                    data = os.read(self.outer, 65536)
                except OSError:  # all that wrote to it are gone
                    return
                if not data:
                    return
                self.display.write(decoder.decode(data))


class Shell(Terminal):
    """`textgen write` as a job of a shell in a pseudo-terminal."""

    def __init__(self, models: Path, folder: Path, *arguments: str, end: str = "\n", **environment: str) -> None:
        super().__init__(models, folder, *arguments, **environment, PS1="$ ")
        self._process_file = folder / "process"
        self.press(f"{self._job} {end}")

    @property
    def job(self) -> int:
        """Number of the process of the editor."""
        return int(self._process_file.read_text(encoding="utf-8"))

    def stop(self, number: int) -> None:
        """Sends a signal to the job and waits until the shell says that it has stopped."""
        os.killpg(self.job, number)
        self.see(r"\[1\]\+ +Stopped")

    def _command(self, command: list[str]) -> list[str]:
        self._job = "exec".join(["(echo $BASHPID > process; ", f" {shlex.join(command)})"])
        return controlling(["bash", "--norc", "--noprofile", "-i"])


@pytest.fixture
def terminal(tiny_models: Path, tmp_path: Path) -> Iterator[Terminal]:
    with Terminal(tiny_models, tmp_path, "chapter.txt", "--num", "3", EDITOR="sed -i s/cat/dog/") as terminal:
        terminal.see(STARTED)
        yield terminal


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
    terminal.see(r"in 1984▏\n─+\n1 ")
    terminal.press("\x1b[<0;3;5M")  # a click on the first suggestion
    terminal.see(r"in 1984.+▏")
    terminal.press("\x1a!\x03")
    assert "heavy: []" in terminal.end()
    assert terminal.process.returncode == 0
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The dog sat\nin 1984!"
    assert terminal.see(r"Saved in chapter\.txt\.") == "Saved in chapter.txt.\nheavy: []"  # of the other screen
    assert termios.tcgetattr(terminal.outer) == terminal.settings
    assert not terminal.display.modes & {"1049", "2004", "1000", "1003", "1006"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_lost_connection_or_a_signal_saves(terminal: Terminal, tmp_path: Path, number: int) -> None:
    terminal.press("The cat")
    terminal.see("The cat▏")
    terminal.process.send_signal(number)
    assert "Saved in chapter.txt." in terminal.end()
    assert terminal.process.returncode == 128 + number
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The cat"


def test_an_interrupt_from_outside_saves(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press("The cat")
    terminal.see("The cat▏")
    terminal.process.send_signal(signal.SIGINT)
    shown = terminal.end()
    assert "Saved in chapter.txt." in shown
    assert "Traceback" not in shown
    assert terminal.process.returncode == 130
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The cat"


def test_a_signal_while_the_editor_is_open_saves_what_it_saved(tiny_models: Path, tmp_path: Path) -> None:
    script = 'echo "an hour of work" > "$1"; echo is open; sleep 1000'
    with Terminal(tiny_models, tmp_path, "chapter.txt", EDITOR=f"sh -c '{script}' --") as terminal:
        try:
            terminal.see(r"(?s)^1 +[0-9]+%")
            terminal.press("The cat\x05")
            terminal.see("is open")
            terminal.process.send_signal(signal.SIGTERM)
            terminal.see(r"Saved in chapter\.txt\.")
            assert terminal.process.wait(60) == 128 + signal.SIGTERM
        finally:
            os.killpg(terminal.process.pid, signal.SIGKILL)  # the editor
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "an hour of work"


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_a_job_that_was_stopped_goes_on_as_it_was(tiny_models: Path, tmp_path: Path, number: int) -> None:
    with Shell(tiny_models, tmp_path, "chapter.txt") as shell:
        shell.see(STARTED)
        shell.press("The cat")
        shell.see("The cat▏")
        shell.stop(number)
        if number == signal.SIGTSTP:
            assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The cat"
            assert not shell.display.modes & {"1049", "1000", "1003", "1006"}
        shell.press("fg\n")
        shell.see(r"\A[^\n]*  7 characters .*\nThe cat▏\n─+\n1 ")
        shell.press(" sat")
        shell.see("The cat sat▏")
        assert {"1049", "1006"} <= shell.display.modes
        shell.press("\x1a")  # Ctrl-Z undoes a word
        shell.see(r"The cat ?▏")
        shell.press("!\x03")
        shell.see(r"Saved in chapter\.txt\.")
        shell.press("exit\n")
        shell.end()
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8").rstrip("!") in ("The cat", "The cat ")


def test_a_job_that_began_in_the_background_appears_once_it_has_the_terminal(tiny_models: Path, tmp_path: Path) -> None:
    wait = '& until [ -n "$(jobs -s)" ]; do sleep 0.1; done; fg\n'
    with Shell(tiny_models, tmp_path, "chapter.txt", end=wait) as shell:
        shell.see(STARTED)
        shell.press("a\x03")
        shell.see(r"Saved in chapter\.txt\.\nheavy")


def test_a_job_that_is_stopped_in_the_editor_goes_on_there(tiny_models: Path, tmp_path: Path) -> None:
    script = 'echo is open; read line; echo "$line" > "$1"'
    with Shell(tiny_models, tmp_path, "chapter.txt", EDITOR=f"sh -c '{script}' --") as shell:
        shell.see(STARTED)
        shell.press("The cat\x05")
        shell.see("is open")
        shell.stop(signal.SIGTSTP)
        shell.press("fg\nan hour of work\n")
        shell.see("^an hour of work▏")


def test_a_terminal_that_goes_away_saves(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press("The cat")
    terminal.see("The cat▏")
    terminal.close()
    assert (tmp_path / "chapter.txt").read_text(encoding="utf-8") == "The cat"


def test_the_terminal_may_change_its_size(terminal: Terminal) -> None:
    terminal.resize(20, 24)
    terminal.see(r"^─{20}\n1 ")


def test_without_a_file_one_is_named_after_the_model(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("taken", encoding="utf-8")
    with Terminal(tiny_models, tmp_path) as terminal:
        terminal.see("tiny-2.txt   0 characters")
        terminal.press("a\x03")
        assert "Saved in tiny-2.txt" in terminal.end()
    assert (tmp_path / "tiny-2.txt").read_text(encoding="utf-8") == "a"


def test_a_terminal_that_is_not_utf_8(tiny_models: Path, tmp_path: Path) -> None:
    with Terminal(tiny_models, tmp_path, PYTHONIOENCODING="latin-1") as terminal:
        terminal.see(r"(?s)\?{80}.*\?\? other suggestions")
        terminal.press("a\x03")
        assert "Saved in tiny.txt" in terminal.end()
    assert terminal.process.returncode == 0
    assert (tmp_path / "tiny.txt").read_text(encoding="utf-8") == "a"


# === A full disk ===


@pytest.mark.parametrize("is_open", [True, False])
def test_a_text_that_cannot_be_saved_is_kept_elsewhere_and_said(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise CannotWrite(path, "No space left on device")

    def gone(text: str) -> None:
        raise TextgenError("Cannot write to standard output: Input/output error.")

    def edit(session: Session) -> None:
        session.type("The cat")
        session.save(is_leaving=True)

    monkeypatch.setattr("textgen.editor.text_file.write_file", full)
    monkeypatch.setattr("textgen.editor.screen.run", edit)
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if not is_open:
        monkeypatch.setattr("textgen.cli.output.line", gone)
    place = tmp_path / "chapter.txt"
    result = CliRunner().invoke(textgen, ["write", "tiny", str(place), "--models-dir", str(tiny_models)])
    assert result.exit_code == 1
    (kept,) = tmp_path.glob("textgen-*.txt")
    assert (kept.read_text(encoding="utf-8"), kept.stat().st_mode & 0o777) == ("The cat", 0o600)
    assert result.stdout == ("The cat\n" if is_open else "")
    assert f"Cannot write {place}: No space left on device" in result.stderr
    assert result.stderr.endswith(f"{place}: No space left on device. Your text is kept in {kept}.\n")


def test_a_text_that_nothing_can_keep_is_said_to_be_printed(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise CannotWrite(path, "No space left on device")

    monkeypatch.setattr("textgen.editor.text_file.write_file", full)
    monkeypatch.setattr("textgen.editor.text_file.keep_elsewhere", lambda text: None)
    monkeypatch.setattr("textgen.editor.screen.run", lambda session: (session.type("a"), session.save(is_leaving=True)))
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)
    place = tmp_path / "chapter.txt"
    result = CliRunner().invoke(textgen, ["write", "tiny", str(place), "--models-dir", str(tiny_models)])
    assert (result.exit_code, result.stdout) == (1, "a\n")
    assert result.stderr.endswith("No space left on device. Your text is printed above: copy it.\n")


def test_a_text_in_a_file_beside_one_that_was_changed_is_saved(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(session: Session) -> None:
        session.type("mine")
        place.write_text("theirs", encoding="utf-8")
        session.save(is_leaving=True)

    monkeypatch.setattr("textgen.editor.screen.run", edit)
    monkeypatch.setattr("textgen.cli.write.needs_terminal", lambda: None)
    place = tmp_path / "chapter.txt"
    result = CliRunner().invoke(textgen, ["write", "tiny", str(place), "--models-dir", str(tiny_models)])
    assert (result.exit_code, result.stdout) == (0, "")
    second = tmp_path / "chapter-2.txt"
    assert result.stderr.endswith(f"Saved in {second}, as another program has changed {place}.\n")
    assert second.read_text(encoding="utf-8") == "mine"


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
        ([], {"PYTHONIOENCODING": "ascii"}, "which those that are typed would be lost. Set PYTHONIOENCODING=utf-8."),
        (
            [],
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
            "The encoding of this one is ASCII, in which those that are typed would be lost. Set LC_ALL=C.UTF-8.",
        ),
        (["nowhere/a.txt"], {}, "there is no folder nowhere"),
        (
            ["--load-state", "no.state"],
            {},
            "No such file or directory. Name a file that textgen tune-state has written.",
        ),
        (["--num", "10"], {}, "--num must be a number from 1 to 9. Received: 10."),
        (["--temperature", "nan"], {}, "--temperature must be a number from 0 to 100. Received: nan."),
        (["--temperature", "100.5"], {}, "--temperature must be a number from 0 to 100. Received: 100.5."),
    ],
)
def test_mistakes(
    tiny_models: Path, tmp_path: Path, arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    with Terminal(tiny_models, tmp_path, *arguments, **environment) as terminal:
        shown = terminal.end()
    assert expected in " ".join(shown.split())
    assert "Traceback" not in shown
    assert terminal.process.returncode in (1, 2)

"""What becomes of a text in an external editor; no terminal."""

from __future__ import annotations

import errno
import os
import re
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from suggesters import session_on_file

from textgen.editor import external_editor
from textgen.editor import screen as screens
from textgen.editor.external_editor import open_editor
from textgen.editor.screen import Screen
from textgen.errors import Interrupted
from textgen.storage import temporary
from textgen.storage.temporary import new_temporary_folder, remove_temporary_folder


def test_the_editor_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on_file(tmp_path / "new.txt", "The cat")
    monkeypatch.setenv("VISUAL", "sed -i s/cat/dog/")
    open_editor(session)
    assert session.draft.text == "The dog"
    monkeypatch.setenv("VISUAL", str(tmp_path / "nowhere"))
    open_editor(session)
    assert session.message.endswith("The text is as it was. For another editor, quit and set EDITOR.")
    assert session.draft.text == "The dog"


@pytest.fixture
def edits_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the editor to a shell script, whose file is $1, and temporary files to a folder of their own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def set_editor(script: str) -> None:
        (tmp_path / "editor").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / "editor").chmod(0o755)
        monkeypatch.setenv("VISUAL", str(tmp_path / "editor"))

    return set_editor


def test_the_file_of_the_editor_is_private_and_is_removed(tmp_path: Path, edits_as: Callable[[str], None]) -> None:
    session = session_on_file(tmp_path / "new.txt", "one\ntwo")
    edits_as('stat -c %a "$1" >> "$1"; printf "\\r\\n" >> "$1"')
    open_editor(session)
    assert session.draft.text == "one\ntwo\n600\n"
    assert session.message == ""
    assert list((tmp_path / "temporary").iterdir()) == []
    session.undo()
    assert session.draft.text == "one\ntwo"


def test_a_file_that_a_killed_process_leaves_is_removed_by_a_later_one(
    tmp_path: Path, edits_as: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list[Path]()
    monkeypatch.setattr(click, "edit", lambda filename: left.append(Path(filename)))
    monkeypatch.setattr(external_editor, "take_over", lambda *_: None)
    open_editor(session_on_file(tmp_path / "new.txt", "one"))
    folder = left[0].parent
    assert folder.parent == tmp_path / "temporary"
    os.utime(folder, (0, 0))
    temporary._sweep.cache_clear()
    remove_temporary_folder(new_temporary_folder())
    assert left[0].exists(), "this process may need it"
    temporary._locks.clear()
    temporary._sweep.cache_clear()
    remove_temporary_folder(new_temporary_folder())
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_an_editor_that_fails_has_saved_is_the_text(tmp_path: Path, edits_as: Callable[[str], None]) -> None:
    session = session_on_file(tmp_path / "new.txt", "old")
    edits_as('echo "an hour of work" > "$1"; exit 1')
    open_editor(session)
    assert session.draft.text == "an hour of work"
    assert "The text is what the editor saved: ^Z undoes that." in session.message


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_an_editor_saves_that_is_not_utf_8_is_kept(
    tmp_path: Path, edits_as: Callable[[str], None], is_killed: bool
) -> None:
    session = session_on_file(tmp_path / "new.txt", "old")
    edits_as('printf "caf\\351" > "$1"' + ("; exit 1" if is_killed else ""))
    open_editor(session)
    (kept,) = (tmp_path / "temporary").iterdir()
    assert kept.read_bytes() == b"caf\xe9"
    assert session.message == (
        f"Cannot read what the editor saved: it is not UTF-8. It is kept in {kept}; the text is as it was."
    )
    assert session.draft.text == "old"


def test_an_editor_that_removes_the_file(tmp_path: Path, edits_as: Callable[[str], None]) -> None:
    session = session_on_file(tmp_path / "new.txt", "old")
    edits_as('rm "$1"')
    open_editor(session)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert re.fullmatch(
        r"Cannot read what the editor saved in .*: No such .*\. The text is as it was\.", session.message
    )
    assert session.draft.text == "old"


def test_without_a_temporary_folder_there_is_no_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on_file(tmp_path / "new.txt", "old")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    open_editor(session)
    assert session.message == (
        "Cannot make a file for the editor: No such file or directory. "
        "Free some space, or quit and set TMPDIR to another folder."
    )


def test_without_files_to_open_nobody_is_told_to_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    session = session_on_file(tmp_path / "new.txt", "old")
    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    open_editor(session)
    assert session.message.startswith("Cannot make a file for the editor: Too many open files. Close other programs")


@pytest.mark.parametrize(("saved", "text"), [(b"an hour of work\n", "an hour of work"), (b"caf\xe9", "old!")])
def test_an_interruption_while_the_editor_is_open_saves_what_it_saved(
    tmp_path: Path, edits_as: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, saved: bytes, text: str
) -> None:
    def edit(filename: str) -> None:
        Path(filename).write_bytes(saved)
        screen.interrupt(Interrupted("Terminated.", 15))

    take_over = external_editor.take_over

    def interrupted_again(*arguments: Any) -> None:
        screen.interrupt(Interrupted("The terminal was closed.", 1))
        take_over(*arguments)

    session = session_on_file(tmp_path / "new.txt", "old")
    monkeypatch.setattr(click, "edit", edit)
    monkeypatch.setattr(external_editor, "take_over", interrupted_again)
    with create_pipe_input() as pipe:
        screen = Screen(session, pipe, DummyOutput())
        monkeypatch.setattr(screens, "Screen", lambda session: screen)
        pipe.send_text("!\x05")
        with pytest.raises(Interrupted, match="Terminated"):
            screens.run(session)
    assert (tmp_path / "new.txt").read_text(encoding="utf-8") == text
    *before, last = session.message.split("\n")
    assert last == f"Saved in {tmp_path / 'new.txt'}."
    assert len(before) == (text == "old!")
    assert all("It is kept in" in line for line in before)


def test_ctrl_c_in_the_editor_ends_the_editor_and_not_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_on_file(tmp_path / "new.txt", "The cat")
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nkill -INT $PPID $$\nsleep 30\n", encoding="utf-8")
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    before = signal.getsignal(signal.SIGINT)
    open_editor(session)
    assert "The text is as it was" in session.message
    assert session.draft.text == "The cat"
    assert signal.getsignal(signal.SIGINT) is before

"""Opens a text in an external editor, and takes over what the editor saved."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from textgen.editor.session import Session
from textgen.editor.text_file import NEWLINE
from textgen.storage.file_replacement import rename, write_through
from textgen.storage.files import TMPDIR_ADVICE, CannotWrite, random_hex, writing
from textgen.storage.temporary import new_temporary_folder, remove_temporary_folder

ROOM_ADVICE = "Free some space, or quit and set TMPDIR to another folder."


def open_editor(session: Session) -> None:
    """Opens the text in an external editor ($VISUAL or $EDITOR) and replaces it with what the editor saved.

    That also happens if the editor ends with an error, or if an exception such as `Interrupted` ends the wait for it.
    If the editor cannot be started, ends with an error or saves what cannot be read, `session.message` is set. Ctrl-C
    is for the editor alone.

    Args:
        session: The session.
    """
    session.message = failure = ""
    text = session.draft.text
    given = (text if text.endswith("\n") or not text else f"{text}\n").replace("\n", os.linesep).encode()
    try:
        path = _temporary_file(given)
    except CannotWrite as error:
        session.message = f"Cannot make a file for the editor: {error.reason}. {error.advising(ROOM_ADVICE).advice}"
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which the editor would inherit
    try:
        click.edit(filename=str(path))
    except click.ClickException as error:
        failure = error.message
    finally:
        take_over(session, path, given)
        signal.signal(signal.SIGINT, before)
    if failure and not session.message:
        now = "as it was" if session.draft.text == text else "what the editor saved: ^Z undoes that"
        session.message = f"{failure}. The text is {now}. For another editor, quit and set EDITOR."


def _temporary_file(data: bytes) -> Path:
    """Creates a file that only the user can read, in a temporary folder. Raises `CannotWrite` if that is impossible.

    If this process is killed, a later one removes the folder.
    """
    folder = new_temporary_folder()
    path = folder / "text.txt"
    try:
        with writing(path, TMPDIR_ADVICE):
            write_through(path, data, 0o600)
    except BaseException:
        remove_temporary_folder(folder)
        raise
    return path


def take_over(session: Session, path: Path, given: bytes) -> None:
    """Replaces the text if the editor changed the file, and removes its folder. What cannot be read is kept beside it.

    Args:
        session: The session, whose `message` is set if the file cannot be read.
        path: The file.
        given: What the editor was given in the file.
    """
    try:
        data = path.read_bytes()
        edited = NEWLINE.sub("\n", data.decode("utf-8-sig"))
    except OSError as error:
        session.message = (
            f"Cannot read what the editor saved in {_kept(path)}: {error.strerror}. The text is as it was."
        )
    except UnicodeDecodeError:
        session.message = (
            f"Cannot read what the editor saved: it is not UTF-8. It is kept in {_kept(path)}; the text is as it was."
        )
    else:
        if data != given:  # editors add a newline at the end
            session.replace(edited if session.draft.text.endswith("\n") else edited.removesuffix("\n"))
        remove_temporary_folder(path.parent)


def _kept(path: Path) -> Path:
    """Moves the file out of its folder, which is removed. Returns its path, the old one if that is impossible."""
    folder = path.parent
    try:
        target = folder.with_name(f"textgen-{random_hex()}.txt")
        rename(path, target)
    except FileNotFoundError:  # the editor has removed it
        target = path
    except OSError:
        return path
    remove_temporary_folder(folder)
    return target

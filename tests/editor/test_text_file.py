"""The file of a text, as a session reads and saves it, and other programs that write to it."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
from pathlib import Path

import pytest
from suggesters import Telling, session_with_unsaved

from textgen.editor import text_file as module
from textgen.editor.session import Session
from textgen.editor.text_file import TextFile
from textgen.errors import TextgenError
from textgen.storage.locks import lock


@pytest.mark.parametrize(
    ("before", "shown", "after"),
    [
        (b"one\r\ntwo\r\n", "one\ntwo\n", b"one\r\ntwo\r\n\r\n!"),
        (b"one\rtwo", "one\ntwo", b"one\rtwo\r!"),
        (b"one\ntwo", "one\ntwo", b"one\ntwo\n!"),
        (b"one\r\ntwo\r\nthree\n", "one\ntwo\nthree\n", b"one\r\ntwo\r\nthree\n\r\n!"),  # the new one as most are
        (b"\xef\xbb\xbfone\r\n", "one\n", b"\xef\xbb\xbfone\r\n\r\n!"),
        (b"\xef\xbb\xbf", "", b"\xef\xbb\xbf\n!"),
        (b"one", "one", b"one\n!"),
    ],
)
def test_line_endings_and_the_byte_order_mark_stay(tmp_path: Path, before: bytes, shown: str, after: bytes) -> None:
    path = tmp_path / "chapter.txt"
    path.write_bytes(before)
    session = Session(Telling(), path, length=6, temperature=0.8)
    assert session.draft.text == shown
    session.save()
    assert path.read_bytes() == before
    session.type("\n")
    session.type("!")
    session.save()
    assert path.read_bytes() == after
    assert not session.unsaved


@pytest.mark.parametrize(
    ("changed", "after"),
    [
        ("a\nb\nc\nd", b"a\r\nb\nc\r\nd"),
        ("a\nB\nc\nd", b"a\r\nB\nc\r\nd"),
        ("a\nb\nb\nc\nd", b"a\r\nb\nb\r\nc\r\nd"),
        ("new\na\nb\nc\nd", b"new\r\na\r\nb\nc\r\nd"),
        ("a\nb\nc\nd\n", b"a\r\nb\nc\r\nd\r\n"),
        ("b\nc\nd", b"b\nc\r\nd"),
        ("a\nd", b"a\r\nd"),
        ("a\nb", b"a\r\nb"),
        ("", b""),
        ("a", b"a"),
    ],
)
def test_lines_that_nobody_touched_keep_their_endings(tmp_path: Path, changed: str, after: bytes) -> None:
    path = tmp_path / "mixed.txt"
    path.write_bytes(b"a\r\nb\nc\r\nd")
    file = TextFile(path)
    assert file.read() == "a\nb\nc\nd"
    file.write(changed)
    assert path.read_bytes() == after
    assert file.is_intact(changed)


def test_endings_are_those_of_the_text_that_was_written_last(tmp_path: Path) -> None:
    path = tmp_path / "mixed.txt"
    path.write_bytes(b"a\r\nb\nc\r\nd")
    file = TextFile(path)
    file.read()
    for text in ("0\na\nb\nc\nd", "0\na\nb\nc\nd\ne"):
        file.write(text)
    assert path.read_bytes() == b"0\r\na\r\nb\nc\r\nd\r\ne"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("chapter 一.docx", "a Word file"),
        ("a.ODT", "an OpenDocument text"),
        ("a.rtf", "an RTF document"),
        ("a.pdf", "a PDF file"),
        ("a.txt.gz", "compressed with gzip"),
    ],
)
def test_a_new_file_that_would_be_no_plain_text_is_refused(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / name
    expected = f"by its name {path} would be {what}. Name a file that ends in .txt or .md."
    with pytest.raises(TextgenError, match=f"^The text is written as plain text, and {re.escape(expected)}$"):
        Session(Telling(), path, length=6, temperature=0.8)
    path.write_text("plain text", encoding="utf-8")
    assert TextFile(path).read() == "plain text", "whoever has named it so may go on"


@pytest.mark.parametrize("name", ["chapter.txt", "a.md", "page.html", "a.srt", "rows.csv", "a.tex", "chapter", "a.b.c"])
def test_a_new_file_may_have_any_other_name(tmp_path: Path, name: str) -> None:
    assert TextFile(tmp_path / name).read() == ""


@pytest.mark.parametrize("before", [None, "", "old"])
def test_two_editors_of_a_file_do_not_overwrite_each_other(tmp_path: Path, before: str | None) -> None:
    path, second, third = (tmp_path / f"chapter{end}.txt" for end in ("", "-2", "-3"))
    if before is not None:
        path.write_text(before, encoding="utf-8")
    sessions = [Session(Telling(), path, length=6, temperature=0.8) for _ in range(3)]
    for session, character in zip(sessions, "abc", strict=True):
        session.type(character)
        session.save()
    assert [session.message for session in sessions] == [
        f"Saved in {path}.",
        f"Saved in {second}, as another program has changed {path}.",
        f"Saved in {third}, as another program has changed {path}.",
    ]
    for session in sessions:
        session.type("!")
        session.save()
        assert session.message == f"Saved in {session.path}."
    texts = [one.read_text(encoding="utf-8") for one in (path, second, third)]
    assert texts == [f"{before or ''}{character}!" for character in "abc"]


def test_a_change_by_another_program_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "chapter.txt"
    path.write_bytes(b"old")
    link = tmp_path / "chapter.txt"
    link.symlink_to(path)
    session = session_with_unsaved(link, "mine")
    session.save()
    session.type("!")
    path.write_bytes(b"theirs")
    session.save()
    assert (path.read_bytes(), session.path) == (b"theirs", tmp_path / "chapter-2.txt")
    assert session.path.read_bytes() == b"mine!"


def test_a_file_that_another_program_removed_or_saved_alike_is_written(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_with_unsaved(path, "a")
    path.write_bytes(b"a")
    session.save()
    assert session.message == f"Saved in {path}."
    path.unlink()
    session.type("b")
    session.save()
    assert (session.message, path.read_bytes()) == (f"Saved in {path}.", b"ab")


def test_a_saved_text_that_another_program_removes_is_saved_again(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_with_unsaved(path, "mine")
    session.save()
    path.unlink()
    session.save()
    assert (session.message, path.read_bytes()) == (f"Saved in {path}.", b"mine")
    path.write_bytes(b"theirs")
    session.save()
    second = tmp_path / "chapter-2.txt"
    assert session.message == f"Saved in {second}, as another program has changed {path}."
    assert (path.read_bytes(), second.read_bytes(), session.path) == (b"theirs", b"mine", second)
    session.save()
    assert (session.message, len(list(tmp_path.iterdir()))) == (f"Saved in {second}.", 2)


def test_a_saved_text_that_is_lost_and_cannot_be_saved_counts_as_unsaved(tmp_path: Path) -> None:
    """So it is printed at the end."""
    (tmp_path / "chapters").mkdir()
    path = tmp_path / "chapters" / "one.txt"
    session = session_with_unsaved(path, "mine")
    session.save()
    path.unlink()
    os.rmdir(path.parent)
    session.save()
    assert session.message.startswith(f"Cannot write {path}: No such file")
    assert session.unsaved
    path.parent.mkdir()
    session.save()
    assert (session.message, session.unsaved) == (f"Saved in {path}.", False)


def test_a_file_of_which_nothing_was_changed_is_left_to_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    path.write_bytes(b"old")
    session = Session(Telling(), path, length=6, temperature=0.8)
    session.save()
    assert session.message == f"Saved in {path}."
    path.write_bytes(b"theirs")
    session.save()
    assert (session.message, path.read_bytes()) == ("Nothing was written.", b"theirs")
    path.unlink()
    session.save()
    assert (session.message, list(tmp_path.iterdir())) == ("Nothing was written.", [])


def test_a_file_that_cannot_be_read_any_more_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "chapter.txt"
    session = session_with_unsaved(path, "a")
    path.mkdir()
    session.save()
    assert session.message == f"Saved in {session.path}, as another program has changed {path}."
    assert session.path.read_bytes() == b"a"


def test_editors_that_save_at_the_same_moment_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 60.0)
    path = tmp_path / "chapter.txt"
    sessions = [session_with_unsaved(path, str(number)) for number in range(8)]
    together = threading.Barrier(len(sessions))

    def save(session: Session) -> None:
        together.wait(60)
        session.save()

    threads = [threading.Thread(target=save, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    texts = sorted(one.read_text(encoding="utf-8") for one in tmp_path.iterdir())
    assert texts == [session.draft.text for session in sessions]


def test_a_text_is_saved_though_another_process_holds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.0)
    session = session_with_unsaved(tmp_path / "chapter.txt", "a")
    with lock(tmp_path) as is_held:
        assert is_held
        session.save()
    assert (tmp_path / "chapter.txt").read_bytes() == b"a"


def test_a_text_that_cannot_be_saved_stays(tmp_path: Path) -> None:
    (tmp_path / "chapters").mkdir()
    session = session_with_unsaved(tmp_path / "chapters" / "one.txt", "So")
    os.rmdir(tmp_path / "chapters")
    session.save()
    assert session.message.startswith(f"Cannot write {tmp_path / 'chapters' / 'one.txt'}: No such file")
    assert session.unsaved


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere/chapter.txt", "there is no folder .*nowhere. Make it first"),
        ("latin.txt", "is not UTF-8 text: byte 0xe9 at offset 3. It looks like cp1252. Convert it: iconv"),
        ("folder", "it is a folder"),
        ("pipe", "it is a pipe or a device. Name a UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TextgenError, match=expected):
        session_with_unsaved(tmp_path / name)


def test_a_text_that_cannot_be_saved_is_kept_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_in_part(path: Path, data: bytes, mode: int) -> None:
        path.write_bytes(data)
        if path.parent != tmp_path:
            raise OSError(errno.ENOSPC, "No space left on device")

    full = tmp_path / "full"
    full.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(module, "write_through", fails_in_part)
    kept = module.keep_elsewhere("月")
    assert kept is not None
    assert (kept.parent, kept.read_text(encoding="utf-8"), list(full.iterdir())) == (tmp_path, "月", [])
    monkeypatch.setattr(Path, "home", lambda: full)
    assert module.keep_elsewhere("月") is None
    assert list(full.iterdir()) == []

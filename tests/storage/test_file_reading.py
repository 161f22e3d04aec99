"""Reading of single files: what is no regular file is refused before a library waits in it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from textgen.errors import SavedModelError, Unreadable
from textgen.storage.file_reading import check_readable


def test_what_a_library_cannot_read_is_told_before_it_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        check_readable(tmp_path / name, "Name a state.")
    for name, message in {
        "missing": r"No such file or directory\. Name a state\.",
        ".": r"it is a folder\. Name a state\.",
        "file/part": r"Not a directory\. Name a state\.",
        os.devnull: r"it is not a regular file\. Name a state\.",
    }.items():
        with pytest.raises(SavedModelError, match=f"^Cannot read .*: {message}$"):
            check_readable(tmp_path / name, "Name a state.")

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(Unreadable, match=r"file: Permission denied\. Change the permissions, or ask the owner to\.$"):
        check_readable(tmp_path / "file", "Name a state.")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_told_before_a_library_waits_in_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        SavedModelError, match=r"pipe: it is a pipe\. Save what comes out of it to a file, and name that"
    ):
        check_readable(tmp_path / "pipe", "Name a state.")

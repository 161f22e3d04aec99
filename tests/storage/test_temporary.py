"""Temporary files: what is said where the system has no room for them, by everything that makes one."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from disk import names

from textgen.corpus.corpus import Corpus
from textgen.storage import temporary
from textgen.storage.cache_folder import cache_folder
from textgen.storage.files import CannotWrite, new_file, writing
from textgen.storage.temporary import (
    new_temporary_file,
    new_temporary_folder,
    remove_temporary_folder,
    temporary_folder,
)
from textgen.training.distributed.workers import run_workers


def read_standard_input(folder: Path) -> None:
    Corpus(["-"])


def read_a_page(folder: Path) -> None:
    (folder / "page.html").write_text("<p>The cat", encoding="utf-8")
    Corpus([folder / "page.html"]).stats()


def start_workers(folder: Path) -> None:
    run_workers([], list, 2, folder, max_restarts=0, say=print, command=["true"])


USES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda folder: new_temporary_folder(),
    "a file": lambda folder: new_temporary_file(),
    "a folder for a block": lambda folder: temporary_folder().__enter__(),
    "standard input": read_standard_input,
    "a web page": read_a_page,
    "a cache": lambda folder: cache_folder(),
    "workers": start_workers,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("named", [True, False])
def test_without_a_temporary_folder_it_is_one_clear_line(
    use: str, named: bool, tmp_path: Path, no_temporary_folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat")))
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setenv("TMPDIR", "/dev/null/named") if named else monkeypatch.delenv("TMPDIR", raising=False)
    with pytest.raises(CannotWrite) as caught:
        USES[use](tmp_path)
    place = "/dev/null/named" if named else "/tmp"
    assert str(caught.value).startswith(f"Cannot write {place}: No usable temporary directory found in ")
    assert str(caught.value).endswith(". Free some space, or set TMPDIR to a folder with more space.")


def test_of_too_many_open_files_nobody_is_told_to_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(CannotWrite, match=r"Too many open files\. Close other programs"),
        temporary_folder() as folder,
        writing(folder / "file"),
    ):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_folder_for_a_block_goes_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with suppress(KeyError), temporary_folder() as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_bytes(b"")
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        raise KeyError
    assert names(tmp_path) == []


def test_folders_of_killed_processes_are_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = [tmp_path / name for name in ("textgen-checkout", "textgen-tmp-of-mine", "textgen-tmp-12345678-x")]
    left = [tmp_path / name for name in ("textgen-tmp-ab_12345", "textgen-tmp-cache-ab_12345")]
    young = tmp_path / "textgen-tmp-abcdefgh"
    readable = tmp_path / "textgen-tmp-readable"
    for folder in (*kept, *left, young, readable):
        folder.mkdir(mode=0o755 if folder == readable else 0o700)
        (folder / "text").write_text("mine")
    held = new_temporary_folder()
    for folder in (*kept, *left, readable, held):
        os.utime(folder, (0, 0))
    temporary._sweep.cache_clear()
    with temporary_folder() as folder:
        assert names(tmp_path) == sorted(path.name for path in (*kept, young, readable, held, folder))
    remove_temporary_folder(held)
    assert names(tmp_path) == sorted(path.name for path in (*kept, young, readable))


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="a device of POSIX")
def test_what_a_process_that_was_killed_while_it_wrote_into_a_pipe_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with new_file(Path("/dev/null")) as path:
        left = tmp_path / path.parent.name
        shutil.copytree(path.parent, tmp_path / "copy")
    (tmp_path / "copy").rename(left)
    os.utime(left, (0, 0))
    temporary._sweep.cache_clear()
    with temporary_folder() as folder:
        assert names(tmp_path) == [folder.name]

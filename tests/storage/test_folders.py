"""Folders: whole or not there, whenever the machine stops, and no link in them leads anywhere."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from disk import OLD, contents, failing, names

import textgen
from textgen.errors import SavedModelError, TextgenError
from textgen.storage import files, folders
from textgen.storage.file_reading import read_file
from textgen.storage.file_replacement import exchange
from textgen.storage.files import write_file, write_own_file
from textgen.storage.folders import check_new_folder, new_folder, refuse_links
from textgen.storage.locks import InUse, locked
from textgen.storage.manifests import MANIFEST, read_manifest, update_folder, verified
from textgen.storage.new_files import new_file

# --- What the disk refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_the_disks_refusal_is_one_clear_line(tmp_path: Path, number: int) -> None:
    writers: list[Callable[[Path], None]] = [
        lambda path: write_file(path, b"x"),
        lambda path: update_folder(path, {"a": b"x"}),
    ]
    for write in writers:
        with failing(0, number), pytest.raises(TextgenError) as caught:
            write(tmp_path / "target")
        assert "\n" not in str(caught.value)
        assert f"{tmp_path / 'target'}" in str(caught.value)
        advice = "Free some space or choose another folder" if number == errno.ENOSPC else "Choose another place"
        assert f": {os.strerror(number)}. {advice}; what was there before is untouched." in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (
        lambda: write_file(tmp_path / "file" / "x", b""),
        lambda: update_folder(tmp_path / "file" / "x", {"a": b""}),
        lambda: new_folder(tmp_path / "file" / "x").__enter__(),
    ):
        with pytest.raises(TextgenError, match=r"Cannot write .*x: "):
            write()


# --- Links, names and modes ----------------------------------------------------------------------------------


WRITERS: dict[str, Callable[[Path], None]] = {
    "a file": lambda folder: write_file(folder / "file", b"new"),
    "a file of ours": lambda folder: write_own_file(folder / "file", b"new"),
    "several files": lambda folder: update_folder(folder, {"file": b"new"}),
}


def write_new_folder(folder: Path) -> None:
    with new_folder(folder / "folder") as temporary:
        (temporary / "file").write_bytes(b"new")


WRITERS["a folder"] = write_new_folder


def write_for_a_library(folder: Path, **options: bool) -> None:
    with new_file(folder / "file", **options) as temporary:
        temporary.write_bytes(b"new")


WRITERS["a file by a library"] = write_for_a_library
WRITERS["a file of ours by a library"] = partial(write_for_a_library, follow_link=False)


@pytest.mark.parametrize("writer", WRITERS)
def test_no_temporary_name_can_be_known_or_leads_elsewhere(
    tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is put wherever the writer is about to create a file: it is never followed."""
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"mine")
    used: list[str] = []
    really_open, really_mkdir = os.open, os.mkdir

    def trapped(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags & os.O_CREAT and str(folder) in str(path):
            used.append(os.path.basename(path))
            with suppress(FileExistsError):
                os.symlink(victim, path)
        return really_open(path, flags, mode, **options)

    def made(path: Any, *options: Any) -> None:
        used.append(os.path.basename(path))
        really_mkdir(path, *options)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", trapped)
            patch.setattr(os, "mkdir", made)
            with pytest.raises(TextgenError, match="Cannot write"):
                WRITERS[writer](folder)
    assert victim.read_bytes() == b"mine"
    hidden = [name for name in used if name.startswith(".tmp-")]
    assert len(set(hidden)) == len(hidden)


@pytest.mark.parametrize("planted", ["file", "file.new", MANIFEST, "folder"])
def test_a_link_in_a_folder_of_ours_is_never_written_through(tmp_path: Path, planted: str) -> None:
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"mine")
    (folder / planted).symlink_to(victim)
    for writer, write in WRITERS.items():
        if writer not in ("a file", "a file by a library"):  # which are the user's own
            with suppress(TextgenError):
                write(folder)
            assert victim.read_bytes() == b"mine", writer


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for writer, write in WRITERS.items():
            (tmp_path / writer).mkdir()
            write(tmp_path / writer)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_only_errors_of_the_writing_are_told_as_such(tmp_path: Path) -> None:
    """The block may read a corpus that is gone meanwhile: more room on the disk would not help."""
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "folder"):
        (tmp_path / "missing").read_bytes()
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["link", "deep/link", "deep/deeper/link"])
@pytest.mark.parametrize("target", ["file", "..", "nowhere"])
def test_a_link_anywhere_in_a_folder_is_found(tmp_path: Path, place: str, target: str) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    refuse_links(tmp_path)
    (tmp_path / place).symlink_to(target)
    with pytest.raises(SavedModelError, match=rf"{place} is a link, which a model folder must not contain"):
        refuse_links(tmp_path)


def test_a_pipe_in_a_folder_is_found_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SavedModelError, match="pipe is neither a file nor a folder"):
        refuse_links(tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe", 10)
    with pytest.raises(SavedModelError, match=r"Cannot read .*pipe: it is not a regular file\."):
        verified(tmp_path, "pipe", {"size": 0, "sha256": ""})


def test_what_is_larger_than_its_kind_can_be_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes, the limit"):
        read_file(tmp_path / "file", 4)
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(12 << 30)
    with pytest.raises(
        SavedModelError, match=r"Cannot read .*MANIFEST\.json: it has more than [\d,]+ bytes, the limit"
    ):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST, "a"])
def test_a_link_is_not_read(tmp_path: Path, name: str) -> None:
    update_folder(tmp_path / "folder", {"a": b"12345"})
    (tmp_path / "folder" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "folder" / name).symlink_to("../elsewhere")
    with pytest.raises(SavedModelError, match=f"Cannot read .*{name}: it is a link"):
        contents(tmp_path / "folder")


# --- A new folder --------------------------------------------------------------------------------------------


def test_new_folder_appears_whole_and_with_its_manifest(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "folder") as temporary:
        (temporary / "a").write_bytes(b"1")
        (temporary / "b").write_bytes(b"")
        assert not (tmp_path / "deep" / "folder").exists()
        assert temporary.parent == tmp_path / "deep"  # one file system, so that a rename does it
    assert contents(tmp_path / "deep" / "folder") == {"a": b"1", "b": b""}
    assert names(tmp_path / "deep") == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_inside_the_block_leaves_nothing(tmp_path: Path, error: type[BaseException], exists: bool) -> None:
    if exists:
        update_folder(tmp_path / "folder", OLD)
    with pytest.raises(error), new_folder(tmp_path / "folder") as temporary:  # noqa: PT012
        (temporary / "a").write_bytes(b"new")
        raise error
    assert names(tmp_path) == (["folder"] if exists else [])
    assert not exists or contents(tmp_path / "folder") == OLD


@pytest.mark.parametrize("path", [".", "..", "sub/.."])
def test_a_new_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(TextgenError, match=r"Cannot write .*\.: it is a folder that exists\. Choose a name\."),
        new_folder(Path(path)),
    ):
        raise AssertionError
    assert names(tmp_path) == []


def test_a_folder_that_could_not_be_made_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = tmp_path / ("n" * folders.NAME_BYTES)
    for content in (b"1", b"2"):
        check_new_folder(longest)
        with new_folder(longest) as temporary:
            (temporary / "a").write_bytes(content)
    check_new_folder(tmp_path / "deep" / "folder")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(os.path, "ismount", lambda path: path.name == "disk")
    for path, words in {
        tmp_path / "sub" / "..": "Choose a name",
        longest.with_name(f"{longest.name}n"): "its name has 230 bytes, and a temporary name .* at most 229 bytes",
        tmp_path / "disk": "a disk is mounted there",
        tmp_path / "file" / "folder": "Not a directory",
    }.items():
        with pytest.raises(TextgenError, match=words):
            check_new_folder(path)


def test_new_folder_replaces_a_folder(tmp_path: Path) -> None:
    update_folder(tmp_path / "folder", OLD)
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_bytes(b"new")
    assert contents(tmp_path / "folder") == {"a": b"new"}
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("call", range(3))  # the manifest, the old folder aside, the new one in place
def test_a_new_folder_that_fails_leaves_the_old_one(tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    update_folder(tmp_path / "folder", OLD)
    with failing(call), pytest.raises(TextgenError, match="what was there before is untouched"):  # noqa: SIM117
        with new_folder(tmp_path / "folder") as temporary:
            (temporary / "a").write_bytes(b"new")
    assert contents(tmp_path / "folder") == OLD
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a step of Linux")
def test_a_kill_while_a_folder_is_replaced_leaves_one_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever rename or removal, where the file system can exchange two folders."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("not in this file system")
    update_folder(tmp_path / "folder", OLD)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "folder") as temporary:
            (temporary / "a").write_bytes(b"new")
    assert contents(tmp_path / "folder") == {"a": b"new"}
    (left,) = tmp_path.glob(".tmp-*")
    assert contents(left) == OLD
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_bytes(b"newer")
    assert names(tmp_path) == ["folder", "one", "other"]


def test_folders_that_cannot_be_exchanged_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    assert not exchange(tmp_path / "one", tmp_path / "missing")
    (tmp_path / "other").mkdir()
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    assert not exchange(tmp_path / "one", tmp_path / "other"), "an old C library"
    assert names(tmp_path) == ["one", "other"]


def test_a_new_folder_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, mkdir = list[Path](), Path.mkdir

    def swept(path: Path, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        if path.name.startswith(files.TEMPORARY):
            made.append(path)
            if len(made) < 3:
                path.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept)
    with new_folder(tmp_path / "folder") as temporary:
        assert temporary == made[2]
    assert names(tmp_path) == ["folder"]


def test_a_new_folder_does_not_replace_one_that_is_held(tmp_path: Path) -> None:
    """A training holds its empty folder while it learns a vocabulary."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def write() -> None:
        with new_folder(folder, replace=False) as temporary:
            (temporary / "a").write_bytes(b"1")

    with locked(folder):
        with pytest.raises(InUse):
            write()
        assert names(tmp_path) == ["folder"]
        assert names(folder) == []
    (folder / ".DS_Store").touch()
    write()
    (folder / ".DS_Store").touch()
    with pytest.raises(TextgenError, match=r"Cannot write .*not empty"):
        write()
    assert contents(folder) == {"a": b"1"}
    assert (folder / ".DS_Store").exists()
    other = tmp_path / "other"
    (other / ".DS_Store").mkdir(parents=True)
    with pytest.raises(TextgenError, match=r"Cannot write .*not empty"), new_folder(other, replace=False):
        pass
    assert names(other) == [".DS_Store"]


def test_files_in_the_folders_of_a_new_folder_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = list[str]()
    for function in ("sync_file", "sync_folder"):
        monkeypatch.setattr(folders, function, lambda path: flushed.append(path.name))
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "deep" / "deeper").mkdir(parents=True)
        for place in ("top", "deep/weights", "deep/deeper/more"):
            (temporary / place).write_bytes(b"x")
    assert {"top", "deep", "weights", "deeper", "more"} <= set(flushed)


@pytest.mark.parametrize("name", ["old", "old-1", "removed", "new", "race"])
def test_a_new_folder_removes_what_is_left_of_no_other_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    for left in (".tmp-old-12-precious", f".tmp-removed-{'1' * 16}", ".tmp-race-ab", ".tmp-new-precious-12"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "file").write_bytes(b"precious")
    before = names(tmp_path)
    with new_folder(tmp_path / name) as temporary:
        (temporary / "file").write_bytes(b"1")
    assert names(tmp_path) == sorted([*before, name])
    assert (tmp_path / ".tmp-old-12-precious" / "file").read_bytes() == b"precious"


def test_a_new_folder_removes_what_killed_processes_left_of_the_same_folder(tmp_path: Path) -> None:
    name = "shard[1]"
    for leftover in (f".tmp-new-{name}-ab", f".tmp-old-12-{name}", f".tmp-old-34-{name}", ".tmp-new-other-ab"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "file").write_bytes(b"half")
    for content in (b"1", b"2"):
        with new_folder(tmp_path / name) as temporary:
            (temporary / "file").write_bytes(content)
    assert names(tmp_path) == [".tmp-new-other-ab", name]
    assert contents(tmp_path / name) == {"file": b"2"}


def test_every_temporary_name_is_random() -> None:
    """Whoever makes one, in whatever module."""
    modules = Path(textgen.__file__).parent.rglob("*.py")
    lines = [line for path in modules for line in path.read_text("utf-8").splitlines() if "TEMPORARY" in line]
    made = [line for line in lines if "with_name(" in line or "prefix=" in line or " / f" in line]
    random = ("random_hex()", "token_hex(", "mkdtemp(", "TemporaryDirectory(")
    assert len(made) > 3
    assert [line for line in made if not any(word in line for word in random)] == []

"""Single files: whole or not there, whenever the machine stops and whatever the disk refuses."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from disk import failing, names, undeletable
from processes import child_process

from textgen.errors import TextgenError
from textgen.storage import file_replacement, files
from textgen.storage.cache_folder import filling_cache
from textgen.storage.files import (
    TMPDIR_ADVICE,
    WRITING_ADVICE,
    Advice,
    CannotWrite,
    check_writable,
    json_bytes,
    write_chunks,
    write_file,
    write_files,
    write_own_file,
    writing,
)
from textgen.storage.new_files import new_file
from textgen.storage.temporary import temporary_folder


def test_write_file_writes_and_replaces(tmp_path: Path) -> None:
    for data in (b"one", b"", "zwei 月".encode()):
        write_file(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
        assert names(tmp_path) == ["file"]


def test_write_file_writes_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to("real/file")
        (tmp_path / "other").symlink_to("link")
    except OSError:
        pytest.skip("no links here")
    for number, name in enumerate(("link", "other", "real/file")):
        write_file(tmp_path / name, data := b"%d" % number)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "other").is_symlink()
        assert (tmp_path / "real" / "file").read_bytes() == data
        assert names(tmp_path / "real") == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o200])
def test_write_file_keeps_the_mode(tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write_through, seen = tmp_path / "file", file_replacement.write_through, []

    def looked_at(temporary: Path, data: bytes, mode: int) -> None:
        write_through(temporary, data, mode)
        seen.append(temporary.stat().st_mode & 0o777)

    path.write_bytes(b"old")
    path.chmod(mode)
    monkeypatch.setattr(files, "write_through", looked_at)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777, seen) == (b"new", mode, [0o600])


def test_a_file_that_the_user_may_not_write_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o444)
    link.symlink_to("file")
    monkeypatch.setattr(os, "access", lambda path, mode: bool(os.stat(path).st_mode & 0o222))  # as for all but root

    def make(path: Path) -> None:
        with new_file(path):
            pass

    for place in (path, link):
        for write in (check_writable, lambda path: write_file(path, b"new"), make):
            with pytest.raises(CannotWrite, match=r"Cannot write .*: Permission denied\. Choose another place"):
                write(place)
    assert names(tmp_path) == ["file", "link"]
    assert path.read_bytes() == b"old"
    path.chmod(0o644)
    check_writable(path)
    write_file(link, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may change an owner")
def test_a_file_keeps_its_owner_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    path.chmod(0o660)
    for write in (write_file, write_own_file):
        write(path, b"new")
        about = path.stat()
        assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (12345, 54321, 0o660)


@pytest.mark.skipif(not hasattr(os, "chown"), reason="groups are POSIX's")
@pytest.mark.parametrize(
    ("allowed", "before", "after"),
    [((), 0o664, 0o644), ((), 0o660, 0o600), ((), 0o640, 0o600), ((-1,), 0o664, 0o664), ((-1, 12345), 0o664, 0o664)],
)
def test_a_group_that_cannot_be_kept_leaves_its_place_to_one_with_the_rights_of_others(
    allowed: tuple[int, ...], before: int, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, groups = tmp_path / "file", dict[Path, int]()
    lstat, group = Path.lstat, 54321

    def about(path: Path) -> os.stat_result:
        found = list(lstat(path))
        found[stat.ST_UID], found[stat.ST_GID] = (12345, group) if path.name == "file" else (7, groups.get(path, 7))
        return os.stat_result(found)

    def chown(path: Path, owner: int, group: int) -> None:
        if owner not in allowed:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        groups[path] = group

    path.write_bytes(b"old")
    path.chmod(before)
    monkeypatch.setattr(Path, "lstat", about)
    monkeypatch.setattr(os, "chown", chown)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", after)


def test_a_file_that_is_mounted_on_its_own_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    path = tmp_path / "file"
    path.write_bytes(b"a longer text")
    same = path.stat().st_ino
    monkeypatch.setattr(os, "replace", refuse)
    check_writable(path)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino, names(tmp_path)) == (b"new", same, ["file"])

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(CannotWrite, match=r"No space left on device\. It cannot be replaced.*: write it again\.$"):
        write_file(path, b"newer")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="sockets with names are POSIX's")
def test_what_takes_no_bytes_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for write in (check_writable, lambda path: write_file(path, b"x")):
            with pytest.raises(CannotWrite, match="Cannot write socket: it is a disk or a socket, not a file"):
                write(Path("socket"))
    assert (tmp_path / "socket").is_socket()
    os.mkfifo("pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotWrite, match="Cannot write pipe: Permission denied"):
        check_writable(Path("pipe"))


def test_a_file_that_was_not_there_has_the_mode_that_any_other_has(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_file(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("exists", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, call: int, exists: bool) -> None:
    if exists:
        write_file(tmp_path / "file", b"old")
    with failing(call), pytest.raises(TextgenError, match=r"Cannot write .*file"):
        write_file(tmp_path / "file", b"new")
    assert names(tmp_path) == (["file"] if exists else [])
    assert not exists or (tmp_path / "file").read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]
) -> None:
    write_file(tmp_path / "file", b"old")
    with disk_of(1000), pytest.raises(TextgenError, match=r"Cannot write .*file: File too large"):
        write_file(tmp_path / "file", bytes(5000))
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_that_could_not_be_written_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "file")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TextgenError, match=r"Cannot write .*file: there is no folder .*missing\. Make it first\."):
        check_writable(tmp_path / "missing" / "file")

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(TextgenError, match=r"Cannot write .*file: Read-only file system\."):
        check_writable(tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(
        TextgenError,
        match=r"Cannot write .*file: a new file, to replace it, cannot be made in .*: Read-only file system\.",
    ):
        check_writable(tmp_path / "file")


def test_a_name_of_any_length_that_the_disk_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"1. {'A long title ' * 18}"[:243]
    check_writable(path)
    write_file(path, b"a story")
    assert path.read_bytes() == b"a story"


def test_json_is_for_people_too() -> None:
    assert json_bytes({"a": "月"}).decode() == '{\n  "a": "月"\n}\n'
    assert json.loads(json_bytes([1.5, None])) == [1.5, None]


def test_a_file_that_a_library_writes_is_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with new_file(path) as temporary:
        assert (temporary.parent, temporary.suffix, temporary.stat().st_size) == (tmp_path, ".keras", 0)
        temporary.write_text("first")
        assert not path.exists()
    path.chmod(0o600)
    with new_file(path) as temporary:
        temporary.write_text("second")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("second", 0o600)
    with suppress(TextgenError), new_file(path) as temporary:
        temporary.write_text("third")
        raise TextgenError("what was written is wrong")
    assert [found.name for found in tmp_path.iterdir()] == ["model.keras"]
    assert path.read_text() == "second"


def test_an_error_of_closing_is_one_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system, which may say only then that the disk is full."""

    class Closing(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Path, "open", lambda path, mode: Closing())
    with pytest.raises(CannotWrite, match=r"Cannot write .*file: Disk quota exceeded"):
        write_chunks(tmp_path / "file", [b"abc"])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("advice", [WRITING_ADVICE, TMPDIR_ADVICE], ids=["usual", "temporary"])
def test_of_too_many_open_files_nobody_is_told_to_free_space(tmp_path: Path, number: int, advice: Advice) -> None:
    with (
        pytest.raises(CannotWrite, match=r"Too many open files.*\. Close other programs, or allow more open files"),
        filling_cache(),
        writing(tmp_path, advice),
    ):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "Free some space, or set TMPDIR"), (errno.EIO, r"Try again, or set TMPDIR to another folder\.")],
)
def test_only_where_the_disk_is_full_somebody_is_told_to_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(CannotWrite, match=advice), writing(tmp_path, TMPDIR_ADVICE):
        raise OSError(number, os.strerror(number))
    for given in (WRITING_ADVICE, TMPDIR_ADVICE):
        with pytest.raises(CannotWrite, match=advice), temporary_folder() as folder, writing(folder / "file", given):
            raise OSError(number, os.strerror(number))
    advice = advice.replace("TMPDIR", "TEXTGEN_CACHE").replace("some space, ", "some space, delete old encoded text .*")
    with pytest.raises(CannotWrite, match=advice), filling_cache(), writing(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_folder_in_the_place_of_a_file_is_known_before_anything_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "novel.onnx").mkdir()
    (tmp_path / "vocabulary").write_bytes(b"old")
    with pytest.raises(CannotWrite, match=r"Cannot write .*novel\.onnx: it is a folder\. Choose another place"):
        check_writable(tmp_path / "novel.onnx")
    with pytest.raises(CannotWrite, match=r"Cannot write .*novel\.onnx: it is a folder"):
        write_files({tmp_path / "vocabulary": b"new", tmp_path / "novel.onnx": b"network"})
    assert (tmp_path / "vocabulary").read_bytes() == b"old"
    assert names(tmp_path) == ["novel.onnx", "vocabulary"]


@pytest.mark.parametrize("write", [write_file, write_own_file])
def test_a_clean_up_that_fails_neither_hides_an_error_nor_is_one(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    with undeletable():
        write(tmp_path / "file", b"old")
        with failing(1), pytest.raises(CannotWrite, match="No space left on device"):
            write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


# --- Killed processes ----------------------------------------------------------------------------------------

WRITE = """
import sys
from pathlib import Path
from textgen.storage.new_files import new_file
with new_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("of the other process")
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it is not known whether a process runs")
@pytest.mark.parametrize("write", [write_file, write_own_file])
def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_writes_the_file(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    place = tmp_path / "files"
    place.mkdir()
    path = place / "novel.onnx"
    command = [sys.executable, "-c", WRITE, str(path)]
    with child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        left = process.stdout.readline().strip()
        write(path, b"new")
        write(path.with_name("other.onnx"), b"")
        assert names(place) == [left, "novel.onnx", "other.onnx"], "it is written yet"
        process.kill()
        process.wait()
    write(path.with_name("other.onnx"), b"")
    assert names(place) == [left, "novel.onnx", "other.onnx"], "it is that of another file"
    write(path, b"newer")
    assert names(place) == ["novel.onnx", "other.onnx"]
    assert path.read_bytes() == b"newer"


def test_what_another_machine_was_writing_stays_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    with monkeypatch.context() as patch:
        patch.setattr(files, "machine_name", lambda: "another")
        with new_file(path) as temporary:
            left = temporary.name
    others = [".tmp-0123456789abcdef.txt", f"{left[:18]}-mine.txt", "files"]
    for name in (left, *others):
        (tmp_path / name).write_bytes(b"half")
    write_file(path, b"new")
    assert names(tmp_path) == sorted([left, *others, "file.txt"])
    for name in (left, *others):
        os.utime(tmp_path / name, (0, 0))
    write_file(path, b"newer")
    assert names(tmp_path) == sorted([*others, "file.txt"])

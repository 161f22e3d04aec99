"""Locks on folders of a file system without flock."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from disk import undeletable
from processes import child_process

from textgen.saved_model.creation import claimed
from textgen.saved_model.registry import status_of
from textgen.saved_model.removal import remove_model
from textgen.storage import lock_in_folder
from textgen.storage.files import CannotWrite
from textgen.storage.lock_in_folder import LOCK_FILE
from textgen.storage.locks import Gone, InUse, is_locked, locked, locked_in_turn, require_held, wait_until_free
from textgen.storage.manifests import update_folder

fcntl = pytest.importorskip("fcntl")
IMPOSSIBLE = json.dumps(lock_in_folder._holder(os.getpid()) | {"process": 1 << 80})  # number of a process


@pytest.fixture(autouse=True)
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    assert is_locked(tmp_path) is False
    for _ in range(2):
        with locked(tmp_path) as is_held:
            assert is_held
            assert is_locked(tmp_path) is True
            with pytest.raises(InUse, match=rf"another name\. If there is no such process, remove .*/{LOCK_FILE}\."):
                locked(tmp_path).__enter__()
        assert not list(tmp_path.iterdir())


def test_two_runs_do_not_write_the_same_model(tmp_path: Path) -> None:
    folder = tmp_path / "novel"
    with claimed(folder):
        with pytest.raises(InUse):
            claimed(folder).__enter__()
        with pytest.raises(InUse):
            remove_model(folder)
        update_folder(folder, {"config.json": b"{}"})
    assert sorted(os.listdir(folder)) == ["MANIFEST.json", "config.json"]
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "other"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["novel"]


def test_the_lock_goes_with_a_folder_that_is_moved(tmp_path: Path) -> None:
    folder, moved = tmp_path / "folder", tmp_path / "moved"
    folder.mkdir()
    with locked(folder):
        folder.rename(moved)
        folder.mkdir()
        with pytest.raises(Gone):
            update_folder(folder, {"a": b""})
        with pytest.raises(InUse):
            locked(moved).__enter__()
    assert os.listdir(moved) == []
    with locked(moved):
        shutil.rmtree(moved)


@pytest.mark.parametrize("content", ["", "[1]", '{"machine": "another", "process": 1, "started": "1"}', IMPOSSIBLE])
def test_a_lock_of_another_machine_ends_when_nobody_touches_it(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    with pytest.raises(InUse):
        locked(tmp_path).__enter__()
    past = time.time() - lock_in_folder.STALE_SECONDS - 60
    os.utime(tmp_path / LOCK_FILE, (past, past))
    assert is_locked(tmp_path) is False
    with locked(tmp_path) as is_held:
        assert is_held
    assert os.listdir(tmp_path) == []


def test_a_lock_of_a_killed_process_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from textgen.storage import lock_in_folder\n"
        f"lock_in_folder.take(os.open({str(tmp_path)!r}, os.O_RDONLY)); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(InUse):
            locked(tmp_path).__enter__()
        assert status_of(tmp_path, {"status": "running"}) == "running"
        process.kill()
        process.wait()
    assert status_of(tmp_path, {"status": "running"}) == "interrupted"
    with locked(tmp_path) as is_held:
        assert is_held


def test_a_process_that_hides_its_start_holds_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of another user, where /proc is mounted with hidepid."""
    read = Path.read_text

    def hide(path: Path, *others: Any) -> str:
        if path == Path(f"/proc/{os.getpid()}/stat"):
            raise FileNotFoundError
        return read(path, *others)

    with locked(tmp_path):
        monkeypatch.setattr(Path, "read_text", hide)
        with pytest.raises(InUse):
            locked(tmp_path).__enter__()
        assert is_locked(tmp_path) is True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process started")
def test_a_lock_of_an_earlier_process_with_the_same_number_is_stale(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(json.dumps(lock_in_folder._holder(os.getpid()) | {"started": "1"}))
    assert is_locked(tmp_path) is False


def test_a_lock_that_this_user_cannot_read_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(lock_in_folder, "_read", refuse)
    assert is_locked(tmp_path) is None  # the folder cannot be read either
    (tmp_path / LOCK_FILE).touch()
    with pytest.raises(InUse):
        locked(tmp_path).__enter__()
    assert is_locked(tmp_path) is True


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_an_error_and_a_read_only_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    closed, close = list[int](), os.close

    def record(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(lock_in_folder, "take", refuse)
    monkeypatch.setattr("textgen.storage.locks.os.close", record)
    if number == errno.ENOSPC:
        with pytest.raises(CannotWrite, match="No space left on device"):
            locked(tmp_path).__enter__()
    else:
        with locked(tmp_path) as is_held:
            assert not is_held
            assert not closed
    assert len(closed) == 1


def test_a_folder_that_is_removed_while_it_is_locked_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, folder = lock_in_folder.take, tmp_path / "folder"
    folder.mkdir()

    def removed(*how: Any) -> Any:
        folder.rmdir()
        return take(*how)

    monkeypatch.setattr(lock_in_folder, "take", removed)
    with pytest.raises(Gone):
        locked(folder).__enter__()


def test_whoever_holds_a_folder_touches_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_in_folder, "BEAT_SECONDS", 0.001)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK_FILE, (0, 0))
        until = time.monotonic() + 60
        while not (tmp_path / LOCK_FILE).stat().st_mtime and time.monotonic() < until:
            time.sleep(0.001)
        assert (tmp_path / LOCK_FILE).stat().st_mtime


@pytest.mark.parametrize("beat", [0.001, 60.0])
def test_a_lock_that_another_machine_has_taken_over_is_noticed(
    beat: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_in_folder, "BEAT_SECONDS", beat)
    with locked(tmp_path):
        assert require_held(tmp_path / "weights") == tmp_path
        thread = next(thread for thread in threading.enumerate() if thread.name == "textgen-lock")
        (tmp_path / LOCK_FILE).write_text("of another machine")
        if beat < 1:  # noticed although the other process has ended since
            thread.join(60)
            assert not thread.is_alive()
            (tmp_path / LOCK_FILE).unlink()
        for path in (tmp_path, tmp_path / "weights"):
            with pytest.raises(Gone, match=rf"^Another process may have taken over {tmp_path}, .* nothing more is"):
                require_held(path)
        assert (tmp_path / LOCK_FILE).exists() == (beat > 1)
    assert (tmp_path / LOCK_FILE).exists() == (beat > 1)
    if beat < 1:
        with locked(tmp_path):
            assert require_held(tmp_path) == tmp_path


def test_a_lock_file_that_somebody_has_removed_was_not_taken_over_unless_this_process_was_stopped_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another machine may have taken the lock over, and have ended."""
    with locked(tmp_path):
        (tmp_path / LOCK_FILE).unlink()
        assert require_held(tmp_path) == tmp_path
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + lock_in_folder.STALE_SECONDS + 1)
        with pytest.raises(Gone, match=r"^Another process may have taken over"):
            require_held(tmp_path)


def test_a_lock_that_was_replaced_is_not_removed_as_stale(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("new")
    folder = os.open(tmp_path, os.O_RDONLY)
    lock_in_folder._remove_stale(folder, b"old")
    os.close(folder)
    assert (tmp_path / LOCK_FILE).read_text() == "new"


@pytest.mark.parametrize("is_alive", [False, True])
def test_a_lock_of_another_machine_is_waited_for_until_its_process_has_ended(
    is_alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LOCK_FILE).write_text('{"machine": "another", "process": 1, "started": "1"}')
    slept, said = list[float](), list[str]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not is_alive:
            past = time.time() - sum(slept)
            os.utime(tmp_path / LOCK_FILE, (past, past))

    monkeypatch.setattr("textgen.storage.locks.time.monotonic", lambda: sum(slept))
    monkeypatch.setattr("textgen.storage.locks.time.sleep", sleep)
    assert wait_until_free(tmp_path, said.append) is not is_alive
    assert said == [f"Another process is writing to {tmp_path}: waiting for it to end."]
    waited = lock_in_folder.STALE_SECONDS + (lock_in_folder.BEAT_SECONDS if is_alive else 0)
    assert waited <= sum(slept) <= waited + slept[0]


def test_a_folder_that_nobody_holds_needs_no_waiting(tmp_path: Path) -> None:
    assert wait_until_free(tmp_path, pytest.fail)
    assert wait_until_free(tmp_path / "none", pytest.fail)


def test_a_folder_that_is_locked_in_turn_is_locked(tmp_path: Path) -> None:
    with locked_in_turn(tmp_path / "folder", pytest.fail) as is_held:
        assert is_held


def test_a_file_system_with_shared_locks_alone_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert is_locked(tmp_path) is False
    with locked(tmp_path):
        assert is_locked(tmp_path) is True


def test_a_full_disk_is_told_even_if_the_lock_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(file: int, mode: str) -> Full:
        os.close(file)
        return Full()

    folder = os.open(tmp_path, os.O_RDONLY)
    with monkeypatch.context() as patch, undeletable():
        patch.setattr(os, "fdopen", opened)
        with pytest.raises(OSError, match="No space left on device"):
            lock_in_folder.take(folder)
    os.close(folder)


def test_the_time_of_a_file_system_is_known_even_if_its_file_cannot_be_removed(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with undeletable():
        assert abs(lock_in_folder._now(folder) - time.time()) < 60
    os.close(folder)

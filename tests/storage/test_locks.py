"""Locks on folders: held by one alone or by many, and released with the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from textgen.errors import TextgenError
from textgen.storage import locks
from textgen.storage.locks import (
    HAS_FLOCK,
    Gone,
    InUse,
    SharedLock,
    is_locked,
    locked,
    locked_in_turn,
    make_folder,
    require_held,
)


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    for _ in range(2):
        with locked(tmp_path), pytest.raises(TextgenError, match="Another process is writing to"), locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(TextgenError, match="Cannot write"), locked(tmp_path / "missing"):
        pass


def test_whether_a_folder_is_held_can_be_asked_without_holding_it(tmp_path: Path) -> None:
    assert is_locked(tmp_path) is False
    with locked(tmp_path):
        assert is_locked(tmp_path) is True
    assert is_locked(tmp_path) is False
    assert is_locked(tmp_path / "missing") is None


def test_who_asks_whether_a_folder_is_held_never_holds_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    operations, flock = list[int](), fcntl.flock

    def record(descriptor: int, operation: int) -> None:
        operations.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", record)
    assert is_locked(tmp_path) is False
    assert operations == [fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN]


def test_who_asks_whether_a_folder_is_held_makes_no_other_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(locks, "LOCK_SECONDS", 60.0)  # however busy the machine is
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, os.close, [descriptor])
    timer.start()
    with locked(tmp_path) as is_held:
        assert is_held
    timer.join()


def test_a_folder_that_was_moved_away_meanwhile_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    try_lock = locks._try_lock

    def moved(descriptor: int, *others: Any) -> bool:
        (tmp_path / "folder").rename(tmp_path / "other")
        return try_lock(descriptor, *others)

    monkeypatch.setattr(locks, "_try_lock", moved)
    with pytest.raises(TextgenError, match=r"has moved or removed .*folder"), locked(tmp_path / "folder"):
        pass


def test_a_folder_is_held_by_many_and_then_by_nobody_alone(tmp_path: Path) -> None:
    holds = [SharedLock(tmp_path), SharedLock(tmp_path)]
    while holds:
        with pytest.raises(TextgenError, match="Another process"), locked(tmp_path):
            pass
        holds.pop()
    with SharedLock(tmp_path) as hold, pytest.raises(InUse), locked(tmp_path):
        pass
    with locked(tmp_path) as is_held:  # the block has released its lock, though the object is there
        assert is_held
        assert hold
    SharedLock(tmp_path / "missing")


def test_whoever_holds_waits_for_one_who_only_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        stack.enter_context(locked(tmp_path))
        monkeypatch.setattr("textgen.storage.locks.time.sleep", lambda seconds: stack.close())
        hold = SharedLock(tmp_path)
    with pytest.raises(TextgenError, match="Another process"), locked(tmp_path):
        pass
    del hold


def test_who_locks_in_turn_waits_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, naps = list[str](), list[float]()
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.0)
    with ExitStack() as stack:
        stack.enter_context(locked(tmp_path))

        def nap(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                stack.close()

        monkeypatch.setattr("textgen.storage.locks.time.sleep", nap)
        with locked_in_turn(tmp_path, said.append):
            assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    assert said == [f"Another process is writing to {tmp_path}: waiting for it to end."]
    assert len(naps) == 3


def test_who_locks_in_turn_makes_a_folder_again_that_is_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, take, left = tmp_path / "folder", locks._take, [1, 2]

    def removed(path: Path, **how: Any) -> Any:
        if left and left.pop() == 1:
            path.rmdir()  # before it is opened
        elif left:
            taken = take(path, **how)
            path.rmdir()  # after it is opened
            taken[0]()
            raise locks._moved(path)
        return take(path, **how)

    monkeypatch.setattr(locks, "_take", removed)
    with locked_in_turn(folder, pytest.fail):
        assert is_locked(folder)
    assert left == []
    folder.rmdir()
    folder.write_text("a file")
    with pytest.raises(TextgenError, match=r"Cannot write .*folder"), locked_in_turn(folder, pytest.fail):
        pass


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_held_folder_that_is_moved_is_not_made_again(tmp_path: Path, is_replaced: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with locked(folder):
        make_folder(folder / "a" / "b")
        assert require_held(folder / "a" / "b") == folder
        folder.rename(tmp_path / "moved")
        if is_replaced:
            folder.mkdir()
        for check in (require_held, make_folder):
            with pytest.raises(Gone, match=rf"{folder} was moved or removed while"):
                check(folder / "a" / "c")
        assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
            ["moved", "a", "b", *["folder"] * is_replaced]
        )
    assert require_held(folder) is None
    make_folder(folder / "a" / "b")


FORK = """
import errno, fcntl, os, sys
from pathlib import Path
from textgen.storage import locks

def refuse(descriptor, operation):
    raise OSError(errno.ENOSYS, "")

folder, kind, does_unwind = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "unwinds"
if kind == "lock file":
    fcntl.flock = refuse
locks.LOCK_SECONDS = locks.HOLD_SECONDS = 0.0
until, parent = os.pipe()

def fork():
    if os.fork():
        return
    if does_unwind:
        sys.exit()
    os.close(parent)
    os.read(until, 1)  # as long as its parent is there
    os._exit(0)

def is_in_use():
    try:
        with locks.locked(folder):
            return False
    except locks.InUse:
        return True

def assert_held():
    if does_unwind:
        os.wait()
    assert is_in_use()

if kind == "hold":
    hold = locks.SharedLock(folder)
    fork()
    assert_held()
    del hold
else:
    with locks.locked(folder):
        fork()
        assert_held()
        locks.require_held(folder)
assert not is_in_use()
assert not list(folder.iterdir())
"""


@pytest.mark.skipif(not HAS_FLOCK, reason="forks a process")
@pytest.mark.parametrize("child", ["sleeps", "unwinds"])
@pytest.mark.parametrize("kind", ["lock", "lock file", "hold"])
def test_a_folder_is_held_as_long_as_the_process_that_locked_it_wants_whatever_a_forked_child_does(
    kind: str, child: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(tmp_path), kind, child], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""

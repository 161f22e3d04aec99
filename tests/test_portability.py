"""The main job without what only POSIX systems have, and the other ways that are then taken."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import child_process
from repository import ROOT, files_of_the_repository
from runs import TEXT

from textgen.errors import TextgenError
from textgen.storage import file_replacement, lock_files, locks
from textgen.storage.file_reading import read_at
from textgen.storage.files import CannotWrite, write_file
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import sweep_abandoned
from textgen.storage.locks import InUse, SharedLock, is_locked, locked
from textgen.training.distributed.distribution import deadline

MODULES = ("fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "syslog", "termios", "tty")
OS_NAMES = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fork", "forkpty", "geteuid", "getgid",
    "getpgid", "getuid", "killpg", "mkfifo", "posix_fadvise", "pread", "preadv", "pwrite", "sched_getaffinity",
    "setsid", "sysconf", "wait3",
)  # fmt: skip
SIGNAL_NAMES = (
    "SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm", "getitimer", "pthread_kill",
    "pthread_sigmask", "setitimer", "siginterrupt", "sigwait",
)  # fmt: skip
WITHOUT = f"""
import ctypes, importlib.util, os, signal, sys, warnings
import subprocess, tempfile, shutil, random, threading, uuid, multiprocessing, concurrent.futures.thread, asyncio
warnings.filterwarnings("ignore", message="only soft file lock is available")
for name in {MODULES!r}:
    sys.modules[name] = None
for module, names in ((os, {OS_NAMES!r}), (signal, {SIGNAL_NAMES!r})):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from textgen.system.runtime import configure_process
configure_process(threads=1)  # as this process is: see conftest
"""
TRAINING = """
import textgen

settings = dict(tokenizer="char", hidden_units=8, embedding_dim=6, num_layers=1, batch_size=4, sequence_length=16)
textgen.train("songs.txt", name="songs", steps=2, num_validations=1, documents="line", **settings)
result = textgen.train(resume="songs", steps=4, progress=True)
assert result.model.training["progress"]["step"] == 4
text = textgen.load("songs").generate("the", textgen.SamplingConfig(seed=1))[0].text
"""
THE_REST = """
print("RESULT", result.model.fingerprint, ascii(text))
from textgen.cli import textgen as program

def run(*words):
    try:
        program(words, standalone_mode=False)
    except SystemExit as end:
        assert not end.code, end.code

assert result.generator.generate("the", textgen.SamplingConfig(max_tokens=5, seed=1))[0].ids
assert textgen.score("songs", "the moon")[0].total.nats > 0
assert textgen.evaluate("songs", "songs.txt").tokens > 1000
from textgen.storage.locks import is_locked, locked
with locked(result.model.folder):
    assert is_locked(result.model.folder)
run("models", "list")
run("models", "remove", "songs", "--yes")
assert not result.model.folder.exists()
"""


def output_of(code: str, folder: Path) -> str:
    """What a process of its own prints, in a folder with a text, a cache and temporary files of its own."""
    (folder / "temporary").mkdir()
    own = {"TEXTGEN_CACHE": "cache", "TEXTGEN_MODELS": "models", "TMPDIR": "temporary", "PYTHONPATH": os.getcwd()}
    own = {name: str(folder / value) for name, value in own.items()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_main_job_needs_nothing_that_only_posix_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the same weights and the same text as where there is everything."""
    for name in ("posix", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "songs.txt").write_text(TEXT, encoding="utf-8")
    without = output_of(WITHOUT + TRAINING + THE_REST, tmp_path / "other")
    (result,) = [line for line in without.splitlines() if line.startswith("RESULT")]
    monkeypatch.chdir(tmp_path / "posix")
    exec(TRAINING, here := dict[str, Any]())
    assert result == f"RESULT {here['result'].model.fingerprint} {here['text']!a}"
    assert "songs" in without.replace(result, "")
    assert [path for path in (tmp_path / "other" / "temporary").rglob("*") if path.is_file()] == []


# === Locks by files ===


@pytest.fixture
def no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The locks of a system without flock; gives the folder in which lock files are."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(locks, "HAS_FLOCK", False)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder / lock_files.FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_a_folder_is_held_by_one_at_a_time(no_flock: Path, folder: Path) -> None:
    for _ in range(2):
        assert is_locked(folder) is False
        with locked(folder) as is_held:
            assert is_held
            assert is_locked(folder) is True
            with pytest.raises(InUse, match="Another process is writing to"), locked(folder):
                pass
    assert not list(folder.iterdir())
    assert is_locked(folder / "missing") is None
    with pytest.raises(TextgenError, match="Cannot write"), locked(folder / "missing"):
        pass


def test_who_asks_while_another_one_asks_finds_a_free_folder_free(
    no_flock: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lock_files.take(folder, alone=True)
    assert other
    monkeypatch.setattr("textgen.storage.lock_files.time.sleep", lambda seconds: other())
    assert is_locked(folder) is False


def test_many_may_hold_a_folder_that_nobody_then_has_alone(no_flock: Path, folder: Path) -> None:
    holds = [SharedLock(folder), SharedLock(folder)]
    assert is_locked(folder) is False
    while holds:
        with pytest.raises(InUse), locked(folder):
            pass
        holds.pop()
    with locked(folder):
        pass
    assert not list(no_flock.glob("*.*"))


def test_a_lock_goes_with_a_folder_that_is_moved(no_flock: Path, folder: Path) -> None:
    hold = SharedLock(folder)
    moved = folder.rename(folder.with_name("moved"))
    folder.mkdir()
    with locked(folder), pytest.raises(InUse), locked(moved):
        pass
    del hold


def test_a_folder_that_was_moved_away_meanwhile_is_not_held(
    no_flock: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = lock_files.take

    def moved(path: Path, *, alone: bool, seconds: float = 0.0) -> Callable[[], None] | None:
        release = take(path, alone=alone, seconds=seconds)
        path.rename(path.with_name("moved"))
        return release

    monkeypatch.setattr(lock_files, "take", moved)
    with pytest.raises(TextgenError, match=r"has moved or removed .*folder"), locked(folder):
        pass
    assert is_locked(folder.with_name("moved")) is False


def test_whoever_waits_gets_a_folder_that_is_released(
    no_flock: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCK_SECONDS", 60.0)  # however busy the machine is
    release = lock_files.take(folder, alone=False)
    assert release
    timer = threading.Timer(0.05, release)
    timer.start()
    with locked(folder) as is_held:
        assert is_held
    timer.join()


@pytest.mark.parametrize("alone", [True, False])
def test_the_locks_of_a_killed_process_are_released(no_flock: Path, folder: Path, alone: bool) -> None:
    code = (
        "import sys, tempfile; from pathlib import Path; from textgen.storage import lock_files\n"
        f"tempfile.tempdir = {str(no_flock.parent)!r}\n"
        f"release = lock_files.take(Path({str(folder)!r}), alone={alone})\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(InUse), locked(folder):
            pass
        process.kill()
        process.wait()
    with locked(folder) as is_held:
        assert is_held


def test_where_no_lock_file_can_be_written_there_are_no_locks(
    no_flock: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/dev/null")
    with locked(folder) as is_held:
        assert not is_held
    assert is_locked(folder) is None
    os.utime(folder, (0, 0))
    sweep_abandoned([folder])
    assert folder.exists()


def test_new_folders_are_written(no_flock: Path, tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        with new_folder(tmp_path / "new") as temporary:
            (temporary / "a").write_bytes(content)
        assert (tmp_path / "new" / "a").read_bytes() == content


# === Renaming what another program has open ===


def held(monkeypatch: pytest.MonkeyPatch, name: str, times: int, winerror: int | None = 32) -> list[str]:
    """Lets a function of `os` fail some times as on Windows. Gives the list of what it is asked to rename."""
    asked, function = list[str](), getattr(os, name)

    def refusing(source: Path, target: Path) -> None:
        asked.append(Path(source).name)
        if len(asked) <= times:
            error = PermissionError(13, "The process cannot access the file")
            error.winerror = winerror  # type: ignore[attr-defined]
            raise error
        function(source, target)

    monkeypatch.setattr(os, name, refusing)
    return asked


def test_pauses_between_renames_take_one_or_two_seconds_and_only_on_windows() -> None:
    assert not file_replacement.RENAME_PAUSES if os.name != "nt" else 1 < sum(file_replacement.RENAME_PAUSES) < 3


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_file_or_folder_that_another_program_has_open_is_renamed_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winerror: int
) -> None:
    pauses = list[float]()
    monkeypatch.setattr(file_replacement, "RENAME_PAUSES", (0.25, 0.5, 1.0))
    monkeypatch.setattr("textgen.storage.file_replacement.time.sleep", pauses.append)
    asked = held(monkeypatch, "replace", 2, winerror)
    write_file(tmp_path / "file", b"new")
    assert (len(asked), (tmp_path / "file").read_bytes(), pauses) == (3, b"new", [0.25, 0.5])
    asked = held(monkeypatch, "rename", 3, winerror)
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "a").write_bytes(b"1")
    assert (len(asked), (tmp_path / "folder" / "a").read_bytes()) == (4, b"1")


@pytest.mark.parametrize(("pauses", "winerror", "calls"), [((0.0, 0.0), 32, 3), ((0.0, 0.0), None, 1), ((), 32, 1)])
def test_what_stays_refused_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: tuple[float, ...], winerror: int | None, calls: int
) -> None:
    """Without an error of Windows, or elsewhere, at once."""
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(file_replacement, "RENAME_PAUSES", pauses)
    asked = held(monkeypatch, "replace", 9, winerror)
    with pytest.raises(CannotWrite, match="cannot access the file"):
        write_file(tmp_path / "file", b"new")
    assert (len(asked), os.listdir(tmp_path)) == (calls, ["file"])
    assert (tmp_path / "file").read_bytes() == b"old"


def test_everything_is_renamed_by_the_function_that_waits() -> None:
    """Except by descriptors of folders, which Windows does not have."""
    paths = [path for path in files_of_the_repository(ROOT / "textgen") if path.suffix == ".py"]
    found = []
    for path in (path for path in paths if path != Path(file_replacement.__file__)):
        calls = re.findall(r"(?:os\.rename|os\.replace|shutil\.move)\(.*", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(ROOT)}: {call}" for call in calls if "dir_fd=" not in call]
    assert found == []


# === Reading at a place, deadlines ===


def test_files_are_read_at_any_place_by_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 256, 100_000).astype(np.uint8).tobytes()
    (tmp_path / "file").write_bytes(data)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    expected = os.pread(descriptor, 500, 99_900)
    monkeypatch.delattr(os, "pread")
    assert read_at(descriptor, 500, 99_900) == expected == data[99_900:]
    wrong: list[int] = []

    def read(start: int) -> None:
        wrong.extend(at for at in range(start, 90_000, 977) if read_at(descriptor, 1000, at) != data[at : at + 1000])

    threads = [threading.Thread(target=read, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
    assert wrong == []


DEADLINE = """
import signal, time
del signal.setitimer
from textgen.training.distributed.distribution import deadline
with deadline(0.1):
    time.sleep(600)
"""


def test_a_deadline_without_an_alarm_signal_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", DEADLINE], capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Timeout" in done.stderr


@pytest.mark.parametrize("has_alarm", [True, False])
def test_a_deadline_begins_anew_at_each_call_and_is_over_after_its_block(has_alarm: bool) -> None:
    """The timers of the system, which end the process, are started and stopped as often."""
    timers: list[object] = []
    with pytest.MonkeyPatch.context() as patch:  # also pytest sets timers, when a test has failed
        if has_alarm:
            patch.setattr(signal, "setitimer", lambda _, seconds: timers.append(seconds or "stopped"))
        else:
            patch.delattr(signal, "setitimer")
            patch.setattr(faulthandler, "dump_traceback_later", lambda seconds, exit: timers.append(exit and seconds))
            patch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: timers.append("stopped"))
        with deadline(7.0) as restart_timer:
            timers.append("begun")
            restart_timer()
        with suppress(KeyboardInterrupt), deadline(8.0):
            raise KeyboardInterrupt
        with deadline(None) as restart_timer:
            restart_timer()
    assert timers == [7.0, "begun", 7.0, "stopped", 8.0, "stopped"]

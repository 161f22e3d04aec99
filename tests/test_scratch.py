"""What killed processes leave in the cache is swept, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from textgen import scratch
from textgen.scratch import in_use, sweep_abandoned

HOURS_AGO = time.time() - 2 * scratch.YOUNG_SECONDS


def old(folder: Path) -> Path:
    """A folder with something in it that has not changed for hours."""
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "train.bin").write_bytes(b"ids")
    os.utime(folder, (HOURS_AGO, HOURS_AGO))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_old_folders_of_that_name_are_swept(tmp_path: Path) -> None:
    for name in ("epochs-a", "epochs-b", "tokens"):
        old(tmp_path / name)
    (tmp_path / "epochs-new").mkdir()
    sweep_abandoned(tmp_path, "epochs-")
    assert names(tmp_path) == ["epochs-new", "tokens"]
    sweep_abandoned(tmp_path / "nowhere", "epochs-")


def test_what_is_in_use_stays_until_it_is_not(tmp_path: Path) -> None:
    folder = old(tmp_path / "epochs-a")
    with in_use(folder):
        sweep_abandoned(tmp_path, "epochs-")
        assert (folder / "0" / "train.bin").exists()
    sweep_abandoned(tmp_path, "epochs-")
    assert names(tmp_path) == []


def test_what_another_process_uses_stays_until_it_is_killed(tmp_path: Path) -> None:
    folder = old(tmp_path / "epochs-a")
    code = (
        "import sys, pathlib, textgen.scratch\n"
        "with textgen.scratch.in_use(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        sweep_abandoned(tmp_path, "epochs-")
        assert names(tmp_path) == ["epochs-a"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    sweep_abandoned(tmp_path, "epochs-")
    assert names(tmp_path) == []


def test_where_there_are_no_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with in_use(old(tmp_path / "epochs-a")):
        pass
    sweep_abandoned(tmp_path, "epochs-")
    assert names(tmp_path) == ["epochs-a"]

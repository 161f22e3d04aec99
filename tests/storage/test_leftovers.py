"""What killed processes leave is removed, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from disk import names
from processes import child_process

from textgen.errors import TextgenError
from textgen.storage import leftovers
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import folders_named, sweep, sweep_abandoned
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST

HOURS_AGO = time.time() - 2 * leftovers.YOUNG_SECONDS


def old(folder: Path) -> Path:
    """A folder with something in it that has not changed for hours."""
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "train.bin").write_bytes(b"ids")
    os.utime(folder, (HOURS_AGO, HOURS_AGO))
    return folder


def test_only_old_folders_of_that_name_are_swept(tmp_path: Path) -> None:
    for name in ("epochs-a", "epochs-b", "tokens", "my-epochs-a"):
        old(tmp_path / name)
    (tmp_path / "epochs-link").symlink_to("tokens")
    (tmp_path / "epochs-new").mkdir()
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    assert names(tmp_path) == ["epochs-link", "epochs-new", "my-epochs-a", "tokens"]
    sweep_abandoned(folders_named(tmp_path / "nowhere", "epochs-.+"))


def test_what_is_in_use_stays_until_it_is_not(tmp_path: Path) -> None:
    folder = old(tmp_path / "epochs-a")
    with locked(folder):
        sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
        assert (folder / "0" / "train.bin").exists()
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    assert names(tmp_path) == []


def test_what_another_process_uses_stays_until_it_is_killed(tmp_path: Path) -> None:
    folder = old(tmp_path / "epochs-a")
    code = (
        "import sys, pathlib, textgen.storage.locks\n"
        "with textgen.storage.locks.locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
        assert names(tmp_path) == ["epochs-a"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    assert names(tmp_path) == []


def test_where_there_are_no_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(old(tmp_path / "epochs-a")):
        pass
    sweep_abandoned(folders_named(tmp_path, "epochs-.+"))
    with new_folder(tmp_path / "shard") as temporary:
        (temporary / "file").write_bytes(b"half")
        sweep(tmp_path)
        assert (temporary / "file").exists()
    assert names(tmp_path) == ["epochs-a", "shard"]


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123-file").write_bytes(b"half")
    (tmp_path / ".tmp-folder-x").mkdir()
    (tmp_path / ".tmp-folder-x" / "file").write_bytes(b"half")
    (tmp_path / "kept").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"mine")
    (tmp_path / ".tmp-link").symlink_to("elsewhere")
    (tmp_path / ".tmp-old-odd").mkdir()  # not as we name them
    (tmp_path / ".tmp-old-1-put-back").mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", "elsewhere", "kept", "put-back"]
    assert names(tmp_path / "elsewhere") == ["file"]
    sweep(tmp_path / "nowhere")


def test_what_was_moved_aside_stays_if_it_cannot_be_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("busy")

    (tmp_path / ".tmp-old-1-precious").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "rename", refuse)
        sweep(tmp_path)
    assert names(tmp_path) == [".tmp-old-1-precious"]
    sweep(tmp_path)
    assert names(tmp_path) == ["precious"]


def test_sweep_leaves_what_is_being_written(tmp_path: Path) -> None:
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_bytes(b"half")
        sweep(tmp_path)
        sweep(tmp_path, "folder-")
        assert (temporary / "file").exists()
        with pytest.raises(TextgenError, match="Another process is writing to"), locked(temporary):
            pass
    assert names(tmp_path / "folder") == [MANIFEST, "file"]
    with locked(tmp_path / "folder"):
        pass

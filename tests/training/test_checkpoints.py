"""Checkpoints: the newest whole one is found, whatever became of the others."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from disk import unreadable

from textgen.errors import SavedModelError, TextgenError, Unreadable
from textgen.saved_model.creation import claimed
from textgen.saved_model.layout import JSON_BYTES, POSITION, TENSORS
from textgen.storage import folders
from textgen.storage.files import json_bytes
from textgen.storage.locks import Gone
from textgen.storage.manifests import MANIFEST, read_manifest, update_folder
from textgen.storage.system_errors import DISK_ADVICE
from textgen.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint


def checkpoint(step: int) -> Checkpoint:
    rng = np.random.default_rng(step)
    tensors: dict[str, np.ndarray] = {
        "weights/kernel": rng.normal(size=(3, 4)).astype(np.float32),
        "optimizer/0": np.array(step, np.int64),
        "optimizer/1": rng.normal(size=(3, 4)).astype(np.float32).T,  # not contiguous
        "state/000": np.zeros((2, 0), np.float32),
    }
    return Checkpoint(tensors, {"step": step, "best": 1.5, "nothing": None, "text": "月"})


def assert_newest(folder: Path, step: int) -> list[str]:
    """The newest checkpoint is that of `step`; what was said of newer ones."""
    found, skipped = newest_checkpoint(folder)
    expected = checkpoint(step)
    assert found.position == expected.position
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        assert np.array_equal(found.tensors[name], array)
        assert found.tensors[name].dtype == array.dtype
    return skipped


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "deep" / "checkpoints", 5, checkpoint(5))
    assert assert_newest(tmp_path / "deep" / "checkpoints", 5) == []


def test_the_newest_few_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 99, 1000, 123_456_789):
        save_checkpoint(tmp_path, step, checkpoint(step))
        assert assert_newest(tmp_path, step) == []
    assert steps(tmp_path) == ["step-000001000", "step-123456789"]
    save_checkpoint(tmp_path, 123_456_790, checkpoint(3), keep=3)
    assert steps(tmp_path) == ["step-000001000", "step-123456789", "step-123456790"]


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(4))
    save_checkpoint(tmp_path, 5, checkpoint(5))
    assert assert_newest(tmp_path, 5) == []
    assert steps(tmp_path) == ["step-000000005"]


def forget(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": {}}')


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: (folder / TENSORS).unlink(), rf"{TENSORS} is missing"),
    "cut": (lambda folder: (folder / TENSORS).write_bytes(b"x"), rf"{TENSORS} is 1 bytes long, not "),
    "altered": (lambda folder: (folder / POSITION).write_bytes(bytes(58)), rf"{POSITION} "),
    "unfinished": (lambda folder: (folder / MANIFEST).unlink(), "it is incomplete"),
    "unnamed": (forget, f"{MANIFEST} does not name '{TENSORS}'"),
    "emptied": (empty, "it is incomplete"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_one_is_skipped_and_said(tmp_path: Path, kind: str) -> None:
    for step in (5, 10):
        save_checkpoint(tmp_path, step, checkpoint(step))
    damage, words = DAMAGE[kind]
    damage(tmp_path / "step-000000010")
    (message,) = assert_newest(tmp_path, 5)
    assert words in message
    assert "step-000000010" in message
    damage(tmp_path / "step-000000005")
    with pytest.raises(SavedModelError, match=f"There is no checkpoint in {tmp_path} to resume from"):
        newest_checkpoint(tmp_path)
    save_checkpoint(tmp_path, 10, checkpoint(10))
    assert assert_newest(tmp_path, 10) == []


@pytest.mark.parametrize("name", [MANIFEST, TENSORS, POSITION])
def test_one_that_cannot_be_read_for_a_moment_is_neither_skipped_nor_removed(tmp_path: Path, name: str) -> None:
    for step in (5, 10):
        save_checkpoint(tmp_path, step, checkpoint(step))
    older, newest = tmp_path / "step-000000005", tmp_path / "step-000000010"
    advice = f"{DISK_ADVICE} To go on from an earlier checkpoint, remove {newest}."
    with unreadable(newest), pytest.raises(Unreadable) as caught:
        newest_checkpoint(tmp_path)
    assert str(caught.value) == f"Cannot read {newest / MANIFEST}: Input/output error. {advice}"
    with unreadable(newest / name), pytest.raises(Unreadable, match=re.escape(advice)):
        newest_checkpoint(tmp_path)
    assert steps(tmp_path) == [older.name, newest.name]
    with unreadable(newest / name):
        save_checkpoint(tmp_path, 15, checkpoint(15))
    assert steps(tmp_path) == [newest.name, "step-000000015"], "it may be the newest intact one"
    with unreadable(newest / name), pytest.raises(Unreadable, match=re.escape(DISK_ADVICE)):
        newest_checkpoint(tmp_path, before=15)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> list[str]:
        raise OSError(errno.ESTALE, "Stale file handle")

    save_checkpoint(tmp_path, 5, checkpoint(5))
    monkeypatch.setattr("textgen.training.checkpoints.os.listdir", fails)
    with pytest.raises(Unreadable, match=f"Cannot read {tmp_path}: Stale file handle"):
        newest_checkpoint(tmp_path)


def test_there_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SavedModelError, match=r"There is no checkpoint in .* to resume from"):
            newest_checkpoint(folder)


@pytest.mark.parametrize("function", ["write_through", "sync_file", "replace_folder"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_crash_while_saving_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: type[BaseException]
) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))

    def crash(*arguments: object) -> None:
        raise error("no")

    monkeypatch.setattr(folders, function, crash)
    with pytest.raises((KeyboardInterrupt, TextgenError)):
        save_checkpoint(tmp_path, 10, checkpoint(10))
    assert assert_newest(tmp_path, 5) == []
    assert steps(tmp_path) == ["step-000000005"]


def test_what_a_killed_process_left_is_ignored_and_swept(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))
    shutil.copytree(tmp_path / "step-000000005", tmp_path / ".tmp-step-000000010-x")
    (tmp_path / ".tmp-step-000000010-x" / MANIFEST).unlink()
    assert assert_newest(tmp_path, 5) == []
    assert steps(tmp_path) == ["step-000000005"]
    save_checkpoint(tmp_path, 10, checkpoint(10))
    assert steps(tmp_path) == ["step-000000005", "step-000000010"]


def harmed(data: bytes, lot: random.Random) -> bytes:
    """With one bit turned over, or cut short."""
    if lot.random() < 0.2:
        return data[: lot.randrange(len(data))]
    place = lot.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << lot.randrange(8)]) + data[place + 1 :]


@pytest.mark.parametrize("name", [TENSORS, POSITION, MANIFEST])
def test_a_bit_that_has_turned_over_and_a_file_cut_short_bring_back_the_one_before(tmp_path: Path, name: str) -> None:
    """Unless it is white space in a manifest: then nothing is lost."""
    for step in (5, 10):
        save_checkpoint(tmp_path, step, checkpoint(step))
    path, lot, harmless = tmp_path / "step-000000010" / name, random.Random(name), 0
    sound = path.read_bytes()
    for _ in range(150):
        path.write_bytes(harmed(sound, lot))
        found, skipped = newest_checkpoint(tmp_path)
        if name == MANIFEST and not skipped:
            assert found.position == checkpoint(10).position
            harmless += 1
            continue
        assert found.position == checkpoint(5).position
        (line,) = skipped
        assert "step-000000010" in line
        assert "\n" not in line
    assert harmless < 50


# === At every file operation ===

HARNESS = """
import builtins, errno, io, os, pathlib, shutil, signal, sys, warnings
import numpy as np
from textgen.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from textgen.errors import TextgenError
from textgen.storage import files, folders, manifests

warnings.simplefilter("ignore")
folder, new_step, keep, what = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"}
at, seen = None, 0

def checkpoint(step):
    return Checkpoint({"weights/a": np.full(5000, step, np.float32)}, {"step": step})

def operation(name):
    global seen
    if at is None:
        return
    seen += 1
    if seen == at + 1:
        if what == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, what)
        raise OSError(number, os.strerror(number))

def hook(event, arguments):
    if event in WATCHED and str(folder) in str(arguments[0]):
        operation(event)

def write_in_parts(self, data):
    with self.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        operation("write")
        file.write(data[len(data) // 2 :])

def write_through(path, data, mode=0o666):
    write_in_parts(path, data)
    with path.open("rb+") as file:
        os.fsync(file.fileno())

def counted_fsync(descriptor):  # and does nothing: a process that is killed leaves what it has written
    operation("fsync")

os.fsync, pathlib.Path.write_bytes = counted_fsync, write_in_parts
files.write_through = folders.write_through = manifests.write_through = write_through
sys.addaudithook(hook)

def state():
    found, _ = newest_checkpoint(folder)
    step = found.position["step"]
    assert (found.tensors["weights/a"] == step).all()
    return step

results = []
for number in range(1000):
    for old in folder.glob("*"):
        shutil.rmtree(old)
    for step in (5, 10):
        save_checkpoint(folder, step, checkpoint(step), keep=keep)
    child = os.fork()
    if not child:
        at, failed = number, 0
        try:
            save_checkpoint(folder, new_step, checkpoint(20), keep=keep)
        except TextgenError as error:
            failed = 1 if "Cannot write" in str(error) else 9
        os._exit(failed if seen > number else 2)
    _, status = os.waitpid(child, 0)
    results.append(state())
    assert os.waitstatus_to_exitcode(status) != 9
    if os.waitstatus_to_exitcode(status) == 2:
        break
    if what != "SIGKILL":  # the disk is well again
        save_checkpoint(folder, new_step, checkpoint(20), keep=keep)
        assert state() == 20
print(*results)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each operation")
@pytest.mark.parametrize(
    ("what", "step", "keep"),
    [
        pytest.param(what, step, keep, marks=() if what == "SIGKILL" or keep == 2 else pytest.mark.slow)
        for what in ("SIGKILL", "ENOSPC", "EIO", "EACCES")
        for step, keep in ((20, 2), (20, 1), (10, 1))
    ],
)
def test_whatever_operation_is_the_last_the_old_or_the_new_checkpoint_is_there(
    tmp_path: Path, what: str, step: int, keep: int
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, str(folder), str(step), str(keep), what],
        capture_output=True, text=True, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [int(word) for word in done.stdout.split()]
    assert len(found) > 15  # operations
    assert set(found) == {10, 20}
    assert found[-1] == 20
    assert what != "SIGKILL" or found == sorted(found), "once new, new it stays"


def test_a_full_disk_is_one_clear_line(tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))
    big = Checkpoint({"weights": np.zeros(5000, np.float32)}, {})
    with disk_of(2000), pytest.raises(TextgenError, match=r"Cannot write .*step-000000010: .*File too large") as caught:
        save_checkpoint(tmp_path, 10, big)
    assert "\n" not in str(caught.value)
    assert assert_newest(tmp_path, 5) == []
    assert steps(tmp_path) == ["step-000000005"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TextgenError, match=r"Cannot write .*step-000000001: Not a directory"):
        save_checkpoint(tmp_path / "file" / "checkpoints", 1, checkpoint(1))


# === Which are kept ===


def damage_tensors(folder: Path, step: int) -> None:
    path = folder / f"step-{step:09d}" / TENSORS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("sound", "damaged", "saved", "keep", "left"),
    [
        ([100], [200], [150], 1, [150]),
        ([100], [200], [150], 2, [100, 150]),
        ([100], [200], [150, 160, 170], 2, [160, 170]),
        ([100], [150, 200], [160], 2, [100, 160]),
        ([50, 100], [60, 200], [150], 3, [50, 100, 150]),
        ([100], [200], [200], 1, [200]),
        ([], [100, 200], [50], 5, [50]),
    ],
)
def test_a_damaged_checkpoint_never_takes_the_place_of_a_sound_one(
    tmp_path: Path, sound: list[int], damaged: list[int], saved: list[int], keep: int, left: list[int]
) -> None:
    for step in sorted(sound + damaged):
        save_checkpoint(tmp_path, step, checkpoint(step), keep=9)
    for step in damaged:
        damage_tensors(tmp_path, step)
    for step in saved:
        save_checkpoint(tmp_path, step, checkpoint(step), keep=keep)
        assert_newest(tmp_path, step)
    assert steps(tmp_path) == [f"step-{step:09d}" for step in left]


def test_other_folders_are_let_be(tmp_path: Path) -> None:
    for name in ("step-abc", "step-", "step-1x", "steps"):
        (tmp_path / name).mkdir()
    save_checkpoint(tmp_path, 1, checkpoint(1), keep=1)
    save_checkpoint(tmp_path, 2, checkpoint(2), keep=1)
    assert steps(tmp_path) == ["step-", "step-000000002", "step-1x", "step-abc", "steps"]


# === What came from elsewhere ===


@pytest.mark.parametrize("place", ["", "step-000000010", f"step-000000010/{TENSORS}", f"step-000000010/{POSITION}"])
def test_no_link_is_followed(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "checkpoints"
    save_checkpoint(folder, 10, checkpoint(10))
    elsewhere = (folder / place).rename(tmp_path / "elsewhere")
    (folder / place).symlink_to(elsewhere)
    with pytest.raises(SavedModelError, match="is a link"):
        newest_checkpoint(folder)


HEADERS = [
    '{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}',
    '{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}',
    '{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}',
    '{"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}}',
    '{"a":5}', "[]", "{", "",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_odd_tensors_that_the_manifest_agrees_with_are_damage(tmp_path: Path, header: str) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))
    save_checkpoint(tmp_path, 10, checkpoint(10))
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(4)
    update_folder(tmp_path / "step-000000010", {TENSORS: data})
    (message,) = assert_newest(tmp_path, 5)
    assert f"{TENSORS} is damaged" in message


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "\xff", "[" * 100_000, '{"step": 1' + "0" * 5000 + "}"])
def test_an_odd_position_that_the_manifest_agrees_with_is_damage(tmp_path: Path, text: str) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))
    save_checkpoint(tmp_path, 10, checkpoint(10))
    update_folder(tmp_path / "step-000000010", {POSITION: text.encode("latin-1")})
    (message,) = assert_newest(tmp_path, 5)
    assert POSITION in message
    assert "\n" not in message


def test_no_checksum_of_a_position_beyond_its_limit_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))
    folder = tmp_path / "step-000000005"
    os.truncate(folder / POSITION, JSON_BYTES + 1)
    files = read_manifest(folder)["files"] | {POSITION: {"size": JSON_BYTES + 1, "sha256": "0" * 64}}
    (folder / MANIFEST).write_bytes(json_bytes({"files": files}))
    with pytest.raises(TextgenError, match=rf"{POSITION}: it has more than 33,554,432 bytes, the limit"):
        newest_checkpoint(tmp_path)


def test_a_run_whose_folder_was_replaced_leaves_the_other_run_alone(tmp_path: Path) -> None:
    """Somebody renames the folder, and another run begins under its name."""
    folder, other = tmp_path / "novel", tmp_path / "other"
    for step in (900, 1000):
        save_checkpoint(other / "checkpoints", step, checkpoint(step))
    with claimed(folder):
        save_checkpoint(folder / "checkpoints", 40, checkpoint(40))
        folder.rename(tmp_path / "novel-old")
        for is_replaced in (False, True):
            if is_replaced:
                other.rename(folder)
            with pytest.raises(Gone, match="novel was moved or removed"):
                save_checkpoint(folder / "checkpoints", 50, checkpoint(50))
            with pytest.raises(Gone, match="novel was moved or removed"):
                newest_checkpoint(folder / "checkpoints")
            assert folder.exists() == is_replaced
    assert steps(folder / "checkpoints") == ["step-000000900", "step-000001000"]
    assert steps(tmp_path / "novel-old" / "checkpoints") == ["step-000000040"]

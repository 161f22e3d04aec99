"""Checkpoints: the newest whole one is found, whatever became of the others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from textgen import storage
from textgen.checkpoints import POSITION, TENSORS, Checkpoint, newest_checkpoint, save_checkpoint
from textgen.errors import SavedModelError, TextgenError
from textgen.storage import MANIFEST


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
    "unfinished": (lambda folder: (folder / MANIFEST).unlink(), "was not written to its end"),
    "unnamed": (forget, f"{MANIFEST} does not name '{TENSORS}'"),
    "emptied": (empty, "was not written to its end"),
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


def test_there_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SavedModelError, match=r"There is no checkpoint in .* to resume from"):
            newest_checkpoint(folder)


@pytest.mark.parametrize("function", ["_write_through", "_sync_file", "_rename_folder"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_crash_while_saving_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: type[BaseException]
) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))

    def crash(*arguments: object) -> None:
        raise error("no")

    monkeypatch.setattr(storage, function, crash)
    with pytest.raises((KeyboardInterrupt, TextgenError)):
        save_checkpoint(tmp_path, 10, checkpoint(10))
    assert assert_newest(tmp_path, 5) == []
    assert steps(tmp_path) == ["step-000000005"]


def test_what_a_killed_process_left_is_ignored_and_swept(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, checkpoint(5))
    shutil.copytree(tmp_path / "step-000000005", tmp_path / ".tmp-step-000000010-x")
    assert assert_newest(tmp_path, 5) == []
    save_checkpoint(tmp_path, 10, checkpoint(10))
    assert steps(tmp_path) == ["step-000000005", "step-000000010"]


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

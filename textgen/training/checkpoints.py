"""Checkpoints: weights, optimizer, averages, carried recurrent state and position, to resume a run from.

Each checkpoint is a folder that is complete or absent. The one before it stays until the next is complete.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from textgen.errors import SavedModelError, TrainingError, Unreadable
from textgen.saved_model.arrays import LIBRARY_ERRORS, write_arrays
from textgen.saved_model.layout import JSON_BYTES, POSITION, STEP, TENSORS, read_json
from textgen.storage.files import json_bytes, writing
from textgen.storage.folders import new_folder
from textgen.storage.leftovers import ASIDE, sweep
from textgen.storage.locks import require_held
from textgen.storage.manifests import MANIFEST, read_manifest, verified
from textgen.storage.system_errors import cannot_read

SAVING_FRACTION = 0.05  # largest fraction of training time for checkpoints at validations
WEIGHTS = "weights/"  # prefix of the names of weights among the tensors


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The contents of a checkpoint.

    Attributes:
        tensors: Arrays by name, such as `weights/lstm_0/kernel`.
        position: Values of `textgen.training.position.Position`, ready for JSON.
    """

    tensors: dict[str, np.ndarray]
    position: dict[str, Any]


class CheckpointTimer:
    """Tells when a checkpoint is due, by the seconds of training.

    Example:
        >>> timer = CheckpointTimer(minutes=10)
        >>> timer.restart(30.0, cost=2.0)
        >>> timer.is_due(600.0), timer.is_due(630.0)
        (False, True)
        >>> timer.is_worth_it(60.0), timer.is_worth_it(70.0)
        (False, True)
    """

    def __init__(self, minutes: float) -> None:
        """Makes a timer: a checkpoint is due at once, and then every `minutes`."""
        self._seconds = 60 * minutes
        self._saved_at = -math.inf
        self._cost = 0.0

    def is_due(self, seconds: float) -> bool:
        """Whether a checkpoint is due after `seconds` seconds of training."""
        return seconds - self._saved_at >= self._seconds

    def is_worth_it(self, seconds: float) -> bool:
        """Whether saving takes at most `SAVING_FRACTION` of the time since it was last done, or is due anyway."""
        return self.is_due(seconds) or self._cost <= SAVING_FRACTION * (seconds - self._saved_at)

    def restart(self, seconds: float, cost: float | None = None) -> None:
        """Notes that a checkpoint has been written, and in how many seconds, if that is known."""
        self._saved_at = seconds
        self._cost = self._cost if cost is None else cost


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int = 2) -> None:
    """Writes a checkpoint and removes all but the newest intact ones.

    Checkpoints of later steps are removed too: the run has returned to an earlier one because they were damaged.

    Args:
        folder: Folder of all checkpoints of the run.
        step: Updates of the weights so far.
        checkpoint: What to write.
        keep: Checkpoints to keep, this one included.

    Raises:
        Gone: The folder of the run, which this process holds, was moved, removed or taken over.
        TextgenError: It cannot be written. Earlier checkpoints are then untouched.
    """
    require_held(folder)  # before anything is removed: the folder may be that of another run by now
    sweep(folder)
    path = _path(folder, step)
    with new_folder(path) as temporary, writing(path):
        write_arrays(temporary / TENSORS, checkpoint.tensors)
        (temporary / POSITION).write_bytes(json_bytes(checkpoint.position))
    require_held(folder)
    for old in _superfluous(folder, step, keep):
        shutil.rmtree(old, ignore_errors=True)


def check_room(folder: Path, tensors: Mapping[str, np.ndarray], keep: int) -> None:
    """Checks that the disk has room for the files of a run.

    They are `keep` checkpoints, one more while it is written, and the saved model, which is rewritten beside the old
    one.

    Args:
        folder: Folder of the checkpoints; it need not exist.
        tensors: Arrays of a checkpoint.
        keep: Checkpoints to keep.

    Raises:
        TrainingError: There is too little room.
    """
    each = sum(array.nbytes for array in tensors.values())
    weights = sum(array.nbytes for name, array in tensors.items() if name.startswith(WEIGHTS))
    there = next(path for path in (folder, *folder.parents) if path.exists())
    held = sum(path.stat().st_size for path in folder.glob("step-*/*"))
    needed, free = (keep + 1) * each + 2 * weights - held, shutil.disk_usage(there).free
    if free < needed:
        raise TrainingError(
            f"The run needs {needed / 1e6:,.0f} MB for its checkpoints, and {there} has {free / 1e6:,.0f} MB free: "
            "make room, choose another folder, or keep fewer checkpoints."
        )


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint that `newest_checkpoint` would look at, be it damaged or moved aside.

    Unlike `textgen.saved_model.folder_contents.has_steps`, which guards what must not be lost, it passes over folders
    that were never complete.

    Args:
        folder: Folder of all checkpoints of a run.

    Raises:
        SavedModelError: The folder is a link or cannot be read.
    """
    return any(os.path.lexists(path / MANIFEST) for path in (*_checkpoints(folder), *folder.glob(f"{ASIDE}*-step-*")))


def newest_checkpoint(folder: Path, before: float = math.inf) -> tuple[Checkpoint, list[str]]:
    """Reads the newest intact checkpoint.

    Removes leftovers of interrupted writes first, so no other process may be writing to the folder.

    Args:
        folder: Folder of all checkpoints of a run.
        before: Step before which it was written.

    Returns:
        The checkpoint, and a line for each newer one that is damaged.

    Raises:
        Unreadable: A checkpoint that may be intact cannot be read. None is then taken, nor removed.
        SavedModelError: There is no intact checkpoint.
        Gone: The folder of the run, which this process holds, was moved, removed or taken over.
    """
    require_held(folder)
    sweep(folder)
    skipped: list[str] = []
    earlier = [path for path in _checkpoints(folder) if _step(path) < before]
    while earlier:
        path = earlier.pop()
        try:
            return _read(path), skipped
        except Unreadable as error:
            if not earlier:
                raise
            advice = f"{error.advice} To go on from an earlier checkpoint, remove {path}."
            raise Unreadable(error.path, error.reason, advice) from None
        except SavedModelError as error:
            skipped.append(str(error))
    if skipped:
        raise SavedModelError(
            f"There is no checkpoint in {folder} to resume from: all of them are damaged ({skipped[0].rstrip('.')}). "
            "Copy the whole folder again, or remove it and train again."
        )
    raise SavedModelError(f"There is no checkpoint in {folder} to resume from: train again without resuming.")


def weights_by_step(folder: Path) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Reads the weights of all intact checkpoints, by rising step. Changes nothing in the folder.

    Args:
        folder: Folder of all checkpoints of a run; it need not exist.

    Yields:
        The step, and the weights by name.
    """
    for path in _checkpoints(folder):
        try:
            tensors = _read(path).tensors
        except SavedModelError:
            continue
        weights = {name.removeprefix(WEIGHTS): array for name, array in tensors.items() if name.startswith(WEIGHTS)}
        yield _step(path), weights


def _checkpoints(folder: Path) -> list[Path]:
    """The folders of all checkpoints by rising step. Links are not followed. Raises `SavedModelError`."""
    if folder.is_symlink():
        raise SavedModelError(f"{folder} is a link, and links in model folders are not followed.")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot_read(folder, error) from None
    found = {int(match[1]): folder / name for name in names if (match := re.fullmatch(STEP, name))}
    return [found[step] for step in sorted(found)]


def _superfluous(folder: Path, step: int, keep: int) -> list[Path]:
    """All checkpoints except the one just written and the newest ones before it that may be intact, `keep` in total."""
    *before, _ = [path for path in _checkpoints(folder) if _step(path) <= step]
    kept = [_path(folder, step)]
    for path in reversed(before):
        if len(kept) < keep and _is_sound(path):
            kept.append(path)
    return [path for path in _checkpoints(folder) if path not in kept]


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _files(path: Path) -> tuple[Path, Path]:
    """The files of a checkpoint, verified. Raises `SavedModelError`."""
    if path.is_symlink():
        raise SavedModelError(f"{path} is a link, and links in model folders are not followed.")
    entries = read_manifest(path)["files"]
    for name in (TENSORS, POSITION):
        if name not in entries:
            raise SavedModelError(f"{path / MANIFEST} does not name '{name}'.")
    return verified(path, TENSORS, entries[TENSORS]), verified(path, POSITION, entries[POSITION], JSON_BYTES)


def _is_sound(path: Path) -> bool:
    """Whether a checkpoint is intact, or may be as far as it can be read."""
    try:
        _files(path)
    except Unreadable:
        return True
    except SavedModelError:
        return False
    return True


def _read(path: Path) -> Checkpoint:
    tensors, position = _files(path)
    try:
        arrays = load_file(tensors)
    except LIBRARY_ERRORS as error:
        raise SavedModelError(f"{tensors} is damaged: {error}.") from None
    if odd := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:  # such as bfloat16
        raise SavedModelError(f"{tensors} is damaged: {', '.join(odd)} of a type that is not allowed in a checkpoint.")
    return Checkpoint(arrays, read_json(position))

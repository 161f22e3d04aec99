"""What resuming needs: weights, optimizer, carried recurrent state and position.

Each checkpoint is a folder that is whole or absent; the one before stays until the next is complete.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from textgen.errors import SavedModelError, TrainingError
from textgen.saved_model.arrays import LIBRARY_ERRORS, in_c_order
from textgen.saved_model.layout import read_json
from textgen.storage import MANIFEST, json_bytes, new_folder, read_manifest, sweep, verified, writing

TENSORS, POSITION = "tensors.safetensors", "position.json"
STEP = "step-([0-9]{1,18})"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and where the run stands as plain values."""

    tensors: dict[str, np.ndarray]
    position: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int = 2) -> None:
    """Writes the checkpoint of a step and drops all but the newest `keep` that are sound.

    Those of later steps belong to a past that did not last: a run goes back only over damaged ones.
    Raises `TextgenError` where the disk does not take it; the ones before are then untouched.
    """
    sweep(folder)
    path = _path(folder, step)
    with new_folder(path) as temporary, writing(path):
        (temporary / TENSORS).write_bytes(save(in_c_order(checkpoint.tensors)))
        (temporary / POSITION).write_bytes(json_bytes(checkpoint.position))
    for old in _superfluous(folder, step, keep):
        shutil.rmtree(old, ignore_errors=True)


def check_room(folder: Path, tensors: Mapping[str, np.ndarray], keep: int) -> None:
    """Raises `TrainingError` if the disk has no room for the checkpoints that a run will need.

    They are `keep` of them, one more while it is written, and the saved model, which is written anew beside the old.
    """
    each = sum(array.nbytes for array in tensors.values())
    weights = sum(array.nbytes for name, array in tensors.items() if name.startswith("weights/"))
    there = next(path for path in (folder, *folder.parents) if path.exists())
    held = sum(path.stat().st_size for path in folder.glob("step-*/*"))
    needed, free = (keep + 1) * each + 2 * weights - held, shutil.disk_usage(there).free
    if free < needed:
        raise TrainingError(
            f"The run needs {needed / 1e6:,.0f} MB for its checkpoints, and {there} has {free / 1e6:,.0f} MB free: "
            "make room, choose another folder, or keep fewer checkpoints."
        )


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can try to go on from what is there; that it is sound, `newest_checkpoint` finds out."""
    return any(os.path.lexists(path / MANIFEST) for path in _checkpoints(folder))


def newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that verifies, and what is wrong with newer ones that do not.

    Sweeps the folder first, so nobody may be writing to it.
    Raises `SavedModelError` where there is none.
    """
    sweep(folder)
    skipped: list[str] = []
    for path in reversed(_checkpoints(folder)):
        try:
            return _read(path), skipped
        except SavedModelError as error:
            skipped.append(str(error))
    if skipped:
        raise SavedModelError(
            f"There is no checkpoint in {folder} to resume from: all of them are damaged ({skipped[0].rstrip('.')}). "
            "Copy the whole folder again, or remove it and train again."
        )
    raise SavedModelError(f"There is no checkpoint in {folder} to resume from: train again without resuming.")


def _checkpoints(folder: Path) -> list[Path]:
    """The folders of all checkpoints, in the order of their steps; nothing is found behind a link."""
    if folder.is_symlink():
        raise SavedModelError(f"{folder} is a link, and no link in the folder of a model is followed.")
    found = {int(match[1]): path for path in folder.glob("step-*") if (match := re.fullmatch(STEP, path.name))}
    return [found[step] for step in sorted(found)]


def _superfluous(folder: Path, step: int, keep: int) -> list[Path]:
    """Every checkpoint but that of `step`, just written, and the newest sound ones before it, `keep` together."""
    *before, _ = [path for path in _checkpoints(folder) if int(path.name.removeprefix("step-")) <= step]
    kept = [_path(folder, step)]
    for path in reversed(before):
        if len(kept) < keep and _is_sound(path):
            kept.append(path)
    return [path for path in _checkpoints(folder) if path not in kept]


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def _files(path: Path) -> tuple[Path, Path]:
    """Where tensors and position of a checkpoint are, once they verify. Raises `SavedModelError`."""
    if path.is_symlink():
        raise SavedModelError(f"{path} is a link, and no link in the folder of a model is followed.")
    entries = read_manifest(path)["files"]
    for name in (TENSORS, POSITION):
        if name not in entries:
            raise SavedModelError(f"{path / MANIFEST} does not name '{name}'.")
    return verified(path, TENSORS, entries[TENSORS]), verified(path, POSITION, entries[POSITION])


def _is_sound(path: Path) -> bool:
    try:
        _files(path)
    except SavedModelError:
        return False
    return True


def _read(path: Path) -> Checkpoint:
    tensors, position = _files(path)
    try:
        arrays = load_file(tensors)
    except LIBRARY_ERRORS as error:
        raise SavedModelError(f"{tensors} is damaged: {error}.") from None
    return Checkpoint(arrays, read_json(position))

"""What resuming needs: weights, optimizer, carried recurrent state and position.

Each checkpoint is a folder that is whole or absent; the one before stays until the next is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from textgen.errors import SavedModelError, TrainingError
from textgen.saved_model import in_c_order
from textgen.storage import MANIFEST, json_bytes, new_folder, read_manifest, sweep, verified, writing

TENSORS, POSITION = "tensors.safetensors", "position.json"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and where the run stands as plain values."""

    tensors: dict[str, np.ndarray]
    position: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint, keep: int = 2) -> None:
    """Writes the checkpoint of a step and drops all but the newest `keep`.

    Raises `TextgenError` where the disk does not take it; the ones before are then untouched.
    """
    sweep(folder)
    path = folder / f"step-{step:09d}"
    with new_folder(path) as temporary, writing(path):
        (temporary / TENSORS).write_bytes(save(in_c_order(checkpoint.tensors)))
        (temporary / POSITION).write_bytes(json_bytes(checkpoint.position))
    for old in sorted(folder.glob("step-*"))[:-keep]:
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


def newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that verifies, and what is wrong with newer ones that do not.

    Sweeps the folder first, so nobody may be writing to it.
    Raises `SavedModelError` where there is none.
    """
    sweep(folder)
    skipped: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            entries = read_manifest(path)["files"]
            tensors, position = (verified(path, name, entries[name]) for name in (TENSORS, POSITION))
            return Checkpoint(load_file(tensors), json.loads(position.read_text(encoding="utf-8"))), skipped
        except SavedModelError as error:
            skipped.append(str(error))
        except KeyError as error:
            skipped.append(f"{path / MANIFEST} does not name {error}.")
    raise SavedModelError(f"There is no checkpoint in {folder} to resume from: train without resuming.")

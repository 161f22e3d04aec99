"""What resuming needs: weights, optimizer, carried recurrent state and position.

Each checkpoint is a folder that is whole or absent; the one before stays until the next is complete.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from textgen.errors import SavedModelError
from textgen.saved_model import in_c_order
from textgen.storage import MANIFEST, new_folder, read_manifest, sweep, verified

TENSORS, POSITION = "tensors.safetensors", "position.json"
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and where the run stands as plain values."""

    tensors: dict[str, np.ndarray]
    position: dict[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint of a step and drops all but the newest few."""
    sweep(folder)
    with new_folder(folder / f"step-{step:09d}") as temporary:
        try:
            save_file(in_c_order(checkpoint.tensors), temporary / TENSORS)
        except SafetensorError as error:  # a full disk, say
            raise OSError(str(error)) from None
        (temporary / POSITION).write_text(json.dumps(checkpoint.position), encoding="utf-8")
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that verifies, and what is wrong with newer ones that do not.

    Raises `SavedModelError` where there is none.
    """
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

"""What is in a folder: a model, a training without a model, or something else."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from textgen.errors import SavedModelError, Unreadable
from textgen.saved_model.layout import (
    CARD,
    CHECKPOINTS,
    CONFIG,
    EMBEDDING_FILE,
    LOGS,
    NGRAMS,
    PIECES_FILE,
    POSITION,
    PROJECTOR_FILE,
    STEP,
    TENSORS,
    TRAINING,
    WEIGHTS,
    WORDS,
)
from textgen.storage.files import TEMPORARY
from textgen.storage.leftovers import ASIDE
from textgen.storage.lock_in_folder import LOCK_FILE
from textgen.storage.manifests import MANIFEST, PENDING, read_manifest
from textgen.storage.names import is_from_desktop
from textgen.storage.system_errors import DISK_ERRORS
from textgen.tokenizer.model_file import MODEL_FILE

OWN_FILES = (CONFIG, MODEL_FILE, WEIGHTS, NGRAMS, WORDS, MANIFEST, TRAINING, CARD)
"""The files that textgen writes to a model folder."""
OWN_NAMES = (*OWN_FILES, LOGS, CHECKPOINTS)
"""Everything textgen writes to a model folder."""
STEP_FILES = (TENSORS, POSITION, MANIFEST)
EVENTS = ("events.out.tfevents.", "keras_embedding.ckpt-")  # how files begin that TensorBoard and its callback write
LOG_FILES = (PIECES_FILE, EMBEDDING_FILE, PROJECTOR_FILE)
PROFILES = ("plugins", "profile")  # the folders that hold a folder for each profile of a run


def is_model(path: Path) -> bool:
    """Checks whether a folder holds a saved model; the content of its files is not checked.

    A manifest alone does not make a model: exports and prepared corpora have one, too.

    Args:
        path: The folder.
    """
    own = (f"{name}{suffix}" for name in (CONFIG, WEIGHTS) for suffix in ("", PENDING))
    return has_file(path, MANIFEST) and any(has_file(path, name) for name in own)


def is_run(path: Path) -> bool:
    """Checks for a model or a training: an imported model lacks training.json, a new training the files of a model."""
    return is_model(path) or has_file(path, TRAINING)


def has_steps(folder: Path) -> bool:
    """Checks whether a run left checkpoints in the folder, as far as the disk tells; their content is not checked.

    One that a killed run had moved aside, to replace it, counts: `textgen.storage.leftovers.sweep` restores it.
    """
    try:
        names = os.listdir(folder / CHECKPOINTS)
    except OSError as error:
        return error.errno in DISK_ERRORS  # there may be some, which must not be lost
    return any(re.match(f"({re.escape(ASIDE)}[0-9a-f]+-)?step-", name) for name in names)


def saved_at(path: Path) -> float:
    """Returns when a model was last saved, in seconds since the epoch; 0 if it is gone."""
    try:
        return (path / MANIFEST).lstat().st_mtime
    except OSError:  # removed by another process
        return 0.0


def has_file(folder: Path, name: str) -> bool:
    """Checks whether a folder has a file of this name.

    A link counts as a file: reading it later raises an error that names it. So does what a failing disk does not tell.

    Args:
        folder: The folder.
        name: Name of the file.
    """
    try:
        mode = (folder / name).lstat().st_mode
    except (OSError, ValueError) as error:  # missing, or not a valid path
        return getattr(error, "errno", None) in DISK_ERRORS
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def names_in(folder: Path) -> list[str]:
    """Lists the names in a folder, sorted; none if it cannot be read."""
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def other_names(folder: Path, names: list[str]) -> list[str]:
    """Finds what neither textgen nor a desktop put into a model folder, its logs and its checkpoints.

    A folder with the name of a file is somebody's own. Links are not followed.

    Args:
        folder: The model folder.
        names: The names in it.

    Returns:
        Those names, and paths such as `logs/notes.txt`.

    Raises:
        OSError: The logs or the checkpoints cannot be read.
    """
    found: list[Path] = []
    for name in names:
        path = folder / name
        if name in (LOGS, CHECKPOINTS):
            found += others_in_logs(path) if name == LOGS else _others_in_checkpoints(path)
        elif not _is_unasked(path) and not (name.removesuffix(PENDING) in OWN_FILES and not _is_folder(path)):
            found.append(path)
    return [path.relative_to(folder).as_posix() for path in found]


def others_in_logs(logs: Path) -> list[Path]:
    """Finds what neither textgen, TensorBoard nor a desktop put among the logs of a model; see `other_names`.

    Args:
        logs: Path of the logs.

    Raises:
        OSError: They cannot be read.
    """
    if not _is_folder(logs):
        return [] if logs.is_symlink() else [logs]
    found = []
    for path in sorted(logs.iterdir()):
        if _is_unasked(path) or path.name.startswith(EVENTS) or path.name in LOG_FILES:
            found += [path] if _is_folder(path) and not path.name.startswith(TEMPORARY) else []
        elif not _is_folder(path):
            found.append(path)
        elif path.parts[-3:-1] != PROFILES:
            found += others_in_logs(path)
    return found


def _others_in_checkpoints(checkpoints: Path) -> list[Path]:
    if not _is_folder(checkpoints):
        return [] if checkpoints.is_symlink() else [checkpoints]
    found = []
    for path in sorted(checkpoints.iterdir()):
        if re.fullmatch(STEP, path.name) and (_is_folder(path) or path.is_symlink()):
            files = () if path.is_symlink() else sorted(path.iterdir())
            found += [file for file in files if not (_is_unasked(file) or (file.name in STEP_FILES and file.is_file()))]
        elif not _is_unasked(path):
            found.append(path)
    return found


def _is_unasked(path: Path) -> bool:
    """Whether a path is a temporary one or a lock of textgen, or the file of a desktop."""
    return path.name.startswith(TEMPORARY) or path.name == LOCK_FILE or is_from_desktop(path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def has_own_files(names: list[str]) -> bool:
    """Checks whether textgen wrote these names: two that belong together, since others may use a single one."""
    found = {name.removesuffix(PENDING) for name in names}
    has_model = MANIFEST in found and bool({CONFIG, WEIGHTS} & found)
    return has_model or (TRAINING in found and bool({CHECKPOINTS, MODEL_FILE, NGRAMS, WORDS, CARD} & found))


def holds_model(folder: Path) -> bool:
    """Checks by the files in its manifest whether a folder holds a model.

    Unlike `is_model` this is sure on a disk that ignores case, where the manifest.json of another program has the name
    of ours.
    """
    try:
        return is_model(folder) and not {CONFIG, WEIGHTS}.isdisjoint(read_manifest(folder)["files"])
    except Unreadable:
        return True  # as far as can be told
    except SavedModelError:
        return False

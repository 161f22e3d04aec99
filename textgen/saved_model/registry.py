"""Models by name: found, listed, removed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textgen.errors import SavedModelError, TrainingError
from textgen.saved_model.layout import CARD, CHECKPOINTS, CONFIG, LOGS, NGRAMS, RUN, TRAINING, WEIGHTS
from textgen.storage import (
    MANIFEST,
    PENDING,
    TEMPORARY,
    is_locked,
    locked,
    refuse_links,
    sweep,
    sweep_abandoned,
    writing,
)
from textgen.tokenizer.tokenizer import MODEL_FILE

OURS = (CONFIG, MODEL_FILE, WEIGHTS, NGRAMS, MANIFEST, TRAINING, CARD, LOGS, CHECKPOINTS)  # all that is in a folder
REMOVED = f"{TEMPORARY}removed-"  # begins the name of a model that is being deleted
NAME_BYTES = 200  # of a model's name at most: file systems take 255, temporary names are longer


def models_folder(folder: str | Path | None = None) -> Path:
    """Where models are kept: `folder`, else $TEXTGEN_MODELS, else saved_models in the current folder."""
    return Path(folder or os.environ.get("TEXTGEN_MODELS") or "saved_models")


def name_from(path: str | Path) -> str:
    """A name for a model, made from the path of its corpus."""
    called = "stdin" if str(path) == "-" else Path(os.path.abspath(path)).name.lstrip(".").split(".")[0]
    stem = re.sub(r"[^\w-]+", "-", called).encode()[: NAME_BYTES // 2].decode(errors="ignore")
    return stem.strip("-") or "model"


def free_name(folder: Path, path: str | Path) -> str:
    """A name for a model in `folder`, made from the path of its corpus, with a number where it is taken."""
    stem = name_from(path)
    taken = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return next(name for n in range(1, len(taken) + 3) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


def check_name(name: str) -> str:
    """`name`, if a model can have it: one part of a path. Raises `SavedModelError` that says why not."""
    if problem := _problem_of_name(name):
        raise SavedModelError(f"A model cannot be called {name!r}: {problem}. Choose a name such as novel or poems-2.")
    return name


def find_model(name: str | None = None, folder: str | Path | None = None) -> Path:
    """The folder of a model: a path, a name in the models folder, or the newest one there when None.

    Raises `SavedModelError`, saying which models there are.
    """
    models = list_models(folder)
    if name is None:
        if not models:
            raise SavedModelError(f"There is no model in {models_folder(folder)} yet: train one first.")
        return max(models, key=_changed)
    places = _places(name, folder)
    for path in places:
        if has_file(path, MANIFEST):
            return path
    for path in filter(_is_run, places):
        raise SavedModelError(_why_no_model(path))
    there = ", ".join(path.name for path in models)
    raise SavedModelError(
        f"There is no model {name!r} in {models_folder(folder)}. "
        + (f"There are: {there}." if there else "It is empty.")
    )


def find_run(name: str, folder: str | Path | None = None) -> Path:
    """Like `find_model`, but a training that has saved no model yet will do."""
    for path in filter(_is_run, _places(name, folder)):
        return path
    return find_model(name, folder)  # says which there are


def list_models(folder: str | Path | None = None) -> list[Path]:
    """The folders of all models, by name."""
    return [path for path in _folders(folder) if has_file(path, MANIFEST)]


def list_runs(folder: str | Path | None = None) -> list[Path]:
    """The folders of all models, and of trainings that have saved none yet, by name."""
    return [path for path in _folders(folder) if _is_run(path)]


def state_of(path: Path, training: Mapping[str, Any]) -> str:
    """What became of a training, in a word: running, interrupted, finished, failed; unknown without a record."""
    state = str(training.get("state", "unknown")).split(":")[0]
    runs = is_locked(path)
    if runs:
        return "running"
    return "interrupted" if state == "running" and runs is False else state


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder of a new model and holds it alone. It may have been begun by a run that saved nothing.

    Raises `TrainingError` where a model is already, or something that is not textgen's. A folder in which the block
    leaves nothing goes again.
    """
    check_name(folder.name)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep_abandoned(folder.parent, REMOVED)
    with locked(folder):
        refuse_links(folder)
        refuse_strange(folder)
        if has_steps(folder):
            raise TrainingError(f"{folder} already holds a model: resume it, remove it, or choose another name.")
        if has_file(folder, MANIFEST):
            raise TrainingError(f"{folder} already holds a model: remove it, or choose another name.")
        sweep(folder)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # if nothing is in it yet
            raise


def refuse_strange(folder: Path) -> None:
    """Raises `TrainingError` where a folder holds what textgen did not write there."""
    names = _names_in(folder)
    strange = [name for name in names if not _is_ours(name)]
    if not _was_made_here(names):  # but by another program, or a person, with files of such names
        strange += [name for name in (CARD, TRAINING, MANIFEST, LOGS, CHECKPOINTS) if name in names]
    if strange:
        raise TrainingError(
            f"{folder} is not the folder of a model: {', '.join(map(repr, strange[:3]))} in it is not textgen's. "
            "Choose another name, or move that elsewhere."
        )


def has_steps(folder: Path) -> bool:
    """Whether a run has left checkpoints in the folder, whatever is in them."""
    return any(name.startswith("step-") for name in _names_in(folder / CHECKPOINTS))


def remove_model(path: Path) -> None:
    """Deletes a model, or a training that has saved none, and nothing else.

    It goes to another name first, in one step: what a crash leaves is not taken for a model.
    """
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except OSError as error:
        raise SavedModelError(f"Cannot remove {path}: {error.strerror or error}.") from None
    if is_link:
        raise SavedModelError(
            f"Cannot remove {path}: it is a link to {os.path.realpath(path)}. Remove the link yourself, and what it "
            "leads to if you do not need it."
        )
    check_name(path.name)
    sweep_abandoned(path.parent, REMOVED)
    with locked(path):
        _refuse_to_remove(path)
        aside = path.with_name(f"{REMOVED}{secrets.token_hex(8)}")
        try:
            os.rename(path, aside)
        except OSError as error:
            raise SavedModelError(f"Cannot remove {path}: {error.strerror or error}.") from None
        try:
            shutil.rmtree(aside)
        except OSError as error:
            raise SavedModelError(
                f"Cannot remove {path}: {error.strerror or error}. What is left of it is no model any more, and lies "
                f"in {aside}: remove that yourself."
            ) from None


def _problem_of_name(name: str) -> str:
    """Why a model cannot be called so; empty where it can."""
    if not name:
        return "the name is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "a name is one part of a path"
    if name[0] in ".-":
        return "names with a full stop at the beginning are hidden ones, with a hyphen they look like options"
    if not name.isprintable() or name != name.strip():
        return "it has characters that cannot be shown, or a space at an end"
    return f"it has more than {NAME_BYTES} bytes" if len(name.encode()) > NAME_BYTES else ""


def _places(name: str, folder: str | Path | None) -> list[Path]:
    """Where a model may be that the user calls `name`: in the models folder, or at a path."""
    inside = [] if _problem_of_name(name) else [models_folder(folder) / name]
    return [*inside, Path(name)]


def _folders(folder: str | Path | None) -> list[Path]:
    """The folders in the models folder that can be those of models, by name."""
    folder = models_folder(folder)
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if not _problem_of_name(entry.name) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SavedModelError(f"Cannot read the models folder {folder}: {error.strerror or error}.") from None
    return [folder / name for name in sorted(found)]


def has_file(folder: Path, name: str) -> bool:
    """Whether there is such a file, or a link, which whoever reads it will complain of."""
    try:
        mode = (folder / name).lstat().st_mode
    except (OSError, ValueError):  # it is not there, or cannot be
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _is_run(path: Path) -> bool:
    return any(has_file(path, name) for name in RUN)


def _changed(path: Path) -> float:
    """When a model was saved last."""
    try:
        return (path / MANIFEST).lstat().st_mtime
    except OSError:  # it is gone meanwhile
        return 0.0


def _names_in(folder: Path) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _is_ours(name: str) -> bool:
    """Whether textgen puts something of that name into the folder of a model, for good or for a while."""
    return name.removesuffix(PENDING) in OURS or name.startswith(TEMPORARY)


def _was_made_here(names: list[str]) -> bool:
    """Whether these are in a folder because textgen has put them there: one alone may be anybody's."""
    found = set(names)
    is_model = MANIFEST in found and bool({CONFIG, WEIGHTS} & found)
    return is_model or (TRAINING in found and bool({CHECKPOINTS, MODEL_FILE, NGRAMS, CARD} & found))


def _why_no_model(path: Path) -> str:
    """What to do about a training that has saved no model, depending on where it stands."""
    if is_locked(path):
        return f"The training of {path.name!r} is running and has saved no model yet: wait for its first validation."
    if has_steps(path):
        return f"The training of {path.name!r} has saved no model yet: resume it, or remove it."
    what = "has saved no model yet, nor a checkpoint"
    return f"The training of {path.name!r} {what}: train again under this name, or remove it."


def _refuse_to_remove(path: Path) -> None:
    """Raises `SavedModelError` for a folder that is not known to be that of a model, and nothing besides."""
    names = _names_in(path)
    strange = [name for name in names if not _is_ours(name)]
    if strange or not _was_made_here(names):
        why = f"{', '.join(map(repr, strange[:3]))} in it is not textgen's" if strange else "it has no model in it"
        raise SavedModelError(f"Cannot remove {path}: {why}. Move elsewhere what you need, and remove it yourself.")

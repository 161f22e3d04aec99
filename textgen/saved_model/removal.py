"""Removes a model, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

from textgen.corpus.walk import has_record
from textgen.errors import SavedModelError
from textgen.saved_model.folder_contents import has_own_files, other_names
from textgen.saved_model.model_names import check_name
from textgen.saved_model.registry import list_runs, no_such_model
from textgen.storage.file_replacement import rename
from textgen.storage.files import TEMPORARY, random_hex
from textgen.storage.leftovers import folders_named, sweep_abandoned
from textgen.storage.lock_in_folder import LOCK_FILE
from textgen.storage.locks import locked
from textgen.storage.names import is_from_desktop
from textgen.storage.system_errors import explained, reason_of

REMOVED = f"{TEMPORARY}removed-"  # prefix of the name of a model that is being deleted
REMOVED_NAME = f"{re.escape(REMOVED)}[0-9a-f]{{16}}"


def remove_model(path: Path) -> None:
    """Deletes a model, or a training without a model.

    The folder is renamed first, in one atomic step, so that a partly deleted folder is never taken for a model.

    Args:
        path: Folder of the model.

    Raises:
        NoSuchModel: There is no such folder.
        SavedModelError: It is a link, holds other files, or cannot be deleted.
    """
    sweep_removed(path.parent)
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except FileNotFoundError:
        raise no_such_model(path.name, path.parent, list_runs(path.parent)) from None
    except OSError as error:
        raise _cannot_remove(path, error) from None
    if is_link:
        raise SavedModelError(
            f"Cannot remove {path}: it is a link to {os.path.realpath(path)}. Remove the link yourself, and what it "
            "leads to if you do not need it."
        )
    check_name(path.name)
    try:
        os.scandir(path).close()
    except NotADirectoryError:
        raise SavedModelError(
            f"Cannot remove {path}: it is not a folder. Remove it yourself if you do not need it."
        ) from None
    except OSError as error:
        raise _cannot_remove(path, error) from None
    with locked(path):
        _refuse_to_remove(path)
        aside = path.with_name(f"{REMOVED}{random_hex()}")
        try:
            rename(path, aside)
        except OSError as error:
            raise _cannot_remove(path, error) from None
        try:
            shutil.rmtree(aside)
        except OSError as error:
            raise SavedModelError(
                f"Cannot remove {path}: {reason_of(error)}. The folder is incomplete now, and was "
                f"renamed to {aside}: remove it yourself."
            ) from None
        except KeyboardInterrupt as interrupt:  # or a signal: the model is gone already, so its rest goes, too
            shutil.rmtree(aside, ignore_errors=True)
            interrupt.args = (f"{str(interrupt) or 'Interrupted.'} {path} was being deleted by then, and is removed.",)
            raise


def sweep_removed(place: Path) -> None:
    """Removes what is left of models whose removal was ended by a kill.

    Args:
        place: Folder of models.
    """
    sweep_abandoned(folders_named(place, REMOVED_NAME), young_seconds=0.0)  # each is held until it is gone


def _cannot_remove(path: Path, error: OSError) -> SavedModelError:
    return SavedModelError(f"Cannot remove {path}: {explained(error)}")


def _refuse_to_remove(path: Path) -> None:
    """Raises `SavedModelError` unless the folder holds a model or training, or the rest of one, and nothing else."""
    try:
        names = sorted(os.listdir(path))  # not `names_in`, which finds nothing where the disk fails
        others = other_names(path, names)
    except OSError as error:
        raise _cannot_remove(path, error) from None
    is_left_over = all(
        name == LOCK_FILE or name.startswith(TEMPORARY) or is_from_desktop(path / name) for name in names
    )
    if others or not (is_left_over or has_own_files(names) or has_record(path)):
        why = f"textgen did not write {', '.join(map(repr, others[:3]))} in it" if others else "it has no model in it"
        raise SavedModelError(
            f"Cannot remove {path}: {why}. Move the files that you need, and remove the folder yourself."
        )

"""Models by name: found, listed, and whether their training runs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.arguments import check_is_path
from textgen.errors import SavedModelError
from textgen.saved_model.bases import BASES, base_folder, installed_bases
from textgen.saved_model.folder_contents import has_file, has_steps, is_model, is_run, saved_at
from textgen.saved_model.layout import CONFIG, FILTER_BYTES, JSON_BYTES, NGRAMS, WEIGHTS, WORDS
from textgen.saved_model.model_names import problem_of_name
from textgen.saved_model.run_status import FINISHED, INTERRUPTED, RUNNING, STATUSES, status_word
from textgen.storage.addresses import folder_here, is_remote, local_path
from textgen.storage.folders import has_name
from textgen.storage.locks import is_locked
from textgen.storage.manifests import MANIFEST
from textgen.storage.remote_folders import fetch_folder
from textgen.storage.system_errors import explained
from textgen.tokenizer.model_file import MODEL_BYTES, MODEL_FILE
from textgen.wording import one_line

if TYPE_CHECKING:
    from textgen.tokenizer.tokenizer import Tokenizer


LIMITS = {  # the largest sizes in bytes of the files of a model elsewhere, by name
    CONFIG: JSON_BYTES, MODEL_FILE: MODEL_BYTES, WEIGHTS: math.inf, NGRAMS: FILTER_BYTES, WORDS: FILTER_BYTES,
}  # fmt: skip


class NoSuchModel(SavedModelError):
    """Raised for a name that neither a model nor a training has."""


def models_folder(folder: str | Path | None = None) -> Path:
    """Returns the folder that holds the models.

    Args:
        folder: The folder to use. By default $TEXTGEN_MODELS, or else saved_models in the current folder.

    Raises:
        ConfigError: The folder is no path, or an address.
    """
    if folder is not None:
        check_is_path("models_dir", folder)
    if folder:
        return folder_here(os.fspath(folder), "models_dir")
    return folder_here(os.environ.get("TEXTGEN_MODELS") or "saved_models", "TEXTGEN_MODELS")


def why_empty(folder: str | Path | None = None) -> str:
    """Says why there is no model in a folder: it is missing, nothing was saved in it yet, or one has a wrong name.

    Args:
        folder: The models folder; see `models_folder`.
    """
    place = models_folder(folder)
    named_by = "models_dir" if folder else "TEXTGEN_MODELS" if os.environ.get("TEXTGEN_MODELS") else None
    if named_by and not place.is_dir():  # the default is made by the first training
        if named_by == "TEXTGEN_MODELS" and not os.path.lexists(place):
            return f"There is no folder {place} yet, which TEXTGEN_MODELS names: textgen train makes it."
        return f"There is no folder {place}: correct {named_by}."
    return about_misnamed(folder) or f"There is no model in {place} yet."


def about_misnamed(folder: str | Path | None = None) -> str:
    """Says in a sentence that a folder holds a model and has a name that is not allowed; empty if there is none.

    Hidden folders do not count.

    Args:
        folder: The models folder; see `models_folder`.
    """
    place = models_folder(folder)
    for name in _names(place):
        if (problem := problem_of_name(name)) and not name.startswith(".") and is_run(place / name):
            return (
                f"{one_line(str(place / name))} holds a model, but a model cannot be called so: {problem}. Rename it."
            )
    return ""


def require_models_folder(folder: str | Path | None) -> None:
    """Checks that a models folder that the user named exists, before a command that only reads takes it for empty.

    Args:
        folder: The folder, or None if the user named none.

    Raises:
        SavedModelError: There is no such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise SavedModelError(why_empty(folder))


def find_model(name: str | None = None, folder: str | Path | None = None, *, with_bases: bool = True) -> Path:
    """Finds the folder of a model.

    Args:
        name: Name of a model in the models folder, a path, the name of a base, or an address, in this order. By
            default the model that was saved last.
        folder: The models folder; see `models_folder`.
        with_bases: Whether the name may be that of a base.

    Returns:
        The folder of the model.

    Raises:
        NoSuchModel: There is no such model; the message lists the existing ones and suggests a similar name.
        SavedModelError: There is no model yet, or no complete one of this name.
        RemoteError: The model at an address cannot be copied from there.
    """
    name = None if name is None else local_path(name)
    if name is not None and is_remote(name):
        return fetch_folder(name, LIMITS, needed=(CONFIG, WEIGHTS))
    models = list_models(folder)
    if name is None:
        if not models:
            bases = about_bases(installed_bases() if with_bases else [])
            why = about_misnamed(folder) or f"{why_empty(folder)} Train a model first."
            raise SavedModelError(f"{why}{bases}")
        return max(models, key=saved_at)
    candidates = _candidates(name, folder)
    for path in filter(is_model, candidates):
        return path
    for path in filter(is_run, candidates):
        raise SavedModelError(_why_no_model(path))
    if with_bases and name in BASES:
        return base_folder(name)
    for path in candidates:
        if has_file(path, MANIFEST):
            raise SavedModelError(
                f"{path} is not a model: it has a {MANIFEST}, but neither {CONFIG} nor {WEIGHTS}. Name a model, or "
                "copy the whole folder again if it is one."
            )
    allowed = installed_bases() if with_bases else []
    raise no_such_model(name, models_folder(folder), models, allowed, may_be_path=True)


def find_tokenizer(name: str, folder: str | Path | None = None) -> Tokenizer:
    """Loads the tokenizer of a saved model or of a .model file.

    Args:
        name: Name of a model as in `find_model`, path of a .model file, or "byte" for the tokenizer of bytes. A corpus
            may lie beside the model that was named after it, so models are looked up before paths.
        folder: The models folder; see `models_folder`.

    Returns:
        The tokenizer.

    Raises:
        SavedModelError: There is no such model and no such file.
        TokenizerError: The file cannot be read, is damaged, or another program made it.
    """
    from textgen.tokenizer.kinds import ByteTokenizer
    from textgen.tokenizer.model_file import read_tokenizer

    if name == "byte":
        return ByteTokenizer()
    name = local_path(name)
    try:
        path = find_model(name, folder)
    except SavedModelError:
        path = Path(name)
        if not name or not path.exists():  # an empty one would be the current folder
            raise
    return read_tokenizer(path)


def find_run(name: str, folder: str | Path | None = None) -> Path:
    """Finds the folder of a model or of a training that has not saved a model yet.

    Args:
        name: Name in the models folder, or a path.
        folder: The models folder; see `models_folder`.

    Returns:
        The folder of the model or training.

    Raises:
        SavedModelError: There is neither. A base does not count: nothing may be written to it.
    """
    name = local_path(name)
    for path in filter(is_run, _candidates(name, folder)):
        return path
    if name in BASES:
        raise SavedModelError(f"{name} is a base, which is a part of the program: no run of that name is yours.")
    return find_model(name, folder, with_bases=False)  # raises an error that lists the models


def list_models(folder: str | Path | None = None) -> list[Path]:
    """Lists the folders of all models, sorted by name."""
    return list(filter(is_model, _folders(folder)))


def list_runs(folder: str | Path | None = None) -> list[Path]:
    """Lists the folders of all models and of trainings without a model yet, sorted by name."""
    return list(filter(is_run, _folders(folder)))


def status_of(path: Path, training: Mapping[str, Any]) -> str:
    """Returns the status of a training.

    A finished one stays so while another process holds its folder, as for compressing the model. A run that goes on
    from a finished one records that before its first step.

    Args:
        path: Folder of the model.
        training: Content of training.json.

    Returns:
        One of `run_status.STATUSES`, or "unknown" if none is recorded.
    """
    status = status_word(training)
    if status not in STATUSES:  # somebody else may have written it
        return RUNNING if is_locked(path) else "unknown"
    runs = is_locked(path)
    if runs and status != FINISHED:
        return RUNNING
    return INTERRUPTED if status == RUNNING and runs is False else status


def no_such_model(
    name: str, folder: Path, models: Sequence[Path], bases: Sequence[str] = (), *, may_be_path: bool = False
) -> NoSuchModel:
    """Returns the error for a name that no model has, to be raised.

    Args:
        name: The name.
        folder: Folder of models.
        models: The models in it.
        bases: Names of the bases that may be named instead.
        may_be_path: Whether the name may also be a path, and a file of that path is worth a mention.
    """
    names = [path.name for path in models]
    there = f"There are: {', '.join(names)}." if names else ""
    if may_be_path and os.path.isfile(name):
        there = there or f"There is no model in {folder} yet."
        return NoSuchModel(f"{name!r} is a file, not a model. {there}{about_bases(bases)}")
    others = f"{about_bases(bases)}{_suggestion(name, [*names, *bases])}"
    if not folder.is_dir():
        return NoSuchModel(
            f"There is no model {name!r}, since there is no folder {folder}. Train a model first, or set models_dir or "
            f"TEXTGEN_MODELS to the folder of yours.{others}"
        )
    there = there or about_misnamed(folder) or "It holds no model yet: train one first."
    return NoSuchModel(f"There is no model {name!r} in {folder}. {there}{others}")


def about_bases(bases: Sequence[str], name: str = "") -> str:
    """Names the bases after a sentence about models; empty if there is none.

    Args:
        bases: Their names.
        name: A word that may be a misspelled name of a base.

    Returns:
        The sentence, after a space.

    Example:
        >>> about_bases(["english", "chinese"], "englsh")
        " Bases: english, chinese. Did you mean 'english'?"
    """
    return f" Bases: {', '.join(bases)}.{_suggestion(name, bases)}" if bases else ""


def _suggestion(name: str, names: Iterable[str]) -> str:
    """Asks after a sentence whether the most similar one of some names was meant; empty if none is similar."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(names), 1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _candidates(name: str, folder: str | Path | None) -> list[Path]:
    """Returns the folders that `name` may refer to: in the models folder, and as a path."""
    inside = [] if problem_of_name(name) else [models_folder(folder) / name]
    if not name:
        return inside
    path = Path(name)
    return [*inside, path if has_name(path) else path.resolve()]  # the name of its folder is that of a model


def _folders(folder: str | Path | None) -> list[Path]:
    """Lists the folders in the models folder that have a valid model name, sorted by name."""
    folder = models_folder(folder)
    return [folder / name for name in _names(folder) if not problem_of_name(name)]


def _names(folder: Path) -> list[str]:
    """Lists the names of the folders in the models folder, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _is_folder(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SavedModelError(f"Cannot read the models folder {folder}: {explained(error)}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder. A link that leads to itself, or where nobody may look, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _why_no_model(path: Path) -> str:
    """Returns an error message for a training without a model, with advice that depends on its status."""
    if is_locked(path):
        return f"The training of {path.name!r} is running and has saved no model yet: wait for its first validation."
    if has_steps(path):
        return f"The training of {path.name!r} has saved no model yet: resume it, or remove it."
    what = "has saved no model yet, nor a checkpoint"
    return f"The training of {path.name!r} {what}: train again as before, or remove it."

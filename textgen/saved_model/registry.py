"""Finding, listing, creating and removing models by name."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from textgen.corpus.walk import has_record
from textgen.errors import SavedModelError, TextgenError, TrainingError
from textgen.saved_model.bases import BASES, base_folder
from textgen.saved_model.layout import (
    CARD,
    CHECKPOINTS,
    CONFIG,
    LOGS,
    NGRAMS,
    TRAINING,
    WEIGHTS,
    WORDS,
)
from textgen.storage.addresses import is_remote, without_secrets
from textgen.storage.files import TEMPORARY, writing
from textgen.storage.folders import (
    MANIFEST,
    PENDING,
    has_name,
    read_manifest,
    refuse_links,
    sweep,
    sweep_abandoned,
)
from textgen.storage.locks import is_locked, locked
from textgen.storage.remote_folders import fetch_folder
from textgen.tokenizer.tokenizer import MODEL_FILE, read_tokenizer

OURS = (
    CONFIG,
    MODEL_FILE,
    WEIGHTS,
    NGRAMS,
    WORDS,
    MANIFEST,
    TRAINING,
    CARD,
    LOGS,
    CHECKPOINTS,
)  # everything textgen writes to a model folder
REMOVED = f"{TEMPORARY}removed-"  # prefix of the name of a model that is being deleted
NAME_BYTES = 200  # longest name; file systems allow 255 bytes, and temporary names add some


def models_folder(folder: str | Path | None = None) -> Path:
    """Returns the folder that holds the models.

    Args:
        folder: The folder to use. By default $TEXTGEN_MODELS, or else saved_models in the current folder.
    """
    return Path(folder or os.environ.get("TEXTGEN_MODELS") or "saved_models")


def why_empty(folder: str | Path | None = None) -> str:
    """Says in a sentence why there is no model in a folder: it is missing, or nothing was saved in it yet.

    Args:
        folder: The models folder; see `models_folder`.
    """
    place = models_folder(folder)
    named_by = "models_dir" if folder else "TEXTGEN_MODELS" if os.environ.get("TEXTGEN_MODELS") else None
    if named_by and not place.is_dir():  # the default is made by the first training
        return f"There is no folder {place}: correct {named_by}."
    return f"There is no model in {place} yet."


def require_models_folder(folder: str | Path | None) -> None:
    """Checks that a models folder that the user named exists, before a command that only reads takes it for empty.

    Args:
        folder: The folder, or None if the user named none.

    Raises:
        SavedModelError: There is no such folder.
    """
    if folder is not None and not Path(folder).is_dir():
        raise SavedModelError(why_empty(folder))


def name_from(path: str | Path) -> str:
    """Makes a model name from the path of its corpus; "-" gives "stdin"."""
    called = "stdin"
    if str(path) != "-":
        called = Path(os.path.abspath(without_secrets(str(path)))).name.lstrip(".").split(".")[0]
    stem = re.sub(r"[^\w-]+", "-", called).encode()[: NAME_BYTES // 2].decode(errors="ignore")
    return stem.strip("-") or "model"


def free_name(folder: Path, path: str | Path) -> str:
    """Makes an unused model name from the path of its corpus, with a number appended if the name is taken.

    Args:
        folder: Folder of models.
        path: Path of the corpus.

    Returns:
        A name that no entry of the folder has.
    """
    stem = name_from(path)
    taken = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return next(name for n in range(1, len(taken) + 3) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


def check_name(name: str) -> str:
    """Checks that a name is valid for a model: a single path component.

    Args:
        name: The name to check.

    Returns:
        The name.

    Raises:
        SavedModelError: The name is not valid; the message gives the reason.
    """
    if problem := _problem_of_name(name):
        raise SavedModelError(f"A model cannot be called {name!r}: {problem}. Choose a name such as novel or poems-2.")
    return name


def check_place(folder: Path) -> None:
    """Checks that a new model may have a folder: that its name is valid, and that it is not in that of another model.

    Args:
        folder: Folder of the new model, which need not exist.

    Raises:
        SavedModelError: The message gives the reason.
    """
    check_name(folder.name)
    refuse_in_model(folder)


def find_model(name: str | None = None, folder: str | Path | None = None) -> Path:
    """Finds the folder of a model.

    Args:
        name: Name of a model in the models folder, a path, the name of a base, or an address, in this order. By
            default the model that was saved last.
        folder: The models folder; see `models_folder`.

    Returns:
        The folder of the model.

    Raises:
        SavedModelError: There is no such model; the message lists the existing ones.
        RemoteError: The model at an address cannot be copied from there.
    """
    if name is not None and is_remote(name):
        return fetch_folder(name)
    models = list_models(folder)
    if name is None:
        if not models:
            raise SavedModelError(f"{why_empty(folder)} Train a model first.")
        return max(models, key=saved_at)
    places = _places(name, folder)
    for path in filter(is_model, places):
        return path
    for path in filter(_is_run, places):
        raise SavedModelError(_why_no_model(path))
    if name in BASES:
        return base_folder(name)
    for path in places:
        if has_file(path, MANIFEST):
            raise SavedModelError(
                f"{path} is not a model: it has a {MANIFEST}, but neither {CONFIG} nor {WEIGHTS}. Name a model, or "
                "copy the whole folder again if it is one."
            )
    raise SavedModelError(_no_such_model(name, models_folder(folder), models))


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
    for path in filter(_is_run, _places(name, folder)):
        return path
    if name in BASES:
        raise SavedModelError(f"{name} is a base, which is a part of the program: no run of that name is yours.")
    return find_model(name, folder)  # raises an error that lists the models


def list_models(folder: str | Path | None = None) -> list[Path]:
    """Lists the folders of all models, sorted by name."""
    return list(filter(is_model, _folders(folder)))


def list_runs(folder: str | Path | None = None) -> list[Path]:
    """Lists the folders of all models and of trainings without a model yet, sorted by name."""
    return list(filter(_is_run, _folders(folder)))


def is_model(path: Path) -> bool:
    """Checks whether a folder is that of a saved model; the content of its files is not checked.

    A manifest alone does not make a model: exports and prepared corpora have one, too.

    Args:
        path: The folder.
    """
    own = (f"{name}{suffix}" for name in (CONFIG, WEIGHTS) for suffix in ("", PENDING))
    return has_file(path, MANIFEST) and any(has_file(path, name) for name in own)


def state_of(path: Path, training: Mapping[str, Any]) -> str:
    """Returns the state of a training.

    Args:
        path: Folder of the model.
        training: Content of training.json.

    Returns:
        "running", "interrupted", "finished", "failed", or "unknown" if no state is recorded.
    """
    state = str(training.get("state", "unknown")).split(":")[0]
    runs = is_locked(path)
    if runs:
        return "running"
    return "interrupted" if state == "running" and runs is False else state


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Creates the folder of a new model and locks it within the block.

    The folder may exist if an earlier run saved nothing in it. What that run left, such as its vocabulary, is deleted,
    so that it does not become part of the new model. If the block raises and the folder is empty, the folder is
    removed.

    Args:
        folder: Folder of the new model.

    Yields:
        Nothing.

    Raises:
        SavedModelError: The name of the folder is not valid for a model, or it lies in the folder of another model.
        TrainingError: The folder already holds a model, or files that textgen did not write.
        TextgenError: The folder cannot be written.
    """
    check_place(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep_abandoned(folder.parent, REMOVED)
    with locked(folder):
        refuse_links(folder)
        refuse_strange(folder)
        sweep(folder / CHECKPOINTS)  # may restore a checkpoint
        if has_steps(folder):
            raise TrainingError(f"{folder} already holds a model: resume it, remove it, or choose another name.")
        if has_file(folder, MANIFEST):
            raise TrainingError(f"{folder} already holds a model: remove it, or choose another name.")
        sweep(folder)
        _delete_leftovers(folder)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # fails unless the folder is empty
            raise


def refuse_strange(folder: Path) -> None:
    """Checks that a folder holds only files that textgen wrote.

    Args:
        folder: Folder of a new model.

    Raises:
        TrainingError: The folder holds other files.
    """
    names = _names_in(folder)
    strange = [name for name in names if not _is_ours(name)]
    if not _was_made_here(names):  # files with our names may come from another program or a person
        strange += [name for name in OURS if name in names and not _is_of_a_start(folder, name, names)]
    elif MANIFEST not in names and not has_steps(folder) and not has_record(folder):
        strange.append(TRAINING)
    if strange:
        raise TrainingError(
            f"{folder} is not a model folder: textgen did not write {', '.join(map(repr, strange[:3]))} in it. "
            "Choose another name, or move these files."
        )


def refuse_in_model(path: Path, *, is_filled: bool = False) -> None:
    """Checks that what is to be written does not lie in the folder of a model, where it could replace its files.

    Args:
        path: Path of a file or folder to write, which need not exist. Links are followed.
        is_filled: Whether it is a folder into which files are written, and not replaced as a whole.

    Raises:
        SavedModelError: It lies in the folder of a model, or of a training that has not saved one yet.
    """
    place = Path(os.path.realpath(path)) / ("file" if is_filled else "")
    for folder in place.parents:
        inside = place.relative_to(folder).parts
        if len(inside) > 1 and inside[0] not in (LOGS, CHECKPOINTS) and os.path.lexists(folder / inside[0]):
            continue  # in a folder that somebody has made there
        if _holds_model(folder) or has_record(folder):
            raise SavedModelError(
                f"Cannot write {path}: {folder} is the folder of a model and holds nothing else. Choose another folder."
            )


def has_steps(folder: Path) -> bool:
    """Checks whether a run left checkpoints in the folder; their content is not checked."""
    return any(name.startswith("step-") for name in _names_in(folder / CHECKPOINTS))


def remove_model(path: Path) -> None:
    """Deletes a model, or a training without a model.

    The folder is renamed first, in one atomic step, so that a partly deleted folder is never taken for a model.

    Args:
        path: Folder of the model.

    Raises:
        SavedModelError: There is no such folder, or it is a link, holds other files, or cannot be deleted.
    """
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except FileNotFoundError:
        raise SavedModelError(_no_such_model(path.name, path.parent, list_runs(path.parent))) from None
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
                f"Cannot remove {path}: {error.strerror or error}. The folder is incomplete now, and was "
                f"renamed to {aside}: remove it yourself."
            ) from None


def _no_such_model(name: str, folder: Path, models: Sequence[Path]) -> str:
    """Returns the error message for a name that no model has."""
    if not folder.is_dir():
        return (
            f"There is no model {name!r}, since there is no folder {folder}. Train a model first, or set models_dir or "
            "TEXTGEN_MODELS to the folder of yours."
        )
    there = ", ".join(path.name for path in models)
    return f"There is no model {name!r} in {folder}. " + (f"There are: {there}." if there else "It is empty.")


def _problem_of_name(name: str) -> str:
    """Returns the reason why a name is not valid for a model; empty if it is valid."""
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
    """Returns the folders that `name` may refer to: in the models folder, and as a path."""
    inside = [] if _problem_of_name(name) else [models_folder(folder) / name]
    if not name:
        return inside
    path = Path(name)
    return [*inside, path if has_name(path) else path.resolve()]  # the name of its folder is that of a model


def _folders(folder: str | Path | None) -> list[Path]:
    """Lists the folders in the models folder that have a valid model name, sorted by name."""
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
    """Checks whether a folder has a file of this name.

    A link counts as a file: reading it later raises an error that names it.

    Args:
        folder: The folder.
        name: Name of the file.
    """
    try:
        mode = (folder / name).lstat().st_mode
    except (OSError, ValueError):  # missing, or not a valid path
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _is_run(path: Path) -> bool:
    """Checks for a model or a training: an imported model lacks training.json, a new training the files of a model."""
    return is_model(path) or has_file(path, TRAINING)


def saved_at(path: Path) -> float:
    """Returns when a model was last saved, in seconds since the epoch; 0 if it is gone."""
    try:
        return (path / MANIFEST).lstat().st_mtime
    except OSError:  # removed by another process
        return 0.0


def _names_in(folder: Path) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _is_ours(name: str) -> bool:
    """Checks whether textgen uses this name in model folders, for permanent or temporary files."""
    return name.removesuffix(PENDING) in OURS or name.startswith(TEMPORARY)


def _was_made_here(names: list[str]) -> bool:
    """Checks whether textgen wrote these names: two that belong together, since others may use a single one."""
    found = {name.removesuffix(PENDING) for name in names}
    has_model = MANIFEST in found and bool({CONFIG, WEIGHTS} & found)
    return has_model or (TRAINING in found and bool({CHECKPOINTS, MODEL_FILE, NGRAMS, WORDS, CARD} & found))


def _holds_model(folder: Path) -> bool:
    """Checks whether a folder is that of a model by what its manifest names.

    Unlike `is_model` this is sure on a disk that ignores case, where the manifest.json of another program has the name
    of ours.
    """
    try:
        return is_model(folder) and not {CONFIG, WEIGHTS}.isdisjoint(read_manifest(folder)["files"])
    except SavedModelError:
        return False


def _is_of_a_start(folder: Path, name: str, names: Sequence[str]) -> bool:
    """Checks whether textgen wrote a file in a folder without training.json, as a run does before it writes that.

    A vocabulary alone may have been made by `textgen tokenizer`: a run writes it after the index and the words.
    """
    from textgen.dataset.ngram_index import read_index
    from textgen.dataset.word_filter import read_word_filter

    readers: dict[str, Callable[[Path], object]] = {
        NGRAMS: read_index,
        WORDS: read_word_filter,
        MODEL_FILE: read_tokenizer,
    }
    if name not in readers or (name == MODEL_FILE and not {NGRAMS, WORDS}.intersection(names)):
        return False
    try:
        readers[name](folder / name)
    except TextgenError:
        return False
    return True


def _delete_leftovers(folder: Path) -> None:
    """Deletes the files and logs of a run that saved no model and no checkpoint."""
    for name in _names_in(folder):
        path = folder / name
        if name == CHECKPOINTS:
            with suppress(OSError):
                path.rmdir()  # fails if anybody put something there
        elif name.removesuffix(PENDING) in OURS:
            with writing(path, "Remove it, or choose another name."):
                if name == LOGS:
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _why_no_model(path: Path) -> str:
    """Returns an error message for a training without a model, with advice that depends on its state."""
    if is_locked(path):
        return f"The training of {path.name!r} is running and has saved no model yet: wait for its first validation."
    if has_steps(path):
        return f"The training of {path.name!r} has saved no model yet: resume it, or remove it."
    what = "has saved no model yet, nor a checkpoint"
    return f"The training of {path.name!r} {what}: train again under this name, or remove it."


def _refuse_to_remove(path: Path) -> None:
    """Raises `SavedModelError` unless the folder holds a model or training and nothing else."""
    names = _names_in(path)
    strange = [name for name in names if not _is_ours(name)]
    if strange or not _was_made_here(names):
        why = f"textgen did not write {', '.join(map(repr, strange[:3]))} in it" if strange else "it has no model in it"
        raise SavedModelError(
            f"Cannot remove {path}: {why}. Move the files that you need, and remove the folder yourself."
        )

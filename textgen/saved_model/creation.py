"""The folder of a new model: where it may be, and how it is claimed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from textgen.corpus.walk import has_record
from textgen.errors import SavedModelError, TextgenError, TrainingError
from textgen.saved_model.folder_contents import (
    OWN_NAMES,
    has_file,
    has_own_files,
    has_steps,
    holds_model,
    names_in,
    other_names,
    others_in_logs,
)
from textgen.saved_model.layout import CHECKPOINTS, LOGS, NGRAMS, TRAINING, WORDS
from textgen.saved_model.model_names import check_name, check_new_name, corpus_path, free_name
from textgen.saved_model.removal import sweep_removed
from textgen.storage.files import writing
from textgen.storage.folders import refuse_links
from textgen.storage.leftovers import sweep
from textgen.storage.locks import Gone, InUse, is_locked, locked, remove_empty, require_held
from textgen.storage.manifests import MANIFEST, PENDING
from textgen.storage.system_errors import cannot_read
from textgen.tokenizer.model_file import MODEL_FILE, read_tokenizer


def free_folder(models: Path, *paths: str | Path) -> Path:
    """Returns a folder for a new model, with a name made from the paths of its corpus.

    Args:
        models: Folder of models.
        paths: Paths of the corpus.

    Returns:
        A folder that does not exist, or in which a failed run has saved neither a model nor a checkpoint.
    """
    return models / check_name(free_name(models, corpus_path(paths), _is_of_failed_run))


def _is_of_failed_run(folder: Path) -> bool:
    """Checks whether a run has ended that saved neither a model nor a checkpoint, and a folder holds only its files."""
    if folder.is_symlink() or not set(OWN_NAMES).intersection(names_in(folder)) or is_locked(folder) is not False:
        return False
    try:
        refuse_links(folder)
        refuse_other_files(folder)
        refuse_taken(folder)
    except TextgenError:
        return False
    return True


def check_place(folder: Path) -> None:
    """Checks that a new model may have a folder: its name is valid, and it lies in the folder of no other model.

    Args:
        folder: Folder of the new model, which need not exist.

    Raises:
        SavedModelError: The message gives the reason.
    """
    check_new_name(folder.name)
    refuse_in_model(folder)


def refuse_taken(folder: Path) -> None:
    """Checks that a new model may have a folder, which holds no model yet. Call it before long work.

    Args:
        folder: Folder of the new model, which need not exist.

    Raises:
        SavedModelError: Its name is not valid, or it lies in the folder of another model.
        TrainingError: It already holds a model.
    """
    check_place(folder)
    if has_steps(folder):
        raise TrainingError(f"{folder} already holds a model: resume it, remove it, or choose another name.")
    if has_file(folder, MANIFEST):
        raise TrainingError(f"{folder} already holds a model: remove it, or choose another name.")


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
        if holds_model(folder) or has_record(folder):
            raise SavedModelError(
                f"Cannot write {path}: {folder} is the folder of a model and holds nothing else. Choose another folder."
            )


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Creates the folder of a new model and locks it within the block.

    The folder may exist if an earlier run saved nothing in it. What that run left, such as its vocabulary, is deleted,
    so that it does not become part of the new model. If the block raises before anything was saved, the folder is
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
    sweep_removed(folder.parent)
    with locked(folder):
        refuse_links(folder)
        refuse_other_files(folder)
        sweep(folder / CHECKPOINTS)  # may restore a checkpoint
        refuse_taken(folder)
        sweep(folder)
        _delete_leftovers(folder)
        try:
            yield
        except BaseException:
            with suppress(OSError, TextgenError):
                require_held(folder)  # else what is there now belongs to another process
                if not (has_file(folder, MANIFEST) or has_steps(folder) or has_record(folder)):
                    _delete_leftovers(folder)
                remove_empty(folder)  # fails unless the folder is empty
            raise


@contextmanager
def claimed_or_another(folder: Path, free_folder: Callable[[], Path] | None) -> Iterator[Path]:
    """Like `claimed`; but if another process has made the folder since it was chosen, another one is claimed.

    Args:
        folder: Folder of the new model.
        free_folder: Returns a folder that is free, as the function of this name does. None if the user chose the name:
            then a folder that another process holds is an error.

    Yields:
        The folder that is claimed.

    Raises:
        TextgenError: As `claimed` does.
    """
    if free_folder and os.path.lexists(folder):
        folder = free_folder()
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claimed(folder))
                break
            except (InUse, Gone):
                if free_folder is None:
                    raise
                folder = free_folder()
        yield folder


def refuse_other_files(folder: Path) -> None:
    """Checks that a folder holds only files that textgen wrote.

    Args:
        folder: Folder of a new model.

    Raises:
        TrainingError: The folder holds other files.
    """
    names = names_in(folder)
    try:
        others = other_names(folder, names)
    except OSError as error:
        raise cannot_read(folder, error) from None
    if not has_own_files(names):  # files with our names may come from another program or a person
        own = [name for name in OWN_NAMES if name in names and name not in others]
        others += [name for name in own if not _is_early_file(folder, name, names)]
    elif MANIFEST not in names and not has_steps(folder) and not has_record(folder):
        others.append(TRAINING)
    if others:
        raise TrainingError(
            f"{folder} is not a model folder: textgen did not write {', '.join(map(repr, others[:3]))} in it. "
            "Choose another name, or move these files."
        )


def _is_early_file(folder: Path, name: str, names: Sequence[str]) -> bool:
    """Checks whether textgen wrote a file at the start of a run, which is not complete.

    A vocabulary alone may have been made by `textgen tokenizer`: a run writes it after the others.
    """
    from textgen.dataset.ngram_index import read_index
    from textgen.dataset.word_filter import read_word_filter

    readers: dict[str, Callable[[Path], object]] = {
        NGRAMS: read_index,
        WORDS: read_word_filter,
        MODEL_FILE: read_tokenizer,
    }
    if name == TRAINING:
        return has_record(folder)
    if name not in readers or (name == MODEL_FILE and not {NGRAMS, WORDS}.intersection(names)):
        return False
    try:
        readers[name](folder / name)
    except TextgenError:
        return False
    return True


def _delete_leftovers(folder: Path) -> None:
    """Deletes the files and logs of a run that saved no model and no checkpoint."""
    for name in names_in(folder):
        path = folder / name
        if name == CHECKPOINTS:
            with suppress(OSError):
                path.rmdir()  # fails if anybody put something there
        elif name.removesuffix(PENDING) in OWN_NAMES:
            with writing(path, "Remove it, or choose another name."):
                if name == LOGS:
                    if not others_in_logs(path):  # somebody may have put something there during the run
                        shutil.rmtree(path)
                else:
                    path.unlink()

"""The folder of a run: named or found, refused, and told to the user when the run ends before its time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from textgen.cli.plan_report import resume_command
from textgen.errors import Interrupted, SavedModelError, TrainingError, Unreadable, UnreadableCorpus
from textgen.storage.files import CannotWrite
from textgen.storage.system_errors import Obstacle

FIRST_STEPS = {Obstacle.FULL: "Free some space", Obstacle.PLACE: "Make the folder writable"}
"""What to do about the folder of a run before the run is continued."""


def refuse_place(target: Path, is_dry_run: bool) -> None:
    """Raises `TextgenError` if a new model cannot be saved in a folder, before the text is read."""
    from textgen.saved_model.creation import refuse_taken
    from textgen.storage.files import check_folder_writable

    refuse_taken(target)
    if not is_dry_run:
        check_folder_writable(target)


def refuse_missing(target: Path) -> None:
    """Raises `NoSuchModel`, with the names of all runs, if there is no folder to resume."""
    from textgen.saved_model.registry import list_runs, no_such_model

    if not os.path.lexists(target):
        raise no_such_model(target.name, target.parent, list_runs(target.parent))


def folder_of_run(name: str | None, models_dir: Path | None, paths: Sequence[str], *, is_resumed: bool) -> Path:
    """The folder of a new run, or of one that is resumed.

    Args:
        name: Name of the model; by default it is made from the paths. A run that is resumed is by default the newest,
            or with paths the newest that is named after them.
        models_dir: Folder of the models; the usual one if None.
        paths: The text to train on.
        is_resumed: Whether the run was begun before.

    Returns:
        The path of the folder.

    Raises:
        click.UsageError: The only path is the name of a run.
        TextgenError: The name is not allowed, or there is no run to resume.
    """
    from textgen.saved_model.model_names import check_name
    from textgen.saved_model.registry import models_folder

    folder = models_folder(models_dir)
    if name is not None:
        return folder / check_name(name)
    if is_resumed:
        _refuse_run_as_path(folder, paths)
        return folder / check_name(_newest_run(folder, paths))
    return folder / named_after(models_dir, paths).name


def _refuse_run_as_path(folder: Path, paths: Sequence[str]) -> None:
    """Raises `click.UsageError` if the only path is the name of a run, and nothing has this path."""
    from textgen.saved_model.folder_contents import is_run
    from textgen.saved_model.model_names import problem_of_name

    if (
        len(paths) == 1
        and not os.path.lexists(paths[0])
        and not problem_of_name(paths[0])
        and is_run(folder / paths[0])
    ):
        raise click.UsageError(f"{paths[0]} is a run: continue it with {resume_command(folder / paths[0])}.")


def named_after(models_dir: Path | None, paths: Sequence[str]) -> Path:
    """A free folder for a model, with a name made from the paths of its text."""
    from textgen.saved_model.creation import free_folder
    from textgen.saved_model.registry import models_folder

    return free_folder(models_folder(models_dir), *paths)


def _newest_run(folder: Path, paths: Sequence[str]) -> str:
    """The name of the run with the newest checkpoint, among those named after the corpus if one is given."""
    from textgen.saved_model.layout import CHECKPOINTS
    from textgen.saved_model.model_names import corpus_path, name_from
    from textgen.saved_model.registry import list_runs

    runs = [run for run in list_runs(folder) if _is_resumable(run)]
    runs.sort(key=lambda run: (run / CHECKPOINTS).stat().st_mtime, reverse=True)
    if not runs:
        raise TrainingError(f"There is no run to resume in {folder} that has a checkpoint. Start a new one.")
    if not paths:
        return runs[0].name
    stem = name_from(corpus_path(paths))
    named = (run.name for run in runs if re.fullmatch(f"{re.escape(stem)}(-[0-9]+)?", run.name))
    if newest := next(named, None):
        return newest
    raise TrainingError(
        f"No run in {folder} that has a checkpoint is named {stem}, after the text. To continue another run with this "
        f"text, set --name to one of: {', '.join(run.name for run in runs)}."
    )


def _is_resumable(run: Path) -> bool:
    """Whether a run has a checkpoint, as far as its folder can be read."""
    from textgen.saved_model.layout import CHECKPOINTS
    from textgen.training.checkpoints import has_checkpoint

    try:
        return has_checkpoint(run / CHECKPOINTS)
    except Unreadable:
        return True  # as far as can be told
    except SavedModelError:
        return False


@dataclass
class RunFolder:
    """The folder of a run.

    Attributes:
        path: None until a new run has claimed one. What is in the folder that was planned may be of another run.
    """

    path: Path | None = None

    def claim(self, path: Path) -> None:
        """Notes that the run has claimed a folder."""
        self.path = path

    def resume_command(self) -> str:
        """The command that continues the run; "" if there is nothing to continue."""
        return resume_command(self.path) if self.path and _is_resumable(self.path) else ""

    def holds(self, file: Path) -> bool:
        """Whether a file is in the folder of the run."""
        return self.path is not None and file.absolute().is_relative_to(self.path.absolute())


@contextmanager
def telling_what_is_saved(folder: RunFolder) -> Iterator[RunFolder]:
    """Adds to the message about a signal or a full disk whether the run can be continued, and by which command.

    Within the steps, the loop of training saves and tells so itself, but knows no commands.
    """
    try:
        yield folder
    except Interrupted as error:
        if error.folder:
            error.args = (f"{error.said} Continue with {resume_command(error.folder)}.",)
        raise
    except CannotWrite as error:
        raise CannotWrite(error.path, error.reason, _how_to_go_on(error, folder), obstacle=error.obstacle) from None
    except (UnreadableCorpus, Unreadable) as error:
        if command := folder.resume_command():
            error.args = (f"{error} Then continue with {command}.",)
        raise
    except KeyboardInterrupt as error:
        command = folder.resume_command()
        next_step = f"Continue with {command}." if command else "Nothing is saved: start again."
        error.args = (f"{str(error) or 'Interrupted.'} {next_step}",)
        raise


def _how_to_go_on(error: CannotWrite, folder: RunFolder) -> str:
    """What the user can do after a file of a run, or one that the run needs, could not be written."""
    if not (command := folder.resume_command()):
        return error.advice
    if folder.holds(error.path) and error.has_usual_advice and error.obstacle in FIRST_STEPS:
        return f"{FIRST_STEPS[error.obstacle]}, and continue with {command}."
    return f"{error.advice} Then continue with {command}."

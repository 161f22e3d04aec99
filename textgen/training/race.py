"""Tries two plans for a tenth of their runs each, and keeps the one that predicts held-out text better.

Used where the rule of `textgen.training.planning.start_choice` leaves open whether a base suits a text. Each plan
trains up to its first validation after a tenth of the run, under its own schedule, in a temporary folder inside that of
the new model. The files of the better one are then moved to where the run keeps its own. It goes on from its
checkpoint, so none of its steps is lost, and it ends with the weights that it would have without a race. Scores are
compared in bits per byte, because the vocabularies differ.

Nothing of a race is resumed: an interrupted one leaves no files. A run that went on after a race resumes as any other.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textgen.errors import Interrupted, TrainingError
from textgen.saved_model.layout import CHECKPOINTS, LOGS, TRAINING
from textgen.storage.file_replacement import rename
from textgen.storage.files import TEMPORARY, writing
from textgen.storage.folders import replace_folder
from textgen.storage.manifests import MANIFEST
from textgen.training.observers.observer import Observer, StepReport, ValidationReport
from textgen.training.planning.plan import RACE_VALIDATIONS, Plan
from textgen.training.planning.start_choice import NONE, RACE
from textgen.training.run_setup import RunOptions, RunSetup
from textgen.training.schedules import parts_done
from textgen.wording import Say

Contend = Callable[[Plan, Path, RunOptions], RunSetup]
"""Begins a run in a folder and trains it until an observer stops it."""


class FirstTenth(Observer):
    """Stops a run at its first validation after a tenth of it.

    Attributes:
        bits_per_byte: The best score so far.
    """

    def __init__(self, say: Say) -> None:
        super().__init__()
        self.bits_per_byte = math.inf
        self._say = say
        self._shown = 0
        self._is_over = False

    def on_step(self, report: StepReport) -> None:
        """Shows the progress three times, and notes whether a tenth is over."""
        self._is_over = parts_done(report.progress, RACE_VALIDATIONS) >= 1
        quarter = parts_done(report.progress, 4 * RACE_VALIDATIONS)
        if self._shown < quarter < 4:
            self._shown = quarter
            self._say(f"  step {report.step:,}: loss {report.nats_per_token:.3f} nats per token")

    def on_validation(self, report: ValidationReport) -> None:
        """Asks the run to stop once a tenth of it is over."""
        self.bits_per_byte = min(self.bits_per_byte, report.bits_per_byte)
        if self._is_over:
            self.stop_reason = "a race ended here"


def race(plans: Sequence[Plan], folder: Path, contend: Contend, options: RunOptions) -> RunSetup:
    """Trains each plan for a tenth of its run, and moves the files of the best one to a folder.

    Args:
        plans: The plans, of which each starts from another model.
        folder: Folder of the new model, locked by the caller.
        contend: Begins and trains a run.
        options: Devices; observers and callbacks do not see the race.

    Returns:
        The run that goes on, with its files in `folder`. Its record holds the decision.

    Raises:
        Interrupted: A signal came. No files are left.
        TrainingError: No plan can be trained.
        CannotWrite: There is no room in `folder`.
    """
    scores, setups = dict[str, float](), dict[str, RunSetup]()
    with writing(folder):
        created = tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}race-", dir=folder)
    with created as place:
        for plan in plans:
            name, watch = plan.start_name, FirstTenth(options.say)
            options.say(f"Trying a tenth of the run from {_shown(name)} ...")
            try:
                setup = contend(plan, Path(place) / name / folder.name, replace(options, observers=[watch]))
            except Interrupted as error:
                raise _stopped([plan.start_name for plan in plans], error) from None
            except TrainingError as error:
                options.say(f"From {_shown(name)}: {error}")
                continue
            setups[name], scores[name] = setup, watch.bits_per_byte
            options.say(f"From {_shown(name)}: {scores[name]:.3f} bits per byte on held-out text.")
        if not scores:
            raise TrainingError("Training failed from each of the models that were tried; the reasons are above.")
        winner = min(scores, key=lambda name: (scores[name], name))
        _move(setups[winner].folder, folder)
    plan = next(plan for plan in plans if plan.start_name == winner)
    return replace(setups[winner], folder=folder, record=_with_decision(setups[winner].record, plan, scores))


def _shown(name: str) -> str:
    return "random weights" if name == NONE else name


def _stopped(names: Sequence[str], error: Interrupted) -> Interrupted:
    return Interrupted(
        f"Stopped while {' and '.join(map(_shown, names))} were being compared, so nothing is saved. Start again; "
        "to skip the comparison, set start to one of them (none for random weights).",
        error.signal_number,
    )


def _move(source: Path, target: Path) -> None:
    """Moves all files of a run, so that a kill at any time leaves what can be resumed, or trained again and removed.

    The record comes first, which tells whose files the others are. The manifest and then the checkpoints come last,
    since they make a model and a run to resume of them. The files replace those that an earlier run, which saved no
    model, has left in the folder.
    """
    order = {TRAINING: -1, MANIFEST: 1, LOGS: 2, CHECKPOINTS: 3}
    for path in sorted(source.iterdir(), key=lambda path: order.get(path.name, 0)):
        with writing(target / path.name):
            if path.is_dir():
                replace_folder(path, target / path.name)
            else:
                rename(path, target / path.name, replace=True)


def _with_decision(record: dict[str, Any], plan: Plan, scores: Mapping[str, float]) -> dict[str, Any]:
    """The record of the winner with the scores of all."""
    compared = ", ".join(f"{_shown(name)} {score:.3f}" for name, score in scores.items())
    choice = replace(
        plan.choice,
        name=plan.sources.start.name if plan.sources.start else None,
        grounds=f"bits per byte after a tenth of the run: {compared}",
        decided_by=RACE,
        is_open=False,
        bits_per_byte=scores,
    )
    return record | {"start": choice.to_dict()}

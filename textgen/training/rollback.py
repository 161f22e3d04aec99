"""What becomes of a run that has failed: the checkpoint to which it returns, and when it gives up."""

from __future__ import annotations

from pathlib import Path

from textgen.errors import SavedModelError, TrainingError, Unreadable
from textgen.training.checkpoints import Checkpoint, newest_checkpoint
from textgen.training.distributed.distribution import Distribution
from textgen.training.distributed.same_state import require_same_state
from textgen.training.position import Position
from textgen.wording import counted


class RolledBack(Exception):
    """The run has returned to a checkpoint, and goes on from there with the text after the fault."""


def last_good_checkpoint(folder: Path, returned_to: float) -> Checkpoint:
    """Reads the newest checkpoint not yet used for a rollback since the last save; the oldest if all were.

    Args:
        folder: Checkpoints of the run.
        returned_to: Step of the checkpoint to which the run has returned, if it has saved none since; else infinity.

    Returns:
        The checkpoint.

    Raises:
        Unreadable: A checkpoint that may be intact cannot be read.
        SavedModelError: There is none.
    """
    try:
        return newest_checkpoint(folder, before=returned_to)[0]
    except Unreadable:
        raise
    except SavedModelError:
        return newest_checkpoint(folder, before=returned_to + 1)[0]


def agreed_checkpoint(folder: Path, returned_to: float, distribution: Distribution) -> Checkpoint:
    """Reads the checkpoint of `last_good_checkpoint` in all processes, which must call it together.

    Args:
        folder: Checkpoints of the run.
        returned_to: Step of the checkpoint to which the run has returned, if it has saved none since; else infinity.
        distribution: Processes that train together.

    Returns:
        The checkpoint.

    Raises:
        SavedModelError: There is none.
        TrainingError: The processes have read different ones.
    """
    try:
        found = last_good_checkpoint(folder, returned_to)
    except SavedModelError as error:
        try:
            require_same_state(distribution, None)
        except TrainingError as other:
            raise TrainingError(f"{other} This process has found none: {error}") from None
        raise
    require_same_state(distribution, found)
    return found


def when_to_give_up(position: Position, max_rollbacks: int, progress: float) -> str:
    """Says when a run that has returned to a checkpoint cannot go on; "" if it can.

    Args:
        position: Where the run would go on.
        max_rollbacks: How often a run may return to a checkpoint.
        progress: Fraction of the budget that is spent.
    """
    if position.health.rollbacks >= max_rollbacks:
        return f"after going back to a checkpoint {counted(position.health.rollbacks, 'time')}"
    if progress >= 1.0 and not position.step and not position.has_best:
        return "when the planned length was reached"
    return ""


def kept_weights_message(position: Position) -> str:
    """Returns a sentence on the weights that are left of a run that ends after it has returned to a checkpoint."""
    if position.has_best:
        return "The best weights so far are kept."
    return f"The weights of step {position.step:,} are kept." if position.step else "No weights are kept."

"""Plans how often a run validates, and for how long it waits for a better score."""

from __future__ import annotations

import math

from textgen.training.config import LARGE, TrainingConfig

SECONDS_BETWEEN = (10.0, 300.0)  # minimum and maximum seconds between validations of a planned run
USUAL_VALIDATIONS = 10  # validations in a run that is neither short nor long
PASSES_BETWEEN = 2  # maximum number of passes between validations, to find the best weights of a run that overfits


def validations_in(seconds: float) -> int:
    """How many validations a run of `seconds` seconds has: few in a short one, one every few minutes in a long one.

    Example:
        >>> validations_in(20), validations_in(60), validations_in(600), validations_in(7200)
        (2, 6, 10, 24)
    """
    least, most = SECONDS_BETWEEN
    return min(LARGE, max(2, min(USUAL_VALIDATIONS, int(seconds / least)), math.ceil(seconds / most)))


def plan_validations(training: TrainingConfig, seconds: float, passes: float) -> int:
    """Chooses num_validations.

    A run of many passes over a short text is at its best before its end. The schedule plateau and some averages count
    validations. So these get more of them than their time asks for, up to the usual number.

    Args:
        training: Schedule, optimizer and averaging.
        seconds: Duration of the steps.
        passes: Passes over the text.

    Returns:
        The number of validations.
    """
    number = max(validations_in(seconds), min(USUAL_VALIDATIONS, math.ceil(passes / PASSES_BETWEEN)))
    if training.schedule == "plateau" or training.weight_averaging == "last-k" or training.optimizer == "asgd":
        number = max(USUAL_VALIDATIONS, number)
    return number


def plan_patience(validations: int) -> int:
    """Chooses patience for a run with this number of validations: half of them, and not less than usual.

    Example:
        >>> plan_patience(3), plan_patience(100)
        (5, 50)
    """
    return max(TrainingConfig.patience or 1, validations // 2)

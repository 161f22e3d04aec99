"""Plans how often a run validates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from textgen.training.config import LARGE, TrainingConfig

SECONDS_BETWEEN = (10.0, 300.0)  # validations of a planned run: at least, and at most
USUAL_VALIDATIONS = 10  # of a run that is neither short nor long


def validations_in(seconds: float) -> int:
    """How many validations a run of so many seconds has: few in a short one, one every few minutes in a long one.

    Example:
        >>> validations_in(20), validations_in(60), validations_in(600), validations_in(7200)
        (2, 6, 10, 24)
    """
    least, most = SECONDS_BETWEEN
    return min(LARGE, max(2, min(USUAL_VALIDATIONS, int(seconds / least)), math.ceil(seconds / most)))


def plan_validations(training: TrainingConfig, seconds: float, given: Mapping[str, Any]) -> dict[str, int]:
    """num_validations, and patience for half a run.

    The schedule plateau and some averages count validations, so they get no fewer than usual.
    """
    number = validations_in(seconds)
    if training.schedule == "plateau" or training.weight_averaging == "last-k" or training.optimizer == "asgd":
        number = max(USUAL_VALIDATIONS, number)
    usual = TrainingConfig.patience or 1
    return {"num_validations": number, **({} if "patience" in given else {"patience": max(usual, number // 2)})}

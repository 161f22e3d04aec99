"""The status of a run, as its training.json has it: one of `STATUSES`, and after a colon why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUNNING, INTERRUPTED, FINISHED, FAILED = "running", "interrupted", "finished", "failed"
STATUSES = (RUNNING, INTERRUPTED, FINISHED, FAILED)
OVER_BY_TIME = "the limit of "  # how the reason begins that `minutes_over` makes


def status_word(training: Mapping[str, Any]) -> str:
    """Returns what is recorded, without why; one of `STATUSES` unless somebody else has written it.

    Args:
        training: Content of training.json.
    """
    return str(training.get("status")).partition(":")[0]


def is_finished(training: Mapping[str, Any]) -> bool:
    """Checks by the record whether a run came to its end.

    Args:
        training: Content of training.json.
    """
    return status_word(training) == FINISHED


def minutes_over(minutes: str, epochs: str) -> str:
    """Returns the reason why a run is over that its limit of minutes has ended.

    Args:
        minutes: The limit, such as "10 minutes".
        epochs: Epochs so far, and of how many, such as "0.50 of 4".

    Example:
        >>> minutes_over("10 minutes", "0.50 of 4")
        'the limit of 10 minutes is reached at epoch 0.50 of 4'
    """
    return f"{OVER_BY_TIME}{minutes} is reached at epoch {epochs}"


def is_ended_by_minutes(training: Mapping[str, Any]) -> bool:
    """Checks by the record whether only its limit of minutes has ended a run.

    Args:
        training: Content of training.json.

    Example:
        >>> is_ended_by_minutes({"status": f"{FINISHED}: {minutes_over('1 minute', '0.50')}"})
        True
    """
    return str(training.get("status")).startswith(f"{FINISHED}: {OVER_BY_TIME}")

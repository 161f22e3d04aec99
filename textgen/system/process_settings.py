"""Settings of the whole process that have other values only while they are needed: a library leaves them as they were.

Several blocks may need one at once, in several threads or as generators that are read in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import RLock
from types import TracebackType
from typing import Generic, TypeVar

Value = TypeVar("Value")


class TemporarySetting(Generic[Value]):
    """A setting that has another value while at least one block needs it. The last block to end puts it back.

    Example:
        >>> import csv
        >>> before = csv.field_size_limit()
        >>> long_fields = TemporarySetting(csv.field_size_limit, 1 << 30)
        >>> with long_fields:
        ...     csv.field_size_limit()
        1073741824
        >>> csv.field_size_limit() == before
        True
    """

    def __init__(self, change: Callable[[Value], Value], value: Value) -> None:
        """Prepares it; nothing is changed yet.

        Args:
            change: Sets the value. Returns the one before.
            value: The value in the blocks.
        """
        self._change, self._value = change, value
        self._lock = RLock()  # a generator may be collected, and its block end, while a block of this thread begins
        self._blocks = 0

    def __enter__(self) -> None:
        """Sets the value, unless another block has done so."""
        with self._lock:
            if not self._blocks:
                self._before = self._change(self._value)
            self._blocks += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Puts the value back, unless another block needs it."""
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._change(self._before)


def change_level(logger: logging.Logger, level: int) -> int:
    """Sets the level of a logger. Returns the one before."""
    before = logger.level
    logger.setLevel(level)
    return before

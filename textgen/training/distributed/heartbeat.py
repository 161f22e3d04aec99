"""Signs of life of the chief, while the other processes wait for what it does alone, which may take long.

Without them, a process that waits could not tell a chief that works from one that hangs.
"""

from __future__ import annotations

import time

from textgen.training.distributed.distribution import Distribution

BEATS = 10  # signs of life within the time after which a process that waits gives up


class Heartbeat:
    """The agreement of all processes that the chief is still at work, and when it is done."""

    def __init__(self, distribution: Distribution, limit: float | None) -> None:
        """Begins the work of the chief. All processes must make one at the same point.

        Args:
            distribution: Processes that train together.
            limit: Seconds after which a process that waits for another one ends; None for no limit.
        """
        self._distribution = distribution
        self._limit = limit
        self._last = time.monotonic()

    def beat(self) -> None:
        """Gives a sign of life if one is due; for the chief, which calls it often."""
        if self._limit and time.monotonic() - self._last >= self._limit / BEATS:
            self._tell(0.0)
            self._last = time.monotonic()

    def end(self) -> None:
        """Tells the other processes that the chief is done; for the chief. Later beats tell nothing."""
        self._tell(1.0)
        self._limit = None

    def wait(self) -> None:
        """Waits until the chief is done; for the other processes. Ends this one if there is no sign of life."""
        with self._distribution.together(self._limit) as restart_timer:
            while not self._distribution.total([0.0])[0]:
                restart_timer()

    def _tell(self, is_done: float) -> None:
        with self._distribution.together(self._limit):
            self._distribution.total([is_done])

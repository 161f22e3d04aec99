"""The time that a run and its steps take, and their speed."""

from __future__ import annotations

import time

SPEED_DECAY = 0.95  # decay rate of the running mean of tokens per second


class Stopwatch:
    """Measures a run and its current step, in seconds."""

    def __init__(self, seconds: float) -> None:
        """Starts at the `seconds` that the run has taken so far."""
        self._step_started = time.perf_counter()
        self._zero = self._step_started - seconds

    def read(self) -> tuple[float, float]:
        """Seconds of the run, and of the step."""
        now = time.perf_counter()
        return now - self._zero, now - self._step_started

    def start_step(self) -> None:
        """Starts the next step. Validating and saving before it do not count into its speed."""
        self._step_started = time.perf_counter()


class SpeedMeter:
    """A running mean of the speed, in tokens per second.

    Example:
        >>> meter = SpeedMeter()
        >>> meter.add(1000.0), meter.add(2000.0)
        (1000.0, 1050.0)
    """

    def __init__(self) -> None:
        self._mean = 0.0

    def add(self, tokens_per_second: float) -> float:
        """Counts the speed of a step. Returns the mean."""
        decay = SPEED_DECAY if self._mean else 0.0
        self._mean = decay * self._mean + (1 - decay) * tokens_per_second
        return self._mean

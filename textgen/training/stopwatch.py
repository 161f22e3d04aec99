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
    """A running mean of the speed, in tokens per second, without the steps that TensorFlow compiles.

    The first step with a softmax that is sampled, or with the full one, is compiled, as is the first one with each
    length of the windows. The mean begins anew when the softmax changes, because the speed then changes for good.

    Example:
        >>> meter = SpeedMeter()
        >>> meter.add(10.0), meter.add(1000.0), meter.add(1000.0)
        (10.0, 1000.0, 1000.0)
    """

    def __init__(self) -> None:
        self._sum = self._weight = self._last = 0.0
        self._is_sampled: bool | None = None
        self._compiled = set[tuple[bool, float]]()

    def add(self, tokens_per_second: float, *, is_sampled: bool = False, window_fraction: float = 1.0) -> float:
        """Counts the speed of a step.

        Args:
            tokens_per_second: Its speed.
            is_sampled: Whether its softmax was sampled.
            window_fraction: Length of its windows relative to full ones.

        Returns:
            The mean. Until a step counts, it is the last mean or, if there is none, the speed of this step.
        """
        if is_sampled != self._is_sampled:
            self._is_sampled, self._sum, self._weight = is_sampled, 0.0, 0.0
        if (is_sampled, window_fraction) in self._compiled:
            self._sum = SPEED_DECAY * self._sum + (1 - SPEED_DECAY) * tokens_per_second
            self._weight = SPEED_DECAY * self._weight + (1 - SPEED_DECAY)
            self._last = self._sum / self._weight
        self._compiled.add((is_sampled, window_fraction))
        return self._last or tokens_per_second

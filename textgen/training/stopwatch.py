"""The time that a run and its steps take, and their speed."""

from __future__ import annotations

import threading
import time
from time import monotonic, process_time

PULSE = 0.5  # seconds between two looks at the clock, by which it is noticed that the process was stopped
MIN_STOP_SECONDS = 5.0  # minimum seconds between two looks that count as a stop: a busy machine may delay one
MAX_WORK_CORES = 0.5  # maximum number of cores in use meanwhile: Python code that keeps other threads waiting uses one
SPEED_DECAY = 0.95  # decay rate of the running mean of tokens per second


class Stopwatch:
    """Measures a run and its current step, in seconds; use it as a context manager.

    The time for which the process is stopped, as by Ctrl-Z, or its machine asleep, does not count.
    """

    def __init__(self, seconds: float) -> None:
        """Starts at the `seconds` that the run has taken so far."""
        self._stops = _Stops()
        self._step_started = self._now()
        self._zero = self._step_started - seconds

    def __enter__(self) -> Stopwatch:
        self._stops.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stops.end()

    def read(self) -> tuple[float, float]:
        """Seconds of the run, and of the step."""
        now = self._now()
        return now - self._zero, now - self._step_started

    def start_step(self) -> None:
        """Starts the next step. Validating and saving before it do not count into its speed."""
        self._step_started = self._now()

    def _now(self) -> float:
        while True:
            stopped, now = self._stops.seconds(), time.perf_counter()
            if self._stops.seconds() == stopped:  # else there was a stop between the two
                return now - stopped


class _Stops:
    """Measures for how long the process was stopped.

    A thread looks at the clock every `PULSE` seconds. Only a stop of the whole process can prevent that, so a step that
    waits long, for a disk, a GPU or another process, is not mistaken for a stop.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._last, self._work = monotonic(), process_time()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="stopwatch")

    def start(self) -> None:
        """Starts to look at the clock."""
        self._last, self._work = monotonic(), process_time()
        self._thread.start()

    def end(self) -> None:
        """Looks no more."""
        self._is_over.set()
        self._thread.join()

    def seconds(self) -> float:
        """Seconds for which the process was stopped so far, up to now."""
        if not self._thread.is_alive():  # long steps would be taken for stops
            return self._seconds
        with self._lock:
            now, work = monotonic(), process_time()
            passed = now - self._last
            if passed >= MIN_STOP_SECONDS and work - self._work <= MAX_WORK_CORES * passed:
                self._seconds += passed
            self._last, self._work = now, work
            return self._seconds

    def _look(self) -> None:
        while not self._is_over.wait(PULSE):
            self.seconds()


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

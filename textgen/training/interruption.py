"""Signals that ask a program to stop, kept until it reaches a place where it can."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgen.training.distribution import Distribution

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAME_SECONDS = 1.0  # signals within this time are one: a terminal, a shell and a launcher may each send it


class StopRequests:
    """Records the first of Ctrl-C, SIGTERM and SIGHUP; a later one acts at once, as it did before.

    Attributes:
        received: Number of the first signal; 0 if there is none.
    """

    def __init__(self, on_first: Callable[[int], None] = lambda number: None) -> None:
        """`on_first` is called with the first signal, and with repetitions of it, inside the signal handler."""
        self.received = 0
        self._received_at = 0.0
        self._on_first = on_first

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Records signals inside the block. In other threads than the main one it does nothing.

        A SIGHUP that is ignored, as under nohup, stays ignored. A signal whose handler was not set by Python stays with
        it: Python could not put such a handler back.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        previous = {number: handler for number, handler in handlers.items() if handler is not None}
        if previous.get(getattr(signal, "SIGHUP", 0)) is signal.SIG_IGN:
            del previous[signal.SIGHUP]

        def handle(number: int, frame: Any) -> None:
            if not self.received:
                self.received, self._received_at = number, time.monotonic()
            elif time.monotonic() - self._received_at > SAME_SECONDS:
                _restore(previous)
                signal.raise_signal(number)
                return
            self._on_first(number)

        for number in previous:
            signal.signal(number, handle)
        try:
            yield
        finally:
            _restore(previous)


class StopAgreement:
    """Makes all processes of a run stop at the same step.

    A signal may reach one process alone, at any moment. So what all do together depends only on what was agreed, never
    on what one of them has received; that is kept until the next agreement.

    Attributes:
        requests: Signals that this process has received.
        signal: Number of the signal by which all processes have agreed to stop; 0 if there is none.
    """

    def __init__(self, distribution: Distribution) -> None:
        self.requests = StopRequests()
        self.signal = 0
        self._distribution = distribution

    def agree(self, seconds: float, wanted: str) -> tuple[float, str]:
        """Exchanges clocks and wishes to stop. All processes must call it together.

        Args:
            seconds: Seconds of training, by the clock of this process.
            wanted: Why this process wants to stop; "" if it does not.

        Returns:
            The seconds by the chief's clock, and why to stop.
        """
        received = self.requests.received
        values = [seconds if self._distribution.is_chief else 0.0, float(bool(wanted))]
        values += [float(received == number) for number in STOP_SIGNALS]
        seconds, stop, *signals = self._distribution.total(values)
        agreed = next((number for number, sent in zip(STOP_SIGNALS, signals, strict=True) if sent), 0)
        self.signal = self.signal or agreed
        return seconds, wanted or ("the chief stopped it" if stop else "")


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)

"""Signals that ask a program to stop, kept until it reaches a place where it can."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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

        A signal that is ignored stays ignored, such as SIGHUP under nohup and SIGINT of a job in the background. A
        signal whose handler was not set by Python stays with it: Python could not put such a handler back.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        previous = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

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


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)

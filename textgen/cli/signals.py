"""SIGTERM and SIGHUP end a command like Ctrl-C, so that nothing of a text is left among the temporary files."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from textgen.errors import ENDING_SIGNALS


class Ended(KeyboardInterrupt):
    """Raised in the main thread by a signal. Like Ctrl-C it passes everything that handles errors.

    Attributes:
        exit_code: 128 plus the number of the signal, as in a shell.
    """

    def __init__(self, number: int) -> None:
        super().__init__(ENDING_SIGNALS[signal.Signals(number).name])
        self.exit_code = 128 + number


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise `Ended` in the block; a second signal ends the process at once.

    Only where the signal would end the process: a signal that is ignored stays so, and other handlers stay. In other
    threads than the main one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    process = os.getpid()

    def restore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    def end(number: int, _: FrameType | None) -> None:
        restore()
        if os.getpid() != process:  # a child that was forked has nothing to clean up
            signal.raise_signal(number)
        raise Ended(number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()

"""A standard error that may be closed, full or without a reader: no command fails because of it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


def keep_going_without_stderr() -> None:
    """From now on, lines that standard error does not accept are lost, without an error."""
    _occupy_standard_descriptors()
    # It is None where it was closed before Python began.
    stream = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open to the end
    sys.stderr = cast(TextIO, Forgiving(stream))


class Forgiving:
    """A stream to which writing never fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes as much as possible."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes as much as possible."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _occupy_standard_descriptors() -> None:
    """Opens the null device as descriptor 0, 1 or 2 if it is closed; otherwise a file of ours would get the number.

    TensorFlow writes its log to descriptor 2, whatever that is.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)

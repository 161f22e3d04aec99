"""Programs that run beside a test and end with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def child_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that does not outlive the block, not even if the test fails there.

    Args:
        command: The program and its arguments.
        options: Those of `subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def controlling(command: Sequence[str]) -> list[str]:
    """The command that makes standard input its controlling terminal; start it in a session of its own."""
    code = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", code, *command]

"""Starts child processes safely, and ends them together with their parent."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WORKER_VARIABLE = "TEXTGEN_WORKER"  # environment variable with the index of a worker and its file descriptors
LAST_SECONDS = 30.0  # time to save and exit after the parent has ended


def child_command(module: str) -> list[str]:
    """Returns the command line that runs a module in a new Python process.

    The option -P keeps the current folder out of the module search path. Otherwise a file random.py in the current
    folder would be imported instead of Python's module.

    Args:
        module: Name of the module.

    Returns:
        The program and its arguments.
    """
    return [sys.executable, "-P", "-m", module]


def child_environment() -> dict[str, str]:
    """Returns the environment for a child process, in which Python does not import from the current folder.

    Empty and relative entries of PYTHONPATH are removed, and PYTHONSAFEPATH is set for the descendants of the child.
    `WORKER_VARIABLE` is removed, since the child is not the same worker.

    Returns:
        Environment variables by name.
    """
    environment = {name: value for name, value in os.environ.items() if name not in (WORKER_VARIABLE, "PYTHONPATH")}
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(folder)]
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment | {"PYTHONSAFEPATH": "1"}


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C from the programs that are started within the block, until they unblock it or the parent ends them.

    They begin with SIGINT blocked, so that it cannot end them with a traceback while they import modules. This process
    receives one that comes meanwhile after the block. On Windows, where signals cannot be blocked, nothing changes.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent_pipe: int) -> None:
    """Ends this process when its parent ends, even if the parent is killed with SIGKILL.

    Starts a thread that waits until the other end of a pipe is closed and then sends SIGTERM to this process, so that
    training saves its state. The process is forced to exit after `LAST_SECONDS`.

    Args:
        parent_pipe: File descriptor of the reading end of a pipe whose writing end is held by the parent.
    """
    threading.Thread(target=_wait_for_the_end, args=(parent_pipe,), daemon=True, name="parent-pipe").start()


def _wait_for_the_end(parent_pipe: int) -> None:
    while os.read(parent_pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # training saves first; on Windows the process ends immediately
    time.sleep(LAST_SECONDS)
    os._exit(1)

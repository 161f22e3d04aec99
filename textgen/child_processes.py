"""Processes of ours that run our code: how they are started, and how they end with the one that started them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

WORKER_VARIABLE = "TEXTGEN_WORKER"  # environment variable: which worker a process is, and its file descriptors
LAST_SECONDS = 30.0  # to save in, for a process whose launcher is gone


def child_command(module: str) -> list[str]:
    """The words of a command line that run `module`, whatever lies in the current folder.

    Without -P, Python would look for modules there first, and a user's own random.py would run instead of Python's.
    """
    return [sys.executable, "-P", "-m", module]


def child_environment() -> dict[str, str]:
    """Our environment for such a process: nothing in it leads Python back to the current folder.

    Empty and relative entries of PYTHONPATH would: they are left out. What the process starts itself is kept from it,
    too, and from our place among workers.
    """
    environment = {name: value for name, value in os.environ.items() if name not in (WORKER_VARIABLE, "PYTHONPATH")}
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(folder)]
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment | {"PYTHONSAFEPATH": "1"}


def end_with(leash: int) -> None:
    """From now on, has this process save and end when the other end of the pipe `leash` is closed.

    That happens whatever ends the process which holds it, SIGKILL too.
    """
    threading.Thread(target=_wait_for_the_end, args=(leash,), daemon=True, name="leash").start()


def _wait_for_the_end(leash: int) -> None:
    while os.read(leash, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # training saves, anything else ends; Windows ends both at once
    time.sleep(LAST_SECONDS)
    os._exit(1)

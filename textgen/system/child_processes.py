"""Starts child processes safely, and ends them together with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

WORKER_VARIABLE = "TEXTGEN_WORKER"  # environment variable with the index of a worker and its file descriptors
LAST_SECONDS = 30.0  # time to save and exit after the parent has ended
LAST_WORDS = 2000  # bytes of the output of a process that are searched for its last line
PACKAGE = Path(__file__).parents[1] / "__init__.py"  # of textgen
# What runs a module. The package is imported from its file, since other files beside it may not be meant. The folders
# have the order that they have in the parent, so that they hide from each other, and from Python, what they hide there.
# What only the child has, such as a current folder that a .pth file names, comes last and hides nothing.
PROGRAM = """import sys
from importlib.util import module_from_spec, spec_from_file_location
from runpy import run_module
folders = {folders}
sys.path[:] = [*folders, *(folder for folder in sys.path if folder not in folders)]
spec = spec_from_file_location("textgen", {package})
sys.modules["textgen"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["textgen"])
run_module({module}, run_name="__main__", alter_sys=True)"""


def child_command(module: str) -> list[str]:
    """Returns the command line that runs a module of textgen in a new Python process.

    The process has the options of this one's interpreter, such as -I and -W, its module search path and its textgen,
    wherever that was imported from. The current folder is left out of the path, otherwise a file random.py in it would
    be imported instead of Python's module. The textgen of this process may lie there nevertheless.

    Args:
        module: Name of the module.

    Returns:
        The program and its arguments.
    """
    # Where multiprocessing, too, gets them from.
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    folders = [folder for folder in map(_safe_folder, filter(_is_text, sys.path)) if folder]
    program = PROGRAM.format(folders=ascii(folders), package=ascii(str(PACKAGE)), module=ascii(module))
    return [sys.executable, *options, "-P", "-c", program]


def child_environment() -> dict[str, str]:
    """Returns the environment for a child process, in which Python does not import from the current folder.

    Empty entries of PYTHONPATH are removed, and relative ones for the current folder; other relative ones are made
    absolute. PYTHONSAFEPATH is set for the descendants of the child. `WORKER_VARIABLE` is removed, since the child is
    not the same worker.

    Returns:
        Environment variables by name.
    """
    environment = {name: value for name, value in os.environ.items() if name not in (WORKER_VARIABLE, "PYTHONPATH")}
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [entry if os.path.isabs(entry) else _safe_folder(entry) for entry in entries]
    if any(folders):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    return environment | {"PYTHONSAFEPATH": "1"}


def _is_text(entry: object) -> bool:
    return isinstance(entry, str)  # Python passes over anything else in its path


def _safe_folder(entry: str) -> str:
    """The absolute path of an entry of a module search path; "" for the current folder and for none."""
    try:
        return "" if os.path.samefile(entry, os.curdir) else os.path.abspath(entry)
    except OSError:  # nothing is there, or the current folder was deleted
        return entry if os.path.isabs(entry) else ""


def how_it_ended(code: int) -> str:
    """Says how a process has ended.

    Args:
        code: Its return code, as `subprocess` has it.

    Returns:
        Words that follow the name of the process, such as "was ended by SIGKILL".
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # those for real time have no names
        return f"was ended by signal {-code}"


def last_words(output: IO[bytes]) -> str:
    """Returns the last line that a process wrote.

    Args:
        output: File to which it wrote.

    Returns:
        The line; "" if there is none.
    """
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - LAST_WORDS))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


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

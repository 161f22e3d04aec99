"""Starts several training processes on this machine, and restarts them if one is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import IO

from textgen.errors import TrainingError
from textgen.saved_model.folder_contents import has_steps
from textgen.storage.system_errors import ADVICE, reason_of
from textgen.storage.temporary import new_temporary_file
from textgen.system.child_processes import (
    WORKER_VARIABLE,
    child_command,
    child_environment,
    how_it_ended,
    last_words,
)
from textgen.training.distributed import worker_group
from textgen.training.interruption import StopRequests
from textgen.wording import Say, counted

FINAL = (0, 1, 2, 129, 130, 143)  # exit codes that end the run: done, an error of the user, a signal
MAX_PAUSE_SECONDS = 60.0  # maximum seconds before a restart
PATIENCE = 30.0  # seconds that the other processes have to end once the first has ended for good


def run_workers(
    arguments: Sequence[str],
    resume_arguments: Callable[[], Sequence[str]],
    number: int,
    folder: Path,
    *,
    max_restarts: int,
    say: Say,
    command: Sequence[str] | None = None,
) -> int:
    """Runs textgen as several processes that train one model.

    The processes are joined by a `textgen.training.distributed.worker_group`. The first, the chief, writes to the
    stdout and stderr of this process. If one is lost, the others are ended and all are started again. They receive the
    signals of this process, and save and end if it ends.

    Args:
        arguments: Arguments of `textgen` for a new run.
        resume_arguments: Returns the arguments to resume it, used after a restart if there is a checkpoint.
        number: Number of processes.
        folder: Folder of the model.
        max_restarts: Restarts, at most.
        say: Called with a line of text for each restart and for an error of a worker.
        command: Command to run in place of `textgen`.

    Returns:
        The exit code.

    Raises:
        ConfigError: There are too many processes for this machine.
        TrainingError: A process was lost after the last restart, or the processes cannot be started.
        CannotWrite: There is no folder for temporary files.
    """
    if os.name != "posix":
        raise TrainingError("Several processes on one machine need a POSIX system, such as WSL: leave workers out.")
    worker_group.require_workers(number)
    command = command or child_command("textgen")
    for restart in range(max_restarts + 1):
        resuming = restart > 0 and has_steps(folder)
        with _Workers([*command, *(resume_arguments() if resuming else arguments)], number) as workers:
            worker, code = workers.wait()
            if code in FINAL:
                if code and worker:
                    say(workers.last_words(worker))
                return code
            lost = f"Worker {worker} of {number} {_ending(code)}."
            if words := workers.last_words(worker):
                lost += f" Its last words: {words}"
        if workers.requests.received:  # while they worked, or were ended
            return 128 + workers.requests.received
        if restart < max_restarts:
            pause = min(MAX_PAUSE_SECONDS, 2.0**restart)
            say(f"{lost} All start again from the last checkpoint in {pause:.0f} s ({restart + 1} of {max_restarts}).")
            time.sleep(pause)
    raise TrainingError(
        f"{lost} That was the last of {counted(max_restarts, 'restart')}: everything saved so far stays."
    )


class _Workers:
    """The processes of a run; they end with the block, or with this process."""

    def __init__(self, command: Sequence[str], number: int) -> None:
        self.requests = StopRequests(self._pass_on)
        self._command = command
        self._number = number
        self._outputs: list[IO[bytes] | None] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._open = ExitStack()

    def __enter__(self) -> _Workers:
        try:
            with ExitStack() as opened:
                opened.enter_context(self.requests.caught())
                opened.callback(self._end)
                self._start_all(opened)
                self._open = opened.pop_all()
        except OSError as error:  # too many open files, processes or threads
            advice = ADVICE.get(error.errno or 0, "Close other programs, and try again.")
            raise TrainingError(
                f"{self._number:,} processes cannot be started: {reason_of(error)}. {advice} Or choose fewer workers."
            ) from None
        return self

    def _start_all(self, opened: ExitStack) -> None:
        """Starts the processes. `opened` closes what stays open until they end."""
        parent_pipe, held = os.pipe()  # closed when this process ends, whatever ends it
        opened.callback(os.close, held)
        with ExitStack() as copied:  # the copies of the workers stay open: a connection ends with its worker
            copied.callback(os.close, parent_pipe)
            links = worker_group.connected(self._number)
            for link in chain.from_iterable(links):
                copied.callback(link.close)
            for worker in range(self._number):
                self._start(worker, links[worker], parent_pipe)

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _start(self, worker: int, links: Sequence[socket.socket], parent_pipe: int) -> None:
        output = new_temporary_file() if worker else None  # closed with the block
        self._outputs.append(output)
        place = worker_group.description(worker, self._number, links, parent_pipe)
        process = subprocess.Popen(
            self._command, env=child_environment() | {WORKER_VARIABLE: place}, stdout=output, stderr=output,
            stdin=subprocess.DEVNULL if worker else None, pass_fds=[parent_pipe, *(link.fileno() for link in links)],
        )  # fmt: skip
        self._processes.append(process)
        if self.requests.received:  # before it was there
            self._pass_on(self.requests.received)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()  # works for a stopped process, too
            process.wait()
        for output in filter(None, self._outputs):
            output.close()

    def wait(self) -> tuple[int, int]:
        """Waits until all end or one fails.

        Returns:
            The worker that failed first and its exit code, a cause rather than its consequences; 0, 0 if none failed.
        """
        codes = self._wait_for_the_first()
        final = [worker for worker, code in enumerate(codes) if code in FINAL and code]
        lost = [worker for worker, code in enumerate(codes) if code is not None and code not in FINAL]
        killed = [worker for worker in lost if (codes[worker] or 0) < 0]
        worker = (final or killed or lost or [0])[0]
        return worker, codes[worker] or 0

    def last_words(self, worker: int) -> str:
        """The last line of output of a worker; "" for the chief."""
        output = self._outputs[worker]
        return last_words(output) if output else ""

    def _wait_for_the_first(self) -> list[int | None]:
        """Waits until all have ended or one has failed, then a little for the others. Returns exit codes so far."""
        until = None
        while True:
            codes = [process.poll() for process in self._processes]
            if None not in codes:
                return codes
            failed = [code for code in codes if code]
            if failed and until is None:
                until = time.monotonic() + (PATIENCE if all(code in FINAL for code in failed) else 1.0)
            if until and time.monotonic() > until:
                return codes
            time.sleep(0.1)

    def _pass_on(self, number: int) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _ending(code: int) -> str:
    if code == -getattr(signal, "SIGALRM", 0):
        return "did not make progress in time (start_timeout, step_timeout)"
    return how_it_ended(code)

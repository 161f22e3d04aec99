"""Encodes text on all cores.

Python runs on one core at a time, and converting the results to Python lists takes as long as encoding. So each core
gets a process of its own, fed by a thread through pipes; reading, encoding and writing overlap.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import IO, Any, cast

import numpy as np

from textgen.errors import TokenizerError
from textgen.storage.files import CannotWrite
from textgen.storage.temporary import new_temporary_file
from textgen.system.child_processes import (
    child_command,
    child_environment,
    how_it_ended,
    last_words,
    without_interrupts,
)
from textgen.system.machine import num_cores
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer

WORTH_IT = 8  # minimum number of batches for several processes; fewer are encoded in this one
AHEAD = 2  # batches read in advance for each process
LAST_SECONDS = 5.0  # for which a process that has closed its pipes may go on


def encode_batches(
    batches: Iterable[Sequence[str]], tokenizer: Tokenizer, dtype: np.dtype
) -> Generator[list[np.ndarray]]:
    """Encodes batches of texts, in order, holding only a few of them at a time.

    Args:
        batches: Batches of texts, read as they are needed.
        tokenizer: Vocabulary.
        dtype: Type of the ids.

    Yields:
        For each batch, the token ids of each text.

    Raises:
        TokenizerError: A text is not valid, or a process has ended.
    """
    batches = iter(batches)
    first = list(islice(batches, WORTH_IT))
    if len(first) < WORTH_IT or num_cores() == 1:
        for batch in chain(first, batches):
            yield _encode(tokenizer, batch, dtype)
        return
    with _Encoders(tokenizer, dtype, num_cores()) as encoders:
        waiting: deque[Future[list[np.ndarray]]] = deque()
        for batch in chain(first, batches):
            waiting.append(encoders.submit(batch))
            if len(waiting) > AHEAD * num_cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _encode(tokenizer: Tokenizer, texts: Sequence[str], dtype: np.dtype) -> list[np.ndarray]:
    return [np.asarray(ids, dtype) for ids in tokenizer.encode_batch(texts)]


class _Encoders:
    """Processes that encode; one thread at a time talks to each."""

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype, number: int) -> None:
        self._setup = (tokenizer.serialized, dtype)
        self._threads = ThreadPoolExecutor(number)
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._number = number
        self._errors = _file_for_errors()
        self._reading = Lock()

    def __enter__(self) -> _Encoders:
        try:
            with without_interrupts():
                for _ in range(self._number):
                    self._processes.append(_started(self._errors))
            for process in self._processes:
                self._set_up(process)
                self._idle.put(process)
        except BaseException as error:
            self.__exit__(type(error), error, None)  # which `with` leaves out
            raise
        return self

    def _set_up(self, process: subprocess.Popen[bytes]) -> None:
        try:
            _send(self._setup, cast(IO[bytes], process.stdin))
        except OSError:
            raise self._ended(process) from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind:
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # of a process that has ended
                    cast(IO[bytes], pipe).close()
            process.wait()
        if self._errors:
            self._errors.close()

    def submit(self, texts: Sequence[str]) -> Future[list[np.ndarray]]:
        """Encodes texts in one of the processes."""
        return self._threads.submit(self._ask, list(texts))

    def _ask(self, texts: list[str]) -> list[np.ndarray]:
        process = self._idle.get()
        try:
            _send(texts, cast(IO[bytes], process.stdin))
            answer = pickle.load(cast(IO[bytes], process.stdout))
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._ended(process) from None
        finally:
            self._idle.put(process)
        if isinstance(answer, TokenizerError):
            raise answer
        return cast("list[np.ndarray]", answer)

    def _ended(self, process: subprocess.Popen[bytes]) -> TokenizerError:
        """The error for a process that has closed its pipes, or written something else into them."""
        try:
            code = process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            return TokenizerError("A process that encodes the corpus does not answer. Try again.")
        what = f"A process that encodes the corpus {how_it_ended(code)}."
        if code == -getattr(signal, "SIGKILL", 0):  # as the system ends one that takes too much
            return TokenizerError(f"{what} There may be too little memory: close other programs.")
        with self._reading:
            words = last_words(self._errors) if self._errors else ""
        return TokenizerError(f"{what} Its last words: {words}" if words else f"{what} Try again.")


def _file_for_errors() -> IO[bytes] | None:
    """A file for what the processes write to stderr; None, for that of this process, where there can be none."""
    try:
        return new_temporary_file()
    except CannotWrite:
        return None


def _started(errors: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            child_command("textgen.dataset.parallel_encoding"),
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    except OSError as error:
        raise TokenizerError(
            f"Cannot start a process that encodes the corpus: {error.strerror or error}. End other programs, or raise "
            "the limits of memory, processes and open files."
        ) from None


def _send(message: object, pipe: IO[bytes]) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _serve(source: IO[bytes], target: IO[bytes]) -> None:
    """The loop of a process: reads lists of texts and writes lists of ids, until the pipe is closed."""
    received = _messages(source)
    setup = next(received, None)
    if setup is None:  # the parent has ended
        return
    serialized, dtype = setup
    tokenizer = load_tokenizer(serialized)
    for texts in received:
        try:
            answer: object = [np.asarray(ids, dtype) for ids in tokenizer.encode_batch(texts, num_threads=1)]
        except TokenizerError as error:
            answer = error
        _send(answer, target)


def _messages(source: IO[bytes]) -> Iterator[Any]:
    """What the parent sends, until it closes the pipe or ends, be it amid a message."""
    with suppress(EOFError, pickle.UnpicklingError):
        while True:
            yield pickle.load(source)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends without a word if the parent has ended
    _serve(sys.stdin.buffer, sys.stdout.buffer)

"""Sums arrays over the worker processes of one machine, through sockets that they inherit from their launcher.

No port is opened: a pair of connected sockets leads from the chief to each other worker, and no other process can reach
them. TensorFlow's own servers, which several machines need, listen on all networks and have no authentication.

The chief computes each sum in the order of the workers and sends it to all, so that all get the same bits. Arrays pass
in pieces: a worker sends the next piece while the chief sums the last one, and no piece leaves the processor's cache.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from textgen.errors import ConfigError, TrainingError, WorkerLost
from textgen.system.child_processes import WORKER_VARIABLE
from textgen.system.machine import available_cores
from textgen.wording import counted

HEADER = struct.Struct("!Q")  # number of bytes that follow it
PIECE_BYTES = 1 << 16
SOCKET_BYTES = 4 * PIECE_BYTES  # size of a socket's buffer: a piece fits, so two workers can send to each other


MAX_WORKERS, WORKERS_PER_CORE = 8, 4
"""Maximum number of workers of a machine: the larger of the first and of the second times the cores.

More than one for each core are slower than that, but show on a small machine how a run of several processes goes.
Each takes about 0.8 GB, so many more of them would fill the memory.
"""


def require_workers(number: int) -> None:
    """Checks that this machine can run so many workers. Raises `ConfigError`."""
    most = max(MAX_WORKERS, WORKERS_PER_CORE * available_cores())
    if number > most:
        raise ConfigError(
            f"workers must be at most {most} on this machine, which has {counted(available_cores(), 'processor core')} "
            f"for this process. Received: {number}."
        )


class Group:
    """The connections of a worker: the chief, worker 0, has one to each other worker, and they have one to the chief.

    Attributes:
        worker: Number of this worker, from 0.
        size: Number of workers.
    """

    def __init__(self, worker: int, size: int, links: Sequence[socket.socket]) -> None:
        self.worker = worker
        self.size = size
        self._links = list(links)

    def summed(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sums arrays over all workers. They must call it together, with the same shapes and types.

        Raises:
            WorkerLost: Another worker has ended.
        """
        arrays = [np.asarray(array, order="C") for array in arrays]
        sums = [np.empty_like(array) for array in arrays]
        pieces = list(_pieces(arrays, sums))
        with _lost_if_closed():
            self._agree(sum(array.nbytes for array in arrays))
            if self.worker:
                self._exchange(pieces)
            else:
                self._add(pieces)
        return sums

    def _agree(self, size: int) -> None:
        """Checks that all workers are about to send as many bytes as the chief."""
        if self.worker:
            self._links[0].sendall(HEADER.pack(size))
            return
        for link in self._links:
            if HEADER.unpack(_read(link, np.empty(HEADER.size, np.uint8)).data)[0] != size:
                raise TrainingError("The workers are at different positions of the run: restart all of them.")

    def _add(self, pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Sums pieces, as the chief: reads those of all others, and sends each sum to them."""
        for own, total in pieces:
            theirs = np.empty_like(own)
            for number, link in enumerate(self._links):
                _read(link, theirs.view(np.uint8))
                np.add(total if number else own, theirs, out=total)
            for link in self._links:
                link.sendall(total.view(np.uint8).data)

    def _exchange(self, pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Sends pieces to the chief and reads their sums, always one piece ahead."""
        link = self._links[0]
        for number in range(len(pieces) + 1):
            if number < len(pieces):
                link.sendall(pieces[number][0].view(np.uint8).data)
            if number:
                _read(link, pieces[number - 1][1].view(np.uint8))

    def gathered(self, array: np.ndarray) -> np.ndarray:
        """Joins the rows of all workers, in their order. They must call it together, each with as many rows."""
        rows = len(array)
        whole = np.zeros((rows * self.size, *array.shape[1:]), array.dtype)
        whole[self.worker * rows : (self.worker + 1) * rows] = array
        return self.summed([whole])[0]

    def close(self) -> None:
        """Closes the connections, so that the other workers notice."""
        for link in self._links:
            link.close()


def _pieces(arrays: Sequence[np.ndarray], sums: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The parts of arrays that are sent at a time, flat, each with its place in the sums."""
    for array, total in zip(arrays, sums, strict=True):
        own, place, step = array.reshape(-1), total.reshape(-1), max(1, PIECE_BYTES // array.itemsize)
        for start in range(0, array.size, step):
            yield own[start : start + step], place[start : start + step]


def _read(link: socket.socket, target: np.ndarray) -> np.ndarray:
    """Reads as many bytes as `target` holds."""
    rest = target.data
    while rest:
        count = link.recv_into(rest)
        if not count:
            raise ConnectionError
        rest = rest[count:]
    return target


@contextmanager
def _lost_if_closed() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise WorkerLost("Another process was lost, or did not answer.") from None


def connected(size: int) -> list[list[socket.socket]]:
    """Makes the connections of `size` workers. Returns the sockets of each.

    Raises:
        OSError: There are too many open files. No connection is left.
    """
    pairs = list[tuple[socket.socket, socket.socket]]()
    try:
        for _ in range(size - 1):
            pairs.append(socket.socketpair())
    except OSError:
        for each in chain.from_iterable(pairs):
            each.close()
        raise
    for each in chain.from_iterable(pairs):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            each.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
    return [[chief for chief, _ in pairs], *([other] for _, other in pairs)]


def description(worker: int, size: int, links: Sequence[socket.socket], parent_pipe: int) -> str:
    """The value of `WORKER_VARIABLE` for a worker that inherits these sockets.

    `textgen.system.child_processes.end_with` explains `parent_pipe`.
    """
    return json.dumps(
        {"worker": worker, "of": size, "links": [link.fileno() for link in links], "parent_pipe": parent_pipe}
    )


def rank_and_size() -> tuple[int, int] | None:
    """Number of this worker and number of workers; None if no launcher started this process."""
    known = _described()
    return (int(known["worker"]), int(known["of"])) if known else None


def parent_pipe() -> int | None:
    """The file descriptor that closes when the launcher ends; None if no launcher started this process."""
    known = _described()
    return int(known["parent_pipe"]) if known else None


def join() -> Group | None:
    """Opens the connections of this worker. Call it once.

    Returns:
        The connections; None if no launcher started this process.

    Raises:
        TrainingError: The sockets are missing.
    """
    known = _described()
    if not known:
        return None
    try:
        links = [socket.socket(fileno=number) for number in known["links"]]
    except OSError:
        raise TrainingError(f"The connections named in {WORKER_VARIABLE} do not exist: unset it.") from None
    return Group(int(known["worker"]), int(known["of"]), links)


def _described() -> dict[str, Any] | None:
    return json.loads(os.environ[WORKER_VARIABLE]) if WORKER_VARIABLE in os.environ else None

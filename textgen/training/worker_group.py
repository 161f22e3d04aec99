"""Worker processes of one machine that add up arrays over sockets which they inherit from their launcher.

Nothing listens: a pair of connected sockets leads from the chief to each of the others, and no other process can
reach them. TensorFlow's own servers, which several machines need, listen on every network of the machine and do what
anybody who reaches them asks for.

Each sum is made by the chief, in the order of the workers, and sent to all, so that all get the same bits.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from textgen.child_processes import WORKER_VARIABLE
from textgen.errors import TrainingError, WorkerLost

HEADER = struct.Struct("!Q")  # bytes that follow


class Group:
    """One worker's connections to the others: the chief, worker 0, has one to each, the others one to the chief."""

    def __init__(self, worker: int, size: int, links: Sequence[socket.socket]) -> None:
        self.worker = worker
        self.size = size
        self._links = list(links)

    def summed(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The sums over all workers of arrays that have the same shapes and types in each.

        All workers must call it together. Raises `WorkerLost` if one of them is gone.
        """
        arrays = [np.asarray(array, order="C") for array in arrays]
        with _lost_if_closed():
            if self.worker:
                self._send(self._links[0], arrays)
                return self._received(self._links[0], arrays)
            sums = [array.copy() for array in arrays]
            for link in self._links:
                for total, theirs in zip(sums, self._received(link, arrays), strict=True):
                    total += theirs
            for link in self._links:
                self._send(link, sums)
            return sums

    def gathered(self, array: np.ndarray) -> np.ndarray:
        """The rows of all workers, in their order; each has as many. All workers must call it together."""
        rows = len(array)
        whole = np.zeros((rows * self.size, *array.shape[1:]), array.dtype)
        whole[self.worker * rows : (self.worker + 1) * rows] = array
        return self.summed([whole])[0]

    def close(self) -> None:
        """Ends the connections: the others then know that this worker is gone."""
        for link in self._links:
            link.close()

    @staticmethod
    def _send(link: socket.socket, arrays: Sequence[np.ndarray]) -> None:
        link.sendall(HEADER.pack(sum(array.nbytes for array in arrays)))
        for array in arrays:
            link.sendall(array.reshape(-1).view(np.uint8).data)

    @staticmethod
    def _received(link: socket.socket, like: Sequence[np.ndarray]) -> list[np.ndarray]:
        (size,) = HEADER.unpack(_read(link, np.empty(HEADER.size, np.uint8)).data)
        if size != sum(array.nbytes for array in like):
            raise TrainingError("The workers are not at the same place of the run: start them all again.")
        arrays = [np.empty_like(array) for array in like]
        for array in arrays:
            _read(link, array.reshape(-1).view(np.uint8))
        return arrays


def _read(link: socket.socket, target: np.ndarray) -> np.ndarray:
    """Fills `target`, an array of bytes."""
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
    """The ends of connections for `size` workers: those of each."""
    pairs = [socket.socketpair() for _ in range(size - 1)]
    return [[chief for chief, _ in pairs], *([other] for _, other in pairs)]


def description(worker: int, size: int, links: Sequence[socket.socket], leash: int) -> str:
    """The value of `WORKER_VARIABLE` for a process that inherits these descriptors.

    `textgen.child_processes.end_with` explains the leash.
    """
    return json.dumps({"worker": worker, "of": size, "links": [link.fileno() for link in links], "leash": leash})


def place() -> tuple[int, int] | None:
    """Which worker this process is, and of how many; None if no launcher started it."""
    known = _described()
    return (int(known["worker"]), int(known["of"])) if known else None


def leash() -> int | None:
    """The file descriptor that closes when the launcher ends; None if none started this process."""
    known = _described()
    return int(known["leash"]) if known else None


def join() -> Group | None:
    """This process's connections; None if no launcher started it. To be called once."""
    known = _described()
    if not known:
        return None
    try:
        links = [socket.socket(fileno=number) for number in known["links"]]
    except OSError:
        raise TrainingError(f"The connections named in {WORKER_VARIABLE} are not there: unset it.") from None
    return Group(int(known["worker"]), int(known["of"]), links)


def _described() -> dict[str, Any] | None:
    return json.loads(os.environ[WORKER_VARIABLE]) if WORKER_VARIABLE in os.environ else None

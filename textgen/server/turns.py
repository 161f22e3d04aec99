"""Whose turn it is to use something that one piece of work uses at a time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textgen.server.failures import busy


class Turns:
    """A queue in which the owners take turns, however much work each of them has. For the event loop.

    Attributes:
        waiting: Pieces of work that wait, and the one whose turn it is.
        names: How many of them have each name.
        running: The name of the one whose turn it is; None if it is nobody's.
    """

    def __init__(self, most: int) -> None:
        """Makes an empty queue.

        Args:
            most: Pieces of work that may be there at a time.
        """
        self.waiting = 0
        self.names: Counter[str] = Counter()
        self.running: str | None = None
        self._most = most
        self._is_busy = False
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}  # of each owner who waits; the next one is first

    @asynccontextmanager
    async def turn(self, owner: str, name: str = "") -> AsyncIterator[None]:
        """Runs its block when it is its turn.

        Args:
            owner: Whose work it is: see `textgen.server.access`.
            name: What metrics count it under.

        Raises:
            ApiError: Too much work is waiting. If another owner has more of it, the last of theirs is refused instead.
        """
        if self.waiting >= self._most:
            self._make_room(owner)
        self.waiting += 1
        self.names[name] += 1
        try:
            if self._is_busy:
                await self._wait(owner)
            self._is_busy, self.running = True, name
            try:
                yield
            finally:
                self.running = None
                self._next(owner)
        finally:
            self.waiting -= 1
            self.names[name] -= 1

    def _make_room(self, owner: str) -> None:
        lengths = {each: len(queue) for each, queue in self._queues.items()}
        longest = max(lengths, key=lengths.__getitem__, default=owner)
        if lengths.get(longest, 0) <= lengths.get(owner, 0) + 1:
            raise busy()
        refused = self._queues[longest].pop()  # it leaves others there
        if not refused.done():
            refused.set_exception(busy())

    async def _wait(self, owner: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._next(owner)  # it was this one's turn already
            elif turn in self._queues.get(owner, ()):
                self._queues[owner].remove(turn)
                if not self._queues[owner]:
                    del self._queues[owner]
            raise

    def _next(self, last: str) -> None:
        """Gives the turn, which `last` has had, to the first that waits of the owner whose last turn is longest ago."""
        self._is_busy = False
        if last in self._queues:
            self._queues[last] = self._queues.pop(last)
        while self._queues and not self._is_busy:
            owner = next(iter(self._queues))
            queue = self._queues[owner]
            turn = queue.popleft()
            if not queue:
                del self._queues[owner]
            if not turn.done():  # as one is whose client has just left
                turn.set_result(None)
                self._is_busy = True

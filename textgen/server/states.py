"""States of texts that clients keep on the server: made, continued from, fetched, deleted.

A state is a value that never changes, so continuing from one twice forks the text. Each belongs to the key that made
it; others cannot tell whether it exists.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from textgen.generation.text_state import TextState, num_bytes
from textgen.server.failures import ApiError

ID_BYTES = 16  # 128 bits, so that no id can be guessed
OVERHEAD = 1024  # bytes of a state besides its arrays, about


@dataclass(frozen=True)
class KeptState:
    """A state, and whose it is.

    Attributes:
        id: Its id, 32 hexadecimal digits.
        owner: The key that made it: see `textgen.server.access`.
        model: Name of its model.
        fingerprint: Fingerprint of its model.
        state: The state.
        label: What the client calls it.
        expires_at: When it is dropped unless it is used before, in seconds since the epoch.
    """

    id: str
    owner: str
    model: str
    fingerprint: str
    state: TextState
    label: str | None
    expires_at: float

    @property
    def bytes(self) -> int:
        """The memory that it takes, about."""
        return num_bytes(self.state.memory) + 32 * len(self.state.ids) + OVERHEAD


class StateStore:
    """Keeps states in memory, up to a number of bytes and for some time. For one thread."""

    def __init__(self, max_bytes: int, seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Makes an empty store.

        Args:
            max_bytes: Bytes of all states; beyond them the least recently used are dropped.
            seconds: Seconds for which a state is kept after its last use.
            clock: Returns the time in seconds since the epoch.
        """
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._states: OrderedDict[str, KeptState] = OrderedDict()  # the one used last is last
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._states)

    def add(self, owner: str, model: str, fingerprint: str, state: TextState, label: str | None = None) -> KeptState:
        """Keeps a state under a new id.

        Raises:
            ApiError: It is larger than the store.
        """
        kept = KeptState(secrets.token_hex(ID_BYTES), owner, model, fingerprint, state, label, self._deadline())
        if kept.bytes > self._max_bytes:
            raise ApiError(413, f"The state has {kept.bytes:,} bytes, and the server keeps {self._max_bytes:,} in all.")
        self._states[kept.id] = kept
        self._bytes += kept.bytes
        self._make_room()
        return kept

    def get(self, owner: str, id: str) -> KeptState:
        """Returns a state, which is kept for longer by this.

        Raises:
            ApiError: The owner has no such state.
        """
        self._make_room()
        kept = self._states.get(id)
        if kept is None or kept.owner != owner:
            raise ApiError(
                404, f"There is no state {id[:64]!r}: it was deleted, or not used for too long.",
                param="state", code="state_not_found",
            )  # fmt: skip
        kept = replace(kept, expires_at=self._deadline())
        self._states[id] = kept
        self._states.move_to_end(id)
        return kept

    def remove(self, owner: str, id: str) -> None:
        """Deletes a state.

        Raises:
            ApiError: The owner has no such state.
        """
        self._drop(self.get(owner, id).id)

    def _deadline(self) -> float:
        return self._clock() + self._seconds

    def _make_room(self) -> None:
        """Drops states whose time is over, and the least recently used until the others fit."""
        now = self._clock()
        while self._states:
            oldest = next(iter(self._states.values()))  # the first to expire, since all are kept for the same time
            if oldest.expires_at > now and self._bytes <= self._max_bytes:
                return
            self._drop(oldest.id)

    def _drop(self, id: str) -> None:
        self._bytes -= self._states.pop(id).bytes

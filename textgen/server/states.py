"""States of texts that clients keep on the server: made, continued from, fetched, deleted.

A state is a value that never changes, so continuing from one twice forks the text. Each belongs to the key that made
it; others cannot tell whether it exists. If there is no room, states of the key that takes most memory give way.
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
        label: Label of the document that it continues; None if it has none, or if it is not known.
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
        """Approximate size in memory, in bytes."""
        return num_bytes(self.state.model_state) + 32 * len(self.state.ids) + OVERHEAD


class StateStore:
    """Keeps states in memory, up to a number of bytes and for some time. For one thread."""

    def __init__(self, max_bytes: int, seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Makes an empty store.

        Args:
            max_bytes: Bytes of all states; beyond them, those of the owner with most bytes are dropped, oldest first.
            seconds: Seconds for which a state is kept after its last use.
            clock: Returns the time in seconds since the epoch.
        """
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._states: dict[str, OrderedDict[str, KeptState]] = {}  # of each owner; the one used last is last
        self._bytes: dict[str, int] = {}  # of each owner

    def __len__(self) -> int:
        return sum(map(len, self._states.values()))

    def add(self, owner: str, model: str, fingerprint: str, state: TextState, label: str | None = None) -> KeptState:
        """Keeps a state under a new id.

        Args:
            owner: The key that made it: see `textgen.server.access`.
            model: Name of its model.
            fingerprint: Fingerprint of its model.
            state: The state.
            label: Label of the document that it continues.

        Returns:
            The state that is kept.

        Raises:
            ApiError: It is larger than the store.
        """
        kept = KeptState(secrets.token_hex(ID_BYTES), owner, model, fingerprint, state, label, self._deadline())
        if kept.bytes > self._max_bytes:
            raise ApiError(413, f"The state has {kept.bytes:,} bytes, and the server keeps {self._max_bytes:,} in all.")
        self._states.setdefault(owner, OrderedDict())[kept.id] = kept
        self._bytes[owner] = self._bytes.get(owner, 0) + kept.bytes
        self._drop_expired()
        self._make_room(kept)
        return kept

    def get(self, owner: str, id: str) -> KeptState:
        """Returns a state, which is kept for longer by this.

        Raises:
            ApiError: The owner has no such state.
        """
        self._drop_expired()
        states = self._states.get(owner, OrderedDict())
        if id not in states:
            raise ApiError(
                404, f"There is no state {id[:64]!r}: it was deleted, it was not used for too long, or there was no "
                "room for it in the state_memory of the server.", param="state", code="state_not_found",
            )  # fmt: skip
        states[id] = replace(states[id], expires_at=self._deadline())
        states.move_to_end(id)
        return states[id]

    def remove(self, owner: str, id: str) -> None:
        """Deletes a state.

        Raises:
            ApiError: The owner has no such state.
        """
        self._drop(self.get(owner, id))

    def _deadline(self) -> float:
        return self._clock() + self._seconds

    def _drop_expired(self) -> None:
        """Drops states whose time is over."""
        now = self._clock()
        for owner in list(self._states):
            while owner in self._states:
                oldest = self._oldest(owner)  # the first to expire, since all are kept for the same time
                if oldest.expires_at > now:
                    break
                self._drop(oldest)

    def _make_room(self, newest: KeptState) -> None:
        """Drops states until the others fit: of the owner with most bytes, the least recently used first."""
        while sum(self._bytes.values()) > self._max_bytes:
            owners = [owner for owner in self._states if self._oldest(owner) is not newest]
            self._drop(self._oldest(max(owners, key=self._bytes.__getitem__)))

    def _oldest(self, owner: str) -> KeptState:
        return next(iter(self._states[owner].values()))

    def _drop(self, kept: KeptState) -> None:
        del self._states[kept.owner][kept.id]
        self._bytes[kept.owner] -= kept.bytes
        if not self._states[kept.owner]:
            del self._states[kept.owner], self._bytes[kept.owner]

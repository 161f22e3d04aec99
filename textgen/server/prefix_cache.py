"""States of the model within prompts, so that a prompt that begins like an earlier one is not read again.

A transformer keeps keys and values of each token for this. A recurrent network needs one state of a few kilobytes,
whatever the length of the text before it, so one is kept after every `STRIDE` tokens.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from textgen.generation.text_state import num_bytes

STRIDE = 32  # tokens of a prompt between two cached states
OVERHEAD = 200  # bytes of an entry besides its arrays, about


class PrefixCache:
    """Keeps the states used last, up to a number of bytes. For one thread.

    Attributes:
        bytes: Bytes of the states that are kept.

    Example:
        >>> cache = PrefixCache(10_000)
        >>> cache.put(cache.keys(b"a", range(40)), 1, np.zeros((1, 8)))
        >>> cache.find(cache.keys(b"a", range(64)))[0], cache.find(cache.keys(b"b", range(64)))[0]
        (32, 0)
    """

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._states: OrderedDict[bytes, Any] = OrderedDict()

    def keys(self, root: bytes, ids: Sequence[int]) -> list[bytes]:
        """Returns a key for every `STRIDE` tokens of a prompt, each made of all tokens up to there.

        Args:
            root: Tells what comes before the prompt, and whose prompt it is: what differs in it shares no state.
            ids: The prompt.
        """
        if not self._max_bytes:
            return []
        keys, key = [], root
        for end in range(STRIDE, len(ids) + 1, STRIDE):
            key = hashlib.blake2b(key + np.array(ids[end - STRIDE : end], np.int32).tobytes(), digest_size=16).digest()
            keys.append(key)
        return keys

    def find(self, keys: Sequence[bytes]) -> tuple[int, Any]:
        """Returns the number of tokens up to the last state that is there, and the state; 0 and None without one."""
        for number in range(len(keys), 0, -1):
            if keys[number - 1] in self._states:
                self._states.move_to_end(keys[number - 1])
                return number * STRIDE, self._states[keys[number - 1]]
        return 0, None

    def get(self, key: bytes) -> Any:
        """Returns the state with a key; None if it is not there."""
        if key not in self._states:
            return None
        self._states.move_to_end(key)
        return self._states[key]

    def put(self, keys: Sequence[bytes], number: int, state: Any) -> None:
        """Keeps a state.

        Args:
            keys: The keys of its prompt.
            number: How many times `STRIDE` tokens it comes after.
            state: The state, which must not be a view of a larger array.
        """
        if not 0 < number <= len(keys) or keys[number - 1] in self._states:
            return
        self._states[keys[number - 1]] = state
        self.bytes += num_bytes(state) + OVERHEAD
        while self.bytes > self._max_bytes:
            _, dropped = self._states.popitem(last=False)
            self.bytes -= num_bytes(dropped) + OVERHEAD

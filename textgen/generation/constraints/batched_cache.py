"""A cache of the answers of a function that computes many of them together in less time than one by one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class BatchedCache(Generic[Key, Answer]):
    """Keeps the answers that were used last. Threads may share it.

    Example:
        >>> lengths = BatchedCache(lambda words: [len(word) for word in words], most=100)
        >>> lengths.of(["a", "bcd", "a"])
        [1, 3, 1]
    """

    def __init__(self, compute: Callable[[Sequence[Key]], Sequence[Answer]], most: int) -> None:
        """Makes an empty cache.

        Args:
            compute: Computes the answers to some different keys.
            most: Maximum number of answers that are kept.
        """
        self._compute = compute
        self._most = most
        self._kept = OrderedDict[Key, Answer]()  # the one used last is last
        self._lock = threading.Lock()

    def of(self, keys: Sequence[Key]) -> list[Answer]:
        """Returns the answers to some keys; those that are not kept are computed together."""
        found: dict[Key, Answer] = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    found[key] = self._kept[key]
                    self._kept.move_to_end(key)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            computed = dict(zip(missing, self._compute(missing), strict=True))
            found |= computed
            with self._lock:
                self._kept |= computed
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return [found[key] for key in keys]

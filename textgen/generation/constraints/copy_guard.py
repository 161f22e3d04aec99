"""Prevents a text from copying long runs of the training text."""

from __future__ import annotations

import copy
from collections import deque

import numpy as np

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import ConfigError
from textgen.wording import counted


class CopyGuard:
    """Forbids tokens that would make a run of more than `no_copy` copied tokens.

    Only generated tokens count: a prompt may be a quotation. The end of the document is never forbidden.
    """

    def __init__(self, index: NgramIndex, no_copy: int, vocab_size: int) -> None:
        """Makes the guard of one text.

        Args:
            index: The n-grams of the training text.
            no_copy: Longest run that may be copied, in tokens.
            vocab_size: Number of tokens in the vocabulary.

        Raises:
            ConfigError: The n-grams of the index are too long to detect so short a run.
        """
        if no_copy < index.ngram - 1:
            raise ConfigError(
                f"no_copy must be at least {index.ngram - 1}: the model's index of its training text contains runs of "
                f"{counted(index.ngram, 'token')}. Received: {no_copy}."
            )
        self._index = index
        self._no_copy = no_copy
        self._vocab_size = vocab_size
        self._last: deque[int] = deque(maxlen=no_copy)
        self._run = 0  # an upper bound of the copied tokens at the end, computed exactly only when it matters

    def forbidden(self) -> np.ndarray:
        """Returns the ids that would make a run too long if they came next, ascending."""
        if self._run >= self._no_copy:
            copied = self._index.contains(np.array(self._last))
            misses = np.flatnonzero(~copied)
            self._run = self._index.ngram - 1 + (len(copied) - 1 - int(misses[-1]) if len(misses) else len(copied))
        if self._run < self._no_copy:
            return np.zeros(0, np.int64)
        return self._index.completions(list(self._last)[1 - self._index.ngram :], self._vocab_size)

    def fork(self) -> CopyGuard:
        """Returns a copy that can be continued with other tokens."""
        twin = copy.copy(self)
        twin._last = self._last.copy()
        return twin

    def accept(self, id: int) -> None:
        """Takes a generated token into account."""
        self._last.append(id)
        self._run += 1

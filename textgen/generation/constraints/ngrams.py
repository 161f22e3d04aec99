"""The n-grams of a text that is being written, so that none comes twice.

The n - 1 tokens before the next one are looked up by their rolling hash (Karp & Rabin 1987, doi:10.1147/rd.312.0249),
and compared where a hash has come before. So a token costs the same whatever n is: some 10 microseconds, and about 115
bytes in a text where no run of n - 1 tokens recurs, up to about 220 where each recurs once with another token after it.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BASE, MODULUS = 0x1B873593CC9E2D51, (1 << 61) - 1  # base and modulus of the hash
NOTHING = np.zeros(0, np.int64)


class _Layer(NamedTuple):
    """A stretch of a text. Once it belongs to a text it is never changed.

    Attributes:
        start: Tokens before it.
        ids: Its tokens.
        ends: Where each run of n - 1 tokens that comes here for the first time ends, by key.
        others: The tokens that followed a run here, except the one that followed it the first time, by key.
    """

    start: int
    ids: array[int]
    ends: dict[int, int]
    others: dict[int, set[int]]

    def joined(self, later: _Layer) -> _Layer:
        """Returns this stretch and the next one as one."""
        others = self.others | later.others
        for key in self.others.keys() & later.others.keys():
            others[key] = self.others[key] | later.others[key]
        return _Layer(self.start, self.ids + later.ids, self.ends | later.ends, others)


class NGrams:
    """The n-grams of a text.

    A text is never changed: `after` returns a longer one, which shares most of its memory with it. For this it is kept
    in layers, each longer than the next; the last ones are joined when they are of equal length, so each token is
    copied as often as the length of the text can be halved.

    Example:
        >>> NGrams(2).after([5, 6, 5]).forbidden().tolist()
        [6]
    """

    def __init__(self, size: int) -> None:
        """Makes an empty text.

        Args:
            size: Tokens of an n-gram, at least 1.
        """
        self._width = size - 1
        self._weight = pow(BASE, self._width, MODULUS)  # of the token that leaves the run, in the hash
        self._length = 0  # of the text
        self._hash = 0  # of the last run of n - 1 tokens, as are the next two
        self._key = 0  # the hash, or that plus a multiple of the modulus where other runs have the same one
        self._end = None if self._width else 0  # where it ended when it came first; None while the text is too short
        self._layers: tuple[_Layer, ...] = () if self._width else (_Layer(0, array("i"), {0: 0}, {}),)

    def after(self, ids: Sequence[int]) -> NGrams:
        """Returns the text with more tokens."""
        if not ids:
            return self
        longer = copy.copy(self)
        longer._layers = (*self._layers, _Layer(self._length, array("i", ids), {}, {}))
        for id in longer._layers[-1].ids:
            longer._append(id)
        *layers, last = longer._layers
        while layers and len(layers[-1].ids) <= len(last.ids):
            last = layers.pop().joined(last)
        longer._layers = (*layers, last)
        return longer

    def forbidden(self) -> np.ndarray:
        """Returns the ids of the tokens that would complete an n-gram of the text for the second time."""
        if self._end is None or self._end == self._length:
            return NOTHING
        others = (layer.others.get(self._key, ()) for layer in self._layers)
        return np.array(list({self._token(self._end)}.union(*others)), np.int64)

    def _append(self, id: int) -> None:
        """Counts the next token of the last layer, which is still being made."""
        at, end, self._length = self._length, self._end, self._length + 1
        is_known = False  # whether the token has followed the last run before
        if end is not None and end < at:
            is_known = self._has_followed(end, id)
            if not is_known:
                self._layers[-1].others.setdefault(self._key, set()).add(id)
        leaving = self._token(at - self._width) + 1 if at >= self._width else 0
        self._hash = (self._hash * BASE + id + 1 - leaving * self._weight) % MODULUS
        if self._length >= self._width:
            self._find(is_known)

    def _has_followed(self, end: int, id: int) -> bool:
        """Whether a token has followed the last run before."""
        return self._token(end) == id or any(id in layer.others.get(self._key, ()) for layer in self._layers)

    def _find(self, is_known: bool) -> None:
        """Finds the key of the last run, and where it came first, which may be here.

        Args:
            is_known: Whether it has come before for certain, since a longer one has.
        """
        self._key = self._hash
        while (end := self._end_of(self._key)) is not None:
            is_alone = is_known and self._end_of(self._key + MODULUS) is None  # so nothing need be compared
            if is_alone or self._run(end) == self._run(self._length):
                break
            self._key += MODULUS
        else:
            end = self._layers[-1].ends[self._key] = self._length
        self._end = end

    def _end_of(self, key: int) -> int | None:
        for layer in self._layers:
            if key in layer.ends:
                return layer.ends[key]
        return None

    def _run(self, end: int) -> array[int]:
        """The n - 1 tokens that end at a place."""
        run, start = array("i"), end - self._width
        for layer in self._layers:
            run += layer.ids[max(0, start - layer.start) : max(0, end - layer.start)]
        return run

    def _token(self, at: int) -> int:
        number = len(self._layers) - 1
        while self._layers[number].start > at:
            number -= 1
        return self._layers[number].ids[at - self._layers[number].start]


def ngrams_of(size: int, ids: Sequence[int]) -> NGrams:
    """Returns the n-grams of a text."""
    return NGrams(size).after(ids)

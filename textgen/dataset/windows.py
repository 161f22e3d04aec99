"""Where the windows of a row begin and end: all of the same length, or some of them shorter, at random.

If all windows have one length, the same tokens stand at their borders whenever the text is read from the same place,
and no gradient reaches from them to the text before (Merity, Keskar & Socher 2018, arXiv:1708.02182, section 4.1).
Each length is compiled separately, so there are few. Windows come in cycles of 20. All cycles have the same lengths in
different orders, so every epoch has the same number of windows, and each is found without those before it:

    T = 8, random_bptt 0.1      8 8 8 4 8 8 8 8 8 8 8 8 8 8 8 8 2 8 8 8 | 8 4 8 8 8 8 ... | 8 8 8
                                a cycle                                 | another cycle   | too few for a cycle
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice

import numpy as np

from textgen.dataset.permutation import Permutation

CYCLE = 20  # number of windows in a cycle
QUARTERS = (2, 1, 3)  # lengths of the short windows of a cycle, in quarters of T, in turn


@dataclass(frozen=True)
class Windows:
    """The windows of a row. The order of their lengths depends on (seed, epoch) only.

    Attributes:
        row_length: Tokens in a row.
        sequence_length: Tokens in a window, at most (T).
        random_bptt: Fraction of windows that are shorter.
        seed: Seed of the order.

    Example:
        >>> windows = Windows(row_length=10, sequence_length=4)
        >>> [windows.window(0, number) for number in range(len(windows))]
        [(0, 4), (4, 4), (8, 4)]
    """

    row_length: int
    sequence_length: int
    random_bptt: float = 0.0
    seed: int = 0

    def __len__(self) -> int:
        rest = self.row_length - self._cycles * self._cycle_length
        return self._cycles * CYCLE + -(-rest // self.sequence_length)

    def window(self, epoch: int, number: int) -> tuple[int, int]:
        """Where a window of an epoch begins in the row, and its length. The last one may end beyond the row."""
        if not self.random_bptt:
            return number * self.sequence_length, self.sequence_length
        cycle_number, place = divmod(number, CYCLE)
        if cycle_number >= self._cycles:
            after = number - self._cycles * CYCLE
            return self._cycles * self._cycle_length + after * self.sequence_length, self.sequence_length
        lengths = self._lengths[_order(self.seed, epoch, cycle_number)]
        return cycle_number * self._cycle_length + int(lengths[:place].sum()), int(lengths[place])

    @property
    def _lengths(self) -> np.ndarray:
        return _lengths_of(self.sequence_length, self.random_bptt)

    @property
    def _cycle_length(self) -> int:
        return int(self._lengths.sum())

    @property
    def _cycles(self) -> int:
        """Whole cycles in a row."""
        return self.row_length // self._cycle_length


@lru_cache(maxsize=8)
def _lengths_of(sequence_length: int, random_bptt: float) -> np.ndarray:
    """Lengths of the windows of a cycle, before they are shuffled."""
    num_short = math.ceil(round(CYCLE * random_bptt, 6))  # at least one, if any
    short = [max(1, sequence_length * quarters // 4) for quarters in islice(cycle(QUARTERS), num_short)]
    return np.array([*short, *[sequence_length] * (CYCLE - num_short)])


@lru_cache(maxsize=8)  # the thread that reads ahead may be in a later cycle than the steps
def _order(seed: int, epoch: int, cycle_number: int) -> np.ndarray:
    """The order in which a cycle of an epoch has its lengths."""
    return Permutation(CYCLE, seed, epoch, cycle_number)(np.arange(CYCLE))

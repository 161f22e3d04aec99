"""Where the windows of a row begin and end: all equally long, or some of them shorter, drawn by lot.

With windows of one length the same tokens stand at their borders whenever the text is read from the same place, and
never teach the network what came before (Merity, Keskar & Socher 2018, arXiv:1708.02182, section 5). As each length is
compiled by itself, there are few. Windows come in cycles of 20, each of the same lengths in another order, so that an
epoch has always as many windows and any of them is found without those before:

    T = 8, random_bptt 0.1      8 8 8 4 8 8 8 8 8 8 8 8 8 8 8 8 2 8 8 8 | 8 4 8 8 8 8 ... | 8 8 8
                                a cycle                                 | another one     | too few for a cycle
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice

import numpy as np

from textgen.dataset.permutation import Permutation

CYCLE = 20  # windows
QUARTERS = (2, 1, 3)  # of T, that the short windows of a cycle have, in turn


@dataclass(frozen=True)
class Windows:
    """The windows of rows of `row_length` tokens; the order of lengths is a function of (seed, epoch)."""

    row_length: int
    sequence_length: int  # T: tokens in a window, at most
    random_bptt: float = 0.0  # share of windows that are shorter
    seed: int = 0

    def __len__(self) -> int:
        rest = self.row_length - self._cycles * self._cycle_length
        return self._cycles * CYCLE + -(-rest // self.sequence_length)

    def window(self, epoch: int, number: int) -> tuple[int, int]:
        """The place in the row where a window begins, and its length."""
        cycle_number, place = divmod(number, CYCLE)
        if cycle_number >= self._cycles:
            after = number - self._cycles * CYCLE
            return self._cycles * self._cycle_length + after * self.sequence_length, self.sequence_length
        lengths = self._lengths[Permutation(CYCLE, self.seed, epoch, cycle_number)(np.arange(CYCLE))]
        return cycle_number * self._cycle_length + int(lengths[:place].sum()), int(lengths[place])

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Of a cycle, not in order."""
        num_short = math.ceil(round(CYCLE * self.random_bptt, 6))  # at least one, if any
        short = [max(1, self.sequence_length * quarters // 4) for quarters in islice(cycle(QUARTERS), num_short)]
        return np.array([*short, *[self.sequence_length] * (CYCLE - num_short)])

    @property
    def _cycle_length(self) -> int:
        return int(self._lengths.sum())

    @property
    def _cycles(self) -> int:
        """Whole ones."""
        return self.row_length // self._cycle_length

"""The random numbers of the texts that are generated side by side: each text has its own, by its seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AHEAD = 64  # tokens of a text for which random numbers are made at once


class Uniforms:
    """The random numbers of each text, which depend on its seed alone."""

    def __init__(self, seeds: Sequence[int], excludes: Sequence[bool]) -> None:
        """Makes the random generators.

        Args:
            seeds: The seed of each text, [B].
            excludes: The texts that take two numbers for each token, one of them for XTC, [B]; the others take one.
        """
        self._generators = [row_generator(seed) for seed in seeds]
        self._excludes = list(excludes)
        self._ahead = np.zeros((len(seeds), 0, 2))  # made and not used yet, [B, tokens, 2]

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns numbers in [0, 1): for the XTC filter, 0 where it is off, [B], and for the draw, [B]."""
        if not self._ahead.shape[1]:
            self._make(AHEAD)
        first, self._ahead = self._ahead[:, 0], self._ahead[:, 1:]
        return first[:, 0], first[:, 1]

    def keep(self, rows: np.ndarray) -> None:
        """Drops all other texts."""
        self._generators = [self._generators[row] for row in rows]
        self._excludes = [self._excludes[row] for row in rows]
        self._ahead = self._ahead[rows]

    def join(self, other: Uniforms) -> None:
        """Adds other texts after those that are there."""
        length = max(self._ahead.shape[1], other._ahead.shape[1])
        self._make(length - self._ahead.shape[1])
        other._make(length - other._ahead.shape[1])
        self._generators += other._generators
        self._excludes += other._excludes
        self._ahead = np.concatenate([self._ahead, other._ahead])

    def _make(self, number: int) -> None:
        """Makes the numbers of `number` more tokens of each text."""
        if not number:
            return
        more = np.zeros((len(self._generators), number, 2))
        for row, (generator, both) in enumerate(zip(self._generators, self._excludes, strict=True)):
            more[row, :, 0 if both else 1 :] = generator.random((number, 2 if both else 1))
        self._ahead = np.concatenate([self._ahead, more], axis=1)


def row_generator(seed: int) -> np.random.Generator:
    """Returns the random generator of a text with this seed."""
    return np.random.Generator(np.random.Philox(seed))

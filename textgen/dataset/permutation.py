"""A keyed permutation of the numbers below any size, each place of which is computed separately.

A Feistel network (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"): a number is written as two
digits, one below `a` and one below `b`. Each round adds to one digit a scrambled function of the other, modulo
`a` or `b`. A round can be undone, so no two numbers get the same result. a * b is a little more than the size; a
number outside the range is permuted again until it is inside ("cycle walking").

Nothing is stored, so the order of a billion things costs no memory, and it is the same on every machine and
with every version of NumPy.
"""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np

ROUNDS = 8


class Permutation:
    """The numbers from 0 to `size - 1` in an order that depends on a key.

    Args:
        size: How many numbers.
        key: Whole numbers.

    Example:
        >>> order = Permutation(5, 7, 1)
        >>> sorted(order(np.arange(5)).tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(self, size: int, *key: int) -> None:
        self._size = size
        self._a = max(1, math.isqrt(max(0, size - 1)) + 1)  # the root of the size, rounded up
        self._b = max(1, -(-size // self._a))
        text = " ".join(map(str, (size, *key)))
        self._keys = np.frombuffer(blake2b(text.encode(), digest_size=8 * ROUNDS).digest(), "<u8")

    def __len__(self) -> int:
        return self._size

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """The numbers at some places: int64 [n] from 0 to `size - 1`, in and out."""
        numbers = self._scramble(places)
        while (outside := numbers >= self._size).any():
            numbers[outside] = self._scramble(numbers[outside])
        return numbers

    def _scramble(self, numbers: np.ndarray) -> np.ndarray:
        """One pass through all rounds: a permutation of the numbers below a * b."""
        left, right = np.divmod(np.asarray(numbers, np.int64), self._b)
        for even, odd in zip(self._keys[::2], self._keys[1::2], strict=True):
            left = (left + _mix(right, even, self._a)) % self._a
            right = (right + _mix(left, odd, self._b)) % self._b
        return left * self._b + right


def short_seed(seed: int, bits: int) -> int:
    """A seed for a generator that takes at most `bits` bits: unchanged if it is small enough, else hashed.

    Example:
        >>> short_seed(7, 31), short_seed(7 + (1 << 31), 31) == 7
        (7, False)
    """
    if seed < 1 << bits:
        return seed
    return int.from_bytes(blake2b(str(seed).encode(), digest_size=8).digest()) >> (64 - bits)


def mixed_bits(numbers: np.ndarray) -> np.ndarray:
    """Mixes the bits of uint64 numbers so that each depends on all: SplitMix64's finalizer (Steele, Lea & Flood 2014).

    Example:
        >>> mixed_bits(np.array([0x9E3779B97F4A7C15], np.uint64)).tolist() == [0xE220A8397B1DCDAF]
        True
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _mix(digits: np.ndarray, key: np.uint64, below: int) -> np.ndarray:
    """A number below `below` from each digit, which depends on the key."""
    mixed = mixed_bits(np.asarray(digits).astype(np.uint64) ^ key)
    return (mixed % np.uint64(below)).astype(np.int64)

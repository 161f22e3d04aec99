"""Bloom filters (Bloom 1970): sets of 64-bit numbers in a few bits per number; their files; hashes of sequences."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from textgen.dataset.permutation import mixed_bits
from textgen.errors import SavedModelError
from textgen.schema import decoded_json
from textgen.storage.manifests import COPY_AGAIN

MAX_BYTES = 1 << 26  # maximum size of a filter
MAX_HASHES = 16
FEW = 512  # maximum number of numbers that are tested with all hash functions at once, which takes fewer calls
MAX_FILTERS = 1 << 8  # maximum number of filters: fine-tuning repeatedly adds some
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits without a pattern: 2 ** 64 / golden ratio


class BloomFilter:
    """A set of 64-bit numbers that may report numbers it does not hold, but never misses one (Bloom 1970).

    Example:
        >>> bloom = BloomFilter.for_size(100)
        >>> bloom.add(np.array([3, 5], np.uint64))
        >>> bloom.contains(np.array([3, 4, 5], np.uint64)).tolist()
        [True, False, True]
    """

    def __init__(self, bits: np.ndarray, num_hashes: int) -> None:
        """Takes the bits, uint8 [M / 8]. Each number has set `num_hashes` of them."""
        self.bits = bits
        self.num_hashes = num_hashes

    @classmethod
    def for_size(cls, size: int, bits_per_number: int = MAX_HASHES) -> BloomFilter:
        """An empty filter for `size` numbers, of at most `MAX_BYTES`.

        With 16 bits per number 0.05 % of other numbers are reported, with 10 bits 0.8 %.
        """
        num_bytes = min(max(1, size * bits_per_number // 8), MAX_BYTES)
        num_hashes = max(1, round(8 * num_bytes / max(size, 1) * math.log(2)))  # sets about half of the bits
        return cls(np.zeros(num_bytes, np.uint8), min(num_hashes, MAX_HASHES))

    @property
    def false_positive_rate(self) -> float:
        """Probability that a number that is not in the set is reported."""
        return float((np.bitwise_count(self.bits).sum() / (8 * self.bits.size)) ** self.num_hashes)

    def add(self, numbers: np.ndarray) -> None:
        """Adds numbers, uint64 [N]."""
        one, two = _two_hashes(numbers)
        for number in range(self.num_hashes):
            position = self._position(one, two, np.uint64(number))
            np.bitwise_or.at(self.bits, position >> np.uint64(3), _bit(position))

    def contains(self, numbers: np.ndarray) -> np.ndarray:
        """Which numbers, uint64 [N], are in the set: bool [N]."""
        present = np.zeros(len(numbers), bool)
        left = np.arange(len(numbers))  # indices of numbers of which all bits so far are set
        one, two = _two_hashes(numbers)
        number = 0
        while len(left) > FEW and number < self.num_hashes:
            (set_,) = self._bits_at(one, two, np.uint64(number)).nonzero()
            left, one, two = left[set_], one[set_], two[set_]
            number += 1
        rest = np.arange(number, self.num_hashes, dtype=np.uint64)[:, None]
        present[left] = self._bits_at(one, two, rest).all(axis=0)
        return present

    def _bits_at(self, one: np.ndarray, two: np.ndarray, number: Any) -> np.ndarray:
        """The bits of numbers [N] by one hash function, or by several [M, 1]; 0 where not set, uint8 [N] or [M, N]."""
        position = self._position(one, two, number)
        return np.asarray(self.bits[position >> np.uint64(3)] & _bit(position))

    def _position(self, one: np.ndarray, two: np.ndarray, number: Any) -> np.ndarray:
        """The bit of each number [N] by one hash function; all are combined from two (Kirsch & Mitzenmacher 2006)."""
        size, sums = np.uint64(8 * self.bits.size), one + number * two
        return np.asarray(sums - sums // size * size)  # as % does, in half the time


def distinct(filters: Sequence[BloomFilter]) -> list[BloomFilter]:
    """Returns the filters, of several that are equal the first."""
    kept: list[BloomFilter] = []
    for bloom in filters:
        if not any(bloom.num_hashes == other.num_hashes and np.array_equal(bloom.bits, other.bits) for other in kept):
            kept.append(bloom)
    return kept


def write_filters(filters: Sequence[BloomFilter], key: str, **about: Any) -> bytes:
    """Returns the contents of a file for `read_filters`.

    Args:
        filters: The filters.
        key: Tells the kind of file.
        about: What else is stored, as JSON.
    """
    about["hashes"] = [bloom.num_hashes for bloom in filters]
    bits = {f"bits_{number}": bloom.bits for number, bloom in enumerate(filters)}
    return to_safetensors(bits, {key: json.dumps(about)})


def read_filters(path: Path, key: str, what: str) -> tuple[list[BloomFilter], dict[str, Any]]:
    """Reads filters from a file, and checks them.

    Args:
        path: The file.
        key: Tells the kind of file.
        what: What the filters hold, for messages.

    Returns:
        The filters, and what else is stored.

    Raises:
        SavedModelError: The file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = decoded_json((file.metadata() or {}).get(key, ""))
            hashes = _hash_counts(about)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            layout = {name: (part.get_dtype(), len(part.get_shape())) for name, part in slices.items()}
            sizes = [math.prod(part.get_shape()) for part in slices.values()]
            if layout != {f"bits_{number}": ("U8", 1) for number in range(len(hashes))}:
                raise ValueError(f"it holds no index of {what}")
            if not all(0 < size <= MAX_BYTES for size in sizes):
                raise ValueError(f"a filter has no bytes, or more than {MAX_BYTES:,}")
            tensors = [file.get_tensor(f"bits_{number}") for number in range(len(hashes))]
        return [BloomFilter(bits, number) for bits, number in zip(tensors, hashes, strict=True)], about
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, problem: object) -> SavedModelError:
    """Returns the error for a file of filters that cannot be used."""
    return SavedModelError(f"{path} is damaged: {problem}. {COPY_AGAIN}")


def _hash_counts(about: Any) -> list[int]:
    """The number of hashes of each filter. Raises `ValueError`."""
    hashes = about.get("hashes") if isinstance(about, dict) else None
    if not isinstance(hashes, list) or not 0 < len(hashes) <= MAX_FILTERS or not all(map(_is_hash_count, hashes)):
        raise ValueError(f"hashes must be a list of whole numbers from 1 to {MAX_HASHES}, but it is {hashes!r:.50}")
    return hashes


def _is_hash_count(number: object) -> bool:
    return type(number) is int and 1 <= number <= MAX_HASHES


def extended(hashes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The hashes of sequences that are one id longer: polynomials in the multiplier (Karp & Rabin 1987)."""
    return hashes * MULTIPLIER + ids.astype(np.uint64) + np.uint64(1)


def _two_hashes(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mixed_bits(numbers), mixed_bits(numbers ^ MULTIPLIER) | np.uint64(1)


def _bit(position: np.ndarray) -> np.ndarray:
    """The bit of a position within its byte."""
    return np.left_shift(np.uint8(1), (position & np.uint64(7)).astype(np.uint8))

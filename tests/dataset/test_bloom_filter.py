"""Bloom filters: what they miss, how often they err, what a file of them may hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_safetensors

from textgen.dataset import bloom_filter
from textgen.dataset.bloom_filter import BloomFilter, distinct, read_filters, write_filters
from textgen.errors import SavedModelError

KEY = "textgen.numbers"
BITS = np.zeros(4, np.uint8)


def test_the_filter_misses_nothing_and_errs_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 1 << 63, 20_000).astype(np.uint64)
    bloom = BloomFilter.for_size(10_000)
    bloom.add(numbers[:4_000])
    bloom.add(numbers[4_000:10_000])
    assert bloom.contains(numbers[:10_000]).all()
    assert 0.0002 < bloom.false_positive_rate < 0.001  # 0.6185 ** 16 = 0.00046
    others = rng.integers(0, 1 << 63, 400_000).astype(np.uint64)
    assert bloom.contains(others).mean() == pytest.approx(bloom.false_positive_rate, rel=0.3)


def test_a_filter_that_is_too_small_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bloom_filter, "MAX_BYTES", 1000)
    numbers = np.arange(4_000).astype(np.uint64)
    bloom = BloomFilter.for_size(len(numbers))
    assert (bloom.bits.size, bloom.num_hashes) == (1000, 1)
    bloom.add(numbers)
    assert bloom.contains(numbers).all()
    others = np.arange(10_000, 110_000).astype(np.uint64)
    assert bloom.contains(others).mean() == pytest.approx(bloom.false_positive_rate, rel=0.1)
    assert BloomFilter.for_size(0).contains(numbers).sum() == 0


def test_bits_a_number_set_the_rate() -> None:
    numbers = np.random.default_rng(1).integers(0, 1 << 63, 210_000).astype(np.uint64)
    bloom = BloomFilter.for_size(10_000, 10)
    bloom.add(numbers[:10_000])
    assert (bloom.bits.size, bloom.num_hashes) == (12_500, 7)
    assert bloom.contains(numbers[:10_000]).all()
    assert bloom.contains(numbers[10_000:]).mean() == pytest.approx(0.0082, rel=0.15)  # 0.6185 ** 10


def test_equal_filters_are_kept_once() -> None:
    one, other, longer = (BloomFilter(np.full(size, 3, np.uint8), hashes) for size, hashes in ((4, 2), (4, 3), (5, 2)))
    assert distinct([one, other, one, BloomFilter(one.bits.copy(), 2), longer, other]) == [one, other, longer]


@pytest.mark.parametrize("num_hashes", [1, 2, 11, 16])
@pytest.mark.parametrize("size", [0, 1, bloom_filter.FEW, bloom_filter.FEW + 1, 4 * bloom_filter.FEW])
def test_a_number_is_in_a_filter_if_all_of_its_bits_are_set(size: int, num_hashes: int) -> None:
    rng = np.random.default_rng(size)
    bloom = BloomFilter(rng.integers(0, 256, 1_003).astype(np.uint8), num_hashes)
    numbers = rng.integers(0, 1 << 64, size, np.uint64)
    bloom.add(numbers[::3])
    expected = []
    one, two = bloom_filter._two_hashes(numbers)
    for first, second in zip(one.tolist(), two.tolist(), strict=True):
        places = [(first + number * second) % (1 << 64) % (8 * 1_003) for number in range(num_hashes)]
        expected.append(all(bloom.bits[place // 8] >> place % 8 & 1 for place in places))
    assert bloom.contains(numbers).tolist() == expected


def test_a_file_of_filters(tmp_path: Path) -> None:
    filters = [BloomFilter.for_size(size) for size in (10, 20)]
    filters[0].add(np.arange(5).astype(np.uint64))
    (tmp_path / "numbers").write_bytes(write_filters(filters, KEY, size=3))
    read, about = read_filters(tmp_path / "numbers", KEY, "numbers")
    assert about["size"] == 3
    assert [bloom.bits.tolist() for bloom in read] == [bloom.bits.tolist() for bloom in filters]
    assert [bloom.num_hashes for bloom in read] == [bloom.num_hashes for bloom in filters]


def file_of(bits: dict[str, np.ndarray], about: object) -> bytes:
    return to_safetensors(bits, {KEY: json.dumps(about)})


DAMAGED = {
    "not safetensors": b"numbers",
    "another kind": to_safetensors({"bits_0": BITS}, {"textgen.ngrams": json.dumps({"hashes": [7]})}),
    "not JSON": to_safetensors({"bits_0": BITS}, {KEY: "{"}),
    "no object": file_of({"bits_0": BITS}, 3),
    "other names": file_of({"bits_1": BITS}, {"hashes": [11]}),
    "no filter": file_of({}, {"hashes": []}),
    "a filter too few": file_of({"bits_0": BITS}, {"hashes": [11, 11]}),
    "no hashes": file_of({"bits_0": BITS}, {"hashes": [0]}),
    "not a number": file_of({"bits_0": BITS}, {"hashes": [True]}),
    "no bytes": file_of({"bits_0": BITS[:0]}, {"hashes": [11]}),
    "not bytes": file_of({"bits_0": BITS.astype(np.float32)}, {"hashes": [11]}),
    "a matrix": file_of({"bits_0": BITS[None]}, {"hashes": [11]}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_holds_no_filters(tmp_path: Path, name: str) -> None:
    (tmp_path / "numbers").write_bytes(DAMAGED[name])
    with pytest.raises(SavedModelError, match=r"numbers is damaged: .*Copy the whole folder again"):
        read_filters(tmp_path / "numbers", KEY, "numbers")

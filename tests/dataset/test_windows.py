"""Windows join without gaps, in few lengths, in an order that (seed, epoch) decides."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.dataset import windows as windows_module
from textgen.dataset.permutation import Permutation
from textgen.dataset.windows import CYCLE, Windows


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 800), st.integers(1, 30), st.floats(0, 1), st.integers(0, 99), st.integers(0, 9))
def test_windows_join_and_cover_the_row(row: int, length: int, fraction: float, seed: int, epoch: int) -> None:
    windows = Windows(row, length, fraction, seed)
    place = 0
    for number in range(len(windows)):
        start, size = windows.window(epoch, number)
        assert start == place < row
        assert 1 <= size <= length
        place += size
    assert row <= place < row + length


@pytest.mark.parametrize(
    ("fraction", "short"),
    [(0.0, {}), (0.05, {32: 1}), (0.1, {32: 1, 16: 1}), (0.2, {32: 2, 16: 1, 48: 1}), (1.0, {32: 7, 16: 7, 48: 6})],
)
def test_every_cycle_has_the_same_lengths(fraction: float, short: dict[int, int]) -> None:
    windows = Windows(100_000, 64, fraction, seed=3)
    expected = short | {64: CYCLE - sum(short.values())}
    for cycle in range(3):
        lengths = Counter(windows.window(2, cycle * CYCLE + place)[1] for place in range(CYCLE))
        assert lengths == Counter({length: count for length, count in expected.items() if count})


def test_the_order_is_another_one_in_each_cycle_and_epoch_and_for_each_seed() -> None:
    orders = {
        tuple(Windows(100_000, 64, 0.5, seed).window(epoch, cycle * CYCLE + place)[1] for place in range(CYCLE))
        for seed in range(2)
        for epoch in range(2)
        for cycle in range(2)
    }
    assert len(orders) == 8


def test_one_length_is_the_plain_cut() -> None:
    windows = Windows(1001, 10)
    assert [windows.window(5, number) for number in range(len(windows))] == [
        (start, 10) for start in range(0, 1001, 10)
    ]


def test_the_order_of_a_cycle_is_drawn_once_and_only_if_lengths_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of training asks for a window, so it must take no time."""
    drawn = list[tuple[int, ...]]()

    def permutation(size: int, *key: int) -> Permutation:
        drawn.append(key)
        return Permutation(size, *key)

    monkeypatch.setattr(windows_module, "Permutation", permutation)
    seed = 987_654_321  # of no other test
    for number in range(2 * CYCLE):
        assert Windows(5000, 10, seed=seed).window(6, number) == (10 * number, 10)
        Windows(5000, 10, 0.1, seed).window(6, number)
    assert drawn == [(seed, 6, 0), (seed, 6, 1)]


def test_a_place_in_terabytes_is_found_at_once() -> None:
    windows = Windows(1 << 45, 64, 0.1)
    start, _ = windows.window(0, len(windows) - 1)
    assert (1 << 45) - 64 <= start < 1 << 45

"""Every number once, in an order that the key alone decides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.dataset.permutation import Permutation

keys = st.lists(st.integers(0, (1 << 63) - 1), max_size=3)


@given(st.integers(0, 3000), keys)
def test_every_number_comes_once(size: int, key: list[int]) -> None:
    order = Permutation(size, *key)
    assert len(order) == size
    assert sorted(order(np.arange(size)).tolist()) == list(range(size))


@given(st.integers(1, 1 << 62), keys, st.data())
def test_each_place_is_computed_by_itself(size: int, key: list[int], data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)), np.int64)
    numbers = Permutation(size, *key)(places)
    assert numbers.dtype == np.int64
    assert (numbers >= 0).all()
    assert (numbers < size).all()
    alone = [Permutation(size, *key)(places[n : n + 1])[0] for n in range(len(places))]
    assert numbers.tolist() == alone
    assert len(set(numbers.tolist())) == len(set(places.tolist())), "two places never hold the same number"


@pytest.mark.parametrize(
    ("size", "key", "start"),
    [
        (10, (0, 0), [0, 9, 8, 5, 1, 7, 4, 2, 6, 3]),
        (10, (0, 1), [9, 3, 5, 7, 0, 4, 2, 1, 8, 6]),
        (10**12, (0, 0), [821928311343, 921308548885]),
        (1 << 62, (0, 0), [1625786332449011299, 4111791857990483949]),
    ],
)
def test_the_order_never_changes(size: int, key: tuple[int, ...], start: list[int]) -> None:
    assert Permutation(size, *key)(np.arange(len(start))).tolist() == start


def test_keys_make_all_orders_about_equally_often() -> None:
    orders = Counter(tuple(Permutation(4, 0, epoch)(np.arange(4)).tolist()) for epoch in range(1200))
    assert len(orders) == 24
    # 50 each are expected, with a standard deviation of 7
    assert all(20 < count < 90 for count in orders.values())


def test_neighbours_part() -> None:
    order = Permutation(10_000, 1, 2)(np.arange(10_000))
    steps = np.diff(order)
    assert (steps == 1).sum() < 10, "1 is expected"
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05

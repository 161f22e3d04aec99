"""States that clients keep: theirs alone, for a time, up to a number of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from textgen.generation.text_state import TextState
from textgen.server.failures import ApiError
from textgen.server.states import StateStore


def state(size: int = 100) -> TextState:
    return TextState((np.zeros((1, size), np.float32),), (2,))


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_state_is_found_by_its_owner_only() -> None:
    store = StateStore(1 << 20, 60.0)
    kept = store.add("anna", "novel", "f", state(), "chapter 1")
    assert store.get("anna", kept.id).state is kept.state
    assert len(kept.id) == 32
    for owner, id in (("berta", kept.id), ("anna", "0" * 32), ("anna", "../x")):
        with pytest.raises(ApiError, match="no state"):
            store.get(owner, id)
    with pytest.raises(ApiError):
        store.remove("berta", kept.id)
    store.remove("anna", kept.id)
    assert len(store) == 0


def test_a_state_is_dropped_when_it_is_not_used_for_too_long() -> None:
    clock = Clock()
    store = StateStore(1 << 20, 60.0, clock)
    used, unused = (store.add("", "novel", "f", state()) for _ in range(2))
    clock.now = 50.0
    assert store.get("", used.id).expires_at == 110.0
    clock.now = 70.0
    assert store.get("", used.id)
    with pytest.raises(ApiError):
        store.get("", unused.id)


def test_states_not_used_for_longest_make_room() -> None:
    size = StateStore(1 << 30, 60.0).add("", "novel", "f", state()).bytes
    store = StateStore(3 * size, 60.0)
    first, second, third = (store.add("", "novel", "f", state()) for _ in range(3))
    store.get("", first.id)
    fourth = store.add("", "novel", "f", state())
    assert len(store) == 3
    assert all(store.get("", each.id) for each in (first, third, fourth))
    with pytest.raises(ApiError):
        store.get("", second.id)


def test_the_states_of_one_owner_do_not_make_those_of_another_give_way() -> None:
    size = StateStore(1 << 30, 60.0).add("", "novel", "f", state()).bytes
    store = StateStore(4 * size, 60.0)
    mine = store.add("anna", "novel", "f", state())
    flood = [store.add("berta", "novel", "f", state()) for _ in range(9)]
    assert store.get("anna", mine.id)
    assert [kept.id for kept in flood if kept.id in store._states["berta"]] == [kept.id for kept in flood[-3:]]
    more = [store.add("anna", "novel", "f", state()) for _ in range(3)]
    assert all(store.get("anna", kept.id) for kept in more[-2:])
    assert len(store) == 4
    assert store.get("berta", flood[-1].id)
    with pytest.raises(ApiError, match="or there was no room for it in the state_memory") as caught:
        store.get("berta", flood[0].id)
    assert (caught.value.status, caught.value.code) == (404, "state_not_found")


def test_a_state_that_was_just_made_is_kept() -> None:
    """Also if its owner has most bytes."""
    store = StateStore(5000, 60.0)
    others = [store.add("anna", "novel", "f", state()) for _ in range(2)]
    large = store.add("berta", "novel", "f", state(800))
    assert store.get("berta", large.id)
    assert len(store) == 1
    with pytest.raises(ApiError):
        store.get("anna", others[1].id)


def test_a_state_larger_than_the_store_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        StateStore(1000, 60.0).add("", "novel", "f", state(1000))
    assert caught.value.status == 413


def test_the_last_tokens_of_a_state_take_memory_too() -> None:
    store = StateStore(1 << 20, 60.0)
    array = np.zeros((1, 9), np.float32)
    few, many = (store.add("", "novel", "f", TextState((array,), (2,) * length)).bytes for length in (1, 1024))
    assert many - few >= 8 * 1023, "a pointer for each, at least"

"""States within prompts: found for the same beginning only, up to a number of bytes."""

from __future__ import annotations

import numpy as np

from textgen.server.prefix_cache import STRIDE, PrefixCache

IDS = list(range(10 * STRIDE))


def test_the_longest_beginning_is_found() -> None:
    cache = PrefixCache(1 << 20)
    keys = cache.keys(b"", IDS)
    for number in (1, 2, 5):
        cache.put(keys, number, np.full((1, 4), number))
    assert cache.find(keys[:4])[0] == 2 * STRIDE
    at, state = cache.find(keys)
    assert (at, state[0, 0]) == (5 * STRIDE, 5)


def test_one_other_token_is_another_prompt() -> None:
    cache = PrefixCache(1 << 20)
    cache.put(cache.keys(b"", IDS), 2, np.zeros(1))
    assert cache.find(cache.keys(b"", [*IDS[:40], 999, *IDS[41:]])) == (0, None)
    assert cache.find(cache.keys(b"another", IDS)) == (0, None)
    assert cache.find(cache.keys(b"", IDS[: 2 * STRIDE]))[0] == 2 * STRIDE
    assert cache.find(cache.keys(b"", IDS[: 2 * STRIDE - 1]))[0] == 0


def test_memory_is_bounded_and_what_is_used_stays() -> None:
    cache = PrefixCache(10_000)
    often = cache.keys(b"often", IDS)
    cache.put(often, 1, np.zeros((1, 64), np.float32))
    for number in range(1000):
        cache.put(cache.keys(str(number).encode(), IDS), 1, np.zeros((1, 64), np.float32))
        assert cache.bytes <= 10_000
        assert cache.find(often)[0] == STRIDE


def test_what_is_there_is_not_put_again() -> None:
    cache = PrefixCache(10_000)
    keys = cache.keys(b"", IDS)
    cache.put(keys, 1, np.zeros((1, 64)))
    size = cache.bytes
    cache.put(keys, 1, np.zeros((1, 64)))
    cache.put(keys, 0, np.zeros((1, 64)))
    cache.put(keys, 99, np.zeros((1, 64)))
    assert cache.bytes == size


def test_a_state_that_is_got_by_its_key_stays() -> None:
    cache = PrefixCache(1000)
    (often,) = cache.keys(b"often", range(STRIDE))
    cache.put([often], 1, np.zeros((1, 64), np.float32))
    for number in range(9):
        cache.put(cache.keys(bytes([number]), range(STRIDE)), 1, np.zeros((1, 64), np.float32))
        assert cache.get(often) is not None

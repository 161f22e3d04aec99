"""Answers that are computed together and kept."""

from __future__ import annotations

from collections.abc import Sequence

from textgen.generation.constraints.batched_cache import BatchedCache


def test_what_is_missing_is_computed_at_once_and_only_once() -> None:
    asked = list[list[str]]()

    def lengths(words: Sequence[str]) -> list[int]:
        asked.append(list(words))
        return [len(word) for word in words]

    cache = BatchedCache(lengths, most=3)
    assert cache.of(["a", "bc", "a"]) == [1, 2, 1]
    assert cache.of(["bc", "def", "a"]) == [2, 3, 1]
    assert cache.of(["ghij", "a"]) == [4, 1]  # in the place of "bc", which was used least recently
    assert cache.of(["def", "ghij", "a"]) == [3, 4, 1]
    assert cache.of(["bc", "klmno", "pqrstu", "a", "bc"]) == [2, 5, 6, 1, 2], "more than are kept"
    assert cache.of([]) == []
    assert asked == [["a", "bc"], ["def"], ["ghij"], ["bc", "klmno", "pqrstu"]]

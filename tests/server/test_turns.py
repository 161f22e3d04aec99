"""Owners take turns, and nobody who leaves keeps a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from textgen.server.failures import ApiError
from textgen.server.turns import Turns


class Works:
    """Pieces of work that wait for their turns, and the order in which they had them."""

    def __init__(self, most: int = 100) -> None:
        self.turns = Turns(most)
        self.order: list[str] = []
        self.gate = asyncio.Event()

    async def work(self, owner: str, name: str) -> None:
        async with self.turns.turn(owner, name):
            self.order.append(name)
            await self.gate.wait()

    async def begun(self, *names: str) -> list[asyncio.Task[None]]:
        """Begins work; the first letter of its name is its owner."""
        tasks = [asyncio.create_task(self.work(name[0], name)) for name in names]
        await asyncio.sleep(0)
        return tasks


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_owners_take_turns() -> None:
    async def main() -> None:
        works = Works()
        tasks = await works.begun("a1", "a2", "a3", "b1", "b2", "c1")
        works.gate.set()
        await asyncio.gather(*tasks)
        assert works.order == ["a1", "b1", "c1", "a2", "b2", "a3"]
        assert works.turns.waiting == 0

    run(main)


def test_of_a_full_queue_the_last_of_the_longest_is_refused() -> None:
    async def main() -> None:
        works = Works(4)
        tasks = await works.begun("a1", "a2", "a3", "a4")
        tasks += await works.begun("b1", "a5")
        works.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [number for number, result in enumerate(results) if isinstance(result, ApiError)]
        assert refused == [3, 5]
        assert works.order == ["a1", "b1", "a2", "a3"]

    run(main)


def test_each_piece_of_work_is_counted_under_its_name() -> None:
    async def main() -> None:
        works = Works()
        first, second, left = await works.begun("a1", "b1", "b1")
        assert (works.turns.running, works.turns.names) == ("a1", {"a1": 1, "b1": 2})
        left.cancel()
        works.gate.set()
        await asyncio.gather(first, second)
        assert works.turns.running is None
        assert not any(works.turns.names.values())

    run(main)


@pytest.mark.parametrize("is_next", [False, True])
def test_work_that_is_cancelled_keeps_no_turn(is_next: bool) -> None:
    async def main() -> None:
        works = Works()
        first, left, last = await works.begun("a1", "a2", "a3")
        if is_next:
            works.gate.set()
            await first
        left.cancel()
        works.gate.set()
        await asyncio.gather(first, last)
        assert works.order[-1] == "a3"
        assert works.turns.waiting == 0
        await asyncio.gather(*await works.begun("b1"))

    run(main)


def test_of_two_owners_with_one_piece_of_work_each_the_later_is_refused() -> None:
    """The longest queue would be no shorter than the other: its work was there first."""

    async def main() -> None:
        works = Works(2)
        tasks = await works.begun("a1", "a2", "b1")
        works.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, ApiError) for result in results] == [False, False, True]
        assert works.order == ["a1", "a2"]

    run(main)

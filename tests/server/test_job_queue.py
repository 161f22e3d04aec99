"""Whose turn it is: nobody who sends many texts shuts out those who send a few."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from plain_fakes import TableModel

from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.server.failures import ApiError
from textgen.server.job_queue import JobQueue
from textgen.server.jobs import Batch, Job
from textgen.tokenizer.kinds import ByteTokenizer

TOKENIZER = ByteTokenizer()
GENERATOR = Generator(TableModel(TOKENIZER.vocab_size), TOKENIZER)


def jobs_of(owner: str = "", number: int = 1) -> list[Job]:
    """Jobs of a request, none of whose prompts has been read."""
    rows = [GENERATOR.row("", SamplingConfig(seed=4)) for _ in range(number)]
    return [Job(row, GENERATOR, lambda *_: None, owner=owner) for row in rows]


class Slots:
    """The slots of a queue, as an engine that reads and writes nothing has them.

    Attributes:
        queue: The queue.
        reading: Jobs that have a slot.
        begun: Jobs in the order of their slots.
    """

    def __init__(self, slots: int, max_queue: int = 100) -> None:
        self.queue = JobQueue(slots, max_queue)
        self.reading: deque[Job] = deque()
        self.begun: list[Job] = []

    def put(self, jobs: Sequence[Job]) -> list[Job]:
        return self.queue.put(jobs, len(self.reading))

    def admit(self) -> None:
        def begin(job: Job) -> None:
            job.row.begin()
            self.begun.append(job)

        self.queue.admit(self.reading, [], begin)

    def end_first(self) -> Job:
        """Ends the text that has had its slot for the longest time, and gives the slot to the next one."""
        ended = self.reading.popleft()
        self.admit()
        return ended

    def order(self, requests: Sequence[Sequence[Job]]) -> list[Job]:
        """Returns the jobs of requests in the order of their slots. The first has all slots when the others come."""
        for jobs in requests:
            self.put(jobs)
            if not self.reading:
                self.admit()
        while self.reading:
            self.end_first()
        return self.begun


def test_slots_go_in_the_order_of_their_definition() -> None:
    rng, queue = np.random.default_rng(0), JobQueue(4, 100)
    for _ in range(20):
        batches = [Batch(3, owner, first, turn) for turn, (owner, first) in enumerate(_owners(rng))]
        jobs = [job for batch in batches for job in jobs_of(batch.owner, 3)]
        for number, job in enumerate(jobs):
            job.batch = batches[number // 3]
        slots = (Counter({owner: int(rng.integers(4)) for owner in "abc"}), Counter({batches[0]: 1}))
        began = {owner: place for place, owner in enumerate("bca")}
        copies = Counter(slots[0]), Counter(slots[1])
        expected = [jobs.index(job) for job in _by_definition(jobs, *copies, dict(began))]
        for turn, batch in enumerate(batches):
            batch.turn = turn
        queue._waiting, queue._served = deque(jobs), began
        order = list(_given(queue._in_turn(*slots), *slots, began))
        assert [jobs.index(job) for job in order] == expected


def _owners(rng: np.random.Generator) -> list[tuple[str, bool]]:
    return [("abc"[rng.integers(3)], bool(rng.integers(4) == 0)) for _ in range(12)]


def _by_definition(jobs: list[Job], owners: Counter[str], batches: Counter[Batch], served: dict[str, int]) -> Any:
    def order(job: Job) -> tuple[int, ...]:
        owner, batch = job.owner, job.batch
        return not batch.first, owners[owner], served[owner], batches[batch], batch.turn

    waiting = list(jobs)

    def all_in_order() -> Iterator[Job]:
        while waiting:
            job = min(waiting, key=order)
            waiting.remove(job)
            yield job

    return _given(all_in_order(), owners, batches, served)


def _given(
    order: Iterator[Job], owners: Counter[str], batches: Counter[Batch], served: dict[str, int]
) -> Iterator[Job]:
    """Gives each job a slot."""
    for given, job in enumerate(order, 1000):
        served[job.owner] = job.batch.turn = given
        owners[job.owner] += 1
        batches[job.batch] += 1
        yield job


@pytest.mark.parametrize("owners", [("", ""), ("a", "b")])
def test_a_free_slot_goes_to_the_request_or_owner_with_the_fewest(owners: tuple[str, str]) -> None:
    many, (one,) = jobs_of(owners[0], 5), jobs_of(owners[1])
    begun = Slots(2).order([many, [one]])
    assert begun.index(one) == 2
    assert len(begun) == 6


def test_an_owner_has_one_share_however_many_requests_there_are() -> None:
    (one,) = jobs_of("b")
    begun = Slots(2).order([jobs_of("a", 2), *(jobs_of("a") for _ in range(3)), [one]])
    assert begun.index(one) == 2
    assert len(begun) == 6


@pytest.mark.parametrize("owned", [False, True])
def test_requests_or_owners_take_turns_with_a_single_slot(*, owned: bool) -> None:
    jobs = [jobs_of(owner if owned else "", 3) for owner in "abc"]
    begun = Slots(1).order([[job] for several in jobs for job in several] if owned else jobs)
    assert begun == [job for together in zip(*jobs, strict=True) for job in together]


@pytest.mark.parametrize("owned", [False, True])
def test_all_texts_of_a_request_have_their_turns_while_others_come_again_and_again(*, owned: bool) -> None:
    slots = Slots(1)
    patient, *others = (jobs_of(owner if owned else "", 5 if owner == "a" else 1) for owner in "abc")
    for jobs in (patient, *others):
        slots.put(jobs)
    slots.admit()
    ended: list[Job] = []
    for _ in range(20):
        ended.append(slots.end_first())
        if ended[-1] not in patient:
            slots.put(jobs_of(ended[-1].owner))
    assert set(patient) <= set(ended)


def test_a_full_server_does_not_look_at_those_who_wait_while_nobody_has_more() -> None:
    slots, full = Slots(2), list[bool]()
    order = slots.queue._in_turn

    def watched(*given: Any, **more: Any) -> Iterator[Job]:
        full.append(len(slots.reading) >= 2)
        return order(*given, **more)

    slots.queue._in_turn = watched  # type: ignore[method-assign]
    for owner in "abcd":
        slots.put(jobs_of(owner))
    for _ in range(3):
        slots.admit()
        slots.admit()
        slots.end_first()
    assert len(slots.begun) == 4
    assert full == [False] * 3


def test_a_full_server_looks_at_those_who_wait_if_one_of_them_finds_somebody_with_more() -> None:
    rng, slots = np.random.default_rng(0), Slots(4)
    queue, reading = slots.queue, slots.reading
    may_give = queue._may_give
    seen: list[tuple[bool, bool]] = []  # whether one finds somebody, and whether the queue looks

    def watched(*given: Any, **more: Any) -> bool:
        found = any(queue._with_more(job, *given, **more) for job in queue._waiting)
        seen.append((found, may_give(*given, **more)))
        return seen[-1][1]

    queue._may_give = watched  # type: ignore[method-assign]
    for _ in range(200):
        if len(queue) < 8:
            slots.put(jobs_of("abc"[rng.integers(3)], int(rng.integers(1, 4))))
        slots.admit()
        job = reading[int(rng.integers(len(reading)))]
        if job.prompt.is_read:  # its text is written
            reading.remove(job)
        job.prompt.number = job.prompt.at
    assert set(seen) == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize("owners", [("", ""), ("a", "b")])
def test_the_request_with_most_waiting_texts_makes_room_in_a_full_queue(owners: tuple[str, str]) -> None:
    slots, waiting = Slots(2, max_queue=5), jobs_of(owners[0], 4)
    slots.put(jobs_of(owners[0], 3))
    slots.admit()
    slots.put(waiting)
    with pytest.raises(ApiError, match="5 texts waiting"):  # it is no smaller than those that wait
        slots.put(jobs_of(owners[0], 4))
    assert slots.put(jobs_of(owners[1])) == waiting
    assert slots.put(jobs_of(owners[0])) == []
    assert len(slots.queue) == 3


def test_no_request_that_has_begun_makes_room() -> None:
    slots = Slots(2, max_queue=3)
    slots.put(jobs_of(number=5))
    slots.admit()
    with pytest.raises(ApiError):
        slots.put(jobs_of())
    assert len(slots.queue) == 3


def test_jobs_that_nobody_wants_get_no_slot() -> None:
    """Also before they are dropped."""
    slots, jobs = Slots(1), jobs_of(number=4)
    slots.put(jobs)
    jobs[0].cancelled = jobs[1].cancelled = True
    slots.admit()
    assert (slots.begun, len(slots.queue)) == ([jobs[2]], 1)
    jobs[3].cancelled = True
    slots.queue.drop_cancelled()
    assert slots.queue.clear() == []

"""The jobs that wait for a slot of an engine, and whose turn it is.

A free slot goes to the owner with the fewest slots, and among the requests of an owner to the one with the fewest; with
equal numbers, they take turns. A text whose prompt is being read gives its slot to one whose owner or request has
fewer. Newcomers begin at the present turn, so that they do not always go before those who have waited. If the queue is
full, the owner with the most waiting texts is refused first, beginning with the largest request. So nobody who sends
many texts shuts out those who send a few.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from heapq import heapify, heappop, heapreplace

from textgen.server.failures import ApiError, busy
from textgen.server.jobs import Batch, Job
from textgen.wording import counted


class JobQueue:
    """Jobs that wait for a slot. It has no lock: that of its engine guards it.

    Attributes:
        slots: Texts that are written side by side.
    """

    def __init__(self, slots: int, max_queue: int) -> None:
        """Makes an empty queue.

        Args:
            slots: Texts that are written side by side.
            max_queue: Texts that may wait for a slot.
        """
        self.slots = slots
        self._max_queue = max_queue
        self._waiting: deque[Job] = deque()
        self._given = 0  # slots so far
        self._served: dict[str, int] = {}  # as `Batch.turn`: of each owner who waits, maybe of some who waited

    def __len__(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    def put(self, jobs: Sequence[Job], running: int, *, first: bool = False) -> list[Job]:
        """Adds jobs of one request, all of them or none.

        Args:
            jobs: The jobs, at least one.
            running: Jobs that have a slot.
            first: Whether they complete an answer that has begun: they come before the others, also in a full queue.

        Returns:
            The jobs that make room for them, which wait no more.

        Raises:
            ApiError: Too many jobs are waiting.
        """
        batch = Batch(len(jobs), jobs[0].owner, first, turn=self._given - 1)
        given_up: list[Job] = []
        if first:
            self._waiting.extendleft(reversed(jobs))
        else:
            refused = self._refused_for(batch, running)
            given_up = [job for job in self._waiting if job.batch in refused]
            self._waiting = deque(job for job in self._waiting if job.batch not in refused)
            self._waiting.extend(jobs)
        for job in jobs:
            job.batch = batch
        self._served.setdefault(batch.owner, self._given - 1)
        return given_up

    def _refused_for(self, batch: Batch, running: int) -> set[Batch]:
        """The waiting jobs that make room for others in the queue: none of a request of which a job has begun.

        Those of the owner with the most waiting jobs go first, and of this owner the request with the most; of equal
        ones the latest. Only those go that are more than the others, counted in the same way.

        Raises:
            ApiError: There is no room for the others.
        """
        over = len(self._waiting) + batch.number - self._max_queue - max(0, self.slots - running)
        if over <= 0:
            return set()
        waiting = Counter(job.owner for job in self._waiting)
        waiting[batch.owner] += batch.number
        latest_first = dict.fromkeys(job.batch for job in reversed(self._waiting))
        batches = [each for each in latest_first if not (each.first or each.begun)]
        refused = set[Batch]()
        while over > 0 and batches:
            largest = max(batches, key=lambda each: (waiting[each.owner], each.number))
            if (waiting[largest.owner], largest.number) <= (waiting[batch.owner], batch.number):
                break
            batches.remove(largest)
            refused.add(largest)
            waiting[largest.owner] -= largest.number
            over -= largest.number
        if over > 0:
            raise self.busy()
        return refused

    def busy(self) -> ApiError:
        """The error for those who are refused."""
        return busy(f"{counted(len(self._waiting), 'text')} waiting")

    def drop_cancelled(self) -> None:
        """Forgets jobs that nobody wants any more."""
        self._waiting = deque(job for job in self._waiting if not job.cancelled)

    def clear(self) -> list[Job]:
        """Forgets all jobs, and returns them."""
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def admit(self, reading: deque[Job], writing: Collection[Job], begin: Callable[[Job], None]) -> None:
        """Gives free slots, and those of texts whose prompts are being read to owners and requests with fewer.

        Args:
            reading: Jobs that have a slot and whose prompts are being read. Those that get or lose a slot are added and
                removed in place.
            writing: The other jobs that have a slot.
            begin: Called with each job that gets a slot, before it is added.
        """
        if not self._waiting or (not reading and len(writing) >= self.slots):
            return
        running = [*reading, *writing]
        owners, batches = Counter(job.owner for job in running), Counter(job.batch for job in running)
        if len(running) >= self.slots and not self._may_give(reading, owners, batches):
            return
        served = self._served = {job.owner: self._served[job.owner] for job in self._waiting}
        taken, returned, passed = set[Job](), list[Job](), set[str]()
        for job in self._in_turn(owners, batches, passed):
            if job.cancelled:
                taken.add(job)
                continue
            if len(reading) + len(writing) >= self.slots:
                other = self._with_more(job, reading, owners, batches)
                if other is None:
                    passed.add(job.owner)  # whose other requests have no fewer slots
                    continue
                reading.remove(other)
                other.row.pause()
                returned.append(other)
                owners[other.owner] -= 1
                batches[other.batch] -= 1
            taken.add(job)
            self._given += 1
            served[job.owner] = job.batch.turn = self._given
            job.batch.begun = True
            owners[job.owner] += 1
            batches[job.batch] += 1
            begin(job)
            reading.append(job)
        self._waiting = deque([*returned, *(job for job in self._waiting if job not in taken)])
        for job in returned:
            served.setdefault(job.owner, self._given - 1)

    def _may_give(self, reading: Collection[Job], owners: Counter[str], batches: Counter[Batch]) -> bool:
        """Whether `_with_more` may find a job for one that waits. False is certain, True is not.

        It does not look at each job that waits: the event loop may wait for the lock in each round in which the server
        is full and a prompt is read.
        """

        def has_more(job: Job) -> bool:
            others_wait = len(self._served) > 1 or job.owner not in self._served
            return batches[job.batch] > 1 or (owners[job.owner] > 1 and others_wait)

        return any(has_more(job) for job in reading if _can_give(job))

    def _with_more(
        self, job: Job, reading: Collection[Job], owners: Counter[str], batches: Counter[Batch]
    ) -> Job | None:
        """A job that gives its slot to another, whose owner or request has fewer even without that slot.

        Its prompt stays read as far as it is, and its time stops until it goes on. So a request with long prompts shuts
        out nobody until it writes.
        """

        def has_more(other: Job) -> bool:
            if other.owner != job.owner:
                return owners[other.owner] > owners[job.owner] + 1
            return batches[other.batch] > batches[job.batch] + 1

        others = [each for each in reading if _can_give(each) and has_more(each)]
        return max(others, key=lambda each: (owners[each.owner], batches[each.batch]), default=None)

    def _in_turn(self, owners: Counter[str], batches: Counter[Batch], passed: Collection[str] = ()) -> Iterator[Job]:
        """Yields waiting jobs: first those of owners with the fewest slots, of them that of the one who waits longest.

        Likewise among the requests of an owner. Jobs that complete an answer come before all others. The slots that
        jobs get count at once; those that an owner or a request loses count from the next round on.

        Args:
            owners: Slots of each owner, kept up to date by the caller, as are the following and `_served`.
            batches: Slots of the jobs that were submitted together.
            passed: Owners whose further jobs are left out, also kept up to date by the caller.
        """
        for first in (True, False):
            queues: dict[Batch, deque[Job]] = {}
            for job in self._waiting:
                if job.batch.first == first:
                    queues.setdefault(job.batch, deque()).append(job)
            requests: dict[str, list[tuple[int, int, int, Batch]]] = {}
            for place, batch in enumerate(queues):
                requests.setdefault(batch.owner, []).append((batches[batch], batch.turn, place, batch))
            turns = [(owners[owner], self._served[owner], own[0][2], owner) for owner, own in requests.items()]
            heapify(turns)
            for own in requests.values():
                heapify(own)
            while turns:
                _, _, first_place, owner = turns[0]
                if owner in passed:
                    heappop(turns)
                    continue
                _, _, place, batch = requests[owner][0]
                yield queues[batch].popleft()
                if queues[batch]:
                    heapreplace(requests[owner], (batches[batch], batch.turn, place, batch))
                else:
                    heappop(requests[owner])
                if requests[owner]:
                    heapreplace(turns, (owners[owner], self._served[owner], first_place, owner))
                else:
                    heappop(turns)


def _can_give(job: Job) -> bool:
    """Whether a job whose prompt is being read may give its slot to another."""
    return not (job.prompt.is_read or job.batch.first)

"""One thread that writes the texts of all clients of a model, side by side.

The thread repeats one round: admit texts that wait, read parts of the prompts that are not read yet, write the next
token of each text, and hand the tokens to the event loop. Texts join and leave between rounds, so nobody waits for the
texts of others, and a long prompt delays a token by the parts of a round at most. Who gets a slot is told in
`textgen.server.job_queue`; how prompts are read, and whose are next, in `textgen.server.prompt_reading`.

A text whose client gave a seed, or takes the likeliest token always, is computed row by row: it is the same to the last
bit alone, beside others, and from `textgen sample`. The other texts share one matrix product, and so do their prompts.

Texts in which cells are held at numbers have a network of their own, which shares the weights: those with the same
cells held go together, and the texts beside them notice nothing. So it is with texts in exact arithmetic, which
are never computed row by row: they share products and are the same to the last bit anyway.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from textgen.errors import SavedModelError, TextgenError
from textgen.generation.decoding import Decoder
from textgen.generation.generator import Generator
from textgen.generation.row import Row
from textgen.generation.text_state import RECENT
from textgen.server.failures import closing
from textgen.server.job_queue import JobQueue
from textgen.server.jobs import Ended, Event, Job, Kind
from textgen.server.prefix_cache import PrefixCache
from textgen.server.prompt_reading import PromptReader

AHEAD = 4  # rounds that the thread may be ahead of the event loop; then it waits
READ_STEPS = 64  # maximum number of steps of the model in one round to read prompts
JOINS = 8  # maximum number of texts that join in one round, since the others wait for them


class Engine:
    """Writes the texts of a model in a thread of its own.

    Attributes:
        generator: The generator of the model.
        prefix_cache: States within prompts.
        rounds: Number of rounds so far.
    """

    def __init__(
        self, generator: Generator, loop: asyncio.AbstractEventLoop, slots: int, max_queue: int, prefix_cache_bytes: int
    ) -> None:
        """Starts the thread.

        Args:
            generator: The generator of the model.
            loop: The event loop in which listeners are called.
            slots: Texts that are written side by side.
            max_queue: Texts that may wait for a slot.
            prefix_cache_bytes: Bytes of states within prompts that are kept.
        """
        self.generator = generator
        self.prefix_cache = PrefixCache(prefix_cache_bytes)
        self.rounds = 0
        self._loop = loop
        self._decoders: dict[Kind, Decoder] = {}  # those that write something
        self._reader = PromptReader(self.prefix_cache, generator.decoder().settled)
        self._changed = threading.Condition()
        self._queue = JobQueue(slots, max_queue)  # guarded by `_changed`, as are the next three
        self._cancelled = False
        self._closed = False
        self._ahead = 0  # rounds whose tokens the event loop has not taken yet
        self._reading: deque[Job] = deque()  # those whose prompts are being read
        self._jobs: dict[Row, Job] = {}  # being written
        self._events: list[tuple[Job, Event]] = []
        self._thread = threading.Thread(target=self._run, name="textgen-engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Number of texts that have a slot."""
        return len(self._reading) + len(self._jobs)

    @property
    def waiting(self) -> int:
        """Number of texts that wait for one."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        with self._changed:  # no job is seen neither waiting nor running
            return not (self.running or self.waiting)

    def submit(self, jobs: Sequence[Job], *, first: bool = False) -> None:
        """Puts jobs of one request into the queue, all of them or none. For the thread of the event loop.

        Args:
            jobs: The jobs.
            first: Whether they complete an answer that has begun: they come before the others, also in a full queue.

        Raises:
            ApiError: Too many jobs are waiting, or the engine is closed.
        """
        if not jobs:
            return
        with self._changed:
            if self._closed:
                raise closing()
            given_up = self._queue.put(jobs, self.running, first=first)
            self._changed.notify()
            error = self._queue.busy()
        for job in given_up:
            if not job.cancelled:
                job.listener(job, error)

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Ends jobs that nobody wants any more. Their slots are free in the next round."""
        with self._changed:
            for job in jobs:
                job.cancelled = True
            self._cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread. Jobs that are there get an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 a bug must not end the thread, which serves everybody
                traceback.print_exc(file=sys.stderr)
                self._fail(error)
            self._deliver()
        self._fail(closing())
        self._deliver()

    def _wait(self) -> bool:
        """Waits until there is something to do. Returns False once the engine is closed."""
        with self._changed:
            while not (self._queue or self._cancelled or self._closed or self.running):
                self._changed.wait()
            return not self._closed

    def _round(self) -> None:
        self.rounds += 1
        self._drop_cancelled()
        self._admit()
        self._read()
        for kind, decoder in list(self._decoders.items()):
            self._step(decoder)
            if not decoder.rows:
                del self._decoders[kind]

    def _drop_cancelled(self) -> None:
        with self._changed:  # together, so that nobody is forgotten who is cancelled meanwhile
            if not self._cancelled:
                return
            self._cancelled = False
            self._queue.drop_cancelled()
        self._reading = deque(job for job in self._reading if not job.cancelled)
        for row, job in list(self._jobs.items()):
            if job.cancelled:
                self._decoders[job.kind].leave(row)
                del self._jobs[row]

    def _admit(self) -> None:
        with self._changed:
            self._queue.admit(self._reading, self._jobs.values(), self._begun)

    def _begun(self, job: Job) -> None:
        """Begins a job, or goes on with it.

        Those with the same prompt in a request share what is read of it, whenever they begin. The event loop may wait
        for the lock meanwhile, so this computes nothing.
        """
        job.row.begin()
        key = job.kind, job.root, job.writes, id(job.prompt.ids)  # which `ReadPrompt` keeps, so no other has this id
        job.prompt = job.batch.prompts.setdefault(key, job.prompt)

    def _read(self) -> None:
        """Reads parts of prompts, and lets texts whose prompts are read join."""
        steps = joins = 0
        while self._reading:
            self._reader.find({job.prompt: job for job in self._reading})
            for job in [job for job in self._reading if job.prompt.is_read][: JOINS - joins]:
                joins += 1
                self._join(job)
                self._reading.remove(job)  # last, so that it is counted as running all the time
            unread = {job.prompt: job for job in self._reading if not job.prompt.is_read}
            if not unread or steps >= READ_STEPS or joins >= JOINS:
                return
            steps += self._reader.read_part(unread)
            self._end_late()

    def _end_late(self) -> None:
        """Ends texts whose time is over while their prompts are read, except those whose states are wanted.

        A prompt of which nothing had to be read yet has its first part, so that a short one has a token.
        """
        for job in list(self._reading):
            is_between = job.prompt.read and not job.prompt.is_read
            if is_between and job.writes and not job.row.track and job.row.is_late:
                job.row.stop_reason = "time"
                self._events.append((job, Ended("time")))
                self._reading.remove(job)

    def _join(self, job: Job) -> None:
        job.row.read_ahead(job.prompt.number, job.prompt.model_state)
        if not job.writes:
            job.state = replace(job.row.start, ids=job.row.start.ids[-RECENT:])
            self._events.append((job, None))
            return
        decoder = self._decoders.get(job.kind) or job.generator.decoder(row_by_row=job.row_by_row)
        try:
            decoder.join([job.row])
        except TextgenError as error:
            self._events.append((job, error))
            return
        self._decoders[job.kind] = decoder
        self._jobs[job.row] = job

    def _step(self, decoder: Decoder) -> None:
        try:
            taken = decoder.step()
        except SavedModelError as error:
            for row in decoder.unsound() or list(decoder.rows):
                decoder.leave(row)
                self._events.append((self._jobs.pop(row), error))
            return
        for row, token in taken:
            job = self._jobs.pop(row) if token.stop_reason else self._jobs[row]
            job.note(token)
            self._events.append((job, token))

    def _fail(self, error: Exception) -> None:
        """Gives up all jobs."""
        with self._changed:
            jobs = [*self._queue.clear(), *self._reading, *self._jobs.values()]
            self._reading.clear()
            self._jobs.clear()
        self._decoders.clear()
        self._events += [(job, error) for job in jobs]

    def _deliver(self) -> None:
        """Hands the events of a round to the event loop. Waits if it has not taken those of the last `AHEAD` rounds.

        A small network is quicker than the event loop, which writes each token as JSON: tokens would pile up.
        """
        events, self._events = self._events, []
        if not events or self._loop.is_closed():
            return
        with self._changed:
            self._changed.wait_for(lambda: self._ahead < AHEAD or self._closed)
            self._ahead += 1
        self._loop.call_soon_threadsafe(self._hand_over, events)

    def _hand_over(self, events: Sequence[tuple[Job, Event]]) -> None:
        try:
            for job, event in events:
                if not job.cancelled:
                    job.listener(job, event)
        finally:
            with self._changed:
                self._ahead -= 1
                self._changed.notify()

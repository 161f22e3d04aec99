"""The texts of one request while they are written: from jobs of an engine to tokens in order of arrival."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from textgen.generation.row import Token
from textgen.server.failures import BUSY, ApiError
from textgen.server.jobs import Ended, Event, Job
from textgen.server.metrics import Metrics
from textgen.server.served_model import ServedModel

BACKLOG = 4096  # tokens of a request that may wait for a client that reads slowly
FINISH_REASONS = {"length": "length", "time": "length"}  # of the OpenAI API; all others are "stop"


@dataclass
class Choice:
    """One text of a request.

    Attributes:
        index: Its number.
        prompt: Number of its prompt.
        job: The job that writes it.
        tokens: The tokens so far.
        stop_reason: Why it has ended: see `textgen.generation.generated_text.Generation`; empty before.
        state: What the answer says of the state at its end; None if it says nothing, or not yet.
    """

    index: int
    prompt: int
    job: Job
    tokens: list[Token] = field(default_factory=list)
    stop_reason: str = ""
    state: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(token.text for token in self.tokens)

    @property
    def finish_reason(self) -> str | None:
        """Why it has ended, as the OpenAI API names it; None before."""
        return FINISH_REASONS.get(self.stop_reason, "stop") if self.stop_reason else None

    @property
    def mean_logprob(self) -> float:
        """Mean log probability, nats per token; of no tokens the lowest."""
        if not self.tokens:
            return -math.inf
        return sum(token.logprob or 0.0 for token in self.tokens) / len(self.tokens)


class Writing:
    """Runs the jobs of a request. Used as `async with`, at whose end those that are not finished are cancelled."""

    def __init__(self, model: ServedModel, metrics: Metrics) -> None:
        self.model = model
        self.choices: list[Choice] = []
        self._metrics = metrics
        self._arrived: asyncio.Queue[tuple[Job, Event]] = asyncio.Queue()
        self._by_job: dict[Job, Choice] = {}
        self._began = time.perf_counter()
        self._open: set[Job] = set()
        self._tasks: dict[Job, asyncio.Task[None]] = {}  # work at the end of texts
        self._is_slow = False

    def listen(self, job: Job, event: Event) -> None:
        """Takes an event of a job."""
        self._arrived.put_nowait((job, event))
        if self._arrived.qsize() > BACKLOG and not self._is_slow:
            self._is_slow = True
            self.model.writer.cancel(self._open)
            error = ApiError(408, "The client reads too slowly: the text was given up.")
            self._arrived.put_nowait((job, error))

    def begin(self, choices: Sequence[Choice]) -> None:
        """Submits the jobs of choices.

        Raises:
            ApiError: The server is busy.
        """
        jobs = [choice.job for choice in choices]
        self.model.writer.submit(jobs)
        self.choices += choices
        self._by_job |= dict(zip(jobs, choices, strict=True))
        self._open |= set(jobs)

    def start_task(self, choice: Choice, work: Callable[[], Awaitable[None]]) -> None:
        """Begins work at the end of a text. The other texts go on meanwhile: see `__aiter__`."""
        self._tasks[choice.job] = asyncio.create_task(self._work(choice.job, work))

    async def _work(self, job: Job, work: Callable[[], Awaitable[None]]) -> None:
        failure = None
        try:
            await work()
        except Exception as error:  # noqa: BLE001 it is raised where the tokens are taken
            failure = error
        self._arrived.put_nowait((job, failure))

    async def read(self, job: Job, *, first: bool = False) -> None:
        """Waits until a job that only reads has come to its end; for `first` see `Engine.submit`."""
        job.listener = self.listen
        self.model.writer.submit([job], first=first)
        self._open.add(job)
        while self._open:
            await self._next()

    async def __aiter__(self) -> AsyncIterator[tuple[Choice, Token | None]]:
        """Yields tokens with their choices, until all texts have ended.

        None comes instead of a token where a text ends without one, and where the work of `start_task` has ended.

        Raises:
            Exception: What went wrong in the engine.
        """
        last: dict[Job, float] = {}
        name = self.model.name
        while self._open or self._tasks:
            job, token = await self._next()
            if token is None:
                yield self._by_job[job], None
                continue
            choice, now = self._by_job[job], time.perf_counter()
            if isinstance(token, Ended):
                self._end(choice, token.stop_reason)
                yield choice, None
                continue
            if job in last:
                self._metrics.inter_token.labels(name).observe(now - last[job])
            else:
                self._metrics.first_token.labels(name).observe(now - self._began)
            last[job] = now
            choice.tokens.append(token)
            if token.stop_reason:
                self._end(choice, token.stop_reason)
            yield choice, token

    def _end(self, choice: Choice, reason: str) -> None:
        choice.stop_reason = reason
        self._metrics.finished.labels(self.model.name, choice.finish_reason).inc()

    async def _next(self) -> tuple[Job, Token | Ended | None]:
        job, event = await self._arrived.get()
        if isinstance(event, Exception):
            raise event
        if event is None:
            self._tasks.pop(job, None)
        if event is None or event.stop_reason:
            self._open.discard(job)
        return job, event

    async def __aenter__(self) -> Writing:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if self._open:
            self.model.writer.cancel(self._open)
        for task in self._tasks.values():
            task.cancel()
        if not (isinstance(error, ApiError) and error.code == BUSY):  # of a refused request nothing has been read
            self._count()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _count(self) -> None:
        name = self.model.name
        if self._open:
            self._metrics.abandoned.labels(name).inc(len(self._open))
        jobs = {choice.prompt: choice.job for choice in self.choices}.values()
        self._metrics.prompt_tokens.labels(name).inc(sum(job.prompt_tokens for job in jobs))
        self._metrics.prefix_cache_queries.labels(name).inc(sum(choice.job.prompt_tokens for choice in self.choices))
        self._metrics.prefix_cache_hits.labels(name).inc(sum(choice.job.cached_tokens for choice in self.choices))
        self._metrics.generation_tokens.labels(name).inc(sum(len(choice.tokens) for choice in self.choices))
        self._metrics.whole.labels(name).observe(time.perf_counter() - self._began)

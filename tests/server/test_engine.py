"""Texts side by side in one thread: each as if it were alone, none lost, no slot lost."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exact_models import integers_of
from networks import random_weights
from plain_fakes import TableModel

from textgen.errors import ConfigError, SavedModelError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.row import Token
from textgen.generation.text_state import TextState
from textgen.model.clamping import parse_clamps
from textgen.model.config import ModelConfig
from textgen.model.exact_model import ExactModel
from textgen.model.numpy_model import NumpyModel
from textgen.server.engine import JOINS, READ_STEPS, Engine
from textgen.server.failures import ApiError
from textgen.server.jobs import Ended, Event, Job
from textgen.server.prefix_cache import STRIDE, PrefixCache
from textgen.tokenizer.kinds import ByteTokenizer

TOKENIZER = ByteTokenizer()
CONFIG = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=20, seed=4)
PATIENCE = 60.0
SHAPE = ModelConfig(TOKENIZER.vocab_size, embedding_dim=48, hidden_units=64, num_layers=2)


def network() -> NumpyModel:
    """Two layers whose products round differently with the number of rows."""
    return NumpyModel(SHAPE, random_weights(SHAPE))


class Client:
    """Submits texts to an engine and takes what comes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events: dict[Job, list[Event]] = {}
        self._news = asyncio.Event()

    def job(self, prompt: str = "", config: SamplingConfig = CONFIG, *, row_by_row: bool = True, **how: Any) -> Job:
        generator = how.pop("generator", self.engine.generator)
        row = generator.row(prompt, config, track=how.pop("track", False))
        job = Job(row, generator, self._take, **how)
        job.row_by_row = row_by_row
        self.events[job] = []
        return job

    def _take(self, job: Job, event: Event) -> None:
        self.events[job].append(event)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                with_timeout = asyncio.wait_for(self._news.wait(), 0.01)
                try:
                    await with_timeout
                except TimeoutError:
                    continue

    def is_done(self, job: Job) -> bool:
        last = self.events[job][-1] if self.events[job] else Token(0, "")
        return last is None or isinstance(last, Exception) or bool(last.stop_reason)

    async def texts(self, *jobs: Job) -> list[str]:
        self.engine.submit(jobs)
        await self.until(lambda: all(map(self.is_done, jobs)))
        return [self.text(job) for job in jobs]

    def text(self, job: Job) -> str:
        return "".join(event.text for event in self.events[job] if isinstance(event, Token))

    def error(self, job: Job) -> Exception:
        last = self.events[job][-1]
        assert isinstance(last, Exception)
        return last


@asynccontextmanager
async def client_of(model: Any, slots: int = 64, max_queue: int = 100, cache: int = 1 << 20) -> AsyncIterator[Client]:
    engine = Engine(Generator(model, TOKENIZER), asyncio.get_running_loop(), slots, max_queue, cache)
    try:
        yield Client(engine)
    finally:
        await asyncio.to_thread(engine.close)


@pytest.mark.parametrize("others", [0, 1, 7, 63])
def test_a_text_with_a_seed_is_that_of_the_command_line_alone_and_beside_others(others: int) -> None:
    model = network()
    prompt = "床前明月光" * 20
    (alone,) = Generator(model, TOKENIZER).generate(prompt, replace(CONFIG, top_logprobs=1))

    async def main() -> None:
        async with client_of(model, slots=others + 1) as client:
            job = client.job(prompt, replace(CONFIG, top_logprobs=1))
            crowd = [
                client.job("x" * number, replace(CONFIG, seed=number), row_by_row=False) for number in range(others)
            ]
            (text, *_) = await client.texts(job, *crowd)
            assert text == alone.text
            tokens = [event for event in client.events[job] if isinstance(event, Token)]
            assert tuple(token.logprob for token in tokens) == alone.logprobs  # to the last bit

    asyncio.run(main())


@pytest.mark.parametrize("others", [1, 7, 63])
def test_an_exact_text_shares_products_and_is_the_same_to_the_last_bit(others: int) -> None:
    model = ExactModel(integers_of(SHAPE, random_weights(SHAPE)))
    prompt, config = "床前明月光" * 20, replace(CONFIG, top_logprobs=1)
    (alone,) = Generator(model, TOKENIZER).generate(prompt, config)
    sizes = set[int]()
    step = model.step
    model.step = lambda ids, state: (sizes.add(len(ids)), step(ids, state))[1]  # type: ignore[func-returns-value, method-assign]

    async def main() -> None:
        async with client_of(model, slots=others + 1) as client:
            configs = [replace(CONFIG, seed=number) for number in range(others)]
            crowd = [client.job("x" * number, each, row_by_row=False) for number, each in enumerate(configs)]
            job = client.job(prompt, config, row_by_row=False)
            (text, *_) = await client.texts(job, *crowd)
            assert text == alone.text
            tokens = [event for event in client.events[job] if isinstance(event, Token)]
            assert tuple(token.logprob for token in tokens) == alone.logprobs

    asyncio.run(main())
    assert max(sizes) > 1


def test_texts_without_a_seed_share_products() -> None:
    model = TableModel(TOKENIZER.vocab_size)

    async def main() -> None:
        async with client_of(model) as client:
            await client.texts(*[client.job(row_by_row=False, config=replace(CONFIG, seed=seed)) for seed in range(9)])

    asyncio.run(main())
    assert max(model.batch_sizes) > 1


def held(generator: Generator, *clamps: str) -> Generator:
    """The generator with cells of its network held."""
    network = generator.model
    assert isinstance(network, NumpyModel)
    return generator.with_model(network.clamped(parse_clamps(clamps, SHAPE)), " ".join(clamps))


def test_texts_with_cells_held_are_as_if_alone_and_disturb_none_beside_them() -> None:
    model, prompt = network(), "The cat sat on the mat. " * 3
    free = Generator(model, TOKENIZER)
    generators = [free, held(free, "L0/3=2"), held(free, "L0/3=2", "L1/5.f=0")]
    alone = [generator.generate(prompt, CONFIG)[0].text for generator in generators]
    assert len(set(alone)) == 3

    async def main() -> None:
        async with client_of(model, slots=12) as client:
            own = client.engine.generator
            mine = [own, *(held(own, *each.fingerprint.split()) for each in generators[1:])]
            for _ in range(2):  # the second time from the cache
                jobs = [client.job(prompt, generator=each, root=each.fingerprint.encode()) for each in mine]
                crowd = [
                    client.job("x" * number, replace(CONFIG, seed=number), row_by_row=False, generator=mine[number % 3])
                    for number in range(9)
                ]
                texts = await client.texts(*jobs, *crowd)
                assert texts[:3] == alone
            assert min(job.cached_tokens for job in jobs) > 0
            assert client.engine.is_idle

    asyncio.run(main())


def test_texts_with_the_same_cells_held_share_products() -> None:
    free, other = TableModel(TOKENIZER.vocab_size), TableModel(TOKENIZER.vocab_size)

    async def main() -> None:
        async with client_of(free) as client:
            generator = client.engine.generator.with_model(other, "other")
            jobs = [client.job(row_by_row=False, config=replace(CONFIG, seed=seed)) for seed in range(5)]
            await client.texts(*jobs, *(client.job(row_by_row=False, generator=generator) for _ in range(9)))

    asyncio.run(main())
    assert (max(free.batch_sizes), max(other.batch_sizes)) == (5, 9)


def test_a_network_with_cells_held_is_gone_after_its_last_text() -> None:
    async def begin(client: Client) -> weakref.ref[Generator]:
        generator = held(client.engine.generator, "L0/3=2")
        await client.texts(client.job(generator=generator))
        endless = client.job(row_by_row=False, generator=generator, config=replace(CONFIG, max_tokens=10**6))
        client.engine.submit([endless])
        await client.until(lambda: len(client.events[endless]) > 3)
        client.engine.cancel([endless])
        await client.until(lambda: client.engine.is_idle)
        client.events.clear()
        return weakref.ref(generator)

    async def main() -> None:
        async with client_of(network()) as client:
            left = await begin(client)
            await client.until(lambda: gc.collect() >= 0 and left() is None)  # another thread may still have it

    asyncio.run(main())


def test_texts_that_come_together_join_few_at_a_time() -> None:
    model = TableModel(TOKENIZER.vocab_size)

    async def main() -> None:
        async with client_of(model) as client:
            first = client.job("a", replace(CONFIG, max_tokens=10**6, min_tokens=10**6), row_by_row=False)
            client.engine.submit([first])
            await client.until(lambda: bool(client.events[first]))
            crowd = [client.job("b", replace(CONFIG, min_tokens=20), row_by_row=False) for _ in range(40)]
            await client.texts(*crowd)
            client.engine.cancel([first])

    asyncio.run(main())
    assert max(model.batch_sizes) > JOINS + 1
    assert np.diff(model.batch_sizes).max() <= JOINS


def test_an_engine_with_a_job_is_never_seen_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[Engine] = []
    running: list[int] = []
    idle: list[bool] = []
    begun = Engine._begun

    class Watched(deque[Any]):
        def remove(self, reading: Any) -> None:
            super().remove(reading)
            running.append(engines[0].running)

    def begun_while_somebody_looks(engine: Engine, job: Job) -> Any:
        looks = threading.Thread(target=lambda: idle.append(engine.is_idle))
        looks.start()
        looks.join(0.1)
        return begun(engine, job)

    monkeypatch.setattr(Engine, "_begun", begun_while_somebody_looks)

    async def main() -> None:
        async with client_of(network()) as client:
            engines.append(client.engine)
            client.engine._reading = Watched()
            endless = client.job("x" * 100, replace(CONFIG, max_tokens=10**6, min_tokens=10**6))
            client.engine.submit([endless])
            await client.until(lambda: bool(idle and client.events[endless]))
            client.engine.cancel([endless])

    asyncio.run(main())
    assert idle == [False]
    assert set(running) == {1}


def test_prompts_of_any_lengths_are_read_side_by_side_and_each_as_a_whole() -> None:
    model = TableModel(TOKENIZER.vocab_size)
    rng = np.random.default_rng(0)
    prompts = ["".join(map(chr, rng.integers(97, 123, size))) for size in (0, 1, 2, 31, 32, 33, 64, 65, 200, 7, 7)]
    expected = [Generator(model, TOKENIZER).generate(prompt, CONFIG)[0].text for prompt in prompts]
    model.read_sizes.clear()

    async def main() -> None:
        async with client_of(model) as client:
            for _ in range(2):  # the second time from the cache
                jobs = [client.job(prompt, row_by_row=False) for prompt in prompts]
                assert await client.texts(*jobs) == expected
            assert [job.cached_tokens for job in jobs] == [len(prompt) // STRIDE * STRIDE for prompt in prompts]

    asyncio.run(main())
    assert max(rows for rows, _ in model.read_sizes) > 4


def test_a_prompt_that_begins_like_another_is_not_read_again_and_changes_nothing() -> None:
    model, prompt = network(), "The cat sat on the mat. " * 12

    async def main() -> None:
        async with client_of(model) as client:
            first, again = client.job(prompt), client.job(prompt)
            elsewhere = client.job(prompt, root=b"somebody else")
            texts = [(await client.texts(job))[0] for job in (first, again, elsewhere)]
            assert len(set(texts)) == 1
            assert first.cached_tokens == elsewhere.cached_tokens == 0
            assert again.cached_tokens == again.prompt_tokens // STRIDE * STRIDE

    asyncio.run(main())


def copies_of(client: Client, prompt: str, number: int, **how: Any) -> list[Job]:
    """Jobs of one request whose texts have one prompt and settings that differ in the seed only."""
    first = client.job(prompt, **how)
    jobs = [first]
    for seed in range(1, number):
        row = first.row.fork()
        row.config = replace(CONFIG, seed=seed)
        jobs.append(Job(row, first.generator, first.listener))
        jobs[-1].row_by_row = first.row_by_row
        client.events[jobs[-1]] = []
    return jobs


@pytest.mark.parametrize("cache", [0, 1 << 20])
@pytest.mark.parametrize("row_by_row", [True, False])
@pytest.mark.parametrize("slots", [3, 64])
def test_the_copies_of_a_request_read_their_prompt_once(*, slots: int, row_by_row: bool, cache: int) -> None:
    model, prompt = TableModel(TOKENIZER.vocab_size), "The cat sat on the mat. " * 20 + "A"
    configs = [CONFIG, *(replace(CONFIG, seed=seed) for seed in range(1, 8))]
    alone = [Generator(model, TOKENIZER).generate(prompt, config)[0].text for config in configs]
    model.read_sizes.clear()

    async def main() -> None:
        async with client_of(model, slots=slots, cache=cache) as client:
            jobs = copies_of(client, prompt, 8, row_by_row=row_by_row)
            assert await client.texts(*jobs) == alone
            assert [job.cached_tokens for job in jobs] == [0] * 8

    asyncio.run(main())
    assert sum(rows * tokens for rows, tokens in model.read_sizes) == len(prompt)


@pytest.mark.parametrize("row_by_row", [True, False])
def test_prompts_that_are_equal_are_read_once_also_if_they_come_together(*, row_by_row: bool) -> None:
    model, prompt = TableModel(TOKENIZER.vocab_size), "a" * 20 * STRIDE

    async def main() -> None:
        async with client_of(model) as client:
            jobs = [client.job(prompt, row_by_row=row_by_row) for _ in range(8)]
            assert len(set(await client.texts(*jobs))) == 1

    asyncio.run(main())
    assert sum(rows * tokens for rows, tokens in model.read_sizes) == len(prompt)


@pytest.mark.parametrize("number", [1, 3])
def test_a_text_whose_time_is_over_ends_while_its_prompt_is_read(number: int) -> None:
    model = TableModel(TOKENIZER.vocab_size)

    async def main() -> None:
        async with client_of(model) as client:
            jobs = copies_of(client, "a" * 10_000, number, config=replace(CONFIG, max_seconds=0.0))
            for job in jobs:
                job.row.config = replace(CONFIG, max_seconds=0.0)
            await client.texts(*jobs)
            assert [client.events[job] for job in jobs] == [[Ended("time")]] * number
            assert client.engine.is_idle

    asyncio.run(main())
    assert model.read_sizes == [(1, STRIDE)]


@pytest.mark.parametrize("how", [{"writes": False}, {"track": True}])
def test_a_prompt_is_read_to_its_end_for_a_state(how: dict[str, Any]) -> None:
    async def main() -> None:
        async with client_of(TableModel(TOKENIZER.vocab_size)) as client:
            job = client.job("a" * 200, replace(CONFIG, max_seconds=0.0), **how)
            await client.texts(job)
            assert job.state
            assert len(job.state.ids) > 200

    asyncio.run(main())


def test_a_short_prompt_with_no_time_has_a_token() -> None:
    async def main() -> None:
        async with client_of(TableModel(TOKENIZER.vocab_size)) as client:
            jobs = [client.job(prompt, replace(CONFIG, max_seconds=0.0)) for prompt in "ab"]
            await client.texts(*jobs)
            for job in jobs:
                (token,) = client.events[job]
                assert isinstance(token, Token)
                assert token.stop_reason == "time"

    asyncio.run(main())


def test_the_event_loop_does_not_wait_while_keys_of_prompts_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    keys = PrefixCache.keys

    async def main() -> None:
        async with client_of(TableModel(TOKENIZER.vocab_size)) as client:

            def take_lock() -> None:
                taken = client.engine._changed.acquire(timeout=PATIENCE)
                free.append(taken)
                if taken:
                    client.engine._changed.release()

            def watched(*arguments: Any) -> list[bytes]:
                looks = threading.Thread(target=take_lock)
                looks.start()
                looks.join(PATIENCE / 2)
                free.append(not looks.is_alive())
                return keys(*arguments)

            monkeypatch.setattr(PrefixCache, "keys", watched)
            await client.texts(*copies_of(client, "a" * 100, 5))

    asyncio.run(main())
    assert free == [True, True]  # for the one prompt


def test_without_memory_for_it_nothing_is_cached() -> None:
    async def main() -> None:
        async with client_of(network(), cache=0) as client:
            jobs = [client.job("a" * 100) for _ in range(2)]
            for job in jobs:
                await client.texts(job)
            assert [job.cached_tokens for job in jobs] == [0, 0]

    asyncio.run(main())


def test_a_position_is_that_of_the_generator() -> None:
    generator = Generator(network(), TOKENIZER, fingerprint="this one")
    expected = generator.read("It was a" * 9)
    stream = generator.tokens("It was", replace(CONFIG, max_tokens=5))
    list(stream)

    async def main() -> None:
        async with client_of(generator.model) as client:
            read = client.job("It was a" * 9, writes=False, generator=generator)
            await client.texts(read)
            assert _same(read.state, expected)
            written = client.job("It was", replace(CONFIG, max_tokens=5), track=True, generator=generator)
            await client.texts(written)
            assert _same(written.state, stream.state)

    asyncio.run(main())


def _same(state: TextState | None, other: TextState) -> bool:
    assert state
    pairs = zip(state.model_state, other.model_state, strict=True)
    same_text = (state.ids, state.model) == (other.ids, other.model)
    return same_text and all(np.array_equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


class GatedModel(TableModel):
    """Waits before each step, and before each part of a prompt, until it is let on."""

    def __init__(self) -> None:
        super().__init__(TOKENIZER.vocab_size)
        self.gate = threading.Semaphore(0)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        self.gate.acquire()
        return super().step(ids, state)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        self.gate.acquire()
        return super().read(inputs, state)


def test_what_completes_an_answer_comes_before_what_waits_also_if_no_more_may_wait() -> None:
    model = GatedModel()

    async def main() -> None:
        async with client_of(model, slots=1, max_queue=1) as client:
            held, late, more = (client.job("", replace(CONFIG, max_tokens=number)) for number in (1, 2, 3))
            client.engine.submit([held])
            await client.until(lambda: client.engine.running == 1)
            client.engine.submit([late])
            with pytest.raises(ApiError):
                client.engine.submit([more])
            completing = [client.job("abc", writes=False) for _ in range(2)]
            client.engine.submit(completing, first=True)
            assert list(client.engine._queue._waiting) == [*completing, late]
            model.gate.release(100)
            await client.until(lambda: all(map(client.is_done, [held, *completing, late])))

    asyncio.run(main())


@pytest.mark.parametrize("when", ["waiting", "reading", "writing"])
def test_a_cancelled_text_has_no_slot_after_the_next_step(when: str) -> None:
    model = GatedModel()

    async def main() -> None:
        async with client_of(model, slots=1) as client:
            held = client.job("a" * 300 if when == "reading" else "", replace(CONFIG, max_tokens=10_000))
            late = client.job("", replace(CONFIG, max_tokens=1))
            client.engine.submit([held])
            await client.until(lambda: client.engine.running == 1)
            if when != "waiting":
                model.gate.release(2)
            client.engine.submit([late])
            assert client.engine.waiting == 1
            cancelled = late if when == "waiting" else held
            client.engine.cancel([cancelled])
            model.gate.release(3)  # the step in progress, and one for the next text
            await client.until(lambda: client.engine.waiting == 0)
            if when == "waiting":
                assert client.engine.running == 1
                client.engine.cancel([held])
            else:
                await client.until(lambda: client.is_done(late))
            model.gate.release(100)
            await client.until(lambda: client.engine.is_idle)

    asyncio.run(main())


@pytest.mark.parametrize("before", ["_round", "_admit"])
def test_a_text_cancelled_between_two_steps_of_a_round_is_not_written(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has looked for such texts already, or is about to forget that there are any."""

    async def main() -> None:
        jobs: list[Job] = []
        begun: list[Job] = []
        step = getattr(Engine, before)

        def late(engine: Engine) -> None:
            if jobs and engine.waiting:
                engine.cancel(jobs)
            step(engine)

        monkeypatch.setattr(Engine, before, late)
        begin = Engine._begun

        def noted(engine: Engine, job: Job) -> Any:
            begun.append(job)
            return begin(engine, job)

        monkeypatch.setattr(Engine, "_begun", noted)
        async with client_of(TableModel(TOKENIZER.vocab_size)) as client:
            jobs.append(client.job("", replace(CONFIG, max_tokens=10_000)))
            client.engine.submit(jobs)
            await client.until(lambda: client.engine.is_idle)
            assert not begun

    asyncio.run(main())


def test_a_text_whose_numbers_are_not_finite_fails_alone() -> None:
    class Poisoned(TableModel):
        def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            logits, state = super().step(ids, state)
            return np.where((ids == 3 + ord("!"))[:, None], np.nan, logits), state

    async def main() -> None:
        async with client_of(Poisoned(TOKENIZER.vocab_size)) as client:
            config = replace(CONFIG, heal=False, ban=("!",))
            jobs = [client.job(prompt, config, row_by_row=False) for prompt in ("a", "a!", "b")]
            texts = await client.texts(*jobs)
            assert [bool(text) for text in texts] == [True, False, True]
            assert isinstance(client.error(jobs[1]), SavedModelError)

    asyncio.run(main())


def test_settings_that_cannot_be_met_fail_alone() -> None:
    async def main() -> None:
        async with client_of(TableModel(TOKENIZER.vocab_size)) as client:
            wrong, right = client.job("", replace(CONFIG, no_copy=3)), client.job()
            await client.texts(wrong, right)
            assert isinstance(client.error(wrong), ConfigError)
            assert client.text(right)

    asyncio.run(main())


def test_a_bug_ends_the_texts_and_not_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    class Buggy(TableModel):
        fails = True

        def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            if self.fails:
                raise IndexError("a bug")
            return super().step(ids, state)

    model = Buggy(TOKENIZER.vocab_size)

    async def main() -> None:
        async with client_of(model) as client:
            failed = client.job()
            await client.texts(failed)
            assert isinstance(client.error(failed), IndexError)
            model.fails = False
            assert (await client.texts(client.job()))[0]

    asyncio.run(main())
    assert "IndexError: a bug" in capsys.readouterr().err


def test_more_texts_than_may_wait_are_refused_all_or_none() -> None:
    model = GatedModel()

    async def main() -> None:
        async with client_of(model, slots=2, max_queue=3) as client:
            client.engine.submit([client.job() for _ in range(4)])
            await client.until(lambda: client.engine.running == 2)
            with pytest.raises(ApiError) as caught:
                client.engine.submit([client.job() for _ in range(2)])
            assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
            client.engine.submit([client.job()])
            model.gate.release(10_000)
            await client.until(lambda: client.engine.is_idle)

    asyncio.run(main())


def test_a_long_prompt_lets_others_write() -> None:
    async def main() -> None:
        async with client_of(TableModel(TOKENIZER.vocab_size)) as client:
            long, short = client.job("a" * 20_000, replace(CONFIG, max_tokens=1)), client.job()
            await client.texts(long, short)
            order = list(client.events)
            assert order == [long, short]  # as submitted
            assert client.engine.rounds >= 20_000 / READ_STEPS

    asyncio.run(main())


def test_at_its_end_an_engine_answers_all_that_wait() -> None:
    model = GatedModel()

    async def main() -> None:
        async with client_of(model, slots=1) as client:
            jobs = [client.job() for _ in range(3)]
            client.engine.submit(jobs)
            closing = asyncio.create_task(asyncio.to_thread(client.engine.close))
            await client.until(lambda: client.engine._closed)
            model.gate.release(1000)
            await closing
            await client.until(lambda: all(map(client.is_done, jobs)))
            assert all(isinstance(client.error(job), ApiError) for job in jobs)
            with pytest.raises(ApiError):
                client.engine.submit([client.job()])

    asyncio.run(main())


# === Shares ===


def at_each_beginning(engine: Engine, note: Callable[[Job], None]) -> None:
    """Makes an engine call a function after a job has begun, before it is counted among those that run."""
    begin = engine._begun

    def begin_and_note(job: Job) -> None:
        begin(job)
        note(job)

    engine._begun = begin_and_note  # type: ignore[method-assign]


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("owners", [("", ""), ("a", "b")])
def test_texts_whose_prompts_are_read_give_slots_to_those_who_have_fewer(
    owners: tuple[str, str], *, copies: bool
) -> None:
    model = GatedModel()
    prompts = [chr(65 + (0 if copies else number)) * 320 for number in range(4)]

    async def main() -> None:
        async with client_of(model, slots=4) as client:
            many = [client.job(prompt, replace(CONFIG, max_tokens=2), owner=owners[0]) for prompt in prompts]
            one, other = (client.job("", replace(CONFIG, max_tokens=1), owner=owners[1]) for _ in range(2))
            client.engine.submit(many)
            await client.until(lambda: client.engine.running == 4)
            client.engine.submit([one])
            client.engine.submit([other])
            while not (client.is_done(one) and client.is_done(other)):
                model.gate.release()
                await asyncio.sleep(0.001)
            assert not any(map(client.is_done, many))
            assert client.engine.running + client.engine.waiting == 4
            model.gate.release(10_000)
            await client.until(lambda: all(map(client.is_done, many)))
            assert all(client.text(job) for job in many)

    asyncio.run(main())
    assert sum(rows * tokens for rows, tokens in model.read_sizes) == (320 if copies else 4 * 320)


@pytest.mark.parametrize("first", [False, True])
def test_who_finds_nobody_with_more_stops_no_other(*, first: bool) -> None:
    """The request that waits has its slot from the other one of its owner."""
    model = GatedModel()
    reading: list[int] = []  # prompts of the larger request when the other one begins

    async def main() -> None:
        async with client_of(model, slots=15) as client:
            engine = client.engine
            written = [client.job("", replace(CONFIG, max_tokens=40, min_tokens=40), owner="a") for _ in range(7)]
            long = [client.job(chr(65 + number) * 320, replace(CONFIG, max_tokens=1), owner="b") for number in range(8)]
            waits, one = (client.job("", replace(CONFIG, max_tokens=1), owner=owner) for owner in "ab")

            def note(job: Job) -> None:
                if job is one:
                    reading.append(sum(each in long and not each.prompt.is_read for each in engine._reading))

            at_each_beginning(engine, note)
            with engine._changed:
                engine.submit(written)
                engine.submit(long)
            await client.until(lambda: engine.running == 15)
            with engine._changed:
                engine.submit([waits], first=first)
                engine.submit([one])
            model.gate.release(10_000)
            await client.until(lambda: engine.is_idle)

    asyncio.run(main())
    assert reading == [7]


@pytest.mark.parametrize(("seconds", "ends"), [(3.0, "length"), (5.0, "time")])
def test_the_time_of_a_text_that_waits_again_is_the_sum_of_its_times(
    monkeypatch: pytest.MonkeyPatch, seconds: float, ends: str
) -> None:
    """It reads for 6 seconds, waits for 40, and reads on for some seconds, of 10 that it has."""
    model, now, begun = GatedModel(), [0.0], list[Job]()
    monkeypatch.setattr("textgen.generation.row.time", SimpleNamespace(monotonic=lambda: now[0]))

    async def main() -> None:
        async with client_of(model, slots=2) as client:
            config = replace(CONFIG, max_tokens=1, max_seconds=10.0)
            long = [client.job(prompt * 320, config, owner="a") for prompt in "ab"]
            one = client.job("", CONFIG, owner="b")

            def note(job: Job) -> None:
                now[0] += 40.0 if job is one else seconds if job in begun else 0.0
                begun.append(job)

            at_each_beginning(client.engine, note)
            client.engine.submit(long)
            await client.until(lambda: client.engine.running == 2)
            now[0] = 6.0
            client.engine.submit([one])
            model.gate.release(10_000)
            await client.until(lambda: all(map(client.is_done, [*long, one])))
            again = begun[-1]
            assert begun == [*long, one, again]
            assert {job: getattr(client.events[job][-1], "stop_reason", "") for job in long} == dict.fromkeys(
                long, "time"
            ) | {again: ends}

    asyncio.run(main())


@pytest.mark.parametrize("owners", [("", ""), ("a", "b")])
def test_the_request_with_most_waiting_texts_makes_room_in_a_full_queue(owners: tuple[str, str]) -> None:
    model = GatedModel()

    async def main() -> None:
        async with client_of(model, slots=2, max_queue=5) as client:
            begun, waiting = ([client.job(owner=owners[0]) for _ in range(number)] for number in (3, 4))
            one, another = client.job(owner=owners[1]), client.job(owner=owners[0])
            client.engine.submit(begun)
            await client.until(lambda: client.engine.running == 2)
            client.engine.submit(waiting)
            with pytest.raises(ApiError):  # it is no smaller than those that wait
                client.engine.submit([client.job(owner=owners[0]) for _ in range(4)])
            client.engine.submit([one])
            assert [getattr(client.error(job), "status", 0) for job in waiting] == [429] * 4
            client.engine.submit([another])
            model.gate.release(10_000)
            await client.until(lambda: all(map(client.is_done, [*begun, one, another])))
            assert all(client.text(job) for job in [*begun, one, another])

    asyncio.run(main())

"""Each setting of a server changes the part of the server that it is for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import PATIENCE, running

from textgen.generation.text_state import TextState
from textgen.server import application, endpoints, models
from textgen.server.completions import answer
from textgen.server.config import ServerConfig
from textgen.server.engine import Engine
from textgen.server.failures import ApiError
from textgen.server.planning import plan_chat, plan_completion
from textgen.server.requests import ChatRequest, CompletionRequest, parse
from textgen.server.resources import Resources
from textgen.server.serving import make_server
from textgen.server.sse import EventStream


def with_resources(work: Callable[[Resources], Awaitable[Any]], models_dir: Path | None = None, **settings: Any) -> Any:
    """What some work returns that uses the models of a folder with these settings of a server."""

    async def main() -> Any:
        resources = Resources(ServerConfig(**settings), {}, models_dir)
        try:
            return await work(resources)
        finally:
            resources.close()

    return asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


# === States ===


def test_states_are_kept_for_their_time_and_up_to_their_memory() -> None:
    megabytes = [TextState((np.zeros((1, number << 18), np.float32),), (2,)) for number in (2, 3)]
    resources = Resources(ServerConfig(state_time=50.0, state_memory=3), {})
    before = time.time()
    kept = resources.states.add("", "novel", "f", megabytes[0])
    assert before + 50.0 <= kept.expires_at <= time.time() + 50.0
    with pytest.raises(ApiError, match=f"the server keeps {3 << 20:,} in all"):
        resources.states.add("", "novel", "f", megabytes[1])  # larger by what surrounds its numbers
    resources.close()


# === Chats ===


def test_a_chat_has_the_template_of_the_server_unless_it_names_one(tiny_models: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good"}]

    def chat(server: str, **template: str) -> tuple[str, int]:
        body = json.dumps({"messages": messages, "seed": 2, "max_tokens": 30, **template}).encode()

        async def ask(resources: Resources) -> dict[str, Any]:
            return await answer(await plan_chat(*parse(body, ChatRequest), "", resources), resources)

        made = with_resources(ask, tiny_models, chat_template=server)
        return made["choices"][0]["message"]["content"], made["usage"]["prompt_tokens"]

    dialogue, text = chat("text", template="dialogue"), chat("text")
    assert chat("dialogue") == dialogue != text
    assert chat("dialogue", template="text") == text


# === Embeddings ===


@pytest.mark.parametrize(
    ("settings", "texts", "code"),
    [
        ({"max_choices": 2}, ["a"] * 64, None),
        ({"max_prompt": 9}, ["The", " cat s"], "context_length_exceeded"),
    ],
)
def test_embeddings_have_their_limits(
    tiny_models: Path, settings: dict[str, Any], texts: list[str], code: str | None
) -> None:
    def embed(texts: list[str]) -> Any:
        body = json.dumps({"input": texts}).encode()
        return with_resources(lambda resources: endpoints.embed(body, "", resources), tiny_models, **settings)

    assert len(json.loads(embed(texts).body)["data"]) == len(texts)
    with pytest.raises(ApiError, match=r"^input must have at most (64 texts|9 tokens)") as caught:
        embed([*texts, "a"])
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "input", code)


# === What may wait ===


@pytest.mark.parametrize("max_queue", [0, 1, 2])
def test_work_that_is_not_writing_waits_up_to_the_limit_of_the_queue(max_queue: int) -> None:
    """At least one piece of work is accepted."""
    gate = threading.Event()

    async def fill(resources: Resources) -> list[Any]:
        working = [
            asyncio.create_task(resources.in_worker(lambda is_wanted: gate.wait(PATIENCE)))
            for _ in range(max(1, max_queue) + 1)
        ]
        await asyncio.sleep(0)  # all have begun: the last is refused already
        gate.set()
        return await asyncio.gather(*working, return_exceptions=True)

    *done, refused = with_resources(fill, max_queue=max_queue)
    assert done == [True] * len(done)
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.code, refused.headers) == (429, "server_busy", {"Retry-After": "1"})


def test_owners_take_turns_with_work_that_is_not_writing() -> None:
    order: list[str] = []

    async def work(resources: Resources) -> None:
        def noted(owner: str) -> Callable[[object], None]:
            return lambda _: order.append(owner)

        await asyncio.gather(*(resources.in_worker(noted(owner), owner) for owner in ("a", "a", "b")))

    with_resources(work)
    assert order == ["a", "b", "a"]


@pytest.mark.parametrize(("last", "number"), [("a", 3), ("b", 2)])
def test_texts_beyond_the_slots_and_the_queue_are_refused_to_the_owner_of_most(
    tiny_models: Path, last: str, number: int
) -> None:
    begun, gate = threading.Event(), threading.Event()

    async def fill(resources: Resources) -> list[Any]:
        engine = (await resources.models.get()).engine
        assert engine
        model: Any = engine.generator.model
        step = model.step

        def held(*given: Any) -> Any:
            begun.set()
            assert gate.wait(PATIENCE)
            return step(*given)

        model.step = held
        asked = CompletionRequest(prompt="The", max_tokens=1)
        owners = ["a", "a", "a", last]
        plans = [await plan_completion(asked, {"max_tokens": 1}, owner, resources) for owner in owners]
        writing = [asyncio.create_task(answer(plan, resources)) for plan in plans]
        await until(begun.is_set)  # from now on none comes or goes in the engine
        await until(lambda: engine.running + engine.waiting + sum(task.done() for task in writing) == len(writing))
        gate.set()
        return await asyncio.gather(*writing, return_exceptions=True)

    written = with_resources(fill, tiny_models, slots=1, max_queue=2)
    refused = written.pop(number)
    assert [len(each["choices"]) for each in written] == [1, 1, 1]
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.code, refused.headers) == (429, "server_busy", {"Retry-After": "1"})


def test_the_engine_of_a_model_has_the_limits_of_the_server(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, ...]] = []

    class Recorded(Engine):
        def __init__(self, generator: Any, loop: asyncio.AbstractEventLoop, *sizes: int) -> None:
            limits.append(sizes)
            super().__init__(generator, loop, *sizes)

    monkeypatch.setattr(models, "Engine", Recorded)
    with_resources(lambda resources: resources.models.get(), tiny_models, slots=3, max_queue=5, prefix_cache_memory=7)
    assert limits == [(3, 5, 7 << 20)]


# === Connections ===


@pytest.mark.parametrize(("idle_time", "seconds"), [(77.0, 77), (0.1, 1)])
def test_a_connection_without_a_request_is_kept_for_the_idle_time(idle_time: float, seconds: int) -> None:
    server = make_server(ServerConfig(idle_time=idle_time), {})
    assert server.config.timeout_keep_alive == seconds
    server.resources.close()


def test_a_stream_waits_for_its_reader_for_the_idle_time(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    class Recorded(EventStream):
        def __init__(self, events: Any, idle_time: float) -> None:
            times.append(idle_time)
            super().__init__(events, idle_time)

    monkeypatch.setattr(application, "EventStream", Recorded)
    with running(tiny_models, ServerConfig(port=0, idle_time=33.0)) as there:
        assert there.stream("/v1/completions", {"max_tokens": 1})
        assert there.stream("/v1/chat/completions", {"messages": [{"content": "A"}], "max_tokens": 1})
    assert times == [33.0, 33.0]

"""Several models: by name, loaded when asked for, dropped when memory is short."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from disk import unreadable
from model_folders import TRAINING_VALUES
from networks import random_weights
from servers import PATIENCE
from starlette.requests import Request

from textgen.corpus.config import CorpusConfig
from textgen.dataset.bloom_filter import BloomFilter
from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import ConfigError, SavedModelError
from textgen.generation.config import SamplingConfig
from textgen.model.config import ModelConfig
from textgen.saved_model import saved_model
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_ngrams, write_training
from textgen.server import completions, endpoints, infilling, models, planning, served_model
from textgen.server.completions import answer, stream
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError, encode
from textgen.server.jobs import Job
from textgen.server.models import ModelHost, places_of
from textgen.server.planning import plan_chat, plan_completion
from textgen.server.requests import ChatRequest, CompletionRequest, Message, parse
from textgen.server.resources import Resources
from textgen.server.writing import Writing
from textgen.storage.locks import locked
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

CONFIG = ServerConfig()


@pytest.fixture
def folder(tiny_models: Path, tmp_path: Path) -> Path:
    """Three models: a, b and c."""
    for name in "abc":
        shutil.copytree(tiny_models / "tiny", tmp_path / "served" / name)
    return tmp_path / "served"


def test_all_models_of_a_folder_are_served_also_later_ones(folder: Path) -> None:
    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        assert set(host.names()) == {"a", "b", "c"}
        assert (await host.get("b")).name == "b"
        shutil.copytree(folder / "a", folder / "d")
        assert (await host.get("d")).name == "d"
        host.close()

    asyncio.run(main())


def test_the_labels_of_models_are_known_before_they_are_loaded(folder: Path) -> None:
    """From the record of the training, or else from the vocabulary; the model that was replaced has its new ones.

    A model that cannot be read has those that it was loaded with, and its own as soon as it can be read.
    """
    labelled = load_model(folder / "a").tokenizer.with_labels(["poe", "李白"])
    config = ModelConfig(labelled.vocab_size, embedding_dim=6, hidden_units=8)

    def save(name: str, tokenizer: Tokenizer, saved_at: int) -> None:
        shape = replace(config, vocab_size=tokenizer.vocab_size)
        kind, corpus = TokenizerConfig("char"), CorpusConfig(documents="line")
        save_model(folder / name, random_weights(shape), shape, kind, corpus, tokenizer)
        os.utime(folder / name / MANIFEST, (saved_at, saved_at))

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        other = ModelHost(CONFIG, {"songs": str(folder / "b"), "far": "s3://nowhere/far", "gone": "nothing"}, folder)
        assert await host.labels(["a", "b", "c"]) == [[], [], []]
        save("a", labelled, 2000)
        with unreadable(folder / "a"):
            assert await host.labels(["b", "a"]) == [[], []]
        assert await host.labels(["b", "a"]) == [[], ["poe", "李白"]]
        save("b", labelled, 2000)
        write_training(folder / "b", TRAINING_VALUES | {"labels": ["tang"]})
        (folder / "c" / MANIFEST).write_text("damaged")
        assert await host.labels(["a", "b", "c"]) == [["poe", "李白"], ["tang"], []]
        assert await other.labels(["songs", "far", "gone", "a"]) == [["tang"], [], [], []]
        assert not host.loaded
        await host.get("a")
        save("a", labelled, 3000)
        with unreadable(folder / "a"):
            assert await host.labels(["a"]) == [["poe", "李白"]]
        host.close()
        other.close()

    asyncio.run(main())


def test_before_any_training_the_base_for_the_script_of_the_prompt_is_the_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("english", "chinese"):
        shutil.copytree(folder / "a", tmp_path / "bases" / name)
    monkeypatch.setenv("TEXTGEN_BASES", str(tmp_path / "bases"))

    async def main() -> None:
        host = ModelHost(CONFIG, {}, tmp_path / "nothing")
        assert host.names() == ["english", "chinese"]
        texts = {"": "english", "It was": "english", "床前明月光": "chinese", "กาล": "english"}
        assert {text: (await host.get(None, text)).name for text in texts} == texts
        host.close()
        own = ModelHost(CONFIG, {}, folder)
        assert (await own.get(None, "床前明月光")).name in "abc"
        assert (await own.get("chinese")).name == "chinese"
        own.close()

    asyncio.run(main())


async def state_by(prompt: Any, resources: Resources) -> Any:
    request = Request({"type": "http", "headers": []})
    body = json.dumps({"prompt": prompt}).encode()
    return (await endpoints.make_state(request, body, "", resources)).body


async def vectors_by(prompt: Any, resources: Resources) -> Any:
    return (await endpoints.embed(json.dumps({"input": prompt}).encode(), "", resources)).body


async def completion_by(prompt: Any, resources: Resources) -> Any:
    plan = await plan_completion(CompletionRequest(prompt=prompt), {}, "", resources)
    return json.dumps(plan.head(chunk=False))


async def chat_by(prompt: Any, resources: Resources) -> Any:
    messages = [Message("system", " "), Message("user", prompt), Message("assistant"), Message("user", prompt[:1])]
    plan = await plan_chat(ChatRequest(messages=messages, template="dialogue"), {}, "", resources)
    return json.dumps(plan.head(chunk=False))


async def gap_by(prompt: Any, resources: Resources) -> Any:
    values: dict[str, Any] = {"prompt": prompt, "suffix": "。", "max_tokens": 1, "best_of": 1}
    return json.dumps(await infilling.infill(CompletionRequest(**values), values, "", resources))


@pytest.mark.parametrize("ask", [state_by, vectors_by, completion_by, chat_by, gap_by])
def test_what_names_no_model_gets_the_base_for_its_script(
    ask: Callable[[Any, Resources], Awaitable[Any]], both_ways: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("english", "chinese"):
        shutil.copytree(both_ways / "a", tmp_path / "bases" / name)
    monkeypatch.setenv("TEXTGEN_BASES", str(tmp_path / "bases"))
    prompts: list[Any] = ["It was", "床前明月光"]
    if ask in (vectors_by, completion_by):
        prompts = [[prompts[0], prompts[1]], [" \n", prompts[1], prompts[0]]]

    async def main() -> None:
        resources = Resources(CONFIG, {}, tmp_path / "nothing")
        answers = [json.loads(await ask(prompt, resources)) for prompt in prompts]
        assert [answer["model"] for answer in answers] == ["english", "chinese"]
        resources.close()

    asyncio.run(main())


def test_named_models_are_the_only_ones(folder: Path) -> None:
    async def main() -> None:
        host = ModelHost(CONFIG, {"first": str(folder / "c"), "second": "a"}, folder)
        assert (await host.get()).name == "first"
        assert (await host.get("second")).saved.folder == folder / "a"
        for name in ("a", "c", "b", str(folder / "c"), "../served/c", "first/", "\0"):
            with pytest.raises(ApiError, match="There are: first, second") as caught:
                await host.get(name)
            assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        host.close()

    asyncio.run(main())


def test_a_model_is_loaded_once_however_many_ask_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    read = models._read

    def counted(place: str, *rest: Any) -> object:
        loads.append(place)
        return read(place, *rest)

    monkeypatch.setattr(models, "_read", counted)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        found = await asyncio.gather(*[host.get("a") for _ in range(5)])
        assert len({id(model) for model in found}) == 1
        host.close()

    asyncio.run(main())
    assert len(loads) == 1


def test_a_load_goes_on_when_its_client_leaves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    gate, read = threading.Event(), models._read

    def held(place: str, *rest: Any) -> object:
        loads.append(place)
        assert gate.wait(60)
        return read(place, *rest)

    monkeypatch.setattr(models, "_read", held)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        leaving = asyncio.create_task(host.get("a"))
        while not loads:
            await asyncio.sleep(0.001)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.set()
        assert (await host.get("a")).name == "a"
        host.close()

    asyncio.run(main())
    assert len(loads) == 1


def test_what_is_loaded_waits_for_no_other_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, read = threading.Event(), models._read

    def held(place: str, *rest: Any) -> object:
        assert Path(place).name == "a" or gate.wait(60)
        return read(place, *rest)

    monkeypatch.setattr(models, "_read", held)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        model = await host.get("a")
        first = await host.generator(model, asked=True)
        loading = asyncio.create_task(host.get("b"))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            assert await host.generator(model, asked=True) is first
            assert (await host.generator(model, ["L0/3=5"])).fingerprint != model.fingerprint
        assert not loading.done()
        gate.set()
        assert (await loading).name == "b"
        host.close()

    asyncio.run(main())


def test_a_load_that_fails_when_its_client_has_left_is_forgotten(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "b" / "model.safetensors").write_bytes(b"nothing")

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        leaving = asyncio.create_task(host.get("b"))
        await asyncio.sleep(0)
        leaving.cancel()
        while host._loads:
            await asyncio.sleep(0.001)
        gc.collect()
        with pytest.raises(ApiError, match="cannot be loaded"):
            await host.get("b")
        host.close()

    asyncio.run(main())
    assert not caplog.records


def test_the_least_recently_used_models_are_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "GRACE", 0.0)
    monkeypatch.setattr(models, "MEGABYTE", 1)

    async def main() -> None:
        size = (await ModelHost(CONFIG, {}, folder).get("a")).bytes
        host = ModelHost(ServerConfig(model_memory=2 * size), {}, folder)
        for name in ("a", "b", "a", "c"):
            await host.get(name)
        assert [model.name for model in host.loaded] == ["a", "c"]
        host.close()

    asyncio.run(main())


def test_a_model_in_use_is_not_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "GRACE", 0.0)
    monkeypatch.setattr(models, "MEGABYTE", 1)

    async def main() -> None:
        host = ModelHost(ServerConfig(model_memory=1), {}, folder)
        with (await host.get("a")).in_use():
            await host.get("b")
            await host.get("c")
            assert [model.name for model in host.loaded] == ["a", "c"]
        await host.get("b")
        assert [model.name for model in host.loaded] == ["b"]
        host.close()

    asyncio.run(main())


async def use_by_a_text(resources: Resources) -> None:
    with (await resources.models.get("a")).in_use():
        await resources.models.get("b")


async def use_by_a_state(resources: Resources) -> None:
    read = Writing.read

    async def slow(self: Writing, job: Job, **how: Any) -> None:
        await resources.models.get("b")
        await read(self, job, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writing, "read", slow)
        model, config = await resources.models.get("a"), SamplingConfig(seed=0)
        await completions.read_state(model, model.generator(), "The cat", config, None, "", resources)


@pytest.mark.parametrize("use", [use_by_a_text, use_by_a_state])
def test_a_model_is_used_until_its_work_ends(
    use: Callable[[Resources], Awaitable[None]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when it is asked for: another model, loaded meanwhile, is less recently used."""
    monkeypatch.setattr(models, "GRACE", 0.0)
    monkeypatch.setattr(models, "MEGABYTE", 1)

    async def main() -> None:
        size = (await ModelHost(CONFIG, {}, folder).get("a")).bytes
        resources = Resources(ServerConfig(model_memory=2 * size), {}, folder)
        await use(resources)
        await resources.models.get("c")
        assert [model.name for model in resources.models.loaded] == ["a", "c"]
        resources.close()

    asyncio.run(main())


async def until_one_is_left(host: ModelHost) -> list[str]:
    """The models that are loaded once all but one have been dropped."""
    async with asyncio.timeout(30):
        while len(host.loaded) > 1:
            await asyncio.sleep(0.01)
    return [model.name for model in host.loaded]


def test_a_model_is_dropped_later_if_it_cannot_be_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Because it was in use when another one was loaded, or a moment before."""
    monkeypatch.setattr(models, "GRACE", 0.3)
    monkeypatch.setattr(models, "MEGABYTE", 1)

    async def main() -> None:
        host = ModelHost(ServerConfig(model_memory=1), {}, folder)
        with (await host.get("a")).in_use():
            await host.get("b")
            await asyncio.sleep(1)
            assert [model.name for model in host.loaded] == ["a", "b"]
        assert await until_one_is_left(host) == ["a"]
        await host.get("a")
        await host.get("c")  # which comes too soon after it
        assert await until_one_is_left(host) == ["c"]
        host.close()

    asyncio.run(main())


@pytest.fixture
def both_ways(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """Two models that read in both directions: a and b."""
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="both")
    corpus = CorpusConfig(documents="line")
    for name in "ab":
        save_model(tmp_path / name, random_weights(shape), shape, TokenizerConfig("char"), corpus, tokenizer)
    return tmp_path


def test_the_memory_of_a_model_counts_networks_of_embeddings_and_of_texts_towards_a_suffix(both_ways: Path) -> None:
    async def main() -> None:
        host = ModelHost(CONFIG, {}, both_ways)
        model = await host.get("a")
        before = model.bytes
        await host.prepare(model, "embedder")
        assert model.bytes == 2 * before
        await host.prepare(model, "infiller")
        assert model.bytes == 3 * before
        host.close()

    asyncio.run(main())


async def embed_by(resources: Resources) -> None:
    await endpoints.embed(b'{"model": "a", "input": "The cat"}', "", resources)


async def infill_by(resources: Resources) -> None:
    values: dict[str, Any] = {"model": "a", "prompt": "The", "suffix": "cat", "max_tokens": 2, "best_of": 1}
    await infilling.infill(CompletionRequest(**values), values, "", resources)


async def guard_by(resources: Resources) -> None:
    request = parse(b'{"model": "a", "prompt": "The", "max_tokens": 2, "no_copy": 9}', CompletionRequest)
    await plan_completion(*request, "", resources)


@pytest.mark.parametrize("work", [embed_by, infill_by, guard_by])
def test_room_is_made_for_further_parts_of_a_model(
    work: Callable[[Resources], Awaitable[None]], both_ways: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "GRACE", 0.0)
    monkeypatch.setattr(models, "MEGABYTE", 1)

    async def main() -> None:
        save_ngrams(both_ways / "a", NgramIndex(6, [BloomFilter.for_size(1000)]))
        size = (await ModelHost(CONFIG, {}, both_ways).get("a")).bytes
        resources = Resources(ServerConfig(model_memory=2 * size), {}, both_ways)
        await resources.models.get("b")
        await resources.models.get("a")
        assert len(resources.models.loaded) == 2
        await work(resources)
        assert [model.name for model in resources.models.loaded] == ["a"]
        resources.close()

    asyncio.run(main())


@pytest.mark.parametrize("reading", ["weights", "exact_weights"])
def test_room_is_made_for_what_is_read_when_its_client_has_left(
    reading: str, both_ways: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "GRACE", 0.0)
    monkeypatch.setattr(models, "MEGABYTE", 1)
    read, begun, gate = getattr(ModelFolder, reading), threading.Event(), threading.Event()

    def held(*given: Any) -> object:
        begun.set()
        assert gate.wait(60)
        return read(*given)

    async def main() -> None:
        size = (await ModelHost(CONFIG, {}, both_ways).get("a")).bytes
        host = ModelHost(ServerConfig(model_memory=2 * size), {}, both_ways)
        await host.get("b")
        model = await host.get("a")
        monkeypatch.setattr(ModelFolder, reading, held)
        work = host.generator(model, asked=True) if reading == "exact_weights" else host.prepare(model, "embedder")
        leaving = asyncio.create_task(work)
        assert await asyncio.to_thread(begun.wait, 60)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert not model.is_idle
        gate.set()
        assert await until_one_is_left(host) == ["a"]
        assert model.bytes > size
        host.close()

    asyncio.run(main())


def test_the_operator_is_told_why_a_network_is_not_computed_as_asked(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_model, "require_onnx", lambda: None)
    monkeypatch.setattr(saved_model, "cached_int8_network", lambda *given: (None, "much"))
    said: list[str] = []

    async def main() -> None:
        host = ModelHost(ServerConfig(runtime="onnx"), {}, tiny_models, said.append)
        await host.get()
        host.close()

    asyncio.run(main())
    assert said == ["With 8-bit weights tiny would lose too much accuracy (much): NumPy writes in float32."]


@pytest.mark.parametrize("work", [(planning, "_planned_prompts"), (completions, "_echo"), (completions, "make_row")])
def test_a_request_keeps_its_model_while_it_waits_for_other_work(
    work: tuple[object, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model is loaded while its prompt is encoded, scored, or its text is read for its state."""
    monkeypatch.setattr(models, "GRACE", 0.0)
    monkeypatch.setattr(models, "MEGABYTE", 1)
    monkeypatch.setattr(planning, "LONG_PROMPT", 0)
    values: dict[str, Any] = {
        "model": "a",
        "prompt": "The",
        "max_tokens": 9,
        "echo": True,
        "logprobs": 0,
        "return_state": True,
    }
    values["stop"] = [chr(each) for each in range(32, 96)]

    async def main() -> None:
        resources, loop = Resources(ServerConfig(model_memory=1), {}, folder), asyncio.get_running_loop()
        does = getattr(*work)

        def slow(*given: object) -> object:
            asyncio.run_coroutine_threadsafe(resources.models.get("b"), loop).result(60)
            return does(*given)

        monkeypatch.setattr(*work, slow)
        request = CompletionRequest(**values)
        plan = await plan_completion(request, values, "", resources)
        answered = json.loads(encode(await answer(plan, resources)))
        assert answered["choices"][0]["state"]["model"] == "a"
        plan = await plan_completion(request, values, "", resources)
        assert [event async for event in stream(plan, resources)][-1] == b"data: [DONE]\n\n"
        assert "a" in [model.name for model in resources.models.loaded]
        resources.close()

    asyncio.run(main())


def test_a_state_is_not_read_on_when_its_client_has_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {"prompt": "The", "logit_bias": ["e=100"], "stop": "e", "return_state": True}

    async def main() -> None:
        resources, reading, given_up = Resources(CONFIG, {}, folder), asyncio.Event(), asyncio.Event()

        async def endless(*given: Any, **more: Any) -> Any:
            reading.set()
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

        monkeypatch.setattr(completions, "_read", endless)
        plan = await plan_completion(CompletionRequest(**values), values, "", resources)

        async def read() -> None:
            async for _ in stream(plan, resources):
                pass

        client = asyncio.create_task(read())
        async with asyncio.timeout(PATIENCE):
            await reading.wait()
            assert plan.model.users
            client.cancel()
            await asyncio.wait({client})
        assert given_up.is_set()
        assert not plan.model.users
        resources.close()

    asyncio.run(main())


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runtimes for which generators are asked."""
    asked: list[str] = []
    generator = ModelFolder.generator

    def noted(self: ModelFolder, *, runtime: str, **others: Any) -> Any:
        asked.append(runtime)
        return generator(self, runtime=runtime, **others)

    monkeypatch.setattr(ModelFolder, "generator", noted)
    return asked


def test_a_model_in_training_is_not_measured_for_8_bits(folder: Path, runtimes: list[str]) -> None:
    """It is in training as long as a process holds its folder, whatever a killed one has recorded."""
    saved = load_model(str(folder / "a"))
    for status, runtime in (("running", "auto"), ("finished: epochs", "auto"), ("running", "onnx")):
        there = replace(saved, training=saved.training | {"status": status})
        for is_held in (True, False):
            with suppress(ConfigError), locked(folder / "a") if is_held else nullcontext():  # without ONNX Runtime
                models._read_version(there, ServerConfig(runtime=runtime), print)
    assert runtimes == ["numpy", "auto", "auto", "auto", "onnx", "onnx"]


def test_a_model_is_loaded_anew_when_its_training_has_ended(
    folder: Path, runtimes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end changes no file that was loaded."""
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)
    write_training(folder / "a", TRAINING_VALUES | {"status": "running"})

    async def main() -> None:
        host = ModelHost(replace(CONFIG, runtime="auto"), {}, folder)
        with locked(folder / "a"):
            first = await host.get("a")
            assert await host.get("a") is first
        second = await host.get("a")
        assert second is not first
        assert await host.get("a") is second
        host.close()

    asyncio.run(main())
    assert runtimes == ["numpy", "auto"]


def test_a_damaged_model_is_an_error_and_the_others_work(folder: Path) -> None:
    (folder / "b" / "model.safetensors").write_bytes(b"nothing")

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        with pytest.raises(ApiError, match="cannot be loaded") as caught:
            await host.get("b")
        assert caught.value.status == 503
        assert (await host.get("a")).name == "a"
        host.close()

    asyncio.run(main())


def test_a_bug_in_a_load_is_no_end_of_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise NotImplementedError("a bug")

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        model = await host.get("a")
        monkeypatch.setattr(models, "_read", fails)
        monkeypatch.setattr(served_model, "exactly", fails)
        for work in (host.get("b"), host.generator(model, asked=True)):
            with pytest.raises(ApiError, match="cannot be loaded") as caught:
                await work
            assert caught.value.status == 500
            assert isinstance(caught.value.__cause__, NotImplementedError)
        host.close()
        for again in (host.get("b"), host.generator(model, asked=True)):
            with pytest.raises(ApiError, match="The server is closing") as caught:
                await again
            assert caught.value.status == 503

    asyncio.run(main())


def test_a_folder_without_models_says_so(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="no model yet"):
        asyncio.run(ModelHost(CONFIG, {}, tmp_path).get())
    with pytest.raises(ApiError, match="no model yet"):
        asyncio.run(endpoints.show_model("a", Resources(CONFIG, {}, tmp_path)))


def test_an_error_names_some_of_many_models() -> None:
    resources = Resources(CONFIG, {f"m{number}": "a" for number in range(30)})
    with pytest.raises(ApiError, match=r"There are: m0, .*, m7 and 22 more[.]$"):
        asyncio.run(resources.models.get("x"))
    with pytest.raises(ApiError, match=r"There are: m0, .*, m7 and 22 more[.]$"):
        asyncio.run(endpoints.show_model("x", resources))


def test_arguments_may_have_another_name() -> None:
    def name_of(argument: str) -> str:
        return argument.rpartition("/")[2]

    assert places_of(["x/novel", "poems=p/q"], name_of) == {"novel": "x/novel", "poems": "p/q"}
    with pytest.raises(SavedModelError, match="Two models"):
        places_of(["novel", "x/novel"], name_of)
    for argument, lack, example in (
        ("=p/q", "gives the model an empty name", "poems=p/q"),
        (" =", "gives the model an empty name", "poems=novel"),
        ("songs=", "names no model", "songs=novel"),
    ):
        with pytest.raises(SavedModelError) as caught:
            places_of([argument], name_of)
        assert str(caught.value) == f"'{argument}' {lack}: write NAME=MODEL, as in {example}."


def trained_anew(folder: Path) -> None:
    """Writes other weights into the folder of a model, as a training does."""
    saved = load_model(str(folder))
    configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
    save_model(folder, {name: 0.9 * array for name, array in saved.weights().items()}, *configs, saved.tokenizer)


def replaced(folder: Path) -> None:
    """Puts another model in the place of a folder, which is gone in between."""
    trained_anew(shutil.copytree(folder, folder.with_name("other")))
    shutil.rmtree(folder)
    (folder.with_name("other")).rename(folder)


Ask = Callable[[str, Resources], Awaitable[Any]]


def completing(**more: Any) -> Ask:
    async def ask(name: str, resources: Resources) -> Any:
        values = {"model": name, "prompt": "The", "max_tokens": 4, "seed": 1, **more}
        plan = await plan_completion(*parse(json.dumps(values).encode(), CompletionRequest), "", resources)
        answered = json.loads(encode(await answer(plan, resources)))
        assert answered["system_fingerprint"] == plan.model.fingerprint[:16]
        return answered["choices"][0]["logprobs"]["token_logprobs"]

    return ask


async def embedding(name: str, resources: Resources) -> Any:
    response = await endpoints.embed(json.dumps({"model": name, "input": "The cat"}).encode(), "", resources)
    return json.loads(bytes(response.body))["data"][0]["embedding"]


async def clamped_state(name: str, resources: Resources) -> Any:
    request = Request({"type": "http", "headers": []})
    body = json.dumps({"model": name, "prompt": "The", "clamp": "L0/3=5"}).encode()
    made = json.loads(bytes((await endpoints.make_state(request, body, "", resources)).body))
    return resources.states.get("", made["id"]).fingerprint


ASKS: list[Ask] = [completing(logprobs=0), completing(logprobs=0, exact=True), embedding, clamped_state]
Change = Callable[[Path], None]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("change", [trained_anew, replaced])
def test_a_model_whose_folder_changes_is_loaded_anew(
    ask: Ask, change: Change, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(models, "GRACE", 60.0)

    async def main() -> None:
        resources = Resources(CONFIG, {"a": "a", "new": "b"}, folder)
        before, old = await ask("a", resources), await resources.models.get("a")
        for name in "ab":
            change(folder / name)
        assert before != await ask("a", resources) == await ask("new", resources)
        assert resources.models.loaded[0] is not old
        assert old in resources.models.in_memory, "a request may have begun with it"
        resources.close()

    asyncio.run(main())


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("places", [{}, {"a": "a", "b": "b"}])
def test_a_model_whose_folder_is_removed_is_not_there(
    ask: Ask, places: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)

    async def main() -> None:
        resources = Resources(CONFIG, places, folder)
        await ask("a", resources)
        shutil.rmtree(folder / "a")
        with pytest.raises(ApiError, match=r"^There is no model 'a'[.] There are: b") as caught:
            await ask("a", resources)
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        assert str(folder) not in caught.value.message
        assert await ask("b", resources)
        resources.close()

    asyncio.run(main())


def test_a_server_stays_ready_while_its_model_is_loaded_anew_and_when_it_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)
    loading, may_load = threading.Event(), threading.Event()
    read = models._read

    def slow(*given: Any) -> Any:
        loading.set()
        assert may_load.wait(PATIENCE)
        return read(*given)

    monkeypatch.setattr(models, "_read", slow)

    async def main() -> None:
        resources = Resources(CONFIG, {}, folder)

        async def ask_while_it_is_loaded() -> None:
            loading.clear()
            asking = asyncio.create_task(resources.models.get("a"))
            assert await asyncio.to_thread(loading.wait, PATIENCE)
            assert not resources.models.loaded
            try:
                await endpoints.ready(resources)
            finally:
                may_load.set()
                await asking

        with pytest.raises(ApiError, match="No model is loaded yet"):
            await ask_while_it_is_loaded()
        may_load.clear()
        trained_anew(folder / "a")
        await ask_while_it_is_loaded()
        shutil.rmtree(folder / "a")
        with pytest.raises(ApiError, match="There is no model 'a'"):
            await resources.models.get("a")
        assert not resources.models.loaded
        assert (await endpoints.ready(resources)).status_code == 200
        resources.is_draining = True
        with pytest.raises(ApiError, match="closing"):
            await endpoints.ready(resources)
        resources.close()

    asyncio.run(main())


@pytest.mark.parametrize(("change", "status"), [(trained_anew, 503), (replaced, 503), (shutil.rmtree, 404)])
@pytest.mark.parametrize("ask", ASKS)
def test_versions_are_not_mixed_before_the_next_look_at_the_folder(
    ask: Ask, change: Change, status: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory is served meanwhile, and what is not is not read from the new files."""
    monkeypatch.setattr(models, "CHECK_SECONDS", 60.0)

    async def main() -> None:
        resources = Resources(CONFIG, {}, folder)
        old, before = await resources.models.get("a"), await ASKS[0]("a", resources)
        change(folder / "a")
        assert await ASKS[0]("a", resources) == before
        if ask in ASKS[1:3]:
            with pytest.raises(ApiError) as caught:
                await ask("a", resources)
            assert (caught.value.status, str(folder) in caught.value.message) == (status, False)
            assert old not in resources.models.loaded
        else:
            assert await ask("a", resources)
            assert resources.models.loaded == [old]
        resources.close()

    asyncio.run(main())


def test_a_state_of_a_model_that_has_changed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)

    async def main() -> None:
        resources = Resources(CONFIG, {}, folder)
        await clamped_state("a", resources)
        (id,) = resources.states._states[""]
        assert await completing(logprobs=0, state=id, clamp="L0/3=5")("a", resources)
        trained_anew(folder / "a")
        with pytest.raises(ApiError, match="'a' has changed since the state was made") as caught:
            await completing(state=id, clamp="L0/3=5")("a", resources)
        assert caught.value.status == 400
        shutil.rmtree(folder / "a")
        with pytest.raises(ApiError, match="There is no model 'a'"):
            await completing(state=id, clamp="L0/3=5")("a", resources)
        resources.close()

    asyncio.run(main())


def test_texts_that_are_being_written_keep_their_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(models, "GRACE", 0.01)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        old = await host.get("a")
        with old.in_use():
            trained_anew(folder / "a")
            assert await host.get("a") is not old
            await asyncio.sleep(0.05)
            assert old in host.in_memory
            assert old.engine
            assert old.engine._thread.is_alive()
        while old in host.in_memory:
            await asyncio.sleep(0.005)
        assert not old.engine._thread.is_alive()
        assert [model.name for model in host.in_memory] == ["a"]
        host.close()

    asyncio.run(main())


def test_metrics_count_both_versions_of_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CHECK_SECONDS", 0.0)

    async def main() -> None:
        resources = Resources(CONFIG, {}, folder)
        with (await resources.models.get("a")).in_use():
            trained_anew(folder / "a")
            await resources.models.get("a")
            assert len(resources.models.in_memory) == 2
            assert resources.metrics.text().decode().count('vllm:num_requests_running{model_name="a"}') == 1
        resources.close()

    asyncio.run(main())


def test_the_disk_is_looked_at_once_a_second_and_in_a_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def is_current(self: ModelFolder) -> bool:
        looks.append(threading.current_thread().name)
        return True

    monkeypatch.setattr(ModelFolder, "is_current", property(is_current))
    monkeypatch.setattr(models, "CHECK_SECONDS", 60.0)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        model = await host.get("a")
        for _ in range(3):
            await host.get("a")
        assert not looks
        model.checked_at -= models.CHECK_SECONDS
        await asyncio.gather(*(host.get("a") for _ in range(3)))
        assert len(looks) == 1
        assert looks[0] != threading.main_thread().name
        host.close()

    asyncio.run(main())


def test_an_error_of_a_model_does_not_tell_where_it_is(folder: Path) -> None:
    (folder / "b" / "model.safetensors").write_bytes(b"nothing")

    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        with pytest.raises(ApiError, match=r"'b' cannot be loaded: model[.]safetensors is 7 bytes long") as caught:
            await host.get("b")
        assert str(folder) not in caught.value.message
        host.close()

    asyncio.run(main())

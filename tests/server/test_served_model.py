"""A model that is loaded: what is read of it when a request needs it, and the memory that it takes."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.dataset.bloom_filter import BloomFilter
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.word_filter import WordFilter
from textgen.generation.constraints.word_tokens import most_bytes
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_ngrams, save_words
from textgen.server.completions import answer
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError, encode
from textgen.server.models import ModelHost
from textgen.server.planning import plan_completion
from textgen.server.requests import CompletionRequest, parse
from textgen.server.resources import Resources
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

CONFIG = ServerConfig()
INDEX = NgramIndex(6, [BloomFilter.for_size(1000), BloomFilter.for_size(500)])


@pytest.fixture
def folder(tiny_models: Path, tmp_path: Path) -> Path:
    """A folder of models with one in it, `tiny`."""
    return Path(shutil.copytree(tiny_models, tmp_path / "served"))


def test_the_index_of_the_training_text_is_read_once_and_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_ngrams(folder / "tiny", INDEX)
    reads: list[Path] = []
    read = ModelFolder.ngrams

    def counted(self: ModelFolder) -> NgramIndex:
        reads.append(self.folder)
        return read(self)

    monkeypatch.setattr(ModelFolder, "ngrams", counted)
    values: dict[str, Any] = {"model": "tiny", "prompt": "The", "max_tokens": 2, "no_copy": 9}

    async def main() -> None:
        resources = Resources(CONFIG, {}, folder)
        model = await resources.models.get("tiny")
        before = model.bytes
        for more in ("clamp", ["L0/3=5"]), ("clamp", ["L0/3=4"]), ("exact", True), ("n", 1):
            request = parse(json.dumps(values | dict([more])).encode(), CompletionRequest)
            plan = await plan_completion(*request, "", resources)
            assert (await answer(plan, resources))["usage"]["completion_tokens"]
        assert reads == [folder / "tiny"]
        assert model.exact
        model.exact = None
        assert model.bytes == before + INDEX.num_bytes == before + 3000
        resources.close()

    asyncio.run(main())


def test_a_scored_prompt_tells_where_it_occurs_in_the_training_text(folder: Path, tokenizer: Tokenizer) -> None:
    """In characters; null without an index, and nothing where it was not asked for or a text is written, too."""
    text = "One day the cat sat on the mat and purred.\n"
    asked: dict[str, Any] = {"prompt": ["😀月: the cat sat on the mat!", "It rained."], "echo": True, "max_tokens": 0}

    async def answered(**more: Any) -> list[Any]:
        resources = Resources(CONFIG, {}, folder)
        plan = await plan_completion(*parse(json.dumps(asked | more).encode(), CompletionRequest), "", resources)
        choices = [json.loads(encode(each)) for each in (await answer(plan, resources))["choices"]]
        resources.close()
        return [choice.get("copied", "nothing") for choice in choices]

    async def main() -> None:
        assert await answered(novelty=True) == [None, None]
        ids = np.array(tokenizer.encode(text), np.int32)
        save_ngrams(folder / "tiny", NgramIndex.build([ids], 6, 1000, tokenizer.eos_id))
        for more in ({}, {"logprobs": 1}, {"exact": True}):
            found = await answered(novelty=True, **more)
            assert [asked["prompt"][0][start:end] for start, end in found[0]] == [" the cat sat on the mat"]
            assert found[1] == []
        assert await answered() == ["nothing"] * 2
        assert await answered(novelty=True, max_tokens=1) == ["nothing"] * 2

    asyncio.run(main())


def test_a_model_without_an_index_has_nothing_to_read_for_it(folder: Path) -> None:
    async def main() -> None:
        host = ModelHost(CONFIG, {}, folder)
        model = await host.get("tiny")
        before = model.bytes
        await host.prepare(model, "ngrams")
        assert (model.has("ngrams"), model.ngrams, model.bytes) == (True, None, before)
        host.close()

    asyncio.run(main())


def test_the_memory_of_a_model_counts_its_second_network(tiny_models: Path) -> None:
    pytest.importorskip("onnxruntime")

    async def main() -> None:
        host = ModelHost(ServerConfig(runtime="onnx"), {}, tiny_models)
        model = await host.get("tiny")
        before = model.bytes
        assert not model.has("network")
        held = await host.generator(model, ["L0/3=5"])
        assert (model.has("network"), model.bytes) == (True, 2 * before)
        assert await host.generator(model, ["L0/3=5.0"]) is held
        host.close()

    asyncio.run(main())


@pytest.mark.parametrize("direction", ["forward", "both", "backward"])
def test_the_memory_of_a_model_counts_the_words_of_its_training_text(
    direction: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Once for each network of its own that keeps to them."""
    words = WordFilter.build(["cat", "sat", "mat"])
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction=direction)
    corpus = CorpusConfig(documents="line")
    for name in ("plain", "words"):
        save_model(tmp_path / name, random_weights(shape), shape, TokenizerConfig("char"), corpus, tokenizer)
    save_words(tmp_path / "words", words)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, tmp_path)
        plain, model = await host.get("plain"), await host.get("words")
        each = len(words.to_bytes()) + most_bytes(tokenizer.vocab_size) if direction != "backward" else 0
        assert model.bytes == plain.bytes + each
        if direction == "both":
            for loaded in (plain, model):
                await host.prepare(loaded, "infiller")
            assert model.bytes == plain.bytes + 2 * each
        host.close()

    asyncio.run(main())


def test_a_model_that_reads_backward_only_is_loaded(tiny_models: Path, tmp_path: Path) -> None:
    tokenizer = load_model("tiny", tiny_models).tokenizer
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="backward")
    corpus = CorpusConfig(documents="line")
    save_model(tmp_path / "back", random_weights(shape), shape, TokenizerConfig("char"), corpus, tokenizer)

    async def main() -> None:
        host = ModelHost(CONFIG, {}, tmp_path)
        model = await host.get()
        assert model.bytes > 0
        assert not model.has("network")
        with pytest.raises(ApiError, match="backward only"):
            await host.generator(model)
        host.close()

    asyncio.run(main())

"""Requests over sockets: what clients send, and what they get."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import pkgutil
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from networks import random_weights
from servers import PATIENCE, Running, running
from starlette.applications import Starlette
from starlette.routing import Route

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import written_ids
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.generation.row import Token
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.adaptation import Adaptation, adapted_generator
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model, save_ngrams
from textgen.server import completions, infilling, writing
from textgen.server.access import Access
from textgen.server.application import Gate, make_app
from textgen.server.config import ServerConfig
from textgen.server.engine import Engine
from textgen.server.failures import ApiError
from textgen.server.jobs import Job
from textgen.server.prefix_cache import STRIDE
from textgen.server.sse import PING, EventStream
from textgen.server.states import StateStore
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

PROMPT = "The cat"
LIMITS = ServerConfig(
    port=0, slots=8, max_queue=8, max_body=20_000, max_choices=10, max_length=1000, max_prompt=3000, idle_time=20.0
)


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models, LIMITS) as there:
        yield there


# === Completions ===


def test_a_completion_is_the_text_of_the_command_line(server: Running, tiny_models: Path) -> None:
    generator = load_model("tiny", tiny_models).generator()
    (expected,) = generator.generate(PROMPT, SamplingConfig(seed=4, max_tokens=40))
    answer = server.complete(prompt=PROMPT, seed=4, max_tokens=40)
    (choice,) = answer["choices"]
    assert hashlib.sha256(choice["text"].encode()).digest() == hashlib.sha256(expected.text.encode()).digest()
    assert (answer["object"], answer["model"], answer["seed"]) == ("text_completion", "tiny", 4)
    assert answer["usage"]["completion_tokens"] == len(expected.ids)
    assert answer["usage"]["prompt_tokens"] == len(PROMPT)


def held_generator(models: Path, *clamps: str) -> Generator:
    """What `textgen sample tiny --clamp` writes with."""
    return adapted_generator(load_model("tiny", models), Adaptation(clamps=clamps))


def test_cells_are_held_as_by_the_command_line(server: Running, tiny_models: Path) -> None:
    prompt = PROMPT * 10  # long enough for the cache of prompts
    asked: dict[str, Any] = {"prompt": prompt, "seed": 4, "max_tokens": 40}
    free = server.complete(**asked)["choices"][0]["text"]
    (expected,) = held_generator(tiny_models, "L0/3=5", "L0/2.o=1").generate(
        prompt, SamplingConfig(seed=4, max_tokens=40)
    )
    for clamp in (["L0/3=5", "L0/2.o=1"], ["L0/2.o=1.0", "L0/3.c=5"]):
        assert server.complete(**asked, clamp=clamp)["choices"][0]["text"] == expected.text != free
    assert server.complete(**asked)["choices"][0]["text"] == free
    events = server.stream("/v1/completions", {**asked, "clamp": ["L0/3=5", "L0/2.o=1"]})
    assert "".join(event["choices"][0]["text"] for event in events) == expected.text
    chat = {"messages": [{"role": "user", "content": prompt}], "seed": 4, "max_tokens": 40}
    answer = server.post("/v1/chat/completions", {**chat, "clamp": ["L0/3=5", "L0/2.o=1"]})
    assert answer["choices"][0]["message"]["content"] == expected.text
    one = server.complete(**asked, clamp="L0/3=5")["choices"][0]["text"]
    assert one == server.complete(**asked, clamp=["L0/3=5"])["choices"][0]["text"] != expected.text


def test_a_prompt_is_scored_with_cells_held(server: Running) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 0}
    scores = [server.complete(**asked, clamp=clamp)["choices"][0]["logprobs"] for clamp in (None, [], ["L0/3=5"])]
    assert scores[0] == scores[1] != scores[2]


def test_a_state_belongs_to_the_cells_held_while_it_was_read(
    server: Running, tiny_models: Path, tmp_path: Path
) -> None:
    kept = server.post("/v1/states", {"prompt": "The cat sat on the mat.", "clamp": ["L0/3=5"]})
    asked = {"state": kept["id"], "seed": 4, "max_tokens": 20}
    status, error = server.error("/v1/completions", asked)
    assert (status, error["param"]) == (400, "clamp")
    assert error["message"] == "The state was read with L0/3.c=5.0 clamped: give the same clamp."
    plain = server.post("/v1/states", {"prompt": "The cat sat on the mat."})["id"]
    status, error = server.error("/v1/completions", {"state": plain, "clamp": ["L0/3=5"]})
    assert (status, error["param"]) == (400, "clamp")
    assert error["message"] == "The state was read with no cell clamped: leave clamp out."
    assert server.error("/v1/states", {"state": kept["id"], "prompt": "A"})[1]["param"] == "clamp"
    text = server.complete(**asked, clamp=["L0/3.c=5"])["choices"][0]["text"]
    path = tmp_path / "a.state"
    path.write_bytes(server.request("GET", f"/v1/states/{kept['id']}")[2])
    generator = held_generator(tiny_models, "L0/3=5")
    config = SamplingConfig(seed=4, max_tokens=20)
    tokens = generator.tokens("", config, generator.load_state(path))
    assert "".join(token.text for token in tokens) == text
    binary = {"Content-Type": "application/octet-stream"}
    assert server.request("POST", "/v1/states?clamp=L0/3=5", path.read_bytes(), binary)[0] == 200
    assert server.request("POST", "/v1/states", path.read_bytes(), binary)[0] == 400


@pytest.mark.parametrize("clamp", [["L0/999=1"], ["L9/0=1"], ["x"], "L0/1.f=2", ["L0/1=nan"], [1], {}, ["L0/1=1"] * 65])
def test_a_cell_that_cannot_be_held_is_a_wrong_request(server: Running, clamp: Any) -> None:
    for path in ("completions", "chat/completions", "states"):
        status, error = server.error(f"/v1/{path}", {"messages": [{"content": "A"}], "clamp": clamp})
        assert (status, error["param"]) == (400, "clamp")


# === Exact arithmetic ===


def digest(text: str) -> str:
    """What tells texts apart."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_exact_text_has_one_hash_alone_in_a_crowd_and_from_the_command_line(tiny_models: Path) -> None:
    flags = ("--prompt", PROMPT, "--seed", "4", "--max-tokens", "20", "--exact", "--json", "--models-dir")
    printed = CliRunner().invoke(textgen, ("sample", "tiny", *flags, str(tiny_models)), prog_name="textgen").stdout
    hashes = [digest(json.loads(printed)["text"])]
    with running(tiny_models, ServerConfig(port=0, slots=64)) as there:
        for others in (0, 1, 7, 63):
            long = {"prompt": "A", "n": others, "max_tokens": 4000, "min_tokens": 4000, "exact": True, "stream": True}
            with there.reading("/v1/completions", long) if others else nullcontext():
                there.wait(lambda others=others: there.engine.running >= others)  # type: ignore[misc]
                answer = there.complete(prompt=PROMPT, seed=4, max_tokens=20, exact=True)
                assert there.engine.running >= others
            there.wait(lambda: there.engine.is_idle)
            hashes.append(digest(answer["choices"][0]["text"]))
    assert len(set(hashes)) == 1


def test_what_is_exact_is_so_in_every_answer(server: Running, tiny_models: Path) -> None:
    prompt = PROMPT * 10  # long enough for the cache of prompts
    config = SamplingConfig(seed=4, max_tokens=30, top_logprobs=2)
    (expected,) = load_model("tiny", tiny_models).generator(exact=True).generate(prompt, config)
    asked: dict[str, Any] = {"prompt": prompt, "seed": 4, "max_tokens": 30}
    for _ in range(2):
        (choice,) = server.complete(**asked, exact=True, logprobs=2)["choices"]
        assert choice["text"] == expected.text
        assert tuple(choice["logprobs"]["token_logprobs"]) == expected.logprobs
    events = server.stream("/v1/completions", {**asked, "exact": True})
    assert "".join(event["choices"][0]["text"] for event in events) == expected.text
    chat = {"messages": [{"role": "user", "content": prompt}], "seed": 4, "max_tokens": 30, "exact": True}
    assert server.post("/v1/chat/completions", chat)["choices"][0]["message"]["content"] == expected.text
    scored = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 0}
    found, other = (server.complete(**scored, exact=exact)["choices"][0]["logprobs"] for exact in (True, False))
    assert found["token_logprobs"] != other["token_logprobs"]
    assert found["token_logprobs"][1:] == pytest.approx(other["token_logprobs"][1:], abs=0.05)


def test_a_state_is_exact_or_not(server: Running, tiny_models: Path, tmp_path: Path) -> None:
    kept = server.post("/v1/states", {"prompt": "The cat sat", "exact": True})
    asked: dict[str, Any] = {"state": kept["id"], "seed": 3, "max_tokens": 9, "prompt": " on"}
    status, error = server.error("/v1/completions", asked)
    assert (status, error["param"]) == (400, "exact")
    ordinary = server.post("/v1/states", {"prompt": "The cat sat"})["id"]
    assert server.error("/v1/completions", asked | {"state": ordinary, "exact": True})[1]["param"] == "exact"
    path = tmp_path / "a.state"
    path.write_bytes(server.request("GET", f"/v1/states/{kept['id']}")[2])
    generator = load_model("tiny", tiny_models).generator(exact=True)
    tokens = generator.tokens(" on", SamplingConfig(seed=3, max_tokens=9), generator.load_state(path))
    assert server.complete(**asked, exact=True)["choices"][0]["text"] == "".join(token.text for token in tokens)
    binary = {"Content-Type": "application/octet-stream"}
    statuses = {
        query: server.request("POST", f"/v1/states?{query}", path.read_bytes(), binary)[0]
        for query in ("exact=true", "exact=false", "exact=1", "")
    }
    assert statuses == {"exact=true": 200, "exact=false": 400, "exact=1": 400, "": 400}


def test_a_server_computes_exactly_by_default_where_it_is_told_to(tiny_models: Path) -> None:
    (expected,) = (
        load_model("tiny", tiny_models)
        .generator(exact=True)
        .generate(PROMPT, SamplingConfig(seed=4, max_tokens=40, top_logprobs=0))
    )
    asked: dict[str, Any] = {"prompt": PROMPT, "seed": 4, "max_tokens": 40, "logprobs": 0}
    with running(tiny_models, ServerConfig(port=0, exact=True)) as there:
        found = [there.complete(**asked, **more)["choices"][0] for more in ({}, {"exact": True}, {"exact": False})]
        held = {**asked, "clamp": ["L0/3=5"]}
        assert there.error("/v1/completions", held)[1]["param"] == "clamp"
        assert there.complete(**held, exact=False)["choices"][0]["text"]
    (exact, asked_for, ordinary) = (tuple(choice["logprobs"]["token_logprobs"]) for choice in found)
    assert exact == asked_for == expected.logprobs != ordinary


def test_nothing_but_braces_is_a_request(server: Running) -> None:
    answer = server.complete()
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert isinstance(answer["seed"], int)
    again = server.complete(seed=4, prompt=None, max_tokens=None, stop=None, n=None, unknown={"a": 1})
    assert again["choices"][0]["text"]


def test_several_prompts_and_choices_come_prompt_by_prompt_with_later_seeds(server: Running) -> None:
    answer = server.complete(prompt=["The", "A"], n=2, seed=7, max_tokens=8)
    alone = [
        server.complete(prompt=prompt, seed=seed, max_tokens=8)["choices"][0]["text"]
        for prompt, seed in (("The", 7), ("The", 8), ("A", 9), ("A", 10))
    ]
    assert [choice["text"] for choice in answer["choices"]] == alone
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["seed"] for choice in answer["choices"]] == [7, 8, 9, 10]


def test_ids_are_a_prompt_too(server: Running, tiny_models: Path) -> None:
    ids = load_model("tiny", tiny_models).tokenizer.encode(PROMPT)
    texts = [
        server.complete(prompt=prompt, seed=1, max_tokens=9, heal=False)["choices"][0]["text"]
        for prompt in (PROMPT, ids, [ids], [2, *ids])
    ]
    assert len(set(texts)) == 1


def test_a_text_may_stop(server: Running) -> None:
    whole = server.complete(prompt=PROMPT, seed=4, max_tokens=40)["choices"][0]["text"]
    stop = whole[10:12]
    for value in (stop, [stop, "never"]):
        (choice,) = server.complete(prompt=PROMPT, seed=4, max_tokens=40, stop=value)["choices"]
        assert (choice["text"], choice["finish_reason"]) == (whole[: whole.index(stop)], "stop")


def test_the_best_of_several(server: Running) -> None:
    drawn = server.complete(prompt=PROMPT, seed=3, n=5, max_tokens=9, logprobs=0)["choices"]
    means = [sum(choice["logprobs"]["token_logprobs"]) / len(choice["logprobs"]["tokens"]) for choice in drawn]
    best = server.complete(prompt=PROMPT, seed=3, best_of=5, max_tokens=9)["choices"]
    assert [choice["text"] for choice in best] == [drawn[int(np.argmax(means))]["text"]]


def test_log_probabilities_name_each_token_once(server: Running) -> None:
    (choice,) = server.complete(prompt=PROMPT, seed=4, max_tokens=30, logprobs=5, heal=False)["choices"]
    logprobs = choice["logprobs"]
    offsets = logprobs["text_offset"]
    assert offsets[0] == len(PROMPT)
    for token, nats, top, offset in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], offsets, strict=True
    ):
        assert top[token] == nats
        assert 5 <= len(top) <= 6
        if not token.startswith(("bytes:", "<")):
            assert choice["text"][offset - len(PROMPT) :].startswith(token)


def test_the_prompt_is_scored_as_by_the_command_line(server: Running, tiny_models: Path) -> None:
    saved = load_model("tiny", tiny_models)
    text = "The dog saw 床前 the cat."
    (expected,) = saved.scorer().scores([text], ends=False)
    ids = [saved.tokenizer.eos_id, *saved.tokenizer.encode(text)]
    answer = server.complete(prompt=[ids], max_tokens=1, logprobs=1, echo=True, temperature=0)
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["token_ids"][: len(ids)] == ids
    assert logprobs["token_logprobs"][0] is None
    scores = logprobs["token_logprobs"][1 : len(ids)]
    assert sum(scores) == pytest.approx(-float(expected.surprisal.sum()) * math.log(2), abs=1e-4)
    for token, score, top in list(
        zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    )[1:]:
        assert top[token] == score


@pytest.fixture(scope="module")
def by_onnx(tiny_models: Path) -> Iterator[Running]:
    """A server that writes in 8 bits."""
    pytest.importorskip("onnxruntime")
    with running(tiny_models, ServerConfig(port=0, runtime="onnx")) as there:
        yield there


def test_prompts_are_scored_in_float32_where_texts_are_written_in_8_bits(by_onnx: Running, tiny_models: Path) -> None:
    assert not isinstance(by_onnx.engine.generator.model, NumpyModel)
    test_the_prompt_is_scored_as_by_the_command_line(by_onnx, tiny_models)


def test_cells_are_held_where_texts_are_written_in_8_bits(by_onnx: Running, tiny_models: Path) -> None:
    flags = ("--prompt", PROMPT, "--seed", "4", "--max-tokens", "20", "--clamp", "L0/3=5", "--json", "--models-dir")
    printed = CliRunner().invoke(textgen, ("sample", "tiny", *flags, str(tiny_models)), prog_name="textgen").stdout
    for _ in range(2):
        (choice,) = by_onnx.complete(prompt=PROMPT, seed=4, max_tokens=20, clamp="L0/3=5")["choices"]
        assert choice["text"] == json.loads(printed)["text"]
    assert by_onnx.error("/v1/completions", {"clamp": "L9/0=1"})[1]["param"] == "clamp"


def test_a_prompt_that_is_echoed_is_bounded_with_its_alternatives(tiny_models: Path) -> None:
    with running(tiny_models) as there:
        asked: dict[str, Any] = {"prompt": [5] * 32_768, "echo": True, "max_tokens": 0}
        for more in ({"logprobs": 20, "n": 64}, {"n": 64}, {"logprobs": 20}):
            status, error = there.error("/v1/completions", asked | more)
            assert (status, error["param"]) == (400, "prompt")
            assert "echoed" in error["message"]


def test_all_texts_of_a_prompt_repeat_its_log_probabilities(server: Running) -> None:
    """Also after the first bytes of a character, which the texts complete or not."""
    tokens = [*server.post("/tokenize", {"prompt": "The cat"})["tokens"], 3 + 0xE5, 3 + 0xBA]
    asked: dict[str, Any] = {"prompt": tokens, "echo": True, "logprobs": 1, "max_tokens": 5, "seed": 3}
    several = server.complete(**asked, n=3)["choices"]
    alone = [server.complete(**asked | {"seed": 3 + number})["choices"][0] for number in range(3)]
    assert [choice["logprobs"] for choice in several] == [choice["logprobs"] for choice in alone]
    assert [choice["logprobs"]["text_offset"][: len(tokens)] for choice in several] == [[0, 1, 2, 3, 4, 5, 6, 7, 7]] * 3


@pytest.fixture(scope="module")
def of_bytes_and_words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the models bytes and words."""
    folder = tmp_path_factory.mktemp("models")
    words = train_tokenizer(["one day the fox ran\n"] * 20, TokenizerConfig("word"))
    for name, tokenizer in (("bytes", ByteTokenizer()), ("words", words)):
        shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
        kind, corpus = TokenizerConfig(tokenizer.kind), CorpusConfig(documents="line")
        save_model(folder / name, random_weights(shape), shape, kind, corpus, tokenizer)
    ids = np.array(words.encode("one day the fox ran"), np.int32)
    save_ngrams(folder / "words", NgramIndex.build([ids], 3, 100, words.eos_id))
    with running(folder, ServerConfig(port=0)) as there:
        yield there


def texts_and_offsets(server: Running, **asked: Any) -> tuple[str, list[int]]:
    """The text of an answer and the offsets of its tokens, which are the same in a stream."""
    (choice,) = server.complete(logprobs=0, temperature=0, **asked)["choices"]
    events = server.stream("/v1/completions", {"logprobs": 0, "temperature": 0, **asked})
    chunks = [event["choices"][0] for event in events]
    offsets = [offset for chunk in chunks if chunk["logprobs"] for offset in chunk["logprobs"]["text_offset"]]
    assert ("".join(chunk["text"] for chunk in chunks), offsets) == (
        choice["text"], choice["logprobs"]["text_offset"],
    )  # fmt: skip
    return choice["text"], offsets


BEGIN, AGAIN, _, MARK = ByteTokenizer().encode("庺!")  # the bytes E5 BA BA 21
COMPLETING = {"logit_bias": {str(AGAIN): 100, str(MARK): 50}}  # BA where a character has begun, else "!"


def test_offsets_continue_inside_a_character(of_bytes_and_words: Running) -> None:
    """After a state, after ids, and after both."""
    ask = partial(texts_and_offsets, of_bytes_and_words, model="bytes", max_tokens=4)
    asked = {"model": "bytes", "prompt": "a", "max_tokens": 1, "logit_bias": {str(BEGIN): 100}, "return_state": True}
    state = of_bytes_and_words.complete(**asked)["choices"][0]["state"]["id"]
    assert ask(state=state, prompt="", **COMPLETING) == ("庺!!", [0, 0, 1, 2])
    assert ask(prompt=[BEGIN], **COMPLETING) == ("庺!!", [0, 0, 1, 2])
    assert ask(state=state, prompt=[AGAIN], **COMPLETING) == ("庺!!!", [0, 1, 2, 3])
    assert ask(state=state, prompt="a", echo=True, **COMPLETING) == ("a!!!!", [0, 1, 2, 3, 4])


def test_an_echo_has_a_character_once_that_the_text_completes(of_bytes_and_words: Running) -> None:
    ask = partial(texts_and_offsets, of_bytes_and_words, model="bytes", echo=True)
    assert ask(prompt=[BEGIN], max_tokens=4, **COMPLETING) == ("庺!!", [0, 0, 0, 1, 2])
    assert ask(prompt=[BEGIN], max_tokens=0) == ("\ufffd", [0])
    end = ByteTokenizer().eos_id
    assert ask(prompt=[BEGIN, end], max_tokens=1, **COMPLETING) == ("\ufffd!", [0, 0, 1]), "the character has ended"
    state = of_bytes_and_words.post("/v1/states", {"model": "bytes", "prompt": [BEGIN]})["id"]
    assert ask(state=state, prompt=[AGAIN], max_tokens=3, **COMPLETING) == ("庺!!", [0, 0, 1, 2])
    assert ask(state=state, prompt=[AGAIN, AGAIN], max_tokens=0) == ("庺", [0, 0])
    assert ask(state=state, prompt="a", max_tokens=0) == ("a", [0])


def test_offsets_of_words_are_places_in_the_text(of_bytes_and_words: Running) -> None:
    ask = partial(texts_and_offsets, of_bytes_and_words, model="words", echo=True)
    fox = of_bytes_and_words.post("/tokenize", {"model": "words", "prompt": "fox"})["tokens"][0]
    more = {"logit_bias": {str(fox): 100}}
    prompt = "one  day the unheard-of\n\tfox"
    places = [0, 3, 8, 12, 23, 24]
    assert ask(prompt=prompt, max_tokens=0) == (prompt, places)
    assert ask(prompt=prompt, max_tokens=2, **more) == (prompt + " fox fox", [*places, 28, 32])
    state = of_bytes_and_words.post("/v1/states", {"model": "words", "prompt": "one day"})["id"]
    assert ask(state=state, prompt="", max_tokens=2, **more) == (" fox fox", [0, 4])
    assert ask(state=state, prompt="the", max_tokens=2, **more) == ("the fox fox", [0, 3, 7])
    assert ask(state=state, prompt=[fox], max_tokens=2, **more) == (" fox fox fox", [0, 4, 8])


def test_what_is_copied_of_words_is_named_by_its_place_in_the_text(of_bytes_and_words: Running) -> None:
    asked: dict[str, Any] = {"model": "words", "novelty": True, "echo": True, "max_tokens": 0}
    prompt = "unheard-of   words:  one   day the\nfox"
    ((start, end),) = of_bytes_and_words.complete(prompt=prompt, **asked)["choices"][0]["copied"]
    assert prompt[start:end] == "  one   day the"


def save_labelled(tiny_models: Path, folder: Path) -> Tokenizer:
    """Saves a model of documents with the labels A and B, and returns its tokenizer."""
    tokenizer = load_model("tiny", tiny_models).tokenizer.with_labels(["A", "B"])
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    weights = random_weights(shape, seed=1)
    corpus = CorpusConfig(documents="line")
    save_model(folder / "labelled", weights, shape, TokenizerConfig("char"), corpus, tokenizer)
    return tokenizer


@pytest.mark.parametrize("stream", [False, True])
def test_a_returned_state_of_a_prompt_of_ids_is_that_of_the_ids(
    stream: bool, tiny_models: Path, tmp_path: Path
) -> None:
    """With their label, also if they end inside a character."""
    tokenizer = save_labelled(tiny_models, tmp_path)
    opening, first_byte = tokenizer.opening("B"), tokenizer.first_byte or 0
    prompt, half = [*opening, *tokenizer.encode("The cat")], [*opening, *(first_byte + byte for byte in b"\xe6\x9c")]
    after = {"prompt": "a", "seed": 1, "max_tokens": 1, "logprobs": 5}
    with running(tmp_path, ServerConfig(port=0)) as there:

        def next_after(state: Any) -> Any:
            return there.complete(state=state["id"], **after)["choices"][0]["logprobs"]

        def last(**fields: Any) -> Any:
            if stream:
                return there.stream("/v1/completions", fields)[-1]["choices"][0]
            return there.complete(**fields)["choices"][0]

        for ids in (prompt, half):
            read = there.post("/v1/states", {"prompt": ids})
            assert next_after(last(prompt=ids, return_state=True, max_tokens=0)["state"]) == next_after(read)
        text = there.complete(prompt=prompt, seed=2, max_tokens=20)["choices"][0]["text"]
        cut = last(prompt=prompt, return_state=True, seed=2, max_tokens=20, stop=text[5:7])
        read = there.post("/v1/states", {"prompt": "The cat" + text[: text.index(text[5:7])], "label": "B"})
        assert next_after(cut["state"]) == next_after(read)
        begun = there.post("/v1/states", {"prompt": half})["id"]
        text = there.complete(prompt=half, seed=2, max_tokens=20)["choices"][0]["text"]
        stop, completing = text[5:7], first_byte + text[0].encode()[-1]
        whole = [*half, completing, *tokenizer.encode(text[1 : text.index(stop)])]
        read = there.post("/v1/states", {"prompt": whole})
        for beginning in ({"prompt": half}, {"state": begun}):
            cut = last(**beginning, return_state=True, seed=2, max_tokens=20, stop=stop)
            assert next_after(cut["state"]) == next_after(read)


def test_prompts_of_ids_with_other_labels_share_nothing(tiny_models: Path, tmp_path: Path) -> None:
    tokenizer = save_labelled(tiny_models, tmp_path)
    prompts = [[*tokenizer.opening(label), *tokenizer.encode("The cat." * 5)] for label in ("A", "B", None)]
    found = []
    for memory in (64, 0):
        with running(tmp_path, ServerConfig(port=0, prefix_cache_memory=memory)) as there:
            asked: dict[str, Any] = {"seed": 1, "max_tokens": 5, "logprobs": 0}
            answers = [there.complete(prompt=prompt, **asked)["choices"][0]["logprobs"] for prompt in prompts]
            answers += [there.complete(prompt=prompts[0][2:], label="B", **asked)["choices"][0]["logprobs"]]
            answers += [
                there.complete(
                    state=there.post("/v1/states", {"prompt": prompt})["id"], prompt="a", **asked
                )["choices"][0]["logprobs"]
                for prompt in prompts
            ]  # fmt: skip
            found.append([answer["token_logprobs"] for answer in answers])
    assert found[0] == found[1]
    assert found[0][1] == found[0][3]
    assert len({tuple(scores) for scores in found[0]}) == 6


def test_an_echo_repeats_the_prompt(server: Running) -> None:
    (choice,) = server.complete(prompt=PROMPT, max_tokens=3, echo=True, seed=1)["choices"]
    assert choice["text"].startswith(PROMPT)
    (choice,) = server.complete(prompt=PROMPT, max_tokens=0, echo=True, logprobs=2)["choices"]
    assert choice["text"] == PROMPT
    assert choice["logprobs"]["text_offset"] == list(range(len(PROMPT)))


@pytest.mark.parametrize("more", [{}, {"n": 2, "best_of": 4}, {"logprobs": 2}, {"echo": True}])
def test_a_text_whose_time_is_over_before_its_prompt_is_read_is_empty(server: Running, more: dict[str, Any]) -> None:
    prompt = f"{more} " + PROMPT * 200
    asked = {"prompt": prompt, "max_seconds": 0, "seed": 1} | more
    answer = server.complete(**asked)
    assert answer["usage"]["completion_tokens"] == 0
    for choice in answer["choices"]:
        assert (choice["text"], choice["finish_reason"]) == (prompt if "echo" in more else "", "length")
    if "best_of" not in more:
        events = server.stream("/v1/completions", asked | {"prompt": "again " + prompt})
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert server.complete(prompt=prompt, max_tokens=2, seed=1)["usage"]["completion_tokens"] == 2


def test_a_text_without_tokens_is_not_the_best() -> None:
    generator = Generator(NumpyModel(shape := ModelConfig(259), random_weights(shape)), ByteTokenizer())
    job = Job(generator.row(""), generator, lambda *_: None)
    likely, empty = (writing.Choice(0, 0, job, tokens) for tokens in ([Token(3, "a", logprob=-1.0)], []))
    assert max(likely, empty, key=lambda choice: choice.mean_logprob) is likely


# === Towards a suffix ===


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[Running]:
    """A server of a model that reads in both directions."""
    folder = tmp_path_factory.mktemp("models")
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="both")
    corpus = CorpusConfig(documents="line")
    save_model(folder / "both", random_weights(shape), shape, TokenizerConfig("char"), corpus, tokenizer)
    with running(folder, ServerConfig(port=0, max_time=600.0)) as there:
        yield there


def test_a_text_towards_a_suffix_has_its_time(both_ways: Running) -> None:
    asked: dict[str, Any] = {"prompt": "The", "suffix": " mat.", "max_tokens": 2000, "min_tokens": 2000}
    answer = both_ways.complete(**asked, max_seconds=0.05, seed=1)
    assert 0 < answer["usage"]["completion_tokens"] < 2000


def received_until(end: bytes, connection: socket.socket) -> bytes:
    """What a connection receives until some bytes have come."""
    received = b""
    while end not in received:
        more = connection.recv(1 << 16)
        assert more, received
        received += more
    return received


@pytest.mark.parametrize(("fails", "last"), [(False, b"data: [DONE]"), (True, b'data: {"error":{"message":"no such')])
def test_a_stream_towards_a_suffix_is_kept_open_while_it_waits(
    both_ways: Running, fails: bool, last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    infill, gate = Infiller.infill, threading.Event()

    def held(*given: Any, **more: Any) -> Any:
        assert gate.wait(PATIENCE)
        if fails:
            raise ConfigError("no such gap")
        return infill(*given, **more)

    monkeypatch.setattr(Infiller, "infill", held)
    monkeypatch.setattr("textgen.server.application.EventStream", partial(EventStream, ping_seconds=0.01))
    asked = {"prompt": "The", "suffix": " mat.", "max_tokens": 2, "stream": True}
    with both_ways.open("/v1/completions", asked) as connection:
        received = received_until(PING, connection)
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert b"data:" not in received
        gate.set()
        assert last in received_until(last, connection)


def test_a_stream_towards_a_suffix_that_cannot_begin_is_an_error(both_ways: Running) -> None:
    status, error = both_ways.error("/v1/completions", {"suffix": " mat.", "echo": True, "stream": True})
    assert (status, error["param"]) == (400, "echo")


def test_the_tokens_before_and_after_a_gap_are_counted_in_a_thread_where_they_may_be_many(
    both_ways: Running, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, suffix = "🙂🙂", " mat."  # characters of several tokens
    tokens = len(tokenizer.encode(prompt)) + len(tokenizer.encode(suffix))
    assert tokens > len(prompt + suffix)
    encode, threads = Tokenizer.encode, set[str]()

    def noted(self: Tokenizer, text: str) -> list[int]:
        if text in (prompt, suffix):
            threads.add(threading.current_thread().name.partition("_")[0])
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", noted)
    monkeypatch.setattr("textgen.server.planning.LONG_PROMPT", len(prompt + suffix) - 1)
    asked: dict[str, Any] = {"prompt": prompt, "suffix": suffix, "max_tokens": 1, "best_of": 1}
    with monkeypatch.context() as patch:
        patch.setattr(both_ways.resources, "config", replace(both_ways.resources.config, max_prompt=tokens))
        assert both_ways.complete(**asked)["usage"]["prompt_tokens"] == tokens
        assert threads == {"asyncio", "textgen-worker"}
        patch.setattr(both_ways.resources, "config", replace(both_ways.resources.config, max_prompt=tokens - 1))
        error = both_ways.error("/v1/completions", asked)[1]
        assert error["code"] == "context_length_exceeded"
        assert f"{tokens} tokens" in error["message"]


@pytest.mark.parametrize(
    ("path", "asked", "by"),
    [
        ("/tokenize", {"prompt": PROMPT}, "encode"),
        ("/detokenize", {"tokens": [5] * len(PROMPT)}, "decode"),
        ("/v1/embeddings", {"input": [PROMPT]}, "encode_batch"),
        ("/v1/embeddings", {"input": [[5]] * len(PROMPT)}, "decode"),
    ],
)
def test_others_do_not_wait_while_a_long_text_is_encoded_or_decoded(
    server: Running,
    tokenizer: Tokenizer,
    path: str,
    asked: dict[str, Any],
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, threads = type(tokenizer), list[str]()
    works = getattr(kind, by)

    def noted(self: Tokenizer, *given: Any) -> Any:
        threads.append(threading.current_thread().name.partition("_")[0])
        return works(self, *given)

    monkeypatch.setattr(kind, by, noted)
    expected = server.post(path, asked)
    assert threads.pop(0) != "asyncio"
    threads.clear()
    monkeypatch.setattr("textgen.server.planning.LONG_PROMPT", len(PROMPT) - 1)
    assert server.post(path, asked) == expected
    assert threads[0] == "asyncio"


@pytest.mark.parametrize(
    ("path", "asked", "part"),
    [
        ("/v1/completions", {"prompt": PROMPT, "logprobs": 2}, "answers.legacy_logprobs"),
        ("/v1/chat/completions", {"messages": [{"content": "A"}], "logprobs": True}, "answers.finite"),
        ("/v1/completions", {"prompt": PROMPT, "logprobs": 2}, "completions.whole"),
        ("/v1/embeddings", {"input": [PROMPT, "A"]}, "endpoints._numbers"),
    ],
)
def test_others_do_not_wait_while_a_large_answer_is_put_together(
    server: Running, path: str, asked: dict[str, Any], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"textgen.server.{part}"
    works, threads = pkgutil.resolve_name(place), set[str]()

    def noted(*given: Any, **more: Any) -> Any:
        threads.add(threading.current_thread().name.partition("_")[0])
        return works(*given, **more)

    monkeypatch.setattr(place, noted)
    assert "error" not in server.post(path, asked)
    assert threads == {"asyncio"}


def test_the_alternatives_in_a_chat_have_their_texts_and_bytes(server: Running, tokenizer: Tokenizer) -> None:
    asked = {"messages": [{"content": PROMPT}], "logprobs": True, "top_logprobs": 3, "max_tokens": 4, "min_tokens": 4}
    (choice,) = server.post("/v1/chat/completions", asked)["choices"]
    assert len(choice["logprobs"]["content"]) == 4
    for each in choice["logprobs"]["content"]:
        assert len(each["top_logprobs"]) == 3
        for token in (each, *each["top_logprobs"]):
            assert bytes(token["bytes"]) in tokenizer.piece_bytes
            assert token["logprob"] <= 0


def test_a_stream_knows_its_connection(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    send = EventStream._send

    async def noted(self: EventStream, *given: Any) -> None:
        seen.append(self._transport)
        await send(self, *given)

    monkeypatch.setattr(EventStream, "_send", noted)
    server.stream("/v1/completions", {"prompt": PROMPT, "max_tokens": 2, "stream": True})
    assert {transport.get_extra_info("socket") is not None for transport in seen} == {True}


def test_texts_to_embed_are_counted_before_their_ids_are_decoded(
    server: Running, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tokenizer), "decode", None)
    status, error = server.error("/v1/embeddings", {"input": [[5]] * (LIMITS.max_choices * 32 + 1)})
    assert (status, error["param"], error["message"]) == (
        400,
        "input",
        "input must have at most 320 texts on this server.",
    )


def test_all_drafts_towards_a_suffix_count(both_ways: Running) -> None:
    for more in (
        {"prompt": "The", "max_tokens": 2049},
        {"n": 3, "max_tokens": 11_000},
        {"best_of": 9, "max_tokens": 4096},
    ):
        status, error = both_ways.error("/v1/completions", {"suffix": " mat.", **more})
        assert (status, error["param"]) == (400, "max_tokens")
        assert "must have at most" in error["message"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"state": "ts-1"}, "state"),
        ({"return_state": True}, "return_state"),
        ({"echo": True}, "echo"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"clamp": "L1/2=1"}, "clamp"),
        ({"label": "nobody"}, "label"),
        ({"stop": "."}, "stop"),
        ({"until": "line"}, "until"),
        ({"ban": ["a"]}, "ban"),
        ({"require": ["a"]}, "require"),
        ({"logit_bias": ["a=1"]}, "logit_bias"),
        ({"no_copy": 5}, "no_copy"),
        ({"n": 3, "best_of": 2}, "best_of"),
    ],
)
def test_what_a_suffix_cannot_be_combined_with_is_refused(both_ways: Running, more: dict[str, Any], param: str) -> None:
    status, error = both_ways.error("/v1/completions", {"prompt": "The", "suffix": " mat.", "max_tokens": 2, **more})
    assert (status, error["param"]) == (400, param)


def test_a_model_that_reads_backward_only_continues_no_prompt(tiny_models: Path, tmp_path: Path) -> None:
    tokenizer = load_model("tiny", tiny_models).tokenizer
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="backward")
    save_model(tmp_path / "backward", random_weights(shape), shape, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    with running(tmp_path, ServerConfig(port=0)) as there:
        asked = {"suffix": " mat.", "max_tokens": 2}
        status, error = there.error("/v1/completions", {**asked, "prompt": "The"})
        assert (status, error["param"]) == (400, "prompt"), error
        assert there.complete(**asked)["choices"]


@pytest.mark.parametrize("more", [{}, {"best_of": 4}])
def test_as_many_texts_come_towards_a_suffix_as_are_asked_for(both_ways: Running, more: dict[str, Any]) -> None:
    """At temperature 0 each network drafts one text."""
    asked: dict[str, Any] = {"prompt": "The", "suffix": " mat.", "max_tokens": 3, "n": 3, "temperature": 0, "seed": 1}
    choices = both_ways.complete(**asked, **more)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert choices[2]["text"] in {choice["text"] for choice in choices[:2]}


def test_fields_that_ask_for_nothing_go_with_a_suffix(both_ways: Running) -> None:
    nothing = {"return_state": False, "echo": False, "logprobs": False, "clamp": [], "stop": [], "user": "me"}
    absent = dict.fromkeys(["state", "return_state", "echo", "logprobs", "top_logprobs", "clamp", "label", "stop"])
    asked: dict[str, Any] = {"prompt": "The", "suffix": " mat.", "max_tokens": 2, "seed": 1}
    plain, *others = (both_ways.complete(**asked, **more)["choices"] for more in ({}, nothing, absent))
    assert others == [plain, plain]


def test_drafts_that_nobody_waits_for_are_given_up(both_ways: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    begun = threading.Event()
    infill = Infiller.infill

    def noted(*given: Any, **more: Any) -> Any:
        begun.set()
        found.append(infill(*given, **more))
        return found[-1]

    monkeypatch.setattr(Infiller, "infill", noted)
    asked = {"prompt": "The", "suffix": " mat.", "max_tokens": 2000, "min_tokens": 2000}
    with both_ways.open("/v1/completions", asked):
        assert begun.wait(PATIENCE)
    both_ways.wait(lambda: bool(found))
    assert found == [[]]
    both_ways.wait(lambda: both_ways.resources._turns.waiting == 0)


def test_the_tokens_of_texts_towards_a_suffix_are_counted_in_a_thread_where_they_may_be_many(
    both_ways: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, threads = infilling._num_tokens, list[str]()

    def noted(*given: Any) -> int:
        threads.append(threading.current_thread().name.partition("_")[0])
        return counted(*given)

    monkeypatch.setattr(infilling, "_num_tokens", noted)
    monkeypatch.setattr("textgen.server.planning.LONG_PROMPT", 0)
    both_ways.complete(prompt="The", suffix=" mat.", max_tokens=5, seed=1)
    assert threads == ["asyncio", "asyncio"]


# === Streams ===


@pytest.mark.parametrize("more", [{}, {"logprobs": 1}, {"n": 3}, {"echo": True}, {"stop": "e"}])
def test_a_stream_is_the_answer_in_chunks(server: Running, more: dict[str, Any]) -> None:
    fields = {"prompt": PROMPT, "seed": 5, "max_tokens": 25} | more
    whole = server.complete(**fields)["choices"]
    events = server.stream("/v1/completions", fields)
    for choice in whole:
        chunks = [event["choices"][0] for event in events if event["choices"][0]["index"] == choice["index"]]
        assert "".join(chunk["text"] for chunk in chunks) == choice["text"]
        reasons = [chunk["finish_reason"] for chunk in chunks]
        assert reasons == [None] * (len(reasons) - 1) + [choice["finish_reason"]]
        assert chunks[-1]["text"] == ""
        if choice["logprobs"]:
            tokens = [token for chunk in chunks if chunk["logprobs"] for token in chunk["logprobs"]["tokens"]]
            assert tokens == choice["logprobs"]["tokens"]


def test_usage_comes_at_the_end_or_always(server: Running) -> None:
    fields: dict[str, Any] = {"prompt": PROMPT, "seed": 5, "max_tokens": 4, "stream_options": {"include_usage": True}}
    *events, last = server.stream("/v1/completions", fields)
    assert [event["usage"] for event in events] == [None] * len(events)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == len(PROMPT) + last["usage"]["completion_tokens"]
    fields["stream_options"]["continuous_usage_stats"] = True
    *events, _ = server.stream("/v1/completions", fields)
    assert [event["usage"]["completion_tokens"] for event in events][-1] == last["usage"]["completion_tokens"]
    assert "usage" not in server.stream("/v1/completions", {"prompt": PROMPT, "max_tokens": 2})[-1]


def test_a_stream_that_cannot_begin_is_an_error(server: Running) -> None:
    status, error = server.error("/v1/completions", {"stream": True, "no_copy": 3})
    assert (status, error["type"]) == (400, "invalid_request_error")


# === Chats ===


def test_a_chat_continues_its_messages(server: Running) -> None:
    messages = [
        {"role": "system", "content": "The cat"},
        {"role": "user", "content": [{"type": "text", "text": "sat"}]},
    ]
    answer = server.post("/v1/chat/completions", {"messages": messages, "seed": 2, "max_completion_tokens": 12})
    (choice,) = answer["choices"]
    expected = server.complete(prompt="The cat\nsat", seed=2, max_tokens=12)
    assert choice["message"]["content"] == expected["choices"][0]["text"]
    assert choice["message"]["role"] == "assistant"
    assert answer["usage"]["total_tokens"] == expected["usage"]["total_tokens"]


def test_a_chat_may_be_a_dialogue(server: Running) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good"}]
    fields = {"messages": messages, "seed": 2, "max_tokens": 30, "template": "dialogue"}
    answer = server.post("/v1/chat/completions", fields)
    expected = server.complete(
        prompt="User: Hello\nAssistant: Good", seed=2, max_tokens=30, stop=["\nUser:", "\nAssistant:"]
    )
    assert answer["choices"][0]["message"]["content"] == expected["choices"][0]["text"]


def test_a_chat_streams_its_role_then_its_text(server: Running) -> None:
    fields = {"messages": [{"role": "user", "content": PROMPT}], "seed": 2, "max_tokens": 9, "logprobs": True}
    fields |= {"top_logprobs": 2}
    events = server.stream("/v1/chat/completions", fields)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    text = server.complete(prompt=PROMPT, seed=2, max_tokens=9)["choices"][0]["text"]
    assert "".join(delta.get("content", "") for delta in deltas) == text
    named = events[1]["choices"][0]["logprobs"]["content"][0]
    assert len(named["top_logprobs"]) == 2
    assert bytes(named["bytes"]).decode(errors="replace") == named["token"] or named["token"].startswith("bytes:")


@pytest.mark.parametrize("more", [{}, {"seed": 5}, {"n": 2}, {"echo": True}, {"return_state": True}])
def test_every_event_of_a_stream_has_the_seed_that_writes_the_same(server: Running, more: dict[str, Any]) -> None:
    """A client that stops a stream gets no last event."""
    asked: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 5, **more}
    events = server.stream("/v1/completions", asked | {"stream_options": {"include_usage": True}})
    (seed,) = {event["seed"] for event in events}
    assert seed == more.get("seed", seed)
    assert server.complete(**asked | {"seed": seed})["seed"] == seed
    chat = server.stream("/v1/chat/completions", {"messages": [{"content": PROMPT}], "max_tokens": 3, "seed": 5})
    assert {event["seed"] for event in chat} == {5}


# === Models, tokens, embeddings ===


def test_models_are_listed(server: Running) -> None:
    assert [model["id"] for model in server.get("/v1/models")["data"]] == ["tiny"]
    assert server.get("/v1/models/tiny")["object"] == "model"
    assert server.get("/v1/models/tiny")["labels"] == []
    for name in ("nothing", "..%2f..%2fetc", "../tiny", "%00", "a" * 5000):
        status, error = server.error(f"/v1/models/{name}", None, "GET")
        assert (status, error["code"]) == (404, "model_not_found")


def test_tokens_there_and_back(server: Running) -> None:
    info = server.get("/tokenizer_info")
    assert server.post("/tokenize", {"prompt": info["eos_token"], "add_special_tokens": False})["tokens"] == [2]
    ids = server.post("/tokenize", {"prompt": "The 床 ☃"})["tokens"]
    assert server.post("/detokenize", {"tokens": ids}) == {"prompt": "The 床 ☃"}
    assert server.error("/detokenize", {"tokens": [1 << 40]})[0] == 400


def test_embeddings_are_those_of_the_command_line(server: Running, tiny_models: Path) -> None:
    saved = load_model("tiny", tiny_models)
    from textgen.evaluation.embeddings import Embedder

    embedder = Embedder({"forward": saved.numpy_model()}, saved.tokenizer)
    expected = [next(iter(embedder.vectors([text]))) for text in ("The cat", "dog")]
    floats = server.post("/v1/embeddings", {"input": ["The cat", "dog"], "encoding_format": "float"})
    assert np.allclose([each["embedding"] for each in floats["data"]], expected)
    encoded = server.post("/v1/embeddings", {"input": "The cat", "encoding_format": "base64"})["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(encoded), "<f4"), expected[0])


def test_ids_of_another_vocabulary_say_what_to_do(server: Running) -> None:
    status, error = server.error("/v1/embeddings", {"input": [[100_000, 3]]})
    assert status == 400
    assert "check_embedding_ctx_length=False" in error["message"]


# === States ===


def test_a_state_continues_a_text_as_often_as_wanted(server: Running, tiny_models: Path, tmp_path: Path) -> None:
    made = server.post("/v1/states", {"prompt": "The cat sat", "label": None})
    generator = load_model("tiny", tiny_models).generator()
    status, _, data = server.request("GET", f"/v1/states/{made['id']}")
    assert status == 200
    (tmp_path / "fetched").write_bytes(data)
    fetched = generator.load_state(tmp_path / "fetched")
    assert np.array_equal(fetched.model_state, generator.read("The cat sat").model_state)
    imported = json.loads(
        server.request("POST", "/v1/states?model=tiny", data, {"Content-Type": "application/octet-stream"})[2]
    )
    stream = generator.tokens(" on", SamplingConfig(seed=3, max_tokens=9), generator.read("The cat sat"))
    expected = "".join(token.text for token in stream)
    for id in (made["id"], made["id"], imported["id"]):
        answer = server.complete(state=id, prompt=" on", seed=3, max_tokens=9)
        assert answer["choices"][0]["text"] == expected
    assert server.request("DELETE", f"/v1/states/{made['id']}")[0] == 200
    status, error = server.error("/v1/completions", {"state": made["id"]})
    assert (status, error["code"]) == (404, "state_not_found")


def test_a_text_returns_the_state_at_its_end(server: Running) -> None:
    fields: dict[str, Any] = {"prompt": PROMPT, "seed": 3, "max_tokens": 30, "return_state": True, "heal": False}
    (choice,) = server.complete(**fields, logprobs=0)["choices"]
    ids = server.post("/tokenize", {"prompt": PROMPT})["tokens"] + choice["logprobs"]["token_ids"]
    assert _after(server, choice) == server.complete(prompt=ids, seed=4, max_tokens=6)["choices"][0]["text"]
    stop = choice["text"][5:7]
    (cut,) = server.complete(**fields, stop=stop)["choices"]
    assert cut["finish_reason"] == "stop"
    expected = server.complete(prompt=PROMPT + cut["text"], seed=4, max_tokens=6, heal=False)["choices"][0]["text"]
    assert _after(server, cut) == expected
    assert _after(server, server.stream("/v1/completions", {**fields, "stop": stop})[-1]["choices"][0]) == expected


def test_a_state_that_cannot_be_kept_is_an_error_in_its_stream(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise ApiError(413, "The state is too large.")

    monkeypatch.setattr(StateStore, "add", full)
    asked = {"prompt": PROMPT, "max_tokens": 30, "seed": 3, "return_state": True, "stream": True}
    status, _, body = server.request("POST", "/v1/completions", asked)
    *_, last, end = body.decode().split("\n\n")
    assert (status, end) == (200, "")
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "The state is too large."


def test_a_state_that_cannot_be_kept_is_a_status_if_nothing_is_written(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise ApiError(413, "The state is too large.")

    monkeypatch.setattr(StateStore, "add", full)
    asked = {"prompt": PROMPT, "max_tokens": 0, "echo": True, "return_state": True, "stream": True}
    assert server.error("/v1/completions", asked)[0] == 413


def _after(server: Running, choice: Any) -> str:
    """What is written after the state at the end of a text."""
    return server.complete(state=choice["state"]["id"], seed=4, max_tokens=6)["choices"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_that_is_cut_has_its_state_however_long_a_prompt_may_be(tiny_models: Path, stream: bool) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "seed": 4, "max_tokens": 40, "heal": False}
    with running(tiny_models, ServerConfig(port=0, max_prompt=len(PROMPT))) as there:
        whole = there.complete(**asked)["choices"][0]["text"]
        stop = whole[10:12]
        asked |= {"stop": stop, "return_state": True}
        answer = there.stream("/v1/completions", asked)[-1] if stream else there.complete(**asked)
        read = there.post("/tokenize", {"prompt": PROMPT + whole[: whole.index(stop)]})["count"]
        assert answer["choices"][0]["state"]["tokens"] == 1 + read
        assert there.error("/v1/states", {"prompt": PROMPT + whole[0]})[0] == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_that_is_cut_has_its_state_while_no_more_texts_may_wait(
    stream: bool, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, others = Engine.submit, list[socket.socket]()
    with running(tiny_models, ServerConfig(port=0, slots=1, max_queue=0)) as there:

        def cut_while_another_text_is_written(*given: Any) -> list[int]:
            others.append(there.open("/v1/completions", {"max_tokens": 9000, "min_tokens": 9000}))
            there.wait(lambda: there.engine.running == 1)
            return written_ids(*given)

        def submit_and_end_the_other(engine: Engine, jobs: Sequence[Job], **how: Any) -> None:
            submit(engine, jobs, **how)
            if not jobs[0].writes:
                assert engine.waiting == 1
                others[0].close()

        monkeypatch.setattr(completions, "written_ids", cut_while_another_text_is_written)
        monkeypatch.setattr(Engine, "submit", submit_and_end_the_other)
        asked = {"prompt": PROMPT, "logit_bias": ["e=100"], "stop": "e", "return_state": True}
        answer = there.stream("/v1/completions", asked)[-1] if stream else there.complete(**asked)
        assert answer["choices"][0]["state"]["id"]


def test_other_texts_of_a_stream_go_on_while_a_state_is_read(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    backlog, longer = 64, threading.Event()

    def cut_after_others(*given: Any) -> list[int]:
        assert longer.wait(PATIENCE)
        return written_ids(*given)

    fields: dict[str, Any] = {"prompt": PROMPT, "seed": 4, "n": 2, "max_tokens": 400, "min_tokens": 400}
    first, second = (choice["text"] for choice in server.complete(**fields)["choices"])
    stop = next(first[at : at + 3] for at in range(9, 90) if first[at : at + 3] not in second)
    monkeypatch.setattr(writing, "BACKLOG", backlog)
    monkeypatch.setattr(completions, "written_ids", cut_after_others)
    fields |= {"stop": stop, "return_state": True, "stream": True}
    seen, ended = [0, 0], list[int]()
    with server.open("/v1/completions", fields) as connection:
        for line in connection.makefile("rb"):
            if not line.startswith(b'data: {"id'):
                assert b"error" not in line, line
                if b"[DONE]" in line:
                    break
                continue
            (choice,) = json.loads(line.removeprefix(b"data: "))["choices"]
            seen[choice["index"]] += 1
            if seen[1] > len(first[: first.index(stop)]) + 2 * backlog:
                longer.set()
            if choice["finish_reason"]:
                assert choice["state"]["id"]
                ended.append(choice["index"])
    assert sorted(ended) == [0, 1]


@pytest.mark.parametrize("more", [{}, {"seed": 4}, {"exact": True}])
def test_a_prompt_is_not_read_again_for_the_state_of_a_text_that_is_cut(
    server: Running, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    jobs, submit = list[Job](), Engine.submit

    def noted(engine: Engine, submitted: Sequence[Job], **how: Any) -> None:
        jobs.extend(submitted)
        submit(engine, submitted, **how)

    monkeypatch.setattr(Engine, "submit", noted)
    prompt = f"{more}: " + PROMPT * 20
    server.complete(prompt=prompt, logit_bias=["e=100"], stop="e", return_state=True, **more)
    written, read = jobs
    assert (written.writes, written.cached_tokens) == (True, 0)
    assert (read.writes, read.cached_tokens) == (False, written.prompt.number)
    assert written.prompt.number > len(prompt) - STRIDE


def test_a_state_has_the_label_of_its_document(tiny_models: Path, tmp_path: Path) -> None:
    """However it was made: by a prompt, a text, another state or a file."""
    tokenizer = save_labelled(tiny_models, tmp_path)
    end, ids = tokenizer.eos_id, [*tokenizer.opening("B"), *tokenizer.encode("The cat")]
    more: dict[str, Any] = {"max_tokens": 2, "logit_bias": {str(end): -100}, "return_state": True, "seed": 1}
    with running(tmp_path, ServerConfig(port=0)) as there:

        def made(**fields: Any) -> Any:
            return there.post("/v1/states", fields)

        def returned(**fields: Any) -> list[Any]:
            (choice,) = there.complete(**{**more, **fields})["choices"]
            return [choice["state"], there.stream("/v1/completions", {**more, **fields})[-1]["choices"][0]["state"]]

        named = made(prompt="The", label="B")
        states = [named, made(prompt=ids), made(state=named["id"], prompt=" cat")]
        states += [*returned(prompt="The", label="B"), *returned(prompt=ids), *returned(state=named["id"], prompt="")]
        assert [state["label"] for state in states] == ["B"] * 9
        plain = [made(prompt="The"), made(prompt=tokenizer.encode("The")), *returned(prompt="The")]
        assert [state["label"] for state in plain] == [None] * 4
        ended = [made(state=named["id"], prompt=[end]), *returned(prompt=[*ids, end], max_tokens=0)]
        assert [state["label"] for state in ended] == [None] * 3
        assert made(state=ended[0]["id"], prompt="The", label="A")["label"] == "A"
        long = made(prompt="a" * 5000, label="A")
        assert [long["label"], made(state=long["id"], prompt="b")["label"]] == ["A", "A"]
        assert [state["label"] for state in returned(state=long["id"], prompt="b")] == ["A", "A"]

        def uploaded(state: Any, query: str = "") -> Any:
            data = there.request("GET", f"/v1/states/{state['id']}")[2]
            binary = {"Content-Type": "application/octet-stream"}
            return there.post(f"/v1/states?model=labelled{query}", data, binary)

        assert [uploaded(named, query)["label"] for query in ("", "&label=B")] == ["B", "B"]
        assert [uploaded(long, query)["label"] for query in ("", "&label=A")] == [None, "A"]
        assert uploaded(long, "&label=zz")["error"]["message"] == "There is no label 'zz'. There are: A, B."
        for state, has in ((named, "with the label 'B'"), (plain[0], "without a label"), (ended[0], "without a label")):
            error = uploaded(state, "&label=A")["error"]
            assert (error["param"], error["message"]) == (
                "label", f"The state is one of a document {has}, not with 'A': leave label out.",
            )  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 100])
def test_what_is_no_state_is_refused(server: Running, data: bytes) -> None:
    status, _, body = server.request("POST", "/v1/states", data, {"Content-Type": "application/octet-stream"})
    assert status == 400
    assert "/tmp" not in body.decode()


def test_without_a_folder_for_temporary_files_a_state_is_refused_with_the_reason(
    server: Running, no_temporary_folder: None
) -> None:
    status, _, body = server.request("POST", "/v1/states", b"nothing", {"Content-Type": "application/octet-stream"})
    assert status == 500
    assert "No usable temporary directory" in body.decode()


# === Keys ===


@pytest.fixture(scope="module")
def guarded(tiny_models: Path) -> Iterator[Running]:
    """A server that two know a key of."""
    with running(tiny_models, keys=("a", "b")) as there:
        yield there


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def requests_of(server: Running) -> Iterator[tuple[str, str]]:
    """Each method and path that a server answers."""
    gate = make_app(server.resources, Access(server.resources.config))
    assert isinstance(gate, Gate)
    assert isinstance(gate._app, Starlette)
    for route in gate._app.routes:
        assert isinstance(route, Route)
        for method in sorted(route.methods or ()):
            yield method, re.sub(r"{.*?}", "tiny", route.path)


def test_all_but_health_and_the_page_needs_a_key(guarded: Running) -> None:
    asked = list(requests_of(guarded))
    assert {"GET", "HEAD", "POST", "DELETE"} == {method for method, _ in asked}
    for method, path in asked:
        is_open = path in ("/health", "/ready", "/") or path.startswith("/page/")
        for headers in ({}, of("c"), {"Authorization": "a"}):
            body = b"{}" if method == "POST" else None
            assert guarded.request(method, path, body, headers)[0] == (200 if is_open else 401), (method, path, headers)
    assert guarded.request("GET", "/v1/models", None, of("b"))[0] == 200


def test_metrics_may_be_open(tiny_models: Path) -> None:
    with running(tiny_models, ServerConfig(port=0, open_metrics=True), keys=("a",)) as there:
        assert there.request("GET", "/metrics")[0] == 200
        assert there.request("GET", "/v1/models")[0] == 401


def test_a_state_belongs_to_the_key_that_made_it(guarded: Running) -> None:
    made = guarded.post("/v1/states", {"prompt": PROMPT}, of("a"))["id"]
    written = guarded.post("/v1/completions", {"seed": 4, "max_tokens": 2, "return_state": True}, of("a"))
    for id in (made, written["choices"][0]["state"]["id"]):
        goes_on = {"state": id, "max_tokens": 1}
        for method, path, body in (
            ("GET", f"/v1/states/{id}", None),
            ("DELETE", f"/v1/states/{id}", None),
            ("POST", "/v1/states", {"state": id}),
            ("POST", "/v1/completions", goes_on),
            ("POST", "/v1/chat/completions", {**goes_on, "messages": [{"role": "user", "content": "A"}]}),
        ):
            status, error = guarded.error(path, body, method, **of("b"))
            assert (status, error["code"]) == (404, "state_not_found"), (method, path)
        assert guarded.request("POST", "/v1/completions", goes_on, of("a"))[0] == 200
        assert guarded.request("DELETE", f"/v1/states/{id}", None, of("a"))[0] == 200


@pytest.mark.parametrize(("path", "text"), [("completions", "The cat sat. " * 9), ("states", "The dog saw. " * 9)])
def test_what_one_key_has_read_is_read_anew_for_another(guarded: Running, path: str, text: str) -> None:
    """How long an answer takes would tell what others have read."""
    asked = {"prompt": text, "seed": 4, "max_tokens": 1}
    guarded.post(f"/v1/{path}", asked, of("a"))
    for key, is_cached in (("b", False), ("a", True)):
        usage = guarded.post("/v1/completions", asked, of(key))["usage"]
        assert (usage["prompt_tokens_details"]["cached_tokens"] > 0) == is_cached, key


@pytest.mark.parametrize(
    ("length", "written"),
    [
        ({"max_tokens": 0}, 0),
        ({"max_completion_tokens": 0}, 0),
        ({"max_tokens": 5, "max_completion_tokens": 0}, 0),
        ({"max_tokens": 0, "max_completion_tokens": 1}, 1),
    ],
)
@pytest.mark.parametrize("more", [{"prompt": PROMPT}, {"messages": [{"role": "user", "content": PROMPT}]}])
def test_no_tokens_are_no_text(server: Running, more: dict[str, Any], length: dict[str, int], written: int) -> None:
    path = "/v1/completions" if "prompt" in more else "/v1/chat/completions"
    answer = server.post(path, {**more, **length, "seed": 1})
    assert answer["usage"]["completion_tokens"] == written
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert bool(choice["text"] if "text" in choice else choice["message"]["content"]) == bool(written)
    *_, last = server.stream(path, {**more, **length, "seed": 1})
    assert last["choices"][0]["finish_reason"] == "length"


def test_no_tokens_are_no_text_towards_a_suffix(both_ways: Running) -> None:
    answer = both_ways.complete(prompt="The", suffix=" mat.", max_tokens=0, n=2, seed=3)
    assert [(each["text"], each["seed"]) for each in answer["choices"]] == [("", 3), ("", 4)]
    assert answer["usage"]["completion_tokens"] == 0


# === Wrong requests ===


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"not JSON", 400, None),
        (b"[" * 5000, 400, None),
        (b'"text"', 400, None),
        (b"\xff\xfe", 400, None),
        (b'{"prompt": "\\ud800"}', 400, "prompt"),
        ({"prompt": 5}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": ["a", 1]}, 400, "prompt"),
        ({"prompt": [[]], "max_tokens": 1, "n": 11}, 400, "n"),
        ({"prompt": [10**6]}, 400, "prompt"),
        ({"prompt": [-1]}, 400, "prompt"),
        ({"prompt": "a" * 4000}, 400, "prompt"),
        ({"prompt": ["a"] * 11}, 400, "prompt"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": 10**400}, 400, "temperature"),
        ({"top_p": 2}, 400, "top_p"),
        ({"seed": -2}, 400, "seed"),
        ({"seed": 1 << 70}, 400, "seed"),
        ({"max_tokens": 10**9}, 400, "max_tokens"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"min_tokens": {}}, 400, "min_tokens"),
        ({"min_tokens": "700"}, 400, "min_tokens"),
        ({"min_tokens": 10**9}, 400, "min_tokens"),
        ({"max_tokens": 1.5}, 400, "max_tokens"),
        ({"n": 0}, 400, "n"),
        ({"n": 10**9}, 400, "n"),
        ({"best_of": 3, "stream": True}, 400, "best_of"),
        ({"best_of": 1, "n": 2}, 400, "best_of"),
        ({"logprobs": 21}, 400, "logprobs"),
        ({"logit_bias": {"the": 1}}, 400, "logit_bias"),
        ({"logit_bias": {"5": 1000}}, 400, "logit_bias"),
        ({"logit_bias": {str(1 << 30): 1}}, 400, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, 400, "logit_bias"),
        ({"logit_bias": ["#999999=1"]}, 400, "logit_bias"),
        ({"logit_bias": ["#" + "9" * 5000 + "=1"]}, 400, "logit_bias"),
        ({"logit_bias": ["#" + "9" * 500 + "=1"]}, 400, "logit_bias"),
        ({"logit_bias": ["a" * 1000 + "=1"] * 18}, 400, "logit_bias"),
        ({"logit_bias": ["a=1"] * 1025}, 400, "logit_bias"),
        ({"stop": ["a"] * 100}, 400, "stop"),
        ({"ban": "a"}, 400, "ban"),
        ({"ban": ["a" * 1025]}, 400, "ban"),
        ({"ban": ["a" * 1000] * 5}, 400, "ban"),
        ({"label": "nobody"}, 400, "label"),
        ({"suffix": "the end"}, 400, "suffix"),
        ({"model": "nothing"}, 404, "model"),
        ({"model": "../tiny"}, 404, "model"),
        ({"model": "/etc/passwd"}, 404, "model"),
        ({"state": "nothing"}, 404, "state"),
        ({"samplers": "magic"}, 400, "samplers"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"guided_json": {"type": "object"}}, 400, "guided_json"),
        ({"suffix": "the end", "regex": "[0-9]+"}, 400, "regex"),
        ({"stream_options": 3}, 400, "stream_options"),
        ({"prompt": "a" * 30_000}, 413, None),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_an_error_with_its_field(
    server: Running, body: Any, status: int, param: str | None
) -> None:
    found, error = server.error("/v1/completions", body)
    assert (found, error["param"]) == (status, param), error
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "A"}, {"role": "poet", "content": "B"}]}, "messages"),
        ({"messages": [], "tools": [{}]}, "tools"),
        ({"messages": [], "response_format": {"type": "json_schema"}}, "response_format"),
        ({"messages": [{"content": "A"}], "template": "x"}, "template"),
    ],
)
def test_a_chat_that_is_not_possible(server: Running, body: Any, param: str) -> None:
    status, error = server.error("/v1/chat/completions", body)
    assert (status, error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/states", {"prompt": [10**6]}, "prompt"),
        ("/v1/states", {"label": "nobody"}, "label"),
        ("/detokenize", {"tokens": [5, 10**6]}, "tokens"),
        ("/v1/embeddings", {"input": [[10**6]]}, "input"),
        ("/v1/embeddings", {"input": ""}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": ["A", ""]}, "input"),
        ("/v1/completions", {"prompt": "a\ud800b"}, "prompt"),
        ("/v1/completions", {"prompt": "a", "ban": ["\udc00"]}, "ban"),
        ("/v1/completions", {"prompt": "a", "\ud800": "\ud800"}, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "\ud83d"}]}, "messages"),
        ("/v1/embeddings", {"input": ["A", "\udfff\ud800"]}, "input"),
        ("/v1/states", {"prompt": "\ud800"}, "prompt"),
        ("/tokenize", {"prompt": "\udc00\udc00"}, "prompt"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_field(
    server: Running, path: str, body: dict[str, Any], param: str | None
) -> None:
    status, error = server.error(path, body)
    assert (status, error["param"]) == (400, param), error
    assert ("half of a surrogate pair" in error["message"]) == ("\\ud" in json.dumps(body))


def test_a_prompt_that_opens_with_a_label_gets_no_other(tiny_models: Path, tmp_path: Path) -> None:
    tokenizer = save_labelled(tiny_models, tmp_path)
    text = tokenizer.encode("The cat")
    with running(tmp_path, ServerConfig(port=0)) as there:
        for path in ("/v1/states", "/v1/completions"):
            for own, label, token in (("A", "B", "<label A>"), (None, "B", "<no label>"), ("B", "nobody", "<label B>")):
                body = {"prompt": [*tokenizer.opening(own), *text], "label": label, "max_tokens": 1}
                status, error = there.error(path, body)
                assert (status, error["param"]) == (400, "label"), error
                assert f"opens with the token {token} and label is '{label}'" in error["message"]
            for opening in (tokenizer.opening("B"), [tokenizer.eos_id], []):
                assert there.post(path, {"prompt": [*opening, *text], "label": "B", "max_tokens": 1})["id"]
        status, error = there.error("/v1/completions", {"prompt": [[*text], tokenizer.opening("A")], "label": "B"})
        assert (status, error["param"]) == (400, "label"), error


def test_a_text_that_has_begun_gets_no_label(server: Running) -> None:
    state = server.post("/v1/states", {"prompt": "The"})["id"]
    for path in ("/v1/states", "/v1/completions"):
        status, error = server.error(path, {"state": state, "label": "nobody"})
        assert (status, error["param"]) == (400, "label"), error


def test_more_texts_than_a_server_takes_at_a_time_are_refused_for_good(tiny_models: Path) -> None:
    """Not as if they could be written later."""
    with running(tiny_models, ServerConfig(port=0, slots=2, max_queue=1)) as there:
        asked: dict[str, Any] = {"prompt": "The", "max_tokens": 1}
        assert len(there.complete(**asked, n=3)["choices"]) == 3
        assert len(there.complete(**asked | {"n": 4, "max_tokens": 0})["choices"]) == 4
        for more, param in (({"n": 4}, "n"), ({"n": 1, "best_of": 4}, "best_of"), ({"prompt": ["The"] * 4}, "prompt")):
            for stream in {False, "best_of" not in more}:  # which cannot be streamed
                status, error = there.error("/v1/completions", {**asked, **more, "stream": stream})
                assert (status, error["param"]) == (400, param)
                assert "takes 3 texts at a time, and this request asks for 4" in error["message"]
        chat = {"messages": [{"role": "user", "content": "The"}], "n": 4}
        assert there.error("/v1/chat/completions", chat)[0] == 400


def test_a_body_in_chunks_has_its_limit_though_it_does_not_tell_its_length(server: Running) -> None:
    for size, expected in ((LIMITS.max_body, 200), (LIMITS.max_body + 1, 413)):
        body = b'{"max_tokens": 1}'.ljust(size)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9000], body[9000:], b""))
        status, _, answer = server.request("POST", "/v1/completions", chunks, {"Transfer-Encoding": "chunked"})
        assert status == expected, answer


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/states", "/tokenize"])
def test_a_body_that_is_compressed_is_refused_and_one_that_is_not_is_read(server: Running, path: str) -> None:
    asked = json.dumps({"prompt": PROMPT, "max_tokens": 1}).encode()
    compressed = gzip.compress(asked)
    status, error = server.error(path, compressed, **{"Content-Encoding": "GZIP"})
    assert status == 415
    assert error["message"].startswith(
        "The body of the request is encoded as 'gzip', which this server does not decode: "
    )
    _, headers, _ = server.request("POST", path, compressed, {"Content-Encoding": "gzip, identity"})
    assert headers["accept-encoding"] == "identity"
    for encoding in ("identity", ""):
        assert server.request("POST", path, asked, {"Content-Encoding": encoding})[0] == 200


def test_paths_and_methods_that_do_not_exist(server: Running) -> None:
    assert server.error("/nothing", None, "GET")[0] == 404
    assert server.error("/v1/models/", None, "GET")[0] == 404
    assert server.request("HEAD", "/v1/models")[0] == 200
    for path, methods in {"/v1/completions": {"POST"}, "/v1/states/a": {"GET", "HEAD", "DELETE"}}.items():
        status, headers, _ = server.request("PUT", path)
        assert (status, set(headers["allow"].split(", "))) == (405, methods)
    assert server.error("/v1/completions", None, "GET")[0] == 405
    assert server.error("/../../etc/passwd", None, "GET")[0] == 404


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://localhost/health", "localhost", 200),
        ("HTTP://127.0.0.1:8000/%68ealth?x=http://evil.example/", "evil.example", 200),
        ("http://evil.example/health", "localhost", 403),
        ("http://localhost@evil.example/health", "localhost", 403),
        ("http://localhost/nothing", "localhost", 404),
        ("http://localhost", "localhost", 200),
        ("http:///health", "localhost", 404),
        ("/http://localhost/health", "localhost", 404),
    ],
)
def test_the_target_of_a_request_may_be_a_whole_address(server: Running, target: str, host: str, expected: int) -> None:
    """Its host counts, not that of the header."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == str(expected).encode()


def test_a_request_has_an_id(server: Running) -> None:
    assert server.request("GET", "/health", None, {"X-Request-Id": "mine-1"})[1]["x-request-id"] == "mine-1"
    generated = server.request("GET", "/health", None, {"X-Request-Id": "a b"})[1]["x-request-id"]
    assert generated.startswith("req-")


# === Who leaves ===


@contextmanager
def slowed(model: Any, method: str, seconds: float) -> Iterator[None]:
    """A network that takes so long for each call of a method."""
    quick = getattr(model, method)

    def slow(ids: np.ndarray, state: Any) -> Any:
        time.sleep(seconds)
        return quick(ids, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, method, slow)
        yield


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(server: Running, stream: bool) -> None:
    engine = server.engine
    with slowed(engine.generator.model, "step", 0.005):
        connection = server.open("/v1/completions", {"max_tokens": 1000, "min_tokens": 1000, "stream": stream, "n": 3})
        server.wait(lambda: engine.running == 3)
        if stream:
            assert connection.recv(100)
        connection.close()
        rounds = engine.rounds
        server.wait(lambda: engine.is_idle)
        assert engine.rounds < rounds + 100  # far from 1000 tokens
    assert "textgen:abandoned_total" in server.request("GET", "/metrics")[2].decode()


def test_a_client_that_leaves_while_its_prompt_is_read_frees_its_slot(server: Running) -> None:
    engine = server.engine
    with slowed(engine.generator.model, "read", 0.02):
        connection = server.open("/v1/completions", {"prompt": "xyz" * 900})
        server.wait(lambda: engine.running == 1)
        connection.close()
        server.wait(lambda: engine.is_idle)
    assert server.complete(max_tokens=1)["choices"]


def test_more_requests_than_may_wait_get_429_and_none_is_lost(server: Running) -> None:
    statuses: list[int] = []

    def ask() -> None:
        fields = {"n": 4, "max_tokens": 300, "min_tokens": 300}
        status, headers, _ = server.request("POST", "/v1/completions", fields)
        statuses.append(status)
        assert status == 200 or headers["retry-after"] == "1"

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 16
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 4
    assert server.engine.is_idle


def test_a_stream_that_is_refused_after_it_waited_gets_429_and_is_counted_nowhere(server: Running) -> None:
    def counts() -> list[str]:
        names = ("textgen:abandoned", "vllm:prompt_tokens", "vllm:prefix_cache", "vllm:e2e_request_latency")
        return [line for line in server.request("GET", "/metrics")[2].decode().splitlines() if line.startswith(names)]

    engine, chat = server.engine, {"messages": [{"role": "user", "content": PROMPT}], "n": 8, "stream": True}
    with slowed(engine.generator.model, "step", 0.005), ExitStack() as stack:
        stack.enter_context(server.open("/v1/completions", {"max_tokens": 1000, "min_tokens": 1000, "n": 8}))
        server.wait(lambda: engine.running == 8)
        refused = stack.enter_context(server.open("/v1/chat/completions", chat))
        server.wait(lambda: engine.waiting == 8)
        before = counts()
        stack.enter_context(server.open("/v1/completions", {"max_tokens": 1}))
        assert refused.recv(12) == b"HTTP/1.1 429"
        assert counts() == before
    server.wait(lambda: engine.is_idle)


def test_metrics_count_texts_under_the_names_of_vllm(server: Running) -> None:
    server.complete(prompt=PROMPT, max_tokens=3)
    text = server.request("GET", "/metrics")[2].decode()
    for name in (
        'vllm:num_requests_running{model_name="tiny"} 0.0',
        'vllm:num_requests_waiting{model_name="tiny"} 0.0',
        'vllm:time_to_first_token_seconds_bucket{le="0.0005",model_name="tiny"}',
        "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total",
    ):  # fmt: skip
        assert name in text


def counts_of(server: Running, model: str) -> Counter[str]:
    """The metrics of a model, without those of buckets; by their names without prefix."""
    lines = server.request("GET", "/metrics")[2].decode().splitlines()
    found = re.findall(rf'^\w+:(\w+){{(?!.*le=)(.*)model_name="{model}"}} (.*)$', "\n".join(lines), re.MULTILINE)
    return Counter({f"{name} {labels}".rstrip(", "): int(float(value)) for name, labels, value in found})


def added(after: Counter[str], before: Counter[str]) -> dict[str, float]:
    """By how much metrics have grown, without those that have not."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_metrics_count_texts_towards_a_suffix(both_ways: Running) -> None:
    before = counts_of(both_ways, "both")
    usage = both_ways.complete(prompt="The", suffix=" mat.", max_tokens=5, n=2, seed=1)["usage"]
    more = added(counts_of(both_ways, "both"), before)
    assert more["prompt_tokens_total"] == usage["prompt_tokens"]
    assert more["generation_tokens_total"] == usage["completion_tokens"]
    assert more["e2e_request_latency_seconds_count"] == 1
    assert sum(value for name, value in more.items() if name.startswith("request_success_total")) == 2


def test_metrics_tell_how_many_texts_towards_a_suffix_wait(both_ways: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    infill, gate = Infiller.infill, threading.Event()

    def held(*given: Any, **more: Any) -> Any:
        assert gate.wait(PATIENCE)
        return infill(*given, **more)

    monkeypatch.setattr(Infiller, "infill", held)
    before = counts_of(both_ways, "both")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(both_ways.open("/v1/completions", {"suffix": " mat.", "max_tokens": 1}))
        both_ways.wait(lambda: counts_of(both_ways, "both")["num_requests_waiting"] == 2)
        assert counts_of(both_ways, "both")["num_requests_running"] == 1
    both_ways.wait(lambda: counts_of(both_ways, "both")["abandoned_total"] - before["abandoned_total"] == 3)
    gate.set()
    both_ways.wait(lambda: counts_of(both_ways, "both")["num_requests_waiting"] == 0)
    assert counts_of(both_ways, "both")["num_requests_running"] == 0


@pytest.mark.parametrize(
    ("path", "asked", "tokens"),
    [
        ("/v1/embeddings", {"input": [PROMPT, "A"]}, len(PROMPT) + 1),
        ("/v1/states", {"prompt": PROMPT}, len(PROMPT)),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 1}, len(PROMPT)),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 1, "echo": True, "logprobs": 1}, len(PROMPT)),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 0, "return_state": True}, len(PROMPT)),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 0, "return_state": True, "stream": True}, len(PROMPT)),
    ],
)
def test_metrics_count_the_tokens_of_all_that_is_read(
    server: Running, path: str, asked: dict[str, Any], tokens: int
) -> None:
    before = counts_of(server, "tiny")
    if "stream" in asked:
        assert not any("error" in event for event in server.stream(path, asked))
    else:
        assert "error" not in server.post(path, asked)
    assert added(counts_of(server, "tiny"), before)["prompt_tokens_total"] == tokens


def loop_lag(server: Running) -> tuple[float, float]:
    """The number of heartbeats of the event loop, and by how many seconds they came late altogether."""
    lines = server.request("GET", "/metrics")[2].decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("textgen:event_loop_lag_seconds_"))
    return float(values["textgen:event_loop_lag_seconds_count"]), float(values["textgen:event_loop_lag_seconds_sum"])


def test_the_event_loop_is_not_held_up_by_64_streams(tiny_models: Path) -> None:
    with running(tiny_models, ServerConfig(port=0)) as server:
        server.wait(lambda: loop_lag(server)[0] > 0)
        beats, late = loop_lag(server)
        request = {"n": 64, "max_tokens": 2000, "min_tokens": 2000, "stream": True, "logprobs": 1}
        with server.reading("/v1/completions", request):  # the server gives up a client that does not read
            server.wait(lambda: server.engine.running == 64)
            server.wait(lambda: loop_lag(server)[0] >= beats + 5)
            assert server.engine.running > 0
        more, later = loop_lag(server)
        assert (later - late) / (more - beats) < 0.45  # seconds, on a machine that may be busy with other things


def test_a_client_that_reads_is_not_given_up_however_quick_the_model(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop, which writes each token as JSON, is slower than a small network: the network waits for it."""
    monkeypatch.setattr("textgen.server.writing.BACKLOG", 2048)
    with running(tiny_models, ServerConfig(port=0)) as server:
        events = server.stream("/v1/completions", {"n": 64, "max_tokens": 160, "min_tokens": 160, "logprobs": 5})
        ends = [choice["finish_reason"] for event in events for choice in event["choices"] if choice["finish_reason"]]
        assert ends == 64 * ["length"]

"""Many texts side by side: who is in the batch when, and that nobody notices."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import random_weights
from plain_fakes import TableModel, WordsTokenizer

from textgen.errors import TextgenError
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import Generation
from textgen.generation.generator import AHEAD, BATCH_SIZE, Generator
from textgen.generation.request import Request
from textgen.generation.row import TextRow, likeliest
from textgen.generation.stepping import PROMPT_WINDOW
from textgen.generation.text_state import TextState
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.probabilities import log_softmax
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.vocabulary import train_tokenizer

TOKENIZER = WordsTokenizer(["The", " cat", " c", "at", "\n\n", "。"])
V = TOKENIZER.vocab_size
CONFIG = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=40, seed=7)
PROMPTS = ["", "The c", "a", "床前明月光。", "The cat sat on the mat. " * 40, "x\ny", "The cat"]


def requests(number: int) -> Iterator[Request]:
    """Prompts and settings of all kinds."""
    kinds = itertools.cycle(
        [CONFIG, replace(CONFIG, max_tokens=3), replace(CONFIG, temperature=0.3), replace(CONFIG, stop=("e", "ab"))]
    )
    for seed, prompt, config in zip(range(number), itertools.cycle(PROMPTS), kinds, strict=False):
        yield Request(prompt, replace(config, seed=seed))


@pytest.fixture(scope="module")
def alone() -> list[Generation]:
    """Each text by itself."""
    generator = Generator(TableModel(V), TOKENIZER)
    return [next(generator.generate_requests([request])) for request in requests(70)]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, 200])
def test_a_text_depends_on_its_own_request_alone(batch_size: int, alone: list[Generation]) -> None:
    assert len({generation.text for generation in alone}) > 60
    generator = Generator(TableModel(V), TOKENIZER)
    assert list(generator.generate_requests(requests(70), batch_size=batch_size)) == alone
    for request, generation in zip(requests(70), alone, strict=True):
        assert "".join(generator.stream(request.prompt, request.config)) == generation.text


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_text_of_a_network_depends_on_its_own_request_alone(batch_size: int) -> None:
    config = ModelConfig(V, embedding_dim=24, hidden_units=40, num_layers=2)
    weights = random_weights(config, scale=0.6)
    generator = Generator(NumpyModel(config, weights), TOKENIZER)
    together = list(generator.generate_requests(requests(70), batch_size=batch_size))
    for request, generation in itertools.islice(zip(requests(70), together, strict=True), 0, None, 5):
        assert "".join(generator.stream(request.prompt, request.config)) == generation.text


def test_no_step_is_spent_on_finished_texts() -> None:
    model = TableModel(V)
    lengths = [3, 50, 10, 1, 50, 20]
    model.tables[:, :, TOKENIZER.eos_id] = -100.0
    generator = Generator(model, TOKENIZER)
    rows = [Request("", replace(CONFIG, max_tokens=length)) for length in lengths]
    assert [len(generation.ids) for generation in generator.generate_requests(rows)] == lengths
    assert sum(model.batch_sizes) == sum(lengths)
    assert model.batch_sizes == sorted(model.batch_sizes, reverse=True)


def unending() -> TableModel:
    """A model whose texts do not end by themselves."""
    model = TableModel(V)
    model.tables[:, :, TOKENIZER.eos_id] = -np.inf
    return model


LENGTHS = (1, 1, 1, 100, 1, 2, 1, 3) * 2


def of_lengths(lengths: Iterable[int]) -> Iterator[Request]:
    for seed, length in enumerate(lengths):
        yield Request(PROMPTS[seed % 3], replace(CONFIG, seed=seed, max_tokens=length, heal=False))


def test_texts_take_the_places_of_those_that_end() -> None:
    model = unending()
    generator = Generator(model, TOKENIZER)
    alone = [next(generator.generate_requests([request])) for request in of_lengths(LENGTHS)]
    model.batch_sizes.clear()
    assert list(generator.generate_requests(of_lengths(LENGTHS), batch_size=4)) == alone
    assert sum(model.batch_sizes) == sum(LENGTHS)
    assert len(model.batch_sizes) == 104  # the second long text begins in the fifth step
    assert model.batch_sizes[:7] == [4, 4, 4, 4, 4, 4, 3]


def test_prompts_are_read_in_groups() -> None:
    """Half a batch joins together, and the last texts as they are."""
    model = unending()
    lengths = [*range(1, 9), *[20] * 5]
    requests = (replace(request, prompt="ab") for request in of_lengths(lengths))
    assert len(list(Generator(model, TOKENIZER).generate_requests(requests, batch_size=8))) == 13
    assert model.read_sizes == [(8, 2), (4, 2), (1, 2)]


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_an_endless_source_is_read_only_so_far_ahead(batch_size: int) -> None:
    model, taken = unending(), list[Request]()

    def noted() -> Iterator[Request]:
        for request in of_lengths(itertools.cycle([100, *[1] * 30])):
            taken.append(request)
            yield request

    texts, ahead = Generator(model, TOKENIZER).generate_requests(noted(), batch_size=batch_size), list[int]()
    for number, generation in enumerate(itertools.islice(texts, 40)):
        assert generation.seed == number
        ahead.append(len(taken) - number)
    assert max(ahead) == {1: 1, 2: 8, 4: 16}[batch_size]


@pytest.mark.parametrize("failing", ["source", "prompt", "settings"])
def test_texts_that_have_begun_are_yielded_before_an_error(failing: str) -> None:
    bad = {"prompt": Request("\ud800", CONFIG), "settings": Request("", replace(CONFIG, no_copy=5))}

    def source() -> Iterator[Request]:
        yield from of_lengths([2, 9, 3, 12, 4])
        if failing == "source":
            raise OSError("gone")
        yield bad[failing]
        raise AssertionError("read on after an error")

    texts = Generator(unending(), TOKENIZER).generate_requests(source(), batch_size=4)
    assert [len(generation.ids) for generation in itertools.islice(texts, 4)] == [2, 9, 3, 12]
    with pytest.raises((OSError, TextgenError)):
        next(texts)


def test_time_begins_when_a_text_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clock = unending(), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    step = model.step

    def slow(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        clock[0] += 1.0
        return step(ids, state)

    monkeypatch.setattr(model, "step", slow)
    requests = (replace(each, config=replace(each.config, max_seconds=5.0)) for each in of_lengths([3, 9, 9, 2, 9]))
    texts = Generator(model, TOKENIZER).generate_requests(requests, batch_size=2)
    assert [len(generation.ids) for generation in texts] == [3, 5, 5, 2, 5]


def test_thousands_of_prompts_are_not_read_at_once() -> None:
    model = TableModel(V)
    taken = handed_out = 0

    def counted() -> Iterator[Request]:
        nonlocal taken
        for request in requests(2000):
            taken += 1
            yield replace(request, config=replace(request.config, max_tokens=14, heal=False))

    for generation in Generator(model, TOKENIZER).generate_requests(counted()):
        assert generation.seed == handed_out
        handed_out += 1
        assert taken - handed_out <= AHEAD * BATCH_SIZE
    assert handed_out == 2000
    assert max(model.batch_sizes) == BATCH_SIZE


def test_prompts_are_read_together_and_none_is_read_twice() -> None:
    model = TableModel(V)
    prompts = ["", "ab", "abc", "x" * (2 * PROMPT_WINDOW + 5), "abc"]
    config = replace(CONFIG, max_tokens=1)
    for prompt, generation in zip(prompts, Generator(model, TOKENIZER).generate(prompts, config), strict=True):
        read = [TOKENIZER.eos_id, *TOKENIZER.encode(prompt)]
        (logprob,) = (
            Generator(TableModel(V), TOKENIZER)
            .generate(prompt, replace(config, seed=generation.seed, top_logprobs=0))[0]
            .logprobs
            or ()
        )
        assert logprob == pytest.approx(model.log_probs(read)[generation.ids[0]], abs=1e-5)
    assert sum(rows * tokens for rows, tokens in model.read_sizes) == sum(map(len, prompts))
    assert max(tokens for _, tokens in model.read_sizes) <= PROMPT_WINDOW


def test_log_probabilities_are_those_of_the_model_before_any_setting() -> None:
    model = TableModel(V)
    config = replace(CONFIG, temperature=0.4, top_k=5)
    (generation,) = Generator(model, TOKENIZER).generate("The", replace(config, top_logprobs=3))
    read = [TOKENIZER.eos_id, *TOKENIZER.encode("The")]
    assert generation.logprobs is not None
    assert generation.top_logprobs is not None
    for id, logprob, top in zip(generation.ids, generation.logprobs, generation.top_logprobs, strict=True):
        expected = model.log_probs(read)
        assert logprob == pytest.approx(expected[id], abs=1e-5)
        assert [other for other, _ in top] == np.argsort(-expected)[:3].tolist()
        assert [value for _, value in top] == pytest.approx(np.sort(expected)[::-1][:3].tolist(), abs=1e-5)
        read.append(id)


def test_log_probabilities_change_nothing_in_the_text() -> None:
    generator = Generator(TableModel(V), TOKENIZER)
    plain = generator.generate(PROMPTS, CONFIG)
    assert [
        replace(g, logprobs=None, top_logprobs=None)
        for g in generator.generate(PROMPTS, replace(CONFIG, top_logprobs=2))
    ] == plain
    assert plain[0].logprobs is None


def test_likeliest_with_ties_and_more_than_there_are() -> None:
    assert likeliest(np.array([1.0, 3.0, 3.0, 2.0]), 2) == ((1, 3.0), (2, 3.0))
    assert [id for id, _ in likeliest(np.array([1.0, 3.0]), 9)] == [1, 0]
    assert likeliest(np.array([1.0]), 0) == ()
    assert np.exp(log_softmax(np.array([[1e4, 1e4]], np.float32))).tolist() == [[0.5, 0.5]]


def test_a_text_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    model = TableModel(V)
    model.tables[:, :, TOKENIZER.eos_id] = -100.0
    (generation,) = Generator(model, TOKENIZER).generate("", replace(CONFIG, max_tokens=1000, max_seconds=9.5))
    assert (generation.stop_reason, len(generation.ids)) == ("time", 10)


def test_threads_share_a_generator(alone: list[Generation]) -> None:
    generator = Generator(TableModel(V), TOKENIZER)
    results: dict[int, list[Generation]] = {}

    def write(number: int) -> None:
        results[number] = list(generator.generate_requests(requests(70), batch_size=8 + number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number] for number in range(4)] == [alone] * 4


@pytest.mark.parametrize(
    ("before", "prompt", "expected"),
    [
        ("", "", "the cat"),
        ("", "the", " the cat"),
        ("", "the ", "the cat"),
        ("", "the\n", "the cat"),
        ("on", "", " the cat"),
        ("on\n", "", "the cat"),
        ("on", "the", " the cat"),
    ],
)
def test_words_stand_apart_from_what_is_before_them(before: str, prompt: str, expected: str) -> None:
    words = train_tokenizer(["the cat sat on the mat\n" * 30], TokenizerConfig("word"))
    start = TextState((), (words.eos_id, *words.encode(before)))
    row = TextRow(prompt, SamplingConfig(max_tokens=2), words, start)
    assert "".join(row.append(id).text for id in words.encode("the cat")) == expected

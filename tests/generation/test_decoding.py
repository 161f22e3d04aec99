"""Many texts side by side: who is in the batch when, and that nobody notices."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from networks import random_weights
from plain_fakes import TableModel, WordsTokenizer

from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import Generation
from textgen.generation.generator import BATCH_SIZE, Generator
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


def test_thousands_of_prompts_are_taken_batch_by_batch() -> None:
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
        assert taken - handed_out <= BATCH_SIZE
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

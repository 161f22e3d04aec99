"""Networks that write together, against the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import random_weights
from plain_fakes import TableModel

from textgen.errors import SavedModelError
from textgen.evaluation.config import NeuralCacheConfig
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.ensemble_model import EnsembleModel, mean_logits
from textgen.generation.generator import Generator
from textgen.generation.neural_cache_model import NeuralCacheModel
from textgen.generation.request import Request
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.kinds import ByteTokenizer

VOCAB = 5
SIZE = ByteTokenizer().vocab_size

one_logit = st.floats(-300, 300, width=32)
several_logits = st.lists(
    st.lists(st.lists(one_logit, min_size=VOCAB, max_size=VOCAB), min_size=2, max_size=2), min_size=1, max_size=4
)


def log_softmax(logits: Any) -> np.ndarray:
    exact = np.asarray(logits, np.float64)
    return exact - np.logaddexp.reduce(exact, axis=-1, keepdims=True)


def log_mean(logits: Sequence[Any]) -> np.ndarray:
    """The log of the mean of the probabilities, float64."""
    return np.logaddexp.reduce([log_softmax(each) for each in logits], axis=0) - np.log(len(logits))


@given(several_logits)
def test_logits_are_the_log_of_the_mean_and_a_shift(given_logits: list[Any]) -> None:
    logits = [np.array(each, np.float32) for each in given_logits]
    found = mean_logits(logits)
    assert found.dtype == np.float32
    totals = logits[0] - log_softmax(logits[0])
    np.testing.assert_allclose(found, log_mean(logits) + totals, rtol=1e-6, atol=1e-4)


@given(several_logits)
def test_their_order_changes_nothing_but_the_shift(given_logits: list[Any]) -> None:
    logits = [np.array(each, np.float32) for each in given_logits]
    expected = log_softmax(mean_logits(logits))
    for order in permutations(logits):
        np.testing.assert_allclose(log_softmax(mean_logits(order)), expected, rtol=1e-6, atol=2e-4)


@given(st.lists(st.lists(one_logit, min_size=VOCAB, max_size=VOCAB), min_size=1, max_size=3), st.integers(1, 5))
def test_equal_models_change_no_bit(rows: list[Any], number: int) -> None:
    logits = np.array(rows, np.float32)
    np.testing.assert_array_equal(mean_logits([logits] * number), logits)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error_of_the_model(number: float) -> None:
    damaged = np.array([[0.0, number]], np.float32)
    with pytest.raises(SavedModelError, match="not finite"):
        mean_logits([np.zeros((1, 2), np.float32), damaged])


# === Writing ===


@pytest.fixture(scope="module")
def networks() -> list[NumpyModel]:
    """Of one vocabulary, but of different size."""
    configs = [ModelConfig(SIZE, embedding_dim=6, hidden_units=units) for units in (8, 5)]
    return [NumpyModel(config, random_weights(config, seed)) for seed, config in enumerate(configs)]


def test_reading_and_stepping_are_those_of_the_networks(networks: list[NumpyModel]) -> None:
    ids = np.random.default_rng(5).integers(0, 9, (2, 12)).astype(np.int32)
    model = EnsembleModel(networks)
    state, steps = model.read(ids[:, :5], model.initial_state(2)), []
    for t in range(5, 12):
        logits, state = model.step(ids[:, t], state)
        steps.append(log_softmax(logits))
    of_each = []
    for network in networks:
        features, _ = network.features(ids, network.initial_state(2))
        of_each.append(network.logits(features)[:, 5:])
    np.testing.assert_allclose(np.stack(steps, axis=1), log_mean(of_each), atol=1e-5)


@pytest.mark.parametrize("repeat_penalty", [1.0, 1.3])
def test_a_network_with_itself_writes_what_it_writes_alone(networks: list[NumpyModel], repeat_penalty: float) -> None:
    settings = SamplingConfig(seed=1, max_tokens=40, repeat_penalty=repeat_penalty)
    texts = [
        Generator(model, ByteTokenizer()).generate(["ab", "Some words"], settings)
        for model in (networks[0], EnsembleModel([networks[0]] * 3))
    ]
    assert [text.ids for text in texts[0]] == [text.ids for text in texts[1]]


def test_a_network_that_is_named_twice_counts_twice() -> None:
    one, other = TableModel(SIZE, 1), TableModel(SIZE, 2)
    model = EnsembleModel([one, other, one])
    logits, _ = model.step(np.array([7], np.int32), model.initial_state(1))
    expected = np.log((2 * np.exp(one.log_probs([7])) + np.exp(other.log_probs([7]))) / 3)
    np.testing.assert_allclose(log_softmax(logits)[0], expected, atol=1e-5)


def test_texts_that_join_and_leave_a_batch_are_those_written_alone() -> None:
    """Two at a time, of different lengths: the states of both networks go with their text."""
    prompts = ["abab", "Some words", "", "x", "A longer one."]
    generator = Generator(EnsembleModel([TableModel(SIZE, 1), TableModel(SIZE, 2)]), ByteTokenizer())
    requests = [
        Request(prompt, SamplingConfig(seed=number, max_tokens=6 + number, heal=False))
        for number, prompt in enumerate(prompts)
    ]
    together = list(generator.generate_requests(requests, batch_size=2))
    alone = [text for request in requests for text in generator.generate_requests([request])]
    assert [text.ids for text in together] == [text.ids for text in alone]
    assert len({text.ids for text in alone}) == len(prompts)


def test_the_likeliest_texts_have_the_mean_of_the_probabilities() -> None:
    models = [TableModel(SIZE, 1), TableModel(SIZE, 2)]
    generator = Generator(EnsembleModel(models), ByteTokenizer())
    (text,) = generator.search("ab", SamplingConfig(max_tokens=4, heal=False), SearchConfig(num_beams=1))
    before = [ByteTokenizer().eos_id, *ByteTokenizer().encode("ab")]
    found = []
    for place, id in enumerate(text.ids):
        read = [*before, *text.ids[:place]]
        found.append(log_mean([model.log_probs(read) for model in models])[id])
    assert text.logprobs is not None
    np.testing.assert_allclose(text.logprobs, found, atol=1e-5)


def test_each_network_may_have_a_neural_cache(networks: list[NumpyModel]) -> None:
    """The mean is that of the mixed probabilities, and the shift is that of the first network."""
    cached = [NeuralCacheModel(network, NeuralCacheConfig(neural_cache_lambda=0.4)) for network in networks]
    ids = np.random.default_rng(2).integers(0, 9, (2, 9)).astype(np.int32)
    ensemble, of_each = EnsembleModel(cached), []
    logits, _ = ensemble.step(ids[:, 8], ensemble.read(ids[:, :8], ensemble.initial_state(2)))
    for model in cached:
        own, _ = model.step(ids[:, 8], model.read(ids[:, :8], model.initial_state(2)))
        of_each.append(own)
    features, _ = networks[0].features(ids, networks[0].initial_state(2))
    plain = networks[0].logits(features[:, 8])
    np.testing.assert_allclose(logits, log_mean(of_each) + (plain - log_softmax(plain)), atol=1e-5)

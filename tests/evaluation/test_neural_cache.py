"""The neural cache against its equations, one pair after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import random_weights

from textgen.evaluation.config import NeuralCacheConfig
from textgen.evaluation.neural_cache import NeuralCache
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.neural_cache_model import NeuralCacheModel
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.kinds import ByteTokenizer

VOCAB = 7


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def stated(config: NeuralCacheConfig, ids: np.ndarray, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """p [T, V] of one text as the paper has it: ids [T], features [T, E] and logits [T, V] after each."""
    p = np.exp(log_softmax(logits))
    for t in range(1, len(ids)):
        p_cache = np.zeros(VOCAB)
        for i in range(max(0, t - config.neural_cache_window), t):
            p_cache[ids[i + 1]] += np.exp(config.neural_cache_theta * features[t] @ features[i])
        p[t] = (1 - config.neural_cache_lambda) * p[t] + config.neural_cache_lambda * p_cache / p_cache.sum()
    return p


def some_text(rows: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, VOCAB, (rows, length)).astype(np.int32)
    return ids, rng.normal(size=(rows, length, 4)).astype(np.float32), rng.normal(size=(rows, length, VOCAB))


configs = st.builds(
    NeuralCacheConfig,
    neural_cache_window=st.integers(1, 9),
    neural_cache_theta=st.floats(0, 3),
    neural_cache_lambda=st.floats(0, 0.99),
)


@given(configs, st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_windows_of_any_length_are_the_paper_s_equations(config: NeuralCacheConfig, lengths: list[int]) -> None:
    ids, features, logits = some_text(rows=2, length=sum(lengths) + 1)
    targets, inputs = ids[:, 1:], ids[:, :-1]
    nats = -np.take_along_axis(log_softmax(logits[:, :-1]), targets[:, :, None], axis=-1)[:, :, 0]
    cache, start, losses = NeuralCache(config), 0, []
    memory = cache.initial_memory(2, 4)
    for length in lengths:
        part = slice(start, start + length)
        window = inputs[:, part], features[:, part]
        losses.append(cache.token_losses(memory, *window, targets[:, part], nats[:, part]))
        memory, start = cache.remember(memory, *window), start + length
        assert memory[0].shape == (2, config.neural_cache_window, 4)  # never more, however much is read
    for row in range(2):
        p = stated(config, inputs[row], features[row], logits[row, :-1])
        expected = -np.log(p[np.arange(start), targets[row]])
        np.testing.assert_allclose(np.concatenate(losses, axis=1)[row], expected, atol=1e-5)


@given(configs)
def test_all_pieces_of_a_step_are_the_paper_s_equations(config: NeuralCacheConfig) -> None:
    ids, features, logits = some_text(rows=2, length=12)
    cache = NeuralCache(config)
    memory, steps = cache.initial_memory(2, 4), []
    for t in range(12):
        steps.append(cache.log_probs(memory, ids[:, t], features[:, t], logits[:, t]))
        memory = cache.remember(memory, ids[:, t : t + 1], features[:, t : t + 1])
    for row in range(2):
        expected = np.log(stated(config, ids[row], features[row], logits[row]))
        np.testing.assert_allclose(np.stack(steps)[:, row], expected, atol=1e-5)


def test_an_impossible_piece_becomes_possible_once_it_has_come() -> None:
    """No warning, no NaN: the network rules out 5, the cache has seen it."""
    cache = NeuralCache(NeuralCacheConfig(neural_cache_lambda=0.5))
    memory = cache.remember(cache.initial_memory(1, 4), np.array([[1, 5]], np.int32), np.zeros((1, 2, 4), np.float32))
    logits = np.where(np.arange(VOCAB) == 5, -np.inf, 0.0)[None]
    log_p = cache.log_probs(memory, np.array([6], np.int32), np.ones((1, 4), np.float32), logits)
    np.testing.assert_allclose(np.exp(log_p[0]), [1 / 12] * 5 + [1 / 4, 1 / 12 + 1 / 4], rtol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    cache = NeuralCache(NeuralCacheConfig(neural_cache_theta=100.0))
    features = np.full((1, 3, 4), 1e3, np.float32)
    inputs, targets = np.array([[1, 2, 3]], np.int32), np.array([[2, 3, 2]], np.int32)
    nats = cache.token_losses(cache.initial_memory(1, 4), inputs, features, targets, np.ones((1, 3)))
    p = np.exp(-1.0)
    np.testing.assert_allclose(nats, [-np.log([p, 0.9 * p, 0.9 * p + 0.1 / 2])], rtol=1e-6)


# === Writing ===

CONFIG = ModelConfig(ByteTokenizer().vocab_size, embedding_dim=6, hidden_units=8)


@pytest.fixture(scope="module")
def network() -> NumpyModel:
    return NumpyModel(CONFIG, random_weights(CONFIG))


def test_reading_and_stepping_are_the_paper_s_equations(network: NumpyModel) -> None:
    """A prompt read as a whole, then piece by piece; the network's own calls are the oracle."""
    config = NeuralCacheConfig(neural_cache_window=6, neural_cache_theta=0.8, neural_cache_lambda=0.4)
    ids = np.random.default_rng(5).integers(0, 9, (2, 12)).astype(np.int32)
    model = NeuralCacheModel(network, config)
    state, steps = model.read(ids[:, :5], model.initial_state(2)), []
    for t in range(5, 12):
        logits, state = model.step(ids[:, t], state)
        steps.append(log_softmax(logits))
    features, _ = network.features(ids, network.initial_state(2))
    cache = NeuralCache(config)
    memory = cache.initial_memory(2, 6)
    for t in range(12):
        expected = cache.log_probs(memory, ids[:, t], features[:, t], network.logits(features[:, t]))
        memory = cache.remember(memory, ids[:, t : t + 1], features[:, t : t + 1])
        if t >= 5:
            np.testing.assert_allclose(steps[t - 5], expected, atol=1e-5)


@pytest.mark.parametrize("repeat_penalty", [1.0, 1.3, 3.0])
def test_a_cache_of_lambda_0_writes_what_the_network_writes(network: NumpyModel, repeat_penalty: float) -> None:
    settings = SamplingConfig(seed=1, max_tokens=40, repeat_penalty=repeat_penalty)
    texts = [
        Generator(model, ByteTokenizer()).generate(["ab", "Some words"], settings)
        for model in (network, NeuralCacheModel(network, NeuralCacheConfig(neural_cache_lambda=0.0)))
    ]
    assert [text.ids for text in texts[0]] == [text.ids for text in texts[1]]


def test_a_cache_of_lambda_0_leaves_the_logits_as_they_are(network: NumpyModel) -> None:
    ids = np.array([5, 7], np.int32)
    model = NeuralCacheModel(network, NeuralCacheConfig(neural_cache_lambda=0.0))
    logits, _ = model.step(ids, model.initial_state(2))
    expected, _ = network.step(ids, network.initial_state(2))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert logits.dtype == np.float32
    assert (logits > 0).any()


def test_each_text_of_a_batch_has_its_own_cache(network: NumpyModel) -> None:
    """And each writes what it writes alone, with a sampler that leaves pieces out and looks back."""
    settings = SamplingConfig(seed=1, max_tokens=40, top_p=0.9, repeat_penalty=1.1)
    generator = Generator(NeuralCacheModel(network, NeuralCacheConfig(neural_cache_lambda=0.5)), ByteTokenizer())
    together = generator.generate(["abab", "Some words", ""], settings)
    for number, prompt in enumerate(["abab", "Some words", ""]):
        (alone,) = generator.generate(prompt, SamplingConfig(**{**vars(settings), "seed": 1 + number}))
        assert alone.ids == together[number].ids


def test_what_came_comes_again(network: NumpyModel) -> None:
    """With nearly all of the probability in the cache, nothing is drawn that the prompt does not hold."""
    generator = Generator(
        NeuralCacheModel(network, NeuralCacheConfig(neural_cache_theta=0.0, neural_cache_lambda=0.999)), ByteTokenizer()
    )
    (result,) = generator.generate("abcabc", SamplingConfig(seed=1, max_tokens=30))
    assert set(result.text) <= set("abc")
    assert len(set(result.text)) > 1

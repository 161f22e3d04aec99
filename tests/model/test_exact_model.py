"""The network in exact arithmetic: near the ordinary one, and the same bits in every batch."""

from __future__ import annotations

import numpy as np
import pytest
from exact_models import KINDS, both_models, config_of, integers_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import random_weights

from textgen.generation.text_state import join, pick
from textgen.model.config import ModelConfig
from textgen.model.exact_model import EXACT_SUM, ExactMatrix, ExactModel, Product, integers
from textgen.model.probabilities import log_softmax

IDS = np.random.default_rng(1).integers(0, 30, (64, 20)).astype(np.int32)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_the_ordinary_network(kind: str) -> None:
    exact, ordinary = both_models(kind)
    features, state = exact.features(IDS, exact.initial_state(64))
    expected_features, expected_state = ordinary.features(IDS, ordinary.initial_state(64))
    log_p, expected = log_softmax(exact.logits(features)), log_softmax(ordinary.logits(expected_features))
    divergence = (np.exp(expected) * (expected - log_p)).sum(axis=-1)
    assert divergence.mean() < 1e-5, divergence.mean()
    assert (log_p.argmax(-1) == expected.argmax(-1)).mean() > 0.98
    layers = exact.weights.config.num_layers  # after which comes the state of attention, of another form
    for own, other in zip(state[:layers], expected_state, strict=False):
        assert [array.dtype for array in own] == [np.float64] * len(other)
        for array, expected_array in zip(own, other, strict=True):
            assert np.abs(array - expected_array).max() < 0.01 * max(1.0, np.abs(expected_array).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_in_every_batch(kind: str) -> None:
    model, _ = both_models(kind)
    features, state = model.features(IDS, model.initial_state(64))
    logits = model.logits(features)
    for rows in ([5], [9, 3, 0, 63, 40, 2, 5], list(range(64))):
        own, own_state = model.features(IDS[rows], model.initial_state(len(rows)))
        assert np.array_equal(model.logits(own), logits[rows])
        assert same_bits(own_state, pick(state, rows))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_however_texts_are_read_and_join_and_leave(kind: str) -> None:
    model, _ = both_models(kind)
    _, expected = model.features(IDS[:9], model.initial_state(9))
    first = model.read(IDS[:4, :7], model.initial_state(4))
    second = model.read(IDS[4:9, :3], model.initial_state(5))
    for at in range(3, 7):
        _, second = model.step(IDS[4:9, at], second)
    both = join([second, first])
    order = [*range(4, 9), *range(4)]
    both = model.read(IDS[order, 7:12], both)
    kept = [8, 2, 0]
    state = model.read(IDS[[order[row] for row in kept], 12:], pick(both, kept))
    assert same_bits(state, pick(expected, [order[row] for row in kept]))


def same_bits(one: object, other: object) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return all(same_bits(*parts) for parts in zip(one, other, strict=True))
    return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.tobytes() == other.tobytes()


ENTRIES = st.integers(-128, 127)
MATRICES = arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=ENTRIES)


@given(MATRICES, st.integers(1, 50), st.randoms(use_true_random=False))
def test_no_sum_leaves_the_range_where_float32_is_exact(tile: np.ndarray, times: int, random: object) -> None:
    matrix = ExactMatrix(np.tile(tile, (1, times * 16)), np.ones(len(tile), np.float32))
    wide = matrix.integers.astype(np.int64)
    worst = np.sign(wide) * matrix.levels  # the input that makes the sum of a row largest
    sums = worst @ wide.T
    assert np.abs(sums).max() <= EXACT_SUM
    found = worst.astype(np.float32) @ matrix.integers.astype(np.float32).T
    assert np.array_equal(found, sums)


@pytest.mark.parametrize(("rows", "levels"), [(1, 32767), (1 << 15, 4), (0, 32767)])
def test_levels_at_the_ends(rows: int, levels: int) -> None:
    matrix = ExactMatrix(np.full((2, max(rows, 1)), -128 if rows else 0, np.int8), np.ones(2, np.float32))
    assert matrix.levels == min(levels, EXACT_SUM // max(128 * rows, 1))


def test_products_against_integers_of_python() -> None:
    rng = np.random.default_rng(0)
    matrix = ExactMatrix(rng.integers(-127, 128, (5, 33)).astype(np.int8), rng.random(5).astype(np.float32))
    x = rng.uniform(-1, 1, (3, 33))
    k, scales = matrix.levels, matrix.scales.astype(np.float64).tolist()
    for bound, bias in ((1.0, None), (0.7, None), (None, None), (None, rng.random(5).astype(np.float32))):
        found = Product(matrix, bound, bias)(x)
        for row, values in enumerate(x.tolist()):
            largest = max(map(abs, values))
            within = [value / (largest if bound is None else bound) for value in values]
            q = [max(-k, min(k, int(np.floor(value * k + 0.5)))) for value in within]
            for out, weights in enumerate(matrix.integers.tolist()):
                total = sum(a * b for a, b in zip(q, weights, strict=True))
                expected = total * ((scales[out] * (bound or 1.0)) / k)
                expected = expected * largest if bound is None else expected
                assert found[row, out] == (expected if bias is None else expected + float(bias[out]))


def test_inputs_beyond_the_bound_count_as_the_bound() -> None:
    assert integers(np.array([-1.5, -1.0, -0.0, 0.5, 1 + 1e-15, 2.0]), 100).tolist() == [-100, -100, 0, 50, 100, 100]


def test_a_vector_of_zeros_has_a_product() -> None:
    matrix = ExactMatrix(np.ones((2, 3), np.int8), np.ones(2, np.float32))
    assert Product(matrix, None, np.array([1.0, 2.0], np.float32))(np.zeros((1, 3))).tolist() == [[1.0, 2.0]]


def test_an_embedding_of_zeros() -> None:
    config = ModelConfig(5, embedding_dim=3, hidden_units=3, num_layers=1)
    weights = {name: np.zeros_like(array) for name, array in random_weights(config).items()}
    model = ExactModel(integers_of(config, weights))
    logits, _ = model.step(np.array([1], np.int32), model.initial_state(1))
    assert logits.tolist() == [[0.0] * 5]


GOLDEN = {  # as every implementation has to compute them
    "lstm": ["-0x1.0e59303f5c0b7p-2", "0x1.91bd9255bb258p-8", "0x1.2c13f5ee47bcap-2", "-0x1.94d1aeadc779cp-3"],
    "gru": ["-0x1.03bf9c377c9b6p-1", "0x1.a116e3aca1ab2p-1", "0x1.c136a537a9d8bp-1", "-0x1.69c893b2114cep-1"],
    "peephole": ["-0x1.0dd010adacd44p-2", "0x1.3c527a5161904p-7", "0x1.2f7b1d85cf54ap-2", "-0x1.9b8eff8cb2abap-3"],
    "mogrifier": ["-0x1.0e156de4bc044p-2", "0x1.c31a0e07faa18p-8", "0x1.2c7fe90c4618ap-2", "-0x1.9656056e6deabp-3"],
    "layer norm": ["-0x1.d9c095c462ee1p-3", "0x1.6a444d4d06c94p-4", "0x1.68ada29c9b9a8p-3", "-0x1.d162607f01448p-3"],
    "attention": ["-0x1.0a2b85ca877cep-2", "-0x1.a9a08109261e8p-7", "0x1.289ef53d2e4edp-2", "-0x1.86ff645c6738dp-3"],
    "all of it": ["-0x1.a2ce6c1b41761p-3", "-0x1.3399a1962e6d5p-4", "0x1.95d992bcd2068p-4", "-0x1.6b28843f94411p-3"],
}


def test_bits() -> None:
    """Numbers that every implementation has to compute: logits of the first tokens, from weights made here."""
    for kind, expected in GOLDEN.items():
        config = config_of(kind)
        shapes = config.weight_shapes()
        weights = {
            name: (np.arange(int(np.prod(shape))) * 37 % 101 / 256 - 50 / 256).reshape(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        model = ExactModel(integers_of(config, weights))
        state = model.initial_state(1)
        for id in (3, 1, 4, 1, 5, 9, 2, 6):
            logits, state = model.step(np.array([id], np.int32), state)
        assert [float(value).hex() for value in logits[0, :4]] == expected, kind

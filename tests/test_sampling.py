from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.config import SamplingConfig
from textgen.sampling import ORDER, TRANSFORMS, Sampler, draw, row_generator, settings_of, transform

EPS = 1e-5  # float32 may fall on either side of a border this near
SHARES = (0.0, 1e-6, 0.05, 0.3, 0.5, 0.9, 0.99, 1.0)
EDGES: dict[str, Sequence[float]] = {
    "top_k": (0, 1, 2, 3, 7, 100),
    "top_p": SHARES,
    "min_p": SHARES,
    "temperature": (0.0, 1e-9, 0.1, 0.8, 1.0, 2.0, 100.0),
}
LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))


@st.composite
def batches(draw: Callable[[Any], Any]) -> np.ndarray:
    """Logits [B, V] in steps of a half, so with many ties; some pieces are impossible, but not all."""
    rows, size = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    halves = st.integers(-16, 16).map(lambda n: n / 2)
    row = st.lists(halves | st.just(-math.inf), min_size=size, max_size=size)
    row = row.filter(lambda values: max(values) > -math.inf)
    return np.array(draw(st.lists(row, min_size=rows, max_size=rows)), np.float32)


def column(values: Sequence[float], name: str) -> np.ndarray:
    return np.array(values, np.int32 if name == "top_k" else np.float32)[:, None]


def drawn_settings(data: st.DataObject, name: str, rows: int) -> np.ndarray:
    """Settings [B, 1], a row its own."""
    values = st.sampled_from(EDGES[name])
    return column(data.draw(st.lists(values, min_size=rows, max_size=rows)), name)


def softmax(row: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def kept_by_top_k(row: list[float], k: int) -> set[int]:
    if k == 0 or k >= len(row):
        return possible(row)
    last = sorted(row, reverse=True)[k - 1]
    return {i for i, value in enumerate(row) if value >= last} & possible(row)


def kept_by_top_p(row: list[float], p: float) -> set[int]:
    if p >= 1:
        return possible(row)
    probabilities, held = softmax(row), 0.0
    for i in sorted(range(len(row)), key=lambda i: -row[i]):
        held += probabilities[i]
        if held >= p:
            break
    return {j for j, value in enumerate(row) if value >= row[i]} & possible(row)


def kept_by_min_p(row: list[float], p: float) -> set[int]:
    likeliest = max(softmax(row))
    return {i for i, q in enumerate(softmax(row)) if q >= p * likeliest} & possible(row)


def possible(row: Sequence[float]) -> set[int]:
    return {i for i, value in enumerate(row) if value > -math.inf}


def kept_values(before: np.ndarray, after: np.ndarray) -> list[set[int]]:
    """The pieces left in each row; what is left must be as it was."""
    assert after.shape == before.shape
    kept = after > -np.inf
    np.testing.assert_array_equal(after[kept], before[kept])
    return [set(np.flatnonzero(row).tolist()) for row in kept]


@given(st.data(), batches())
@settings(deadline=None)
def test_top_k_keeps_the_k_likeliest_and_ties(data: st.DataObject, logits: np.ndarray) -> None:
    k = drawn_settings(data, "top_k", len(logits))
    left = kept_values(logits, TRANSFORMS["top_k"](logits, k))
    assert left == [kept_by_top_k(row, int(n)) for row, n in zip(logits.tolist(), k[:, 0], strict=True)]


@given(st.data(), batches())
@settings(deadline=None)
def test_top_p_keeps_the_fewest_that_hold_p_and_ties(data: st.DataObject, logits: np.ndarray) -> None:
    p = drawn_settings(data, "top_p", len(logits))
    left = kept_values(logits, TRANSFORMS["top_p"](logits, p))
    for row, kept, share in zip(logits.tolist(), left, p[:, 0].tolist(), strict=True):
        assert kept_by_top_p(row, min(share - EPS, 1 - EPS)) <= kept <= kept_by_top_p(row, share + EPS)
        assert row.index(max(row)) in kept
        if share >= 1:
            assert kept == possible(row)


@given(st.data(), batches())
@settings(deadline=None)
def test_min_p_keeps_all_that_are_likely_enough(data: st.DataObject, logits: np.ndarray) -> None:
    p = drawn_settings(data, "min_p", len(logits))
    left = kept_values(logits, TRANSFORMS["min_p"](logits, p))
    for row, kept, share in zip(logits.tolist(), left, p[:, 0].tolist(), strict=True):
        assert kept_by_min_p(row, min(share * (1 + EPS), 1)) <= kept <= kept_by_min_p(row, share * (1 - EPS))
        assert row.index(max(row)) in kept


@given(st.data(), batches())
@settings(deadline=None)
def test_temperature_divides_and_zero_is_argmax(data: st.DataObject, logits: np.ndarray) -> None:
    t = drawn_settings(data, "temperature", len(logits))
    after = TRANSFORMS["temperature"](logits, t)
    assert after.dtype == np.float32
    for row, result, degrees in zip(logits.tolist(), after.tolist(), t[:, 0].tolist(), strict=True):
        if degrees == 0:
            assert possible(result) == {row.index(max(row))}  # the first of ties
        else:
            assert result == pytest.approx([value / max(degrees, 1e-6) for value in row], rel=1e-6)


@given(st.data(), batches())
@settings(deadline=None)
def test_a_row_does_not_depend_on_the_others(data: st.DataObject, logits: np.ndarray) -> None:
    values = {name: drawn_settings(data, name, len(logits)) for name in ORDER}
    together = transform(logits, values)
    for row in range(len(logits)):
        own = {name: value[row : row + 1] for name, value in values.items()}
        np.testing.assert_array_equal(transform(logits[row : row + 1], own)[0], together[row])


def test_transforms_by_hand() -> None:
    """Of 0.1, 0.4, 0.2 and 0.3."""

    def kept(**values: float) -> list[int]:
        after = transform(LOGITS, {name: column([value], name) for name, value in values.items()})
        return np.flatnonzero(after[0] > -np.inf).tolist()

    assert kept(top_k=2) == [1, 3]
    assert kept(top_k=3) == [1, 2, 3]
    assert kept(top_p=0.39) == [1]
    assert kept(top_p=0.41) == [1, 3]
    assert kept(top_p=0.71) == [1, 2, 3]
    assert kept(top_p=0.0) == [1]
    assert kept(min_p=0.74) == [1, 3]
    assert kept(min_p=0.76) == [1]
    assert kept(min_p=1.0) == [1]
    assert kept(temperature=0.0) == [1]
    assert kept(temperature=5.0) == kept() == [0, 1, 2, 3]
    # Truncation goes by the model's own probabilities, however hot the draw.
    assert kept(min_p=0.76, temperature=100.0) == [1]
    # top_p looks at what top_k has left: 0.4 and 0.3 of 0.7, of which 0.4 is 57 %.
    assert kept(top_k=2, top_p=0.56) == [1]


@pytest.mark.parametrize(
    ("uniform", "piece"),
    [
        (0.0, 1), (0.0999, 1), (0.1001, 2), (0.4999, 2), (0.5001, 4), (0.8, 4), (math.nextafter(1, 0), 4),
    ],
)  # fmt: skip
def test_draw_exact(uniform: float, piece: int) -> None:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[0.0, 0.1, 0.4, 0.0, 0.5, 0.0]], np.float32))
    assert draw(logits, np.array([uniform])).tolist() == [piece]


@given(batches(), st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4))
@settings(deadline=None)
def test_draw_never_takes_the_impossible(logits: np.ndarray, uniforms: list[float]) -> None:
    for wanted in (uniforms[: len(logits)], [0.0] * len(logits), [math.nextafter(1, 0)] * len(logits)):
        ids = draw(logits, np.array(wanted))
        assert ids.shape == (len(logits),)
        for row, piece in zip(logits, ids.tolist(), strict=True):
            assert 0 <= piece < len(row)
            assert row[piece] > -np.inf


def test_draw_reaches_the_last_of_very_many_pieces() -> None:
    """64,000 float32 probabilities do not add up to 1."""
    size = 64_000
    logits = np.random.default_rng(0).normal(0, 1, (3, size)).astype(np.float32)
    logits[:, -10:] = -np.inf
    uniforms = np.array([0.0, 0.5, math.nextafter(1, 0)])
    first, middle, last = draw(logits, uniforms).tolist()
    assert (first, last) == (0, size - 11)
    assert abs(middle - size / 2) < size / 50


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"top_k": 3}, {"min_p": 0.1}], ids=str)
def test_frequencies_are_those_of_softmax(settings: dict[str, float]) -> None:
    draws = 20_000
    logits = np.array([[0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.0, -np.inf]], np.float32)
    logits = transform(logits, {name: column([value], name) for name, value in settings.items()})
    uniforms = row_generator(1).random(draws)
    ids = draw(np.repeat(logits, draws, axis=0), uniforms)
    counts = np.bincount(ids, minlength=logits.shape[-1])
    expected = draws * np.array(softmax(logits[0].tolist()))
    assert not counts[expected == 0].any()
    counts, expected = counts[expected > 0], expected[expected > 0]
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 24.3  # of 7 or fewer free numbers, exceeded by chance once in 1000


def test_temperature_zero_draws_the_first_of_ties() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    after = transform(logits, {"temperature": column([0.0, 0.0], "temperature")})
    for uniform in (0.0, 0.5, math.nextafter(1, 0)):
        assert draw(after, np.full(2, uniform)).tolist() == [1, 0]


def test_settings_of_names_only_what_some_row_uses() -> None:
    plain = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
    assert settings_of([plain, plain]) == {}
    mixed = settings_of([plain, replace(plain, top_k=5, temperature=0.0)])
    assert list(mixed) == ["top_k", "temperature"]
    assert mixed["top_k"].tolist() == [[0], [5]]
    assert mixed["top_k"].dtype == np.int32
    assert mixed["temperature"].tolist() == [[1.0], [0.0]]
    assert mixed["temperature"].dtype == np.float32


@given(batches())
@settings(deadline=None)
def test_settings_that_are_off_change_nothing(logits: np.ndarray) -> None:
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}
    values = {name: column([value] * len(logits), name) for name, value in off.items()}
    np.testing.assert_array_equal(transform(logits, values), logits)


def test_row_generator_is_a_function_of_its_seed() -> None:
    whole = row_generator(7).random(100)
    parts = row_generator(7)
    np.testing.assert_array_equal(np.concatenate([parts.random(n) for n in (1, 4, 32, 63)]), whole)
    assert not np.array_equal(row_generator(8).random(100), whole)
    row_generator((1 << 63) - 1).random()


def test_a_sampler_draws_by_the_settings_and_the_seed_of_each_row() -> None:
    configs = [SamplingConfig(seed=1), SamplingConfig(seed=2, temperature=0.0), SamplingConfig(seed=1)]
    banned = np.array([-np.inf, 0, 0, 0, 0], np.float32)
    sampler = Sampler(configs, banned)
    logits = np.array([[9.0, 1.0, 0.5, 0.0, 0.7]], np.float32).repeat(3, axis=0)
    drawn = np.array([sampler.draw(logits, [True] * 3) for _ in range(100)])
    alone = Sampler(configs[:1], banned)
    assert drawn[:, 0].tolist() == [alone.draw(logits[:1], [True])[0] for _ in range(100)]
    assert set(drawn[:, 0]) == {1, 2, 3, 4}
    assert set(drawn[:, 1]) == {1}
    np.testing.assert_array_equal(drawn[:, 2], drawn[:, 0])


def test_a_row_that_is_not_wanted_uses_up_no_random_number() -> None:
    logits = np.zeros((1, 50), np.float32)
    steady, waiting = (Sampler([SamplingConfig(seed=4)], np.zeros(50, np.float32)) for _ in range(2))
    for _ in range(5):
        waiting.draw(logits, [False])
    assert [steady.draw(logits, [True])[0] for _ in range(20)] == [waiting.draw(logits, [True])[0] for _ in range(20)]

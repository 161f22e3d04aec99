from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import batches, column, random_logits, softmax

from textgen.generation.config import SamplingConfig
from textgen.generation.sampling.logit_filters import (
    GROUPS,
    Candidates,
    draw_plainly,
    inverse_cdf,
    mirostat,
    surprisal_bits,
    temperature,
    top_k,
    xtc,
)
from textgen.generation.sampling.sampler_chain import active_samplers, draw, transform
from textgen.generation.sampling.sampler_settings import TRANSFORMS, settings_of

EPS = 1e-5  # float32 may fall on either side of a border this near
FRACTIONS = (0.0, 1e-6, 0.05, 0.3, 0.5, 0.9, 0.99, 1.0)
EDGES: dict[str, Sequence[float]] = {
    "top_n_sigma": (0.0, 1e-3, 0.5, 1.0, 2.0, 100.0),
    "top_k": (0, 1, 2, 3, 7, 100),
    "typical_p": FRACTIONS,
    "top_p": FRACTIONS,
    "min_p": FRACTIONS,
    "epsilon_cutoff": FRACTIONS,
    "eta_cutoff": FRACTIONS,
    "temperature": (0.0, 1e-9, 0.1, 0.8, 1.0, 2.0, 100.0),
}
OF_ONE_SETTING = [name for name in EDGES if name != "temperature"]  # what leaves pieces out by one number
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0, "typical_p": 1.0, "top_n_sigma": 0.0}
OFF |= {"epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
LOGITS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))


def drawn_settings(data: st.DataObject, name: str, rows: int) -> np.ndarray:
    """Settings [B, 1], a row its own."""
    values = st.sampled_from(EDGES[name])
    return column(data.draw(st.lists(values, min_size=rows, max_size=rows)), name)


def applied(name: str, logits: np.ndarray, *settings: np.ndarray) -> np.ndarray:
    """The logits that a sampler makes of all."""
    result: Candidates = TRANSFORMS[name][0](Candidates(logits), *settings)
    return result.logits


def entropy(row: Sequence[float]) -> float:
    return -math.fsum(p * math.log(p) for p in softmax(row) if p > 0)


def possible(row: Sequence[float]) -> set[int]:
    return {i for i, value in enumerate(row) if value > -math.inf}


def likeliest(row: Sequence[float]) -> set[int]:
    return {i for i, value in enumerate(row) if value == max(row)}


# What each leaves of one row, as its paper or documentation says it.


def kept_by_top_k(row: list[float], k: float) -> set[int]:
    if k == 0 or k >= len(row):
        return possible(row)
    last = sorted(row, reverse=True)[int(k) - 1]
    return {i for i, value in enumerate(row) if value >= last} & possible(row)


def kept_by_fraction(row: list[float], p: float, key: Callable[[int], float]) -> set[int]:
    """The fewest pieces, lowest keys first, that hold p; and those with the key of the last."""
    if p >= 1:
        return possible(row)
    probabilities, held = softmax(row), 0.0
    for i in sorted(range(len(row)), key=key):
        held += probabilities[i]
        if held >= p:
            break
    return {j for j in range(len(row)) if key(j) <= key(i) + 1e-6} & possible(row)


def kept_by_top_p(row: list[float], p: float) -> set[int]:
    return kept_by_fraction(row, p, lambda i: -row[i])


def kept_by_typical_p(row: list[float], p: float) -> set[int]:
    mean, surprises = entropy(row), [-math.log(q) if q > 0 else math.inf for q in softmax(row)]
    return kept_by_fraction(row, p, lambda i: abs(surprises[i] - mean))


def kept_by_min_p(row: list[float], p: float) -> set[int]:
    probabilities = softmax(row)
    return {i for i, q in enumerate(probabilities) if q >= p * max(probabilities)} & possible(row)


def kept_by_top_n_sigma(row: list[float], n: float) -> set[int]:
    values = [value for value in row if value > -math.inf]
    sigma = math.sqrt(math.fsum((v - math.fsum(values) / len(values)) ** 2 for v in values) / len(values))
    return {i for i, value in enumerate(row) if n <= 0 or value >= max(row) - n * sigma} & possible(row)


def kept_by_epsilon_cutoff(row: list[float], epsilon: float) -> set[int]:
    return ({i for i, p in enumerate(softmax(row)) if p >= epsilon} | likeliest(row)) & possible(row)


def kept_by_eta_cutoff(row: list[float], epsilon: float) -> set[int]:
    return kept_by_epsilon_cutoff(row, min(epsilon, math.sqrt(epsilon) * math.exp(-entropy(row))))


def kept_by_xtc(row: list[float], threshold: float) -> set[int]:
    """llama.cpp: of the pieces above the threshold only the least likely stays (and what ties with it)."""
    high = [p for p in softmax(row) if p >= max(threshold, 1e-30)]
    return {i for i, p in enumerate(softmax(row)) if not high or p <= min(high)} & possible(row)


def kept_by_mirostat_1(row: list[float], mu: float) -> set[int]:
    """Algorithm 1 of the paper: Zipf's exponent from the likeliest 100, then k."""
    values = sorted((v for v in row if v > -math.inf), reverse=True)[:100]
    b = [high - low for high, low in itertools.pairwise(values)]
    t = [math.log((i + 2) / (i + 1)) for i in range(len(b))]
    s = sum(x * y for x, y in zip(t, b, strict=True)) / sum(x * x for x in t)
    k = ((s - 1) * 2**mu / (1 - len(row) ** -(s - 1))) ** (1 / s)
    return kept_by_top_k(row, min(max(int(k), 1), len(row)))


def kept_by_mirostat_2(row: list[float], mu: float) -> set[int]:
    return {i for i, p in enumerate(softmax(row)) if p > 0 and -math.log2(p) <= mu} | likeliest(row)


def kept_values(before: np.ndarray, after: np.ndarray) -> list[set[int]]:
    """The pieces left in each row; what is left must be as it was."""
    assert after.shape == before.shape
    assert after.dtype == np.float32
    kept = after > -np.inf
    np.testing.assert_array_equal(after[kept], before[kept])
    return [set(np.flatnonzero(row).tolist()) for row in kept]


@pytest.mark.parametrize("name", OF_ONE_SETTING)
@given(st.data(), batches())
@settings(deadline=None, max_examples=40)
def test_what_is_left_out(name: str, data: st.DataObject, logits: np.ndarray) -> None:
    """Against a plain statement, which may decide a border by rounding otherwise; ties are in most batches."""
    values = drawn_settings(data, name, len(logits))
    expected = globals()[f"kept_by_{name}"]
    grows = name in ("top_p", "typical_p", "top_n_sigma", "top_k")  # with the setting, more pieces stay
    for row, kept, value in zip(
        logits.tolist(), kept_values(logits, applied(name, logits, values)), values[:, 0].tolist(), strict=True
    ):
        step = 0.0 if name == "top_k" or value == OFF[name] else EPS * max(value, 0.1)
        less, more = (value - step, value + step) if grows else (value + step, max(value - step, 0.0))
        if OFF[name] == 1.0:
            less = min(less, 1 - EPS)
        assert expected(row, max(less, 0.0) if value else value) <= kept <= expected(row, more), (row, value)
        assert name == "typical_p" or likeliest(row) <= kept
        assert kept
        if value == OFF[name]:
            assert kept == possible(row)


@given(st.data(), batches())
@settings(deadline=None)
def test_temperature_divides_and_zero_is_argmax(data: st.DataObject, logits: np.ndarray) -> None:
    t = drawn_settings(data, "temperature", len(logits))
    after = temperature(Candidates(logits), t).logits
    assert after.dtype == np.float32
    for row, result, degrees in zip(logits.tolist(), after.tolist(), t[:, 0].tolist(), strict=True):
        if degrees == 0:
            assert possible(result) == {row.index(max(row))}  # the first of ties
        else:
            assert result == pytest.approx([value / max(degrees, 1e-6) for value in row], rel=1e-6)


@given(batches(), st.floats(0.1, 3), st.floats(0, 3), st.floats(0.1, 4))
@settings(deadline=None)
def test_dynamic_temperature_is_llama_cpps(logits: np.ndarray, t: float, spread: float, exponent: float) -> None:
    values = [np.full((len(logits), 1), value, np.float32) for value in (t, spread, exponent)]
    after = temperature(Candidates(logits), *values).logits
    for row, result in zip(logits.tolist(), after.tolist(), strict=True):
        count = len(possible(row))
        fraction = entropy(row) / math.log(count) if count > 1 else 0.0
        low, high = max(t - spread, 0.0), t + spread
        degrees = (low + (high - low) * fraction**exponent) if spread else t
        if degrees > 1e-2:
            assert result == pytest.approx([value / degrees for value in row], rel=2e-3)
        elif degrees == 0:
            assert len(possible(result)) == 1


@given(
    batches(), st.sampled_from((0.0, 0.05, 0.1, 0.3, 0.5, 1.0)), st.sampled_from((0.0, 0.3, 1.0)), st.floats(0, 0.99)
)
@settings(deadline=None)
def test_xtc_is_llama_cpps(logits: np.ndarray, threshold: float, probability: float, uniform: float) -> None:
    inputs = [np.full((len(logits), 1), value, np.float32) for value in (probability, threshold, uniform)]
    for row, kept in zip(logits.tolist(), kept_values(logits, xtc(Candidates(logits), *inputs).logits), strict=True):
        if np.float32(uniform) >= np.float32(probability):
            assert kept == possible(row)
        else:
            less, more = kept_by_xtc(row, threshold - EPS), kept_by_xtc(row, threshold + EPS)
            assert kept in (less, more, kept_by_xtc(row, threshold))
            assert kept


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("mu", [0.5, 2.0, 5.0, 10.0])
def test_mirostat_truncates_as_the_paper_says(version: int, mu: float) -> None:
    logits = random_logits()
    logits[3, 5:] = -np.inf
    inputs = np.full((len(logits), 1), version), np.full((len(logits), 1), mu)
    expected = [globals()[f"kept_by_mirostat_{version}"](row, mu) for row in logits.tolist()]
    assert kept_values(logits, mirostat(Candidates(logits), *inputs, logits.shape[1]).logits) == expected


@given(batches(), st.sampled_from((0, 1, 2)), st.floats(-5, 30))
@settings(deadline=None)
def test_mirostat_leaves_something(logits: np.ndarray, version: int, mu: float) -> None:
    inputs = np.full((len(logits), 1), version), np.full((len(logits), 1), mu)
    for row, kept in zip(
        logits.tolist(), kept_values(logits, mirostat(Candidates(logits), *inputs, logits.shape[1]).logits), strict=True
    ):
        assert likeliest(row) <= kept
        assert version or kept == possible(row)


@pytest.mark.parametrize("k", [1, 2, 60, GROUPS, GROUPS + 1])
@pytest.mark.parametrize("ties", [False, True])
def test_top_k_of_very_many(k: int, ties: bool) -> None:
    """Here most pieces are left out before any is sorted."""
    logits = random_logits(5, 2 * GROUPS + 123)
    if ties:
        logits = np.round(logits)
    logits[1, 7:] = -np.inf
    logits[2] = 1.0
    expected = [kept_by_top_k(row, k) for row in logits.tolist()]
    assert kept_values(logits, applied("top_k", logits, column([k] * 5, "top_k"))) == expected
    few = top_k(Candidates(logits, shrinks=True), column([k] * 5, "top_k"))
    ids = np.broadcast_to(np.arange(logits.shape[1]), logits.shape) if few.ids is None else few.ids
    assert [set(row[there].tolist()) for row, there in zip(ids, few.logits > -np.inf, strict=True)] == expected


@pytest.mark.parametrize("name", [*OF_ONE_SETTING, "temperature", "mirostat"])
@pytest.mark.parametrize("shrinks", [False, True])
def test_tokens_that_are_not_allowed_are_as_impossible_ones(name: str, shrinks: bool) -> None:
    """Whether they are left out of the logits before a sampler or by a mask, it leaves the same."""
    rng, logits = np.random.default_rng(0), random_logits(6, 2 * GROUPS + 23)
    logits[2, ::3] = -np.inf
    allowed = rng.random(logits.shape) < [[0.9], [0.02], [0.5], [1.0], [0.5], [0.5]]
    logits[4] = np.where(allowed[4], logits[4], 50.0)
    allowed[5] = logits[5] == logits[5].max()
    value = {"top_k": 7, "top_n_sigma": 1.0, "temperature": 0.7}.get(name, 0.3)
    inputs: list[Any] = [column([value] * 6, name)]
    if name == "mirostat":
        inputs = [column([1, 2, 0] * 2, "top_k"), column([3.0] * 6, "top_p"), logits.shape[1]]
    function = TRANSFORMS[name][0] if name != "mirostat" else mirostat
    masked = Candidates(np.where(allowed, logits, np.float32(-np.inf)), shrinks=shrinks)
    by_mask = Candidates(logits, allowed=allowed, shrinks=shrinks)
    assert (by_mask.highest == masked.highest).all()
    expected, left = function(masked, *inputs), function(by_mask, *inputs)
    assert (left.logits == expected.logits).all()
    assert (left.highest == expected.highest).all()
    np.testing.assert_array_equal(left.ids, expected.ids)
    uniforms = rng.random(6)
    assert (left.ids_at(draw(left, uniforms)) == expected.ids_at(draw(expected, uniforms))).all()


def test_the_deviation_does_not_depend_on_rows_or_impossible_pieces() -> None:
    """Its least logit that stays is the same to the last bit alone, in a batch, and with impossible pieces between."""

    def floor(logits: np.ndarray) -> list[float]:
        left = TRANSFORMS["top_n_sigma"][0](Candidates(logits), column([1.0] * len(logits), "top_n_sigma"))
        return left._floor[:, 0].tolist()

    logits, rng = random_logits(20, 8000), np.random.default_rng(1)
    spread = np.full((20, 9001), -np.inf, np.float32)
    spread[:, np.sort(rng.permutation(9001)[:8000])] = logits
    together = floor(logits)
    assert [floor(row[None])[0] for row in logits] == together
    assert floor(spread) == together
    sigma = logits.std(axis=1, dtype=np.float64)
    np.testing.assert_allclose(logits.max(axis=1) - together, sigma, rtol=1e-6)


@pytest.mark.parametrize("others", [0.1, 100.0])
def test_candidates_that_shrink(others: float) -> None:
    """They are the same whatever stands beside them: rows that leave out much, or nearly nothing."""
    logits = random_logits(4, 1000)
    logits[1:] *= others
    pieces = Candidates(logits, shrinks=True)
    for floor in (9.0, 5.0, 7.0):
        pieces = pieces.above(pieces.highest - floor)
    for kept in (pieces, pieces.only((np.arange(4)[:, None] == 0) | (pieces.logits == pieces.highest))):
        assert (kept.logits.shape[1] < 500) == (others > 1 or kept is not pieces)
        there = np.flatnonzero(kept.logits[0] > -np.inf)
        ids = [int(kept.ids_at(np.full(4, column))[0]) for column in there]
        assert ids == np.flatnonzero(logits[0] >= np.max(logits[0]) - 5.0).tolist()
        assert kept.logits[0, there].tolist() == logits[0, ids].tolist()


def test_surprisal_is_in_bits() -> None:
    logits = np.log(np.array([[0.25, 0.5, 0.25]], np.float32)) + 7
    assert surprisal_bits(Candidates(logits), np.array([[1]])).tolist() == [[pytest.approx(1.0)]]
    assert surprisal_bits(Candidates(logits), np.array([[2]])).tolist() == [[pytest.approx(2.0)]]


def test_by_hand() -> None:
    """Of 0.1, 0.4, 0.2 and 0.3."""

    def kept(name: str, *values: float) -> list[int]:
        after = applied(name, LOGITS, *(column([value], name) for value in values))
        return np.flatnonzero(after[0] > -np.inf).tolist()

    assert kept("top_k", 2) == [1, 3]
    assert kept("top_k", 3) == [1, 2, 3]
    assert kept("top_p", 0.39) == [1]
    assert kept("top_p", 0.41) == [1, 3]
    assert kept("top_p", 0.71) == [1, 2, 3]
    assert kept("top_p", 0.0) == [1]
    assert kept("min_p", 0.74) == [1, 3]
    assert kept("min_p", 0.76) == [1]
    assert kept("min_p", 1.0) == [1]
    assert kept("typical_p", 0.29) == [3]  # the entropy is 1.28 nats; these have 2.30, 0.92, 1.61 and 1.20
    assert kept("typical_p", 0.31) == [2, 3]
    assert kept("typical_p", 0.51) == [1, 2, 3]
    assert kept("top_n_sigma", 0.57) == [1, 3]  # the deviation is 0.52, the second highest is 0.29 below the highest
    assert kept("top_n_sigma", 0.54) == [1]
    assert kept("epsilon_cutoff", 0.21) == [1, 3]
    assert kept("epsilon_cutoff", 0.9) == [1]
    assert kept("eta_cutoff", 0.81) == [1, 3]  # sqrt(0.81) exp(-1.28) is 0.250
    assert kept("xtc", 0.5, 0.15, 0.4) == [0, 2]
    assert kept("xtc", 0.5, 0.15, 0.6) == [0, 1, 2, 3]
    assert kept("xtc", 0.5, 0.35, 0.4) == [0, 1, 2, 3]
    assert kept("temperature", 0.0) == [1]
    assert kept("temperature", 5.0) == [0, 1, 2, 3]


def test_rows_with_different_k() -> None:
    logits = random_logits(4)
    kept = kept_values(logits, applied("top_k", logits, column([0, 1, 17, 300], "top_k")))
    assert [len(ids) for ids in kept] == [300, 1, 17, 300]


@given(batches())
@settings(deadline=None)
def test_settings_that_are_off_change_nothing(logits: np.ndarray) -> None:
    for name, value in OFF.items():
        np.testing.assert_array_equal(applied(name, logits, column([value] * len(logits), name)), logits)


@pytest.mark.parametrize(
    ("fraction", "index"),
    [
        (0.0, 1), (0.0999, 1), (0.1001, 2), (0.4999, 2), (0.5001, 4), (0.8, 4), (math.nextafter(1, 0), 4), (1.0, 4),
    ],
)  # fmt: skip
def test_inverse_cdf_exact(fraction: float, index: int) -> None:
    weights = np.array([[0.0, 0.1, 0.4, 0.0, 0.5, 0.0]], np.float32)
    assert inverse_cdf(weights, np.array([[fraction]])).tolist() == [[index]]


@given(st.integers(0, 9999), st.integers(130, 300), st.floats(0, 1))
@settings(deadline=None)
def test_one_row_is_searched_as_several_are(seed: int, size: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((2, size)) < 0.5, 0, rng.exponential(1, (2, size)) ** 9).astype(np.float32)
    fractions = np.array([[fraction], [0.0]])
    assert [inverse_cdf(weights[[row]], fractions[[row]]).item() for row in (0, 1)] == inverse_cdf(
        weights, fractions
    ).ravel().tolist()


@given(
    st.integers(0, 9999),
    st.sampled_from([3, 100, 1000, 1024]),
    st.sampled_from([0.0, 1e-4, 0.02, 0.5, 1.0]),
    st.sampled_from([2e-6, 0.1, 0.8, 1.0, 3.0]),
    st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None)
def test_drawing_plainly_is_min_p_then_temperature(seed: int, size: int, p: float, t: float, uniform: float) -> None:
    rng = np.random.default_rng(seed)
    logits = np.where(rng.random((1, size)) < 0.2, -np.inf, rng.normal(0, 3, (1, size))).astype(np.float32)
    logits[0, -1] = 0.0
    inputs = {"min_p": column([p], "min_p"), "temperature": column([t], "temperature")}
    left = transform(
        Candidates(logits.copy()),
        inputs | {"dynatemp_range": np.zeros((1, 1)), "dynatemp_exponent": np.ones((1, 1))},
        active_samplers({*inputs, "dynatemp_range", "dynatemp_exponent"}),
    )
    log_p = float(np.log(np.float32(p))) if p else None
    drawn = draw_plainly(Candidates(logits), log_p, t, uniform)
    assert [drawn] == left.ids_at(draw(left, np.array([uniform]))).tolist()


@given(seed=st.integers(0, 10_000), gaps=st.sampled_from([0.0, 0.3, 0.9]))
def test_one_row_is_shrunk_as_several_are(seed: int, gaps: float) -> None:
    """Logits of double precision, too: the likeliest token is never lost to their rounding."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.choice([0.1, 1, 3]), (2, 263))
    logits[rng.random((2, 263)) < gaps] = -np.inf
    config = SamplingConfig(temperature=2.0, top_k=20, top_p=0.8, min_p=0.01)
    both, one = settings_of([config] * 2), settings_of([config])
    uniforms = rng.random(2)
    together = transform(Candidates(logits.copy()), both, active_samplers(both))
    ids = together.ids_at(draw(together, uniforms))
    for row in range(2):
        alone = transform(Candidates(logits[[row]]), one, active_samplers(one))
        assert alone.ids_at(draw(alone, uniforms[[row]])).tolist() == [ids[row]]


# === Against transformers ===

THEIRS = {
    "top_k": ("TopKLogitsWarper", (1, 2, 17, 299, 300, 1000)),
    "top_p": ("TopPLogitsWarper", (1e-6, 0.05, 0.3, 0.5, 0.9, 0.99, 1.0)),
    "min_p": ("MinPLogitsWarper", (0.0, 1e-6, 0.05, 0.3, 0.9, 1.0)),
    "typical_p": ("TypicalLogitsWarper", (1e-6, 0.05, 0.3, 0.5, 0.9, 0.99)),
    "epsilon_cutoff": ("EpsilonLogitsWarper", (1e-6, 3e-4, 0.01, 0.3, 0.99)),
    "eta_cutoff": ("EtaLogitsWarper", (1e-6, 3e-4, 0.01, 0.3, 0.99)),
    "temperature": ("TemperatureLogitsWarper", (1e-4, 0.1, 0.8, 1.0, 2.0, 100.0)),
}


def theirs(name: str, value: float, logits: np.ndarray) -> np.ndarray:
    """What the processor of the same name makes of logits."""
    import torch
    from transformers.generation import logits_process as generation

    processor = getattr(generation, THEIRS[name][0])(value, **({"device": "cpu"} if name == "eta_cutoff" else {}))
    return processor(torch.zeros((len(logits), 1), dtype=torch.long), torch.from_numpy(logits.copy())).numpy()


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in THEIRS.items() for value in values])
def test_equals_the_processor_of_transformers(name: str, value: float) -> None:
    logits = random_logits(50)
    logits[0] = np.linspace(-1, 1, 300)
    logits[1, 1:] = -np.inf
    logits[2] = np.where(np.arange(300) % 2, logits[2], -np.inf)
    if name == "typical_p":
        logits = logits[3:]  # theirs makes the entropy NaN where pieces are impossible
    ours = applied(name, logits, np.full((len(logits), 1), value, np.int64 if name == "top_k" else np.float32))
    np.testing.assert_allclose(ours, theirs(name, value, logits), rtol=1e-6)


@pytest.mark.oracles("torch", "transformers.generation.logits_process")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in THEIRS.items() for value in values])
def test_equals_the_processor_of_transformers_on_ties(name: str, value: float) -> None:
    """But for top_p at a border within equally likely pieces: all of them stay here, some there."""
    logits = np.round(random_logits(50, 60))
    ours = applied(name, logits, np.full((len(logits), 1), value, np.int64 if name == "top_k" else np.float32))
    expected = theirs(name, value, logits)
    if name == "top_p":
        last = np.min(expected, axis=-1, keepdims=True, where=expected > -np.inf, initial=np.inf)
        assert (expected[ours == -np.inf] == -np.inf).all()
        expected = np.where(logits == last, logits, expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)

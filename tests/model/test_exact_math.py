"""exp, log and the like: near the true values, and the same bits as ever."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.model import exact_math

RNG = np.random.default_rng(0)
ARGUMENTS = np.concatenate([RNG.uniform(-690, 690, 3000), RNG.normal(0, 3, 3000), [0.0, -0.0, 1.0, -1.0, 690.0]])
GOLDEN = {  # as every implementation has to compute them
    "exp": [
        (0.0, "0x1.0000000000000p+0"), (1.0, "0x1.5bf0a8b14576ap+1"),
        (-0.3, "0x1.7b4c869c37c05p-1"), (2.5, "0x1.85d6fd931e0bbp+3"),
        (700.0, "0x1.d945df4f8ec8ep+1009"), (1000000000.0, "0x1.d945df4f8ec8ep+1009"),
        (-1000000000.0, "0x1.14f2b0fb9307fp-1010"), (0.34657359027997264, "0x1.6a09e667f3bccp+0"),
    ],
    "log": [
        (1.0, "0x0.0p+0"), (2.0, "0x1.62e42fefa39efp-1"),
        (0.1, "-0x1.26bb1bbb55515p+1"), (1.4142135623730951, "0x1.62e42fefa39f1p-2"),
        (1.4142135623730954, "0x1.62e42fefa39f3p-2"), (1e-300, "-0x1.5963447f87fb5p+9"),
        (123456.789, "0x1.77281cad8a844p+3"),
    ],
    "sigmoid": [
        (0.0, "0x1.0000000000000p-1"), (1.0, "0x1.764d4f5d5a2bdp-1"),
        (-1.0, "0x1.136561454ba86p-2"), (0.123, "0x1.0fb963e8a19e5p-1"),
        (-30.0, "0x1.a56e0c2ac7cc0p-44"), (800.0, "0x1.0000000000000p+0"),
        (-800.0, "0x1.14f2b0fb9307fp-1010"),
    ],
    "tanh": [
        (0.0, "0x0.0p+0"), (0.001, "0x1.0624d77517000p-10"),
        (-0.5, "-0x1.d9353d7568af4p-2"), (1.0, "0x1.85efab514f394p-1"),
        (-3.0, "-0x1.fd77d111a0b02p-1"), (19.0, "0x1.fffffffffffffp-1"),
        (400.0, "0x1.0000000000000p+0"),
    ],
}  # fmt: skip


def ulps(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in units of the last place."""
    return float(np.max(np.abs(found - expected) / np.spacing(np.abs(expected))))


def logs(numbers: np.ndarray) -> np.ndarray:
    return np.array([exact_math.log(x) for x in numbers.tolist()])


def test_exp_and_log_are_those_of_math() -> None:
    exps = np.array([math.exp(x) for x in ARGUMENTS])
    assert ulps(exact_math.exp(ARGUMENTS), exps) <= 2
    assert ulps(logs(exps), np.array([math.log(x) for x in exps])) <= 2
    near_one = 1 + RNG.normal(0, 1e-3, 1000)
    assert ulps(logs(near_one), np.array([math.log(x) for x in near_one])) <= 2


def test_sigmoid_and_tanh_are_those_of_math() -> None:
    small = np.concatenate([RNG.normal(0, 4, 2000), RNG.normal(0, 1e-4, 500), [0.0, 800.0, -800.0]])
    assert np.abs(exact_math.tanh(small) - [math.tanh(x) for x in small]).max() < 2 * np.finfo(float).eps
    assert (
        np.abs(exact_math.sigmoid(small) - [1 / (1 + math.exp(-max(x, -700.0))) for x in small]).max()
        < 2 * np.finfo(float).eps
    )
    assert np.abs(exact_math.tanh(ARGUMENTS)).max() == 1.0


@pytest.mark.parametrize("name", GOLDEN)
def test_bits(name: str) -> None:
    for x, expected in GOLDEN[name]:
        assert float(getattr(exact_math, name)(x)).hex() == expected, (name, x)


def scalar_exp(x: float) -> float:
    """The definition, number by number."""
    x = min(max(x, -700.0), 700.0)
    k = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * 0.693145751953125) - k * 1.4286068203094173e-06
    p = 1 / math.factorial(13)
    for n in range(12, -1, -1):
        p = p * r + 1 / math.factorial(n)
    return math.ldexp(p, k)


def scalar_log(x: float) -> float:
    """The definition, with m from 1 to 2 first."""
    m, e = math.frexp(x)
    m, e = m * 2, e - 1
    if m > 1.4142135623730951:
        m, e = m / 2, e + 1
    s = (m - 1) / (m + 1)
    q, p = s * s, 1 / 21
    for n in range(19, 0, -2):
        p = p * q + 1 / n
    return (e * 1.4286068203094173e-06 + 2 * s * p) + e * 0.693145751953125


@given(st.floats(-1e4, 1e4))
def test_exp_is_its_definition_to_the_last_bit(x: float) -> None:
    expected = scalar_exp(x)
    assert float(exact_math.exp(x)) == expected
    assert exact_math.exp(np.full((3, 5), x)).tolist() == [[expected] * 5] * 3


@given(st.floats(2.0**-1022, 1e308))
def test_log_is_its_definition_to_the_last_bit(x: float) -> None:
    assert exact_math.log(x) == scalar_log(x)


def test_shapes_blocks_and_layouts_change_nothing() -> None:
    many = RNG.normal(0, 5, (7, 3 * exact_math.BLOCK // 7 + 11))
    expected = [[scalar_exp(x) for x in row] for row in many]
    assert exact_math.exp(many).tolist() == expected
    assert exact_math.exp(many.T).T.tolist() == expected
    assert exact_math.exp(np.zeros((0, 3))).shape == (0, 3)


def test_totals_are_sums_from_the_first_to_the_last() -> None:
    numbers = RNG.normal(0, 1, (4, 3001)) * 10.0 ** RNG.integers(-8, 8, (4, 3001))
    assert exact_math.total(numbers).tolist() == [list(itertools.accumulate(row))[-1] for row in numbers.tolist()]
    assert exact_math.total(np.asfortranarray(numbers)).tolist() == exact_math.total(numbers).tolist()


def test_powers_and_log_probabilities() -> None:
    assert exact_math.power(3.0, 2.5) == pytest.approx(3.0**2.5, rel=1e-14)
    assert (exact_math.power(5e-324, 2.0), exact_math.power(5e-324, 0.0)) == (0.0, 1.0)
    logits = np.append(RNG.normal(0, 3, 50), -np.inf)
    found = exact_math.log_softmax(logits)
    assert found[-1] == -np.inf
    assert found[:-1] == pytest.approx(logits[:-1] - np.logaddexp.reduce(logits[:-1]), abs=1e-13)

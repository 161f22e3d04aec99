"""exp, log, sigmoid, tanh and sums whose results are the same bits on every machine and in every language.

A library computes exp and log by whatever polynomial its version has, and `np.sum` adds in whatever order is fastest,
so their last digits depend on the machine. The functions here use only + - * / of float64, floor, comparisons and
powers of two set by bits, in the order written. IEEE 754 defines the result of each of these to the last bit, and NumPy
does not fuse a product with a sum. So another implementation of the same lines, such as one in JavaScript, gives the
same numbers.

The polynomials are those of Taylor, after a reduction of the argument: their error is 1 to 2 units in the last place.
"""

from __future__ import annotations

import math

import numpy as np

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
LN2_HIGH = 0.693145751953125  # its last 32 bits are 0, so that a product with a small integer is exact
LN2_LOW = 1.4286068203094173e-06  # what is missing of ln 2
SQRT_2 = 1.4142135623730951
EXP_TERMS = tuple(1 / math.factorial(n) for n in range(13, -1, -1))  # coefficients of exp(r), highest power first
LOG_TERMS = tuple(1 / n for n in range(21, 0, -2))  # coefficients of artanh(s) / s in powers of s^2, highest first
MAX_EXP_ARGUMENT = 700.0  # largest exponent; exp of it and of its negative is far from overflow
BLOCK = 4096  # numbers computed at once, few enough for the processor's cache
MANTISSA, BIAS = 52, 1023  # bits of the mantissa of a float64; its exponent is stored with this added


def exp(x: np.ndarray | float) -> np.ndarray:
    """e^x. Arguments beyond -700 and 700 count as these.

    With k = floor(x log2(e) + 0.5) and r = x - k ln 2, in two steps, it is 2^k times the polynomial of degree 13 in r.

    Args:
        x: Float64 of any shape, no NaN.

    Returns:
        Float64 of the same shape.

    Example:
        >>> exp(np.array([0.0, 1.0])).tolist()
        [1.0, 2.7182818284590455]
    """
    x = np.asarray(x, np.float64, order="C")
    result = np.empty(x.shape)
    given, taken = x.reshape(-1), result.reshape(-1)
    for start in range(0, given.size, BLOCK):
        _exp_block(given[start : start + BLOCK], taken[start : start + BLOCK])
    return result


def _exp_block(x: np.ndarray, result: np.ndarray) -> None:
    """exp of a vector, into `result`."""
    r = np.maximum(x, -MAX_EXP_ARGUMENT)
    np.minimum(r, MAX_EXP_ARGUMENT, out=r)
    k = r * LOG2_E
    k += 0.5
    np.floor(k, out=k)
    r -= k * LN2_HIGH
    r -= k * LN2_LOW
    result.fill(EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        result *= r
        result += term
    result *= _power_of_two(k)


def _power_of_two(k: np.ndarray) -> np.ndarray:
    """2^k for whole numbers k from -1022 to 1023."""
    bits = k.astype(np.int64)
    bits += BIAS
    bits <<= MANTISSA
    return bits.view(np.float64)


def log(x: float) -> float:
    """The natural logarithm of one number.

    With x = m 2^e, m from sqrt(1/2) to sqrt(2), and s = (m - 1) / (m + 1), it is e ln 2 + 2 artanh(s).

    Args:
        x: At least 2^-1022, and finite.

    Example:
        >>> log(1.0), log(2.0)
        (0.0, 0.6931471805599453)
    """
    m, e = math.frexp(x)  # m from 1/2 to 1
    if m <= SQRT_2 / 2:
        m, e = 2 * m, e - 1
    s = (m - 1) / (m + 1)
    q = s * s
    p = LOG_TERMS[0]
    for term in LOG_TERMS[1:]:
        p = p * q + term
    return (e * LN2_LOW + 2 * s * p) + e * LN2_HIGH


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)).

    Example:
        >>> sigmoid(np.array([0.0])).tolist()
        [0.5]
    """
    return np.asarray(1 / (1 + exp(-x)))


def tanh(x: np.ndarray) -> np.ndarray:
    """1 - 2 / (1 + exp(2 x)), whose error is at most some 4e-16, also where the result is small.

    Example:
        >>> tanh(np.array([0.0])).tolist()
        [0.0]
    """
    return np.asarray(1 - 2 / (1 + exp(2 * x)))


def total(x: np.ndarray) -> np.ndarray:
    """The sum over the last axis, from the first number to the last.

    Example:
        >>> float(total(np.array([1e16, 1.0, 1.0, -1e16])))
        0.0
    """
    return np.asarray(np.cumsum(x, axis=-1)[..., -1])


def power(x: float, y: float) -> float:
    """x^y as exp(y log(x)), for x and y of at least 0; 1 for y = 0, otherwise 0 for x below 2^-1022.

    Example:
        >>> power(0.0, 0.0), power(0.0, 2.0), power(0.25, 0.5)
        (1.0, 0.0, 0.5)
    """
    if y == 0:
        return 1.0
    return 0.0 if x < 2.0**-1022 else float(exp(y * log(x)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities in nats from the logits of one text [V], of which at least one is not -inf.

    (l_i - highest) - log(sum of exp(l_j - highest)), summed in the order of the ids; -inf counts as 0 in the sum.

    Example:
        >>> log_softmax(np.array([0.0, -np.inf])).tolist()
        [0.0, -inf]
    """
    below = logits - np.max(logits)
    return below - log(float(total(exp(below[below > -np.inf]))))

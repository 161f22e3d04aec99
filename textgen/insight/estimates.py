"""Means with their standard errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean of independent values.

    Attributes:
        mean: The mean; NaN of no values.
        error: Its standard error; NaN of fewer than two values.
    """

    mean: float
    error: float


def estimated(values: np.ndarray) -> Estimate:
    """The mean of values [N].

    Example:
        >>> estimated(np.array([1.0, 3.0]))
        Estimate(mean=2.0, error=1.0)
    """
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else math.nan
    return Estimate(float(values.mean()) if values.size else math.nan, error)

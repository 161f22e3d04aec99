"""Logits that several tests filter and draw from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st


@st.composite
def batches(draw: Callable[[Any], Any]) -> np.ndarray:
    """Logits [B, V] in steps of a half, so with many ties; some pieces are impossible, but not all."""
    rows, size = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    halves = st.integers(-16, 16).map(lambda n: n / 2)
    row = st.lists(halves | st.just(-math.inf), min_size=size, max_size=size)
    row = row.filter(lambda values: max(values) > -math.inf)
    return np.array(draw(st.lists(row, min_size=rows, max_size=rows)), np.float32)


def random_logits(rows: int = 20, size: int = 300, seed: int = 0) -> np.ndarray:
    """A few likely pieces and many that are not, without ties."""
    return np.random.default_rng(seed).normal(0, 3, (rows, size)).astype(np.float32)


def column(values: Sequence[float], name: str) -> np.ndarray:
    return np.array(values, np.int64 if name == "top_k" else np.float32)[:, None]


def softmax(row: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / math.fsum(weights) for weight in weights]

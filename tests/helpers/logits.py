"""Logits that several tests filter and draw from, and settings for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from textgen.generation.config import SamplingConfig
from textgen.generation.sampling.logit_filters import Candidates

PLAIN = SamplingConfig(temperature=1.0, min_p=0.0, dry_multiplier=0.0, repeat_penalty=1.0, seed=0)
EVERYTHING = SamplingConfig(
    temperature=0.9, dynatemp_range=0.3, top_k=60, top_p=0.97, min_p=0.01, typical_p=0.97, top_n_sigma=3.0,
    epsilon_cutoff=1e-4, eta_cutoff=1e-4, xtc_probability=0.4, xtc_threshold=0.05, repeat_penalty=1.1,
    presence_penalty=0.1, frequency_penalty=0.05, repeat_last_n=20, dry_multiplier=0.8, dry_penalty_last_n=100,
    no_repeat_ngram_size=3, logit_bias=("e=1", "th=2"), ban=("the", "q"), require=("fox",), min_tokens=20,
    max_tokens=60, seed=0,
)  # fmt: skip


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


def rows_of(candidates: Candidates) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ids of the tokens that are left in each row, and their logits."""
    ids = (
        np.broadcast_to(np.arange(candidates.logits.shape[-1]), candidates.logits.shape)
        if candidates.ids is None
        else candidates.ids
    )
    return [
        (row[logits > -np.inf], logits[logits > -np.inf]) for row, logits in zip(ids, candidates.logits, strict=True)
    ]

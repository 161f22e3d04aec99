"""What exact arithmetic costs, against the definition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from exact_models import both_models
from streams import EOS, PAD, stream_in

from textgen.errors import ConfigError
from textgen.evaluation.exactness import Exactness, exactness
from textgen.model.prediction_change import PredictionChange

V = 30
LENGTHS = [40, 300, 3, 700]
IDS = np.random.default_rng(0)
DOCUMENTS = [[*IDS.integers(3, V, length - 1).tolist(), EOS] for length in LENGTHS]


def test_numbers_are_their_definition(tmp_path: Path) -> None:
    exact, ordinary = both_models("lstm", V)
    found = exactness(ordinary, exact, stream_in(tmp_path, DOCUMENTS, V), PAD)
    text = [EOS, *(id for document in DOCUMENTS for id in document)]
    rows = (
        np.array_split(np.array(text[:-1]), [-(-(len(text) - 1) // 2)]),
        np.array_split(np.array(text[1:]), [-(-(len(text) - 1) // 2)]),
    )
    nats, exact_nats, divergence, same = 0.0, 0.0, 0.0, 0
    for inputs, targets in zip(*rows, strict=True):
        log_p, log_q = (
            logits - np.logaddexp.reduce(logits, axis=-1)[:, None]
            for model in (ordinary, exact)
            for logits in [model.logits(model.features(inputs[None], model.initial_state(1))[0])[0].astype(np.float64)]
        )
        places = np.arange(len(targets))
        nats -= log_p[places, targets].sum()
        exact_nats -= log_q[places, targets].sum()
        divergence += (np.exp(log_p) * (log_p - log_q)).sum()
        same += (log_p.argmax(-1) == log_q.argmax(-1)).sum()
    tokens = sum(LENGTHS)
    change = found.change
    assert change.tokens == tokens
    assert found.perplexity_per_token == pytest.approx(math.exp(nats / tokens), rel=1e-6)
    assert found.exact_perplexity_per_token == pytest.approx(math.exp(exact_nats / tokens), rel=1e-9)
    assert change.perplexity_change == pytest.approx(math.exp((exact_nats - nats) / tokens) - 1, abs=1e-6)
    assert change.divergence_nats == pytest.approx(divergence / tokens, abs=1e-7)
    assert change.same_top_fraction == pytest.approx(same / tokens, abs=0.002)
    found.check()


def test_part_of_a_text(tmp_path: Path) -> None:
    exact, ordinary = both_models("gru", V)
    assert exactness(ordinary, exact, stream_in(tmp_path, DOCUMENTS, V), PAD, 100).change.tokens == 96


@pytest.mark.parametrize(("change", "divergence"), [(0.0031, 0.0), (0.0, 0.0021), (math.nan, 0.0), (0.0, math.nan)])
def test_too_much_is_refused_with_the_figures(change: float, divergence: float) -> None:
    Exactness(10.0, 10.0, PredictionChange(0.003, 0.002, 0.99, 5)).check()
    with pytest.raises(ConfigError, match=r"too much: its perplexity by .*at most \+0.3 %.* nats per token"):
        Exactness(10.0, 10.0, PredictionChange(change, divergence, 0.99, 5)).check()

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from logits import EVERYTHING, PLAIN

from textgen.generation.config import SAMPLERS
from textgen.generation.sampling.sampler_settings import TRANSFORMS, settings_of


def test_every_sampler_has_a_transform() -> None:
    assert set(TRANSFORMS) == set(SAMPLERS)


def test_settings_of_names_only_what_some_row_uses() -> None:
    assert settings_of([PLAIN, PLAIN]) == {}
    mixed = settings_of([PLAIN, replace(PLAIN, top_k=5, temperature=0.0)])
    assert list(mixed) == ["top_k", "temperature", "dynatemp_range", "dynatemp_exponent"]
    assert mixed["top_k"].tolist() == [[0], [5]]
    assert mixed["top_k"].dtype == np.int64
    assert mixed["temperature"].tolist() == [[1.0], [0.0]]
    assert mixed["temperature"].dtype == np.float32
    assert settings_of([replace(PLAIN, top_k=5)], ("top_p", "min_p")) == {}


def test_mirostat_takes_the_place_of_what_leaves_pieces_out() -> None:
    configs = [replace(EVERYTHING, mirostat=2), replace(EVERYTHING, top_k=7)]
    mixed = settings_of(configs)
    assert mixed["top_k"].tolist() == [[0], [7]]
    assert mixed["xtc_probability"].tolist() == [[0.0], [pytest.approx(0.4)]]
    assert mixed["repeat_penalty"].tolist() == [[pytest.approx(1.1)]] * 2
    assert mixed["temperature"].tolist() == [[pytest.approx(0.9)]] * 2

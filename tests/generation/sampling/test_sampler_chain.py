from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logits import EVERYTHING, PLAIN, batches, column, random_logits, rows_of

from textgen.generation.config import SAMPLERS, SamplingConfig
from textgen.generation.sampling.logit_filters import Candidates
from textgen.generation.sampling.sampler_chain import Chain, active_samplers, draw, transform
from textgen.generation.sampling.sampler_settings import LOOKING_BACK, TRANSFORMS, settings_of
from textgen.generation.sampling.vocabulary_tables import VocabularyTables
from textgen.tokenizer.kinds import ByteTokenizer


@given(batches(), st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4))
@settings(deadline=None)
def test_draw_never_takes_the_impossible(logits: np.ndarray, uniforms: list[float]) -> None:
    for wanted in (uniforms[: len(logits)], [0.0] * len(logits), [math.nextafter(1, 0)] * len(logits)):
        ids = draw(Candidates(logits), np.array(wanted))
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
    first, middle, last = draw(Candidates(logits), uniforms).tolist()
    assert (first, last) == (0, size - 11)
    assert abs(middle - size / 2) < size / 50


def kept(logits: np.ndarray, order: tuple[str, ...] = SAMPLERS, **values: float) -> list[int]:
    """Ids of the pieces that are left in the only row."""
    values |= {"dynatemp_range": 0.0, "dynatemp_exponent": 1.0}
    inputs = {name: column([value], name) for name, value in values.items()}
    ((ids, _),) = rows_of(transform(Candidates(logits.copy()), inputs, active_samplers(inputs, order)))
    return ids.tolist()


def test_each_transform_sees_what_those_before_it_have_left() -> None:
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    assert kept(logits) == [0, 1, 2, 3]
    assert kept(logits, top_k=2, top_p=0.56) == [1]  # 0.4 of 0.7 is 57 %
    assert kept(logits, ("top_p", "top_k"), top_k=2, top_p=0.56) == [1, 3]
    assert kept(logits, min_p=0.76, temperature=100.0) == [1]  # by the model's own probabilities, however hot the draw
    assert kept(logits, ("temperature", "min_p"), min_p=0.76, temperature=100.0) == [0, 1, 2, 3]
    assert kept(logits, ("top_p",), top_k=2, top_p=0.56) == [1, 3]  # what the order leaves out is off
    assert kept(logits, (), top_k=2, top_p=0.56) == [0, 1, 2, 3]


@pytest.mark.parametrize("order", [SAMPLERS, SAMPLERS[::-1], ("min_p", "top_p"), ("min_p", "temperature", "penalties")])
@pytest.mark.parametrize("texts", [1, 9])
def test_carrying_on_few_pieces_changes_nothing(texts: int, order: tuple[str, ...]) -> None:
    """The chain gives what its transforms give one by one on all pieces."""
    logits, rng = random_logits(texts, 2000), np.random.default_rng(0)
    inputs: dict[str, Any] = settings_of([EVERYTHING] * texts)
    inputs |= {"history": rng.integers(0, 2000, (texts, 100)), "breakers": rng.random((texts, 2000)) < 0.1}
    inputs["xtc_uniforms"] = rng.random((texts, 1))
    inputs["breaker_texts"] = []
    expected = logits.copy()
    for name in order:
        function, fields = TRANSFORMS[name]
        if name in LOOKING_BACK:
            rows, ids, values = function(expected, *(inputs[field] for field in fields))
            expected[rows, ids] = values
        else:
            expected = function(Candidates(expected), *(inputs[field] for field in fields)).logits
    left = transform(Candidates(logits.copy()), inputs, active_samplers(inputs, order))
    actual = np.full_like(expected, -np.inf)
    for row, (ids, values) in enumerate(rows_of(left)):
        assert (np.diff(ids) > 0).all()
        actual[row, ids] = values
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert (left.logits.shape[1] < 500) == (order[-1] != "penalties")


def test_mirostat_counts_the_whole_vocabulary_whatever_stands_beside_it() -> None:
    """Where other texts leave few pieces, only those are carried on, and a row's impossible pieces are dropped."""
    size, rng = 1500, np.random.default_rng(0)
    tokenizer = ByteTokenizer()
    tokenizer.piece_bytes += [b"?"] * (size - tokenizer.vocab_size)
    tables = VocabularyTables(tokenizer)
    logits = rng.normal(0, 1, (16, size)).astype(np.float32)
    logits[0, 1100:] = -np.inf
    logits[1:, :50] += 20.0
    for seed in range(100):
        config = replace(PLAIN, mirostat=1, mirostat_tau=2.0 + seed % 7, seed=seed)
        alone = Chain(SAMPLERS, [config], tables)
        together = Chain(SAMPLERS, [config, *[SamplingConfig(seed=row) for row in range(15)]], tables)
        assert alone.draw(Candidates(logits[:1].copy()))[0] == together.draw(Candidates(logits.copy()))[0], config

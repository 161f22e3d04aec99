"""Draws in exact arithmetic: those of the ordinary chain but for rounding, and the same in every batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from exact_models import both_models, config_of, integers_of
from hypothesis import given
from hypothesis import strategies as st
from networks import random_weights
from plain_fakes import WordsTokenizer

from textgen.editor.session import CancellableModel
from textgen.errors import ConfigError, SavedModelError
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import Generation
from textgen.generation.generator import Generator
from textgen.generation.request import Request
from textgen.generation.row_by_row_model import RowByRow
from textgen.generation.sampling import exact_chain
from textgen.generation.sampling.exact_chain import EXACT, Remaining, first_above, possible
from textgen.generation.sampling.logit_filters import Candidates
from textgen.generation.sampling.sampler import Sampler
from textgen.generation.sampling.sampler_chain import active_samplers, transform
from textgen.generation.sampling.sampler_settings import TRANSFORMS, settings_of
from textgen.generation.started_model import StartedModel
from textgen.model.exact_model import ExactModel
from textgen.model.protocols import StepModel

TOKENIZER = WordsTokenizer(["The", " cat", " c", "at", "\n\n", "。"])
V = TOKENIZER.vocab_size
SETTINGS: list[dict[str, Any]] = [
    {"repeat_penalty": 1.3}, {"presence_penalty": 0.7}, {"frequency_penalty": -0.4}, {"repeat_penalty": 0.6},
    {"repeat_penalty": 1.2, "repeat_last_n": 3}, {"repeat_penalty": 1.2, "repeat_last_n": 0},
    {"dry_multiplier": 0.8}, {"dry_multiplier": 1.5, "dry_base": 1.1, "dry_allowed_length": 1},
    {"top_n_sigma": 1.0}, {"top_n_sigma": 0.1}, {"top_k": 1}, {"top_k": 7}, {"top_k": 200},
    {"typical_p": 0.3}, {"typical_p": 0.9}, {"top_p": 0.0}, {"top_p": 0.4}, {"top_p": 0.95},
    {"min_p": 0.05}, {"min_p": 1.0}, {"min_p": 1e-300}, {"epsilon_cutoff": 0.02}, {"epsilon_cutoff": 1.0},
    {"eta_cutoff": 0.02}, {"xtc_probability": 1.0, "xtc_threshold": 0.05}, {"xtc_probability": 0.5},
    {"temperature": 0.0}, {"temperature": 1e-9}, {"temperature": 0.7}, {"temperature": 30.0},
    {"temperature": 1.2, "dynatemp_range": 0.9}, {"temperature": 0.5, "dynatemp_range": 2.0, "dynatemp_exponent": 3.0},
    {"temperature": 0.5, "dynatemp_range": 0.5, "dynatemp_exponent": 0.0},
    {"top_k": 20, "typical_p": 0.9, "top_p": 0.9, "min_p": 0.02, "temperature": 0.8, "repeat_penalty": 1.1},
]  # fmt: skip
"""Settings of all samplers, on top of those that switch all off."""
OFF = SamplingConfig(temperature=1.0, min_p=0.0)


def left_by(config: SamplingConfig, logits: np.ndarray, history: np.ndarray, uniform: float) -> Remaining:
    """What the exact samplers leave of logits [V]."""
    inputs = vars(config) | {"history": history, "xtc_uniforms": uniform, "breakers": np.zeros(len(logits), bool)}
    inputs["breaker_texts"] = None
    left = possible(logits)
    used = settings_of([config])
    for name, function in EXACT.items():
        if all(field in used or not hasattr(SamplingConfig, field) for field in TRANSFORMS[name][1]):
            left = function(left, *(inputs[field] for field in TRANSFORMS[name][1]))
    return left


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_samplers_leave_what_the_ordinary_ones_leave(settings: dict[str, Any]) -> None:
    rng, config = np.random.default_rng(0), replace(OFF, **settings)
    columns = settings_of([config])
    for number in range(40):
        logits = rng.normal(0, rng.choice([0.5, 2.0, 6.0]), 60).astype(np.float32)
        logits[rng.random(60) < 0.2] = -np.inf
        logits[number % 60] = 1.0
        history = np.append(np.full(3, -1), rng.integers(0, 6, 30)).astype(np.int32)
        uniform = float(rng.random())
        left = left_by(config, logits.astype(np.float64), history, uniform)
        inputs = columns | {
            "history": history[None], "breakers": np.zeros((1, 60), bool), "breaker_texts": [],
            "xtc_uniforms": np.array([[uniform]]),
        }  # fmt: skip
        ordinary = transform(Candidates(logits[None].copy()), inputs, active_samplers(inputs))
        expected = np.flatnonzero(ordinary.logits[0] > -np.inf)
        ids = expected if ordinary.ids is None else ordinary.ids[0, expected]
        assert left.ids.tolist() == ids.tolist()
        assert left.logits - left.highest == pytest.approx(
            ordinary.logits[0, expected] - ordinary.logits[0].max(), rel=1e-5, abs=1e-5
        )


TIED = st.lists(st.sampled_from([-3.0, 0.0, 0.5, 2.0]), min_size=1, max_size=12).map(np.array)


@given(TIED, st.sampled_from([1, 2, 5]))
def test_ties_at_a_threshold_stay(logits: np.ndarray, k: int) -> None:
    left = possible(logits)
    kth = sorted(logits)[-min(k, len(logits))]
    assert exact_chain.top_k(left, k).ids.tolist() == np.flatnonzero(logits >= kth).tolist()
    for filtered in (exact_chain.top_p(left, 0.6), exact_chain.typical_p(left, 0.6), exact_chain.min_p(left, 0.3)):
        kept = set(filtered.logits.tolist())
        assert filtered.ids.tolist() == [id for id, logit in enumerate(logits.tolist()) if logit in kept]


def test_the_first_place_above_a_fraction() -> None:
    weights = np.array([0.0, 1.0, 0.0, 2.0, 1.0])
    assert [first_above(weights, fraction) for fraction in (0.0, 0.24, 0.25, 0.75, 1 - 2**-53)] == [1, 1, 3, 4, 4]
    assert first_above(np.array([1.0]), 1 - 2**-53) == 0
    assert first_above(np.full(7, 0.1), 1 - 2**-53) == 6  # where the fraction of the total rounds to the total


def test_draws_have_the_frequencies_of_the_logits() -> None:
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    rng = np.random.default_rng(0)
    counts = np.bincount([exact_chain.draw_exactly(possible(logits), rng.random()) for _ in range(4000)])
    assert counts / 4000 == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.025)


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_draws_what_the_ordinary_one_draws(version: int) -> None:
    config = replace(OFF, mirostat=version, mirostat_tau=3.0, mirostat_eta=0.2, seed=3, coin_words=True)
    rng = np.random.default_rng(0)
    exact, ordinary = (Sampler([config], TOKENIZER, exact=exact) for exact in (True, False))
    for _ in range(200):
        logits = rng.normal(0, 2, (1, V)).astype(np.float32)
        assert exact.draw(logits.astype(np.float64)).tolist() == ordinary.draw(logits).tolist()


# === Texts ===

CONFIG = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=30, coin_words=True)
PROMPTS = ["", "The c", "a", "床前明月光。", "The cat sat on the mat. " * 12, "x\ny", "The cat"]


def requests() -> Iterator[Request]:
    for seed in range(70):
        yield Request(PROMPTS[seed % 7], replace(CONFIG, **SETTINGS[seed % len(SETTINGS)], seed=seed, top_logprobs=2))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(both_models("lstm", V)[0], TOKENIZER)


@pytest.fixture(scope="module")
def alone(generator: Generator) -> list[Generation]:
    return [next(generator.generate_requests([request])) for request in requests()]


@pytest.mark.parametrize("batch_size", [7, 64])
def test_a_text_is_the_same_in_every_batch(generator: Generator, alone: list[Generation], batch_size: int) -> None:
    assert len({generation.text for generation in alone}) > 50
    together = list(generator.generate_requests(requests(), batch_size=batch_size))
    assert together == alone
    assert [each.logprobs for each in together] == [each.logprobs for each in alone]  # to the last bit


def test_a_text_is_the_same_when_others_join_and_leave(generator: Generator, alone: list[Generation]) -> None:
    waiting, decoder, tokens = list(requests()), generator.decoder(row_by_row=True), dict[int | None, list[int]]()
    rows: dict[object, int | None] = {}
    rng = np.random.default_rng(0)
    while waiting or decoder.rows:
        arriving = [waiting.pop() for _ in range(min(len(waiting), int(rng.integers(0, 4))))]
        new = [generator.row(request.prompt, request.config) for request in arriving]
        rows |= {row: request.config.seed for row, request in zip(new, arriving, strict=True)}
        decoder.join(new)
        for row, token in decoder.step():
            tokens.setdefault(rows[row], []).append(token.id)
    assert [tuple(tokens[seed]) for seed in range(70)] == [generation.ids for generation in alone]


def test_a_text_goes_on_from_a_saved_state(generator: Generator, tmp_path: Any) -> None:
    config = replace(CONFIG, seed=5, min_tokens=30, temperature=0.0)
    whole = list(generator.tokens("The cat", config))
    writing = generator.tokens("The cat", config)
    first = [next(writing) for _ in range(11)]
    generator.save_state(tmp_path / "state", writing.state)
    rest = generator.tokens("", replace(config, min_tokens=19, max_tokens=19), generator.load_state(tmp_path / "state"))
    assert [token.id for token in (*first, *rest)] == [token.id for token in whole]
    arrays = writing.state.model_state[0]
    assert {array.dtype for array in arrays} == {np.dtype(np.float64)}


def test_the_best_of_several(generator: Generator) -> None:
    one, other = (list(generator.generate_requests(islice(requests(), 8), 1, 3, size)) for size in (1, 64))
    assert one == other


def test_texts_of_the_two_arithmetics_hardly_differ() -> None:
    exact, ordinary = (Generator(model, TOKENIZER) for model in both_models("lstm", V))
    one, other = (list(each.generate_requests(islice(requests(), 40))) for each in (exact, ordinary))
    assert sum(a.ids[:10] == b.ids[:10] for a, b in zip(one, other, strict=True)) > 35


def test_a_network_that_leaves_all_numbers_is_refused() -> None:
    config = config_of("rnn, relu", V)
    weights = {name: 1e20 * np.ones_like(array) for name, array in random_weights(config).items()}
    model = ExactModel(integers_of(config, weights))
    with pytest.raises(SavedModelError, match="not finite numbers"):
        Generator(model, TOKENIZER).generate("The cat", CONFIG)


def test_a_search_is_refused(generator: Generator) -> None:
    with pytest.raises(ConfigError, match="exact arithmetic"):
        generator.search("The")


def test_models_around_an_exact_one_are_exact(generator: Generator) -> None:
    model = generator.model
    around: list[StepModel] = [
        StartedModel(model, generator.start().model_state),
        RowByRow(model),
        CancellableModel(model, threading.Event()),
    ]
    assert all(each.exact for each in around)
    assert not RowByRow(both_models("lstm")[1]).exact

"""What a run is expected to take: steps, validations, compiling; and the speed of layers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from textgen.model.config import ModelConfig
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Shares
from textgen.training.planning import estimates
from textgen.training.planning.estimates import (
    Estimates,
    machine_memory,
    run_seconds,
    scoring_speed,
    tokens_per_second,
    training_seconds,
)

SPEED, SCORING_SPEED, TOKENS = 10_000.0, 24_000.0, 1_000_000
MODEL = ModelConfig(8000, embedding_dim=512, hidden_units=512)
TRAINING = TrainingConfig(batch_size=32, sequence_length=64, steps=1000, num_validations=10, valid_tokens=30_000)


def test_a_run_takes_its_steps_and_validations() -> None:
    steps = training_seconds(TRAINING, TOKENS, SPEED)
    assert steps == pytest.approx(1000 * 32 * 64 / SPEED)
    whole = run_seconds(MODEL, TRAINING, TOKENS, SPEED, SCORING_SPEED)
    assert whole > steps
    often = run_seconds(MODEL, replace(TRAINING, num_validations=20), TOKENS, SPEED, SCORING_SPEED)
    assert often - whole == pytest.approx(10 * (30_000 / SCORING_SPEED + 0.25 + 2.5e-7 * MODEL.num_parameters))
    assert training_seconds(replace(TRAINING, num_validations=20), TOKENS, SPEED) == steps
    longer = replace(TRAINING, steps=2000)
    assert run_seconds(MODEL, longer, TOKENS, SPEED, SCORING_SPEED) - whole == pytest.approx(steps)


def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three processes on two machines, one machine has two."""
    monkeypatch.setattr(estimates, "num_cores", lambda processes: 1)
    alone, pair = (machine_memory(MODEL, TRAINING, Shares(3, 3, machines)) for machines in (3, 2))
    assert pair == 2 * alone


def test_a_budget_in_minutes_includes_the_validations() -> None:
    for minutes in (1.0, 2.0):
        assert (
            run_seconds(MODEL, replace(TRAINING, steps=None, minutes=minutes), TOKENS, SPEED, SCORING_SPEED)
            == 60 * minutes
        )
    assert run_seconds(MODEL, replace(TRAINING, minutes=100.0), TOKENS, SPEED, SCORING_SPEED) == run_seconds(
        MODEL, TRAINING, TOKENS, SPEED, SCORING_SPEED
    )


def test_passes_are_those_of_the_steps() -> None:
    made = Estimates(TOKENS, SPEED, SCORING_SPEED, training_seconds=200.0, seconds=240.0, memory_bytes=2_000_000_000)
    assert made.epochs == pytest.approx(2.0)
    assert made.has_room
    assert not replace(made, memory_there=1_000_000_000).has_room


def test_narrow_layers_reach_the_speed_of_wide_ones_in_float32_alone() -> None:
    """In lower precisions products of small matrices are of float32, so narrow layers gain less."""
    narrow, wide = (ModelConfig(10, embedding_dim=units, hidden_units=units) for units in (64, 2048))

    def products(model: ModelConfig, precision: str) -> float:
        """Operations per second, with batches so large that an update costs nothing besides."""
        return tokens_per_second(model, 1e11, precision, step_tokens=10**9) * 6 * model.num_parameters

    assert products(narrow, "float32") == pytest.approx(products(wide, "float32"), rel=0.05)
    assert products(narrow, "bfloat16") < 0.7 * products(wide, "bfloat16")
    assert products(wide, "bfloat16") > 1.2 * products(wide, "float32")


@pytest.mark.parametrize("units", [64, 2048])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_on_a_gpu_no_precision_is_slower_than_float32(units: int, precision: str) -> None:
    """A processor converts float16, so float16 is slow there."""
    model = ModelConfig(10, embedding_dim=units, hidden_units=units)
    for speed in (partial(tokens_per_second, step_tokens=10**9), scoring_speed):
        assert speed(model, 1e13, precision, on_gpu=True) > speed(model, 1e13, "float32", on_gpu=True)
    assert scoring_speed(model, 1e13, "float16") < scoring_speed(model, 1e13, "float32")


def test_logits_cost_more_than_their_products_where_there_are_few_units() -> None:
    """A tiny network with 12,000 tokens, measured on two cores of 2.9e11 operations: 15,400 tokens per second."""
    tiny = ModelConfig(12_000, embedding_dim=128, hidden_units=128, num_layers=1)
    assert tokens_per_second(tiny, 2.9e11, "float32") == pytest.approx(15_400, rel=0.1)
    assert tokens_per_second(tiny, 2.9e11, "float32", logits=1024) == pytest.approx(78_400, rel=0.15)


def test_an_update_takes_longer_the_more_weights_there_are() -> None:
    """Measured on two cores of 2.9e11 operations: 20 to 25 ms for 9.3 million weights, however many tokens it has."""
    model = ModelConfig(10_003, embedding_dim=512, hidden_units=512, num_layers=2)

    def seconds(step_tokens: int) -> float:
        return step_tokens / tokens_per_second(model, 2.9e11, "float32", step_tokens, logits=1024)

    fixed = 2 * seconds(1120) - seconds(2240)
    assert 0.02 < fixed < 0.035
    assert seconds(1120) == pytest.approx(0.199, rel=0.2)
    assert seconds(2240) == pytest.approx(0.335, rel=0.15)

"""After how many validations without a better score the schedule plateau lowers the learning rate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from textgen.evaluation.scores import Scores
from textgen.system.runtime import load_tensorflow
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.position import Position
from textgen.training.validator import Hooks, Validator
from textgen.training.weight_averaging import make_averaging

load_tensorflow()

LOSSES = [5.0, 6.0, 5.0, 5.5, 7.0, 4.0, 4.5, 4.0]  # only the first and the sixth are below all before them


def validator_of(losses: list[float], patience: int, schedule: str = "plateau") -> Validator:
    """A validator of a network without weights, whose held-out losses are known beforehand."""
    config = TrainingConfig(steps=1, schedule=schedule, plateau_patience=patience)
    model: Any = SimpleNamespace(config=SimpleNamespace(direction="forward"), weights_as_arrays=dict)
    reader: Any = SimpleNamespace(progress=lambda position: 0.0, epochs=lambda position: 0.0)
    held_out: Any = range(1)
    averaging = make_averaging(config, model)
    validator = Validator(model, held_out, config, reader, averaging, hooks=Hooks(), distribution=Distribution())
    scores = iter(
        [Scores(nats_per_token=x, bits_per_byte=x, perplexity_per_token=x, tokens=1, bytes=1) for x in losses]
    )
    evaluator: Any = SimpleNamespace(scores=lambda *_: next(scores), counts_bytes=False)
    validator.evaluator = evaluator
    return validator


@pytest.mark.parametrize(
    ("patience", "reductions"), [(0, [0, 1, 2, 3, 4, 4, 5, 6]), (1, [0, 0, 1, 1, 2, 2, 2, 3]), (2, [0, 0, 0, *[1] * 5])]
)
def test_plateau_counts_from_the_best_score_and_from_the_last_reduction(patience: int, reductions: list[int]) -> None:
    validator, position = validator_of(LOSSES, patience), Position()
    found = []
    for _ in LOSSES:
        assert validator.validate(position, with_sample=False)
        found.append(position.reductions)
    assert found == reductions


def test_other_schedules_count_no_reductions() -> None:
    """Else they would take effect once a resumed run follows the schedule plateau."""
    validator, position = validator_of(LOSSES, 0, "cosine"), Position()
    for _ in LOSSES:
        assert validator.validate(position, with_sample=False)
    assert (position.reductions, position.waited) == (0, 0)
    assert position.without_improvement == 2

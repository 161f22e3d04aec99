"""What the position of a run is after it is resumed, with the same settings and with others."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest

from textgen.schema import json_object
from textgen.settings import to_dict
from textgen.storage.files import json_bytes
from textgen.training.config import TrainingConfig
from textgen.training.observers.observer import ValidationReport
from textgen.training.position import MAX_HISTORY, Position

BEFORE: dict[str, Any] = {"steps": 10, "schedule": "cosine", "learning_rate": 0.01, "freeze_layers": ("head",)}


def resumed(before: Position, **changed: Any) -> Position:
    """A position as it is written to a checkpoint, read, and gone on from."""
    position = Position.from_dict(json_object(json_bytes(asdict(before))))
    position.go_on_with(to_dict(TrainingConfig(**{**BEFORE, **changed})))
    return position


@pytest.fixture
def before() -> Position:
    counts: dict[str, Any] = {"without_improvement": 4, "waited": 1, "reductions": 2, "learning_rate": 1e-7}
    return Position(settings=to_dict(TrainingConfig(**BEFORE)), **counts)


def test_a_run_goes_on_as_it_was_if_no_setting_has_changed(before: Position) -> None:
    for is_finished in (False, True):
        before.is_finished = is_finished
        after = resumed(before)
        assert asdict(after) == asdict(before) | {"settings": to_dict(TrainingConfig(**BEFORE))}


@pytest.mark.parametrize("changed", [{"schedule": "plateau"}, {"learning_rate": 0.02}])
def test_a_new_rate_or_schedule_replaces_a_rate_and_reductions_of_before(
    before: Position, changed: dict[str, Any]
) -> None:
    after = resumed(before, **changed)
    assert (after.learning_rate, after.reductions, after.waited) == (None, 0, 0)
    assert after.without_improvement == 4
    again = Position(settings=after.settings, learning_rate=0.5, reductions=1)
    assert resumed(again, **changed).learning_rate == 0.5, "the new settings are those of before the next time"


def test_the_mean_loss_is_that_of_all_tokens() -> None:
    """A checkpoint of an older version has counted each loss once."""
    position = Position.from_dict({"train_nats": 6.0, "train_steps": 2})
    position.add_loss(5.0, 0.5)
    assert position.mean_loss() == pytest.approx((6.0 + 2.5) / 2.5)
    assert Position().mean_loss() == 0.0


def test_other_settings_keep_the_rate_that_an_observer_has_set(before: Position) -> None:
    after = resumed(before, steps=20, weight_decay=0.5)
    assert (after.learning_rate, after.reductions, after.waited) == (1e-7, 2, 1)


def test_patience_starts_afresh_if_a_run_that_was_over_gets_new_settings(before: Position) -> None:
    assert resumed(before, steps=20).without_improvement == 4
    before.is_finished = True
    stopped = resumed(before)  # before a validation
    assert resumed(stopped, steps=20).without_improvement == 0


def test_a_checkpoint_of_an_older_version_tells_of_no_change() -> None:
    older = Position.from_dict({"step": 3, "learning_rate": 1e-7, "reductions": 2, "without_improvement": 4})
    after = resumed(older, schedule="plateau")
    assert (after.learning_rate, after.reductions, after.without_improvement) == (1e-7, 2, 4)


def test_settings_that_an_older_version_named_otherwise_are_no_change() -> None:
    older = {
        "settings": {"decay_target": "base", "interpolate_base": True},
        "is_finished": True,
        "without_improvement": 4,
    }
    after = resumed(Position.from_dict(older), decay_target="start", interpolate_start=True)
    assert after.without_improvement == 4


def test_the_saved_step_is_that_of_the_kept_weights_until_a_validation_is_as_good() -> None:
    assert not Position().has_best
    assert (Position(best_step=4, best_nats_per_token=3.0).saved_step, Position(best_step=4).saved_step) == (4, 4)
    kept = Position(best_step=4, best_nats_per_token=3.0, kept_step=8, kept_nats_per_token=2.0)
    assert (kept.saved_step, kept.has_best) == (8, True)
    assert Position(kept_nats_per_token=2.0).has_best


def test_the_history_has_the_scores_of_the_validations() -> None:
    position = Position()
    for step in (2, 4, 4, 6):  # a run that was over at step 4 scores its weights again when it is resumed
        position.add_scores(ValidationReport(step, step / 2, 3.0, 2.0 - step / 10, 7.0, 1.5, improved=True, sample="a"))
    assert [(scores["step"], scores["nats_per_token"]) for scores in position.history] == [(2, 1.8), (4, 1.6), (6, 1.4)]
    assert position.history[0] == {"step": 2, "epochs": 1.0, "nats_per_token": 1.8, "bits_per_byte": 1.5}
    assert resumed(position).history == position.history


def test_of_very_many_validations_fewer_are_kept() -> None:
    position = Position()
    for step in range(1, 2 * MAX_HISTORY):
        position.add_scores(ValidationReport(step, 1.0, 3.0, 2.0, 7.0, 1.5, improved=False, sample=""))
        assert len(position.history) <= MAX_HISTORY
        position.best_step = min(step, 502)
    steps = [scores["step"] for scores in position.history]
    assert (steps[0], steps[-1], len(steps)) == (1, 2 * MAX_HISTORY - 1, MAX_HISTORY)
    assert 502 in steps, "the best one stays"
    assert steps == sorted(set(steps))
    assert max(later - step for step, later in pairwise(steps)) <= 4, "they are left out everywhere alike"


def test_after_a_rollback_the_validations_of_the_part_that_failed_are_recorded_too() -> None:
    def report(step: int) -> ValidationReport:
        return ValidationReport(step, 1.0, 3.0, 2.0, 7.0, 1.5, improved=False, sample="")

    position, failed = Position(), Position()
    for step in (1, 2, 3):
        failed.add_scores(report(step))
    position.add_scores(report(1))
    position.skip_to(failed, 1.0)
    position.add_scores(report(2))
    position.add_scores(report(2))
    assert [scores["step"] for scores in position.history] == [1, 2, 3, 2]
    assert len(failed.history) == 3

"""What becomes of a run that has failed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from disk import unreadable

from textgen.errors import SavedModelError, Unreadable
from textgen.training.checkpoints import Checkpoint, save_checkpoint
from textgen.training.loss_health import Health
from textgen.training.position import Position
from textgen.training.rollback import kept_weights_message, last_good_checkpoint, when_to_give_up


def _save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, step, Checkpoint({"w": np.zeros(1, "float32")}, {"step": step}), keep=9)


@pytest.mark.parametrize(("returned_to", "step"), [(math.inf, 8), (8, 4), (4, 2), (2, 2)])
def test_a_run_goes_one_checkpoint_further_back_each_time(tmp_path: Path, returned_to: float, step: int) -> None:
    _save(tmp_path, 2, 4, 8)
    assert last_good_checkpoint(tmp_path, returned_to).position["step"] == step


def test_a_checkpoint_that_cannot_be_read_for_a_moment_is_not_passed_over(tmp_path: Path) -> None:
    _save(tmp_path, 2, 4)
    with unreadable(tmp_path / "step-000000004"), pytest.raises(Unreadable):
        last_good_checkpoint(tmp_path, math.inf)


def test_without_checkpoints_there_is_no_way_back(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError):
        last_good_checkpoint(tmp_path, math.inf)


def test_the_number_of_rollbacks_and_the_budget_are_limits() -> None:
    assert when_to_give_up(Position(step=4, health=Health(rollbacks=2)), 3, 0.5) == ""
    assert when_to_give_up(Position(step=4, health=Health(rollbacks=3)), 3, 0.5).endswith("3 times")
    assert when_to_give_up(Position(step=4), 3, 1.0) == "", "the weights of step 4 can still be validated"
    assert when_to_give_up(Position(best_nats_per_token=2.0), 3, 1.0) == ""
    assert when_to_give_up(Position(), 3, 1.0) == "when the planned length was reached"


def test_the_weights_that_are_left_are_named() -> None:
    assert "best" in kept_weights_message(Position(step=4, best_nats_per_token=2.0))
    assert "step 1,200" in kept_weights_message(Position(step=1200))
    assert kept_weights_message(Position()) == "No weights are kept."


def test_a_failed_run_skips_its_text_and_keeps_its_best_weights() -> None:
    position = Position(step=4, epoch=0, step_in_epoch=4, validations=1, best_step=4, best_nats_per_token=3.0)
    failed = Position(step=9, epoch=1, step_in_epoch=2, validations=2, best_step=8, best_nats_per_token=2.5)
    failed.health.left_out, failed.compiling_seconds = 1, 3.0
    position.skip_to(failed, seconds=7.0)
    assert (position.step, position.validations) == (4, 1)
    assert (position.epoch, position.step_in_epoch) == (1, 2)
    assert (position.seconds, position.compiling_seconds) == (7.0, 3.0)
    assert (position.best_step, position.best_nats_per_token, position.health.left_out) == (8, 2.5, 1)

"""Losses, scores and weights that are no numbers: a run goes back to a checkpoint, or ends."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trained_runs
from safetensors.numpy import load_file
from trained_runs import Watch, plan_for, weights

from textgen.dataset.token_stream import TokenStream
from textgen.errors import SavedModelError, TrainingError
from textgen.model.language_model import LanguageModel
from textgen.saved_model.layout import read_training
from textgen.saved_model.loading import load_model
from textgen.training.checkpoints import newest_checkpoint
from textgen.training.loss_health import Health
from textgen.training.loss_scale import LossScale
from textgen.training.observers.observer import Observer, StepReport
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

tensorflow, text = trained_runs.tensorflow, trained_runs.text  # fixtures


class Poison(Observer):
    """Makes an output of the network infinite after some steps, as a bug or bad memory would."""

    def __init__(self, steps: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._steps = list(steps)
        self._models: list[LanguageModel] = []
        start_bias = LanguageModel.start_bias

        def remember(model: LanguageModel, counts: np.ndarray) -> None:
            self._models.append(model)
            start_bias(model, counts)

        monkeypatch.setattr(LanguageModel, "start_bias", remember)

    def on_step(self, report: StepReport) -> None:
        if self._steps and report.step == self._steps[0]:
            self._steps.pop(0)
            bias = np.array(self._models[-1].head.bias.numpy())
            bias[5] = np.nan
            self._models[-1].head.bias.assign(bias)

    def on_fault(self, line: str) -> None:
        self.lines.append(line)


def test_a_loss_that_is_no_number_takes_the_run_back_to_its_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, watch = Poison([21], monkeypatch), Watch()
    saved = train(
        plan_for(text, steps=40, num_validations=2), tmp_path / "songs", options=RunOptions(observers=[poison, watch])
    )
    assert saved.training["status"].startswith("finished")
    assert (saved.training["progress"]["left_out"], saved.training["progress"]["rollbacks"]) == (5, 1)
    assert all(np.isfinite(array).all() for array in saved.weights().values())
    assert [report.step for report in watch.steps] == [*range(1, 22), *range(21, 41)]
    assert [line.split(":")[0] for line in poison.lines[:4]] == ["Step 22", "Step 23", "Step 24", "Step 25"]
    assert poison.lines[4].startswith("At step 26 the loss or its gradient was not finite 5 times in a row: returned")
    assert "weights of step 20" in poison.lines[4]
    windows = watch.steps[20].epochs, watch.steps[21].epochs
    assert windows[1] - windows[0] == pytest.approx(6 * watch.steps[0].epochs)  # those since are skipped


def test_too_many_faults_end_the_run_and_leave_the_last_good_weights(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison([6, 6, 6], monkeypatch)
    with pytest.raises(
        TrainingError, match=r"At step 8 the weights .*going back to a checkpoint 2 times.*learning_rate"
    ):
        train(plan_for(text, steps=12, max_rollbacks=2), tmp_path / "songs", options=RunOptions(observers=[poison]))
    saved = load_model(str(tmp_path / "songs"))
    assert all(np.isfinite(array).all() for array in saved.weights().values())
    assert saved.training["status"].startswith("failed")
    assert saved.training["progress"]["best_step"] == 4


@pytest.mark.parametrize("is_finite", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_that_diverges_before_its_first_validation_leaves_no_model_of_it(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_finite: bool
) -> None:
    poison = Poison([] if is_finite else [3], monkeypatch)
    if is_finite:
        monkeypatch.setattr(Health, "record", lambda health, nats, finite: "the loss was high" * (nats < 9))
    plan = plan_for(text, num_validations=1, steps=20, max_rollbacks=0)
    with pytest.raises(TrainingError, match=r"training stopped\. No weights are kept\. Try a smaller learning_rate"):
        train(plan, tmp_path / "songs", options=RunOptions(observers=[poison]))
    assert read_training(tmp_path / "songs")["status"].startswith("failed: At step ")
    with pytest.raises(SavedModelError, match="has saved no model yet"):
        load_model("songs", tmp_path)


def test_a_run_that_diverges_leaves_the_weights_of_its_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[float]()

    def record(health: Health, nats: float, is_finite: bool) -> str:
        seen.append(nats)
        return "the loss was high" if len(seen) == 4 else ""

    monkeypatch.setattr(Health, "record", record)
    plan = plan_for(text, num_validations=1, max_rollbacks=0, checkpoint_minutes=0.0)
    with pytest.raises(TrainingError, match=r"At step 4 .* The weights of step 3 are kept\."):
        train(plan, tmp_path / "songs")
    saved, (checkpoint, _) = load_model(str(tmp_path / "songs")), newest_checkpoint(tmp_path / "songs" / "checkpoints")
    assert checkpoint.position["step"] == saved.training["progress"]["step"] == 3
    for name, array in weights(saved).items():
        np.testing.assert_array_equal(array, checkpoint.tensors[f"weights/{name}"])


@pytest.mark.slow
def test_a_perplexity_beyond_all_numbers_is_recorded_as_the_largest(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a run that has diverged: no file holds infinity."""
    monkeypatch.setattr("textgen.evaluation.evaluator.perplexity", lambda nats: math.inf)
    saved = train(plan_for(text, steps=1, num_validations=1), tmp_path / "songs")
    assert saved.training["scores"]["perplexity_per_token"] == sys.float_info.max


class Faults(Watch):
    """Keeps what is said of faults, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = list[str]()

    def on_fault(self, line: str) -> None:
        self.lines.append(line)


def test_a_held_out_loss_that_is_no_number_takes_the_run_back_to_its_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although all weights are finite, as where an activation overflows."""
    from textgen.evaluation.evaluator import Evaluator
    from textgen.evaluation.scores import Scores

    score, faults = Evaluator.scores, [math.nan, math.inf, 0.0, 0.0, 0.0]

    def scores(*arguments: Any) -> Scores:
        made = score(*arguments)
        return replace(made, nats_per_token=made.nats_per_token + faults.pop(0))

    monkeypatch.setattr(Evaluator, "scores", scores)
    watch = Faults()
    train(plan_for(text), tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert [line.split(":")[0] for line in watch.lines] == [
        "At step 4 the loss on the held-out text was not finite"
    ] * 2
    assert [report.step for report in watch.validations] == [4, 8, 12]
    training = read_training(tmp_path / "songs")
    assert training["progress"]["rollbacks"] == 2
    assert training["scores"]["nats_per_token"] == min(report.nats_per_token for report in watch.validations)


@pytest.mark.slow
def test_a_second_fault_after_a_checkpoint_takes_the_run_back_to_the_one_before(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No score has shown yet that the weights of the first are good."""
    from textgen.evaluation.evaluator import Evaluator
    from textgen.evaluation.scores import Scores

    score, faults = Evaluator.scores, [0.0, math.nan, math.nan, math.nan, 0.0, 0.0, 0.0]

    def scores(*arguments: Any) -> Scores:
        made = score(*arguments)
        return replace(made, nats_per_token=made.nats_per_token + faults.pop(0))

    monkeypatch.setattr(Evaluator, "scores", scores)
    watch = Faults()
    plan = plan_for(text, checkpoint_minutes=0.0, keep_checkpoints=2)
    train(plan, tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert [line.partition(": ")[2].partition(";")[0] for line in watch.lines] == [
        "returned to the weights of step 7",
        "returned to the weights of step 6",
        "returned to the weights of step 7",  # which was written again
    ]
    assert [report.step for report in watch.validations] == [4, 8, 12]


def test_a_run_whose_budget_is_spent_before_it_has_any_weights_is_not_finished(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textgen.evaluation.evaluator import Evaluator

    score = Evaluator.scores
    monkeypatch.setattr(Evaluator, "scores", lambda *arguments: replace(score(*arguments), nats_per_token=math.nan))
    plan = plan_for(text, steps=None, minutes=0.0005, num_validations=1)
    with pytest.raises(
        TrainingError, match=r"not finite, when the planned length was reached: .* No weights are kept\."
    ):
        train(plan, tmp_path / "songs")
    assert read_training(tmp_path / "songs")["status"].startswith("failed: At step ")
    with pytest.raises(SavedModelError, match="has saved no model yet"):
        load_model("songs", tmp_path)


def test_scores_that_are_no_numbers_are_not_recorded(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the backward network, and of the final evaluation, where those of the best validation stay."""
    from textgen.evaluation.evaluator import Evaluator
    from textgen.evaluation.scores import Scores

    def scores(evaluator: Evaluator, stream: TokenStream, max_tokens: int) -> Scores:
        made = replace(score(evaluator, stream, max_tokens), backward_nats_per_token=math.nan)
        return replace(made, nats_per_token=math.nan) if max_tokens > 64 else made

    score = Evaluator.scores
    monkeypatch.setattr(Evaluator, "scores", scores)
    watch = Watch()
    train(plan_for(text, valid_tokens=64), tmp_path / "songs", options=RunOptions(observers=[watch]))
    recorded = read_training(tmp_path / "songs")["scores"]
    assert recorded["nats_per_token"] == min(report.nats_per_token for report in watch.validations)
    assert "backward_nats_per_token" not in recorded


def test_weights_that_are_not_finite_are_never_saved(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison([8], monkeypatch)  # of 12 steps with 3 validations: just before a checkpoint
    train(plan_for(text), tmp_path / "songs", options=RunOptions(observers=[poison]))
    assert "At step 8 the weights were not finite" in poison.lines[0]
    for file in (tmp_path / "songs" / "checkpoints").glob("*/*.safetensors"):
        assert all(np.isfinite(array).all() for array in load_file(file).values())


@pytest.mark.slow
def test_float16_lowers_the_scale_of_its_loss_where_it_overflows_and_counts_no_fault(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**30, 0))
    watch, plan = Watch(), plan_for(text, precision="float16", steps=24, num_validations=2)
    saved = train(plan, tmp_path / "whole", options=RunOptions(observers=[watch]))
    assert saved.training["progress"]["left_out"] == 0
    assert 4 < len(watch.steps) < 20  # the others were left out, and told to nobody
    train(plan, tmp_path / "parts", options=RunOptions(observers=[Watch(20)]))
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000024/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()

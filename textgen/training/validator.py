"""Validations: scores on held-out text during a run, and the best weights until they are saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from textgen.dataset.token_stream import TokenStream
from textgen.evaluation.evaluator import Evaluator
from textgen.evaluation.scores import Scores
from textgen.evaluation.scoring import perplexity
from textgen.model.language_model import LanguageModel
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.observers.observer import ValidationReport
from textgen.training.position import Position
from textgen.training.schedules import parts_done
from textgen.training.weight_averaging import Averaging
from textgen.training.window_reader import WindowReader

COMMON_WINDOWS = 256  # windows after which processes that score the same text wait for the slowest one


@dataclass(frozen=True)
class Hooks:
    """Functions that a validator calls.

    Attributes:
        save_best: Called with the scores of the best validation so far and its weights by name.
        write_sample: Called at validations; returns a text written by the model.
    """

    save_best: Callable[[Scores, dict[str, np.ndarray]], None] = lambda scores, weights: None
    write_sample: Callable[[], str] = lambda: ""


@dataclass(frozen=True, eq=False)
class Validated:
    """Weights that a validation has scored.

    Attributes:
        step: Updates so far.
        nats_per_token: Their loss.
        weights: The weights by name.
    """

    step: int
    nats_per_token: float
    weights: Mapping[str, np.ndarray]


class Validator:
    """Scores held-out text with the averaged weights, if there are any, and remembers the best weights.

    Attributes:
        evaluator: Scores token streams.
        best_scores: Scores of the best validation, if this process has made it.
        runner_up: The best weights of the validations since the run was last resumed. Kept only with
            `interpolate_start`, and only while the saved weights score better: the saved weights may be a mix with the
            start already, so a mix of these may still beat them. None otherwise, and in all processes but the chief.
    """

    def __init__(
        self,
        model: LanguageModel,
        held_out: TokenStream,
        config: TrainingConfig,
        reader: WindowReader,
        averaging: Averaging,
        *,
        hooks: Hooks,
        distribution: Distribution,
        token_bytes: np.ndarray | None = None,
    ) -> None:
        """Prepares validations.

        Args:
            model: Network that is trained.
            held_out: Held-out text.
            config: Settings of training.
            reader: Tells how far a run has come in its text and its budget.
            averaging: Average of the weights.
            hooks: What to call for the best weights and for samples.
            distribution: Processes that train together.
            token_bytes: Bytes of text that each token stands for, [V], by which parts of the held-out text are chosen.
        """
        self.evaluator = Evaluator(model, token_bytes=token_bytes)
        self.evaluator.on_window = self._give_sign_of_life
        self._num_windows = 0  # windows that this process has scored
        self.best_scores: Scores | None = None
        self.runner_up: Validated | None = None
        self._model = model
        self._held_out = held_out
        self._config = config
        self._reader = reader
        self._averaging = averaging
        self._hooks = hooks
        self._distribution = distribution
        self._unsaved: dict[str, np.ndarray] = {}  # the best weights, if they are not saved yet

    def validate(self, position: Position, *, with_sample: bool) -> ValidationReport | None:
        """Scores held-out text and remembers the weights if they are the best. All processes must call it together.

        Args:
            position: Progress of the run, in which the validation is counted.
            with_sample: Whether the report has a text written by the model.

        Returns:
            The scores; None if the loss is not finite, although all weights may be.
        """
        self._averaging.before_validation()
        with self._averaging.applied():
            report, improved = self._score(position, with_sample)
        if report:
            self._record(position, report, improved)
        return report

    def is_same_text(self, position: Position) -> bool:
        """Whether the scores of a position are of the text that validations score now; not if there are none.

        Args:
            position: Its `valid_tokens` and `valid_by_bytes` say how the text was chosen.
        """
        if position.valid_tokens is None:
            return False
        length = len(self._held_out)
        scored = min(position.valid_tokens, length)
        is_chosen_alike = scored == length or position.valid_by_bytes == self.evaluator.counts_bytes
        return scored == min(self._config.valid_tokens, length) and is_chosen_alike

    def is_other_text(self, position: Position) -> bool:
        """Whether a position has scores, and they are of another text."""
        return position.valid_tokens is not None and not self.is_same_text(position)

    def _record_text(self, position: Position) -> None:
        """Records which text the scores of a position are of."""
        position.valid_tokens, position.valid_by_bytes = self._config.valid_tokens, self.evaluator.counts_bytes

    def rescore_best(self, position: Position, weights: Mapping[str, np.ndarray] | None, step: int) -> None:
        """Scores the saved best weights again, so that later validations compare with them fairly.

        The network keeps its weights. All processes must call it together.

        Args:
            position: Progress of the run, which gets the score.
            weights: The saved weights by name; None in all processes but the chief.
            step: Step of these weights.
        """
        nats = self._score_of(weights)
        if self.is_other_text(position):
            self._averaging.forget_scores()
        position.best_step, position.best_nats_per_token, position.kept_nats_per_token = step, nats, None
        self._record_text(position)

    def keep_saved(self, position: Position, weights: Mapping[str, np.ndarray] | None, step: int) -> None:
        """Scores saved weights that the position does not know, so that only better ones replace them.

        Apart from that, validations compare with the best one that the position knows, if it is of the same text. The
        arguments are those of `rescore_best`. All processes must call it together.
        """
        position.kept_step, position.kept_nats_per_token = step, self._score_of(weights)
        if not self.is_same_text(position):
            position.best_nats_per_token = None  # its weights are not there to be scored again
        if self.is_other_text(position):
            self._averaging.forget_scores()
        self._record_text(position)

    def _score_of(self, weights: Mapping[str, np.ndarray] | None) -> float | None:
        """The loss of weights that the chief gives; None if it is not finite. The network keeps its own weights.

        All processes score them, as at a validation, so that none waits for the chief.
        """
        own = self._model.weights_as_arrays()
        given = own if weights is None else {name: weights[name] for name in own}  # in the order of the others
        self._model.assign_weights(self._distribution.from_chief(given))
        nats = self._chiefs(self._scores().nats_per_token)
        self._model.assign_weights(own)
        return nats if math.isfinite(nats) else None

    def _chiefs(self, nats: float) -> float:
        """The chief's number, for all processes."""
        (nats,) = self._distribution.total([nats if self._distribution.is_chief else 0.0])
        return nats

    def _give_sign_of_life(self) -> None:
        """Restarts the time limit of a step at each window, since a long text may take longer than a step.

        The processes score the same windows. Now and then they wait for the slowest one, so that none is far ahead of
        it at the end and gives up on it.
        """
        self._num_windows += 1
        if self._num_windows % COMMON_WINDOWS == 0:
            self._distribution.total([])
        self._distribution.restart_timer()

    def save_best(self) -> None:
        """Writes the best weights, unless they are written."""
        if self._unsaved and self.best_scores:
            self._hooks.save_best(self.best_scores, self._unsaved)
        self._unsaved = {}

    def _score(self, position: Position, with_sample: bool) -> tuple[ValidationReport | None, bool]:
        """Scores the weights as they are, and remembers them if they are the best.

        Returns:
            The scores, and whether they are better than those of all validations so far. Saved weights that these do
            not count may still be better: see `Position.kept_nats_per_token`.
        """
        scores = self._scores()
        nats = self._chiefs(scores.nats_per_token)
        if not math.isfinite(nats):
            return None, False
        improved = position.best_nats_per_token is None or nats < position.best_nats_per_token
        due = parts_done(self._reader.progress(position), self._config.num_validations)
        position.validations = max(position.validations + 1, due)
        if improved:
            position.best_nats_per_token, position.best_step = nats, position.step
            self._record_text(position)
        is_best = improved and (position.kept_nats_per_token is None or nats <= position.kept_nats_per_token)
        if is_best:
            position.kept_nats_per_token = None
            self.best_scores, self.runner_up = scores, None
            self._unsaved = self._model.weights_as_arrays() if self._distribution.is_chief else {}
        else:
            self._note_runner_up(position, nats)
        report = ValidationReport(
            step=position.step,
            epochs=self._reader.epochs(position),
            train_nats_per_token=position.mean_loss(),
            nats_per_token=nats,
            perplexity_per_token=perplexity(nats),
            bits_per_byte=scores.bits_per_byte,
            improved=is_best,
            sample=self._hooks.write_sample() if with_sample else "",
        )
        return report, improved

    def _note_runner_up(self, position: Position, nats: float) -> None:
        """Remembers the weights that the network has if they are the best ones besides better ones that are saved."""
        has_better = position.kept_nats_per_token is not None and self._config.interpolate_start
        is_first = self.runner_up is None or nats < self.runner_up.nats_per_token
        if self._distribution.is_chief and has_better and is_first:
            self.runner_up = Validated(position.step, nats, self._model.weights_as_arrays())

    def _scores(self) -> Scores:
        return self.evaluator.scores(self._held_out, self._config.valid_tokens)

    def _record(self, position: Position, report: ValidationReport, improved: bool) -> None:
        """Counts a validation for the history, for patience, for the schedule plateau and for NT-ASGD."""
        position.add_scores(report)
        waited_for_mean = self._averaging.is_waiting
        self._averaging.on_validation(report.nats_per_token)
        position.train_nats, position.train_steps, position.is_finished = 0.0, 0.0, False
        position.without_improvement = 0 if improved or waited_for_mean else position.without_improvement + 1
        if self._config.schedule != "plateau":
            return
        position.waited = 0 if improved else position.waited + 1
        if position.waited > self._config.plateau_patience:
            position.reductions, position.waited = position.reductions + 1, 0

"""How far a run has come: everything that a checkpoint keeps besides tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from textgen.errors import SavedModelError
from textgen.saved_model.layout import HISTORY
from textgen.saved_model.older_records import rename_entries
from textgen.schema import check, of_fields
from textgen.training.loss_health import Health
from textgen.training.loss_scale import LossScale

if TYPE_CHECKING:
    from textgen.training.observers.observer import ValidationReport

MAX_HISTORY = 1000  # validations that are recorded; of more, those that are closest together are left out


@dataclass
class Position:
    """The progress of a run.

    Attributes:
        step: Updates of the weights so far.
        epoch: Number of the pass over the training text, from 0.
        step_in_epoch: Batches of this epoch that have been read.
        seconds: Duration of training so far, resumptions included.
        compiling_seconds: Duration of the first step of each process so far, in which TensorFlow compiles the network;
            0 in checkpoints of older versions. The warm-up does not count it.
        validations: Validations so far.
        best_step: Step of the best validation.
        best_nats_per_token: Loss of the best validation; None before the first.
        kept_step: Step of the saved weights while they are better than those of every validation counted here; see
            `kept_nats_per_token`.
        kept_nats_per_token: Loss of these weights; None if the saved weights are those of the best validation. They can
            be better because a run that ended with an error saved them after its newest checkpoint, or because a
            finished run mixed them with its start. A resumed run replaces them only when a validation is at least as
            good; in all else validations count as if these weights did not exist.
        valid_tokens: The setting `valid_tokens` with which these losses were computed; None before the first
            validation.
        valid_by_bytes: Whether the scored part of the held-out text was chosen by bytes: see
            `textgen.evaluation.excerpt`. False in checkpoints of older versions, which counted tokens.
        without_improvement: Validations since the best one; `patience` limits them.
        waited: Validations since the best one or since the last reduction of the learning rate.
        reductions: Reductions of the learning rate by the schedule "plateau".
        learning_rate: Learning rate set by an observer; None to follow the schedule.
        settings: Settings of training, by name, that led here; none in checkpoints of older versions.
        is_finished: Whether the run ended at the last validation, and not by an error or a signal.
        train_nats: Sum of the losses since the last validation, in nats per token, each times the tokens of its batch
            relative to a full one.
        train_steps: Sum of these weights: the number of losses if all batches were full.
        history: The scores of the validations, in order, as training.json has them: all of them up to `MAX_HISTORY`.
        health: Losses that were not finite or diverged.
        loss_scale: Scale of the loss; used with float16 only.
    """

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    seconds: float = 0.0
    compiling_seconds: float = 0.0
    validations: int = 0
    best_step: int = 0
    best_nats_per_token: float | None = None
    kept_step: int = 0
    kept_nats_per_token: float | None = None
    valid_tokens: int | None = None
    valid_by_bytes: bool = False
    without_improvement: int = 0
    waited: int = 0
    reductions: int = 0
    learning_rate: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    is_finished: bool = False
    train_nats: float = 0.0
    train_steps: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    health: Health = field(default_factory=Health)
    loss_scale: LossScale = field(default_factory=LossScale)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Position:
        """The inverse of `dataclasses.asdict`. Raises `SavedModelError` for values that no run can have."""
        nested = {"health": Health, "loss_scale": LossScale}
        try:
            schemas = {name: of_fields(kind) for name, kind in nested.items()}
            check(values, of_fields(cls, settings=dict, history=HISTORY, **schemas))
            parts = {name: kind(**values.get(name, {})) for name, kind in nested.items()}
            sections = {"training": dict(values.get("settings", {}))}
            rename_entries(sections)
            position = cls(**{**values, **parts, "settings": sections["training"]})
        except (TypeError, ValueError) as error:
            raise SavedModelError(f"The position in a checkpoint is damaged: {error}.") from None
        counts = position.step, position.epoch, position.step_in_epoch, position.validations
        if min(*counts, position.seconds, position.compiling_seconds) < 0:
            raise SavedModelError("The position in a checkpoint is damaged: it is before the beginning.")
        return position

    @property
    def has_best(self) -> bool:
        """Whether a validation has chosen weights, which are or will be saved."""
        return self.best_nats_per_token is not None or self.kept_nats_per_token is not None

    @property
    def saved_step(self) -> int:
        """Step of the best weights, which are or will be saved."""
        return self.best_step if self.kept_nats_per_token is None else self.kept_step

    def add_scores(self, report: ValidationReport) -> None:
        """Adds a validation to the history, in place of one of the same step, as of a run that was over."""
        is_again = bool(self.history) and self.history[-1]["step"] == report.step
        before = self.history[:-1] if is_again else self.history
        self.history = [*before, {name: getattr(report, name) for name in HISTORY[0]}]
        if len(self.history) > MAX_HISTORY:
            del self.history[self._least_missed()]

    def _least_missed(self) -> int:
        """The entry of the history whose neighbours are closest together, other than the best."""
        steps = [scores["step"] for scores in self.history]
        inner = [index for index in range(1, len(steps) - 1) if steps[index] != self.best_step]
        return min(inner, key=lambda index: abs(steps[index + 1] - steps[index - 1]))

    def go_on_with(self, settings: Mapping[str, Any]) -> None:
        """Resumes a run, perhaps with other settings.

        A learning rate that an observer has set, and reductions of the schedule "plateau", belong to the learning rate
        and the schedule that they changed. Patience starts afresh if a run that was over is resumed with new settings.

        Args:
            settings: Settings of training by name.
        """
        changed = {name for name in settings if _differs(self.settings.get(name, settings[name]), settings[name])}
        if changed & {"learning_rate", "schedule"}:
            self.learning_rate, self.reductions, self.waited = None, 0, 0
        if changed and self.is_finished:
            self.without_improvement = 0
        self.settings = dict(settings)

    def skip_to(self, failed: Position, seconds: float) -> None:
        """Goes on from this position of a checkpoint, but with the text after that of a position that has failed.

        The best weights of the run so far are on disk, so their scores are those of the failed position too.

        Args:
            failed: Where the run has failed.
            seconds: Duration of training until then.
        """
        self.epoch, self.step_in_epoch = failed.epoch, failed.step_in_epoch
        self.seconds, self.compiling_seconds = seconds, failed.compiling_seconds
        self.health.rollbacks, self.health.left_out = failed.health.rollbacks, failed.health.left_out
        self.best_step, self.best_nats_per_token = failed.best_step, failed.best_nats_per_token
        self.kept_step, self.kept_nats_per_token = failed.kept_step, failed.kept_nats_per_token
        self.history = list(failed.history)
        self.valid_tokens, self.valid_by_bytes = failed.valid_tokens, failed.valid_by_bytes

    def add_loss(self, nats: float, weight: float = 1.0) -> None:
        """Counts the loss of an update.

        Args:
            nats: Mean loss in nats per token.
            weight: Tokens of the batch relative to a full one.
        """
        self.train_nats += weight * nats
        self.train_steps += weight

    def mean_loss(self) -> float:
        """Mean loss since the last validation, in nats per token; 0 if there is none."""
        return self.train_nats / self.train_steps if self.train_steps else 0.0


def _differs(one: Any, other: Any) -> bool:
    """Whether values of a setting differ; JSON has lists in place of tuples."""
    plain = [list(value) if isinstance(value, tuple) else value for value in (one, other)]
    return bool(plain[0] != plain[1])

"""The training loop: windows of text in, better weights out.

Truncated backpropagation through time: each of B streams is read in windows of T tokens; the state after
one window is where the next begins, but gradients stop at its border. The randomness of a step is a function
of (seed, step), and the position in the text is two integers, so a resumed run goes on as if it had never
stopped.

Several processes may train together (`textgen.training.distribution`); each runs this loop, and what one of them alone
knows (the clock, a signal) they tell one another, so that all do the same at every step.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from textgen.dataset.batches import Batches
from textgen.dataset.token_cache import TokenData
from textgen.dataset.token_stream import TokenStream
from textgen.errors import Interrupted, SavedModelError, TrainingError
from textgen.evaluation.evaluator import Evaluator, Scores
from textgen.evaluation.scoring import perplexity
from textgen.model.language_model import LanguageModel
from textgen.schema import check, of_fields
from textgen.training.checkpoints import Checkpoint, check_room, newest_checkpoint, save_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.distribution import Distribution, deadline
from textgen.training.interruption import STOP_SIGNALS, StopRequests
from textgen.training.loss_health import Health
from textgen.training.loss_scale import LossScale
from textgen.training.lr_finder import Point, sweep
from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport
from textgen.training.schedules import scheduled_learning_rate, total_steps
from textgen.training.train_step import Gradient, Update
from textgen.training.weight_averaging import make_averaging
from textgen.wording import counted

SPEED_MEMORY = 0.95  # of the running mean that smooths tokens a second


@dataclass
class Position:
    """Where a run stands; all that a checkpoint keeps besides tensors."""

    step: int = 0  # updates of the weights
    epoch: int = 0
    step_in_epoch: int = 0  # batches of this epoch that were read
    seconds: float = 0.0  # of training, over all resumptions
    validations: int = 0
    best_step: int = 0
    best_nats_per_token: float | None = None  # on held-out text
    without_improvement: int = 0  # validations since the best
    waited: int = 0  # validations since the best or the last reduction
    reductions: int = 0  # of the learning rate by the schedule plateau
    learning_rate: float | None = None  # that an observer has set in the place of the schedule's
    train_nats: float = 0.0  # losses added up since the last validation, and how many
    train_steps: int = 0
    health: Health = field(default_factory=Health)
    loss_scale: LossScale = field(default_factory=LossScale)  # used by float16 alone

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Position:
        """What `asdict` made. Raises `SavedModelError` for anything else."""
        nested = {"health": Health, "loss_scale": LossScale}
        try:
            check(values, of_fields(cls, **{name: of_fields(kind) for name, kind in nested.items()}))
            parts = {name: kind(**values.get(name, {})) for name, kind in nested.items()}
            position = cls(**{**values, **parts})
        except (TypeError, ValueError) as error:
            raise SavedModelError(f"The position in a checkpoint is damaged: {error}.") from None
        if min(position.step, position.epoch, position.step_in_epoch, position.seconds, position.validations) < 0:
            raise SavedModelError("The position in a checkpoint is damaged: it is before the beginning.")
        return position


class Trainer:
    """One run of training. `save_best` is called with the scores whenever the weights are the best so far."""

    def __init__(
        self,
        model: LanguageModel,
        data: TokenData,
        config: TrainingConfig,
        checkpoints: Path,
        *,
        save_best: Callable[[Scores], None],
        write_sample: Callable[[], str] = lambda: "",
        distribution: Distribution | None = None,
        step_timeout: float | None = None,
    ) -> None:
        """In several processes a step that takes longer than `step_timeout` seconds ends this one."""
        self.model = model
        self.config = config
        self.position = Position()
        self.scores: Scores | None = None  # of the last validation
        self._data = data
        self._checkpoints = checkpoints
        self._save_best = save_best
        self._write_sample = write_sample
        self._distribution = distribution or Distribution()
        self._rows = self._distribution.local_rows(config)
        self._batches = training_batches(data.train, config, model.pad_id, model.config.direction)
        self.evaluator = Evaluator(model)
        self._update = Update(model, config, self._distribution)
        self._averaging = make_averaging(config, model)
        self._state = self._initial_state()
        self._total_steps = total_steps(config, self._batches.steps_in())
        self._is_scaled = model.precision == "float16"
        self._tokens_per_batch = config.num_streams * config.sequence_length
        self._tokens_per_second = 0.0
        self._requests = StopRequests()  # that this process has got
        self._signal = 0  # that all processes have agreed to stop by; set by `_agree` alone
        self._saved_at = -math.inf  # seconds of training
        self._step_timeout = step_timeout if self._distribution.num_workers > 1 else None

    def run(self, observers: Sequence[Observer], about: RunReport) -> str:
        """Trains until the budget is spent; says why it ended.

        Raises `Interrupted` after a signal, with a checkpoint written, and `TrainingError` when it cannot go on:
        the weights and checkpoints that were saved stay.
        """
        try:
            for observer in observers:
                observer.on_start(about)
            with (
                self._requests.caught(),
                self._distribution.together(),
                self._batches.failing(),
                deadline(self._step_timeout) as self._beat,
            ):
                reason = self._steps(observers)
        finally:
            for observer in observers:
                observer.on_end()
        if self._requests.received:  # after the last agreement: for what comes next
            os.kill(os.getpid(), self._requests.received)
        return reason

    def _steps(self, observers: Sequence[Observer]) -> str:
        if self.progress() >= 1.0:
            return "the budget was spent already"
        check_room(self._checkpoints, self._tensors(), self.config.keep_checkpoints)
        if self.position.step == 0:
            self.save_checkpoint()  # a run has something to go back to from the beginning
        while True:
            reason = self._steps_until_a_fault(observers)
            if reason is not None:
                return reason

    def _steps_until_a_fault(self, observers: Sequence[Observer]) -> str | None:
        """Why the run is over; None after a fault, when the run has gone back and must read other windows."""
        position = self.position
        started = time.perf_counter() - position.seconds
        step_started = time.perf_counter()
        for inputs, targets in self._batches.dataset(
            position.epoch, position.step_in_epoch, rows=self._rows, endless=True
        ):
            self._beat()
            learning_rate = self._share_of_window(inputs) * self._learning_rate(observers)
            gradient = self._step(inputs, targets, learning_rate)
            now = time.perf_counter()
            position.seconds = now - started
            speed = self._share_of_window(inputs) * self._tokens_per_batch / (now - step_started)
            is_overflow = self._note_overflow(gradient)
            fault = "" if is_overflow else position.health.note(gradient.nats, gradient.is_finite)
            if fault:
                self._roll_back(fault, observers)
                return None
            if gradient.is_finite:
                report = self._step_report(gradient, learning_rate, speed)
                for observer in observers:
                    observer.on_step(report)
            elif not is_overflow:
                _tell(observers, f"Step {position.step:,}: the loss or its gradient was not finite; update left out.")
            reason = self._end_step(observers)
            if reason != "":
                return reason
            step_started = time.perf_counter()  # validating and saving do not count into the next step's speed
        raise AssertionError("the batches of training never end")

    def _end_step(self, observers: Sequence[Observer]) -> str | None:
        """Validates and saves where that is due; why the run is over, "" to go on, None where it has gone back."""
        position = self.position
        reason = self._agree(observers)
        reason = "the budget is spent" if self.progress() >= 1.0 else reason
        is_due = self.progress() * self.config.num_validations >= position.validations + 1
        must_save = bool(self._signal or reason or is_due or self._must_save())
        if must_save and not self._weights_are_finite():
            self._roll_back("the weights were not finite", observers)
            return None
        if reason or is_due:
            reason = self._validate(observers) or reason
            reason = reason or self._agree(observers)  # a callback may stop the run for its score
        if must_save:
            self.save_checkpoint()
            self._agree(observers)  # validating and saving take long: a signal since then
        if self._signal:
            raise Interrupted(
                f"Stopped at step {position.step:,}; everything is saved. Use resume to go on.", self._signal
            )
        return reason

    def sweep(self) -> list[Point]:
        """Tries learning rates on the windows of a run; what is left of the weights is of no use then.

        See `textgen.training.lr_finder`.
        """

        def learn(batch: tuple[np.ndarray, np.ndarray], learning_rate: float) -> float:
            gradient = self._step(*batch, self._share_of_window(batch[0]) * learning_rate)
            self._note_overflow(gradient)
            return gradient.nats

        with self._batches.failing():
            return sweep(self.config.learning_rate, self._batches.dataset(rows=self._rows, endless=True), learn)

    def _learning_rate(self, observers: Sequence[Observer]) -> float:
        """That of a window of full length: what an observer has set, else that of the schedule."""
        self._take_rate(observers)
        position = self.position
        if position.learning_rate is not None:
            return position.learning_rate
        return scheduled_learning_rate(self.config, self.progress(steps_ahead=1), position.reductions)

    def _take_rate(self, observers: Sequence[Observer]) -> None:
        for observer in observers:
            if observer.learning_rate is not None:
                self.position.learning_rate = observer.learning_rate

    def _share_of_window(self, inputs: np.ndarray) -> float:
        """Length of a window in full ones: the rate is that much smaller, so that each token counts the same."""
        return inputs.shape[1] / (len(self.model.config.directions) * self.config.sequence_length)

    def _note_overflow(self, gradient: Gradient) -> bool:
        """Whether the gradient is not finite merely because the loss was scaled too much; it will be less then."""
        can_overflow = self._is_scaled and math.isfinite(gradient.nats)
        return can_overflow and self.position.loss_scale.note(gradient.is_finite)

    def _step(self, inputs: np.ndarray, targets: np.ndarray, learning_rate: float) -> Gradient:
        """One update of the weights, left out if its gradient is not finite."""
        position = self.position
        if position.step_in_epoch == 0 or not self.config.carry_state:  # in each epoch streams start somewhere else
            self._state = self._initial_state()
        try:
            windows = self._distribution.split((inputs, targets))
            scale = position.loss_scale.scale if self._is_scaled else 1.0
            gradient = self._update.gradient(windows[0], windows[1], self._state, position.step, scale)
            if gradient.is_finite:
                self._update.apply(gradient, learning_rate)
                self._averaging.on_step()
                self._state = gradient.state
                position.train_nats += gradient.nats
                position.train_steps += 1
        except tf.errors.ResourceExhaustedError:
            raise TrainingError(
                f"The memory is not enough for batches of {self.config.batch_size} x "
                f"{counted(self.config.sequence_length, 'token')}: "
                "choose a smaller batch_size, sequence_length, vocab_size or hidden_units."
            ) from None
        position.step += 1
        position.step_in_epoch += 1
        if position.step_in_epoch == self._batches.steps_in(position.epoch):
            position.epoch, position.step_in_epoch = position.epoch + 1, 0
        return gradient

    def _roll_back(self, fault: str, observers: Sequence[Observer]) -> None:
        """Goes back to the last checkpoint, but not in the text: the windows since then are skipped."""
        failed = self.position
        advice = "Try a smaller learning_rate or clip_norm."
        if failed.health.rollbacks >= self.config.max_rollbacks:
            raise TrainingError(
                f"At step {failed.step:,} {fault}, after going back to a checkpoint {failed.health.rollbacks} times: "
                f"training stopped. The best weights so far are kept. {advice}"
            )
        checkpoint, _ = newest_checkpoint(self._checkpoints)
        self.restore(checkpoint)
        position = self.position
        position.epoch, position.step_in_epoch, position.seconds = failed.epoch, failed.step_in_epoch, failed.seconds
        position.health.rollbacks = failed.health.rollbacks + 1
        position.health.left_out = failed.health.left_out
        self._state = self._initial_state()
        _tell(
            observers,
            f"At step {failed.step:,} {fault}: back to the weights of step {position.step:,}, on with the text after.",
        )

    def _agree(self, observers: Sequence[Observer]) -> str:
        """Why to stop, if somebody asks for it; every process then has the chief's clock and anybody's signal.

        What is done by all processes together goes by what was agreed, never by what one of them has received: that
        may come at any moment, to one alone. It is kept until the next time.
        """
        wanted, received = _requested_stop(observers), self._requests.received
        values = [self.position.seconds if self._distribution.is_chief else 0.0, float(bool(wanted))]
        values += [float(received == number) for number in STOP_SIGNALS]
        self.position.seconds, stop, *signals = self._distribution.total(values)
        agreed = next((number for number, sent in zip(STOP_SIGNALS, signals, strict=True) if sent), 0)
        self._signal = self._signal or agreed
        return wanted or ("the chief stopped it" if stop else "")

    def _validate(self, observers: Sequence[Observer]) -> str:
        """Scores held-out text, and keeps the weights if they are the best; says if patience is at its end."""
        self._averaging.before_validation()
        with self._averaging.applied():
            report = self._score(observers)
        self._note_score(report)
        for observer in observers:
            observer.on_validation(report)
        self._take_rate(observers)  # the checkpoint of this step is to have it
        if self.config.patience and self.position.without_improvement >= self.config.patience:
            return f"no better score in {counted(self.position.without_improvement, 'validation')}"
        return ""

    def _score(self, observers: Sequence[Observer]) -> ValidationReport:
        """Scores held-out text with the weights as they are, and keeps them if they are the best."""
        position = self.position
        self.scores = self.evaluator.scores(self._data.valid, self.config.valid_tokens)
        nats = self.scores.nats_per_token
        (nats,) = self._distribution.total([nats if self._distribution.is_chief else 0.0])
        improved = position.best_nats_per_token is None or nats < position.best_nats_per_token
        position.validations = max(position.validations + 1, int(self.progress() * self.config.num_validations))
        if improved:
            position.best_nats_per_token, position.best_step = nats, position.step
            self._save_best(self.scores)
        return ValidationReport(
            step=position.step,
            epochs=self.epochs(),
            train_nats_per_token=position.train_nats / max(1, position.train_steps),
            nats_per_token=nats,
            perplexity_per_token=perplexity(nats),
            bits_per_byte=self.scores.bits_per_byte,
            improved=improved,
            sample=self._write_sample() if observers else "",
        )

    def _note_score(self, report: ValidationReport) -> None:
        """What a score means for patience, for the schedule plateau and for NT-ASGD."""
        position, waited_for_mean = self.position, self._averaging.is_waiting
        self._averaging.on_validation(report.nats_per_token)
        position.train_nats, position.train_steps = 0.0, 0
        position.without_improvement = 0 if report.improved or waited_for_mean else position.without_improvement + 1
        position.waited = 0 if report.improved else position.waited + 1
        if position.waited > self.config.plateau_patience:
            position.reductions, position.waited = position.reductions + 1, 0

    def progress(self, steps_ahead: int = 0) -> float:
        """Share of the budget that is spent, 0 to 1; of several budgets, the one that will be spent first."""
        spent = (self.position.step + steps_ahead) / self._total_steps
        if self.config.minutes is not None:
            spent = max(spent, self.position.seconds / (60 * self.config.minutes))
        return min(1.0, spent)

    def epochs(self) -> float:
        """Passes over the training text so far."""
        return self.position.epoch + self.position.step_in_epoch / self._batches.steps_in(self.position.epoch)

    def save_checkpoint(self) -> None:
        """Writes everything that `restore` takes. All processes must call it together; the chief writes."""
        tensors = self._tensors()
        if self._distribution.is_chief:
            checkpoint = Checkpoint(tensors, asdict(self.position))
            save_checkpoint(self._checkpoints, self.position.step, checkpoint, keep=self.config.keep_checkpoints)
        self._saved_at = self.position.seconds

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint. Raises `TrainingError` where it does not fit."""
        expected = self._tensors()
        if {k: v.shape for k, v in checkpoint.tensors.items()} != {k: v.shape for k, v in expected.items()}:
            raise TrainingError("The checkpoint does not fit the model and batch size of this run: train again.")
        self.model.assign_weights(_section(checkpoint.tensors, "weights"))
        for index, variable in enumerate(self._update.optimizer.variables):
            variable.assign(checkpoint.tensors[f"optimizer/{index}"].reshape(variable.shape))
        self._averaging.restore(_section(checkpoint.tensors, "average"))
        flat = [array[self._rows] for _, array in sorted(_section(checkpoint.tensors, "state").items())]
        self._state = self._distribution.split(tf.nest.pack_sequence_as(self._state, flat))
        self.position = Position.from_dict(checkpoint.position)
        if self.position.step_in_epoch >= self._batches.steps_in(self.position.epoch):
            raise TrainingError("The checkpoint does not fit the text of this run: train again.")
        due = int(self.progress() * self.config.num_validations)  # fewer, if the budget is longer now
        self.position.validations = min(self.position.validations, due)
        self._saved_at = self.position.seconds

    def _must_save(self) -> bool:
        return self.position.seconds - self._saved_at >= 60 * self.config.checkpoint_minutes

    def _weights_are_finite(self) -> bool:
        return all(np.isfinite(weight.numpy()).all() for weight in self.model.trainable_variables)

    def _initial_state(self) -> Any:
        """The state of streams that have read nothing, on the replicas that read them."""
        rows = self._rows.stop - self._rows.start
        return self._distribution.split(self.model.initial_state(rows))

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = {f"weights/{name}": array for name, array in self.model.weights_as_arrays().items()}
        for index, variable in enumerate(self._update.optimizer.variables):
            tensors[f"optimizer/{index}"] = np.asarray(variable.numpy())
        tensors |= {f"average/{name}": array for name, array in self._averaging.tensors().items()}
        for index, array in enumerate(tf.nest.flatten(self._distribution.gather(self._state))):
            tensors[f"state/{index:03d}"] = array.numpy()
        return tensors

    def _step_report(self, gradient: Gradient, learning_rate: float, speed: float) -> StepReport:
        memory = SPEED_MEMORY if self._tokens_per_second else 0.0
        self._tokens_per_second = memory * self._tokens_per_second + (1 - memory) * speed
        progress, seconds = self.progress(), self.position.seconds
        return StepReport(
            step=self.position.step,
            epochs=self.epochs(),
            progress=progress,
            nats_per_token=gradient.nats,
            learning_rate=learning_rate,
            gradient_norm=gradient.norm,
            gradient_norms=dict(zip(self._weight_names(), gradient.norms.tolist(), strict=True)),
            tokens_per_second=self._tokens_per_second,
            seconds_left=seconds / progress * (1 - progress) if progress else math.inf,
        )

    def _weight_names(self) -> list[str]:
        names = {id(weight): name for name, weight in self.model.named_weights().items()}
        return [names[id(weight)] for weight in self._update.weights]


def training_batches(stream: TokenStream, config: TrainingConfig, pad_id: int, direction: str) -> Batches:
    """The batches that a run with these settings learns from."""
    return Batches(
        stream,
        config.num_streams,
        config.sequence_length,
        pad_id,
        config.seed,
        config.random_bptt,
        config.label_dropout,
        direction,
    )


def _tell(observers: Sequence[Observer], line: str) -> None:
    for observer in observers:
        observer.on_fault(line)


def _requested_stop(observers: Sequence[Observer]) -> str:
    return next((observer.stop_reason for observer in observers if observer.stop_reason), "")


def _section(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.split("/", 1)[1]: array for key, array in tensors.items() if key.startswith(f"{name}/")}

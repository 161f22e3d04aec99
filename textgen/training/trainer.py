"""The training loop: windows of text in, better weights out.

Truncated backpropagation through time: each of B streams is read in windows of T tokens. The state at the end of a
window is where the next one begins, but gradients stop at its border. The randomness of a step is a function of
(seed, step), and the position in the text is two integers, so a resumed run continues as if it had never stopped.

On a GPU the loss of an update is read once the next one has begun, so that the GPU never waits for the processor.

If several processes train together (`textgen.training.distributed.distribution`), each runs this loop. They agree on
everything that only one of them knows (the clock, a signal), so that all do the same at every step.
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import tensorflow as tf

from textgen.dataset.batches import WINDOWS_FORMAT
from textgen.dataset.token_cache import TokenData
from textgen.errors import Interrupted, TextgenError, TrainingError
from textgen.model.language_model import LanguageModel
from textgen.settings import to_dict
from textgen.training.checkpoints import Checkpoint, CheckpointTimer, check_room, save_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Distribution
from textgen.training.distributed.stop_agreement import StopAgreement
from textgen.training.lr_finder import Point, sweep_learning_rates
from textgen.training.observers.observer import Observer, RunReport, StepReport, report_fault, started
from textgen.training.position import Position
from textgen.training.rollback import RolledBack, agreed_checkpoint, kept_weights_message, when_to_give_up
from textgen.training.run_tensors import RunTensors
from textgen.training.schedules import parts_done, scheduled_learning_rate
from textgen.training.stopwatch import SpeedMeter, Stopwatch
from textgen.training.train_step import Gradient, TrainStep
from textgen.training.validator import Hooks, Validator
from textgen.training.weight_averaging import make_averaging
from textgen.training.window_reader import WindowReader
from textgen.wording import counted


@dataclass(frozen=True)
class _PendingUpdate:
    """An update whose loss may not have been read yet.

    Attributes:
        gradient: The gradient, whose numbers may still be on the device.
        step: Updates so far, this one included.
        epochs: Passes over the text so far.
        learning_rate: Learning rate of the update.
        tokens: Tokens of its batch, without padding.
        window_fraction: Length of the windows of its batch relative to full ones.
        seconds: Duration of its step, which may include waiting for the update before it.
    """

    gradient: Gradient
    step: int
    epochs: float
    learning_rate: float
    tokens: int
    window_fraction: float
    seconds: float = 0.0


class Trainer:
    """The training of a network, from any position to the end of the budget.

    Attributes:
        model: The network that is trained.
        config: Settings of training.
        position: Progress of the run.
        reader: Reads the training text.
        validator: Scores held-out text and remembers the best weights.
        tensors: Weights, averages and recurrent state, as a checkpoint keeps them.
    """

    def __init__(
        self,
        model: LanguageModel,
        data: TokenData,
        config: TrainingConfig,
        checkpoints: Path,
        *,
        hooks: Hooks = Hooks(),  # noqa: B008 - immutable
        distribution: Distribution | None = None,
        token_bytes: np.ndarray | None = None,
        windows_format: int = WINDOWS_FORMAT,
    ) -> None:
        """Prepares a run; nothing is written yet.

        Args:
            model: Network with its first weights, those of the model that it starts from if there is one.
            data: Text to train on and held-out text.
            config: Settings of training.
            checkpoints: Folder for checkpoints.
            hooks: What to call for the best weights and for samples.
            distribution: Devices and processes that train together; one device if None.
            token_bytes: Bytes of text that each token stands for, [V], by which validations choose a part of the
                held-out text; if None, they choose it by the number of tokens.
            windows_format: Version of the windows that the run began with.

        Raises:
            ConfigError: The batch cannot be divided among the replicas, or nothing limits the length of the run.
        """
        self.model = model
        self.config = config
        self.position = Position(settings=to_dict(config))
        self._distribution = distribution or Distribution()
        self.reader = WindowReader(data.train, config, model, self._distribution.local_rows(config), windows_format)
        self._train_step = TrainStep(model, config, self._distribution, data.train.counts)
        self._averaging = make_averaging(config, model)
        self.validator = Validator(
            model,
            data.valid,
            config,
            self.reader,
            self._averaging,
            hooks=hooks,
            distribution=self._distribution,
            token_bytes=token_bytes,
        )
        self.tensors = RunTensors(
            model, config, self.reader, self._averaging, update=self._train_step.update, distribution=self._distribution
        )
        self._checkpoints = checkpoints
        self._checkpoint_timer = CheckpointTimer(config.checkpoint_minutes)
        self._returned_to = math.inf  # step of the checkpoint to which the run has returned, if it has saved none since
        self._stop = StopAgreement(self._distribution)
        self._speed = SpeedMeter()
        self._ahead = int(self._train_step.can_run_ahead)  # updates whose losses are read after the next one has begun
        self._pending = deque[_PendingUpdate]()
        self._began: float | None = 0.0  # seconds of the run when this process began; None once its first step is over
        self._observers: Sequence[Observer] = ()

    # === The loop ===

    def run(self, observers: Sequence[Observer], about: RunReport, step_timeout: float | None = None) -> str:
        """Trains until the planned length is reached, an observer stops the run, or patience ends.

        Args:
            observers: Called at each step, at each validation and at the end.
            about: Report that observers get at the start.
            step_timeout: Seconds after which a step that does not end ends this process; None for no limit.

        Returns:
            Why the run ended.

        Raises:
            Interrupted: A signal came. A checkpoint has been written.
            TrainingError: The run cannot continue. Saved weights and checkpoints stay.
        """
        self._observers = observers
        with started(observers, about):
            try:
                with (
                    self._stop.requests.caught(),
                    self._distribution.together(step_timeout) as restart_timer,
                    self.reader.batches.failing(),
                ):
                    reason = self._steps(restart_timer)
            except Exception:
                with suppress(TextgenError, OSError):  # the first error tells more
                    self.validator.save_best()
                raise
        if self._stop.requests.received:  # after the last agreement: it is for what comes next
            signal.raise_signal(self._stop.requests.received)
        return reason

    def _steps(self, restart_timer: Callable[[], None]) -> str:
        position, is_over = self.position, self.progress() >= 1.0
        if is_over and (position.has_best or position.step == 0):
            return "the planned length was reached already"
        tensors = self.tensors.to_arrays()
        check_room(self._checkpoints, tensors, self.config.keep_checkpoints)
        if position.step == 0:
            self.save_checkpoint(tensors)  # so that there is always one to return to
        del tensors  # which take as much memory as the network and its optimizer
        while True:
            try:
                return self._only_validate() if is_over else self._train(restart_timer)
            except RolledBack:
                is_over = False  # goes on from the checkpoint

    def _only_validate(self) -> str:
        """Validates and saves a resumed run whose new, smaller length is reached before its first validation.

        Returns:
            Why the run is over.

        Raises:
            RolledBack: It has returned to a checkpoint.
        """
        self._validate()
        self.position.is_finished = True
        self.save_checkpoint()
        return "the planned length was reached already"

    def _train(self, restart_timer: Callable[[], None]) -> str:
        """Trains from the position until the run is over.

        Returns:
            Why the run is over.

        Raises:
            RolledBack: It has returned to a checkpoint.
        """
        with Stopwatch(self.position.seconds) as watch:
            for inputs, targets in self.reader.windows(self.position):
                restart_timer()
                fraction, tokens = self.reader.window_fraction(inputs), self.reader.tokens(self.position)
                learning_rate = fraction * self._learning_rate()
                gradient = self._step(inputs, targets, learning_rate)
                if self.position.step_in_epoch == 0:
                    self._prepare_epoch()
                if self._ahead:
                    gradient = replace(gradient, gradients=None, state=None)  # frees the memory of the device
                step, epochs = self.position.step, self.epochs()
                self._pending.append(_PendingUpdate(gradient, step, epochs, learning_rate, tokens, fraction))
                if len(self._pending) > self._ahead:
                    self._pending[0].gradient.nats  # noqa: B018 - waits for the device: that is time of the step
                self.position.seconds, seconds = watch.read()
                self._pending[-1] = replace(self._pending[-1], seconds=seconds)
                self._read_losses(all_but=self._ahead)
                if reason := self._end_step():
                    return reason
                watch.start_step()
        raise AssertionError("the batches of training never end")

    def _prepare_epoch(self) -> None:
        """Encodes the text of the epoch at the position, if its segmentation is sampled.

        For a long text that takes longer than a step may. So several processes do it here, where they give each other
        signs of life, and not where a batch or a number of batches is first asked for.
        """
        if self.config.subword_alpha:
            self._distribution.each_does(partial(self.reader.prepare, self.position.epoch))

    def _read_losses(self, *, all_but: int) -> None:
        """Reads, checks and reports losses, except the newest."""
        while len(self._pending) > all_but:
            update = self._pending.popleft()
            self._handle_fault(update)
            if update.gradient.is_finite:
                full = self.config.num_streams * self.config.sequence_length
                self.position.add_loss(update.gradient.nats, update.tokens / full)
                self._report_step(update)

    def _handle_fault(self, update: _PendingUpdate) -> None:
        """Checks the loss of a step: returns to a checkpoint if the run needs it."""
        gradient = update.gradient
        if self._record_overflow(gradient):
            return
        if fault := self.position.health.record(gradient.nats, gradient.is_finite):
            self._roll_back(fault, update.step)
        if not gradient.is_finite:
            report_fault(
                self._observers, f"Step {update.step:,}: the loss or its gradient was not finite; update left out."
            )

    def _end_step(self) -> str:
        """Validates and saves if that is due. Returns why the run is over; "" to continue."""
        position = self.position
        reason = self._agree()
        if self._began is not None:
            position.compiling_seconds = self._compiling_seconds
            self._began = None
        reason = self.reader.reached(position) or reason
        is_due = parts_done(self.progress(), self.config.num_validations) > position.validations
        timer = self._checkpoint_timer
        must_save = timer.is_worth_it(position.seconds) if is_due else timer.is_due(position.seconds)
        must_save = bool(self._stop.signal or reason or must_save)
        if must_save or is_due:
            self._read_losses(all_but=0)
            if not self.tensors.weights_are_finite():
                self._roll_back("the weights were not finite")
        if reason or is_due:
            reason = self._validate() or reason
            reason = reason or self._agree()  # a callback may stop the run because of its score
        if must_save or reason or self._stop.signal:
            position.is_finished |= bool(reason)
            self.save_checkpoint()
            self._agree()  # validating and saving take long: a signal may have come since
        if self._stop.signal:
            raise Interrupted(
                f"Stopped at step {position.step:,}; everything is saved.",
                self._stop.signal,
                folder=self._checkpoints.parent,
            )
        return reason

    def _agree(self) -> str:
        """Why to stop, if an observer of any process asks for it; all processes then have the chief's clock."""
        wanted = next((observer.stop_reason for observer in self._observers if observer.stop_reason), "")
        self.position.seconds, reason = self._stop.agree(self.position.seconds, wanted)
        return reason

    # === One update ===

    def _step(self, inputs: np.ndarray, targets: np.ndarray, learning_rate: float) -> Gradient:
        """One update of the weights, left out if its gradient is not finite."""
        position = self.position
        if position.step_in_epoch == 0 or not self.config.carry_state:  # each epoch has another order
            self.tensors.reset_state()
        try:
            windows = self._distribution.split((inputs, targets))
            scale = position.loss_scale.scale if self._is_scaled else 1.0
            progress = self.progress()
            gradient = self._train_step.gradient(
                windows[0], windows[1], self.tensors.state, position.step, scale, progress
            )
            if self._ahead:
                self.tensors.state = self._train_step.apply_unread(gradient, self.tensors.state, learning_rate)
            else:
                if gradient.is_finite:
                    self._train_step.apply(gradient, learning_rate)
                    self._averaging.on_step()
                if gradient.is_finite or self._can_overflow(gradient):
                    self.tensors.state = gradient.state
        except tf.errors.ResourceExhaustedError:
            raise TrainingError(
                f"There is not enough memory for batches of {self.config.batch_size:,} x "
                f"{counted(self.config.sequence_length, 'token')}: "
                "choose a smaller batch_size, sequence_length, vocab_size or hidden_units."
            ) from None
        self.reader.advance(position)
        return gradient

    @property
    def _is_scaled(self) -> bool:
        return self.model.precision == "float16"

    def _record_overflow(self, gradient: Gradient) -> bool:
        """Adjusts the scale of the loss. Returns whether the gradient is not finite only because it was too large."""
        return self._can_overflow(gradient) and self.position.loss_scale.record(gradient.is_finite)

    def _can_overflow(self, gradient: Gradient) -> bool:
        """Whether all that is computed before the scale of the loss is finite: the loss and the state."""
        return self._is_scaled and math.isfinite(gradient.nats)

    def _learning_rate(self) -> float:
        """The learning rate of a full window: the one that an observer has set, else that of the schedule."""
        self._take_learning_rate()
        position = self.position
        if position.learning_rate is not None:
            return position.learning_rate
        rate = scheduled_learning_rate(self.config, self.progress(steps_ahead=1), position.reductions)
        seconds = position.seconds if self._began is None else self._began
        return min(rate, self.reader.warmup_limit(position, seconds - position.compiling_seconds))

    def _take_learning_rate(self) -> None:
        """Takes the rate that an observer has set. Raises `TrainingError` for a new one if processes train together."""
        for observer in self._observers:
            if observer.learning_rate in (None, self.position.learning_rate):
                continue
            if self._distribution.num_workers > 1:
                raise TrainingError(
                    f"{type(observer).__name__} sets the learning rate of one process, and "
                    f"{self._distribution.num_workers} train together: train in one process, or choose a schedule."
                )
            self.position.learning_rate = observer.learning_rate

    def _report_step(self, update: _PendingUpdate) -> None:
        gradient = update.gradient
        report = StepReport(
            step=update.step,
            epochs=update.epochs,
            progress=self.progress(),
            nats_per_token=gradient.nats,
            learning_rate=update.learning_rate,
            gradient_norm=gradient.norm,
            gradient_norms=dict(zip(self._weight_names(), gradient.norms.tolist(), strict=True)),
            tokens_per_second=self._speed.add(
                update.tokens / update.seconds, is_sampled=gradient.is_sampled, window_fraction=update.window_fraction
            ),
            seconds_left=self.reader.seconds_left(self.position, self._compiling_seconds),
            is_sampled=gradient.is_sampled,
            window_fraction=update.window_fraction,
        )
        for observer in self._observers:
            observer.on_step(report)

    @property
    def _compiling_seconds(self) -> float:
        """Duration of the first step of each process so far, this one included."""
        began = self.position.seconds if self._began is None else self._began
        return self.position.compiling_seconds + (self.position.seconds - began)

    def _weight_names(self) -> list[str]:
        names = {id(weight): name for name, weight in self.model.named_weights().items()}
        return [names[id(weight)] for weight in self._train_step.weights]

    def sweep_learning_rates(self) -> list[Point]:
        """Trains with rising learning rates; the weights are of no use afterwards.

        Returns:
            The smoothed loss at each learning rate; see `textgen.training.lr_finder`.
        """

        def learn(batch: tuple[np.ndarray, np.ndarray], learning_rate: float) -> float:
            gradient = self._step(*batch, self.reader.window_fraction(batch[0]) * learning_rate)
            self._record_overflow(gradient)
            return gradient.nats

        with self.reader.batches.failing():
            return sweep_learning_rates(self.config.learning_rate, self.reader.windows(), learn)

    # === Validation ===

    def _validate(self) -> str:
        """Scores held-out text and keeps the weights if they are the best.

        Returns:
            Why to stop, if patience ends; "" to continue.

        Raises:
            RolledBack: The loss was not finite, so the run has returned to a checkpoint.
        """
        report = self.validator.validate(self.position, with_sample=bool(self._observers))
        if report is None:
            self._roll_back("the loss on the held-out text was not finite")
        for observer in self._observers:
            observer.on_validation(report)
        self._take_learning_rate()  # so that the checkpoint of this step has it
        if self.config.patience and self.position.without_improvement >= self.config.patience:
            return f"no better score in {counted(self.position.without_improvement, 'validation')}"
        return ""

    def progress(self, steps_ahead: int = 0) -> float:
        """Fraction of the budget that is spent, 0 to 1; of several budgets, the one that is spent first."""
        return self.reader.progress(self.position, steps_ahead)

    def epochs(self) -> float:
        """Passes over the training text so far."""
        return self.reader.epochs(self.position)

    # === Checkpoints ===

    def weights_to_save(self) -> dict[str, np.ndarray]:
        """The weights of a run that ends before its first validation: their average if there is one, as after that."""
        return self._averaging.mean() or self.model.weights_as_arrays()

    def save_checkpoint(self, tensors: dict[str, np.ndarray] | None = None) -> None:
        """Writes the best weights, and all that `restore` needs.

        Always both, so that a run that is killed and resumed finds the best weights up to its checkpoint. All processes
        must call it together; the chief writes.

        Args:
            tensors: `tensors.to_arrays()`, if it is known.
        """
        began = time.perf_counter()
        tensors = self.tensors.to_arrays() if tensors is None else tensors
        if self._distribution.is_chief:
            self.validator.save_best()
            checkpoint = Checkpoint(tensors, asdict(self.position))
            save_checkpoint(self._checkpoints, self.position.step, checkpoint, keep=self.config.keep_checkpoints)
        self._returned_to = math.inf
        cost = time.perf_counter() - began
        (cost,) = self._distribution.total([cost if self._distribution.is_chief else 0.0])  # the same for all
        self._checkpoint_timer.restart(self.position.seconds, cost)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint.

        Raises:
            TrainingError: It does not fit the model, the batch size or the text.
            SavedModelError: Its position is damaged.
        """
        self.tensors.restore(checkpoint.tensors)
        self.position = Position.from_dict(checkpoint.position)
        self.position.go_on_with(to_dict(self.config))
        if self._began is not None:
            self._began = self.position.seconds
        self._prepare_epoch()
        if not self.reader.has(self.position):
            raise TrainingError("The checkpoint does not fit the text of this run: train again.")
        due = parts_done(self.progress(), self.config.num_validations)  # fewer, if the budget is longer now
        self.position.validations = min(self.position.validations, due)
        self._checkpoint_timer.restart(self.position.seconds)

    def _roll_back(self, fault: str, step: int | None = None) -> NoReturn:
        """Returns to the weights of the last checkpoint, but not in the text: the windows since then are skipped.

        If it has returned to that checkpoint already, it goes to the one before it, if that is kept: no score has shown
        that the weights of every checkpoint are good. The checkpoint is written again with the new position. All
        processes must call it together; they go on by the chief's clock, on which the learning rate may depend.

        Args:
            fault: What was wrong.
            step: Step at which it was wrong; the last one if None.

        Raises:
            RolledBack: Always, unless the run cannot go on.
            TrainingError: It was done too often, or nothing is left of the budget and of what was learned. The network
                has the weights of the checkpoint nevertheless. Or the processes have read different checkpoints.
        """
        failed = self.position
        step = failed.step if step is None else step
        (seconds,) = self._distribution.total([failed.seconds if self._distribution.is_chief else 0.0])
        self.restore(agreed_checkpoint(self._checkpoints, self._returned_to, self._distribution))
        position = self.position
        if self.validator.is_other_text(position):
            self._averaging.forget_scores()
        position.skip_to(failed, seconds)
        self.tensors.reset_state()
        if when := when_to_give_up(position, self.config.max_rollbacks, self.progress()):
            raise TrainingError(
                f"At step {step:,} {fault}, {when}: training stopped. {kept_weights_message(position)} "
                "Try a smaller learning_rate or clip_norm."
            )
        position.health.rollbacks += 1
        self._pending.clear()  # updates of the weights that are gone
        # So that a run that is killed now skips the text, too. All processes have read it: `restore` waits for them.
        self.save_checkpoint()
        self._returned_to = position.step
        report_fault(
            self._observers,
            f"At step {step:,} {fault}: returned to the weights of step {position.step:,}; training continues with the "
            "text that comes next.",
        )
        raise RolledBack

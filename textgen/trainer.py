"""The training loop: windows of text in, better weights out.

Truncated backpropagation through time: each of B streams is read in windows of T tokens; the state after
one window is where the next begins, but gradients stop at its border. The randomness of a step is a function
of (seed, step), and the position in the text is two integers, so a resumed run goes on as if it had never
stopped.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from textgen.checkpoints import Checkpoint, save_checkpoint
from textgen.config import TrainingConfig
from textgen.errors import Interrupted, TrainingError
from textgen.evaluation import Evaluator, Scores, perplexity
from textgen.model import LanguageModel
from textgen.reports import Observer, RunReport, StepReport, ValidationReport
from textgen.tokens import Batches, TokenData
from textgen.update import Update

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
    train_nats: float = 0.0  # losses added up since the last validation, and how many
    train_steps: int = 0


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
    ) -> None:
        self.model = model
        self.config = config
        self.position = Position()
        self.scores: Scores | None = None  # of the last validation
        self._data = data
        self._checkpoints = checkpoints
        self._save_best = save_best
        self._write_sample = write_sample
        self._batches = Batches(data.train, config.batch_size, config.sequence_length, model.pad_id, seed=config.seed)
        self._evaluator = Evaluator(model)
        self._update = Update(model, config)
        self._state = model.initial_state(config.batch_size)
        self._total_steps = total_steps(config, self._batches.steps_per_epoch)
        self._tokens_per_second = 0.0
        self._signal = 0

    def run(self, observers: Sequence[Observer], about: RunReport) -> str:
        """Trains until the budget is spent; says why it ended.

        Raises `Interrupted` after a signal, with a checkpoint written, and `TrainingError` when the loss is
        no longer a number: the weights are then those before that step.
        """
        for observer in observers:
            observer.on_start(about)
        try:
            with self._catch_signals():
                return self._steps(observers)
        finally:
            for observer in observers:
                observer.on_end()

    def _steps(self, observers: Sequence[Observer]) -> str:
        position = self.position
        started = time.perf_counter() - position.seconds
        before = started + position.seconds
        if self.progress() >= 1.0:
            return "the budget was spent already"
        for inputs, targets in self._batches.dataset(position.epoch, position.step_in_epoch, endless=True):
            learning_rate = scheduled_learning_rate(self.config, self.progress(steps_ahead=1))
            nats, norms = self._step(inputs, targets, learning_rate)
            now = time.perf_counter()
            position.seconds, before, took = now - started, now, now - before
            report = self._step_report(nats, norms, learning_rate, took)
            for observer in observers:
                observer.on_step(report)
            reason = self._reason_to_stop(observers)
            if reason or self.progress() * self.config.validations >= position.validations + 1:
                reason = self._validate(observers) or reason or _requested_stop(observers)
            if self._signal:
                self.save_checkpoint()
                raise Interrupted(
                    f"Stopped at step {position.step:,}; everything is saved. Go on with --resume.",
                    self._signal,
                )
            if reason:
                self.save_checkpoint()
                return reason
        raise AssertionError("the batches of training never end")

    def _step(self, inputs: tf.Tensor, targets: tf.Tensor, learning_rate: float) -> tuple[float, np.ndarray]:
        """One update; returns the loss and the gradient norm of each weight."""
        position = self.position
        if position.step_in_epoch == 0:  # the streams start somewhere else in each epoch
            self._state = self.model.initial_state(self.config.batch_size)
        try:
            nats, norms, self._state = self._update(inputs, targets, self._state, learning_rate, position.step)
        except tf.errors.ResourceExhaustedError:
            raise TrainingError(
                f"The memory is not enough for batches of {self.config.batch_size} x {self.config.sequence_length} "
                "tokens: choose a smaller batch_size, sequence_length, vocab_size or hidden_units."
            ) from None
        loss = float(nats)
        if not (math.isfinite(loss) and np.isfinite(norms).all()):
            raise TrainingError(
                f"At step {position.step + 1:,} the loss became {loss:g} (gradient norm "
                f"{float(np.linalg.norm(norms)):g}), so this update was left out and training stopped. "
                "The best weights so far are kept; try a smaller learning_rate or clip_norm."
            )
        position.step += 1
        position.step_in_epoch += 1
        if position.step_in_epoch == self._batches.steps_per_epoch:
            position.epoch, position.step_in_epoch = position.epoch + 1, 0
        position.train_nats += loss
        position.train_steps += 1
        return loss, norms

    def _validate(self, observers: Sequence[Observer]) -> str:
        """Scores held-out text, keeps the weights if they are the best, writes a checkpoint."""
        position = self.position
        self.scores = self._evaluator.scores(self._data.valid, self.config.valid_tokens)
        nats = self.scores.nats_per_token
        improved = position.best_nats_per_token is None or nats < position.best_nats_per_token
        position.validations = max(position.validations + 1, int(self.progress() * self.config.validations))
        position.without_improvement = 0 if improved else position.without_improvement + 1
        if improved:
            position.best_nats_per_token, position.best_step = nats, position.step
            self._save_best(self.scores)
        report = ValidationReport(
            step=position.step,
            epochs=self.epochs(),
            train_nats_per_token=position.train_nats / max(1, position.train_steps),
            nats_per_token=nats,
            perplexity_per_token=perplexity(nats),
            bits_per_byte=self.scores.bits_per_byte,
            improved=improved,
            sample=self._write_sample(),
        )
        position.train_nats, position.train_steps = 0.0, 0
        self.save_checkpoint()
        for observer in observers:
            observer.on_validation(report)
        if self.config.patience and position.without_improvement >= self.config.patience:
            return f"no better score in {position.without_improvement} validations"
        return ""

    def progress(self, steps_ahead: int = 0) -> float:
        """Share of the budget that is spent, 0 to 1; of several budgets, the one that will be spent first."""
        spent = (self.position.step + steps_ahead) / self._total_steps
        if self.config.minutes is not None:
            spent = max(spent, self.position.seconds / (60 * self.config.minutes))
        return min(1.0, spent)

    def epochs(self) -> float:
        """Passes over the training text so far."""
        return self.position.epoch + self.position.step_in_epoch / self._batches.steps_per_epoch

    def save_checkpoint(self) -> None:
        """Writes everything that `restore` takes."""
        save_checkpoint(self._checkpoints, self.position.step, Checkpoint(self._tensors(), asdict(self.position)))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint. Raises `TrainingError` where it does not fit."""
        expected = self._tensors()
        if {k: v.shape for k, v in checkpoint.tensors.items()} != {k: v.shape for k, v in expected.items()}:
            raise TrainingError("The checkpoint does not fit the model and batch size of this run: train again.")
        self.model.assign_weights(_section(checkpoint.tensors, "weights"))
        for index, variable in enumerate(self._update.optimizer.variables):
            variable.assign(checkpoint.tensors[f"optimizer/{index}"].reshape(variable.shape))
        flat = [tf.constant(array) for _, array in sorted(_section(checkpoint.tensors, "state").items())]
        self._state = tf.nest.pack_sequence_as(self._state, flat)
        self.position = Position(**checkpoint.position)

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = {f"weights/{name}": array for name, array in self.model.weights_as_arrays().items()}
        for index, variable in enumerate(self._update.optimizer.variables):
            tensors[f"optimizer/{index}"] = np.asarray(variable.numpy())
        for index, array in enumerate(tf.nest.flatten(self._state)):
            tensors[f"state/{index:03d}"] = array.numpy()
        return tensors

    def _step_report(self, nats: float, norms: np.ndarray, learning_rate: float, took: float) -> StepReport:
        speed = self.config.batch_size * self.config.sequence_length / took
        memory = SPEED_MEMORY if self._tokens_per_second else 0.0
        self._tokens_per_second = memory * self._tokens_per_second + (1 - memory) * speed
        progress, seconds = self.progress(), self.position.seconds
        return StepReport(
            step=self.position.step,
            epochs=self.epochs(),
            progress=progress,
            nats_per_token=nats,
            learning_rate=learning_rate,
            gradient_norm=float(np.linalg.norm(norms)),
            gradient_norms=dict(zip(self._weight_names(), norms.tolist(), strict=True)),
            tokens_per_second=self._tokens_per_second,
            seconds_left=seconds / progress * (1 - progress) if progress else math.inf,
        )

    def _weight_names(self) -> list[str]:
        names = {id(weight): name for name, weight in self.model.named_weights().items()}
        return [names[id(weight)] for weight in self.model.trainable_variables]

    def _reason_to_stop(self, observers: Sequence[Observer]) -> str:
        if self.progress() >= 1.0:
            return "the budget is spent"
        return _requested_stop(observers)

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets the step finish and saves; the second acts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python tells signals to the main thread only
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def handle(number: int, frame: Any) -> None:
            self._signal = number
            for caught, handler in previous.items():
                signal.signal(caught, handler)

        for number in previous:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def scheduled_learning_rate(config: TrainingConfig, progress: float) -> float:
    """The learning rate when `progress` (0 to 1) of the run is done: a straight rise, then the schedule.

    Cosine: Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    if config.warmup and progress <= config.warmup:
        return config.learning_rate * progress / config.warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (progress - config.warmup) / (1 - config.warmup)
    share = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1 - done
    return config.learning_rate * (config.final_learning_rate + (1 - config.final_learning_rate) * share)


def total_steps(config: TrainingConfig, steps_per_epoch: int) -> float:
    """Updates that the budget in epochs and steps allows; infinitely many where only the clock decides."""
    steps = math.inf if config.steps is None else config.steps
    if config.epochs is not None:
        steps = min(steps, max(1, round(config.epochs * steps_per_epoch)))
    return steps


def _requested_stop(observers: Sequence[Observer]) -> str:
    return next((observer.stop_reason for observer in observers if observer.stop_reason), "")


def _section(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.split("/", 1)[1]: array for key, array in tensors.items() if key.startswith(f"{name}/")}

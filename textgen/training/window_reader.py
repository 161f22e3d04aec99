"""The windows of training text that a process reads, and where a run is in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from textgen.dataset.batches import WINDOWS_FORMAT, Batches
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError
from textgen.model.language_model import LanguageModel
from textgen.saved_model.run_status import minutes_over
from textgen.training.config import TrainingConfig
from textgen.training.position import Position
from textgen.training.schedules import total_steps, warmup_limit
from textgen.wording import plain


class WindowReader:
    """Reads batches of windows from the training text, from any position on.

    Attributes:
        batches: The batches of all processes together.
        rows: The rows of each batch that this process reads.
    """

    def __init__(
        self,
        stream: TokenStream,
        config: TrainingConfig,
        model: LanguageModel,
        rows: slice,
        windows_format: int = WINDOWS_FORMAT,
    ) -> None:
        """Prepares reading.

        Args:
            stream: Training text.
            config: Settings of training.
            model: Network that is trained, for its padding and directions.
            rows: Rows of each batch that this process reads.
            windows_format: Version of the windows that the run began with.

        Raises:
            ConfigError: Nothing limits the length of the run.
        """
        self.rows = rows
        self.batches = Batches(
            stream,
            config.num_streams,
            config.sequence_length,
            model.pad_id,
            config.seed,
            config.random_bptt,
            config.label_dropout,
            model.config.direction,
            has_fresh=windows_format >= 2,
        )
        self._config = config
        self._steps_per_window = len(model.config.directions) * config.sequence_length
        self._total_steps = total_steps(config, self.batches.steps_in())
        if math.isinf(self._total_steps) and config.minutes is None:
            raise ConfigError("Nothing limits the length of the run: set minutes, epochs or steps.")

    @property
    def num_rows(self) -> int:
        """Rows of each batch that this process reads."""
        return int(self.rows.stop - self.rows.start)

    def windows(self, position: Position | None = None) -> Iterable[Any]:
        """Endless batches from a position on: inputs and targets, each int32 [rows, T]."""
        position = position or Position()
        first = position.epoch, position.step_in_epoch
        if self._config.subword_alpha:
            return self._epoch_by_epoch(*first)
        return self.batches.dataset(*first, rows=self.rows, endless=True)

    def _epoch_by_epoch(self, epoch: int, first_step: int) -> Iterator[Any]:
        """Endless batches, not read ahead across epochs.

        Reading ahead would encode the text of the next epoch in a thread of TensorFlow. If there are few of these, a
        validation could not read the held-out text meanwhile.
        """
        while True:
            yield from self.batches.dataset(epoch, first_step, rows=self.rows)
            epoch, first_step = epoch + 1, 0

    def prepare(self, epoch: int) -> None:
        """Encodes the text of an epoch if each has a segmentation of its own. What follows in that epoch is quick."""
        self.batches.stream.of_epoch(epoch)

    def advance(self, position: Position) -> None:
        """Moves a position one batch on."""
        position.step += 1
        position.step_in_epoch += 1
        if position.step_in_epoch == self.batches.steps_in(position.epoch):
            position.epoch, position.step_in_epoch = position.epoch + 1, 0

    def has(self, position: Position) -> bool:
        """Whether a position lies in this text."""
        return position.step_in_epoch < self.batches.steps_in(position.epoch)

    def epochs(self, position: Position) -> float:
        """Passes over the training text so far."""
        return position.epoch + position.step_in_epoch / self.batches.steps_in(position.epoch)

    def progress(self, position: Position, steps_ahead: int = 0) -> float:
        """Fraction of the budget that is spent, 0 to 1; of several budgets, the one that is spent first."""
        spent = (position.step + steps_ahead) / self._total_steps
        if self._config.minutes is not None:
            spent = max(spent, position.seconds / (60 * self._config.minutes))
        return min(1.0, spent)

    def seconds_left(self, position: Position, compiling_seconds: float) -> float:
        """Seconds until the limit that is reached first, at the speed of the steps so far.

        Args:
            position: Where the run is.
            compiling_seconds: Duration of the steps so far in which TensorFlow compiled the network. What is left has
                no such step.

        Returns:
            The seconds; infinity if only steps limit the run, and none has been measured.
        """
        steps_left = max(0.0, self._total_steps - position.step)
        steps, seconds = position.step - 1, position.seconds - compiling_seconds  # those measured
        left = math.inf if steps_left else 0.0
        if steps > 0 and seconds > 0:
            left = seconds / steps * steps_left
        if self._config.minutes is not None:
            left = min(left, max(0.0, 60 * self._config.minutes - position.seconds))
        return left

    def reached(self, position: Position) -> str:
        """Which limit of the length the position has reached; "" if none."""
        if self.progress(position) < 1.0:
            return ""
        minutes, epochs, passes = self._config.minutes, self._config.epochs, self.epochs(position)
        if minutes is None or position.step >= self._total_steps:
            return "the planned length is reached"
        limit = f"{plain(minutes)} minute" if minutes == 1 else f"{plain(minutes)} minutes"
        of_all = "" if epochs is None else f" of {plain(epochs)}"
        return minutes_over(limit, f"{passes:,.2f}{of_all}")

    def warmup_limit(self, position: Position, seconds: float) -> float:
        """The maximum learning rate of the next update: see `textgen.training.schedules.warmup_limit`."""
        return warmup_limit(self._config, position.step + 1, self._total_steps, seconds)

    def window_fraction(self, inputs: np.ndarray) -> float:
        """Length of the windows inputs [rows, T] relative to full ones.

        The learning rate is multiplied by it, so that a token counts the same in a short window. The last windows of an
        epoch, which are filled up with padding, count as full ones: each of their tokens counts a little more.
        """
        return float(inputs.shape[1] / self._steps_per_window)

    def tokens(self, position: Position) -> int:
        """Tokens of the batch at a position, of all processes together and without padding."""
        return self.batches.tokens_in(position.epoch, position.step_in_epoch)

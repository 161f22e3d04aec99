"""What TensorFlow does in a few steps of training, recorded for TensorBoard's profiler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import tensorflow as tf

from textgen.training.observers.observer import Observer, StepReport

SKIPPED = 10  # steps at the beginning, which compile


class Profiler(Observer):
    """Records `steps` steps of a run in `folder`, which `textgen tensorboard` shows."""

    def __init__(self, folder: Path, steps: int, say: Callable[[str], None] = lambda line: None) -> None:
        """`say` is told when the run was too short for a recording."""
        super().__init__()
        self._folder = folder
        self._steps = steps
        self._say = say
        self._done = 0
        self._is_recording = False
        self._step = ExitStack()  # the mark that a step leaves in the recording

    def on_step(self, report: StepReport) -> None:
        """Starts and stops the recording between two steps."""
        self._done += 1
        self._step.close()
        if self._done == SKIPPED:
            tf.profiler.experimental.start(str(self._folder))
            self._is_recording = True
        elif self._done == SKIPPED + self._steps:
            self._stop()
        if self._is_recording:
            self._step.enter_context(tf.profiler.experimental.Trace("train", step_num=report.step + 1, _r=1))

    def on_end(self) -> None:
        """A run that ends earlier keeps what was recorded; one without a step to record says so."""
        self._stop()
        if self._done <= SKIPPED:
            self._say(
                f"No step was recorded: a profile begins after the first {SKIPPED} steps, and there were {self._done}."
            )

    def _stop(self) -> None:
        self._step.close()
        if self._is_recording:
            self._is_recording = False
            tf.profiler.experimental.stop()

"""Records a few steps of training for TensorBoard's profiler."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import tensorflow as tf

from textgen.training.observers.observer import Observer, StepReport
from textgen.wording import Say, silent

SKIPPED = 10  # first steps, in which TensorFlow compiles


class Profiler(Observer):
    """Records a profile of some steps and writes it to a folder of event files."""

    def __init__(self, folder: Path, steps: int, say: Say = silent) -> None:
        """Prepares a recording.

        Args:
            folder: Folder of event files.
            steps: Number of steps to record.
            say: Called with a line of text if the run is too short for a recording.
        """
        super().__init__()
        self._folder = folder
        self._steps = steps
        self._say = say
        self._done = 0
        self._is_recording = False
        self._step = ExitStack()  # marks a step in the recording

    def on_step(self, report: StepReport) -> None:
        """Starts the recording after the first `SKIPPED` steps, and stops it when it is complete."""
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
        """Saves an unfinished recording, or reports that no step was recorded."""
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

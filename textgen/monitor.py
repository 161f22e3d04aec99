"""TensorBoard: the only module that writes event files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import tensorflow as tf

from textgen.reports import Observer, RunReport, StepReport, ValidationReport

STEPS_PER_POINT = 10  # a curve needs no point a step


class Monitor(Observer):
    """Writes the curves, samples and settings of a run to a folder that `textgen tensorboard` shows."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))

    def on_start(self, run: RunReport) -> None:
        """The settings, as a text beside the curves."""
        with self._writer.as_default(run.step):
            settings = json.dumps(run.settings, indent=2, ensure_ascii=False, default=str)
            tf.summary.text("settings", f"```\n{settings}\n```")

    def on_step(self, report: StepReport) -> None:
        """Loss, learning rate, gradient norms and speed, every few steps."""
        if report.step % STEPS_PER_POINT:
            return
        with self._writer.as_default(report.step):
            tf.summary.scalar("loss/train (nats per token)", report.nats_per_token)
            tf.summary.scalar("perplexity/train", _perplexity(report.nats_per_token))
            tf.summary.scalar("optimizer/learning rate", report.learning_rate)
            tf.summary.scalar("gradient norm/all", report.gradient_norm)
            for name, norm in report.gradient_norms.items():
                tf.summary.scalar(f"gradient norm/{name}", norm)
            tf.summary.scalar("speed/tokens per second", report.tokens_per_second)
            tf.summary.scalar("optimizer/epochs", report.epochs)

    def on_validation(self, report: ValidationReport) -> None:
        """Scores on held-out text, and a sample."""
        with self._writer.as_default(report.step):
            tf.summary.scalar("loss/valid (nats per token)", report.nats_per_token)
            tf.summary.scalar("perplexity/valid", report.perplexity_per_token)
            tf.summary.scalar("loss/valid (bits per byte)", report.bits_per_byte)
            tf.summary.text("sample", f"```\n{report.sample}\n```")
        self._writer.flush()

    def on_end(self) -> None:
        """Nothing that was written stays in a buffer."""
        self._writer.close()


def _perplexity(nats: float) -> float:
    return math.exp(min(nats, 700.0))  # a larger loss would overflow

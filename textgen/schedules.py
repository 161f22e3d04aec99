"""The learning rate over a run, and how long the run is."""

from __future__ import annotations

import math

from textgen.config import TrainingConfig


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

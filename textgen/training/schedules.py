"""Learning rate schedules, and the length of a run in steps.

The learning rate rises during the warm-up, holds the peak, and then follows the schedule. The schedules that rise
themselves, one-cycle and triangular, hold the peak where they first reach it. All of these are fractions of the run, so
that one setting suits runs of any length, in steps or in minutes.
"""

from __future__ import annotations

import math

from textgen.training.config import TrainingConfig

WARMUP_STEPS = 25  # minimum number of warm-up updates in a run limited by minutes
WARMUP_FRACTION = 0.1  # maximum fraction of the updates of a run, or of its time, that this minimum may take
ONE_CYCLE_RISE = 0.3  # fraction of the cycle in which the rate rises
ONE_CYCLE_START = 0.04  # learning rate at the start of the cycle, relative to the peak
# tolerance in parts of a run: above the rounding error of a quotient, below the length of a step
ROUNDING = 1e-9


def scheduled_learning_rate(config: TrainingConfig, progress: float, reductions: int = 0) -> float:
    """The learning rate at a point of a run. The warm-up rises linearly from 0 to where the schedule begins.

    Args:
        config: Schedule and its settings.
        progress: Fraction of the run that is done, 0 to 1.
        reductions: Reductions so far, for the schedule "plateau".

    Example:
        >>> config = TrainingConfig(schedule="linear", learning_rate=1.0, warmup_fraction=0.5)
        >>> scheduled_learning_rate(config, 0.25), scheduled_learning_rate(config, 0.5)
        (0.5, 1.0)
    """
    if config.schedule == "inverse-sqrt":
        return config.learning_rate * _inverse_sqrt(config, progress)
    if config.warmup_fraction and progress <= config.warmup_fraction:
        return config.learning_rate * _fraction(config, 0.0, 0) * progress / config.warmup_fraction
    return config.learning_rate * _fraction(config, _done(config, progress), reductions)


def warmup_limit(config: TrainingConfig, step: int, steps: float, seconds: float = 0.0) -> float:
    """The maximum learning rate of an update during the warm-up of a run limited by minutes.

    TensorFlow compiles the first update, which takes seconds. A short run could spend its whole warm-up, a fraction of
    the time, on that. The rate therefore also rises over a minimum number of updates. Without a warm-up, the first
    updates of Adam, which move each weight by about the learning rate, can saturate the gates.

    Args:
        config: Schedule and its settings.
        step: Number of the update, from 1.
        steps: Number of updates that the limits of epochs and steps allow: see `total_steps`.
        seconds: Duration of the updates so far, without the first one. If updates are slow, the minimum number of them
            could take most of the run.

    Returns:
        The maximum; infinity after the warm-up, without a warm-up, and in runs not limited by minutes.

    Example:
        >>> config = TrainingConfig(learning_rate=0.01, minutes=5.0)
        >>> warmup_limit(config, 5, 1000), warmup_limit(config, 30, 1000)
        (0.002, inf)
    """
    if config.minutes is None or not config.warmup_fraction:
        return math.inf
    by_steps = step / min(WARMUP_STEPS, WARMUP_FRACTION * steps)
    risen = max(by_steps, seconds / (WARMUP_FRACTION * 60 * config.minutes))
    return config.learning_rate * risen if risen < 1 else math.inf


def total_steps(config: TrainingConfig, steps_per_epoch: int) -> float:
    """Updates within the limits of epochs and steps; infinity if only minutes are limited."""
    steps = math.inf if config.steps is None else config.steps
    if config.epochs is not None:
        steps = min(steps, max(1, round(config.epochs * steps_per_epoch)))
    return steps


def parts_done(progress: float, number: int) -> int:
    """How many of `number` equal parts of a run are over. Validations are due at the ends of such parts.

    Args:
        progress: Fraction of the run that is done, 0 to 1. It is a quotient, which may be rounded below the end of a
            part that it has just reached.
        number: Number of parts.

    Example:
        >>> (1 / 49) * 49, parts_done(1 / 49, 49)
        (0.9999999999999999, 1)
    """
    return int(progress * number + ROUNDING)


def _done(config: TrainingConfig, progress: float) -> float:
    """Fraction of the schedule that is over. The schedule takes the part of the run without warm-up and hold."""
    spent = min(1.0, config.warmup_fraction + config.hold_fraction)
    rise = _rise(config)
    top = config.warmup_fraction + rise * (1 - spent)
    if spent == 1.0 or top < progress <= top + config.hold_fraction:
        return rise
    return (progress - (config.warmup_fraction if progress <= top else spent)) / (1 - spent)


def _rise(config: TrainingConfig) -> float:
    """Fraction of the schedule before its first peak."""
    if config.schedule == "triangular":
        return 0.5 / config.num_cycles
    return ONE_CYCLE_RISE if config.schedule == "one-cycle" else 0.0


def _fraction(config: TrainingConfig, done: float, reductions: int) -> float:
    """The rate relative to the peak when a fraction `done` of the schedule is over."""
    final = config.final_learning_rate_fraction
    match config.schedule:
        case "linear":
            return _mix(final, 1 - done)
        case "cosine":  # Loshchilov & Hutter 2017, arXiv:1608.03983
            return _mix(final, _half_cosine(done))
        case "exponential":
            return final**done
        case "step":  # steps of equal length
            return config.decay_factor ** min(config.num_decays, math.floor(done * (config.num_decays + 1)))
        case "triangular":  # Smith 2017, arXiv:1506.01186
            return _mix(final, 1 - abs(2 * (done * config.num_cycles % 1.0) - 1))
        case "one-cycle":  # after Smith & Topin 2018, arXiv:1708.07120
            if done < ONE_CYCLE_RISE:
                return _mix(ONE_CYCLE_START, 1 - _half_cosine(done / ONE_CYCLE_RISE))
            return _mix(final, _half_cosine((done - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE)))
        case "plateau":
            return config.decay_factor**reductions
    return 1.0  # constant


def _inverse_sqrt(config: TrainingConfig, progress: float) -> float:
    """Vaswani et al. 2017, arXiv:1706.03762: a linear rise, then sqrt(warmup / progress)."""
    if progress <= config.warmup_fraction:
        return progress / config.warmup_fraction
    return math.sqrt(config.warmup_fraction / max(config.warmup_fraction, progress - config.hold_fraction))


def _mix(low: float, fraction: float) -> float:
    """Interpolates from `low` to 1."""
    return low + (1 - low) * fraction


def _half_cosine(done: float) -> float:
    """Falls from 1 to 0, level at both ends."""
    return 0.5 * (1 + math.cos(math.pi * done))

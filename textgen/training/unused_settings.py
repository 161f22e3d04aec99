"""Settings that do nothing, since they belong to another cell, optimizer, schedule or average than the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from textgen.errors import ConfigError
from textgen.model.config import WITH_FORGET_GATE, ModelConfig
from textgen.training.config import SCHEDULES, WITH_MOMENTUM, TrainingConfig

ENDING_LOW = ("cosine", "linear", "exponential", "triangular", "one-cycle")
FALLING = tuple(name for name in SCHEDULES if name not in ("constant", "plateau"))  # from the peak that a hold keeps


class Use(NamedTuple):
    """The condition under which a setting is used.

    Attributes:
        other: The setting that decides.
        holds: Whether a value of that setting uses this one.
        remedy: What to do about the other setting, as the end of "leave it out, or ...".
    """

    other: str
    holds: Callable[[Any], bool]
    remedy: str


def _one_of(other: str, *values: str) -> Use:
    choices = " or ".join(filter(None, [", ".join(values[:-1]), values[-1]]))
    return Use(other, lambda value: value in values, f"set {other} to {choices}")


def _above_zero(other: str) -> Use:
    return Use(other, lambda value: value != 0, f"set {other} above 0")


USES: dict[str, Use] = {
    "forget_bias": _one_of("cell", *WITH_FORGET_GATE),
    "reset_after": _one_of("cell", "gru"),
    "activation": _one_of("cell", "rnn"),
    "mogrifier_rounds": _one_of("cell", "mogrifier"),
    "mogrifier_rank": _one_of("cell", "mogrifier"),
    "momentum": _one_of("optimizer", *WITH_MOMENTUM),
    "beta_1": _one_of("optimizer", "adamw", "adam", "lamb"),
    "beta_2": _one_of("optimizer", "adamw", "adam", "lamb", "rmsprop"),
    "epsilon": _one_of("optimizer", "adamw", "adam", "lamb", "rmsprop"),
    "nonmonotone_interval": _one_of("optimizer", "asgd"),
    "hold_fraction": _one_of("schedule", *FALLING),
    "final_learning_rate_fraction": _one_of("schedule", *ENDING_LOW),
    "num_decays": _one_of("schedule", "step"),
    "decay_factor": _one_of("schedule", "step", "plateau"),
    "plateau_patience": _one_of("schedule", "plateau"),
    "num_cycles": _one_of("schedule", "triangular"),
    "ema_decay": _one_of("weight_averaging", "ema"),
    "num_averaged": _one_of("weight_averaging", "last-k"),
    "full_softmax_fraction": _above_zero("sampled_softmax"),
    "decay_target": _above_zero("weight_decay"),
    "clip_norm": Use("clip_value", lambda value: value is None, "leave clip_value out"),
}
_DEFAULTS = {each.name: each.default for kind in (ModelConfig, TrainingConfig) for each in fields(kind)}
_DEFAULTS["sampled_softmax"] = None  # the plan may choose one


def unused(settings: Mapping[str, Any]) -> dict[str, Use]:
    """Finds the settings that do nothing.

    A setting with its default value does not count: it asks for nothing, and the record of a run has all settings.

    Args:
        settings: Flat settings. For those that are missing the defaults count.

    Returns:
        The unused settings, each with the condition that does not hold.

    Example:
        >>> list(unused({"cell": "gru", "forget_bias": 5.0}))
        ['forget_bias']
        >>> list(unused({"cell": "gru", "forget_bias": 1.0}))
        []
    """
    values = _DEFAULTS | dict(settings)
    asked = [name for name in settings if name in USES and settings[name] != _DEFAULTS[name]]
    return {name: USES[name] for name in asked if not USES[name].holds(values[USES[name].other])}


def refuse_unused(settings: Mapping[str, Any], begun: Mapping[str, Any] | None = None) -> None:
    """Checks that each given setting does something.

    Args:
        settings: The settings that are given.
        begun: All settings of the run that is resumed. What it has may be repeated.

    Raises:
        ConfigError: A setting does nothing with the others.
    """
    values = {**(begun or {}), **settings}
    for name, use in unused(values).items():
        if name in settings and not (begun and begun.get(name) == settings[name]):
            decisive = values.get(use.other, _DEFAULTS[use.other])
            raise ConfigError(f"With {use.other} {decisive}, {name} does nothing: leave it out, or {use.remedy}.")


def overridden(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces settings, and leaves out those that are of no use any more.

    Args:
        settings: Flat settings of a file.
        others: Those that replace them.

    Returns:
        Both, without the settings of the file that only did something before.

    Example:
        >>> overridden({"weight_averaging": "ema", "ema_decay": 0.99, "seed": 3}, {"weight_averaging": "none"})
        {'weight_averaging': 'none', 'seed': 3}
    """
    both = {**settings, **others}
    idle = unused(both).keys() - unused(settings).keys() - others.keys()
    return {name: value for name, value in both.items() if name not in idle}

"""Settings of sampling and of beam search that do nothing, since what they belong to is not asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from textgen.generation.config import SAMPLERS, SamplingConfig, SearchConfig, sampler_names
from textgen.generation.sampling.sampler_settings import NOT_WITH_MIROSTAT, OFF, fields_of
from textgen.wording import plain

NEEDS: dict[str, tuple[str, ...]] = {  # settings, each with others of which at least one must be given
    "dynatemp_exponent": ("dynatemp_range",),
    "xtc_threshold": ("xtc_probability",),
    "mirostat_tau": ("mirostat",),
    "mirostat_eta": ("mirostat",),
    "repeat_last_n": ("repeat_penalty", "presence_penalty", "frequency_penalty"),
    "dry_base": ("dry_multiplier",),
    "dry_allowed_length": ("dry_multiplier",),
    "dry_penalty_last_n": ("dry_multiplier",),
    "dry_sequence_breakers": ("dry_multiplier",),
    "diversity_penalty": ("num_beam_groups",),
}
KEEP_LIKELIEST = ("top_k", "top_p", "min_p", "top_n_sigma", "epsilon_cutoff", "eta_cutoff", "mirostat")
"""Settings that never drop the likeliest token, so that they change nothing where it is taken."""
MAY_DROP_LIKELIEST = (
    "typical_p", "xtc_probability", "repeat_penalty", "presence_penalty", "frequency_penalty", "dry_multiplier",
)  # fmt: skip
"""Settings that drop or lower it, so that another filter may decide which token takes its place."""
_SAMPLER_OF = {**fields_of(SAMPLERS), "dry_sequence_breakers": "dry"}
_OFF = OFF | {"repeat_last_n": 0, "dry_penalty_last_n": 0, "diversity_penalty": 0.0}
_DEFAULTS = {each.name: each.default for kind in (SamplingConfig, SearchConfig) for each in fields(kind)}


def unused(given: Mapping[str, Any], spelled: Callable[[str], str] = str) -> dict[str, str]:
    """Finds the settings that do nothing.

    A setting that has its default value, or the value that switches it off, asks for nothing and does not count. A
    setting that needs another one may be given where that is switched off explicitly.

    Args:
        given: The settings that are given. Those that are missing have their defaults.
        spelled: Spells the name of a setting in a sentence.

    Returns:
        The unused settings, each with a sentence that says what it needs.

    Raises:
        ConfigError: `samplers` names a sampler that does not exist.

    Example:
        >>> unused({"dry_base": 2.0, "top_p": 0.9})
        {'dry_base': 'dry_base needs dry_multiplier.'}
        >>> unused({"dry_base": 2.0, "dry_multiplier": 0.8})
        {}
    """
    order = sampler_names(given.get("samplers", SamplingConfig.samplers))
    reasons = {name: _reason(name, given, order, spelled) for name, value in given.items() if _asks(name, value)}
    return {name: reason for name, reason in reasons.items() if reason}


def _asks(name: str, value: Any) -> bool:
    """Whether a setting asks for something."""
    value = tuple(value) if isinstance(value, list) else value
    has_rule = name in NEEDS or name in _SAMPLER_OF or name in KEEP_LIKELIEST
    return has_rule and value not in (_DEFAULTS[name], _OFF.get(name, _DEFAULTS[name]))


def _reason(name: str, given: Mapping[str, Any], order: tuple[str, ...], spelled: Callable[[str], str]) -> str:
    """Why a setting does nothing; "" if it does something."""
    others, sampler = NEEDS.get(name, ()), _SAMPLER_OF.get(name)
    if others and not any(other in given for other in others):
        named = [spelled(other) for other in others]
        return f"{spelled(name)} needs {' or '.join(filter(None, [', '.join(named[:-1]), named[-1]]))}."
    if sampler and sampler not in order:
        return f"{spelled(name)} needs {sampler} in {spelled('samplers')}."
    if sampler in NOT_WITH_MIROSTAT and given.get("mirostat"):
        return f"{spelled('mirostat')} cannot be combined with {spelled(name)}: leave out one of them."
    return _without_effect(name, given, order, spelled)


def _without_effect(name: str, given: Mapping[str, Any], order: tuple[str, ...], spelled: Callable[[str], str]) -> str:
    """Why a setting whose sampler is on does nothing with the values that are given; "" if it does something."""
    values = {**_DEFAULTS, **given}
    takes_likeliest = "temperature" in order and values["temperature"] == 0 and not values["dynatemp_range"]
    may_drop = any(values[each] != OFF[each] and _SAMPLER_OF[each] in order for each in MAY_DROP_LIKELIEST)
    if name in KEEP_LIKELIEST and takes_likeliest and not may_drop:
        return (
            f"{spelled(name)} does nothing with {spelled('temperature')} 0, which takes the likeliest token: leave out "
            "one of them."
        )
    if name == "xtc_threshold" and values["xtc_probability"] and values[name] > 0.5:
        return (
            f"{spelled(name)} must be at most 0.5, since no two tokens are likelier than that, and one always stays. "
            f"Received: {plain(values[name])}."
        )
    allowed, window = values["dry_allowed_length"], values["dry_penalty_last_n"]
    if name in ("dry_allowed_length", "dry_penalty_last_n") and values["dry_multiplier"] and 0 < window <= allowed:
        return (
            f"{spelled('dry_allowed_length')} ({allowed:,}) must be below {spelled('dry_penalty_last_n')} "
            f"({window:,}): no repetition in that many tokens is long enough for a penalty."
        )
    return ""

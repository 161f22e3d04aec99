"""The samplers that a text's settings switch on: their functions, their order and their settings as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from textgen.generation.config import SAMPLERS, SamplingConfig, sampler_names
from textgen.generation.sampling.logit_filters import (
    epsilon_cutoff,
    eta_cutoff,
    min_p,
    temperature,
    top_k,
    top_n_sigma,
    top_p,
    typical_p,
    xtc,
)
from textgen.generation.sampling.penalties import DrySettings, dry, penalties

Transform = Callable[..., Any]

TRANSFORMS: dict[str, tuple[Transform, tuple[str, ...]]] = {  # a sampler's function and its inputs after the logits
    "penalties": (
        penalties,
        ("history", "repeat_penalty", "presence_penalty", "frequency_penalty", "repeat_last_n"),
    ),
    "dry": (
        lambda logits, history, breakers, texts, *settings: dry(
            logits, history, breakers, DrySettings(*settings), texts
        ),
        (
            "history",
            "breakers",
            "breaker_texts",
            "dry_multiplier",
            "dry_base",
            "dry_allowed_length",
            "dry_penalty_last_n",
        ),
    ),
    "top_n_sigma": (top_n_sigma, ("top_n_sigma",)),
    "top_k": (top_k, ("top_k",)),
    "typical_p": (typical_p, ("typical_p",)),
    "top_p": (top_p, ("top_p",)),
    "min_p": (min_p, ("min_p",)),
    "epsilon_cutoff": (epsilon_cutoff, ("epsilon_cutoff",)),
    "eta_cutoff": (eta_cutoff, ("eta_cutoff",)),
    "xtc": (xtc, ("xtc_probability", "xtc_threshold", "xtc_uniforms")),
    "temperature": (temperature, ("temperature", "dynatemp_range", "dynatemp_exponent")),
}
OFF = {  # a sampler is off if all of its settings listed here have these values
    "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0,
    "top_n_sigma": 0.0, "top_k": 0, "typical_p": 1.0, "top_p": 1.0, "min_p": 0.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "xtc_probability": 0.0, "temperature": 1.0, "dynatemp_range": 0.0,
}  # fmt: skip
LIKELIEST = {"top_k": 1, "top_p": 0.0, "min_p": 1.0, "epsilon_cutoff": 1.0}  # values that leave the likeliest token
LOOKING_BACK = ("penalties", "dry")  # these index logits by token id, so no filter may have shrunk the candidates
NOT_WITH_MIROSTAT = tuple(name for name in SAMPLERS if name not in (*LOOKING_BACK, "temperature"))
DRAWING = frozenset(  # settings of the draw, which have no effect in a search
    field for _, fields in TRANSFORMS.values() for field in fields if hasattr(SamplingConfig, field)
) | {"samplers", "dry_sequence_breakers", "mirostat", "mirostat_tau", "mirostat_eta"}


def settings_of(configs: Sequence[SamplingConfig], order: Sequence[str] = SAMPLERS) -> dict[str, np.ndarray]:
    """Returns the settings [B, 1] of the samplers of `order` that at least one text uses, by name."""
    used = [used_samplers(config, order) for config in configs]
    return columns_of(configs, fields_of(name for name in order if any(name in names for names in used)))


def used_samplers(config: SamplingConfig, order: Sequence[str]) -> frozenset[str]:
    """The samplers of `order` that these settings switch on."""
    return frozenset(
        name
        for name in order
        if any(value_of(config, name, field) != OFF[field] for field in TRANSFORMS[name][1] if field in OFF)
    )


def fields_of(samplers: Iterable[str]) -> dict[str, str]:
    """The settings of these samplers, each with the name of its sampler."""
    return {field: name for name in samplers for field in TRANSFORMS[name][1] if hasattr(SamplingConfig, field)}


def columns_of(configs: Sequence[SamplingConfig], fields: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Settings [B, 1] by name."""
    columns = {}
    for field, sampler in fields.items():
        kind = np.int64 if isinstance(getattr(SamplingConfig, field), int) else np.float32
        columns[field] = np.array([value_of(config, sampler, field) for config in configs], kind)[:, None]
    return columns


def value_of(config: SamplingConfig, sampler: str, field: str) -> float:
    """The value of a setting; the one that switches its sampler off if mirostat takes the sampler's place."""
    return OFF[field] if config.mirostat and sampler in NOT_WITH_MIROSTAT and field in OFF else getattr(config, field)


def makes_draws(config: SamplingConfig) -> bool:
    """Whether the seed can decide which text is written: not where the samplers always leave only one token."""
    return bool(cut_temperature(config) or config.xtc_probability or config.dynatemp_range)


def cut_temperature(config: SamplingConfig) -> float:
    """The temperature at which token healing chooses where a prompt is cut: see `textgen.generation.token_healing`.

    It is that of the samplers: 0 where one of them leaves only the likeliest token, 1 where none divides by it.
    """
    names = sampler_names(config.samplers)
    if any(name in names and value_of(config, name, name) == value for name, value in LIKELIEST.items()):
        return 0.0
    return config.temperature if "temperature" in names else 1.0

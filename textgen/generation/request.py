"""A text that is asked for: its prompt, its settings, its seed."""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass

from textgen.arguments import check_kind, check_prompt
from textgen.errors import ConfigError
from textgen.generation.config import MAX_TEXTS, SamplingConfig
from textgen.settings import Setting, check_bounds, check_type, python_number


@dataclass(frozen=True)
class Request:
    """A prompt and the settings of the text that continues it; None stands for the default ones."""

    prompt: str
    config: SamplingConfig

    def __post_init__(self) -> None:
        """Checks what both are. Raises `ConfigError`."""
        check_prompt("prompt", self.prompt)
        object.__setattr__(self, "config", sampling(self.config))


def sampling(config: SamplingConfig | None) -> SamplingConfig:
    """Returns the settings of a text, or else the default ones. Raises `ConfigError` if they are of another class."""
    check_kind("config", config, SamplingConfig)
    return SamplingConfig() if config is None else config


def seeded(config: SamplingConfig) -> SamplingConfig:
    """Returns the config with a seed: its own, or else one chosen at random."""
    return config if config.seed is not None else with_seed(config, secrets.randbits(32))


def later_seed(config: SamplingConfig, number: int) -> SamplingConfig:
    """Returns the config with its seed plus `number`; after the largest seed comes 0."""
    return with_seed(config, ((config.seed or 0) + int(number)) % (1 << 63))  # it may be a number of NumPy


def with_seed(config: SamplingConfig, seed: int) -> SamplingConfig:
    """Returns the config with another seed, from 0 to 2^63 - 1. The other settings are not checked again."""
    return _with(config, seed=seed)


def without_healing(config: SamplingConfig) -> SamplingConfig:
    """Returns the config with `heal` off. The other settings are not checked again."""
    return _with(config, heal=False)


def _with(config: SamplingConfig, **values: object) -> SamplingConfig:
    changed = copy.copy(config)
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed


def require_number(name: str, number: int) -> None:
    """Raises `ConfigError` if a number of texts is less than 1 or more than `MAX_TEXTS`."""
    check_type(name, python_number(number), "int")
    check_bounds(name, python_number(number), Setting("", 1, MAX_TEXTS))


def require_best_of(num: int, best_of: int | None) -> None:
    """Raises `ConfigError` if `num` or `best_of` is not from 1 to `MAX_TEXTS`, or `best_of` is less than `num`.

    Args:
        num: The number of texts for a prompt.
        best_of: The number of texts of which they are the best; None to draw no more than they are.
    """
    require_number("num", num)
    if best_of is not None:
        require_number("best_of", best_of)
    if best_of is not None and best_of < num:
        raise ConfigError(f"best_of ({best_of}) is less than num ({num}): the best are chosen from at least as many.")

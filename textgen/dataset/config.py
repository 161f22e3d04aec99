"""Settings of the dataset: what is held out for validation."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.settings import Settings, setting


@dataclass(frozen=True)
class SplitConfig(Settings):
    """How a corpus is split into training text and held-out text."""

    valid_fraction: float = setting(
        0.1,
        "Fraction of the corpus to hold out for validation. If it is not given, about 4 MB are held out at most.",
        low=1e-6,
        high=0.5,
    )
    seed: int = setting(0, "Seed of the held-out documents.", low=0, high=(1 << 63) - 1)

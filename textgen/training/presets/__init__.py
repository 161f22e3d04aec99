"""Presets: sizes of a network, and recipes for well-known texts.

A recipe is a file NAME.toml beside this one with flat settings. Its name gives the text, the unit (word, char or byte),
the layers and units, and the time that it takes on two processor cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.errors import ConfigError
from textgen.settings import read_toml

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embedding_dim": 128, "hidden_units": 128, "num_layers": 1},
    "small": {"embedding_dim": 256, "hidden_units": 256, "num_layers": 2},
    "medium": {"embedding_dim": 512, "hidden_units": 512, "num_layers": 2},
    "large": {"embedding_dim": 768, "hidden_units": 1024, "num_layers": 3},
}
RECIPES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


def with_preset(preset: str | None, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Combines a preset with settings.

    Args:
        preset: Name of a size or of a recipe.
        settings: Flat settings, which override those of a recipe.

    Returns:
        The name of the size, None for a recipe; and the settings.

    Raises:
        ConfigError: There is no such preset.

    Example:
        >>> with_preset("small", {"minutes": 5})
        ('small', {'minutes': 5})
    """
    if preset is not None and preset not in (*SIZES, *RECIPES):
        raise ConfigError(f"There is no preset {preset!r}. There are: {', '.join([*SIZES, *RECIPES])}.")
    if preset not in RECIPES:
        return preset, dict(settings)
    return None, {**read_toml(Path(__file__).with_name(f"{preset}.toml")), **settings}

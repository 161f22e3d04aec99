"""Presets: sizes of a network, and all settings for well-known texts.

The preset of a text is a file NAME.toml beside this one with flat settings. Its name gives the text, the unit (word,
char or byte), the layers and units, and the time that it takes on two processor cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textgen.errors import ConfigError
from textgen.settings import read_toml
from textgen.training.unused_settings import overridden

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embedding_dim": 128, "hidden_units": 128, "num_layers": 1},
    "small": {"embedding_dim": 256, "hidden_units": 256, "num_layers": 2},
    "medium": {"embedding_dim": 512, "hidden_units": 512, "num_layers": 2},
    "large": {"embedding_dim": 768, "hidden_units": 1024, "num_layers": 3},
}
MAX_EMBEDDING_DIM = 1024  # largest size of an embedding that is as wide as the layers
TEXT_PRESETS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


def with_preset(preset: str | None, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Combines a preset with settings.

    Args:
        preset: Name of a size, or of the preset of a text.
        settings: Flat settings, which override those of the preset of a text. With other settings than these, some of
            the preset may do nothing: see `overridden`. They are left out.

    Returns:
        The name of the size, None for the preset of a text; and the settings.

    Raises:
        ConfigError: There is no such preset.

    Example:
        >>> with_preset("small", {"minutes": 5})
        ('small', {'minutes': 5})
    """
    if preset is not None and preset not in (*SIZES, *TEXT_PRESETS):
        raise ConfigError(f"There is no preset {preset!r}. There are: {', '.join([*SIZES, *TEXT_PRESETS])}.")
    if preset not in TEXT_PRESETS:
        return preset, dict(settings)
    return None, overridden(read_toml(Path(__file__).with_name(f"{preset}.toml")), settings)


def with_sizes(preset: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the sizes of a preset to settings, as a new run and one that is resumed with the same settings need them.

    Args:
        preset: Name of a size; None adds nothing.
        settings: Flat settings, which override those of the preset. Where only hidden_units is given, the embedding is
            as wide as the layers.

    Returns:
        The settings with embedding_dim, hidden_units and num_layers.

    Example:
        >>> with_sizes("small", {"hidden_units": 300})
        {'embedding_dim': 300, 'hidden_units': 300, 'num_layers': 2}
        >>> with_sizes(None, {"hidden_units": 300})
        {'hidden_units': 300}
    """
    if preset is None:
        return dict(settings)
    sizes = dict(SIZES[preset])
    if isinstance(units := settings.get("hidden_units"), int):
        sizes["embedding_dim"] = min(units, MAX_EMBEDDING_DIM)
    return {**sizes, **settings}

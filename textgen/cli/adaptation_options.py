"""Options of models that adapt to a text, with a neural cache or by training on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from textgen.cli.command import INPUT
from textgen.cli.options import completing_models, reading_options, sectioned, settings_of
from textgen.cli.setting_options import option_group, setting_options
from textgen.evaluation.config import SECTION, DynamicConfig, NeuralCacheConfig
from textgen.generation.config import AUTO, NUMPY
from textgen.settings import Config, from_dict

NEEDS_NUMPY = ("adapt", "neural_cache", "clamp", "ensemble")  # options of writing that only the network in NumPy has

ensemble_option = click.option(
    "--ensemble",
    multiple=True,
    metavar="MODEL",
    shell_complete=completing_models(),
    help="Average the probabilities with this model, which has the same vocabulary. May be given several times.",
)
cache_options = option_group(
    sectioned(
        SECTION,
        "--neural-cache",
        is_flag=True,
        help="Make tokens that came recently in a similar context likelier (Grave et al. 2017).",
    ),
    setting_options(NeuralCacheConfig),
)
dynamic_options = option_group(
    sectioned(
        SECTION,
        "--dynamic",
        is_flag=True,
        help="Train on the text while it is scored, always after scoring it (dynamic evaluation, Krause et al. 2018).",
    ),
    setting_options(DynamicConfig),
)
adapt_options = option_group(
    sectioned(
        SECTION,
        "--adapt",
        type=INPUT,
        metavar="FILE",
        help="Train on this text before writing. The saved model stays as it is.",
    ),
    setting_options(DynamicConfig),
    reading_options,
)


def switched(kind: type[Config], on: bool, switch: str, options: dict[str, Any]) -> Config | None:
    """The settings of a feature that the flag `switch` turns on; None if it is off.

    Raises:
        click.UsageError: There are settings of the feature, but it is off.
    """
    settings = settings_of(kind, on, switch, options)
    return from_dict(kind, settings) if on else None


def check_runtime(runtime: str, needs_numpy: Sequence[str]) -> None:
    """Raises `click.UsageError` if a runtime was asked for that cannot do what these flags ask for."""
    if needs_numpy and runtime not in (AUTO, NUMPY):
        raise click.UsageError(f"{needs_numpy[0]} needs --runtime {NUMPY}.")

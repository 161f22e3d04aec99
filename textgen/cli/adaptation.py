"""Options of models that adapt to the text they read."""

from __future__ import annotations

from typing import Any

import click

from textgen.cli.options import Decorator, SectionOption, given, option_group, setting_option
from textgen.config import CacheConfig, Config, DynamicConfig, from_dict, select

SECTION = "Adapting"
CACHE_HELP = {
    "cache_window": "Pieces that the cache remembers.",
    "cache_theta": "How much more a state counts that is more alike; 0: all count the same.",
    "cache_lambda": "The cache's share of the probability.",
}
DYNAMIC_HELP = {
    "dynamic_learning_rate": "Length of the steps.",
    "dynamic_decay": "Share of the way back to the trained weights that each step goes.",
    "dynamic_window": "Tokens that a step learns from.",
    "dynamic_clip_norm": "Gradients longer than this are shortened to it.",
}


def _switch(flag: str, text: str, **kind: Any) -> Decorator:
    return click.option(flag, cls=SectionOption, section=SECTION, help=text, **kind)


cache_options = option_group(
    _switch("--cache", "Neural cache: what came lately in a like place becomes likelier.", is_flag=True),
    *[setting_option(CacheConfig, name, text, SECTION) for name, text in CACHE_HELP.items()],
)
dynamic_options = option_group(
    _switch("--dynamic", "Dynamic evaluation: learn from the text once it is scored.", is_flag=True),
    *[setting_option(DynamicConfig, name, text, SECTION) for name, text in DYNAMIC_HELP.items()],
)


def switched(kind: type[Config], on: bool, switch: str, options: dict[str, Any]) -> Config | None:
    """The config of what a `switch` turns on, None where it is off; settings without the switch are wrong usage."""
    settings = given(select(kind, options))
    if settings and not on:
        raise click.UsageError(f"--{next(iter(settings)).replace('_', '-')} needs {switch}.")
    return from_dict(kind, settings) if on else None

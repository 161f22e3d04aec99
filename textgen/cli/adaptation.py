"""Options of models that adapt to a text, by a cache or by learning from it, and what becomes of a saved model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.options import Decorator, SectionOption, given, option_group, setting_option
from textgen.errors import ConfigError
from textgen.evaluation.config import CacheConfig, DynamicConfig
from textgen.settings import Config, from_dict, select

if TYPE_CHECKING:
    from textgen.generation.cached_model import CachedModel
    from textgen.model.numpy_model import NumpyModel
    from textgen.saved_model.saved_model import ModelFolder

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
    "dynamic_rms": "Each weight steps by the size of its own gradients so far; try a learning rate of 0.4.",
}


def _switch(flag: str, text: str, **kind: Any) -> Decorator:
    return click.option(flag, cls=SectionOption, section=SECTION, help=text, **kind)


cache_options = option_group(
    _switch("--cache", "Neural cache: what came lately in a like place becomes likelier.", is_flag=True),
    *[setting_option(CacheConfig, name, text, SECTION) for name, text in CACHE_HELP.items()],
)
dynamic_settings = option_group(
    *[setting_option(DynamicConfig, name, text, SECTION) for name, text in DYNAMIC_HELP.items()]
)
dynamic_options = option_group(
    _switch("--dynamic", "Dynamic evaluation: learn from the text once it is scored.", is_flag=True), dynamic_settings
)
adapt_options = option_group(
    _switch("--adapt", "Learn from this text before writing. The saved model stays as it is.", metavar="FILE"),
    dynamic_settings,
)


def switched(kind: type[Config], on: bool, switch: str, options: dict[str, Any]) -> Config | None:
    """The config of what a `switch` turns on, None where it is off; settings without the switch are wrong usage."""
    settings = given(select(kind, options))
    if settings and not on:
        raise click.UsageError(f"--{next(iter(settings)).replace('_', '-')} needs {switch}.")
    return from_dict(kind, settings) if on else None


def adapted_writer(
    saved: ModelFolder,
    adapt: str | None,
    cache: CacheConfig | None,
    dynamic: DynamicConfig | None,
    label: str | None = None,
) -> NumpyModel | CachedModel:
    """What writes: the saved model, or what becomes of it when it learns from the file `adapt` and has a cache.

    With a `label` that is a text with this label.
    """
    from textgen.generation.cached_model import CachedModel

    model = saved.writer() if adapt is None or dynamic is None else _learned(saved, adapt, dynamic, label)
    return CachedModel(model, cache) if cache else model


def _learned(saved: ModelFolder, path: str, config: DynamicConfig, label: str | None) -> NumpyModel:
    """The model after it has learned from a text. Raises `ConfigError` where it diverged."""
    import numpy as np

    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_cache import encode_corpus
    from textgen.model.numpy_model import NumpyModel
    from textgen.runtime import load_tensorflow

    with tempfile.TemporaryDirectory() as folder:
        text = Corpus([path], saved.corpus_config)
        stream = encode_corpus(text, saved.tokenizer, Path(folder) / "tokens", label)
        text.say_left_out(output.note)
        load_tensorflow()
        from textgen.evaluation.dynamic_evaluation import Learner

        model = saved.network("forward")
        Learner(model, config).learn(stream)
    weights = model.weights_as_arrays()
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise ConfigError(
            f"The model diverged while it learned from {path}: its weights are not finite any more. "
            f"Lower dynamic_learning_rate. Received: {config.dynamic_learning_rate:g}."
        )
    return NumpyModel(model.config, weights)

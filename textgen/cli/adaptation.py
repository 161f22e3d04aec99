"""Options of models that adapt to a text, with a neural cache or by training on it, and the adapted model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from textgen.cli import output
from textgen.cli.command import INPUT
from textgen.cli.options import reading_options, sectioned, settings_of, text_of
from textgen.cli.setting_options import flag_of, option_group, setting_options
from textgen.errors import ConfigError
from textgen.evaluation.config import SECTION, CacheConfig, DynamicConfig
from textgen.generation.config import AUTO, NUMPY
from textgen.settings import Config, from_dict

if TYPE_CHECKING:
    from textgen.dataset.token_stream import TokenStream
    from textgen.dataset.word_filter import WordFilter
    from textgen.generation.stepping import StepModel
    from textgen.model.clamping import Clamp
    from textgen.model.numpy_model import NumpyModel
    from textgen.saved_model.saved_model import ModelFolder

NEEDS_NUMPY = ("adapt", "cache", "clamp")  # settings of writing that only the network in NumPy has
READ_TOKENS = 1 << 20  # tokens of a text that are read at a time

cache_options = option_group(
    sectioned(
        SECTION,
        "--cache",
        is_flag=True,
        help="Make tokens that came recently in a similar context likelier (neural cache, Grave et al. 2017).",
    ),
    setting_options(CacheConfig),
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


class Writer(NamedTuple):
    """A network that writes.

    Attributes:
        model: The network.
        words: The words that it may write, or a function that reads them; None if it may coin words.
        fingerprint: Tells it from other networks, also those that learned from another text or in another way.
    """

    model: StepModel
    words: WordFilter | Callable[[], WordFilter | None] | None
    fingerprint: str


def adapted_writer(
    saved: ModelFolder,
    adapt: str | None,
    neural_cache: CacheConfig | None,
    dynamic: DynamicConfig | None,
    label: str | None = None,
    clamps: Sequence[Clamp] = (),
    runtime: str = AUTO,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Writer:
    """The network of a saved model, trained on the file `adapt` and with a neural cache if given.

    Args:
        saved: The model, which stays as it is.
        adapt: A text to train on.
        neural_cache: Settings of the neural cache.
        dynamic: Settings of the training; needed with `adapt`.
        label: Label of the text.
        clamps: Values of cells that are held.
        runtime: What computes the network, one of `textgen.generation.config.RUNTIMES`. Only NumPy adapts and clamps.
        reading: Settings of `CorpusConfig` for `adapt` that differ from those of the training.

    Returns:
        The network, with the words of its training text and of `adapt`.

    Raises:
        ConfigError: The runtime is not installed, or the model diverged while it learned.
        click.UsageError: The runtime cannot do this.
    """
    values = (adapt, neural_cache, clamps)
    needs_numpy = [flag_of(name) for name, value in zip(NEEDS_NUMPY, values, strict=True) if value]
    check_runtime(runtime, needs_numpy)
    if not needs_numpy:
        return Writer(saved.step_model(runtime, output.note), saved.words, saved.fingerprint)
    words: WordFilter | Callable[[], WordFilter | None] | None = saved.words
    fingerprint = f"{saved.fingerprint} {neural_cache}" if neural_cache else saved.fingerprint
    if adapt is None or dynamic is None:
        model = saved.numpy_model(clamps=clamps)
    else:
        model, words, text = _trained_on(saved, adapt, reading, dynamic, label, clamps)
        fingerprint += f" {text} {dynamic}"
    if neural_cache is None:
        return Writer(model, words, fingerprint)
    from textgen.generation.neural_cache_model import NeuralCacheModel

    return Writer(NeuralCacheModel(model, neural_cache), words, fingerprint)


def _trained_on(
    saved: ModelFolder,
    path: str,
    reading: Mapping[str, Any],
    config: DynamicConfig,
    label: str | None,
    clamps: Sequence[Clamp],
) -> tuple[NumpyModel, WordFilter | None, str]:
    """The model after one pass over a text, the words of both, and the checksum of the text as tokens.

    Raises:
        ConfigError: The model diverged.
    """
    import numpy as np

    from textgen.dataset.token_cache import encoded
    from textgen.dataset.word_filter import WordFilter, stream_words
    from textgen.model.numpy_model import NumpyModel
    from textgen.runtime import load_tensorflow

    text = text_of(saved, [path], reading)
    load_tensorflow()
    from textgen.evaluation.dynamic_evaluation import Learner

    model, own_words = saved.network("forward"), saved.words()  # before a training can save them anew
    with encoded(text, saved.tokenizer, label) as stream:
        text.say_left_out(output.note)
        words = own_words and WordFilter.build([*stream_words(stream, saved.tokenizer)], own_words)
        checksum = _checksum(stream)
        Learner(model, config).learn(stream)
    weights = model.weights_as_arrays()
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise ConfigError(
            f"The model diverged while it learned from {path}: its weights are no longer finite. "
            f"Lower dynamic_learning_rate. Received: {config.dynamic_learning_rate:g}."
        )
    return NumpyModel(model.config, weights, clamps), words, checksum


def _checksum(stream: TokenStream) -> str:
    """SHA-256 of the ids, which is the same wherever the text is, in whatever encoding."""
    digest = sha256()
    for start in range(0, len(stream), READ_TOKENS):
        digest.update(stream.read(start, min(start + READ_TOKENS, len(stream))).astype("<i4").tobytes())
    return digest.hexdigest()

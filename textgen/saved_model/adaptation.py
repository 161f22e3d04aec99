"""A saved model that is changed before it writes.

It learns from a text, has a neural cache, some of its cells are held, or its probabilities are averaged with those of
other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from textgen.errors import ConfigError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.config import AUTO, NUMPY, RuntimeConfig
from textgen.generation.fingerprint import Fingerprint
from textgen.generation.generator import Generator
from textgen.model.clamping import Clamp, parse_clamps
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.ensembles import check_ensemble, common_index, common_words
from textgen.system.runtime import load_tensorflow
from textgen.wording import Say, silent

if TYPE_CHECKING:
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_stream import TokenStream
    from textgen.dataset.word_filter import WordFilter
    from textgen.model.protocols import StepModel
    from textgen.saved_model.saved_model import ModelFolder

READ_TOKENS = 1 << 20  # tokens of a text that are read at a time


@dataclass(frozen=True)
class Adaptation:
    """How a saved model is changed before it writes. Its folder stays as it is.

    In an ensemble each model is trained on the text and has a neural cache of its own. Cells of the first are held.

    Attributes:
        text: A text to train on.
        dynamic: Settings of that training.
        label: Label of the text.
        neural_cache: Settings of the neural cache; None to write without one.
        clamps: Values of cells that are held, such as L1/89=3.8.
        ensemble: More models, whose probabilities are averaged with those of the first.
    """

    text: Corpus | None = None
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    label: str | None = None
    neural_cache: NeuralCacheConfig | None = None
    clamps: tuple[str, ...] = ()
    ensemble: tuple[ModelFolder, ...] = ()

    @property
    def changes(self) -> list[str]:
        """What is changed, by the names of settings; only the network in NumPy can be changed."""
        values = {
            "adapt": self.text,
            "neural_cache": self.neural_cache,
            "clamps": self.clamps,
            "ensemble": self.ensemble,
        }
        return [name for name, value in values.items() if value not in (None, ())]


def adapted_generator(
    saved: ModelFolder,
    adaptation: Adaptation,
    *,
    runtime: str = AUTO,
    say: Say = silent,
    note: Say | None = None,
) -> Generator:
    """Builds a generator of a saved model that is changed first.

    Args:
        saved: The model, which stays as it is.
        adaptation: How it is changed, if at all.
        runtime: What computes the network: see `ModelFolder.step_model`. Only NumPy computes one that is changed.
        say: Called with a line of text for each stage that takes long.
        note: Called with a line of text for what a user should know; `say` by default.

    Returns:
        The generator. It writes the words of the training texts of all models and of the text that they learned from.

    Raises:
        ConfigError: The runtime is not installed or does not compute this, there is no cell of that name, a model
            reads text backward only, it does not know the label, it diverged while it learned, or the models of the
            ensemble have different vocabularies.
        CorpusError: The text cannot be read.
        SavedModelError: The model is damaged.
    """
    changes = adaptation.changes
    if changes and RuntimeConfig(runtime).runtime not in (AUTO, NUMPY):
        raise ConfigError(
            f"Only the runtime {NUMPY} computes a model with {changes[0]}. Received: the runtime {runtime}. "
            "Leave it out."
        )
    if changes:
        return _changed(saved, adaptation, note or say)
    return saved.generator(runtime=runtime, say=say, note=note)


def _changed(saved: ModelFolder, adaptation: Adaptation, note: Say) -> Generator:
    check_ensemble(saved, adaptation.ensemble)
    models = saved, *adaptation.ensemble
    clamps, cache = parse_clamps(adaptation.clamps, saved.model_config), adaptation.neural_cache
    learned = None if adaptation.text is None else _learned(models, adaptation.text, adaptation, clamps, note)
    if learned is None:
        networks = [saved.numpy_model(clamps=clamps), *(other.numpy_model() for other in adaptation.ensemble)]
    else:
        networks = learned.networks
    fingerprint = Fingerprint(
        saved.fingerprint,
        neural_cache=cache,
        adapted_to=None if learned is None else learned.checksum,
        dynamic=None if learned is None else adaptation.dynamic,
        clamps=clamps,
        ensemble=tuple(other.fingerprint for other in adaptation.ensemble),
    )
    return Generator(
        _writer(networks, cache),
        saved.tokenizer,
        read_index=partial(common_index, models),
        read_words=partial(common_words, models) if learned is None else lambda: learned.words,
        fingerprint=str(fingerprint),
    )


def _writer(networks: Sequence[NumpyModel], cache: NeuralCacheConfig | None) -> StepModel:
    """The model of one network or several, each with a neural cache of its own, if there is to be one."""
    from textgen.generation.ensemble_model import EnsembleModel
    from textgen.generation.neural_cache_model import NeuralCacheModel

    writers = networks if cache is None else [NeuralCacheModel(network, cache) for network in networks]
    return writers[0] if len(writers) == 1 else EnsembleModel(writers)


@dataclass(frozen=True)
class _Learned:
    """Networks after one pass over a text, their words and its own, and the checksum of the text as tokens."""

    networks: list[NumpyModel]
    words: WordFilter | None
    checksum: str


def _learned(
    models: Sequence[ModelFolder], text: Corpus, adaptation: Adaptation, clamps: tuple[Clamp, ...], note: Say
) -> _Learned:
    """Trains each model on a text. Cells of the first are held when it writes.

    Raises:
        ConfigError: The models do not know the label, or one diverged.
        CorpusError: There is no text.
    """
    tokenizer = models[0].tokenizer
    tokenizer.opening(adaptation.label)  # raises before the slow part
    text.require_text()
    load_tensorflow()
    from textgen.dataset.token_cache import encoded
    from textgen.dataset.word_filter import WordFilter, stream_words
    from textgen.evaluation.dynamic_evaluation import Learner

    networks = [model.network("forward") for model in models]  # before a training can save them anew
    own_words = common_words(models)
    with encoded(text, tokenizer, adaptation.label) as stream:
        text.say_left_out(note)
        words = own_words and WordFilter.build([*stream_words(stream, tokenizer)], own_words)
        checksum = _checksum(stream)
        for network in networks:
            Learner(network, adaptation.dynamic).learn(stream)
    learned: list[NumpyModel] = []
    for model, network in zip(models, networks, strict=True):
        weights = network.weights_as_arrays()
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise ConfigError(
                f"{model.name} diverged while it learned from {', '.join(text.places)}: its weights are no longer "
                f"finite. Lower dynamic_learning_rate. Received: {adaptation.dynamic.dynamic_learning_rate:g}."
            )
        learned.append(NumpyModel(network.config, weights, () if learned else clamps))
    return _Learned(learned, words, checksum)


def _checksum(stream: TokenStream) -> str:
    """SHA-256 of the ids, which is the same wherever the text is, in whatever encoding."""
    digest = sha256()
    for ids in stream.chunks(READ_TOKENS):
        digest.update(ids.astype("<i4").tobytes())
    return digest.hexdigest()

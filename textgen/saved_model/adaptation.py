"""A saved model that is changed before it writes: it learns from a text, has a neural cache, or cells are held."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from textgen.system.runtime import load_tensorflow
from textgen.wording import Say, silent

if TYPE_CHECKING:
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_stream import TokenStream
    from textgen.dataset.word_filter import WordFilter
    from textgen.saved_model.saved_model import ModelFolder

READ_TOKENS = 1 << 20  # tokens of a text that are read at a time


@dataclass(frozen=True)
class Adaptation:
    """How a saved model is changed before it writes. Its folder stays as it is.

    Attributes:
        text: A text to train on.
        dynamic: Settings of that training.
        label: Label of the text.
        neural_cache: Settings of the neural cache; None to write without one.
        clamps: Values of cells that are held, such as L1/89=3.8.
    """

    text: Corpus | None = None
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)
    label: str | None = None
    neural_cache: NeuralCacheConfig | None = None
    clamps: tuple[str, ...] = ()

    @property
    def changes(self) -> list[str]:
        """What is changed, by the names of settings; only the network in NumPy can be changed."""
        values = {"adapt": self.text, "neural_cache": self.neural_cache, "clamps": self.clamps}
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
        The generator. It writes the words of the training text and of the text that the model learned from.

    Raises:
        ConfigError: The runtime is not installed or does not compute this, there is no cell of that name, the model
            reads text backward only, it does not know the label, or it diverged while it learned.
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
    from textgen.generation.neural_cache_model import NeuralCacheModel

    clamps, cache = parse_clamps(adaptation.clamps, saved.model_config), adaptation.neural_cache
    learned = None if adaptation.text is None else _learned(saved, adaptation.text, adaptation, clamps, note)
    model = saved.numpy_model(clamps=clamps) if learned is None else learned.model
    fingerprint = Fingerprint(
        saved.fingerprint,
        neural_cache=cache,
        adapted_to=None if learned is None else learned.checksum,
        dynamic=None if learned is None else adaptation.dynamic,
        clamps=clamps,
    )
    return Generator(
        model if cache is None else NeuralCacheModel(model, cache),
        saved.tokenizer,
        read_index=saved.ngrams if saved.has_ngrams else lambda: None,
        read_words=saved.words if learned is None else lambda: learned.words,
        fingerprint=str(fingerprint),
    )


@dataclass(frozen=True)
class _Learned:
    """A model after one pass over a text, the words of both, and the checksum of the text as tokens."""

    model: NumpyModel
    words: WordFilter | None
    checksum: str


def _learned(
    saved: ModelFolder, text: Corpus, adaptation: Adaptation, clamps: tuple[Clamp, ...], note: Say
) -> _Learned:
    """Trains a model on a text.

    Raises:
        ConfigError: The model does not know the label, or diverged.
        CorpusError: There is no text.
    """
    saved.tokenizer.opening(adaptation.label)  # raises before the slow part
    text.require_text()
    load_tensorflow()
    from textgen.dataset.token_cache import encoded
    from textgen.dataset.word_filter import WordFilter, stream_words
    from textgen.evaluation.dynamic_evaluation import Learner

    network, own_words = saved.network("forward"), saved.words()  # before a training can save them anew
    with encoded(text, saved.tokenizer, adaptation.label) as stream:
        text.say_left_out(note)
        words = own_words and WordFilter.build([*stream_words(stream, saved.tokenizer)], own_words)
        checksum = _checksum(stream)
        Learner(network, adaptation.dynamic).learn(stream)
    weights = network.weights_as_arrays()
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise ConfigError(
            f"The model diverged while it learned from {', '.join(text.places)}: its weights are no longer finite. "
            f"Lower dynamic_learning_rate. Received: {adaptation.dynamic.dynamic_learning_rate:g}."
        )
    return _Learned(NumpyModel(network.config, weights, clamps), words, checksum)


def _checksum(stream: TokenStream) -> str:
    """SHA-256 of the ids, which is the same wherever the text is, in whatever encoding."""
    digest = sha256()
    for start in range(0, len(stream), READ_TOKENS):
        digest.update(stream.read(start, min(start + READ_TOKENS, len(stream))).astype("<i4").tobytes())
    return digest.hexdigest()

"""Saved models, read from their folders. A saved model is a self-contained folder:

    config.json        format version, settings of network, tokenizer and corpus
    tokenizer.model    SentencePiece model; for a byte tokenizer its labels, if any
    model.safetensors  weights with the best held-out loss, by layer name, float32; or in fewer bytes, see `precision`
    ngrams.safetensors index of the n-grams of the training text; see `textgen.dataset.ngram_index`
    words.safetensors  filter of the words of the training text; see `textgen.dataset.word_filter`
    MANIFEST.json      size and sha256 of the files above
    training.json      settings, scores, versions, seed, corpus
    README.md          the model card
    logs/              TensorBoard
    checkpoints/       state for resuming; not used for generation

`textgen.saved_model.saving` writes it, and `textgen.saved_model.loading` reads it. Loading never runs code from the
folder. It reads JSON, a SentencePiece model and arrays; names, shapes and total size of the arrays are checked against
the configuration before memory is allocated. Links are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.corpus.config import OF_ONE_TEXT, CorpusConfig
from textgen.errors import ConfigError, SavedModelError
from textgen.generation.config import AUTO, NUMPY, TENSORFLOW, RuntimeConfig
from textgen.generation.fingerprint import Fingerprint
from textgen.model.clamping import Clamp
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.exact_model import ExactModel, ExactWeights, exact_weights
from textgen.model.numpy_model import NumpyModel
from textgen.model.onnx_model import is_installed, require_onnx
from textgen.model.prediction_change import PredictionChange
from textgen.saved_model.arrays import largest_file, read_integers, read_weights
from textgen.saved_model.bases import is_base
from textgen.saved_model.layout import (
    FILTER_BYTES,
    FLOAT32,
    NGRAMS,
    WEIGHTS,
    WORDS,
    Value,
    entry_in,
    read_bytes,
    read_listed,
)
from textgen.saved_model.onnx_cache import NetworkSource, cached_int8_network, known_loss
from textgen.saved_model.registry import models_folder
from textgen.settings import from_dict, to_dict
from textgen.storage.manifests import MANIFEST, read_manifest
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import Say, shell_word, silent

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.dataset.word_filter import WordFilter
    from textgen.evaluation.embeddings import Embedder
    from textgen.evaluation.scoring import Scorer
    from textgen.generation.generator import Generator
    from textgen.generation.infilling import Infiller
    from textgen.model.language_model import LanguageModel
    from textgen.model.protocols import StepModel

MIN_ONNX_WEIGHTS = 1_000_000  # minimum size for ONNX Runtime; with smaller networks NumPy is as fast


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """A saved model whose files have been checked. Weights are read on demand.

    Reading a file on demand raises `ModelChanged` if it was replaced or removed since: versions are never mixed. Two
    are equal if they are of the same folder and its files have the same checksums.

    Attributes:
        folder: Folder of the model, an absolute path.
        model_config: Settings of the network.
        tokenizer_config: Settings of the tokenizer.
        corpus_config: Settings for reading the corpus and splitting it into documents; for other texts see
            `reading`.
        tokenizer: Converts between text and token ids.
        training: Content of training.json (settings, scores, versions); empty if the file is missing.
        files: Size and checksum of each file, by name, as the manifest had them when the model was loaded.
        precision: Precision that the weights are stored in, one of `textgen.saved_model.layout.PRECISIONS`.
    """

    folder: Path
    model_config: ModelConfig
    tokenizer_config: TokenizerConfig
    corpus_config: CorpusConfig
    tokenizer: Tokenizer
    training: dict[str, Any] = field(repr=False)
    files: Mapping[str, Any] = field(repr=False)
    precision: str = FLOAT32

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelFolder) and (self.folder, self.files) == (other.folder, other.files)

    def __hash__(self) -> int:
        return hash((self.folder, self.fingerprint))

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def model_configs(self) -> tuple[ModelConfig, TokenizerConfig, CorpusConfig]:
        """The settings that are saved with the model."""
        return self.model_config, self.tokenizer_config, self.corpus_config

    @property
    def shell_name(self) -> str:
        """Argument that names this model in a shell: its name if that finds it, otherwise its path."""
        own = models_folder() / self.name
        is_found = own.absolute() == self.folder.absolute() or (is_base(self.folder) and not os.path.lexists(own))
        return shell_word(self.name if is_found else str(self.folder))

    @property
    def record(self) -> dict[str, Any]:
        """Content of training.json, or the fields that the other files provide; `precision` unless it is float32."""
        record = self.training or {
            "model": to_dict(self.model_config),
            "tokenizer": to_dict(self.tokenizer_config),
            "labels": list(self.tokenizer.labels),
            "parameters": self.model_config.num_parameters,
        }
        return record if self.precision == FLOAT32 else record | {"precision": self.precision}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file of weights, 64 hexadecimal digits."""
        return str(entry_in(self.files, self.folder, WEIGHTS)["sha256"])

    @property
    def is_current(self) -> bool:
        """Whether the folder still has the files that were loaded; True where it cannot be read at the moment."""
        try:
            return bool(read_manifest(self.folder)["files"] == self.files)
        except SavedModelError:
            return _may_exist(self.folder / MANIFEST)

    def read_file(self, name: str, limit: int) -> bytes:
        """Reads a file that the manifest names.

        Args:
            name: Name of the file.
            limit: Largest accepted size in bytes.

        Returns:
            Its content.

        Raises:
            ModelChanged: The file was replaced or removed since the model was loaded.
            SavedModelError: The file is damaged, too large, or not in the manifest.
        """
        return self._read(name, partial(read_bytes, limit=limit), limit)

    def weights(self) -> dict[str, np.ndarray]:
        """Reads the weights.

        Returns:
            The weights by name, float32.

        Raises:
            ModelChanged: The file was replaced or removed since the model was loaded.
            SavedModelError: The file is damaged, or does not fit the configuration.
        """
        shapes = self.model_config.weight_shapes()
        limit = largest_file(shapes, self.precision)
        return self._read(WEIGHTS, lambda path: read_weights(path, shapes, self.precision), limit)

    def exact_weights(self, direction: str = "forward") -> ExactWeights:
        """Reads the weights as integers, for exact arithmetic: those of an int8 model as they are, others rounded.

        Args:
            direction: "forward" or "backward".

        Returns:
            The integers, their scales, and the vectors.

        Raises:
            ConfigError: The network does not have this direction.
            ModelChanged: The file was replaced or removed since the model was loaded.
            SavedModelError: The file is damaged, or does not fit the configuration.
        """
        shapes = self.model_config.weight_shapes()
        limit = largest_file(shapes, self.precision)
        arrays = self._read(WEIGHTS, lambda path: read_integers(path, shapes, self.precision), limit)
        return exact_weights(*self._part(arrays, direction))

    def _read(self, name: str, read: Callable[[Path], Value], limit: int) -> Value:
        return read_listed(self.files, self.folder, name, read, limit)

    def reading(self, settings: Mapping[str, Any]) -> CorpusConfig:
        """The settings for reading another text: those of the training text, except `OF_ONE_TEXT`.

        These, such as its encoding, are those in `settings` or the defaults.

        Args:
            settings: Settings of `CorpusConfig` that replace those of the training.

        Raises:
            ConfigError: A setting is unknown, or a value is not allowed.
        """
        inherited = {name: value for name, value in to_dict(self.corpus_config).items() if name not in OF_ONE_TEXT}
        return from_dict(CorpusConfig, {**inherited, **settings})

    @property
    def main_direction(self) -> str:
        """Direction used for scoring: "backward" for a backward-only network, otherwise "forward"."""
        return self.model_config.directions[0]

    def one_way(self, direction: str) -> tuple[ModelConfig, dict[str, np.ndarray]]:
        """Reads the part of the network that reads in one direction: see `textgen.model.directions.one_way`.

        Args:
            direction: "forward" or "backward".

        Returns:
            Shape and weights of the part.

        Raises:
            ConfigError: The network does not have this direction, or it reads backward and the vocabulary has labels.
            SavedModelError: The weights are damaged.
        """
        return self._part(self.weights(), direction)

    def _part(self, weights: Mapping[str, np.ndarray], direction: str) -> tuple[ModelConfig, dict[str, np.ndarray]]:
        part = one_way(self.model_config, weights, direction)
        if direction == "backward" and self.tokenizer.labels:  # no plan makes such a model any more
            raise ConfigError(
                f"The vocabulary of {self.name} has labels, which stand before a text: a network that reads backward "
                "learned to find them after it, so it cannot begin or end a text. Train one with a vocabulary without "
                "labels."
            )
        return part

    def numpy_model(self, direction: str = "forward", clamps: Sequence[Clamp] = ()) -> NumpyModel:
        """Builds the NumPy model that generates in one direction; TensorFlow is not loaded.

        Args:
            direction: "forward" or "backward".
            clamps: Values of cells that are held at a number.

        Returns:
            The model.

        Raises:
            ConfigError: The network does not have this direction.
            SavedModelError: The weights are damaged.
        """
        return NumpyModel(*self.one_way(direction), clamps)

    def numpy_models(self) -> dict[str, NumpyModel]:
        """Builds the NumPy model of each direction of the network. They share what both directions have in memory.

        Returns:
            The models by direction, that of `main_direction` first.

        Raises:
            SavedModelError: The weights are damaged.
        """
        weights = self.weights()
        return {each: NumpyModel(*self._part(weights, each)) for each in self.model_config.directions}

    def exact_model(self) -> ExactModel:
        """Builds the model that generates in exact arithmetic, forward: see `textgen.model.exact_model`.

        Raises:
            ConfigError: The model reads text backward only.
            SavedModelError: The weights are damaged.
        """
        return ExactModel(self.exact_weights())

    def step_model(self, runtime: str = AUTO, say: Say = silent, note: Say | None = None) -> StepModel:
        """Builds the model that generates from left to right.

        Args:
            runtime: What computes it, one of `textgen.generation.config.RUNTIMES`. "onnx" computes in 8 bits, or as
                "numpy" does if that would change what is written.
            say: Called with a line of text if the network has to be measured first, which takes long.
            note: Called with a line of text if the network is not used in 8 bits, ONNX Runtime cannot be loaded, or the
                measurement cannot be kept; `say` by default.

        Returns:
            The model.

        Raises:
            ConfigError: The network does not read forward, or there is no such runtime, or it is not installed.
            SavedModelError: The weights are damaged.
        """
        runtime = RuntimeConfig(runtime).runtime
        if runtime == TENSORFLOW:
            network = self.network("forward")
            from textgen.model.compiled_model import CompiledModel

            return CompiledModel(network)
        if runtime == NUMPY or (runtime == AUTO and not self._gains_by_onnx):
            return self.numpy_model()
        try:
            require_onnx()
            writer, change = cached_int8_network(self._source, say, note)
        except ConfigError as error:
            if runtime != AUTO:
                raise
            (note or say)(f"{error} NumPy writes instead.")
            return self.numpy_model()
        if writer is None and runtime != AUTO:
            (note or say)(
                f"With 8-bit weights {self.name} would lose too much accuracy ({change}): NumPy writes in float32."
            )
        return writer or self.numpy_model()

    @property
    def int8_loss(self) -> PredictionChange | None:
        """How much writing in 8 bits by ONNX Runtime changes predictions; None if this machine did not measure it."""
        return known_loss(self._source) if is_installed() and "forward" in self.model_config.directions else None

    @property
    def _gains_by_onnx(self) -> bool:
        """Whether ONNX Runtime is there and faster than NumPy."""
        return self.model_config.num_parameters >= MIN_ONNX_WEIGHTS and is_installed()

    @property
    def _source(self) -> NetworkSource:
        """What the network in 8 bits is made from."""
        config, _ = self._part({}, "forward")  # the weights are read when they are needed

        def weights() -> dict[str, np.ndarray]:
            return self.one_way("forward")[1]

        return NetworkSource(self.name, self.fingerprint, config, weights, self.tokenizer.openings)

    def generator(
        self, *, exact: bool = False, runtime: str = AUTO, say: Say = silent, note: Say | None = None
    ) -> Generator:
        """Builds a generator that writes text from left to right.

        Args:
            exact: Compute in exact arithmetic, so that the same settings give the same text everywhere: see
                `exact_model`. The runtime is then "numpy", and no other may be given.
            runtime: What computes the network: see `step_model`.
            say: Called with a line of text for each stage that takes long.
            note: Called with a line of text for what a user should know; `say` by default.

        Returns:
            The generator.

        Raises:
            ConfigError: The model reads text backward only (see `infiller`), or there is no such runtime, it is not
                installed, or it does not compute in exact arithmetic.
            SavedModelError: The weights are damaged.
        """
        from textgen.generation.generator import Generator

        if exact and RuntimeConfig(runtime).runtime not in (AUTO, NUMPY):
            raise ConfigError(
                f"Exact arithmetic is computed by {NUMPY} only. Received: the runtime {runtime}. Leave it out."
            )
        writer = self.exact_model() if exact else self.step_model(runtime, say, note)
        return Generator(
            writer,
            self.tokenizer,
            read_index=self.ngrams if self.has_ngrams else lambda: None,
            read_words=self.words,
            fingerprint=str(Fingerprint(self.fingerprint, is_exact=exact)),
            build_network=partial(self.network, "forward"),
        )

    def infiller(self) -> Infiller:
        """Builds an infiller, which writes text that leads to a given ending.

        With a model of direction "both" it also fills the gap between a beginning and an ending.

        Returns:
            The infiller.

        Raises:
            ConfigError: The model reads text forward only; see `generator`.
        """
        from textgen.generation.infilling import Infiller

        self._part({}, "backward")  # raises if the network does not read backward
        models = self.numpy_models()
        forward = models.get("forward")
        return Infiller(models["backward"], self.tokenizer, forward, words=self.words() if forward else None)

    def scorer(self) -> Scorer:
        """Builds a scorer that computes the loss of texts in `main_direction`.

        Raises:
            SavedModelError: The weights are damaged.
        """
        from textgen.evaluation.scoring import Scorer

        return Scorer(self.numpy_model(self.main_direction), self.tokenizer, self.main_direction)

    def embedder(self) -> Embedder:
        """Builds an embedder, which makes vectors of texts with the networks of all directions.

        Returns:
            The embedder. It also finds the texts that are most similar to another one: see `Embedder.nearest`.

        Raises:
            SavedModelError: The weights are damaged.
        """
        from textgen.evaluation.embeddings import Embedder

        return Embedder(self.numpy_models(), self.tokenizer)

    def network(self, direction: str | None = None) -> LanguageModel:
        """Builds the network as a `keras.Model`, for training and scoring.

        Args:
            direction: "forward" or "backward" for one direction of the network. By default the whole network: of both
                directions it reads [B, 2T], T tokens of a text and T of a reversed one, as
                `textgen.model.directions` describes.

        Returns:
            The network with its weights. `keras.models.load_model` loads a file that its `save` wrote in programs that
            have imported `textgen.model.language_model`.

        Raises:
            ConfigError: The network does not have this direction.
            SavedModelError: The weights are damaged.
        """
        load_tensorflow()
        from textgen.model.language_model import LanguageModel

        config, weights = (self.model_config, self.weights()) if direction is None else self.one_way(direction)
        model = LanguageModel(config, pad_id=self.tokenizer.pad_id)
        model.assign_weights(weights)
        return model

    @property
    def has_ngrams(self) -> bool:
        """Whether the model has an n-gram index of its training text."""
        return NGRAMS in self.files

    def ngrams(self) -> NgramIndex:
        """Reads the n-gram index of the training text.

        Returns:
            The index.

        Raises:
            SavedModelError: The model has no index, or its file is damaged.
        """
        from textgen.dataset.ngram_index import read_index

        if not self.has_ngrams:
            raise SavedModelError(
                f"{self.folder} has no index of its training text ({NGRAMS}), so copies of it cannot be detected: "
                "it was trained without one, the text is too large for one, or it was left out, as in the bases."
            )
        return self._read(NGRAMS, read_index, FILTER_BYTES)

    def words(self) -> WordFilter | None:
        """Reads the filter of the words of the training text.

        Returns:
            The filter; None if the model has none, so that it may coin words.

        Raises:
            SavedModelError: The file is damaged.
        """
        from textgen.dataset.word_filter import read_word_filter

        return self._read(WORDS, read_word_filter, FILTER_BYTES) if WORDS in self.files else None


def _may_exist(path: Path) -> bool:
    """Whether a file is there, or cannot be looked for at the moment."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True

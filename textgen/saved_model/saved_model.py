"""A saved model: a folder that stands alone.

    config.json        format version, the shape of the network, the tokenizer, how documents were cut
    tokenizer.model    SentencePiece (for bytes their labels, if there are any)
    model.safetensors  the weights that did best on held-out text, by layer name, float32
    ngrams.safetensors which n-grams stand in the training text, without the text; see `textgen.dataset.ngram_index`
    MANIFEST.json      size and sha256 of the files above
    training.json      settings, scores, versions, seed, corpus
    README.md          the model card
    logs/              TensorBoard
    checkpoints/       what resuming needs and writing text never reads

No code is loaded from it: JSON, a SentencePiece model and arrays whose names, shapes and total size are
checked against the configuration before anything is allocated. No link in it is followed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError, TextgenError
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.runtime import load_tensorflow
from textgen.saved_model.arrays import in_c_order, read_arrays
from textgen.saved_model.layout import (
    CARD,
    CONFIG,
    FORMAT_VERSION,
    NGRAMS,
    TRAINING,
    WEIGHTS,
    _check_config,
    _entry,
    _read,
    _verified_json,
    read_training,
)
from textgen.saved_model.model_card import model_card
from textgen.saved_model.registry import _has, find_model, models_folder
from textgen.settings import from_dict, to_dict
from textgen.storage import MANIFEST, json_bytes, read_manifest, update_folder, verified, write_own_file
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import MODEL_BYTES, MODEL_FILE, Tokenizer, load_tokenizer
from textgen.wording import shell_word

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.evaluation.scoring import Scorer
    from textgen.generation.generator import Generator
    from textgen.generation.infilling import Infiller
    from textgen.model.language_model import LanguageModel

NGRAMS_BYTES = 1 << 30  # of their file at most


@dataclass(frozen=True)
class ModelFolder:
    """A saved model: what its folder holds, checked. The weights are read when they are needed.

    Attributes:
        folder: Where it is.
        model_config: Shape of the network.
        tokenizer_config: Kind and size of the vocabulary.
        corpus_config: How the text was read and divided into documents.
        tokenizer: Text <-> token ids.
        training: training.json: settings, scores, versions. Empty if it is missing.
    """

    folder: Path
    model_config: ModelConfig
    tokenizer_config: TokenizerConfig
    corpus_config: CorpusConfig
    tokenizer: Tokenizer
    training: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def shell_name(self) -> str:
        """What commands call it in a shell: its name, or its folder where they would not look for the name."""
        is_found = (models_folder() / self.name).absolute() == self.folder.absolute()
        return shell_word(self.name if is_found else str(self.folder))

    @property
    def record(self) -> dict[str, Any]:
        """training.json; where it is missing, what is known without it, under the same names."""
        return self.training or {
            "model": to_dict(self.model_config),
            "tokenizer": to_dict(self.tokenizer_config),
            "labels": list(self.tokenizer.labels),
            "parameters": self.model_config.num_parameters,
        }

    @property
    def fingerprint(self) -> str:
        """The same 64 hexadecimal digits for the same weights."""
        return str(_entry(self.folder, WEIGHTS)["sha256"])

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name, float32. Raises `SavedModelError` where they do not fit the configuration."""
        entry = _entry(self.folder, WEIGHTS)
        path = verified(self.folder, WEIGHTS, entry)
        return read_arrays(path, self.model_config.weight_shapes())

    @property
    def main_direction(self) -> str:
        """That in which a text is scored: backward only where the network knows no other."""
        return self.model_config.directions[0]

    def writer(self, direction: str = "forward") -> NumpyModel:
        """The network for writing in one direction, ready at once. Raises `ConfigError` where it has no such part."""
        return NumpyModel(*one_way(self.model_config, self.weights(), direction))

    def generator(self) -> Generator:
        """Writes text with the model, at once: its weights are used in NumPy.

        Raises:
            ConfigError: The model reads text backward only; see `infiller`.
        """
        from textgen.generation.generator import Generator

        ngrams = self.ngrams if self.has_ngrams else None  # a function: they are read when they are needed
        writer = self.writer()
        return Generator(writer, self.tokenizer, ngrams, fingerprint=self.fingerprint, build_network=self.network)

    def infiller(self) -> Infiller:
        """Writes towards an ending; a model of direction both also fills the gap between a beginning and an ending.

        Raises:
            ConfigError: The model reads text forward only; see `generator`.
        """
        from textgen.generation.infilling import Infiller

        forward = self.writer() if self.main_direction == "forward" else None
        return Infiller(self.writer("backward"), self.tokenizer, forward)

    def scorer(self) -> Scorer:
        """Scores texts with the model in its main direction."""
        from textgen.evaluation.scoring import Scorer

        return Scorer(self.writer(self.main_direction), self.tokenizer, self.main_direction)

    def network(self, direction: str | None = None) -> LanguageModel:
        """The network as a `keras.Model`, for training and scoring.

        Args:
            direction: The part that reads in this direction, `forward` or `backward`. By default the whole network.

        Raises:
            ConfigError: The network has no part of this direction.
            SavedModelError: The weights are damaged.
        """
        load_tensorflow()
        from textgen.model.language_model import LanguageModel

        config, weights = self.model_config, self.weights()
        if direction:
            config, weights = one_way(config, weights, direction)
        model = LanguageModel(config, pad_id=self.tokenizer.pad_id)
        model.assign_weights(weights)
        return model

    @property
    def has_ngrams(self) -> bool:
        """Whether an index of the training text is there; models of textgen before it have none."""
        return NGRAMS in read_manifest(self.folder)["files"]

    def ngrams(self) -> NgramIndex:
        """The n-grams of the training text. Raises `SavedModelError` where the model has no index of them."""
        from textgen.dataset.ngram_index import read_index

        if not self.has_ngrams:
            raise SavedModelError(
                f"{self.folder} has no index of its training text ({NGRAMS}), so nothing can be said of copying: "
                "its training wrote none, or the text is too large for one."
            )
        return read_index(verified(self.folder, NGRAMS, _entry(self.folder, NGRAMS)))


def load_model(name: str | None = None, folder: str | Path | None = None) -> ModelFolder:
    """Reads and checks a saved model; its weights are read later, when they are used. Raises `SavedModelError`."""
    path = find_model(name, folder)
    config = _verified_json(path, CONFIG)
    _check_config(path, config)
    try:
        model_config = from_dict(ModelConfig, config["model"])
        tokenizer_config = from_dict(TokenizerConfig, config["tokenizer"])
        corpus_config = from_dict(CorpusConfig, config["corpus"])
        tokenizer = load_tokenizer(_tokenizer_bytes(path, tokenizer_config))
    except SavedModelError:
        raise  # names the file already
    except TextgenError as error:
        raise SavedModelError(f"{path} cannot be used: {error}") from None
    if tokenizer.tokenizer != tokenizer_config.tokenizer:
        raise SavedModelError(
            f"{path}: the tokenizer is {tokenizer.tokenizer} and the configuration says {tokenizer_config.tokenizer}. "
            "They do not belong together: copy the whole folder again."
        )
    if tokenizer.vocab_size != model_config.vocab_size:
        raise SavedModelError(
            f"{path}: the tokenizer has {tokenizer.vocab_size:,} pieces and the model {model_config.vocab_size:,}. "
            "They do not belong together: copy the whole folder again."
        )
    training = read_training(path) if os.path.lexists(path / TRAINING) else {}
    return ModelFolder(path, model_config, tokenizer_config, corpus_config, tokenizer, training)


def save_model(
    folder: Path,
    weights: dict[str, np.ndarray],
    model_config: ModelConfig,
    tokenizer_config: TokenizerConfig,
    corpus_config: CorpusConfig,
    tokenizer: Tokenizer,
) -> None:
    """Writes the files that the manifest covers, all or none. Refuses weights that are not finite."""
    bad = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        raise SavedModelError(
            f"The weights {', '.join(bad)} are not finite: nothing was saved over the last good ones."
        )
    config = {
        "format_version": FORMAT_VERSION,
        "model": to_dict(model_config),
        "tokenizer": to_dict(tokenizer_config),
        "corpus": to_dict(corpus_config),
    }
    files = {CONFIG: json_bytes(config), WEIGHTS: to_safetensors(in_c_order(weights))}
    if tokenizer.serialized:
        files[MODEL_FILE] = tokenizer.serialized
    if _has(folder, NGRAMS) and not _has(folder, MANIFEST):
        files[NGRAMS] = _read(folder / NGRAMS, NGRAMS_BYTES)
    update_folder(folder, files)


def save_ngrams(folder: Path, index: NgramIndex) -> None:
    """Writes the index of the training text: to the model in `folder`, or for the one that is saved there next."""
    if _has(folder, MANIFEST):
        update_folder(folder, {NGRAMS: index.to_bytes()})
    else:
        write_own_file(folder / NGRAMS, index.to_bytes())


def write_training(folder: Path, training: dict[str, Any]) -> None:
    """Writes training.json and the model card that is made from it."""
    write_own_file(folder / TRAINING, json_bytes(training))
    write_own_file(folder / CARD, model_card(folder.name, training).encode())


def _tokenizer_bytes(path: Path, config: TokenizerConfig) -> bytes:
    if config.tokenizer == "byte" and MODEL_FILE not in read_manifest(path)["files"]:
        return b""
    return _read(verified(path, MODEL_FILE, _entry(path, MODEL_FILE)), MODEL_BYTES)

"""A saved model: a folder that stands alone.

    config.json        format version, the shape of the network, the tokenizer, how documents were cut
    tokenizer.model    SentencePiece (for bytes their labels, if there are any)
    model.safetensors  the weights that did best on held-out text, by layer name, float32
    ngrams.safetensors which n-grams stand in the training text, without the text; see `textgen.novelty`
    MANIFEST.json      size and sha256 of the files above
    training.json      settings, scores, versions, seed, corpus
    README.md          the model card
    logs/              TensorBoard
    checkpoints/       what resuming needs and writing text never reads

No code is loaded from it: JSON, a SentencePiece model and arrays whose names, shapes and total size are
checked against the configuration before anything is allocated.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from textgen.card import model_card
from textgen.config import CorpusConfig, ModelConfig, TokenizerConfig, from_dict, to_dict
from textgen.direction import one_way
from textgen.errors import SavedModelError, TextgenError
from textgen.numpy_model import NumpyModel
from textgen.storage import MANIFEST, json_bytes, read_manifest, update_folder, verified, write_file
from textgen.tokenizer import MODEL_FILE, Tokenizer, load_tokenizer
from textgen.wording import shell_word

if TYPE_CHECKING:
    from textgen.model import LanguageModel
    from textgen.novelty import NgramIndex

FORMAT_VERSION = 1
CONFIG, WEIGHTS, NGRAMS = "config.json", "model.safetensors", "ngrams.safetensors"
TRAINING, CARD, LOGS, CHECKPOINTS = "training.json", "README.md", "logs", "checkpoints"
RUN = (MANIFEST, TRAINING)  # a folder with one of them is ours: an imported model has no training, a young run no model


@dataclass(frozen=True)
class SavedModel:
    """What a folder holds, checked; `build` makes the network."""

    folder: Path
    model_config: ModelConfig
    tokenizer_config: TokenizerConfig
    corpus_config: CorpusConfig
    tokenizer: Tokenizer
    training: dict[str, Any]  # training.json; empty where it is missing

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

    def build(self, direction: str | None = None) -> LanguageModel:
        """The network in TensorFlow, for training and scoring; with a `direction`, its part that reads in it."""
        from textgen.model import LanguageModel

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
        from textgen.novelty import read_index

        if not self.has_ngrams:
            raise SavedModelError(
                f"{self.folder} has no index of its training text ({NGRAMS}), so nothing can be said of copying: "
                "its training wrote none, or the text is too large for one."
            )
        return read_index(verified(self.folder, NGRAMS, _entry(self.folder, NGRAMS)))


def models_folder(folder: str | Path | None = None) -> Path:
    """Where models are kept: `folder`, else $TEXTGEN_MODELS, else saved_models in the current folder."""
    return Path(folder or os.environ.get("TEXTGEN_MODELS") or "saved_models")


def free_name(folder: Path, path: str | Path) -> str:
    """A name for a model in `folder`, made from the path of its corpus, with a number where it is taken."""
    called = "stdin" if str(path) == "-" else Path(os.path.abspath(path)).name.lstrip(".").split(".")[0]
    stem = re.sub(r"[^\w-]+", "-", called).strip("-") or "model"
    taken = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return next(name for n in range(1, len(taken) + 3) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


def find_model(name: str | None = None, folder: str | Path | None = None) -> Path:
    """The folder of a model: a path, a name in the models folder, or the newest one there when None.

    Raises `SavedModelError`, saying which models there are.
    """
    models = list_models(folder)
    if name is None:
        if not models:
            raise SavedModelError(f"There is no model in {models_folder(folder)} yet: train one first.")
        return max(models, key=lambda path: (path / MANIFEST).stat().st_mtime)
    places = models_folder(folder) / name, Path(name)
    for path in places:
        if (path / MANIFEST).is_file():
            return path
    if any(map(_is_run, places)):
        raise SavedModelError(f"The training of {name!r} has saved no model yet: resume it, or remove it.")
    there = ", ".join(path.name for path in models)
    raise SavedModelError(
        f"There is no model {name!r} in {models_folder(folder)}. "
        + (f"There are: {there}." if there else "It is empty.")
    )


def find_run(name: str, folder: str | Path | None = None) -> Path:
    """Like `find_model`, but a training that has saved no model yet will do."""
    for path in (models_folder(folder) / name, Path(name)):
        if _is_run(path):
            return path
    return find_model(name, folder)  # says which there are


def list_models(folder: str | Path | None = None) -> list[Path]:
    """The folders of all models, by name."""
    return sorted(path.parent for path in models_folder(folder).glob(f"*/{MANIFEST}"))


def list_runs(folder: str | Path | None = None) -> list[Path]:
    """The folders of all models, and of trainings that have saved none yet, by name."""
    return sorted({path.parent for name in RUN for path in models_folder(folder).glob(f"*/{name}")})


def remove_model(path: Path) -> None:
    """Deletes a model, or a training that has saved none.

    The manifest goes first, so that what a crash leaves is not taken for a model.
    """
    try:
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    except OSError as error:
        raise SavedModelError(f"Cannot remove {path}: {error.strerror or error}.") from None


def load_model(name: str | None = None, folder: str | Path | None = None) -> SavedModel:
    """Reads and checks a saved model; its weights follow on `build`. Raises `SavedModelError`."""
    path = find_model(name, folder)
    config = read_json(verified(path, CONFIG, _entry(path, CONFIG)))
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise SavedModelError(
            f"{path} has the format version {version!r}, this program reads {FORMAT_VERSION}. "
            + ("Upgrade textgen." if newer else "Train the model again.")
        )
    try:
        model_config = from_dict(ModelConfig, config["model"])
        tokenizer_config = from_dict(TokenizerConfig, config["tokenizer"])
        corpus_config = from_dict(CorpusConfig, config["corpus"])
        tokenizer = load_tokenizer(_tokenizer_bytes(path, tokenizer_config))
    except KeyError as error:
        raise SavedModelError(f"{path / CONFIG} lacks {error}. Copy the whole folder again.") from None
    except (AttributeError, TypeError) as error:
        raise SavedModelError(f"{path / CONFIG} is damaged: {error}. Copy the whole folder again.") from None
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
    training = read_json(path / TRAINING) if (path / TRAINING).is_file() else {}
    return SavedModel(path, model_config, tokenizer_config, corpus_config, tokenizer, training)


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
    if (folder / NGRAMS).is_file() and not (folder / MANIFEST).exists():
        files[NGRAMS] = (folder / NGRAMS).read_bytes()
    update_folder(folder, files)


def save_ngrams(folder: Path, index: NgramIndex) -> None:
    """Writes the index of the training text: to the model in `folder`, or for the one that is saved there next."""
    if (folder / MANIFEST).exists():
        update_folder(folder, {NGRAMS: index.to_bytes()})
    else:
        write_file(folder / NGRAMS, index.to_bytes())


def write_training(folder: Path, training: dict[str, Any]) -> None:
    """Writes training.json and the model card that is made from it."""
    write_file(folder / TRAINING, json_bytes(training))
    write_file(folder / CARD, model_card(folder.name, training).encode())


def read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The float32 arrays of a safetensors file, once names, shapes and types are those expected."""
    try:
        with safe_open(path, framework="numpy") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            dtypes = {file.get_slice(key).get_dtype() for key in found}
            if found != shapes or dtypes != {"F32"}:
                odd = sorted(name for name in found.keys() | shapes if found.get(name) != shapes.get(name))
                raise SavedModelError(
                    f"{path} does not fit its configuration ({', '.join(odd) or 'not float32'}): "
                    "copy the whole folder again."
                )
            return {key: file.get_tensor(key) for key in found}
    except (SafetensorError, OSError) as error:
        raise SavedModelError(f"{path} is damaged: {error}. Copy the whole folder again.") from None


def in_c_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays laid out row by row: safetensors writes the memory of others as it is, scrambled."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in RUN)


def _entry(path: Path, name: str) -> dict[str, Any]:
    files = read_manifest(path)["files"]
    if name not in files:
        raise SavedModelError(f"{path / MANIFEST} does not name {name}. Copy the whole folder again.")
    return files[name]


def _tokenizer_bytes(path: Path, config: TokenizerConfig) -> bytes:
    if config.tokenizer == "byte" and MODEL_FILE not in read_manifest(path)["files"]:
        return b""
    return verified(path, MODEL_FILE, _entry(path, MODEL_FILE)).read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a saved model. Raises `SavedModelError`."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SavedModelError(f"Cannot read {path}: {error}. Copy the whole folder again.") from None
    if not isinstance(value, dict):
        raise SavedModelError(f"{path} is damaged: it should hold a JSON object. Copy the whole folder again.")
    return value

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

import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from textgen.errors import SavedModelError, TextgenError, TrainingError
from textgen.model.directions import one_way
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.model_card import model_card
from textgen.schema import check
from textgen.settings import CorpusConfig, ModelConfig, TokenizerConfig, TrainingConfig, from_dict, to_dict
from textgen.storage import (
    MANIFEST,
    PENDING,
    TEMPORARY,
    is_locked,
    json_bytes,
    locked,
    read_file,
    read_manifest,
    refuse_links,
    sweep,
    sweep_abandoned,
    update_folder,
    verified,
    write_own_file,
    writing,
)
from textgen.tokenizer.tokenizer import MODEL_BYTES, MODEL_FILE, Tokenizer, load_tokenizer
from textgen.wording import shell_word

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.model.language_model import LanguageModel

FORMAT_VERSION = 1
CONFIG, WEIGHTS, NGRAMS = "config.json", "model.safetensors", "ngrams.safetensors"
TRAINING, CARD, LOGS, CHECKPOINTS = "training.json", "README.md", "logs", "checkpoints"
RUN = (MANIFEST, TRAINING)  # a folder with one of them is ours: an imported model has no training, a young run no model
OURS = (CONFIG, MODEL_FILE, WEIGHTS, NGRAMS, MANIFEST, TRAINING, CARD, LOGS, CHECKPOINTS)  # all that is in a folder
REMOVED = f"{TEMPORARY}removed-"  # begins the name of a model that is being deleted
NAME_BYTES = 200  # of a model's name at most: file systems take 255, temporary names are longer
JSON_BYTES = 1 << 25  # of a file of JSON at most: the paths of 300,000 files
LIBRARY_ERRORS = (
    SafetensorError,
    OSError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)  # of an odd safetensors file

RECORD = {  # training.json, as far as commands that train nothing read it; `textgen.training.run` reads more
    "corpus": {"paths": [str], "characters": int, "documents": int},
    "model": {"vocab_size": int, "embedding_dim": int, "hidden_units": int, "num_layers": int},
    "tokenizer": {"tokenizer": str},
    "training": {"seed": int},
    "versions": {"textgen": str},
    "parameters": int,
    "progress": {"step": int, "epochs": float, "seconds": float},
    "scores": {str: float},
    "labels?": [str],
    "state?": str,
    "from?": (str, None),
    "tokens?": {"folder": str, "train": int, "valid": int},
}
CONFIG_FILE = {"model": dict, "tokenizer": dict, "corpus": dict}
NGRAMS_BYTES = 1 << 30  # of their file at most


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


def models_folder(folder: str | Path | None = None) -> Path:
    """Where models are kept: `folder`, else $TEXTGEN_MODELS, else saved_models in the current folder."""
    return Path(folder or os.environ.get("TEXTGEN_MODELS") or "saved_models")


def name_from(path: str | Path) -> str:
    """A name for a model, made from the path of its corpus."""
    called = "stdin" if str(path) == "-" else Path(os.path.abspath(path)).name.lstrip(".").split(".")[0]
    stem = re.sub(r"[^\w-]+", "-", called).encode()[: NAME_BYTES // 2].decode(errors="ignore")
    return stem.strip("-") or "model"


def free_name(folder: Path, path: str | Path) -> str:
    """A name for a model in `folder`, made from the path of its corpus, with a number where it is taken."""
    stem = name_from(path)
    taken = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return next(name for n in range(1, len(taken) + 3) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


def check_name(name: str) -> str:
    """`name`, if a model can have it: one part of a path. Raises `SavedModelError` that says why not."""
    if problem := _problem_of_name(name):
        raise SavedModelError(f"A model cannot be called {name!r}: {problem}. Choose a name such as novel or poems-2.")
    return name


def find_model(name: str | None = None, folder: str | Path | None = None) -> Path:
    """The folder of a model: a path, a name in the models folder, or the newest one there when None.

    Raises `SavedModelError`, saying which models there are.
    """
    models = list_models(folder)
    if name is None:
        if not models:
            raise SavedModelError(f"There is no model in {models_folder(folder)} yet: train one first.")
        return max(models, key=_changed)
    places = _places(name, folder)
    for path in places:
        if _has(path, MANIFEST):
            return path
    for path in filter(_is_run, places):
        raise SavedModelError(_why_no_model(path))
    there = ", ".join(path.name for path in models)
    raise SavedModelError(
        f"There is no model {name!r} in {models_folder(folder)}. "
        + (f"There are: {there}." if there else "It is empty.")
    )


def find_run(name: str, folder: str | Path | None = None) -> Path:
    """Like `find_model`, but a training that has saved no model yet will do."""
    for path in filter(_is_run, _places(name, folder)):
        return path
    return find_model(name, folder)  # says which there are


def list_models(folder: str | Path | None = None) -> list[Path]:
    """The folders of all models, by name."""
    return [path for path in _folders(folder) if _has(path, MANIFEST)]


def list_runs(folder: str | Path | None = None) -> list[Path]:
    """The folders of all models, and of trainings that have saved none yet, by name."""
    return [path for path in _folders(folder) if _is_run(path)]


def state_of(path: Path, training: Mapping[str, Any]) -> str:
    """What became of a training, in a word: running, interrupted, finished, failed; unknown without a record."""
    state = str(training.get("state", "unknown")).split(":")[0]
    runs = is_locked(path)
    if runs:
        return "running"
    return "interrupted" if state == "running" and runs is False else state


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Makes the folder of a new model and holds it alone. It may have been begun by a run that saved nothing.

    Raises `TrainingError` where a model is already, or something that is not textgen's. A folder in which the block
    leaves nothing goes again.
    """
    check_name(folder.name)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep_abandoned(folder.parent, REMOVED)
    with locked(folder):
        refuse_links(folder)
        refuse_strange(folder)
        if has_steps(folder):
            raise TrainingError(f"{folder} already holds a model: resume it, remove it, or choose another name.")
        if _has(folder, MANIFEST):
            raise TrainingError(f"{folder} already holds a model: remove it, or choose another name.")
        sweep(folder)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                folder.rmdir()  # if nothing is in it yet
            raise


def refuse_strange(folder: Path) -> None:
    """Raises `TrainingError` where a folder holds what textgen did not write there."""
    names = _names_in(folder)
    strange = [name for name in names if not _is_ours(name)]
    if not _was_made_here(names):  # but by another program, or a person, with files of such names
        strange += [name for name in (CARD, TRAINING, MANIFEST, LOGS, CHECKPOINTS) if name in names]
    if strange:
        raise TrainingError(
            f"{folder} is not the folder of a model: {', '.join(map(repr, strange[:3]))} in it is not textgen's. "
            "Choose another name, or move that elsewhere."
        )


def has_steps(folder: Path) -> bool:
    """Whether a run has left checkpoints in the folder, whatever is in them."""
    return any(name.startswith("step-") for name in _names_in(folder / CHECKPOINTS))


def remove_model(path: Path) -> None:
    """Deletes a model, or a training that has saved none, and nothing else.

    It goes to another name first, in one step: what a crash leaves is not taken for a model.
    """
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except OSError as error:
        raise SavedModelError(f"Cannot remove {path}: {error.strerror or error}.") from None
    if is_link:
        raise SavedModelError(
            f"Cannot remove {path}: it is a link to {os.path.realpath(path)}. Remove the link yourself, and what it "
            "leads to if you do not need it."
        )
    check_name(path.name)
    sweep_abandoned(path.parent, REMOVED)
    with locked(path):
        _refuse_to_remove(path)
        aside = path.with_name(f"{REMOVED}{secrets.token_hex(8)}")
        try:
            os.rename(path, aside)
        except OSError as error:
            raise SavedModelError(f"Cannot remove {path}: {error.strerror or error}.") from None
        try:
            shutil.rmtree(aside)
        except OSError as error:
            raise SavedModelError(
                f"Cannot remove {path}: {error.strerror or error}. What is left of it is no model any more, and lies "
                f"in {aside}: remove that yourself."
            ) from None


def load_model(name: str | None = None, folder: str | Path | None = None) -> SavedModel:
    """Reads and checks a saved model; its weights follow on `build`. Raises `SavedModelError`."""
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
    return SavedModel(path, model_config, tokenizer_config, corpus_config, tokenizer, training)


def read_training(folder: Path) -> dict[str, Any]:
    """training.json, once it has the structure that it was written with. Raises `SavedModelError`."""
    record = read_json(folder / TRAINING)
    try:
        check(record, RECORD)
        for section, kind in (("model", ModelConfig), ("tokenizer", TokenizerConfig), ("training", TrainingConfig)):
            from_dict(kind, record[section])
    except (ValueError, TextgenError) as error:
        problem = str(error).removesuffix(".")
        raise SavedModelError(f"{folder / TRAINING} is damaged: {problem}. Copy the whole folder again.") from None
    return record


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


def read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The float32 arrays of a safetensors file, once names, shapes and types are those expected and all are finite."""
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
            arrays = {key: file.get_tensor(key) for key in found}
    except LIBRARY_ERRORS as error:
        raise SavedModelError(f"{path} is damaged: {error}. Copy the whole folder again.") from None
    if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise SavedModelError(
            f"{path} holds weights that are not finite ({', '.join(bad)}), so it cannot write: copy the whole folder "
            "again, or train the model again."
        )
    return arrays


def in_c_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays laid out row by row: safetensors writes the memory of others as it is, scrambled."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a saved model. Raises `SavedModelError`."""
    try:
        value = json.loads(_read(path, JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"Cannot read {path}: {error}. Copy the whole folder again.") from None
    if not isinstance(value, dict):
        raise SavedModelError(f"{path} is damaged: it should hold a JSON object. Copy the whole folder again.")
    return value


def _read(path: Path, limit: int) -> bytes:
    """A whole file of a saved model. Raises `SavedModelError`."""
    try:
        return read_file(path, limit)
    except OSError as error:
        raise SavedModelError(f"Cannot read {path}: {error.strerror}. Copy the whole folder again.") from None


def _check_config(path: Path, config: dict[str, Any]) -> None:
    """Raises `SavedModelError` for a config.json of another version, or of another structure."""
    version = config.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise SavedModelError(
            f"{path} has the format version {ascii(version)[:20]}, this program reads {FORMAT_VERSION}. "
            + ("Upgrade textgen." if newer else "Train the model again.")
        )
    try:
        check(config, CONFIG_FILE)
    except ValueError as error:
        raise SavedModelError(f"{path / CONFIG} is damaged: {error}. Copy the whole folder again.") from None


def _problem_of_name(name: str) -> str:
    """Why a model cannot be called so; empty where it can."""
    if not name:
        return "the name is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "a name is one part of a path"
    if name[0] in ".-":
        return "names with a full stop at the beginning are hidden ones, with a hyphen they look like options"
    if not name.isprintable() or name != name.strip():
        return "it has characters that cannot be shown, or a space at an end"
    return f"it has more than {NAME_BYTES} bytes" if len(name.encode()) > NAME_BYTES else ""


def _places(name: str, folder: str | Path | None) -> list[Path]:
    """Where a model may be that the user calls `name`: in the models folder, or at a path."""
    inside = [] if _problem_of_name(name) else [models_folder(folder) / name]
    return [*inside, Path(name)]


def _folders(folder: str | Path | None) -> list[Path]:
    """The folders in the models folder that can be those of models, by name."""
    folder = models_folder(folder)
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if not _problem_of_name(entry.name) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SavedModelError(f"Cannot read the models folder {folder}: {error.strerror or error}.") from None
    return [folder / name for name in sorted(found)]


def _has(folder: Path, name: str) -> bool:
    """Whether there is such a file, or a link, which whoever reads it will complain of."""
    try:
        mode = (folder / name).lstat().st_mode
    except (OSError, ValueError):  # it is not there, or cannot be
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _is_run(path: Path) -> bool:
    return any(_has(path, name) for name in RUN)


def _changed(path: Path) -> float:
    """When a model was saved last."""
    try:
        return (path / MANIFEST).lstat().st_mtime
    except OSError:  # it is gone meanwhile
        return 0.0


def _names_in(folder: Path) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _is_ours(name: str) -> bool:
    """Whether textgen puts something of that name into the folder of a model, for good or for a while."""
    return name.removesuffix(PENDING) in OURS or name.startswith(TEMPORARY)


def _was_made_here(names: list[str]) -> bool:
    """Whether these are in a folder because textgen has put them there: one alone may be anybody's."""
    found = set(names)
    is_model = MANIFEST in found and bool({CONFIG, WEIGHTS} & found)
    return is_model or (TRAINING in found and bool({CHECKPOINTS, MODEL_FILE, NGRAMS, CARD} & found))


def _why_no_model(path: Path) -> str:
    """What to do about a training that has saved no model, depending on where it stands."""
    if is_locked(path):
        return f"The training of {path.name!r} is running and has saved no model yet: wait for its first validation."
    if has_steps(path):
        return f"The training of {path.name!r} has saved no model yet: resume it, or remove it."
    what = "has saved no model yet, nor a checkpoint"
    return f"The training of {path.name!r} {what}: train again under this name, or remove it."


def _refuse_to_remove(path: Path) -> None:
    """Raises `SavedModelError` for a folder that is not known to be that of a model, and nothing besides."""
    names = _names_in(path)
    strange = [name for name in names if not _is_ours(name)]
    if strange or not _was_made_here(names):
        why = f"{', '.join(map(repr, strange[:3]))} in it is not textgen's" if strange else "it has no model in it"
        raise SavedModelError(f"Cannot remove {path}: {why}. Move elsewhere what you need, and remove it yourself.")


def _entry(path: Path, name: str) -> dict[str, Any]:
    files = read_manifest(path)["files"]
    if name not in files:
        raise SavedModelError(f"{path / MANIFEST} does not name {name}. Copy the whole folder again.")
    return files[name]


def _verified_json(path: Path, name: str) -> dict[str, Any]:
    return read_json(verified(path, name, _entry(path, name)))


def _tokenizer_bytes(path: Path, config: TokenizerConfig) -> bytes:
    if config.tokenizer == "byte" and MODEL_FILE not in read_manifest(path)["files"]:
        return b""
    return _read(verified(path, MODEL_FILE, _entry(path, MODEL_FILE)), MODEL_BYTES)

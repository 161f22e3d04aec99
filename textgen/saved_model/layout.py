"""Names of the files in a saved model, and the version of its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textgen.errors import SavedModelError, TextgenError
from textgen.model.config import ModelConfig
from textgen.schema import check
from textgen.settings import from_dict
from textgen.storage import MANIFEST, read_file, read_manifest, verified
from textgen.tokenizer.config import TokenizerConfig

FORMAT_VERSION = 1
CONFIG, WEIGHTS, NGRAMS = "config.json", "model.safetensors", "ngrams.safetensors"
TRAINING, CARD, LOGS, CHECKPOINTS = "training.json", "README.md", "logs", "checkpoints"
RUN = (MANIFEST, TRAINING)  # a folder with one of them is ours: an imported model has no training, a young run no model
JSON_BYTES = 1 << 25  # of a file of JSON at most: the paths of 300,000 files

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


def read_training(folder: Path) -> dict[str, Any]:
    """training.json, once it has the structure that it was written with. Raises `SavedModelError`."""
    record = read_json(folder / TRAINING)
    try:
        check(record, RECORD)
        for section, kind in (("model", ModelConfig), ("tokenizer", TokenizerConfig)):
            from_dict(kind, record[section])
    except (ValueError, TextgenError) as error:
        problem = str(error).removesuffix(".")
        raise SavedModelError(f"{folder / TRAINING} is damaged: {problem}. Copy the whole folder again.") from None
    return record


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a saved model. Raises `SavedModelError`."""
    try:
        value = json.loads(read_bytes(path, JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise SavedModelError(f"Cannot read {path}: {error}. Copy the whole folder again.") from None
    if not isinstance(value, dict):
        raise SavedModelError(f"{path} is damaged: it should hold a JSON object. Copy the whole folder again.")
    return value


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file of a saved model. Raises `SavedModelError`."""
    try:
        return read_file(path, limit)
    except OSError as error:
        raise SavedModelError(f"Cannot read {path}: {error.strerror}. Copy the whole folder again.") from None


def check_config(path: Path, config: dict[str, Any]) -> None:
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


def manifest_entry(path: Path, name: str) -> dict[str, Any]:
    """Size and checksum of a file by the manifest of its folder. Raises `SavedModelError` if it is not named there."""
    files = read_manifest(path)["files"]
    if name not in files:
        raise SavedModelError(f"{path / MANIFEST} does not name {name}. Copy the whole folder again.")
    return files[name]


def read_verified_json(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file, after its checksum was checked. Raises `SavedModelError`."""
    return read_json(verified(path, name, manifest_entry(path, name)))

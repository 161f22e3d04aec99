"""File names and format version of a saved model, and checked reading of its JSON files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from textgen.errors import ModelChanged, SavedModelError, TextgenError, Unreadable
from textgen.model.config import ModelConfig
from textgen.saved_model.older_records import rename_entries
from textgen.schema import check, json_object
from textgen.settings import from_dict
from textgen.storage import model_files
from textgen.storage.addresses import without_secrets
from textgen.storage.file_reading import read_file
from textgen.storage.files import json_bytes
from textgen.storage.manifests import COPY_AGAIN, MANIFEST, read_manifest, verified
from textgen.storage.system_errors import cannot_read
from textgen.tokenizer.config import TokenizerConfig
from textgen.wording import counted

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
PRECISIONS = (FLOAT32, FLOAT16, INT8)  # formats of the weights in a file
FORMAT_VERSION, COMPRESSED_VERSION = 1, 2  # programs that know only the first refuse weights in fewer bytes
CONFIG, TRAINING, CARD = model_files.CONFIG, model_files.TRAINING, model_files.CARD
LOGS, CHECKPOINTS = model_files.LOGS, model_files.CHECKPOINTS
WEIGHTS, NGRAMS = "model.safetensors", "ngrams.safetensors"
WORDS = "words.safetensors"
STEP = "step-([0-9]{1,18})"  # pattern of the name of a checkpoint
TENSORS, POSITION = "tensors.safetensors", "position.json"  # of a checkpoint
PIECES_FILE, EMBEDDING_FILE = "pieces.tsv", "embedding.bytes"  # among the logs, for TensorBoard's projector
PROJECTOR_FILE = "projector_config.pbtxt"  # its configuration
JSON_BYTES = model_files.RECORD_BYTES  # maximum size of a JSON file
FILTER_BYTES = 1 << 30  # maximum size of the file of n-grams or of words
CARD_BYTES = 1 << 24  # maximum size of README.md

HISTORY = [{"step": int, "epochs": float, "nats_per_token": float, "bits_per_byte": float}]  # of the validations
RECORD = {  # fields of training.json that commands other than train read; `textgen.training.resumption` reads more
    "corpus": {"paths": [str], "valid?": ([str], None), "characters": int, "num_documents": int},
    "model": {"vocab_size": int, "embedding_dim": int, "hidden_units": int, "num_layers": int},
    "tokenizer": {"tokenizer": str},
    "training": {"seed": int, "sequence_length?": int},
    "versions": {"textgen": str},
    "parameters": int,
    "progress": {"step": int, "epochs": float, "seconds": float},
    "scores": {str: float},
    "history?": HISTORY,
    "labels?": [str],
    "status?": str,
    "start?": {"name": (str, None), "decided_by": str, "reason": str},
    "tokens?": {"folder": str, "train": int, "valid": int},
}
CONFIG_FILE = {"model": dict, "tokenizer": dict, "corpus": dict, "precision?": str}
Value = TypeVar("Value")


def read_training(folder: Path) -> dict[str, Any]:
    """Reads training.json and checks its checksum, if it has one, and its structure.

    Args:
        folder: Folder of the model.

    Returns:
        The content of training.json, without its checksum and with the present names of its entries.

    Raises:
        SavedModelError: The file cannot be read, was altered or has another structure.
    """
    record = read_json(folder / TRAINING)
    if "checksum" in record and record.pop("checksum") != training_checksum(record):
        raise SavedModelError(
            f"{folder / TRAINING} was altered: its contents do not match its checksum. Copy the whole folder again; "
            'if you edited it on purpose, remove its entry "checksum".'
        )
    rename_entries(record)
    try:
        check(record, RECORD)
        for section, kind in (("model", ModelConfig), ("tokenizer", TokenizerConfig)):
            from_dict(kind, record[section])
    except (ValueError, TextgenError) as error:
        problem = str(error).removesuffix(".")
        raise SavedModelError(f"{folder / TRAINING} is damaged: {problem}. {COPY_AGAIN}") from None
    return record


def shown_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what training.json says, or the sections of it that are there, without what is secret in addresses.

    Args:
        record: Content of training.json.

    Example:
        >>> shown_record({"corpus": {"paths": ["https://user:password@host/a.txt?signature=1"], "valid": None}})
        {'corpus': {'paths': ['https://host/a.txt'], 'valid': None}}
    """
    corpus = dict(record.get("corpus", {}))
    for name in ("paths", "valid"):
        if corpus.get(name):
            corpus[name] = [without_secrets(path) for path in corpus[name]]
    return {**record, **({"corpus": corpus} if "corpus" in record else {})}


def training_bytes(record: dict[str, Any]) -> bytes:
    """Returns the content of the file training.json, with a checksum.

    Args:
        record: What it says, without a checksum. Numbers that JSON does not have become null.

    Raises:
        SavedModelError: It would be larger than `read_training` accepts.
    """
    written = json.loads(json_bytes(record))  # the checksum is that of what the file holds
    data = json_bytes(written | {"checksum": training_checksum(written)})
    if len(data) > JSON_BYTES:
        largest = max(written, key=lambda name: len(json_bytes(written[name])))
        raise SavedModelError(
            f"{TRAINING} would have {counted(len(data), 'byte')}, and at most {JSON_BYTES:,} can be read again. The "
            f"largest entry is {largest!r}: train with fewer files or labels."
        )
    return data


def training_checksum(record: dict[str, Any]) -> str:
    """Computes the checksum that training.json carries.

    Args:
        record: Content of training.json, without its checksum.

    Returns:
        SHA-256 in hex.
    """
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file of a saved model.

    Args:
        path: The JSON file.

    Returns:
        The JSON object.

    Raises:
        SavedModelError: The file cannot be read, or does not hold a JSON object.
    """
    try:
        return json_object(read_bytes(path, JSON_BYTES))
    except ValueError as error:
        raise SavedModelError(f"Cannot read {path}: {error}. {COPY_AGAIN}") from None


def read_bytes(path: Path, limit: int) -> bytes:
    """Reads a whole file of a saved model.

    Args:
        path: The file.
        limit: Largest accepted size in bytes.

    Returns:
        The content of the file.

    Raises:
        Unreadable: The file cannot be read, and may be intact.
        SavedModelError: The file is missing or too large.
    """
    try:
        return read_file(path, limit)
    except OSError as error:
        raise cannot_read(path, error, COPY_AGAIN) from None


def check_config(path: Path, config: dict[str, Any]) -> None:
    """Checks the format version and the structure of config.json.

    Args:
        path: Folder of the model, for error messages.
        config: Content of config.json.

    Raises:
        SavedModelError: The version or the structure differs from this program's.
    """
    version = config.get("format_version")
    if version not in (FORMAT_VERSION, COMPRESSED_VERSION) or not isinstance(version, int) or isinstance(version, bool):
        newer = isinstance(version, int) and version > COMPRESSED_VERSION
        raise SavedModelError(
            f"{path} has the format version {ascii(version)[:20]}, this program reads {FORMAT_VERSION} and "
            f"{COMPRESSED_VERSION}. " + ("Upgrade textgen." if newer else "Train the model again.")
        )
    try:
        check(config, CONFIG_FILE)
        _check_precision(config)
    except ValueError as error:
        raise SavedModelError(f"{path / CONFIG} is damaged: {error}. {COPY_AGAIN}") from None


def version_of(precision: str) -> int:
    """Returns the format version of a model whose weights are stored in this precision."""
    return FORMAT_VERSION if precision == FLOAT32 else COMPRESSED_VERSION


def _check_precision(config: dict[str, Any]) -> None:
    """Raises `ValueError` unless the precision is one that belongs to the format version."""
    precision, version = config.get("precision", FLOAT32), config["format_version"]
    allowed = [name for name in PRECISIONS if version_of(name) == version]
    if precision not in allowed:
        raise ValueError(f"precision should be {' or '.join(allowed)}, not {ascii(precision)[:20]}")


def entry_in(files: Mapping[str, Any], path: Path, name: str) -> dict[str, Any]:
    """Returns the entry of a file in a manifest that was read before.

    Args:
        files: The entries of the manifest, by name.
        path: Folder of the model.
        name: Name of the file.

    Raises:
        SavedModelError: The manifest does not name the file.
    """
    if name not in files:
        raise SavedModelError(f"{path / MANIFEST} does not name {name}. {COPY_AGAIN}")
    entry: dict[str, Any] = files[name]
    return entry


def read_listed(files: Mapping[str, Any], path: Path, name: str, read: Callable[[Path], Value], limit: int) -> Value:
    """Reads a file of a model if it is the one that a manifest, which was read before, describes.

    Args:
        files: The entries of the manifest, by name.
        path: Folder of the model.
        name: Name of the file.
        read: Reads the file.
        limit: Largest accepted size in bytes.

    Returns:
        What `read` returns.

    Raises:
        ModelChanged: The manifest describes another file now, or the folder is gone.
        Unreadable: The file or the manifest cannot be read.
        SavedModelError: The file is missing, damaged or too large.
    """
    entry = entry_in(files, path, name)
    try:
        value = read(verified(path, name, entry, limit))
    except SavedModelError:
        _require_unchanged(path, name, entry)
        raise
    _require_unchanged(path, name, entry)  # it may have been replaced after it was verified
    return value


def _require_unchanged(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Raises `ModelChanged` if the manifest of a folder has another entry for a file than before."""
    try:
        found = read_manifest(path)["files"].get(name)
    except Unreadable:
        raise
    except SavedModelError:
        found = None
    if found != entry:
        raise ModelChanged(f"{path} was saved anew or removed since it was read: load it again, or repeat the command.")

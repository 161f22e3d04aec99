"""Loads saved models: finds them, reads and checks their configuration and vocabulary."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError, ModelChanged, SavedModelError, TextgenError
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import (
    CONFIG,
    FLOAT32,
    JSON_BYTES,
    TRAINING,
    check_config,
    read_bytes,
    read_json,
    read_listed,
    read_training,
)
from textgen.saved_model.registry import find_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import from_dict
from textgen.storage.manifests import COPY_AGAIN, read_manifest
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.model_file import MODEL_BYTES, MODEL_FILE, read_tokenizer
from textgen.wording import short_repr


def load_model(name: str | Path | None = None, models_dir: str | Path | None = None) -> ModelFolder:
    """Loads a saved model and checks its files. Weights are read on demand.

    Args:
        name: Name or folder of the model. By default the model that was saved last.
        models_dir: Folder of the models; by default `$TEXTGEN_MODELS` or `saved_models`.

    Returns:
        The model.

    Raises:
        ConfigError: The name is no text and no path, or the folder of the models is no path.
        SavedModelError: There is no such model, or a file is missing, damaged or of another version.
    """
    if name is not None and not (isinstance(name, str | os.PathLike) and isinstance(os.fspath(name), str)):
        raise ConfigError(f"A model is named by a str or a pathlib.Path. Received: {short_repr(name)}.")
    path = find_model(None if name is None else os.fspath(name), models_dir)
    try:
        return _load(path)
    except ModelChanged:  # a training saved it at this moment
        return _load(path)


def saved_labels(folder: Path) -> list[str] | None:
    """Returns the labels of a saved model; None if it cannot be read.

    Args:
        folder: Folder of the model. Of its files, only the record of its training is read, or else its vocabulary.
    """
    with suppress(TextgenError):
        labels = read_training(folder).get("labels") if _can_be_read(folder / TRAINING) else None
        return list(read_tokenizer(folder).labels if labels is None else labels)
    return None


def _load(path: Path) -> ModelFolder:
    files = read_manifest(path)["files"]
    config = read_listed(files, path, CONFIG, read_json, JSON_BYTES)
    check_config(path, config)
    try:
        model_config = from_dict(ModelConfig, config["model"])
        tokenizer_config = from_dict(TokenizerConfig, config["tokenizer"])
        corpus_config = from_dict(CorpusConfig, config["corpus"])
        tokenizer = load_tokenizer(_tokenizer_bytes(files, path, tokenizer_config), model_config.vocab_size)
    except SavedModelError:
        raise  # the message already names the file
    except TextgenError as error:
        raise SavedModelError(f"{path} cannot be used: {error}") from None
    if tokenizer.kind != tokenizer_config.tokenizer:
        raise SavedModelError(
            f"{path}: the tokenizer is {tokenizer.kind} and the configuration says {tokenizer_config.tokenizer}. "
            f"They do not belong together. {COPY_AGAIN}"
        )
    training = read_training(path) if _can_be_read(path / TRAINING) else {}
    precision = config.get("precision", FLOAT32)
    folder = path.absolute()  # weights are read later, when the working directory may be another one
    return ModelFolder(folder, model_config, tokenizer_config, corpus_config, tokenizer, training, files, precision)


def _tokenizer_bytes(files: Mapping[str, Any], path: Path, config: TokenizerConfig) -> bytes:
    if config.tokenizer == "byte" and MODEL_FILE not in files:
        return b""
    return read_listed(files, path, MODEL_FILE, partial(read_bytes, limit=MODEL_BYTES), MODEL_BYTES)


def _can_be_read(record: Path) -> bool:
    """Whether there is a record of a training that this user may read: one with passwords is only for its owner."""
    return os.path.lexists(record) and not (record.is_file() and not os.access(record, os.R_OK))

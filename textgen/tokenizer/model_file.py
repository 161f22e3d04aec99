"""The file of a tokenizer, alone or in the folder of a saved model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from textgen.errors import TokenizerError
from textgen.schema import json_object
from textgen.storage.file_reading import read_file
from textgen.storage.manifests import COPY_AGAIN, MANIFEST, read_manifest, verified
from textgen.storage.model_files import CONFIG
from textgen.tokenizer.kinds import ByteTokenizer, load_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer

MODEL_FILE = "tokenizer.model"  # name of the file in the folder of a saved model
MODEL_BYTES, CONFIG_BYTES = 1 << 28, 1 << 20  # maximum sizes of this file and of config.json


def read_tokenizer(path: str | Path) -> Tokenizer:
    """Reads a tokenizer from a file.

    Args:
        path: A SentencePiece model file that textgen wrote, or the folder of a saved model.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: The file cannot be read, is damaged, or another program made it.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    try:
        if path.is_dir() and not file.exists() and _says_byte(path / CONFIG):
            return ByteTokenizer()
        if path.is_dir() and os.path.lexists(path / MANIFEST):
            file = verified(path, MODEL_FILE, _entry(path), MODEL_BYTES)
        with file.open("rb") as opened:
            serialized = opened.read(MODEL_BYTES + 1)
        if len(serialized) > MODEL_BYTES:
            raise TokenizerError(f"The tokenizer {file} has more than {MODEL_BYTES:,} bytes, the limit.")
    except OSError as error:
        raise TokenizerError(
            f"Cannot read the tokenizer {file}: {error.strerror}. Name a .model file or a saved model."
        ) from None
    if not serialized:
        raise TokenizerError(f"The tokenizer {file} is empty. Train it again, or copy it again.")
    try:
        return load_tokenizer(serialized)
    except TokenizerError as error:
        raise TokenizerError(f"{file}: {error}") from None


def _entry(folder: Path) -> dict[str, Any]:
    """The entry of the vocabulary in the manifest of a saved model."""
    if entry := read_manifest(folder)["files"].get(MODEL_FILE):
        return entry
    raise TokenizerError(f"{folder / MANIFEST} does not name {MODEL_FILE}. {COPY_AGAIN}")


def _says_byte(config_file: Path) -> bool:
    try:
        return json_object(read_file(config_file, CONFIG_BYTES))["tokenizer"]["tokenizer"] == "byte"
    except (OSError, ValueError, KeyError, TypeError):
        return False

"""Writes a saved model: the files that the manifest covers, all or none, and those of its training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError, Unreadable
from textgen.model.config import ModelConfig
from textgen.saved_model.arrays import in_c_order
from textgen.saved_model.folder_contents import has_file
from textgen.saved_model.layout import (
    CARD,
    CARD_BYTES,
    CONFIG,
    FILTER_BYTES,
    FLOAT32,
    NGRAMS,
    TRAINING,
    WEIGHTS,
    WORDS,
    read_bytes,
    read_training,
    shown_record,
    training_bytes,
    version_of,
)
from textgen.saved_model.model_card import attribution_in, card_file, is_edited
from textgen.saved_model.precision import compressed
from textgen.settings import to_dict
from textgen.storage.files import CannotWrite, json_bytes, write_own_file
from textgen.storage.locks import require_held
from textgen.storage.manifests import MANIFEST, update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import NgramIndex
    from textgen.dataset.word_filter import WordFilter

log = logging.getLogger(__name__)

TRAINING_ADVICE = f"{TRAINING} is written already, and the next save renews the card: free some space if it is needed."


def save_model(
    folder: Path,
    weights: dict[str, np.ndarray],
    model_config: ModelConfig,
    tokenizer_config: TokenizerConfig,
    corpus_config: CorpusConfig,
    tokenizer: Tokenizer,
    precision: str = FLOAT32,
) -> None:
    """Writes the files that the manifest covers, atomically: all of them or none.

    Args:
        folder: Folder of the model.
        weights: Weights by name, float32.
        model_config: Settings of the network.
        tokenizer_config: Settings of the tokenizer.
        corpus_config: Settings of the corpus.
        tokenizer: The tokenizer.
        precision: Precision that the weights are stored in, one of `textgen.saved_model.layout.PRECISIONS`.

    Raises:
        SavedModelError: A weight is not finite, or too large for float16; the files stay as they were.
        CannotWrite: The folder cannot be written or is full.
        Gone: The folder is held by this process, and was moved, removed or taken over.
    """
    bad = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        raise SavedModelError(
            f"The weights {', '.join(bad)} are not finite. They were not saved; the last finite ones are kept."
        )
    require_held(folder)
    files = model_files(weights, model_config, tokenizer_config, corpus_config, tokenizer, precision)
    for name in (NGRAMS, WORDS):
        if has_file(folder, name) and not has_file(folder, MANIFEST):
            files[name] = read_bytes(folder / name, FILTER_BYTES)
    update_folder(folder, files)


def model_files(
    weights: dict[str, np.ndarray],
    model_config: ModelConfig,
    tokenizer_config: TokenizerConfig,
    corpus_config: CorpusConfig,
    tokenizer: Tokenizer,
    precision: str = FLOAT32,
) -> dict[str, bytes]:
    """Returns the files that every saved model has, by name. The arguments are those of `save_model`."""
    config = {
        "format_version": version_of(precision),
        **({} if precision == FLOAT32 else {"precision": precision}),
        "model": to_dict(model_config),
        "tokenizer": to_dict(tokenizer_config),
        "corpus": to_dict(corpus_config),
    }
    arrays = in_c_order(compressed(weights, precision))
    files = {CONFIG: json_bytes(config), WEIGHTS: to_safetensors(arrays)}
    if tokenizer.serialized:
        files[MODEL_FILE] = tokenizer.serialized
    return files


def save_ngrams(folder: Path, index: NgramIndex) -> None:
    """Writes the n-gram index of the training text.

    If the folder holds no model yet, the next `save_model` adds the index to the manifest.

    Args:
        folder: Folder of the model.
        index: The index.

    Raises:
        CannotWrite: The folder cannot be written or is full.
        Gone: As of `save_model`.
    """
    _save_beside(folder, NGRAMS, index.to_bytes())


def save_words(folder: Path, words: WordFilter) -> None:
    """Writes the filter of the words of the training text; see `save_ngrams`.

    Args:
        folder: Folder of the model.
        words: The filter.

    Raises:
        CannotWrite: The folder cannot be written or is full.
        Gone: As of `save_model`.
    """
    _save_beside(folder, WORDS, words.to_bytes())


def _save_beside(folder: Path, name: str, data: bytes) -> None:
    """Writes a file of a model that may not have been saved yet."""
    if has_file(folder, MANIFEST):
        update_folder(folder, {name: data})
    else:
        require_held(folder)
        write_own_file(folder / name, data)


def write_training(folder: Path, training: dict[str, Any]) -> None:
    """Writes training.json with a checksum, and the model card built from it, unless a person has changed the card.

    Addresses in it may hold passwords and signatures, which resuming needs: only the user can then read training.json.

    Args:
        folder: Folder of the model.
        training: Content of training.json. Numbers that JSON does not have become null.

    Raises:
        SavedModelError: training.json would be too large to be read again.
        Gone: The folder is held by this process, and was moved, removed or taken over.
        CannotWrite: A file cannot be written.
    """
    require_held(folder)
    before = training
    with suppress(SavedModelError):
        before = read_training(folder)
    data, has_secrets = training_bytes(training), shown_record(training) != training
    is_kept = keeps_card(folder, before)
    write_own_file(folder / TRAINING, data, is_private=has_secrets)
    if not is_kept:
        write_card(folder, card_file(folder.name, training), TRAINING_ADVICE)


def write_card(folder: Path, card: bytes, advice: str) -> None:
    """Writes the card of a model as the last one of several files.

    Args:
        folder: Folder of the model.
        card: Content of README.md.
        advice: What an error says instead of that all is as before: what was written already, and what to do.

    Raises:
        CannotWrite: The card cannot be written; it is as it was.
    """
    try:
        write_own_file(folder / CARD, card)
    except CannotWrite as error:
        raise error.advising(advice) from None


def edited_card(folder: Path, record: Mapping[str, Any]) -> bytes | None:
    """Reads the card of a model if a person has changed it, so that copies of the model get it as it is.

    Args:
        folder: Folder of the model.
        record: What the card was built from; see `textgen.saved_model.model_card.model_card`.

    Returns:
        The content of README.md. None if there is none, or textgen wrote it.

    Raises:
        SavedModelError: The card cannot be read.
    """
    if not has_file(folder, CARD) or (folder / CARD).is_symlink():
        return None
    card = read_bytes(folder / CARD, CARD_BYTES)
    return card if is_edited(card, record) else None


def saved_attribution(folder: Path) -> dict[str, str]:
    """Reads the licence of a model and the note about it from its card; see `model_card.attribution_in`.

    Args:
        folder: Folder of the model.

    Returns:
        The texts by heading; none without a card.

    Raises:
        SavedModelError: The card cannot be read.
    """
    if not has_file(folder, CARD) or (folder / CARD).is_symlink():
        return {}
    return attribution_in(read_bytes(folder / CARD, CARD_BYTES))


def keeps_card(folder: Path, record: Mapping[str, Any]) -> bool:
    """Checks whether the card of a model must stay, since a person has changed it. The log says so, once for a folder.

    Args:
        folder: Folder of the model.
        record: What the card was built from; see `textgen.saved_model.model_card.model_card`.
    """
    why = "was edited"
    try:
        if edited_card(folder, record) is None:
            return False
    except Unreadable as error:
        why = f"cannot be read ({error.reason})"
    except SavedModelError:
        pass  # it is larger than any that textgen writes
    _say_kept(folder / CARD, why)
    return True


@cache
def _say_kept(path: Path, why: str) -> None:
    log.warning("%s %s, so it stays as it is. To get a new card, remove or rename it.", path, why)

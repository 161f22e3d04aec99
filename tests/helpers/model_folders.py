"""Small models in folders, and folders that hold something else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import CARD, TRAINING
from textgen.saved_model.saving import save_model, write_training
from textgen.storage.manifests import MANIFEST, update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

CORPUS = CorpusConfig(documents="line", newlines="keep")
TRAINING_VALUES: dict[str, Any] = {
    "model": {"num_layers": 2, "hidden_units": 8, "embedding_dim": 6, "vocab_size": 300},
    "tokenizer": {"tokenizer": "char"},
    "training": {"seed": 7},
    "corpus": {"paths": ["/home/me/poems.txt"], "characters": 12345, "num_documents": 6},
    "scores": {"bits_per_byte": 1.23456, "perplexity_per_token": 4321.5},
    "progress": {"step": 1000, "epochs": 2.5, "seconds": 90},
    "parameters": 98765,
    "versions": {"textgen": "0.1.0"},
}


def small(vocab_size: int) -> ModelConfig:
    return ModelConfig(vocab_size, embedding_dim=4, hidden_units=3, num_layers=1)


def weights_of(config: ModelConfig) -> dict[str, np.ndarray]:
    return random_weights(config, scale=1.0)


def save(folder: Path, tokenizer: Tokenizer, weights: dict[str, np.ndarray] | None = None) -> Path:
    config = small(tokenizer.vocab_size)
    kind = TokenizerConfig(tokenizer.kind)
    save_model(folder, weights_of(config) if weights is None else weights, config, kind, CORPUS, tokenizer)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    return save(tmp_path / "models" / "songs", tokenizer)


OTHER_TOKENIZER = train_tokenizer(["ab"], TokenizerConfig("char")).serialized


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Models b, c and a, in the order of their making, and things that are none."""
    folder = tmp_path / "models"
    for age, name in enumerate("acb"):
        save(folder / name, ByteTokenizer())
        os.utime(folder / name / MANIFEST, (1e9 - age, 1e9 - age))
    (folder / "unfinished").mkdir()
    write_training(folder / "unfinished", TRAINING_VALUES)
    (folder / "file").write_bytes(b"")
    return folder


def prepared_corpus(folder: Path) -> None:
    update_folder(folder, {"prepared.json": b"{}", MODEL_FILE: b"x"})


def everything_in(folder: Path) -> dict[str, bytes | str]:
    """All files below a folder, and where its links lead."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            found[str(path.relative_to(folder))] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


def other_training(folder: Path) -> None:
    folder.mkdir()
    (folder / TRAINING).write_text('{"lr": 1}')
    (folder / "results.csv").write_text("1")


def only_a_training(folder: Path) -> None:
    folder.mkdir()
    (folder / TRAINING).write_text('{"lr": 1}')


def with_notes(folder: Path) -> None:
    save(folder, ByteTokenizer())
    (folder / "notes.txt").write_text("mine")


def linked(folder: Path) -> None:
    folder.symlink_to(save(folder.parent.parent / "disk" / "model", ByteTokenizer()))


def project(folder: Path) -> None:
    folder.mkdir()
    (folder / CARD).write_text("# My project")


NO_MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a prepared corpus": (prepared_corpus, "textgen did not write 'prepared.json' in it"),
    "another program's training": (other_training, "textgen did not write 'results.csv' in it"),
    "nothing but a training.json": (only_a_training, "it has no model in it"),
    "a model with notes": (with_notes, "textgen did not write 'notes.txt' in it"),
    "a link": (linked, "it is a link to .*disk/model"),
    "a project": (project, "it has no model in it"),
}

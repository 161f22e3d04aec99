"""Small saved models with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

CORPUS = CorpusConfig(documents="line", newlines="keep")
TRAINING_VALUES: dict[str, Any] = {
    "model": {"num_layers": 2, "hidden_units": 8, "embedding_dim": 6, "vocab_size": 300},
    "tokenizer": {"tokenizer": "char"},
    "training": {"seed": 7},
    "corpus": {"paths": ["/home/me/poems.txt"], "characters": 12345, "documents": 6},
    "scores": {"bits_per_byte": 1.23456, "perplexity_per_token": 4321.5},
    "progress": {"step": 1000, "epochs": 2.5, "seconds": 90},
    "parameters": 98765,
    "versions": {"textgen": "0.1.0"},
}


def small(vocab_size: int) -> ModelConfig:
    return ModelConfig(vocab_size, embedding_dim=4, hidden_units=3, num_layers=1)


def weights_of(config: ModelConfig) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in config.weight_shapes().items()}


def save(folder: Path, tokenizer: Tokenizer, weights: dict[str, np.ndarray] | None = None) -> Path:
    config = small(tokenizer.vocab_size)
    kind = TokenizerConfig(tokenizer.tokenizer)
    save_model(folder, weights_of(config) if weights is None else weights, config, kind, CORPUS, tokenizer)
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    return save(tmp_path / "models" / "songs", tokenizer)

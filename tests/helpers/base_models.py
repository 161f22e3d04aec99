"""A base model that is small enough for a test: a vocabulary of English, and weights by chance."""

from __future__ import annotations

from pathlib import Path

from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.vocabulary import train_tokenizer

FABLES = (Path(__file__).parents[2] / "corpora" / "fables.txt").read_text(encoding="utf-8")


def save_base(folder: Path, name: str = "english", units: int = 128) -> Path:
    """Saves a base of one layer in a folder of bases. Returns its folder."""
    config = TokenizerConfig("unigram", vocab_size=1500)
    tokenizer = train_tokenizer([FABLES], config)
    model = ModelConfig(tokenizer.vocab_size, embedding_dim=units, hidden_units=units, num_layers=1)
    weights = {key: 0.1 * array for key, array in random_weights(model).items()}
    save_model(folder / name, weights, model, TokenizerConfig("unigram"), CorpusConfig(documents="file"), tokenizer)
    return folder / name

"""Small networks of every kind, their integers, and texts of saved ones: for what computes in exact arithmetic.

`python tests/exact_models.py FOLDER` saves models in the folder, and what each writes in FOLDER/golden.json, so that
another implementation can be compared: a list of objects with model, prompt, settings (those of `SamplingConfig`), ids
and text.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.generation.config import SamplingConfig
from textgen.generation.request import Request
from textgen.model.config import ModelConfig
from textgen.model.exact_model import ExactModel, ExactWeights, exact_weights
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.layout import FLOAT32, INT8
from textgen.saved_model.loading import load_model
from textgen.saved_model.precision import compressed, restored
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.vocabulary import train_tokenizer

Weights = dict[str, np.ndarray]

KINDS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "three layers": {"num_layers": 3},
    "own head": {"tie_embeddings": False},
    "projection": {"hidden_units": 40},
    "gru": {"cell": "gru"},
    "gru, reset before": {"cell": "gru", "reset_after": False, "hidden_units": 20},
    "rnn": {"cell": "rnn"},
    "rnn, relu": {"cell": "rnn", "activation": "relu", "hidden_units": 20},
    "peephole": {"cell": "peephole"},
    "mogrifier": {"cell": "mogrifier"},
    "mogrifier, low rank": {"cell": "mogrifier", "mogrifier_rank": 5, "mogrifier_rounds": 4},
    "layer norm": {"layer_norm": True},
    "residual": {"residual": True},
    "attention": {"attention": 6},
    "all of it": {
        "attention": 9,
        "residual": True,
        "layer_norm": True,
        "cell": "gru",
        "hidden_units": 40,
        "tie_embeddings": False,
    },
}


def config_of(kind: str, vocab_size: int = 30) -> ModelConfig:
    """The shape of a small network."""
    return ModelConfig(vocab_size, **{"embedding_dim": 24, "hidden_units": 24, "num_layers": 2, **KINDS[kind]})


def integers_of(config: ModelConfig, weights: Weights) -> ExactWeights:
    """The integers that stand for weights."""
    return exact_weights(config, compressed(weights, INT8))


def both_models(kind: str, vocab_size: int = 30) -> tuple[ExactModel, NumpyModel]:
    """A network in exact arithmetic, and the same int8 weights in float32."""
    config = config_of(kind, vocab_size)
    arrays = compressed(random_weights(config, scale=0.25), INT8)
    return ExactModel(exact_weights(config, arrays)), NumpyModel(config, restored(arrays, INT8))


# === Saved models, and what they write ===

TEXT = "The cat sat on the mat.\nThe dog saw the cat, and the fox saw the dog.\n床前明月光，疑是地上霜。\n"
PROMPTS = ["", "The c", "a", "床前明月光。", "The cat sat on the mat. " * 3, "The cat\n"]
PLAIN = {"temperature": 1.0, "min_p": 0.0, "heal": False, "coin_words": True}
SETTINGS: list[dict[str, Any]] = [
    {}, {"temperature": 0.8, "min_p": 0.05}, {"temperature": 0.0}, {"top_k": 7}, {"top_p": 0.6}, {"typical_p": 0.6},
    {"top_n_sigma": 1.0}, {"epsilon_cutoff": 0.01}, {"eta_cutoff": 0.01},
    {"xtc_probability": 0.6, "xtc_threshold": 0.05}, {"dynatemp_range": 0.7, "dynatemp_exponent": 1.5},
    {"repeat_penalty": 1.3, "presence_penalty": 0.2, "frequency_penalty": 0.1, "repeat_last_n": 20},
    {"dry_multiplier": 0.8, "dry_allowed_length": 1}, {"mirostat": 1, "mirostat_tau": 3.0}, {"mirostat": 2},
    {"top_k": 20, "typical_p": 0.9, "top_p": 0.9, "min_p": 0.02, "temperature": 0.7}, {"heal": True},
]  # fmt: skip
"""Settings on top of `PLAIN`, one sampler after the other."""


def save_models(folder: Path, kinds: tuple[str, ...] = tuple(KINDS)) -> list[str]:
    """Saves a small model of each kind, with a vocabulary of characters and another one; returns their names."""
    names = []
    for vocabulary, precision in (("char", INT8), ("unigram", FLOAT32)):
        tokenizer = train_tokenizer([TEXT] * 8, TokenizerConfig(vocabulary))
        for kind in kinds:
            config = config_of(kind, tokenizer.vocab_size)
            name = f"{vocabulary}-{kind.replace(', ', '-').replace(' ', '-')}"
            weights = random_weights(config, scale=0.3)
            save_model(
                folder / name, weights, config, TokenizerConfig(vocabulary), CorpusConfig(), tokenizer, precision
            )
            names.append(name)
    return names


def golden_texts(folder: Path, names: list[str], seeds: int = 1, max_tokens: int = 60) -> list[dict[str, Any]]:
    """What saved models write in exact arithmetic, with all settings and prompts in turn."""
    texts = []
    for name in names:
        generator = load_model(name, folder).generator(exact=True)
        for number in range(seeds * len(SETTINGS)):
            settings = PLAIN | SETTINGS[number % len(SETTINGS)] | {"seed": number, "max_tokens": max_tokens}
            prompt = PROMPTS[number % len(PROMPTS)]
            (written,) = generator.generate_requests([Request(prompt, replace(SamplingConfig(), **settings))])
            texts.append(
                {"model": name, "prompt": prompt, "settings": settings, "ids": written.ids, "text": written.text}
            )
    return texts


if __name__ == "__main__":
    target = Path(sys.argv[1])
    found = golden_texts(target, save_models(target))
    (target / "golden.json").write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")

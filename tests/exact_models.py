"""Small networks of every kind, and their integers: for what computes in exact arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from textgen.model.config import ModelConfig
from textgen.model.exact_model import ExactModel, ExactWeights, exact_weights
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.layout import INT8
from textgen.saved_model.precision import compressed, restored

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


def random_weights(config: ModelConfig, seed: int = 0, scale: float = 0.25) -> Weights:
    """Normal weights, such that predictions differ."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in config.weight_shapes().items()}


def integers_of(config: ModelConfig, weights: Weights) -> ExactWeights:
    """The integers that stand for weights."""
    return exact_weights(config, compressed(weights, INT8))


def both_models(kind: str, vocab_size: int = 30) -> tuple[ExactModel, NumpyModel]:
    """A network in exact arithmetic, and the same int8 weights in float32."""
    config = config_of(kind, vocab_size)
    arrays = compressed(random_weights(config), INT8)
    return ExactModel(exact_weights(config, arrays)), NumpyModel(config, restored(arrays, INT8))

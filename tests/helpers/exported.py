"""Models to export, the logits that their exports must give, and programs that load exports without textgen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.export.verification import model_logits
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

IDS = np.random.default_rng(7).integers(3, 200, 256, dtype=np.int32)
ALL_PARTS = {"layer_norm": True, "residual": True, "tie_embeddings": False}
KERAS_CELLS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {"cell": "gru", "embedding_dim": 8, **ALL_PARTS},
    "gru, reset before": {"cell": "gru", "reset_after": False},
    "rnn": {"cell": "rnn"},
    "rnn, relu": {"cell": "rnn", "activation": "relu"},
    "backward": {"direction": "backward"},
    "both directions": {"direction": "both", "num_layers": 1},
}
CELLS: dict[str, dict[str, Any]] = KERAS_CELLS | {
    "peephole": {"cell": "peephole"},
    "mogrifier, attention": {"cell": "mogrifier", "attention": 5, "embedding_dim": 8, **ALL_PARTS},
    "mogrifier, low rank": {"cell": "mogrifier", "mogrifier_rank": 3},
}


def model_of(folder: Path, tokenizer: Tokenizer, bias: float = 1.0, **options: Any) -> ModelFolder:
    """A saved model of random weights, small enough that an rnn with relu does not explode.

    With a large `bias` some tokens are much likelier than others, as in a trained model.
    """
    config = ModelConfig(tokenizer.vocab_size, **({"embedding_dim": 6, "hidden_units": 8} | options))
    weights = random_weights(config, scale=0.3)
    weights["head/bias"] *= bias
    save_model(
        folder / "models" / "random",
        weights,
        config,
        TokenizerConfig("char"),
        CorpusConfig(documents="line"),
        tokenizer,
    )
    return load_model(str(folder / "models" / "random"))


def assert_same_logits(model: ModelFolder, found: np.ndarray, ids: np.ndarray = IDS) -> None:
    """The logits [T, V] after each of `ids` are those of the NumPy network."""
    np.testing.assert_allclose(found, model_logits(model, ids), atol=1e-4, rtol=0)


def run_without_textgen(program: str, folder: Path) -> np.ndarray:
    """The array that a program saves as `logits.npy` in the folder where it runs; textgen cannot be imported there."""
    np.save(folder / "ids.npy", IDS)
    code = f"import sys\nsys.modules['textgen'] = None\nimport numpy as np\n{program}\nnp.save('logits.npy', logits)"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return np.load(folder / "logits.npy")

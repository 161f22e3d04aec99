"""Weights of networks: random ones, and those set by hand, so that it is known what the cells do."""

from __future__ import annotations

import numpy as np

from textgen.model.config import ModelConfig
from textgen.model.reference import initial_weights
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

OPEN = 8.0  # the sigmoid of it is 0.9997
QUOTE_UNIT, COLUMN_UNIT, UNITS = 5, 9, 24


def random_weights(config: ModelConfig, seed: int = 0, scale: float = 0.5) -> dict[str, np.ndarray]:
    """The same for the same seed, and by default so large that every gate moves and every piece changes what follows.

    Args:
        config: Shape of the network.
        seed: Seed of the random numbers.
        scale: Standard deviation of the weights.
    """
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in config.weight_shapes().items()}


def quoted_text(length: int = 3000, seed: int = 0) -> str:
    """Words in lines of different length, some of them in quotes that span several words."""
    rng, parts, is_open = np.random.default_rng(seed), list[str](), False
    while sum(map(len, parts)) < length:
        word = "".join(rng.choice(list("abcdefgh"), rng.integers(2, 7)))
        if rng.random() < 0.12:
            word = word + "”" if is_open else "“" + word
            is_open = not is_open
        parts += [word, "\n" if rng.random() < 0.12 else " "]
    return "".join(parts)


def planted(seed: int = 0) -> tuple[ModelConfig, dict[str, np.ndarray], Tokenizer]:
    """An LSTM of which one cell is 1 inside quotes and one counts the characters of the line; the others are random."""
    tokenizer = train_tokenizer([quoted_text()], TokenizerConfig("char"))
    size = tokenizer.vocab_size
    config = ModelConfig(size, embedding_dim=size, hidden_units=UNITS, num_layers=1)
    weights = initial_weights(config, np.random.default_rng(seed))
    weights["embedding/table"] = np.eye(size, dtype=np.float32)
    kernel, bias = weights["lstm_0/kernel"], weights["lstm_0/bias"]
    (opening,), (closing,), (newline,) = (tokenizer.encode(character) for character in "“”\n")
    for unit in (QUOTE_UNIT, COLUMN_UNIT):
        columns = unit + UNITS * np.arange(4)
        kernel[:, columns] = weights["lstm_0/recurrent_kernel"][:, columns] = 0
        bias[columns] = [-OPEN, OPEN, 0, 0]  # i closed, f open: it keeps
    i, f, g = (QUOTE_UNIT + UNITS * gate for gate in range(3))
    kernel[[opening, closing], i] = 2 * OPEN
    kernel[[opening, closing], g] = OPEN, -OPEN
    i, f, g = (COLUMN_UNIT + UNITS * gate for gate in range(3))
    bias[i], bias[g] = 0, 0.1  # adds about 0.05 at each character
    kernel[newline, f] = -2 * OPEN
    return config, weights, tokenizer


def markov(order: int, symbols: int = 4, seed: int = 0) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A network that predicts from the last `order` tokens alone, which its units pass on from one to the next."""
    units = order * symbols
    config = ModelConfig(
        symbols, embedding_dim=symbols, hidden_units=units, num_layers=1, cell="rnn", activation="relu"
    )
    shift = np.zeros([units, units], np.float32)
    shift[: units - symbols, symbols:] = np.eye(units - symbols)
    kernel = np.zeros([symbols, units], np.float32)
    kernel[:, :symbols] = np.eye(symbols)
    weights = {
        "embedding/table": np.eye(symbols, dtype=np.float32),
        "rnn_0/kernel": kernel,
        "rnn_0/recurrent_kernel": shift,
        "rnn_0/bias": np.zeros(units, np.float32),
        "projection/kernel": np.random.default_rng(seed).normal(0, 2, [units, symbols]).astype(np.float32),
        "projection/bias": np.zeros(symbols, np.float32),
        "head/bias": np.zeros(symbols, np.float32),
    }
    return config, weights

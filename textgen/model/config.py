"""The shape of the network."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from textgen.errors import ConfigError
from textgen.settings import Settings, setting
from textgen.tokenizer.config import MAX_VOCAB_SIZE

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "peephole": "peephole LSTM", "mogrifier": "mogrifier LSTM"}
# number of blocks of H columns in the kernels of each cell
KERNEL_BLOCKS = {"lstm": 4, "gru": 3, "rnn": 1, "peephole": 4, "mogrifier": 4}
WITH_FORGET_GATE = ("lstm", "peephole", "mogrifier")  # cells whose second block is a forget gate
VECTORS = ("bias", "gamma", "beta", "peepholes")  # weights that are no matrices, whatever their shape
ACTIVATIONS = ("tanh", "relu")
DIRECTIONS = ("forward", "backward", "both")
BACKWARD = "backward_"  # prefix of the backward layers' names in a network of both directions
DROPOUTS = ("dropout", "embedding_dropout", "word_dropout", "weight_drop")  # rates of noise, in training only
TABLE = "embedding/table"  # name of the embedding of the tokens, [V, E]
SCALE = "/scale"  # added to the name of a matrix in int8, for its scales

MAX_UNITS = 1 << 15
MAX_LAYERS = 64
MAX_ATTENTION = 1 << 13  # past outputs, which are part of every state
MAX_ROUNDS = 32

SIZE, REGULARIZATION, CELL = "Size of the network", "Regularization", "Recurrent cell"


def round_names(number: int, weights: Container[str]) -> list[str]:
    """The names of the matrices of a mogrifier's round: one, or two low-rank factors; none after the last round.

    Args:
        number: Number of the round, from 1.
        weights: The names of the weights of the layer.

    Returns:
        The names in the order in which the matrices are multiplied.

    Example:
        >>> round_names(2, {"round_1_left", "round_1_right", "round_2_left", "round_2_right"})
        ['round_2_left', 'round_2_right']
    """
    return [name for part in ("", "_left", "_right") if (name := f"round_{number}{part}") in weights]


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The shape of the network.

    Example:
        >>> ModelConfig(vocab_size=8000, hidden_units=512).num_parameters
        5861440
    """

    vocab_size: int = setting(help="Number of tokens in the vocabulary (V).", low=4, high=MAX_VOCAB_SIZE)
    embedding_dim: int = setting(
        256, "Size of the token embedding (E).", low=1, high=MAX_UNITS, section=SIZE, planned=True
    )
    hidden_units: int = setting(256, "Units of each recurrent layer (H).", low=1, high=MAX_UNITS, planned=True)
    num_layers: int = setting(2, "Number of recurrent layers (L).", low=1, high=MAX_LAYERS, planned=True)
    dropout: float = setting(
        0.2, "Dropout rate between layers and before the output layer.", low=0.0, high=0.95, planned=True
    )
    embedding_dropout: float = setting(
        0.1, "Dropout rate on the embedding.", low=0.0, high=0.95, section=REGULARIZATION, planned=True
    )
    tie_embeddings: bool = setting(
        True, "Use the embedding matrix as the output layer's kernel (Press and Wolf 2017).", section=SIZE
    )
    cell: str = setting("lstm", "Kind of the recurrent layers.", choices=tuple(CELLS))
    reset_after: bool = setting(
        True,
        "Apply the reset gate of the cell gru after the recurrent product, as cuDNN and PyTorch do.",
        section=CELL,
        off="reset-before",
    )
    activation: str = setting("tanh", "Activation function of the cell rnn.", choices=ACTIVATIONS, section=CELL)
    mogrifier_rounds: int = setting(
        5,
        "Number of gating rounds before each step of the cell mogrifier (Melis et al. 2020).",
        low=1,
        high=MAX_ROUNDS,
        section=CELL,
    )
    mogrifier_rank: int | None = setting(
        None,
        "Rank of the matrices in the gating rounds of the cell mogrifier; full if not given.",
        low=1,
        high=MAX_UNITS,
        section=CELL,
    )
    residual: bool = setting(
        False, "Add each layer's input to its output, where both have the same width.", section=CELL
    )
    layer_norm: bool = setting(
        False, "Normalize each layer's input (Ba et al. 2016 normalize the sums in a step instead).", section=CELL
    )
    attention: int = setting(
        0,
        "Number of past outputs that a causal attention head reads; 0 for no attention head.",
        low=0,
        high=MAX_ATTENTION,
        section=CELL,
    )
    word_dropout: float = setting(
        0.0,
        "Fraction of tokens whose whole embedding is dropped (Gal and Ghahramani 2016).",
        low=0.0,
        high=0.95,
        section=REGULARIZATION,
    )
    weight_drop: float = setting(
        0.0,
        "Dropout rate on the recurrent weights (DropConnect, Merity et al. 2018).",
        low=0.0,
        high=0.95,
        section=REGULARIZATION,
    )
    direction: str = setting(
        "forward",
        "Direction in which the network reads text. A backward network writes towards an ending, one of both "
        "directions also fills gaps.",
        choices=DIRECTIONS,
        section=CELL,
    )

    def check(self) -> None:
        """Checks combinations of fields. Raises `ConfigError`."""
        if self.attention and self.direction == "both":
            raise ConfigError(
                "attention must have one direction: leave it out, or set direction to forward or backward."
            )

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, known without building the network."""
        embedding, hidden, vocab = self.embedding_dim, self.hidden_units, self.vocab_size
        shapes: dict[str, tuple[int, ...]] = {TABLE: (vocab, embedding)}
        for prefix in ("", BACKWARD)[: len(self.directions)]:
            for layer in range(self.num_layers):
                inputs, norm = embedding if layer == 0 else hidden, f"{prefix}norm_{layer}"
                if self.layer_norm:
                    shapes |= {f"{norm}/gamma": (inputs,), f"{norm}/beta": (inputs,)}
                cell = f"{prefix}{self.cell}_{layer}"
                shapes |= {f"{cell}/{part}": shape for part, shape in self.cell_shapes(inputs).items()}
        if self.attention:
            shapes |= {"attention/gamma": (hidden,), "attention/beta": (hidden,)}
            shapes |= {"attention/query": (hidden, hidden), "attention/output": (hidden, hidden)}
        if hidden != embedding:
            shapes["projection/kernel"] = (hidden, embedding)
            shapes["projection/bias"] = (embedding,)
        if not self.tie_embeddings:
            shapes["head/kernel"] = (embedding, vocab)
        shapes["head/bias"] = (vocab,)
        return shapes

    def cell_shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight of a recurrent layer with `inputs` input features."""
        hidden, columns = self.hidden_units, KERNEL_BLOCKS[self.cell] * self.hidden_units
        two_biases = self.cell == "gru" and self.reset_after
        shapes: dict[str, tuple[int, ...]] = {
            "kernel": (inputs, columns),
            "recurrent_kernel": (hidden, columns),
            "bias": (2, columns) if two_biases else (columns,),
        }
        if self.cell == "peephole":
            shapes["peepholes"] = (3, hidden)
        for number in range(1, self.mogrifier_rounds + 1 if self.cell == "mogrifier" else 1):
            ends = (hidden, inputs) if number % 2 else (inputs, hidden)
            if self.mogrifier_rank is None:
                shapes[f"round_{number}"] = ends
            else:
                shapes[f"round_{number}_left"] = (ends[0], self.mogrifier_rank)
                shapes[f"round_{number}_right"] = (self.mogrifier_rank, ends[1])
        return shapes

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions in which it reads, one or both. Scores and samples use the first of them."""
        return ("forward", "backward") if self.direction == "both" else (self.direction,)

    @property
    def num_parameters(self) -> int:
        """Number of trainable weights."""
        return sum(math.prod(shape) for shape in self.weight_shapes().values())

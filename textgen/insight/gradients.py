"""How much of the gradient of a prediction reaches the tokens before it: |d logit / d embedding| by lag.

The logit is that of the token that came next, the embedding that of the token `lag` steps before the newest one read.
Where the norm is near 0, training gets no signal from there; whether the network uses that text is shown by
`textgen.insight.memory`. Training cuts the gradient at the start of each window of at most T = `sequence_length` tokens
(`textgen.dataset.windows`), which is not done here: from lag T on it got no signal, whatever the norm is there. Of a
model that started from another one this holds for its last training; the one before may have had longer windows. In a
plain recurrent network each step multiplies the gradient by U; the cell state of an LSTM is passed on by its forget
gate alone, as far as that gate is open: see `textgen.model.reference.cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from textgen.insight.reading import Reader, Reading
from textgen.model.config import TABLE, ModelConfig
from textgen.model.reference import Cell, CellWeights, cell_of, initial_weights, layer_forward, of_layer
from textgen.model.reference.attention import attention_backward, attention_forward
from textgen.model.reference.cells import Record, steps_backward
from textgen.model.reference.norm import norm_backward, norm_forward

NUM_PLACES, NUM_LAGS = 12, 100
COMPARED = {  # name of an untrained network -> its cell, and the initial bias of its forget gate if it has one
    "lstm": ("lstm", 1.0),  # the default
    "lstm_bias_0": ("lstm", 0.0),
    "gru": ("gru", None),
    "rnn": ("rnn", None),
}
COMPARED_UNITS = 128  # maximum number of units of the untrained networks that are drawn for comparison
MIN_NORM = 1e-30  # smallest norm: smaller ones are raised to it


@dataclass(frozen=True)
class Flow:
    """Norms of the gradient by lag.

    Attributes:
        norms: Geometric mean over places of the norm at lag 0, 1, 2, ...
    """

    norms: list[float]

    @property
    def hundredth_lag(self) -> int | None:
        """The first lag at which less than 1 % of the largest norm is left; None if that is beyond the end."""
        limit = max(self.norms) / 100
        peak = int(np.argmax(self.norms))
        return next((lag for lag in range(peak, len(self.norms)) if self.norms[lag] < limit), None)


def gradient_flow(reader: Reader, reading: Reading, is_scored: np.ndarray) -> Flow:
    """Measures the gradient of a trained network in a text, over `NUM_LAGS` lags or a third of the text.

    It is the mean over `NUM_PLACES` places of the text.

    Args:
        reader: The network.
        reading: Its reading of one text, with h and c kept.
        is_scored: Whether the token after each one counts, bool [N - 1].

    Returns:
        The gradient at each lag.
    """
    ids = reading.ids[0]
    num_lags = max(2, min(NUM_LAGS, len(ids) // 3))
    possible = np.flatnonzero(is_scored[num_lags - 1 :])  # a label is never predicted
    starts = possible[np.unique(np.linspace(0, len(possible) - 1, NUM_PLACES).astype(int))]
    windows = np.stack([ids[start : start + num_lags] for start in starts])
    targets = np.array([ids[start + num_lags] for start in starts])
    gradient = input_gradient(reader, windows, targets, reader.state_at(reading, starts.tolist()))
    return Flow(_mean_norms(gradient))


def input_gradient(reader: Reader, ids: np.ndarray, targets: np.ndarray, state: Sequence) -> np.ndarray:
    """The gradient of one logit with respect to the embedding of each token read.

    Args:
        reader: The network.
        ids: Token ids, [B, T].
        targets: The token whose logit after the last step is meant, [B].
        state: State before the tokens.

    Returns:
        The gradient, [B, T, E].
    """
    config, weights, cell = reader.config, reader.weights, cell_of(reader.config)
    x, records = weights[TABLE][ids], []
    for number in range(config.num_layers):
        below, normed = x, None
        if norm := of_layer(weights, f"norm_{number}"):
            x, normed = norm_forward(x, norm["gamma"], norm["beta"])
        x, _, steps = layer_forward(cell, x, state[number], of_layer(weights, f"{config.cell}_{number}"))
        if config.residual and x.shape == below.shape:
            x = x + below
        records.append((steps, normed))
    head = weights["head/kernel"].T if "head/kernel" in weights else weights[TABLE]  # [V, E]
    dlast = head[targets]  # [B, E]: the logit is features . row + bias
    if "projection/kernel" in weights:
        dlast = dlast @ weights["projection/kernel"].T  # [B, H]
    dx = np.zeros_like(x)
    dx[:, -1] = dlast
    if config.attention:
        own = of_layer(weights, "attention")
        _, after, look = attention_forward(x, state[-1], own)
        dx, _, _ = attention_backward(dx, tuple(np.zeros_like(array) for array in after), look, own)
    for number in reversed(range(config.num_layers)):
        (steps, normed), dabove = records[number], dx
        dx = _through_layer(cell, dx, steps, of_layer(weights, f"{config.cell}_{number}"))
        if normed:
            dx, _, _ = norm_backward(dx, normed, weights[f"norm_{number}/gamma"])
        if config.residual and dx.shape == dabove.shape:
            dx = dx + dabove
    return dx


def _through_layer(cell: Cell, dhs: np.ndarray, records: Sequence[Record], weights: CellWeights) -> np.ndarray:
    """The gradient of the inputs of a layer [B, T, in] from that of its outputs [B, T, H].

    `textgen.model.reference.layer_backward` also adds up the gradients of the weights, which takes most of its time.
    """
    nothing = tuple(np.zeros_like(dhs[:, 0]) for _ in range(cell.state_size))
    dxs = [dx for dx, _, _ in steps_backward(cell, dhs, nothing, records, weights)]
    return np.stack(dxs[::-1], axis=1)


def untrained_flows(config: ModelConfig, num_lags: int = NUM_LAGS) -> dict[str, Flow]:
    """Measures the gradient, as `gradient_flow` does, in networks of one layer before any training.

    An LSTM is shown with a forget bias of 1 and of 0: how fast its gradient fades at first depends on that bias more
    than on the equations. The update gate of a GRU starts with a bias of 0. The network of the kind of `config` has its
    variant of the cell.

    Args:
        config: Shape of a network; its width is used, up to `COMPARED_UNITS`.
        num_lags: Lags.

    Returns:
        The gradient at each lag by the name of the network: see `compared_names`.
    """
    return {name: untrained_flow(config, cell, bias, num_lags) for name, (cell, bias) in COMPARED.items()}


def compared_names(config: ModelConfig) -> dict[str, str]:
    """The names of the untrained networks in pictures, as in `words.json`.

    Example:
        >>> compared_names(ModelConfig(9, cell="rnn", activation="relu"))["rnn"]
        'RNN with relu'
    """
    return {
        "lstm": "LSTM with forget bias 1",
        "lstm_bias_0": "LSTM with forget bias 0",
        "gru": "GRU",
        "rnn": "RNN with relu" if config.cell == "rnn" and config.activation == "relu" else "RNN",
    }


def untrained_flow(config: ModelConfig, cell: str, forget_bias: float | None, num_lags: int = NUM_LAGS) -> Flow:
    """Measures the gradient in one layer of a cell before any training, with inputs of standard size.

    The inputs are standard normal, about as large as those that layers get once they have learned. (The embeddings of
    an untrained network are smaller, and for them tanh is nearly the identity.)

    Args:
        config: Shape of a network; its width is used, up to `COMPARED_UNITS`, and if it is of that kind, its variant of
            the cell.
        cell: Kind of the layer.
        forget_bias: Initial bias of the forget gates of an LSTM; None for a cell without them.
        num_lags: Lags.

    Returns:
        The gradient at each lag.
    """
    units = min(config.hidden_units, COMPARED_UNITS)
    small = ModelConfig(64, embedding_dim=units, hidden_units=units, num_layers=1, cell=cell)
    if cell == config.cell:
        small = replace(small, activation=config.activation, reset_after=config.reset_after)
    rng = np.random.default_rng(0)
    weights = initial_weights(small, rng, np.float64)
    if forget_bias is not None:
        weights[f"{cell}_0/bias"][units : 2 * units] = forget_bias  # of i, f, g, o
    reader = Reader(small, weights | {TABLE: rng.normal(size=weights[TABLE].shape)})
    ids = rng.integers(0, small.vocab_size, [4, num_lags]).astype(np.int32)
    targets = rng.integers(0, small.vocab_size, 4)
    state = [tuple(array.astype(np.float64) for array in layer) for layer in reader.model.initial_state(4)]
    return Flow(_mean_norms(input_gradient(reader, ids, targets, state)))


def _mean_norms(gradient: np.ndarray) -> list[float]:
    """Geometric mean over rows of the norm at each lag, from a gradient [B, T, E]."""
    norms = np.maximum(np.linalg.norm(gradient.astype(np.float64), axis=-1), MIN_NORM)
    return np.exp(np.log(norms).mean(axis=0))[::-1].tolist()

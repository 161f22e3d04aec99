"""The recurrent cells in plain NumPy: the equations, one step forward and one step backward.

At each time step a cell computes a new state from the input x [B, in] and the state of the step before. The first array
of a state is always h [B, H], the output of the cell: the layer above reads it, and so does the cell at the next step.
Below, ' marks the step before, * multiplies element by element, W is `kernel` [in, blocks * H], U is
`recurrent_kernel` [H, blocks * H] and b is `bias`. The blocks, of the gates and the candidate, are in the order of
Keras.

**rnn**, the plain recurrent network (Elman 1990). The state is the output, and is replaced at every step:

    h = tanh(x @ W + h' @ U + b)         or relu in place of tanh (Le, Jaitly & Hinton 2015, who start U at the
                                         identity; here it is orthogonal)

**lstm**, long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000).
The state is a pair (h, c) of output and cell state; c is the long-term memory.

    z = x @ W + h' @ U + b               [B, 4H]: four values i, f, g, o for every unit
    i = sigmoid(z_i)                     input gate: how much to write
    f = sigmoid(z_f)                     forget gate: how much to keep
    g = tanh(z_g)                        candidate: what to write (Keras calls it c)
    o = sigmoid(z_o)                     output gate: how much to show
    c = f * c' + i * g                   cell state: part of the old, plus part of the new
    h = o * tanh(c)                      output

**peephole**, an LSTM whose gates also read the cell state of their own unit, with weights p `peepholes` [3, H] (Gers,
Schraudolph & Schmidhuber 2002). The output gate reads the new cell state:

    i = sigmoid(z_i + p_i * c')          f = sigmoid(z_f + p_f * c')         o = sigmoid(z_o + p_o * c)

**gru**, the gated recurrent unit (Cho et al. 2014): two gates; h is both memory and output.

    z = sigmoid(x @ W_z + h' @ U_z + b_z)             update gate: how much to keep
    r = sigmoid(x @ W_r + h' @ U_r + b_r)             reset gate: how much of h' the candidate reads
    g = tanh(x @ W_g + (r * h') @ U_g + b_g)          candidate
    h = z * h' + (1 - z) * g

This is the published form. In cuDNN, PyTorch and, by default, Keras the reset gate is applied after the product with U,
and there is a second bias b2 (`bias` is then [2, 3H]). z, r and g all have it, but only g needs it:

    g = tanh(x @ W_g + b_g + r * (h' @ U_g + b2_g))

The setting `reset_after` of `ModelConfig` chooses the form: by default it is True, the second one.

**mogrifier**, an LSTM in which x and h' first scale each other for some rounds (Melis, Kocisky & Blunsom 2020): x in
odd rounds and h' in even ones, with weights Q_1, Q_3, ... [H, in] and Q_2, Q_4, ... [in, H]:

    x = 2 * sigmoid(h' @ Q_1) * x        h' = 2 * sigmoid(x @ Q_2) * h'      x = 2 * sigmoid(h' @ Q_3) * x ...

The weight `round_k` is Q_k. With a low rank, Q_k is the product of `round_k_left` and `round_k_right`.

**Why gates.** To learn from the distant past, the gradient of the loss has to travel back many steps. In a plain
recurrent network each step multiplies it by U and by the slope of tanh, so over many steps it vanishes or explodes
(Pascanu, Mikolov & Bengio 2013). The cell state of an LSTM changes by addition, so along it

    dc' = f * dc

without a matrix and without the slope of a squashing function. A unit whose forget gate stays at 0.99 passes on 60 % of
the gradient over 50 steps. A GRU has a similar path, dh' = z * dh. The paths through U remain and can still explode, so
gradients are clipped.

A gate helps only where it is open. The bias of the forget gate starts at 1 (Jozefowicz, Zaremba & Sutskever 2015):
sigmoid(1) = 0.73 keeps 0.2 % over 20 steps, against a millionth with a bias of 0. With a bias of 0, the gradient of an
untrained LSTM fades as fast as that of an RNN, and so does that of a GRU, whose update gate starts with a bias of 0:
see `textgen.insight.gradients`. But training can open a gate, for one unit and where the input calls for it; U is the
same at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from textgen.model.config import ModelConfig, round_names

Array = np.ndarray
CellWeights = Mapping[str, Array]  # "kernel" -> array
CellGradients = dict[str, Array]  # the same names
CellState = tuple[Array, ...]  # (h,) or (h, c), each [B, H]
Record = Any  # what the backward step needs

# Below, `dy` always means: the gradient of the loss with respect to `y`. It has the shape of `y`. The slopes are
# written with the values themselves: s * (1 - s) is that of s = sigmoid(x), 1 - t ** 2 that of t = tanh(x).


class Cell(NamedTuple):
    """A kind of cell.

    Attributes:
        name: Prefix of the names of its layers, such as "lstm".
        step: One step forward.
        step_backward: One step backward.
        state_size: Number of arrays in its state.
        gates: Returns the gates of a step by name, each [B, H] with values from 0 to 1.
    """

    name: str
    step: Callable[[Array, CellState, CellWeights], tuple[CellState, Record]]
    step_backward: Callable[[CellState, Record, CellWeights], tuple[Array, CellState, CellGradients]]
    state_size: int = 1
    gates: Callable[[Record], dict[str, Array]] = lambda record: {}

    @property
    def letters(self) -> str:
        """The letters of the arrays in its state: "h", or "hc"."""
        return "hc"[: self.state_size]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), in a form that does not overflow.

    Example:
        >>> float(sigmoid(np.array(0.0)))
        0.5
    """
    return 0.5 * (1 + np.tanh(0.5 * x))


def affine_backward(dy: Array, x: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """The backward pass of y = x @ kernel + bias.

    Args:
        dy: Gradient of y, [..., out].
        x: Input, [..., in].
        kernel: Matrix, [in, out].

    Returns:
        The gradients of x, kernel and bias.
    """
    x_rows, dy_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])  # [B * T, in], [B * T, out]
    return dy @ kernel.T, x_rows.T @ dy_rows, dy_rows.sum(axis=0)


# === rnn ===


def rnn_step(x: Array, state: CellState, w: CellWeights, *, activation: str = "tanh") -> tuple[CellState, Record]:
    """One step forward: x [B, in], state (h,) -> new state, record for the backward step."""
    (h,) = state
    z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]  # [B, H]
    new_h = np.tanh(z) if activation == "tanh" else np.maximum(z, 0)
    return (new_h,), (x, h, new_h)


def rnn_step_backward(
    dstate: CellState, record: Record, w: CellWeights, *, activation: str = "tanh"
) -> tuple[Array, CellState, CellGradients]:
    """One step backward: gradient of the new state -> gradients of x, of the old state and of the weights."""
    (dh,), (x, h, new_h) = dstate, record
    dz = dh * (1 - new_h**2) if activation == "tanh" else dh * (new_h > 0)
    dx, dkernel, dbias = affine_backward(dz, x, w["kernel"])
    dh, drecurrent, _ = affine_backward(dz, h, w["recurrent_kernel"])
    return dx, (dh,), {"kernel": dkernel, "recurrent_kernel": drecurrent, "bias": dbias}


# === lstm, and with peepholes ===


class LSTMRecord(NamedTuple):
    """The record of a step of an LSTM, for the backward step."""

    x: Array  # [B, in]
    h: Array  # [B, H], before the step
    c: Array  # [B, H], before the step
    i: Array  # [B, H], like those below
    f: Array
    g: Array
    o: Array
    new_c: Array


def lstm_step(x: Array, state: CellState, w: CellWeights) -> tuple[CellState, LSTMRecord]:
    """One step forward: x [B, in], state (h, c) -> new state, record for the backward step."""
    h, c = state
    p = w.get("peepholes", np.zeros([3, 1], x.dtype))  # weights from the cell state to i, f and o
    z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"]  # [B, 4H]
    z_i, z_f, z_g, z_o = np.split(z, 4, axis=-1)  # each [B, H]
    i, f, g = sigmoid(z_i + p[0] * c), sigmoid(z_f + p[1] * c), np.tanh(z_g)
    new_c = f * c + i * g
    o = sigmoid(z_o + p[2] * new_c)
    return (o * np.tanh(new_c), new_c), LSTMRecord(x, h, c, i, f, g, o, new_c)


def lstm_step_backward(dstate: CellState, record: LSTMRecord, w: CellWeights) -> tuple[Array, CellState, CellGradients]:
    """One step backward: gradients of the new (h, c) -> gradients of x, of the old (h, c) and of the weights."""
    (dh, dc), (x, h, c, i, f, g, o, new_c) = dstate, record
    p = w.get("peepholes", np.zeros([3, 1], x.dtype))
    tanh_c = np.tanh(new_c)
    dz_o = dh * tanh_c * o * (1 - o)
    dc = dc + dh * o * (1 - tanh_c**2) + dz_o * p[2]  # from the next step, and through the output
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)  # [B, 4H]
    dx, dkernel, dbias = affine_backward(dz, x, w["kernel"])
    dh, drecurrent, _ = affine_backward(dz, h, w["recurrent_kernel"])
    gradients = {"kernel": dkernel, "recurrent_kernel": drecurrent, "bias": dbias}
    if "peepholes" in w:
        gradients["peepholes"] = np.stack([(dz_i * c).sum(0), (dz_f * c).sum(0), (dz_o * new_c).sum(0)])
    return dx, (dh, dc * f + dz_i * p[0] + dz_f * p[1]), gradients


def lstm_gates(record: LSTMRecord) -> dict[str, Array]:
    """The gates of a step; the candidate is not one."""
    return {"i": record.i, "f": record.f, "o": record.o}


# === gru ===


class GRURecord(NamedTuple):
    """The record of a step of a GRU, for the backward step."""

    x: Array  # [B, in]
    h: Array  # [B, H], before the step
    z: Array  # [B, H], like those below
    r: Array
    g: Array
    seen: Array  # what the candidate read of the old h


def gru_step(x: Array, state: CellState, w: CellWeights) -> tuple[CellState, GRURecord]:
    """One step forward: x [B, in], state (h,) -> new state, record. If b is [2, 3H], r acts after the product."""
    (h,) = state
    U, H = w["recurrent_kernel"], h.shape[-1]
    bias, recurrent_bias = w["bias"] if w["bias"].ndim == 2 else (w["bias"], np.zeros(3 * H, x.dtype))
    from_x = x @ w["kernel"] + bias  # [B, 3H]
    gates = sigmoid(from_x[:, : 2 * H] + h @ U[:, : 2 * H] + recurrent_bias[: 2 * H])
    z, r = np.split(gates, 2, axis=-1)  # each [B, H]
    if w["bias"].ndim == 2:
        seen = h @ U[:, 2 * H :] + recurrent_bias[2 * H :]
        g = np.tanh(from_x[:, 2 * H :] + r * seen)
    else:
        seen = r * h
        g = np.tanh(from_x[:, 2 * H :] + seen @ U[:, 2 * H :])
    return (z * h + (1 - z) * g,), GRURecord(x, h, z, r, g, seen)


def gru_step_backward(dstate: CellState, record: GRURecord, w: CellWeights) -> tuple[Array, CellState, CellGradients]:
    """One step backward: gradient of the new state -> gradients of x, of the old state and of the weights."""
    (dh,), (x, h, z, r, g, seen) = dstate, record
    U, H = w["recurrent_kernel"], h.shape[-1]
    da_z = dh * (h - g) * z * (1 - z)  # `a` is the argument of sigmoid or tanh
    da_g = dh * (1 - z) * (1 - g**2)
    if w["bias"].ndim == 2:
        da_r = da_g * seen * r * (1 - r)
        from_h = np.concatenate([da_z, da_r, da_g * r], axis=-1)  # [B, 3H]
        through_u, drecurrent, drecurrent_bias = affine_backward(from_h, h, U)
    else:
        dseen, drecurrent_g, _ = affine_backward(da_g, seen, U[:, 2 * H :])
        da_r = dseen * h * r * (1 - r)
        gates = np.concatenate([da_z, da_r], axis=-1)  # [B, 2H]
        through_u, drecurrent_gates, _ = affine_backward(gates, h, U[:, : 2 * H])
        through_u = through_u + dseen * r
        drecurrent = np.concatenate([drecurrent_gates, drecurrent_g], axis=-1)
    dx, dkernel, dbias = affine_backward(np.concatenate([da_z, da_r, da_g], axis=-1), x, w["kernel"])
    if w["bias"].ndim == 2:
        dbias = np.stack([dbias, drecurrent_bias])
    return dx, (dh * z + through_u,), {"kernel": dkernel, "recurrent_kernel": drecurrent, "bias": dbias}


def gru_gates(record: GRURecord) -> dict[str, Array]:
    """The gates of a step; the candidate is not one."""
    return {"z": record.z, "r": record.r}


# === mogrifier ===


def _rounds(w: CellWeights) -> list[list[tuple[str, Array]]]:
    """Names and factors of Q_1, Q_2, ...: one each, or two of low rank."""
    rounds: list[list[tuple[str, Array]]] = []
    while names := round_names(len(rounds) + 1, w):
        rounds.append([(name, w[name]) for name in names])
    return rounds


def mogrifier_step(x: Array, state: CellState, w: CellWeights) -> tuple[CellState, Record]:
    """One step forward: the rounds, then a step of an LSTM."""
    h, c = state
    rounds: list[tuple[Array, Array, Array]] = []  # source of the gate, gate, what it scales
    for number, factors in enumerate(_rounds(w), start=1):
        source, target = (h, x) if number % 2 else (x, h)
        a = source
        for _, factor in factors:
            a = a @ factor
        gate = sigmoid(a)
        rounds.append((source, gate, target))
        x, h = (2 * gate * target, h) if number % 2 else (x, 2 * gate * target)
    new_state, record = lstm_step(x, (h, c), w)
    return new_state, (rounds, record)


def mogrifier_step_backward(
    dstate: CellState, record: Record, w: CellWeights
) -> tuple[Array, CellState, CellGradients]:
    """One step backward: gradients of the new (h, c) -> gradients of x, of the old (h, c) and of the weights."""
    rounds, of_lstm = record
    dx, (dh, dc), gradients = lstm_step_backward(dstate, of_lstm, w)
    for number, factors in reversed(list(enumerate(_rounds(w), start=1))):
        source, gate, target = rounds[number - 1]
        dtarget, dsource = (dx, dh) if number % 2 else (dh, dx)
        da = dtarget * 2 * target * gate * (1 - gate)
        for position, (name, factor) in reversed(list(enumerate(factors))):
            before = source if position == 0 else source @ factors[0][1]
            da, gradients[name], _ = affine_backward(da, before, factor)
        dtarget, dsource = dtarget * 2 * gate, dsource + da
        dx, dh = (dtarget, dsource) if number % 2 else (dsource, dtarget)
    return dx, (dh, dc), gradients


def mogrifier_gates(record: Record) -> dict[str, Array]:
    """The gates of the LSTM after the rounds."""
    return lstm_gates(record[1])


# === A layer: all steps of a cell ===

LSTM = Cell("lstm", lstm_step, lstm_step_backward, 2, lstm_gates)


def cell_of(config: ModelConfig) -> Cell:
    """The cell that a configuration names."""
    cells = {
        "lstm": LSTM,
        "gru": Cell("gru", gru_step, gru_step_backward, 1, gru_gates),
        "rnn": Cell(
            "rnn",
            partial(rnn_step, activation=config.activation),
            partial(rnn_step_backward, activation=config.activation),
        ),
        "peephole": Cell("peephole", lstm_step, lstm_step_backward, 2, lstm_gates),
        "mogrifier": Cell("mogrifier", mogrifier_step, mogrifier_step_backward, 2, mogrifier_gates),
    }
    return cells[config.cell]


def layer_forward(
    cell: Cell, x: Array, state: CellState, weights: CellWeights
) -> tuple[Array, CellState, list[Record]]:
    """Reads a window from left to right.

    Args:
        cell: Kind of the cell.
        x: Inputs, [B, T, in].
        state: State before the first step.
        weights: Weights of the layer.

    Returns:
        The outputs h [B, T, H], the state after the last step, and the records of all steps.
    """
    hs, records = [], []
    for t in range(x.shape[1]):
        state, record = cell.step(x[:, t], state, weights)
        hs.append(state[0])
        records.append(record)
    return np.stack(hs, axis=1), state, records


def steps_backward(
    cell: Cell, dhs: Array, dstate: CellState, records: Sequence[Record], weights: CellWeights
) -> Iterator[tuple[Array, CellState, CellGradients]]:
    """Goes through a window from right to left, one step at a time.

    Args:
        cell: Kind of the layer.
        dhs: Gradient of the outputs of all steps, [B, T, H].
        dstate: Gradient of the state after the last step.
        records: What the steps forward have recorded.
        weights: Weights of the layer.

    Yields:
        The gradients of x [B, in] of a step, of the state before it, and of the weights in this step alone.
    """
    for t in reversed(range(len(records))):
        dh, *others = dstate
        dx, dstate, of_step = cell.step_backward((dhs[:, t] + dh, *others), records[t], weights)
        yield dx, dstate, of_step


def layer_backward(
    cell: Cell, dhs: Array, dstate: CellState, records: Sequence[Record], weights: CellWeights
) -> tuple[Array, CellState, CellGradients]:
    """Goes through a window from right to left: backpropagation through time.

    Every step uses the same weights, so their gradient is the sum over steps.

    Args:
        cell: Kind of the cell.
        dhs: Gradient of the outputs from the layer above, [B, T, H].
        dstate: Gradient of the state after the last step.
        records: Records of `layer_forward`.
        weights: Weights of the layer.

    Returns:
        The gradients of x [B, T, in], of the state before the first step, and of the weights.
    """
    dxs, gradients = [], {name: np.zeros_like(weight) for name, weight in weights.items()}
    for dx, before, of_step in steps_backward(cell, dhs, dstate, records, weights):
        dxs.append(dx)
        dstate = before
        for name, gradient in of_step.items():
            gradients[name] += gradient
    return np.stack(dxs[::-1], axis=1), dstate, gradients

"""Cells whose values are watched, or held at a number: what does a network do if this cell never changes?

A place in a network is written as in the names of its weights, counted from 0:

    L1/89        the memory of unit 89 of layer 1 (`lstm_1`): its cell state c, or h in a cell without one
    L1/89.f      its forget gate; the other values are i, g, o, c and h, or z, r, g and h of a gru, or h of an rnn

and `L1/89=3.8` holds that value at 3.8 at every step. The steps here compute the equations of
`textgen.model.reference.cells`, give each value its name, and let each pass through a function that may change it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from textgen.arguments import check_is_text
from textgen.errors import ConfigError
from textgen.model.config import CELLS, ModelConfig, round_names
from textgen.model.reference.cells import Array, CellState, CellWeights, sigmoid
from textgen.wording import plain, short_repr

VALUES = {  # values of a step, in the order in which they are computed
    "lstm": ("i", "f", "g", "c", "o", "h"),
    "peephole": ("i", "f", "g", "c", "o", "h"),
    "mogrifier": ("i", "f", "g", "c", "o", "h"),
    "gru": ("z", "r", "g", "h"),
    "rnn": ("h",),
}
GATE_VALUES = {"i", "f", "o", "z", "r"}  # gates, whose values are from 0 to 1
# a gate below or above is nearly shut or wide open; the slope of the sigmoid there is below 0.09, in the middle 0.25
CLOSED, OPEN = 0.1, 0.9
FORGET = {"lstm": "f", "peephole": "f", "mogrifier": "f", "gru": "z"}  # the gate that keeps the memory
MAX_VALUE = 1e3  # largest value that is held; the cell state of a trained network seldom reaches 100
PLACE = re.compile(r"L(\d{1,6})/(\d{1,6})(?:\.([a-z]+))?")

Values = dict[str, Array]  # "f" -> [B, H]
ValueHold = Callable[[str, Array], Array]  # the name of a value [B, H] -> what takes its place
WatchedStep = Callable[[Array, CellState, CellWeights, ValueHold], tuple[CellState, Values]]


class Place(NamedTuple):
    """A value of one unit.

    Attributes:
        layer: Number of the layer, from 0.
        unit: Number of the unit, from 0.
        value: Name of the value, such as "c".
    """

    layer: int
    unit: int
    value: str

    def __str__(self) -> str:
        return f"L{self.layer}/{self.unit}.{self.value}"


class Clamp(NamedTuple):
    """A value of one unit that is held at a number."""

    place: Place
    number: float

    def __str__(self) -> str:
        return f"{self.place}={self.number!r}"


def memory_of(config: ModelConfig) -> str:
    """The name of the value that carries a cell's memory: "c", or "h" in cells without a cell state."""
    return "c" if "c" in VALUES[config.cell] else "h"


def parse_place(text: str, config: ModelConfig) -> Place:
    """Reads a place such as L1/89 or L1/89.f.

    Raises:
        ConfigError: It is not written so, or the network has no such cell or value.

    Example:
        >>> str(parse_place("L1/89", ModelConfig(vocab_size=100)))
        'L1/89.c'
    """
    match = PLACE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"A cell is written as in L1/89, or L1/89.f for its gate. Received: {short_repr(text)}.")
    layer, unit, value = int(match[1]), int(match[2]), match[3] or memory_of(config)
    if layer >= config.num_layers or unit >= config.hidden_units:
        last = f"L{config.num_layers - 1}/{config.hidden_units - 1}"
        raise ConfigError(f"There is no cell {text.strip()}: this model has the cells L0/0 to {last}.")
    if value not in VALUES[config.cell]:
        raise ConfigError(
            f"There is no value {value!r} in {text.strip()}: a cell of kind {CELLS[config.cell]} has "
            f"{', '.join(sorted(VALUES[config.cell]))}."
        )
    return Place(layer, unit, value)


def parse_clamp(text: str, config: ModelConfig) -> Clamp:
    """Reads a clamp such as L1/89=3.8.

    Raises:
        ConfigError: It is not text written so, the network has no such cell or value, or a gate would leave 0 to 1.

    Example:
        >>> parse_clamp("L0/3.f=1", ModelConfig(vocab_size=100)).number
        1.0
    """
    check_is_text("clamp", text)
    place_text, _, number_text = text.partition("=")
    try:
        number = float(number_text)
    except ValueError:
        number = math.nan
    if not abs(number) <= MAX_VALUE:
        raise ConfigError(
            f"A clamp must be CELL=NUMBER, as in L1/89=3.8, the number from -{plain(MAX_VALUE)} to {plain(MAX_VALUE)}. "
            f"Received: {short_repr(text)}."
        )
    place = parse_place(place_text, config)
    if place.value in GATE_VALUES and not 0 <= number <= 1:
        raise ConfigError(f"A clamp must set a gate to a number from 0 to 1. Received: {short_repr(text)}.")
    return Clamp(place, number)


def parse_clamps(texts: Sequence[str], config: ModelConfig) -> tuple[Clamp, ...]:
    """Reads clamps, in one order however they are given; of two for the same value the later one counts.

    Raises:
        ConfigError: One is wrong: see `parse_clamp`.

    Example:
        >>> [str(clamp) for clamp in parse_clamps(["L1/3=2", "L0/3.f=1", "L1/3=1"], ModelConfig(vocab_size=100))]
        ['L0/3.f=1.0', 'L1/3.c=1.0']
    """
    return tuple(Clamp(*held) for held in sorted(dict(parse_clamp(text, config) for text in texts).items()))


# === Steps ===


def keep(name: str, value: Array) -> Array:
    """Changes nothing."""
    return value


def holding(rows: Sequence[Sequence[Clamp]], layer: int) -> ValueHold:
    """The function that holds values of a layer.

    Args:
        rows: The clamps of each row of a batch; one row of clamps holds for all rows of a batch of any size.
        layer: Number of the layer.
    """
    places: dict[str, list[tuple[int, int, float]]] = {}
    for row, clamps in enumerate(rows):
        for (where, unit, value), number in clamps:
            if where == layer:
                places.setdefault(value, []).append((row, unit, number))
    if not places:
        return keep
    everywhere = len(rows) == 1

    def hold(name: str, value: Array) -> Array:
        if name not in places:
            return value
        row, unit, number = map(list, zip(*places[name], strict=True))
        held = value.copy()
        held[slice(None) if everywhere else row, unit] = number
        return held

    return hold


def watched_step(config: ModelConfig) -> WatchedStep:
    """One step of a cell that names its values.

    Returns:
        A function of `from_x`, the state, the weights of the layer and a `ValueHold`. It returns the new state and the
        values. `from_x` is what `input_part` makes of the input.
    """
    steps: dict[str, WatchedStep] = {
        "lstm": _lstm,
        "peephole": _lstm,
        "mogrifier": _mogrifier,
        "gru": _gru,
        "rnn": partial(_rnn, activation=config.activation),
    }
    return steps[config.cell]


def input_part(config: ModelConfig, x: Array, w: CellWeights) -> Array:
    """The part of a step that depends on the input alone: x @ W + b [..., blocks * H], for all steps in one product.

    A mogrifier has none, since h first scales its input: x itself is returned.
    """
    if config.cell == "mogrifier":
        return x
    bias = w["bias"] if w["bias"].ndim == 1 else w["bias"][0]
    return x @ w["kernel"] + bias


def clamped_step(
    config: ModelConfig, weights: Mapping[str, Array], clamps: Sequence[Clamp], layer: int
) -> Callable[[Array, CellState], CellState]:
    """Returns a step of a layer, x [B, in] and state -> new state, in which values are held.

    Args:
        config: Shape of the network.
        weights: Weights of the layer.
        clamps: The values that are held, of all layers.
        layer: Number of the layer.
    """
    step, hold = watched_step(config), holding([clamps], layer)
    return lambda x, state: step(input_part(config, x, weights), state, weights, hold)[0]


def _lstm(from_x: Array, state: CellState, w: CellWeights, hold: ValueHold) -> tuple[CellState, Values]:
    h, c = state
    p = w.get("peepholes", np.zeros([3, 1], from_x.dtype))  # weights from the cell state to i, f and o
    z, H = from_x + h @ w["recurrent_kernel"], h.shape[-1]
    z_i, z_f, z_g, z_o = (z[:, start : start + H] for start in range(0, 4 * H, H))  # np.split takes longer than a gate
    i, f, g = hold("i", sigmoid(z_i + p[0] * c)), hold("f", sigmoid(z_f + p[1] * c)), hold("g", np.tanh(z_g))
    c = hold("c", f * c + i * g)
    o = hold("o", sigmoid(z_o + p[2] * c))
    h = hold("h", o * np.tanh(c))
    return (h, c), {"i": i, "f": f, "g": g, "c": c, "o": o, "h": h}


def _gru(from_x: Array, state: CellState, w: CellWeights, hold: ValueHold) -> tuple[CellState, Values]:
    (h,) = state
    U, H = w["recurrent_kernel"], h.shape[-1]
    recurrent_bias = w["bias"][1] if w["bias"].ndim == 2 else np.zeros(3 * H, from_x.dtype)
    gates = sigmoid(from_x[:, : 2 * H] + h @ U[:, : 2 * H] + recurrent_bias[: 2 * H])
    z, r = hold("z", gates[:, :H]), hold("r", gates[:, H:])
    if w["bias"].ndim == 2:
        g = np.tanh(from_x[:, 2 * H :] + r * (h @ U[:, 2 * H :] + recurrent_bias[2 * H :]))
    else:
        g = np.tanh(from_x[:, 2 * H :] + (r * h) @ U[:, 2 * H :])
    g = hold("g", g)
    h = hold("h", z * h + (1 - z) * g)
    return (h,), {"z": z, "r": r, "g": g, "h": h}


def _rnn(
    from_x: Array, state: CellState, w: CellWeights, hold: ValueHold, *, activation: str
) -> tuple[CellState, Values]:
    z = from_x + state[0] @ w["recurrent_kernel"]
    h = hold("h", np.tanh(z) if activation == "tanh" else np.maximum(z, 0))
    return (h,), {"h": h}


def _mogrifier(x: Array, state: CellState, w: CellWeights, hold: ValueHold) -> tuple[CellState, Values]:
    h, c = state
    number = 1
    while names := round_names(number, w):
        a = h if number % 2 else x
        for name in names:
            a = a @ w[name]
        gate = 2 * sigmoid(a)
        x, h = (gate * x, h) if number % 2 else (x, gate * h)
        number += 1
    return _lstm(x @ w["kernel"] + w["bias"], (h, c), w, hold)

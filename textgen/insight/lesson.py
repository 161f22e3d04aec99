"""The numbers of the lesson: from the equations of `textgen.model.reference` to one's own model.

The lesson takes one cell and one step of the model and computes them from the weights: what the input adds to each
gate, what the output of the step before adds, the gate, the new memory. Then it follows the gates that keep the memory
backward: their product is the fraction of a gradient that passes along the memory alone, without any matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from textgen.insight.inspection import Inspection, cell_names
from textgen.model.clamping import FORGET
from textgen.model.config import KERNEL_BLOCKS, TABLE
from textgen.model.reference.cells import Array, CellWeights, mogrifier_step
from textgen.model.reference.network import of_layer
from textgen.model.reference.norm import norm_forward

GATE_NAMES = {  # in the order of their blocks of columns in the kernel
    "lstm": "ifgo",
    "peephole": "ifgo",
    "mogrifier": "ifgo",
    "gru": "zrg",
    "rnn": "h",
}
MIN_NORM_FRACTION = 1e-12  # minimum fraction of the largest norm that the charts show
NUM_KEPT = 60  # steps over which the forget gates are multiplied


def lesson(inspection: Inspection) -> dict[str, Any]:
    """The cell and the step that the lesson shows, and all numbers that it needs."""
    layer, unit = chosen_cell(inspection)
    t = chosen_step(inspection, layer, unit)
    values = inspection.reading.layers[layer]
    memory = values[inspection.reader.memory][0, :, unit]
    return {
        "layer": layer,
        "unit": unit,
        "follows": cell_names(inspection).get((layer, unit), []),
        "step": t,
        "parts": gate_parts(inspection, layer, unit, t),
        "values": {name: float(array[0, t, unit]) for name, array in values.items()},
        "before": float(memory[t - 1]),
        "h_before": float(values["h"][0, t - 1, unit]),
        "kept": kept_fractions(inspection, layer, unit, t),
        "slope": mean_slope(inspection),
        "decay": {name: decay(flow.norms) for name, flow in _flows(inspection).items()},
    }


def chosen_cell(inspection: Inspection) -> tuple[int, int]:
    """The cell of the lesson: one that was found and keeps long, or else the first of those shown."""
    found = list(cell_names(inspection))
    if inspection.half_lives is None or not found:
        return found[0] if found else inspection.shown[0]
    lives = inspection.half_lives
    return max(found, key=lambda cell: float(lives[cell[0]][cell[1]]))


def chosen_step(inspection: Inspection, layer: int, unit: int) -> int:
    """The step in the second quarter of the text at which the memory of the cell changes most, on a token of text."""
    memory, text = inspection.reading.layers[layer][inspection.reader.memory][0, :, unit], inspection.text
    quarter = slice(len(memory) // 4, len(memory) // 2)
    change = np.abs(memory[1:] - memory[:-1]) * text.is_of_document[1:]  # of step 1, 2, ...
    return quarter.start + int(np.argmax(change[quarter.start - 1 : quarter.stop - 1]))


def gate_parts(inspection: Inspection, layer: int, unit: int, t: int) -> list[dict[str, Any]]:
    """For each gate of a cell the sum before the sigmoid or tanh: x . W, h' . U and the bias, which are its parts.

    In a GRU the second part has a bias of its own, and for the candidate the reset gate. In a mogrifier x and h' are
    those after its rounds.

    Args:
        inspection: What was seen.
        layer: Number of the layer of the cell.
        unit: Number of the cell in its layer.
        t: Number of the step.
    """
    reader, reading = inspection.reader, inspection.reading
    config, own = reader.config, of_layer(reader.weights, f"{reader.config.cell}_{layer}")
    below = reader.weights[TABLE][reading.ids] if layer == 0 else reading.outputs[layer - 1]
    x = below[0, t]
    if norm := of_layer(reader.weights, f"norm_{layer}"):
        x, _ = norm_forward(x, norm["gamma"], norm["beta"])
    values = reading.layers[layer]
    h, reset = values["h"][0, t - 1], values["r"][0, t] if "r" in values else None
    if config.cell == "mogrifier":
        x, h = _after_rounds(x, h, own)
    two_biases = own["bias"].ndim == 2
    bias_x, bias_h = own["bias"] if two_biases else (own["bias"], np.zeros_like(own["bias"]))
    parts = []
    for number in range(KERNEL_BLOCKS[config.cell]):
        column = number * config.hidden_units + unit
        name = GATE_NAMES[config.cell][number]
        of_h = own["recurrent_kernel"][:, column]
        from_h = h @ of_h + bias_h[column]
        if reset is not None and name == "g":
            from_h = reset[unit] * from_h if two_biases else (reset * h) @ of_h
        parts.append(
            {
                "gate": name,
                "from_x": float(x @ own["kernel"][:, column]),
                "from_h": float(from_h),
                "bias": float(bias_x[column]),
            }
        )
        if config.cell == "peephole" and name != "g":
            c = values["c"][0, t if name == "o" else t - 1, unit]
            parts[-1]["from_c"] = float(own["peepholes"]["ifo".index(name), unit] * c)
    return parts


def kept_fractions(inspection: Inspection, layer: int, unit: int, t: int) -> dict[str, list[float]] | None:
    """Products of the forget gates over the last 0, 1, ... steps, t first: how much of dc arrives along the memory.

    Args:
        inspection: What was seen.
        layer: Number of the layer of the cell.
        unit: Number of the cell in its layer.
        t: Number of the step.

    Returns:
        The products for this cell, and the median and the 90 % quantile over the cells of its layer; None for a cell
        without such a gate.
    """
    gate = FORGET.get(inspection.reader.config.cell)
    if gate is None:
        return None
    gates = inspection.reading.layers[layer][gate][0, max(0, t + 1 - NUM_KEPT) : t + 1][::-1]  # [K, H]
    products = np.concatenate([np.ones([1, gates.shape[1]]), np.cumprod(gates.astype(np.float64), axis=0)])
    return {
        "gate": [1.0, *_floats(gates[:, unit])],
        "cell": _floats(products[:, unit]),
        "median": _floats(np.median(products, axis=1)),
        "upper": _floats(np.quantile(products, 0.9, axis=1)),
    }


def mean_slope(inspection: Inspection) -> list[float] | None:
    """Mean slope of the activation in each layer of a plain recurrent network; None for other cells.

    It is 1 - h^2 for tanh, and 1 for relu where h is above 0, else 0.
    """
    config = inspection.reader.config
    if config.cell != "rnn":
        return None
    hs = [values["h"][0] for values in inspection.reading.layers]
    return [float(((h > 0) if config.activation == "relu" else 1 - np.square(h)).mean()) for h in hs]


def decay(norms: list[float]) -> float | None:
    """The factor by which a gradient shrinks at each step: the slope of a line through its logarithms.

    The line ends where less than `MIN_NORM_FRACTION` of the largest norm is left; what follows is rounding. None if it
    has less than two points.

    Example:
        >>> round(decay([1.0, 0.5, 0.25, 0.125]), 6)
        0.5
    """
    is_left = np.array(norms) > MIN_NORM_FRACTION * max(norms)
    peak = int(np.argmax(norms))
    end = peak + int(np.argmin([*is_left[peak:], False]))  # the first lag after the largest norm that has too little
    if end < 2:
        return None
    return float(np.exp(np.polyfit(np.arange(end), np.log(norms[:end]), 1)[0]))


def _after_rounds(x: Array, h: Array, own: CellWeights) -> tuple[Array, Array]:
    """What the gates of a mogrifier read in place of x [in] and h' [H]."""
    _, (_, record) = mogrifier_step(x[None], (h[None], np.zeros_like(h[None])), own)  # the rounds do not read c
    return record.x[0], record.h[0]


def _flows(inspection: Inspection) -> dict[str, Any]:
    return {"model": inspection.flow, **inspection.untrained}


def _floats(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]

"""How a network does inside while it trains: how far its gates are open, how full its memories are, how it moves.

All of it in NumPy, on copies of the weights: nothing here changes or slows the network that trains. Gates and memories
are those that the equations of `textgen.model.reference` give on a little held-out text, read from an empty memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textgen.dataset.token_stream import TokenStream
from textgen.model.config import BACKWARD, ModelConfig
from textgen.model.directions import one_way
from textgen.model.reference import PLAIN, Array, Stack, Weights, initial_state, stack_forward, stack_of

CLOSED, OPEN = 0.1, 0.9  # a gate below or above hardly learns: the slope of the sigmoid is less than 0.09
ROWS, STEPS = 4, 64  # of held-out text that is looked at, at most


@dataclass(frozen=True)
class Diagnosis:
    """The inside of a network at one moment."""

    gates: dict[str, Array]  # "lstm_0/f" -> what the gate was, [T, B, H]
    cell_norms: dict[str, float]  # "lstm_0" -> length of the memory after the text, mean over rows

    @property
    def closed(self) -> dict[str, float]:
        """Share of each gate that is below 0.1."""
        return {name: float(np.mean(values < CLOSED)) for name, values in self.gates.items()}

    @property
    def open(self) -> dict[str, float]:
        """Share of each gate that is above 0.9."""
        return {name: float(np.mean(values > OPEN)) for name, values in self.gates.items()}


def diagnose(weights: Weights, inputs: Array, stack: Stack = PLAIN) -> Diagnosis:
    """Reads inputs int32 [B, T] with `weights`, named as in saved models.

    The gates are i, f and o of an LSTM and its kin, z and r of a GRU; a plain network has none. The memory is c, or
    h in cells without one.
    """
    stack = stack._replace(attention=0)  # it stands above the layers, and changes nothing in them
    state = initial_state(weights, len(inputs), stack)
    _, state, layers, _ = stack_forward(weights, weights["embedding/table"][inputs], state, stack)
    gates, cell_norms = dict[str, Array](), dict[str, float]()
    for number, (records, last) in enumerate(zip(layers, state, strict=True)):
        layer = f"{stack.cell.name}_{number}"
        steps = [stack.cell.gates(record) for record in records]
        gates |= {f"{layer}/{gate}": np.stack([step[gate] for step in steps]) for gate in steps[0]}  # [T, B, H]
        cell_norms[layer] = float(np.linalg.norm(last[-1], axis=-1).mean())
    return Diagnosis(gates, cell_norms)


def diagnose_directions(config: ModelConfig, weights: Weights, inputs: Array) -> Diagnosis:
    """The same for each direction in which a network reads; backward, it reads the inputs from their ends."""
    together = Diagnosis({}, {})
    for direction in config.directions:
        prefix = BACKWARD if direction != config.directions[0] else ""
        _, own = one_way(config, weights, direction)
        one = diagnose(own, inputs[:, ::-1] if direction == "backward" else inputs, stack_of(config))
        together.gates.update({f"{prefix}{name}": values for name, values in one.gates.items()})
        together.cell_norms.update({f"{prefix}{name}": norm for name, norm in one.cell_norms.items()})
    return together


def window(stream: TokenStream, rows: int = ROWS, steps: int = STEPS) -> Array:
    """Stretches of a stream from its beginning to its end: ids int32 [rows, steps], fewer where it is short."""
    steps = min(steps, len(stream))
    starts = np.unique(np.linspace(0, len(stream) - steps, rows).astype(int))
    return np.stack([stream.read(start, start + steps) for start in starts.tolist()])


def norms(weights: Mapping[str, Array]) -> dict[str, float]:
    """Length of each weight."""
    return {name: float(np.linalg.norm(weight)) for name, weight in weights.items()}


def update_ratios(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, float]:
    """Length of each weight's update as a share of the weight's own; weights that were all 0 have none.

    About 0.001 is usual; much more is restless, much less stands still.
    """
    lengths = norms(before)
    updates = norms({name: after[name] - before[name] for name in before})
    return {name: updates[name] / length for name, length in lengths.items() if length}

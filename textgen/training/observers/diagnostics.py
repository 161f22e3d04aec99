"""The inside of a network during training: gates, cell states, sizes of weights and updates.

All of it is computed in NumPy on copies of the weights, so the network in training is neither changed nor slowed down.
Gates and cell states are those of the equations in `textgen.model.reference` on a little held-out text, read from the
initial state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from textgen.dataset.token_stream import TokenStream
from textgen.model.clamping import CLOSED, OPEN
from textgen.model.config import BACKWARD, TABLE, ModelConfig
from textgen.model.directions import one_way
from textgen.model.reference import PLAIN, Array, Stack, Weights, initial_state, stack_forward, stack_of

ROWS, STEPS = 4, 64  # rows of held-out text and tokens of each, at most


@dataclass(frozen=True)
class Diagnosis:
    """Gates and cell states of a network at one moment.

    Attributes:
        gates: Values of each gate, such as "lstm_0/f", [T, B, H].
        cell_norms: Norm of the cell state of each layer, such as "lstm_0", after the text, mean over rows.
    """

    gates: dict[str, Array]
    cell_norms: dict[str, float]

    @property
    def closed(self) -> dict[str, float]:
        """Fraction of each gate's values below 0.1."""
        return {name: float(np.mean(values < CLOSED)) for name, values in self.gates.items()}

    @property
    def open(self) -> dict[str, float]:
        """Fraction of each gate's values above 0.9."""
        return {name: float(np.mean(values > OPEN)) for name, values in self.gates.items()}


def diagnose(weights: Weights, inputs: Array, stack: Stack = PLAIN) -> Diagnosis:
    """Reads a text and records gates and cell states.

    Gates are i, f and o of an LSTM and its variants, z and r of a GRU; a plain recurrent network has none. The cell
    state is c, or h in cells without one.

    Args:
        weights: Weights of one direction, named as in saved models.
        inputs: Token ids, int32 [B, T].
        stack: The cell and the structure of the layers.

    Returns:
        The gates and cell states.
    """
    stack = stack._replace(attention=0)  # it stands above the layers, and changes nothing in them
    state = initial_state(weights, len(inputs), stack)
    _, state, layers, _ = stack_forward(weights, weights[TABLE][inputs], state, stack)
    gates, cell_norms = dict[str, Array](), dict[str, float]()
    for number, (records, last) in enumerate(zip(layers, state, strict=True)):
        layer = f"{stack.cell.name}_{number}"
        steps = [stack.cell.gates(record) for record in records]
        gates |= {f"{layer}/{gate}": np.stack([step[gate] for step in steps]) for gate in steps[0]}  # [T, B, H]
        cell_norms[layer] = float(np.linalg.norm(last[-1], axis=-1).mean())
    return Diagnosis(gates, cell_norms)


def diagnose_directions(config: ModelConfig, weights: Weights, inputs: Array) -> Diagnosis:
    """Records gates and cell states of each direction of a network, as `diagnose` does.

    The backward one reads the inputs from their ends.
    """
    together = Diagnosis({}, {})
    for direction in config.directions:
        prefix = BACKWARD if direction != config.directions[0] else ""
        _, own = one_way(config, weights, direction)
        one = diagnose(own, inputs[:, ::-1] if direction == "backward" else inputs, stack_of(config))
        together.gates.update({f"{prefix}{name}": values for name, values in one.gates.items()})
        together.cell_norms.update({f"{prefix}{name}": norm for name, norm in one.cell_norms.items()})
    return together


def window(stream: TokenStream, rows: int = ROWS, steps: int = STEPS) -> Array:
    """Returns stretches spread evenly over a stream: ids int32 [rows, steps], fewer if the stream is short."""
    steps = min(steps, len(stream))
    starts = np.unique(np.linspace(0, len(stream) - steps, rows).astype(int))
    return np.stack([stream.read(start, start + steps) for start in starts.tolist()])


def norms(weights: Mapping[str, Array]) -> dict[str, float]:
    """Returns the norm of each weight."""
    return {name: float(np.linalg.norm(weight)) for name, weight in weights.items()}


def update_ratios(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, float]:
    """Returns the norm of each weight's update divided by that of the weight; weights that were all 0 are left out.

    About 0.001 is usual; much more means unstable training, much less means that the weight hardly learns.
    """
    lengths = norms(before)
    updates = norms({name: after[name] - before[name] for name in before})
    return {name: updates[name] / length for name, length in lengths.items() if length}

"""The whole network in plain NumPy, to be read and to hold the fast one against: `network` first, then `cells`."""

from textgen.reference.cells import (
    LSTM,
    Array,
    Cell,
    CellState,
    CellWeights,
    affine_backward,
    cell_of,
    layer_backward,
    layer_forward,
    lstm_step,
    lstm_step_backward,
    sigmoid,
)
from textgen.reference.network import (
    PLAIN,
    Stack,
    State,
    Weights,
    backward,
    clip_by_global_norm,
    cross_entropy,
    forward,
    generate,
    initial_state,
    initial_weights,
    loss_and_gradients,
    stack_of,
)

__all__ = [
    "LSTM", "PLAIN", "Array", "Cell", "CellState", "CellWeights", "Stack", "State", "Weights", "affine_backward",
    "backward", "cell_of", "clip_by_global_norm", "cross_entropy", "forward", "generate", "initial_state",
    "initial_weights", "layer_backward", "layer_forward", "loss_and_gradients", "lstm_step", "lstm_step_backward",
    "sigmoid", "stack_of",
]  # fmt: skip

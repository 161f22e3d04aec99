"""The order in which cuDNN takes the weights of a layer, for whatever holds them: TensorFlow, NumPy or PyTorch.

All weights are one array, as the documentation of cudnnGetRNNWeightParams tells: the matrices of the gates from x, each
transposed, then those from h, then the biases from x and from h. The gates are, with the cells of textgen:

    LSTM   i, f, g, o       the same order as in `textgen.model.layers.lstm`
    GRU    r, z, g          h = z * h' + (1 - z) * g with the reset gate after the product; our order is z, r, g
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Part = TypeVar("Part")

GATES = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}  # numbers of our gates in the order of cuDNN


def in_order_of_cudnn(mode: str, parts: Sequence[Sequence[Part]]) -> list[Part]:
    """Orders the weights of a layer; their matrices still have to be transposed.

    Args:
        mode: "lstm" or "gru".
        parts: The gates, in our order, of W, of U, and of the biases from x and from h.

    Returns:
        The gates of all parts in the order of cuDNN.

    Example:
        >>> in_order_of_cudnn("gru", [["W_z", "W_r", "W_g"], ["U_z", "U_r", "U_g"]])
        ['W_r', 'W_z', 'W_g', 'U_r', 'U_z', 'U_g']
    """
    return [gates[number] for gates in parts for number in GATES[mode]]

"""Weights in fewer bytes: the matrices as float16 or as int8, the vectors in float32.

An int8 matrix has a scale for each output, so that a weight is `integer * scale`: for each row of the embedding, which
is a token, and for each column of any other matrix, which is a unit. Scales for the other axis lose more: of a base of
8 M parameters the root mean square error was 0.7 % of the weights' standard deviation in the embedding and 0.8 % in the
other matrices, against 1.0 % and 0.9 % with scales for the other axis, and 2.2 % and 1.2 to 2.7 % with one scale for a
matrix. The largest magnitude of a row or column becomes 127 (symmetric, without an offset).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from textgen.errors import SavedModelError
from textgen.model.config import SCALE, TABLE, VECTORS
from textgen.saved_model.layout import FLOAT16, FLOAT32, INT8

LEVELS = 127  # largest magnitude of an integer
MAX_SCALE = np.finfo(np.float32).max / 128  # 128 is the largest magnitude that a file can hold
CODES = {FLOAT32: "F32", FLOAT16: "F16", INT8: "I8"}  # names of the types in safetensors

Stored = dict[str, tuple[str, tuple[int, ...]]]


def is_matrix(name: str) -> bool:
    """Checks whether the weight of this name is stored in fewer bytes.

    Example:
        >>> is_matrix("lstm_0/kernel"), is_matrix("lstm_0/bias")
        (True, False)
    """
    return name.rpartition("/")[2] not in VECTORS


def stored_arrays(shapes: Mapping[str, tuple[int, ...]], precision: str) -> Stored:
    """Returns which arrays a file of weights holds.

    Args:
        shapes: Shape of each weight, by name.
        precision: One of `PRECISIONS`.

    Returns:
        Data type (as safetensors names it) and shape of each array, by name.
    """
    found: Stored = {}
    for name, shape in shapes.items():
        found[name] = (CODES[precision if is_matrix(name) else FLOAT32], shape)
        if precision == INT8 and is_matrix(name):
            found[name + SCALE] = (CODES[FLOAT32], (shape[_outputs(name)],))
    return found


def compressed(weights: Mapping[str, np.ndarray], precision: str) -> dict[str, np.ndarray]:
    """Returns the arrays that a file of weights holds; see `stored_arrays`.

    Args:
        weights: Finite weights by name, float32.
        precision: One of `PRECISIONS`.

    Raises:
        SavedModelError: A weight is too large for the precision.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, array in weights.items():
        if not is_matrix(name) or precision == FLOAT32:
            arrays[name] = array
        elif precision == FLOAT16:
            arrays[name] = _as_float16(name, array)
        else:
            arrays[name], arrays[name + SCALE] = _as_int8(name, array)
    return arrays


def restored(arrays: Mapping[str, np.ndarray], precision: str) -> dict[str, np.ndarray]:
    """Returns the weights in float32, from the arrays of a file.

    Args:
        arrays: The arrays that `compressed` returns. Matrices are in C order.
        precision: The precision that they were stored with.

    Returns:
        The weights by name. Those from int8 matrices are finite; with scales for columns they are in Fortran order,
        which a network in NumPy arranges for writing in an eighth of the time.

    Raises:
        ValueError: A scale is not positive, or too large; the message names it.
    """
    weights: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if precision == INT8 and name.endswith(SCALE):
            if not ((array > 0) & (array < MAX_SCALE)).all():
                raise ValueError(f"{name} holds scales that are not positive, or too large")
        elif precision == INT8 and is_matrix(name):
            weights[name] = _as_float32(array, arrays[name + SCALE], _outputs(name))
        else:
            weights[name] = array.astype(np.float32, copy=False)
    return weights


def _outputs(name: str) -> int:
    """Returns the axis of a matrix that has a scale for each index."""
    return 0 if name == TABLE else 1


def _as_float32(integers: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """A matrix from its integers and the scale of each index of `axis`."""
    rows = (integers.T if axis else integers).astype(np.float32, order="C")
    with np.errstate(over="ignore", invalid="ignore"):  # scales that are out of range are refused by name
        rows *= scale[:, None]
    return rows.T if axis else rows


def _as_float16(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise SavedModelError(
            f"The weights {name} are too large for float16, whose largest number is 65504: choose int8."
        )
    return half


def _as_int8(name: str, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a matrix to integers. Returns them and the scale of each index of `_outputs(name)`."""
    axis = _outputs(name)
    largest = np.abs(array).max(axis=1 - axis).astype(np.float32)
    scale = np.maximum(largest / np.float32(LEVELS), np.finfo(np.float32).tiny)  # positive for zeros, too
    if (scale >= MAX_SCALE).any():
        raise SavedModelError(
            f"The weights {name} are too large for int8: the largest is close to the largest number of float32. Keep "
            "float32."
        )
    integers = np.rint(array / np.expand_dims(scale, 1 - axis))
    return np.clip(integers, -LEVELS, LEVELS).astype(np.int8), scale

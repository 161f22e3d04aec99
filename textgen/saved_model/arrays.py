"""Reading and writing weights in safetensors files, with checks before anything is loaded."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from textgen.errors import SavedModelError
from textgen.saved_model.layout import FLOAT32, INT8
from textgen.saved_model.precision import compressed, restored, stored_arrays
from textgen.storage.manifests import COPY_AGAIN
from textgen.wording import listed, one_line

LIBRARY_ERRORS = (
    SafetensorError,
    OSError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)  # raised by safetensors for a malformed file
ITEM_BYTES = {"F32": 4, "F16": 2, "I8": 1}  # by the names of the types in safetensors
HEADER_BYTES = 1 << 24  # of a file of weights at most
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors names an error of writing
NONE = ("", None)  # data type and shape of an array that is missing


def read_weights(path: Path, shapes: dict[str, tuple[int, ...]], precision: str = FLOAT32) -> dict[str, np.ndarray]:
    """Reads weights from a safetensors file and checks them.

    Args:
        path: The safetensors file.
        shapes: Expected shape of each weight, by name.
        precision: Precision that they are stored in, one of `PRECISIONS`.

    Returns:
        The weights by name, float32.

    Raises:
        SavedModelError: The file is damaged, its names, shapes or types differ from the expected ones, or a value is
            not finite.
    """
    return _read(path, shapes, precision)[1]


def read_integers(path: Path, shapes: dict[str, tuple[int, ...]], precision: str = FLOAT32) -> dict[str, np.ndarray]:
    """Reads weights as int8: those of an int8 file as they are, others rounded.

    Args:
        path: The safetensors file.
        shapes: Expected shape of each weight, by name.
        precision: Precision that they are stored in, one of `PRECISIONS`.

    Returns:
        The arrays of an int8 file by name: see `textgen.saved_model.precision.compressed`.

    Raises:
        SavedModelError: As for `read_weights`.
    """
    arrays, weights = _read(path, shapes, precision)
    return arrays if precision == INT8 else compressed(weights, INT8)


def largest_file(shapes: dict[str, tuple[int, ...]], precision: str) -> int:
    """Returns the largest size in bytes of a file of weights; the arguments are those of `read_weights`.

    The arrays have one size. `HEADER_BYTES` are left for their names, and what else may be in the header.
    """
    arrays = stored_arrays(shapes, precision).values()
    return HEADER_BYTES + sum(ITEM_BYTES[kind] * math.prod(shape) for kind, shape in arrays)


def _read(
    path: Path, shapes: dict[str, tuple[int, ...]], precision: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Reads and checks a file.

    Returns:
        Its arrays, and the weights in float32, by name.
    """
    expected = stored_arrays(shapes, precision)
    try:
        with safe_open(path, framework="numpy") as file:
            found = {key: _described(file.get_slice(key)) for key in file.keys()}  # noqa: SIM118
            if found != expected:
                names = found.keys() | expected
                odd = sorted(name for name in names if found.get(name, NONE)[1] != expected.get(name, NONE)[1])
                raise SavedModelError(
                    f"{path} does not fit its configuration ({listed(odd) or f'not {precision}'}). {COPY_AGAIN}"
                )
            arrays = {key: file.get_tensor(key) for key in found}
            weights = restored(arrays, precision)
    except LIBRARY_ERRORS as error:
        raise SavedModelError(f"{path} is damaged: {one_line(str(error))}. {COPY_AGAIN}") from None
    if bad := [name for name, array in arrays.items() if array.dtype != np.int8 and not np.isfinite(array).all()]:
        raise SavedModelError(
            f"{path} contains weights that are not finite ({listed(bad)}). Copy the whole folder again, or train "
            "the model again."
        )
    return arrays, weights


def _described(array: Any) -> tuple[str, tuple[int, ...]]:
    """Returns data type and shape of an array in a file."""
    return array.get_dtype(), tuple(array.get_shape())


def in_c_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays in C order (row-major).

    safetensors writes the memory of an array as it is, so arrays of another order would be saved scrambled.

    Args:
        arrays: Arrays by name.

    Returns:
        The same arrays by name, contiguous in C order; copies only where needed.
    """
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays into a safetensors file, one after another: made in memory, the file would be there twice.

    Args:
        path: Path of the file, which is replaced. It gets the permissions of a new file.
        arrays: Arrays by name.

    Raises:
        OSError: The file cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(in_c_order(arrays), path)
    except SafetensorError as error:
        if found := SYSTEM_ERROR.search(str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
        raise OSError(one_line(str(error))) from None
    path.chmod(mode)

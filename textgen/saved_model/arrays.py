"""Reading and writing arrays in safetensors files, with checks before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from textgen.errors import SavedModelError

LIBRARY_ERRORS = (
    SafetensorError,
    OSError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)  # raised by safetensors for a malformed file


def read_arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads float32 arrays from a safetensors file and checks them.

    Args:
        path: The safetensors file.
        shapes: Expected shape of each array, by name.

    Returns:
        The arrays by name, float32.

    Raises:
        SavedModelError: The file is damaged, its names, shapes or types differ from the expected ones, or a value is
            not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            dtypes = {file.get_slice(key).get_dtype() for key in found}
            if found != shapes or dtypes != {"F32"}:
                odd = sorted(name for name in found.keys() | shapes if found.get(name) != shapes.get(name))
                raise SavedModelError(
                    f"{path} does not fit its configuration ({', '.join(odd) or 'not float32'}): "
                    "copy the whole folder again."
                )
            arrays = {key: file.get_tensor(key) for key in found}
    except LIBRARY_ERRORS as error:
        raise SavedModelError(f"{path} is damaged: {error}. Copy the whole folder again.") from None
    if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise SavedModelError(
            f"{path} holds weights that are not finite ({', '.join(bad)}), so it cannot write: copy the whole folder "
            "again, or train the model again."
        )
    return arrays


def in_c_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays in C order (row-major).

    safetensors writes the memory of an array as it is, so arrays of another order would be saved scrambled.

    Args:
        arrays: Arrays by name.

    Returns:
        The same arrays by name, contiguous in C order; copies only where needed.
    """
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}

"""The position in a text: the state of the model and the last tokens; rows of states, states in files.

The state of a model, whatever its cells, is a nest of tuples of arrays whose first axis is the row. It is never changed
in place, so a state that is kept stays valid: continuing twice from one state forks the text, and continuing from an
earlier one takes back the tokens since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from textgen.errors import SavedModelError
from textgen.generation.fingerprint import is_same
from textgen.storage.file_reading import check_readable
from textgen.storage.files import write_file
from textgen.wording import one_line

RECENT = 4096  # tokens kept with a state, for what looks back: each text that goes on from it reads them again
FORMAT = "textgen state 1"
ADVICE = "Name a file that textgen tune-state or save_state has written."


@dataclass(frozen=True, eq=False)
class TextState:
    """A position in a text. Positions are equal only if they are the same object.

    Attributes:
        model_state: The state of the model before it has read the newest token, one row: a nest of arrays [1, ...].
        ids: The last tokens, the newest at the end; in a file at most `RECENT`. Penalties, bans and the words of the
            prompt look back as far as these.
        model: The fingerprint of the model that made it, which alone can continue it; empty where that is not known.
    """

    model_state: Any
    ids: tuple[int, ...]
    model: str = ""

    def after(self, ids: Sequence[int], model_state: Any) -> TextState:
        """Returns the position after more tokens.

        Args:
            ids: The tokens.
            model_state: The state of the model before it has read the last of them.
        """
        return TextState(model_state, (*self.ids, *ids)[-RECENT:], self.model)


def of_document(ids: Sequence[int], eos_id: int) -> Sequence[int]:
    """The tokens after the last end of a document.

    Example:
        >>> of_document([5, 1, 6, 1, 7, 8], eos_id=1)
        [7, 8]
    """
    start = len(ids) - list(reversed(ids)).index(eos_id) if eos_id in ids else 0
    return ids[start:]


def pick(nest: Any, rows: Sequence[int] | slice) -> Any:
    """Returns these rows of every array, in this order; a row may be named twice.

    Example:
        >>> pick((np.array([1, 2, 3]),), [2, 0, 2])
        (array([3, 1, 3]),)
    """
    if isinstance(nest, (tuple, list)):
        return tuple(pick(part, rows) for part in nest)
    return np.asarray(nest)[rows]


def join(nests: Sequence[Any]) -> Any:
    """Concatenates several nests of the same structure along the rows."""
    if len(nests) == 1:
        return nests[0]
    if isinstance(nests[0], (tuple, list)):
        return tuple(join(parts) for parts in zip(*nests, strict=True))
    return np.concatenate([np.asarray(array) for array in nests])


def check_state(state: TextState, like: Any, fingerprint: str, vocab_size: int, what: str = "The state") -> TextState:
    """Returns the state if a model can continue from it.

    Args:
        state: The state.
        like: A state of that model, one row.
        fingerprint: Tells that model from others.
        vocab_size: Number of tokens in its vocabulary.
        what: The state's name in error messages.

    Raises:
        SavedModelError: The state is that of another model, does not fit this one or is not finite.
    """
    is_state = isinstance(state, TextState) and isinstance(state.model, str)
    if is_state and state.model:
        _check_model(state.model, fingerprint, "This")
    if not is_state or _layout(state.model_state) != _layout(like):
        raise SavedModelError(f"{what} is damaged: its arrays are not those of this model.")
    ids = state.ids
    sound = isinstance(ids, tuple) and 0 < len(ids) <= RECENT and all(type(id) is int for id in ids)
    if not sound or not 0 <= min(ids) <= max(ids) < vocab_size:
        raise SavedModelError(f"{what} is damaged: its last tokens are not tokens of this model.")
    if not all(np.isfinite(array).all() for array in _arrays(state.model_state)):
        raise SavedModelError(f"{what} is damaged: its numbers are not finite. Start from the beginning of the text.")
    return state


def save_state(path: Path, state: TextState, fingerprint: str) -> None:
    """Writes a state to a file: a few kilobytes, four bytes for each token, and what attention attends to.

    Args:
        path: The file.
        state: The state.
        fingerprint: Tells the model from others.

    Raises:
        TextgenError: The file cannot be written.
    """
    write_file(path, state_bytes(state, fingerprint))


def state_bytes(state: TextState, fingerprint: str) -> bytes:
    """Returns the content of the file that `save_state` writes.

    Args:
        state: The state.
        fingerprint: Tells the model from others.
    """
    arrays = {
        f"memory/{number}": np.ascontiguousarray(array) for number, array in enumerate(_arrays(state.model_state))
    }
    arrays["ids"] = np.array(state.ids, np.int32)
    return to_safetensors(arrays, {"format": FORMAT, "model": fingerprint})


def num_bytes(nest: Any) -> int:
    """Returns the memory that the arrays of a state take, in bytes."""
    return sum(array.nbytes for array in _arrays(nest))


def load_state(path: Path, like: Any, fingerprint: str, vocab_size: int, advice: str = ADVICE) -> TextState:
    """Reads a state from a file. Arrays of an unexpected size or type are not read.

    Args:
        path: The file.
        like: A state of the model that will continue from it, one row.
        fingerprint: Tells that model from others.
        vocab_size: Number of tokens in its vocabulary.
        advice: What to do if the file is missing or no state.

    Returns:
        The state.

    Raises:
        Unreadable: The file cannot be read, and may be intact.
        SavedModelError: The file is missing, damaged, or from another model.
    """
    expected = {f"memory/{number}": array for number, array in enumerate(_arrays(like))}
    layout = {name: (list(array.shape), _type_name(array.dtype)) for name, array in expected.items()}
    try:
        check_readable(path, advice)
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise SavedModelError(f"{path} is not a saved state. {advice}")
            _check_model(about.get("model", ""), fingerprint, str(path))
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            found = {key: (part.get_shape(), part.get_dtype()) for key, part in slices.items()}
            (number,), kind = found.pop("ids", ([0], ""))
            if found != layout or kind != "I32" or not 0 < number <= RECENT:
                raise SavedModelError(f"{path} is damaged: its arrays are not those of this model.")
            arrays = {key: file.get_tensor(key) for key in slices}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise SavedModelError(f"Cannot read the state in {path}: {one_line(str(error))}. {advice}") from None
    ids = tuple(arrays["ids"].tolist())
    state = TextState(_nest_like(like, iter([arrays[name] for name in expected])), ids, fingerprint)
    return check_state(state, like, fingerprint, vocab_size, str(path))


def _check_model(made_by: str, fingerprint: str, what: str) -> None:
    """Raises `SavedModelError` if the fingerprint of the model that made a state is not that of the one to use it."""
    if not is_same(made_by, fingerprint):
        raise SavedModelError(
            f"{what} is the state of another model, or was made with other settings, such as exact "
            "arithmetic, clamped cells, an ensemble or a text to learn from: use the same."
        )


def _type_name(dtype: np.dtype) -> str:
    """The type as safetensors names it, such as F32."""
    return f"{dtype.kind.upper()}{8 * dtype.itemsize}"


def _layout(nest: Any) -> Any:
    """The structure, with the shape and type of each array in its place."""
    if isinstance(nest, (tuple, list)):
        return tuple(_layout(part) for part in nest)
    array = np.asarray(nest)
    return array.shape, array.dtype


def _arrays(nest: Any) -> Iterator[np.ndarray]:
    if isinstance(nest, (tuple, list)):
        for part in nest:
            yield from _arrays(part)
    else:
        yield np.asarray(nest)


def _nest_like(nest: Any, arrays: Iterator[np.ndarray]) -> Any:
    if isinstance(nest, (tuple, list)):
        return tuple(_nest_like(part, arrays) for part in nest)
    return next(arrays)

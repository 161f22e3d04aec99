"""Checks of what a caller passes to the library.

Without them a wrong argument would fail late, with an error that does not name it, or mean something else: bytes are
also a list of numbers, and so might be tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from textgen.errors import ConfigError
from textgen.wording import short_repr

BYTES = (bytes, bytearray, memoryview)  # which are sequences of numbers, but no tokens


def check_kind(name: str, value: object, kind: type) -> None:
    """Checks that an argument is an object of a public class, or None. Raises `ConfigError`."""
    if value is not None and not isinstance(value, kind):
        raise ConfigError(
            f"{name} must be a {kind.__name__} (see textgen.{kind.__name__}). Received: {short_repr(value)}."
        )


def check_is_text(name: str, value: object) -> None:
    """Checks that an argument is a text. Raises `ConfigError`."""
    if not isinstance(value, str):
        advice = "leave out missing values, and convert others to str"
        raise ConfigError(f"{name} is {short_repr(value)}, not a text: {advice}.")


def check_prompt(name: str, value: Any) -> None:
    """Checks that an argument is a text, or a list of tokens. Raises `ConfigError`."""
    if isinstance(value, (str, *BYTES)) or _is_scalar(value) or not isinstance(value, Iterable):
        check_is_text(name, value)
        return
    is_list = isinstance(value, Sequence) or type(value).__name__ == "ndarray"  # NumPy may not be loaded
    if not is_list or not _are_tokens(value):  # a generator could be read only once, and a set has no order
        raise ConfigError(f"{name} must be a text or a list of tokens. Received: {short_repr(value)}.")


def several_tokens(name: str, value: Any) -> list[int]:
    """Returns tokens, which may be those of NumPy, as a list. Raises `ConfigError` for anything else."""
    is_iterable = isinstance(value, (list, Iterable))  # of a list, as of most, it is known at once
    if is_iterable and not isinstance(value, (str, Mapping, *BYTES)) and not _is_scalar(value):
        ids = list(value)
        if _are_tokens(ids):
            return list(map(int, ids))
    raise ConfigError(f"{name} must be a list of tokens. Received: {short_repr(value)}.")


def several_texts(name: str, value: str | Iterable[str]) -> Iterable[str]:
    """Returns a text or several as several, which are yet to be checked. Raises `ConfigError` for what is neither."""
    return [value] if isinstance(value, str) else several(name, value, "text")


def several_paths(name: str, value: str | Path | Iterable[str | Path]) -> list[str | Path]:
    """Returns a path or several as a list. Raises `ConfigError` for anything else."""
    paths = [value] if isinstance(value, str | os.PathLike) else list(several(name, value, "path"))
    for number, path in enumerate(paths):
        check_is_path(f"{name}[{number}]", path)
    # an os.DirEntry, for example, has another str()
    return [path if isinstance(path, str) else Path(path) for path in paths]


def check_is_path(name: str, value: object) -> None:
    """Checks that an argument is a path that a file can have. Raises `ConfigError`."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise ConfigError(f"{name} is {short_repr(value)}, not a path: give a str or a pathlib.Path.")
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError:  # of half of a surrogate pair
        encoded = b"\0"
    if b"\0" in encoded:
        raise ConfigError(f"{name} is {short_repr(value)}, which cannot be a file name: correct it.")


def several(name: str, value: Any, item: str, *, may_be_one: bool = True) -> Iterable[Any]:
    """Returns a value that holds several of a kind. Raises `ConfigError` for one that does not.

    Args:
        name: Name of the argument.
        value: Its value.
        item: What each of them is, such as "text".
        may_be_one: Whether the caller takes one of them alone, too.
    """
    is_other = isinstance(value, (Mapping, *BYTES))  # the keys and the numbers are not meant
    if is_other or _is_scalar(value) or not isinstance(value, Iterable):
        kinds = f"a {item} or a list of {item}s" if may_be_one else f"a list of {item}s"
        raise ConfigError(f"{name} must be {kinds}. Received: {short_repr(value)}.")
    return value


def _are_tokens(values: Iterable[Any]) -> bool:
    kinds = set(map(type, values))  # few, however many values there are
    return kinds <= {int} or (bool not in kinds and all(issubclass(kind, Integral) for kind in kinds))


def _is_scalar(value: object) -> bool:
    """Whether a value is an array without dimensions, which only looks iterable."""
    return getattr(value, "ndim", 1) == 0

"""Pipes as Windows has them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


@contextmanager
def unread_on_windows(folder: Path) -> Iterator[io.TextIOWrapper]:
    """A stream that fails as a pipe of Windows whose reader has left: with an invalid argument, from a C function."""
    with (folder / "pipe").open("wb") as file, (folder / "other").open("wb") as other, io.TextIOWrapper(file) as stream:
        vars(stream)["flush"] = partial(os.lseek, other.fileno(), -1, os.SEEK_SET)
        yield stream
        del vars(stream)["flush"]

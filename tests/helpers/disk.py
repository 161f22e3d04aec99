"""Crashes and refusals of a disk, at every write and rename, and what is left in a folder."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from textgen.storage import file_replacement, files, folders, manifests
from textgen.storage.manifests import read_manifest, verified

Files = dict[str, bytes]
OLD: Files = {"a": b"old a", "b": b"old b", "c": b"old c"}


def contents(folder: Path) -> Files:
    """The files that the manifest names, each verified."""
    entries = read_manifest(folder)["files"]
    return {name: verified(folder, name, entry).read_bytes() for name, entry in entries.items()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def crashes(folder: Path, copies: Path, action: Callable[[], None]) -> list[Path]:
    """Copies of `folder` as a crash at each moment of `action` leaves it: before, halfway and after."""
    states: list[Path] = []
    write_through, replace = file_replacement.write_through, os.replace

    def copy() -> None:
        states.append(copies / str(len(states)))
        shutil.copytree(folder, states[-1])

    def slow_write(path: Path, data: bytes, mode: int = 0o666) -> None:
        copy()
        path.write_bytes(data[: len(data) // 2])
        copy()
        path.unlink()
        write_through(path, data, mode)

    def slow_replace(source: Path, target: Path) -> None:
        copy()
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        for module in (files, folders, manifests):
            patch.setattr(module, "write_through", slow_write)
        patch.setattr(os, "replace", slow_replace)
        action()
    copy()
    return states


@contextmanager
def failing(call: int, number: int = errno.ENOSPC) -> Iterator[list[str]]:
    """The `call`-th write or rename, from 0 on, fails. Gives the list of all that were tried."""
    tried: list[str] = []

    def guard(function: Callable[..., None]) -> Callable[..., None]:
        def guarded(path: Path, *others: Any) -> None:
            tried.append(Path(path).name)
            if len(tried) == call + 1:
                raise OSError(number, os.strerror(number))
            function(path, *others)

        return guarded

    with pytest.MonkeyPatch.context() as patch:
        guarded_write = guard(file_replacement.write_through)
        for module in (files, folders, manifests):
            patch.setattr(module, "write_through", guarded_write)
        patch.setattr(os, "replace", guard(os.replace))
        patch.setattr(os, "rename", guard(os.rename))
        yield tried


@contextmanager
def unreadable(path: Path, number: int = errno.EIO) -> Iterator[None]:
    """A file, or each file of a folder, cannot be opened for reading, as on a disk that fails for a moment."""
    system_open = os.open

    def fails(name: Any, flags: int, *others: Any, **options: Any) -> int:
        if (
            Path(os.fsdecode(name)).is_relative_to(path)
            and not flags & (os.O_WRONLY | os.O_RDWR)
            and not os.path.isdir(name)
        ):
            raise OSError(number, os.strerror(number), os.fsdecode(name))
        return system_open(name, flags, *others, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", fails)
        yield


@contextmanager
def undeletable() -> Iterator[None]:
    """No file can be removed, and one that is not there is refused as well, as on a network file system that fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "it cannot be removed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        patch.setattr(Path, "unlink", refuse)
        yield

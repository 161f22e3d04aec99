"""File systems elsewhere, for tests: one in memory, whose errors are tried again without a pause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.storage import file_systems
from textgen.storage.locks import locked

fsspec = pytest.importorskip("fsspec", reason='pip install ".[remote]"')
TEXT = "one\n\ntwo 月\n"


@pytest.fixture(autouse=True)
def no_retry_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "RETRY_DELAY", 0.0)


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def copied(folder: Path, system: Any, place: str) -> None:
    """Copies a folder of this machine into memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def read(*names: str, **config: Any) -> list[str]:
    return list(Corpus(names, CorpusConfig(**config)).documents())


def while_another_process_holds(
    place: Path, monkeypatch: pytest.MonkeyPatch, finish: Callable[[], object] = lambda: None
) -> None:
    """Locks a folder, as another process does. It finishes its work when this one waits for the third time."""
    place.mkdir(parents=True)
    monkeypatch.setattr("textgen.storage.locks.LOCK_SECONDS", 0.0)
    held, naps = ExitStack(), list[float]()
    held.enter_context(locked(place))

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            finish()
            held.close()

    monkeypatch.setattr("textgen.storage.locks.time.sleep", nap)

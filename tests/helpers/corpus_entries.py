"""A well-known corpus on a server of this machine, for tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer

from textgen.corpus.fetching.catalogue import CatalogueEntry

TEXT = "".join(f"{number}. The moon rose over the river.\n" for number in range(20_000)).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def entry(server: FileServer) -> CatalogueEntry:
    """A text whose checksum is known."""
    server.files["/moon.txt"] = TEXT
    server.tags["/moon.txt"] = '"first"'
    return CatalogueEntry("moon", "The moon", "CC0", (f"{server.url}/moon.txt",), len(TEXT), checksum=digest(TEXT))


@pytest.fixture
def unpinned(entry: CatalogueEntry) -> CatalogueEntry:
    return replace(entry, checksum="")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def cached(tmp_path: Path) -> list[str]:
    return files_in(tmp_path / "cache" / "corpora")

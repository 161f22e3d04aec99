"""Compressed files: several streams, and few bytes that become many."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from files import COMPRESS, read, write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.source import Source


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_streams_follow_one_another(tmp_path: Path, suffix: str) -> None:
    data = b"".join(COMPRESS[suffix](text) for text in (b"one\n" * 5000, b"two\n", b"three\n"))
    if suffix == ".zst":
        data = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + data  # a skippable frame, as pzstd writes
    text = "one\n" * 5000 + "two\nthree\n"
    assert read(write(tmp_path, f"a.txt{suffix}", data), documents="file") == [text]


@pytest.mark.parametrize(("suffix", "compressed"), [(".gz", gzip.open), (".xz", lzma.open), (".zst", zstandard.open)])
def test_what_becomes_very_large_is_read_in_small_parts(
    tmp_path: Path, suffix: str, compressed: Callable[[Path, str], AbstractContextManager[Any]]
) -> None:
    """Of a few kilobytes that become 32 MB, less than 10 MB are in memory at once."""
    path = tmp_path / f"blanks.txt{suffix}"
    with compressed(path, "wb") as file:
        for _ in range(32):
            file.write(b" " * (1 << 20))
    assert path.stat().st_size < 40_000
    sizes = [len(chunk) for chunk in Source(path, "blanks", CorpusConfig()).chunks()]
    assert sum(sizes) == 32 << 20
    assert max(sizes) < 10 << 20

"""Compressed files: several streams, and few bytes that become many."""

from __future__ import annotations

import bz2
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
from textgen.errors import CorpusError


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_streams_follow_one_another(tmp_path: Path, suffix: str) -> None:
    data = b"".join(COMPRESS[suffix](text) for text in (b"one\n" * 5000, b"two\n", b"three\n"))
    if suffix == ".zst":
        data = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + data  # a skippable frame, as pzstd writes
    text = "one\n" * 5000 + "two\nthree\n"
    assert read(write(tmp_path, f"a.txt{suffix}", data), documents="file") == [text]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_an_empty_file_is_no_compressed_text(tmp_path: Path, suffix: str) -> None:
    message = rf"a\.txt{suffix} is damaged or truncated: it is not valid {suffix} data \(it ends too early\)"
    with pytest.raises(CorpusError, match=message):
        read(write(tmp_path, f"a.txt{suffix}", b""))
    with pytest.raises(CorpusError, match=r"No text in .*: it is empty"):
        read(write(tmp_path, f"a.txt{suffix}", COMPRESS[suffix](b"")))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_a_damaged_stream_after_the_first_is_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, size: int
) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.STREAM_BYTES", size)
    first, second = (COMPRESS[suffix](text) for text in (b"one\n" * 50, b"two\n" * 50))
    damaged = [b"\x01" + second[1:], b"no stream, however long it is", second[:-1], second[:3]]
    if suffix != ".zst":  # whose frames have no checksum here
        middle = len(second) // 2
        damaged.append(second[:middle] + bytes([255 - second[middle]]) + second[middle + 1 :])
    for data in damaged:
        with pytest.raises(
            CorpusError, match=rf"a\.txt{suffix} is damaged or truncated: it is not valid {suffix} data"
        ):
            read(write(tmp_path, f"a.txt{suffix}", first + data))


@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_padding_after_a_stream_of_xz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.STREAM_BYTES", size)
    one, two = lzma.compress(b"one\n"), lzma.compress(b"two\n")
    for padding in (bytes(4), bytes(8), bytes(1 << 10)):
        path = write(tmp_path, "a.txt.xz", one + padding + two + padding)
        assert read(path, documents="file") == ["one\ntwo\n"]
    for data in (b"", one + bytes(3) + two, one + two + bytes(5), bytes(4) + one):
        with pytest.raises(CorpusError, match=r"it is not valid \.xz data"):
            read(write(tmp_path, "b.txt.xz", data))


def test_the_first_chunk_does_not_end_with_the_first_stream(tmp_path: Path) -> None:
    """The first chunk tells whether a file is binary, and the encoding of a web page."""
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        path = write(tmp_path, f"a.txt{suffix}", b"".join(COMPRESS[suffix](text) for text in (b"o", b"", b"ne\n")))
        assert list(Source(path, "a", CorpusConfig()).chunks()) == [b"one\n"]


@pytest.mark.parametrize(
    ("suffix", "compressed"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open), (".zst", zstandard.open)]
)
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

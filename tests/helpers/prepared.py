"""Prepared corpora that several tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.prepared_corpus import PreparedCorpus

BYTE: dict[str, Any] = {"tokenizer": "byte"}


def lines_in(folder: Path, number: int = 60, name: str = "text.txt") -> Path:
    """Documents a line, no two alike."""
    path = folder / name
    path.write_text("\n".join(f"document {n}: {'la ' * (n % 7)}月" for n in range(number)), encoding="utf-8")
    return path


def make(path: Path, folder: Path, **options: Any) -> PreparedCorpus:
    """Three shards in bytes, a document a line, unless told otherwise."""
    number = {} if "shard" in options else {"shards": 3}
    values = {"documents": "line", **number, **BYTE, **options.pop("settings", {})}
    return prepare_corpus([str(path)], folder, values, **options)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and what it holds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

"""The scripts that make a base or look at what it copies, and a small folder of texts for them."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import base_mix
import benchmarking
import measure_copies
import train_base

sys.path.pop(0)

__all__ = ["PARTS", "base_mix", "benchmarking", "measure_copies", "train_base", "write_data", "write_records"]

PARTS = (
    base_mix.Part("tales.jsonl.zst", "tales", "a collection of tales (MIT)", times=3),
    base_mix.Part(
        "poems.jsonl.zst", "poems", "a collection of poems (MIT)", titled=True, by_kind={"诗": "shi", "词": "ci"}
    ),
    base_mix.Part("books.jsonl.zst", "books", "a shelf of books", 60_000, per_author=12_000, in_chapters=True),
)


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))


def write_data(folder: Path) -> Path:
    """Texts by lot: tales, poems in two scripts, books of two chapters each."""
    folder.mkdir()
    lot = random.Random(0)
    words = ["".join(lot.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(300)]

    def prose(count: int) -> str:
        return " ".join(lot.choices(words, k=count)) + "."

    def verse(characters: str) -> str:
        return "\n".join("".join(lot.choices(characters, k=12)) + "。" for _ in range(4))

    tales = [{"title": f"tale {n}", "kind": "tale", "text": f"Once. {prose(30)}"} for n in range(120)]
    poems = [{"title": f"門 {n}", "kind": "诗", "text": verse("門風雲開東長天地人日月山水")} for n in range(90)]
    poems += [{"title": f"门 {n}", "kind": "词", "text": verse("门风开东长天地人日月山水")} for n in range(60)]
    books = [
        {"title": f"book {n}", "author": f"author {n % 8}", "kind": "prose",
         "text": f"CHAPTER I - Of {words[n]}\n\n{prose(300)}\n\nChapter 2.\n\n{prose(400)}"}
        for n in range(40)
    ]  # fmt: skip
    for name, records in (("tales", tales), ("poems", poems), ("books", books)):
        write_records(folder / f"{name}.jsonl.zst", records)
    return folder

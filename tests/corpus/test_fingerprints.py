"""What tells a corpus from others: all of its bytes, or some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from files import write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus


def test_a_glance_tells_corpora_apart(tmp_path: Path) -> None:
    glances = {
        Corpus([write(tmp_path, name, text)], CorpusConfig(documents=mode)).glance()
        for name, text, mode in [
            ("a.txt", "text" * 100, "line"),
            ("a.txt", "text" * 100, "file"),
            ("a.txt", "text" * 99, "line"),
            ("a.txt", "texs" + "text" * 99, "line"),
            ("a.txt", "text" * 99 + "texs", "line"),
            ("a.jsonl", "text" * 100, "line"),
        ]
    }
    assert len(glances) == 6
    moved = Corpus([write(tmp_path, "elsewhere/b.txt", "text" * 100)], CorpusConfig(documents="line"))
    assert moved.glance() in glances


def test_fingerprint(tmp_path: Path) -> None:
    def fingerprint(name: str, content: str, **config: Any) -> str:
        return Corpus([write(tmp_path, name, content)], CorpusConfig(**config)).fingerprint()

    first = fingerprint("a.txt", "one\n")
    assert len(first) == 64
    assert first == fingerprint("sub/b.txt", "one\n") == fingerprint("c", "one\n", documents="file")
    others = {
        fingerprint("a.txt", "two\n"),
        fingerprint("a.txt", "one\n", documents="line"),
        fingerprint("a.txt", "one\n", encoding="latin-1"),
        fingerprint("a.csv", "one\n"),
    }
    assert len(others | {first}) == 5
    ab, c, a, bc = (write(tmp_path, name, name) for name in ("ab", "c", "a", "bc"))
    assert Corpus([ab, c]).fingerprint() != Corpus([a, bc]).fingerprint()
    assert Corpus([a, c]).fingerprint() != Corpus([c, a]).fingerprint()

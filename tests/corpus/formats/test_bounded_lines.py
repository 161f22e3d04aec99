"""How long a record may be, in each format of records."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from files import read, write

from textgen.cli import textgen
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats import bounded_lines, table
from textgen.errors import CorpusError


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), input=stdin, prog_name="textgen")


LARGE = {
    "line.jsonl": lambda size: b'{"text": "' + b"x" * size + b'"}\n',
    "cell.csv": lambda size: b"text\n" + b"x" * size + b"\n",
    "cell of many lines.csv": lambda size: b'text\n"' + b"x\n" * (size // 2) + b'"\n',
    "row of many cells.csv": lambda size: b"text\n" + b'"\n",' * (size // 4) + b"\n",
    "cell.tsv": lambda size: b"text\n" + b"x" * size + b"\n",
    "header.csv": lambda size: b"x" * size,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "many lines" in name else ()) for name in LARGE]
)
def test_a_record_that_is_too_large_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bounded_lines, "MAX_RECORD_CHARS", 1 << 20)
    monkeypatch.setattr(table, "SAMPLE_CHARS", 1 << 10)
    path = write(tmp_path, f"{name}.gz", gzip.compress(LARGE[name](1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match=r"a record of more than 1,048,576 characters.*Split it"):
            list(Corpus([path]).parts())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_record_as_large_as_allowed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_lines, "MAX_RECORD_CHARS", 1000)
    long = "x\n" * 490
    assert read(write(tmp_path, "a.csv", f'text\n"{long}"\n"{long}"\n')) == [long, long]
    assert read(write(tmp_path, "a.jsonl", json.dumps("x" * 998))) == ["x" * 998]
    assert read(write(tmp_path, "a.tsv", f"text\n{'x' * 1000}\n")) == ["x" * 1000]
    for name, text in {"a.jsonl": json.dumps("x" * 999), "a.tsv": f"text\n{'x' * 1001}\n"}.items():
        with pytest.raises(CorpusError, match="more than 1,000 characters"):
            read(write(tmp_path, name, text))


def test_lines_to_score_have_the_same_limit(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_lines, "MAX_RECORD_CHARS", 1000)
    result = run("score", "tiny", "--jsonl", "--models-dir", tiny_models, stdin=json.dumps("x" * 2000))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "standard input, line 1: a record of more than 1,000 characters" in result.stderr

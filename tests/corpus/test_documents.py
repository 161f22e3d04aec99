"""Documents between separators."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from files import read
from hypothesis import given
from hypothesis import strategies as st

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus

END = "<|endoftext|>"


@pytest.mark.parametrize(
    ("separator", "text", "expected"),
    [
        (END, f"one{END}two\n\nlines\n{END}\n{END} \n{END}\nthree\n", ["one", "two\n\nlines", "three"]),
        (END, "one", ["one"]),
        ("\n---\n", "a --- b\n---\nc\n---\n", ["a --- b", "c"]),
        ("%", f"{'x' * 600_000}%y%", ["x" * 600_000, "y"]),
        ("aa", "baaac", ["b", "ac"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 4, 1 << 18])
def test_separators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str, text: str, expected: list[str], chunk: int
) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", max(chunk, len(text) // 1000))
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    assert read(path, documents=f"separator:{separator}") == expected


@given(
    st.lists(st.text("ab\n %月", max_size=9), min_size=1), st.sampled_from([END, "%", "%%", "月", "\n%"]),
    st.integers(1, 9), st.integers(1, 5),
)  # fmt: skip
def test_sections_hold_the_documents_between_separators(
    texts: list[str], separator: str, chunk: int, count: int
) -> None:
    text = separator.join(texts)
    expected = [each for each in (each.strip("\n") for each in text.split(separator)) if each.strip()]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", chunk)
        patch.setattr("textgen.corpus.boundaries.CHUNK_BYTES", chunk)
        path = Path(folder, "a.txt")
        path.write_text(text, encoding="utf-8")
        corpus = Corpus([path], CorpusConfig(documents=f"separator:{separator}"))
        parts = [part for index in range(count) for part in corpus.section(index, count)]
        assert all(part.ends_document for part in parts)
        assert [part.text for part in parts] == expected


def test_a_separator_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n---\ntwo --- three\n", encoding="utf-8")
    runner = CliRunner()
    result = runner.invoke(textgen, ["corpus", "stats", str(path), "--documents", "separator:\\n---\\n", "--json"])
    assert '"num_documents": 2' in result.stdout
    for wrong in ("separator:", "separators", "---"):
        result = runner.invoke(textgen, ["corpus", "stats", str(path), "--documents", wrong])
        assert result.exit_code == 2
        assert "is not one of file, blank-line, line, separator:TEXT" in result.stderr

"""Documents between separators."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from files import read
from hypothesis import given
from hypothesis import strategies as st

from textgen.api import evaluate
from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model

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


@pytest.mark.parametrize("separator", ["\r\n---\r\n", "\r---\r", "\n---\n", "\n---\r\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_the_newlines_of_a_separator_are_normalized_as_those_of_the_text(
    tmp_path: Path, separator: str, newline: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\n---\ntwo\n---\nthree".replace("\n", newline).encode())
    corpus = Corpus([path], CorpusConfig(documents=f"separator:{separator}"))
    assert list(corpus.documents()) == ["one", "two", "three"]
    assert [part.text for index in range(3) for part in corpus.section(index, 3)] == ["one", "two", "three"]
    assert corpus.fingerprint() == Corpus([path], CorpusConfig(documents="separator:\n---\n")).fingerprint()
    is_there = separator.encode() in path.read_bytes()
    assert len(read(path, documents=f"separator:{separator}", newlines="keep")) == (3 if is_there else 1)


@pytest.mark.parametrize(
    ("files", "separator", "newlines", "said"),
    [
        (["one---", "two"], "---", "normalize", None),
        (["one", "---two"], "---", "normalize", None),
        (
            ["one", "two--"],
            "---",
            "normalize",
            "'---' is not in any of the 2 files of text, so each of them is a single",
        ),
        (
            ["one"],
            "---",
            "normalize",
            "'---' is not in {}, so it is a single document. Set documents to another separator if there are several.",
        ),
        (["a\r\n-\r\nb"], "\n-\n", "normalize", None),
        (["a\r\n-\r\nb"], "\r\n-\r\n", "keep", None),
        (
            ["a\r\n-\r\nb"],
            "\n-\n",
            "keep",
            "'\\n-\\n' is not in {}, so it is a single document. It is there with other n",
        ),
        (["a\n-\nb"], "\r\n-\r\n", "keep", "is there with other newlines: set newlines to normalize."),
        (["a\n--b"], "\n-\n", "keep", "document. Set documents to another separator if there are several."),
    ],
)
def test_a_separator_that_does_not_occur_is_said(
    tmp_path: Path, files: list[str], separator: str, newlines: str, said: str | None
) -> None:
    for number, text in enumerate(files):
        (tmp_path / f"{number}.txt").write_bytes(text.encode())
    (tmp_path / "records.jsonl").write_text('{"text": "never cut"}\n', encoding="utf-8")
    lines, config = list[str](), CorpusConfig(documents=f"separator:{separator}", newlines=newlines)
    Corpus([tmp_path], config).say_findings(lines.append)
    assert len(lines) == (said is not None)
    assert (said or "").format(tmp_path / "0.txt") in "".join(lines)


def test_who_reads_a_text_says_that_its_separator_does_not_occur(tmp_path: Path) -> None:
    path, runner = tmp_path / "a.txt", CliRunner()
    path.write_text("one\n--\ntwo\n" * 20, encoding="utf-8")
    for words in (["stats", str(path)], ["prepare", str(path), "--out", str(tmp_path / "out"), "--tokenizer", "byte"]):
        result = runner.invoke(textgen, ["corpus", *words, "--documents", "separator:\\n---\\n"])
        assert result.exit_code == 0
        assert rf"The separator '\n---\n' is not in {path}, so it is a single document." in result.stderr
        assert result.stderr.count("Set --documents to another separator if there are several.") == 1


def test_who_reads_a_text_as_that_of_a_model_says_nothing_of_its_separator(
    tiny_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless it was given for this text."""
    tiny, path = load_model("tiny", tiny_models), tmp_path / "a.txt"
    config = replace(tiny.corpus_config, documents="separator:\n---\n")
    save_model(tmp_path / "model", tiny.weights(), tiny.model_config, tiny.tokenizer_config, config, tiny.tokenizer)
    path.write_text("The cat sat.\n" * 9, encoding="utf-8")
    for options in ([], ["--documents", "separator:%"]):
        for command in ("score", "inspect"):
            result = CliRunner().invoke(textgen, [command, str(tmp_path / "model"), str(path), *options])
            assert result.exit_code == 0, result.output
            assert ("is a single document" in result.stderr) == bool(options)
    each: list[dict[str, Any]] = [{}, {"documents": "separator:%"}]
    for settings in each:
        caplog.clear()
        evaluate(tmp_path / "model", path, **settings)
        assert ("is a single document" in caplog.text) == bool(settings)


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

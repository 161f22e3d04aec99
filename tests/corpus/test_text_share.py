"""The size of a text, which is not that of its file."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from files import COMPRESS, write
from rich_files import docx, paragraphs

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.source import Source

LINES = [f"{number} is a number with words behind it, such as these." for number in range(3000)]


def written_as(folder: Path, suffix: str) -> Path:
    """`LINES` in a file of which they are the smaller part, or in fewer or more bytes than in UTF-8."""
    wide = "no text but a column of its own " * 20
    if suffix == ".docx":
        path = docx(folder / "a.docx", paragraphs(*LINES))
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("word/media/picture.png", random.Random(0).randbytes(4_000_000))
        return path
    encoding, text = "utf-8", "\n".join(LINES)
    if suffix in (".csv", ".csv.gz"):
        text = "text,other\n" + "".join(f'"{line}",{wide}\n' for line in LINES)
    elif suffix == ".jsonl":
        text = "".join(json.dumps({"other": wide, "text": line}) + "\n" for line in LINES)
    elif suffix == ".json":
        text = json.dumps([{"other": wide, "text": line} for line in LINES])
    elif suffix == "-utf-16.txt":
        encoding = "utf-16"
    data = text.encode(encoding)
    return write(folder, f"a{suffix}", COMPRESS[".gz"](data) if suffix.endswith(".gz") else data)


@pytest.mark.parametrize("suffix", [".docx", ".csv", ".jsonl", ".json", "-utf-16.txt", ".txt", ".txt.gz", ".csv.gz"])
@pytest.mark.parametrize("mode", ["line", "file"])
def test_the_size_of_a_text_is_not_that_of_its_file(tmp_path: Path, suffix: str, mode: str) -> None:
    characters = sum(map(len, LINES))
    corpus = Corpus([written_as(tmp_path, suffix)], CorpusConfig(documents=mode))
    assert 0.9 * characters < corpus.size < 1.1 * characters or suffix.endswith(".gz")
    assert 50_000 < sum(map(len, corpus.sample)) < (205_000 if suffix.endswith(".gz") else 120_000)
    assert corpus.is_within(2 * characters) or suffix.endswith(".gz")
    if corpus.is_within(2 * characters):
        assert sum(map(len, corpus.excerpts(2 * characters))) <= characters + len(LINES)


def test_the_size_of_a_text_is_that_of_its_files_together(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, f"{number}.jsonl", json.dumps({"text": "a" * 100, "other": "b" * 9900}))
        write(tmp_path, f"{number}.txt", "c" * 1000)
    assert 33_000 <= Corpus([tmp_path]).size < 34_000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "gb18030"])
def test_the_size_of_a_text_that_is_longer_than_the_part_that_is_read_to_estimate_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr("textgen.corpus.text_share.SHARE_BYTES", 2000)
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", 500)
    text = "月a\n" * 4000
    path = write(tmp_path, "a.txt", text.encode(encoding))
    corpus = Corpus([path], CorpusConfig(encoding=encoding, documents="file"))
    assert corpus.size == pytest.approx(len(text.encode()), rel=0.01)
    assert corpus.characters == pytest.approx(len(text), rel=0.01)


@pytest.mark.parametrize("suffix", [".docx", ".csv", ".jsonl", ".json", "-utf-16.txt", ".txt"])
def test_the_characters_of_a_text_are_estimated(tmp_path: Path, suffix: str) -> None:
    corpus = Corpus([written_as(tmp_path, suffix)], CorpusConfig(documents="line"))
    assert corpus.characters == pytest.approx(sum(map(len, LINES)), rel=0.1)


def test_the_characters_of_files_count_by_the_size_of_their_texts(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "月" * 30_000)
    write(tmp_path, "b.txt", "a" * 10_000)
    for corpus in (Corpus([tmp_path / "a.txt", tmp_path / "b.txt"]), Corpus([tmp_path])):
        assert corpus.characters == 40_000


def test_few_characters_are_read_to_estimate_how_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a.csv", "text\n" + "some words\n" * 40_000)
    corpus, seen, parts = Corpus([tmp_path]), [0], Source.parts

    def noted(*arguments: Any) -> Any:
        for part in parts(*arguments):
            seen[0] += len(part.text)
            yield part

    monkeypatch.setattr(Source, "parts", noted)
    assert corpus.characters == pytest.approx(400_000, rel=0.1)
    assert seen[0] < 20_000


def test_a_text_is_there_though_the_beginning_of_the_file_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.corpus.text_share.SHARE_BYTES", 2000)
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", 1000)
    records = [{"text": ""}] * 600 + [{"text": f"record {number}"} for number in range(300)]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    corpus = Corpus([path])
    assert corpus.size == round(path.stat().st_size / 256)
    assert list(corpus.excerpts(20))

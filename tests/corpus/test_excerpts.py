"""Excerpts of a corpus: spread over it, as long as asked for, without reading all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import COMPRESS, write
from rich_files import docx, paragraphs

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.source import Source
from textgen.errors import CorpusError


def test_excerpts_are_spread_and_as_long_as_asked_for(tmp_path: Path) -> None:
    text = "".join(f"{number}\n" for number in range(100_000))
    for suffix in ("", ".gz"):
        path = write(tmp_path, f"text.txt{suffix}", COMPRESS[suffix](text.encode()))
        corpus = Corpus([path], CorpusConfig(documents="line"))
        found = [int(number) for number in corpus.excerpts(20_000)]
        assert 0.5 * 20_000 < sum(len(str(number)) for number in found) < 1.5 * 20_000
        assert np.diff([0, *found, 100_000]).max() < 3_000
        assert list(corpus.excerpts(10**9)) == text.split()


@pytest.mark.parametrize("size", [30_000, 100_000])
def test_excerpts_of_a_text_that_is_much_longer_than_estimated_are_as_long_as_asked_for(
    tmp_path: Path, size: int
) -> None:
    text = "".join(f"{number:06d} {'the same words in each line ' * 5}\n" for number in range(5000))
    path = write(tmp_path, "text.txt.gz", COMPRESS[".gz"](text.encode()))
    corpus = Corpus([path], CorpusConfig(documents="line"))
    assert corpus.size < len(text) / 4, "its ratio is far from the usual one"
    for _ in range(2):
        found = list(corpus.excerpts(size))
        assert 0.9 * size < sum(map(len, found)) < 1.1 * size
        assert np.diff([0, *(int(excerpt[:6]) for excerpt in found), 5000]).max() < 500
    assert not corpus.is_within(size)
    assert corpus.size == pytest.approx(len(text), rel=0.01), "it has been measured"


def test_excerpts_of_a_text_that_is_a_little_longer_than_estimated_are_all_of_it(tmp_path: Path) -> None:
    text = "".join(f"{number:06d} {'other words ' * (number % 7)}\n" for number in range(5000))
    corpus = Corpus([write(tmp_path, "a.txt.gz", COMPRESS[".gz"](text.encode()))], CorpusConfig(documents="line"))
    size = len(text) * 2 // 3
    assert corpus.size < size
    assert len(list(corpus.excerpts(size))) == 5000
    assert corpus.is_within(size)


def test_excerpts_of_documents_that_are_longer_than_an_excerpt(tmp_path: Path) -> None:
    text = "\n\n".join(f"{number} " + "some words " * 150 for number in range(150))
    found = list(Corpus([write(tmp_path, "a.txt", text)], CorpusConfig(documents="blank-line")).excerpts(100_000))
    assert 90_000 < sum(map(len, found)) < 110_000
    assert len([excerpt for excerpt in found if re.match(r"\d", excerpt)]) > 50


def test_to_find_out_that_there_is_text_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        docx(tmp_path / f"{number}.docx", paragraphs(*["a line of words"] * 50 * number))
    corpus, converted, convert = Corpus([tmp_path], CorpusConfig(documents="file")), list[Path](), Source.converted

    def noted(source: Source) -> Any:
        converted.append(source.path)
        return convert(source)

    monkeypatch.setattr(Source, "converted", noted)
    corpus.require_text()
    assert len({*converted}) <= 2


class Counting:
    """A file that adds up what is read of it."""

    def __init__(self, file: Any, total: list[int]) -> None:
        self._file, self._total = file, total

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int) -> Any:
        return self._counted(self._file.read(size))

    def readline(self, size: int) -> Any:
        return self._counted(self._file.readline(size))

    def _counted(self, data: Any) -> Any:
        self._total.append(len(data))
        return data


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("file", "word " * 60_000),
        ("line", "word " * 60_000 + "\n" + "word " * 1000),
        ("blank-line", "some words\n" * 30_000),
        ("separator:<|end|>", "some words\n" * 30_000),
        ("file", "\n" * 300_000),
    ],
)
def test_files_with_few_places_to_cut_are_read_a_few_times_and_not_once_for_each_excerpt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, text: str
) -> None:
    total, opened = list[int](), Path.open
    write(tmp_path, "a.txt", "The first.\n")
    path = write(tmp_path, "text.txt", text)
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", 1000)
    monkeypatch.setattr("textgen.corpus.boundaries.CHUNK_BYTES", 1000)
    corpus = Corpus([tmp_path], CorpusConfig(documents=mode))
    monkeypatch.setattr(Path, "open", lambda path, *how: Counting(opened(path, *how), total))
    for _ in range(2):
        assert list(corpus.excerpts(5000))
    assert [part.text for index in range(50) for part in corpus.section(index, 50)]
    assert sum(total) < 8 * path.stat().st_size


def test_excerpts_of_records_without_the_field_say_which_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, "texts.jsonl", "\n".join(json.dumps({"content": f"text {n:05d}"}) for n in range(5000)))
    for read_some in (lambda corpus: list(corpus.excerpts(10_000)), Corpus.require_text):
        with pytest.raises(CorpusError, match=r"no field 'text' in any record\. Set text_field to .*: content\."):
            read_some(Corpus([path]))
    found = Corpus([path], CorpusConfig(text_field="content"))
    found.require_text()
    assert len(list(found.excerpts(10_000))) > 100


def test_records_without_text_among_the_excerpts_are_counted(tmp_path: Path) -> None:
    """Under the name of the file, though each excerpt is a section of it."""
    records = [json.dumps({"text": None if number % 3 == 0 else f"text {number:05d}"}) for number in range(20_000)]
    path = write(tmp_path, "texts.jsonl", "\n".join(records))
    corpus = Corpus([path], CorpusConfig())
    assert len(list(corpus.excerpts(20_000))) > 100
    assert list(corpus.left_out.counts) == [str(path)]
    assert corpus.left_out.counts[str(path)] > 50
    said: list[str] = []
    corpus.say_left_out(said.append)
    assert len(said) == 1
    assert re.fullmatch(rf"Skipped [\d,]+ records without text in {path}, the first in line 1\.", said[0]), said


def test_excerpts_of_many_small_files(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path, f"{number:03d}.txt", f"{number} " * 20)
    found = list(Corpus([tmp_path], CorpusConfig(documents="file")).excerpts(2000))
    numbers = [int(text.split()[0]) for text in found]
    assert 15 < len(numbers) < 300
    assert np.diff([0, *numbers, 300]).max() < 40

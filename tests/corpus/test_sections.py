"""Files laid end to end: their sections are the whole text in its order, and only they are read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from files import COMPRESS, write
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.corpus import documents as documents_module
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.source import Source
from textgen.errors import CorpusError


def documents_of(parts: Iterable[Part]) -> list[str]:
    documents, held = list[str](), ""
    for part in parts:
        held += part.text
        if part.ends_document:
            documents.append(held)
            held = ""
    assert not held, "the last part ends a document"
    return documents


scraps = st.lists(
    st.sampled_from(["a", "b ", "月", "\n", "\n\n", " \n", "\r\n", "\r", "\ufeff", "\u3000", "long" * 9]), max_size=40
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(scraps, min_size=1, max_size=3),
    st.sampled_from(["file", "line", "blank-line"]),
    st.sampled_from(["keep", "normalize"]),
    st.sampled_from([".txt", ".txt.gz", ".jsonl", ".csv"]),
    st.integers(1, 12),
    st.integers(2, 50),
)
def test_sections_are_the_corpus_in_its_order(
    files: list[list[str]], mode: str, newlines: str, suffix: str, count: int, size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents_module, "PART_CHARS", size)
        patch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", size)
        patch.setattr("textgen.corpus.boundaries.CHUNK_BYTES", size)
        for number, texts in enumerate(files):
            data = "".join(texts) + "x"
            if suffix == ".jsonl":
                data = "".join(f"{json.dumps(text)}\n" for text in [*texts, "x"])
            elif suffix == ".csv":
                data = "text\n" + "".join(f'"{text}"\n' for text in [*texts, "x"])
            write(Path(folder), f"{number}{suffix}", COMPRESS[".gz" if suffix.endswith(".gz") else ""](data.encode()))
        corpus = Corpus([folder], CorpusConfig(documents=mode, newlines=newlines))
        sections = [list(corpus.section(index, count)) for index in range(count)]
        assert documents_of(part for section in sections for part in section) == list(corpus.documents())


def say_no_size(patch: pytest.MonkeyPatch) -> None:
    """Files whose names begin with "made" have a size of 0, as those of /proc and of some network disks have."""
    size = Source._file_size
    patch.setattr(Source, "_file_size", lambda self: 0 if self.path.name.startswith("made") else size(self))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["made", "plain"]), st.sampled_from([".txt", ".jsonl"])), min_size=1),
    st.integers(1, 12),
)
def test_files_that_say_no_size_are_in_one_section_each(files: list[tuple[str, str]], count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        say_no_size(patch)
        paths = [
            write(Path(folder, str(number)), f"{name}{suffix}", f'"{number}"\n"x"\n')
            for number, (name, suffix) in enumerate(files)
        ]
        corpus = Corpus(paths, CorpusConfig(documents="line"))
        sections = [part.text for index in range(count) for part in corpus.section(index, count)]
        assert sections == list(corpus.documents())


def test_excerpts_are_of_files_that_say_no_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say_no_size(monkeypatch)
    write(tmp_path, "a.txt", "text\n" * 10_000)
    write(tmp_path, "made.txt", "made\n" * 10_000)
    assert {*Corpus([tmp_path], CorpusConfig(documents="line")).excerpts(5_000)} == {"text", "made"}


@pytest.mark.parametrize("mode", ["file", "line", "blank-line"])
@pytest.mark.parametrize("number", [1, 50])
def test_sections_are_about_equally_long(tmp_path: Path, mode: str, number: int) -> None:
    for name in range(number):
        write(tmp_path, f"{name}.txt", "".join(f"line {line}\n\n" for line in range(5000 // number)))
    corpus = Corpus([tmp_path], CorpusConfig(documents=mode))
    sizes = [sum(len(part.text) for part in corpus.section(index, 8)) for index in range(8)]
    assert max(sizes) < 1.1 * min(sizes)


def test_only_the_section_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "text.txt", b"good\n" * 1000 + b"\xff\n" + b"good\n" * 1000)
    corpus = Corpus([path], CorpusConfig(documents="line"))
    assert len(list(corpus.section(0, 4))) == 500
    with pytest.raises(CorpusError, match=r"text\.txt \(from byte [\d,]+ on\) is not utf-8 text: .* at offset 5000\."):
        list(corpus.section(1, 4))


def test_an_error_in_a_section_says_where_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path, "text.jsonl", '"good"\n' * 100 + "bad\n")
    with pytest.raises(CorpusError, match=r"text\.jsonl \(from byte 357 on\), line 50: not JSON"):
        list(Corpus([path]).section(1, 2))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(["a", "b ", "\n", "\n\n", " \n", "--", "long" * 9]), max_size=60),
    st.sampled_from(["file", "line", "blank-line", "separator:--"]),
    st.lists(st.integers(0, 300), min_size=1, max_size=30),
)
def test_where_a_section_begins_does_not_depend_on_those_before_it(
    texts: list[str], mode: str, offsets: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "a.txt", "".join(texts) + "x")
        config = CorpusConfig(documents=mode)

        def sections(source: Source, offset: int) -> list[tuple[int, int | None]]:
            return [(each.start, each.stop) for each in source.section(offset, offset + 7, mode)]

        known = Source(path, "a", config)
        for offset in offsets:
            assert sections(known, offset) == sections(Source(path, "a", config), offset)

"""Files -> documents: every format and mode, every bad input, and the bounds on memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import re
import tarfile
import tempfile
import textwrap
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import COMPRESS, read, write
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_files import docx, paragraphs

from textgen.corpus import documents as documents_module
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.document_guess import guess_documents
from textgen.corpus.source import Source
from textgen.errors import CorpusError

BUNDLED = Path(__file__).resolve().parents[2] / "corpora"
SHARED = Path(os.environ.get("TEXTGEN_TEST_CORPORA", Path(__file__).resolve().parents[2] / ".." / "shared" / "corpora"))


def test_one_path_instead_of_a_list(tmp_path: Path) -> None:
    assert list(Corpus(str(write(tmp_path, "a.txt", "one"))).documents()) == ["one"]


# --- Bad input ---------------------------------------------------------------------------------------------


def zipped(text: str) -> bytes:
    """A zip archive with a file in it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("b.txt", text)
    return archive.getvalue()


def tarred(text: str) -> bytes:
    """A tar archive with a file in it."""
    archive, about = io.BytesIO(), tarfile.TarInfo("b.txt")
    about.size = len(text)
    with tarfile.open(fileobj=archive, mode="w") as file:
        file.addfile(about, io.BytesIO(text.encode()))
    return archive.getvalue()


Case = tuple[dict[str, str | bytes], str, dict[str, str], str]
LONG = b"".join(random.Random(0).randbytes(1) for _ in range(20_000)).hex().encode()
ZIP, TAR = zipped("The cat sat.\n"), tarred("The cat sat.\n")
BAD: dict[str, Case] = {
    "binary": ({"a.txt": b"ab\0"}, "a.txt", {}, r"a\.txt looks like a binary file.*set encoding to utf-16"),
    "binary, compressed": ({"a.gz": gzip.compress(b"\0")}, "a.gz", {}, r"a\.gz looks like a binary file"),
    "zip": (
        {"a.zip": ZIP},
        "a.zip",
        {},
        r"a\.zip is an archive: name 'zip://::.*a\.zip' to read the texts in it, or unpack",
    ),
    "zip, compressed": ({"a.zip.gz": gzip.compress(ZIP)}, "a.zip.gz", {}, r"a\.zip\.gz is an archive: unpack it\."),
    "zip of a program": ({"a.xlsx": ZIP}, "a.xlsx", {}, r"a\.xlsx looks like a binary file: it is a zip archive, as"),
    "tar": ({"a.tar": TAR}, "a.tar", {}, r"a\.tar is an archive: name 'tar://::.*a\.tar' to read the texts in it, or"),
    "tar, compressed": (
        {"a.tar.gz": gzip.compress(TAR)},
        "a.tar.gz",
        {},
        r"is an archive: name 'tar://::.*a\.tar\.gz'",
    ),
    "rar": ({"a.rar": b"Rar!\x1a\x07\x01\0\0\0"}, "a.rar", {}, r"a\.rar is an archive: unpack it\."),
    "folder of archives": ({"a.zip": ZIP}, ".", {}, r"nothing but 1 binary file \(.*\)\. .*a\.zip is an archive: name"),
    "empty": ({"a.txt": ""}, "a.txt", {}, r"No text in .*a\.txt: it is empty or has only white space"),
    "blank": ({"a.txt": " \n\t\n"}, "a.txt", {"documents": "line"}, r"No text in .*a\.txt"),
    "blank records": ({"a.jsonl": '\n{"text": " "}'}, "a.jsonl", {}, r"No text in .*a\.jsonl"),
    "empty csv": ({"a.csv": ""}, "a.csv", {}, r"No text in .*a\.csv"),
    "csv header only": ({"a.csv": "text\n"}, "a.csv", {}, r"No text in .*a\.csv"),
    "encoding": (
        {"a.txt": "a"},
        "a.txt",
        {"encoding": "utf-9"},
        r"There is no encoding 'utf-9'\. Set encoding",
    ),
    "not a text encoding": ({"a.txt": "a"}, "a.txt", {"encoding": "hex"}, r"There is no encoding 'hex'"),
    "utf-16 without its mark": (
        {"a.txt": b"a\0b\0"},
        "a.txt",
        {"encoding": "utf-16"},
        r"a\.txt is not utf-16",
    ),
    "not JSON": (
        {"a.jsonl": '"a"\n\n{"text"'},
        "a.jsonl",
        {},
        r"a\.jsonl, line 3: not JSON \(.*column \d+\)",
    ),
    "JSON too deep": ({"a.jsonl": "[" * 200_000}, "a.jsonl", {}, r"a\.jsonl, line 1: not JSON"),
    "no field": (
        {"a.jsonl": '{"id": 1, "body": ""}'},
        "a.jsonl",
        {},
        r"no field 'text' in any record\. Set text_field to one that holds text: body\.",
    ),
    "no fields at all": ({"a.jsonl": "{}"}, "a.jsonl", {}, r"no field 'text'.*None of its fields holds text"),
    "field of a number": ({"a.jsonl": '{"text": 5}'}, "a.jsonl", {}, r"line 1: field 'text' is a number"),
    "field of null": ({"a.jsonl": '{"text": null}'}, "a.jsonl", {}, r"No text in .*a\.jsonl"),
    "JSON list": ({"a.jsonl": '["a"]'}, "a.jsonl", {}, r"line 1: a list\. Expected an object or a string"),
    "half a character": ({"a.jsonl": '"\\ud83d"'}, "a.jsonl", {}, r"line 1: \\ud83d is half of a character"),
    "no column": (
        {"a.csv": "id,body\n1,x"},
        "a.csv",
        {},
        r"no column 'text'\. Set text_column to .*id, body",
    ),
    "short row": (
        {"a.csv": "id,text\n1,x\n2"},
        "a.csv",
        {},
        r"line 3: a row of 1 field under a header of 2",
    ),
    "long row": ({"a.csv": "text\nx, y"}, "a.csv", {}, r"line 2: a row of 2 fields under a header of 1"),
    "open quote": ({"a.csv": 'text\n"x\ny\n'}, "a.csv", {}, r"line 3: not CSV \("),
    "stray quote": ({"a.csv": 'text\n"x"y\n'}, "a.csv", {}, r"line 2: not CSV \("),
    "a tab too many": ({"a.tsv": "text\nx\ty\n"}, "a.tsv", {}, r"line 2: a row of 2 fields.*write the table as \.csv"),
    "a newline in a .tsv file": (
        {"a.tsv": 'text\tby\n"x\ny"\tz\n'},
        "a.tsv",
        {},
        r"line 2: a row of 1 field under a header of 2\. .* end the name of the file in \.csv; otherwise",
    ),
    **{
        f"truncated {suffix}": (
            {f"a.txt{suffix}": COMPRESS[suffix](LONG)[:-9]},
            f"a.txt{suffix}",
            {},
            rf"a\.txt\{suffix} is damaged or truncated",
        )
        for suffix in (".gz", ".bz2", ".xz", ".zst")
    },
    **{
        f"not {suffix}": (
            {f"a.txt{suffix}": b"plain text"},
            ".",
            {},
            rf"a\.txt\{suffix} is damaged or truncated",
        )
        for suffix in (".gz", ".bz2", ".xz", ".zst")
    },
}


@pytest.mark.parametrize(("name", "content"), [("b.zip", ZIP), ("b.tar", TAR), ("b.tar.gz", gzip.compress(TAR))])
def test_an_archive_is_read_as_the_message_about_it_says(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path, "a.txt", "a")
    path, said = write(tmp_path, name, content), list[str]()
    Corpus([tmp_path]).say_findings(said.append)
    (about,) = said
    assert about.startswith(f"Skipped {path}: it is an archive: name '")
    assert read(about.split("'")[1]) == ["The cat sat.\n"]


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input(tmp_path: Path, case: Case) -> None:
    files, path, config, message = case
    for name, content in files.items():
        write(tmp_path, name, content)
    with pytest.raises(CorpusError, match=message) as info:
        read(tmp_path / path, **config)
    assert "\n" not in str(info.value)
    assert str(info.value).endswith((".", "?"))


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = write(tmp_path, "a.txt", "a")
    monkeypatch.setattr(Path, "open", refuse)  # rights do not bind the root user
    with pytest.raises(CorpusError, match=r"Cannot read .*a\.txt: permission denied"):
        read(path)


# --- Round trips -------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), max_size=60)
LINE = TEXT.map(lambda text: text.replace("\n", " ")).filter(str.strip)
BLOCK = st.lists(LINE, min_size=1, max_size=4).map("\n".join)


def as_csv(documents: Sequence[str]) -> str:
    table = io.StringIO(newline="")
    csv.writer(table).writerows([["text", "n"], *([document, "0"] for document in documents)])
    return table.getvalue()


WRITERS: dict[str, tuple[str, st.SearchStrategy[str], Callable[[Sequence[str]], str]]] = {
    "file": ("a.txt", TEXT.filter(str.strip), "".join),
    "blank-line": ("a.txt", BLOCK, "\n \n\n".join),
    "line": ("a.txt.gz", LINE, "\n".join),
    "jsonl": ("a.jsonl", TEXT.filter(str.strip), lambda texts: "\n".join(map(json.dumps, texts))),
    "csv": ("a.csv.zst", TEXT.filter(str.strip), as_csv),
}


@pytest.mark.parametrize("kind", WRITERS)
@given(data=st.data(), size=st.integers(2, 40), chunk=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_round_trip(kind: str, data: st.DataObject, size: int, chunk: int) -> None:
    name, strategy, join = WRITERS[kind]
    meant = data.draw(st.lists(strategy, min_size=1, max_size=1 if kind == "file" else 6))
    mode = kind if kind in ("file", "line", "blank-line") else None
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        content = COMPRESS[Path(name).suffix if Path(name).suffix in COMPRESS else ""](join(meant).encode())
        found = Corpus([write(Path(folder), name, content)], CorpusConfig(documents=mode))
        assert list(found.documents()) == meant
        patch.setattr(documents_module, "PART_CHARS", size)
        patch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", chunk)
        parts = list(found.parts())
        assert all(0 < len(part.text) <= size for part in parts)
        assert joined(parts) == meant == list(found.documents())


def joined(parts: Sequence[Part]) -> list[str]:
    text = "".join(part.text + "\0" * part.ends_document for part in parts)
    assert text.endswith("\0")
    return text[:-1].split("\0")


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        ("file", "ab\ncd\nefghijk\n", ["ab\ncd\n", "efghij", "k\n"]),
        ("line", "abcdefgh\nij\n", ["abcde", "fgh", "ij"]),
        ("blank-line", "ab\ncd\nef\n\ngh\n", ["ab\ncd\n", "ef", "gh"]),
        ("blank-line", "abcdefgh\nij", ["abcde", "fgh\n", "ij"]),
        ("blank-line", "abcde\nfghij\n\n", ["abcde\n", "fghij"]),
        ("file", "abc def ghi", ["abc", " def", " ghi"]),
        ("line", "abc def ghi\njk", ["abc", " def", " ghi", "jk"]),
        ("blank-line", "abc def ghi", ["abc", " def", " ghi"]),
        ("separator:--", "abc def ghi--jk", ["abc", " def", " ghi", "jk"]),
        ("file", "  abcdefghijkl", [" ", " abcde", "fghijk", "l"]),
    ],
)
def test_parts_are_cut_after_newlines_or_else_before_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, text: str, expected: list[str]
) -> None:
    monkeypatch.setattr(documents_module, "PART_CHARS", 6)
    found = Corpus([write(tmp_path, "a.txt", text)], CorpusConfig(documents=mode))
    assert [part.text for part in found.parts()] == expected


# --- Sections ----------------------------------------------------------------------------------------------


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


def test_excerpts_are_spread_and_as_long_as_asked_for(tmp_path: Path) -> None:
    text = "".join(f"{number}\n" for number in range(100_000))
    for suffix in ("", ".gz"):
        path = write(tmp_path, f"text.txt{suffix}", COMPRESS[suffix](text.encode()))
        corpus = Corpus([path], CorpusConfig(documents="line"))
        found = [int(number) for number in corpus.excerpts(20_000)]
        assert 0.5 * 20_000 < sum(len(str(number)) for number in found) < 1.5 * 20_000
        assert np.diff([0, *found, 100_000]).max() < 3_000
        assert list(corpus.excerpts(10**9)) == text.split()


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
    assert 50_000 < sum(map(len, corpus.sample)) < (400_000 if suffix.endswith(".gz") else 120_000)
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


def test_excerpts_of_documents_that_are_longer_than_an_excerpt(tmp_path: Path) -> None:
    text = "\n\n".join(f"{number} " + "some words " * 150 for number in range(150))
    found = list(Corpus([write(tmp_path, "a.txt", text)], CorpusConfig(documents="blank-line")).excerpts(100_000))
    assert 90_000 < sum(map(len, found)) < 110_000
    assert len([excerpt for excerpt in found if re.match(r"\d", excerpt)]) > 50


def test_to_find_out_that_there_is_text_little_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        docx(tmp_path / f"{number}.docx", paragraphs(*LINES[: 50 * number]))
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


# --- Statistics and fingerprint ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["file", "blank-line", "line"])
@given(text=st.text("ab \n\t诗\u2003é", min_size=1, max_size=80).filter(str.strip), size=st.integers(2, 20))
@settings(max_examples=60, deadline=None)
def test_stats(mode: str, text: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents_module, "PART_CHARS", size)
        patch.setattr("textgen.corpus.statistics.PART_CHARS", size)
        found = Corpus([write(Path(folder), "a.txt", text)], CorpusConfig(documents=mode))
        stats = found.stats()
        documents = list(found.documents())
    counts = Counter("".join(documents))
    assert stats.files == 1
    assert stats.documents == len(documents)
    assert stats.characters == sum(map(len, documents))
    assert stats.bytes == sum(len(document.encode()) for document in documents)
    assert stats.lines == sum(len(document.removesuffix("\n").split("\n")) for document in documents)
    assert stats.words == sum(len(document.split()) for document in documents)
    assert stats.longest_document == max(map(len, documents))
    assert stats.typical_document == sum(len(document) ** 2 for document in documents) / stats.characters
    assert stats.character_counts == counts
    assert stats.distinct_characters == len(counts)
    assert [count for _, count in stats.characters_by_frequency] == sorted(counts.values(), reverse=True)[:20]
    assert found.stats() is stats


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


# --- The guess ---------------------------------------------------------------------------------------------


def words(generator: random.Random, low: int, high: int) -> str:
    vocabulary = ["time", "river", "stone", "old", "wind", "of", "and", "the", "a", "slow", "garden", "night"]
    return " ".join(generator.choice(vocabulary) for _ in range(generator.randint(low, high)))


def wrapped(generator: random.Random, width: int) -> str:
    return "\n".join(textwrap.wrap(words(generator, 60, 150).capitalize() + ".", width))


R = random.Random(1)
SPEAKERS = ["Anna:", "The old king:", "MESSENGER", "Bo."]
TEXTS: dict[str, tuple[str, list[str]]] = {
    "titled poems": (
        "blank-line",
        ["\n\n".join(f"Song {i}\n{words(R, 5, 7)},\n{words(R, 5, 7)}." for i in range(30))],
    ),
    "chinese poems": (
        "blank-line",
        ["\n\n".join(f"帝京篇 {i}\n秦川雄帝宅，函谷壯皇居。\n綺殿千尋起，離宮百雉餘。" for i in range(30))],
    ),
    "play": ("file", ["\n\n".join(f"{R.choice(SPEAKERS)}\n{words(R, 5, 30)}." for _ in range(200))]),
    "novel": ("file", ["\n\n".join(wrapped(R, 70) for _ in range(60))]),
    "novel, indented, without blank lines": ("file", ["\n".join("  " + wrapped(R, 70) for _ in range(60))]),
    "novel, a line a paragraph": ("file", ["\n".join(words(R, 20, 200) + "." for _ in range(100))]),
    "untitled stanzas": (
        "file",
        ["\n\n".join("\n".join(words(R, 5, 7) for _ in range(4)) for _ in range(40))],
    ),
    "headlines": ("line", ["\n".join(words(R, 3, 14).title() for _ in range(200))]),
    "tokenized sentences": ("line", ["".join(f" {words(R, 3, 40)} \n" for _ in range(200))]),
    "log": ("line", ["".join(f"2024-01-01 12:00:{i % 60:02} INFO {words(R, 2, 20)}\n" for i in range(200))]),
    "sentences": ("line", ["\n".join(words(R, 3, 14) + "." for _ in range(200))]),
    "code": ("file", ["\n".join(f"def f{i}(x):\n    return x + {'1 + ' * (i % 9)}1" for i in range(100))]),
    "code in blocks": (
        "file",
        ["\n\n".join(f"    x{i} = {i}\n    {words(R, 8, 12)}" for i in range(100))],
    ),
    "few lines": ("file", ["one\ntwo and more\nthree\n"]),
    "one line": ("file", [words(R, 5000, 5000)]),
    "long lines": ("file", ["\n".join(words(R, 1000, 3000) for _ in range(60))]),
    "a poem a file": ("file", ["\n".join(words(R, 1, 9) for _ in range(14)) for _ in range(8)]),
    "records": ("file", []),
}


@pytest.mark.parametrize("name", TEXTS)
def test_guess(name: str) -> None:
    expected, samples = TEXTS[name]
    mode, reason = guess_documents(samples, len(samples) or 1)
    assert mode == expected
    assert reason


def test_guess_is_told(tmp_path: Path) -> None:
    lines = write(tmp_path, "a.txt", TEXTS["headlines"][1][0])
    rows = write(tmp_path, "b.csv", "text\nx\ny")
    short, other = write(tmp_path, "short.txt", "a"), write(tmp_path, "other.txt", "b")
    assert Corpus([lines]).documents_mode == "line"
    assert Corpus([lines, rows]).documents_mode == "line"
    assert Corpus([lines], CorpusConfig(documents="file")).guess_reason is None
    assert Corpus([rows]).guess_reason == "each record is a document"
    assert Corpus([other, short]).guess_reason == "each of the 2 files is a document"
    assert Corpus([rows, short]).guess_reason == "each file of text and each record is a document"
    assert Corpus([rows, short]).stats().documents == 3


CUES = [f"{n}\n00:00:{n:02},000 --> 00:00:{n + 1:02},000\n{words(R, 3, 9).capitalize()}.\n" for n in range(10, 99)]


@pytest.mark.parametrize(
    ("others", "mode", "reason"),
    [
        ([], "file", "subtitles run on"),
        ([("b.vtt", "WEBVTT\n\n" + "\n".join(CUES).replace(",000", ".000"))], "file", "subtitles run on"),
        ([("b.csv", "text\nx\ny")], "file", "subtitles run on"),
        ([("b.txt", "a novel")], "file", "each of the 2 files is a document"),
        ([("b.txt", TEXTS["titled poems"][1][0])], "blank-line", "blank lines separate blocks that start with a title"),
        ([("b.txt", TEXTS["headlines"][1][0][:3000])], "file", "subtitles run on"),
        ([("b.txt", TEXTS["headlines"][1][0])], "line", "each line stands by itself"),
    ],
)
def test_subtitles_are_not_a_list(tmp_path: Path, others: list[tuple[str, str]], mode: str, reason: str) -> None:
    for name, text in [("a.srt", "\n".join(CUES)), *others]:
        write(tmp_path, name, text)
    found = Corpus([tmp_path])
    assert (found.documents_mode, found.guess_reason) == (mode, reason)
    if mode != "line":
        assert "".join(CUES[0].split("\n")[2:]) in next(found.documents()).split("\n"), "the first file is subtitles"


def test_guess_reads_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.corpus.source.SAMPLE_CHARS", 3000)
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", 1000)
    path = write(tmp_path, "a.txt", TEXTS["headlines"][1][0].encode() + b"\xff")
    assert Corpus([path]).documents_mode == "line"  # the bad byte lies beyond


@pytest.mark.parametrize(("name", "documents"), [("fables.txt", 200), ("verse.txt", 300)])
def test_guess_on_the_texts_that_are_part_of_textgen(name: str, documents: int) -> None:
    found = Corpus([BUNDLED / name])
    assert (found.documents_mode, found.stats().documents) == ("blank-line", documents)


@pytest.mark.parametrize(
    ("name", "mode", "documents"),
    [
        ("tinyshakespeare.txt", "file", 1),
        ("tang_poems.txt", "blank-line", 15008),
        ("ptb/ptb.train.txt", "line", 42068),
    ],
)
def test_guess_on_real_text(name: str, mode: str, documents: int) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in TEXTGEN_TEST_CORPORA")
    found = Corpus([SHARED / name])
    assert (found.documents_mode, found.stats().documents) == (mode, documents)


# --- Bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("file", "a short line\n"),
        pytest.param("blank-line", "a short line\n", marks=pytest.mark.slow),
        ("line", "no newline"),
    ],
)
def test_memory_is_bounded(tmp_path: Path, mode: str, line: str) -> None:
    size = 64 << 20 if mode == "file" else 8 << 20
    path = tmp_path / "large.txt"
    block = line.encode() * 100_000
    with path.open("wb") as file:
        for _ in range(size // len(block) + 1):
            file.write(block)
    found = Corpus([path], CorpusConfig(documents=mode))
    tracemalloc.start()
    try:
        characters = sum(len(part.text) for part in found.parts())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert characters == path.stat().st_size - (mode == "blank-line")
    assert peak < 8 << 20

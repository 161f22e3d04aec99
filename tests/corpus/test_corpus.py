"""Files -> documents: every format and mode, every bad input, and the bounds on memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import tarfile
import tempfile
import textwrap
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from files import COMPRESS, read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from textgen.corpus import documents as documents_module
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.document_guess import guess_documents
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
    "JSON list": (
        {"a.jsonl": '["a"]'},
        "a.jsonl",
        {},
        r"line 1: a list\. Expected an object or a string, or, if the file is one list, the suffix \.json\.",
    ),
    "JSON number": ({"a.jsonl": "5"}, "a.jsonl", {}, r"line 1: a number\. Expected an object or a string\."),
    "JSON list in a list": (
        {"a.json": '[["a"]]'},
        "a.json",
        {},
        r"record 1: a list\. Expected an object or a string\.",
    ),
    "spaces around a field": ({"a.jsonl": '{" text": "a"}'}, "a.jsonl", {}, r"to one that holds text: ' text'\."),
    "spaces around a column": (
        {"a.csv": "id, text\n1,x"},
        "a.csv",
        {},
        r"no column 'text'\. Set text_column to one of: id, ' text'\. Spaces around a name are a part of it\. If",
    ),
    "an invisible column": (
        {"a.csv": "id,text\u200b\n1,x"},
        "a.csv",
        {},
        r"no column 'text'\. Set text_column to one of: id, 'text\\u200b'\. If",
    ),
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


# --- Statistics --------------------------------------------------------------------------------------------


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

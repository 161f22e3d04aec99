"""One file -> documents: modes, newlines, formats, encodings."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from files import COMPRESS, read, write

from textgen.errors import CorpusError

# --- Modes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        ("file", "a\n\nb\n", ["a\n\nb\n"]),
        ("file", "\n\n a", ["\n\n a"]),
        ("file", " \n\t\n", []),
        ("blank-line", "a\nb\n\nc\n", ["a\nb", "c"]),
        ("blank-line", "\n\n a \n \t\n\n\nb", [" a ", "b"]),
        ("blank-line", "a\u2028b\x0bc\n\x0c\nd", ["a\u2028b\x0bc", "d"]),
        ("line", "a\n\n b \n\t\nc", ["a", " b ", "c"]),
        ("line", "a\u2028b\x0bc\x85d\n", ["a\u2028b\x0bc\x85d"]),
    ],
)
def test_modes(tmp_path: Path, mode: str, text: str, expected: list[str]) -> None:
    other = write(tmp_path, "other.txt", "other")
    assert read(write(tmp_path, "a.txt", text), other, documents=mode) == [*expected, "other"]


@pytest.mark.parametrize(
    ("newlines", "mode", "expected"),
    [
        ("normalize", "file", ["a\nb\nc\n\nd"]),
        ("keep", "file", ["a\r\nb\rc\n\r\nd"]),
        ("normalize", "line", ["a", "b", "c", "d"]),
        ("keep", "line", ["a\r", "b\rc", "d"]),
        ("normalize", "blank-line", ["a\nb\nc", "d"]),
        ("keep", "blank-line", ["a\r\nb\rc", "d"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 18])
def test_newlines_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newlines: str, mode: str, expected: list[str], chunk: int
) -> None:
    monkeypatch.setattr("textgen.source.CHUNK_BYTES", chunk)
    path = write(tmp_path, "a.txt", "a\r\nb\rc\n\r\nd")
    assert read(path, newlines=newlines, documents=mode) == expected


@pytest.mark.parametrize("newlines", ["normalize", "keep"])
def test_newlines_of_records(tmp_path: Path, newlines: str) -> None:
    expected = ["a\nb\nc"] if newlines == "normalize" else ["a\r\nb\rc"]
    assert read(write(tmp_path, "a.jsonl", '{"text": "a\\r\\nb\\rc"}\r\n'), newlines=newlines) == expected
    assert read(write(tmp_path, "a.csv", 'text\r\n"a\r\nb\rc"\r\n'), newlines=newlines) == expected


# --- Formats and encodings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\ntwo\n"),
        ("a", "one\ntwo\n"),
        ("a.JSONL", '{"text": "one"}\n\n"two"\n{"text": " "}\n'),
        ("a.ndjson", '{"n": 1, "text": "one"}\n{"text": "two"}'),
        ("a.csv", 'id,text\n1,one\n\n2,"two"\n3,\n'),
        ("a.tsv", "text\tid\none\t1\ntwo\t2"),
    ],
)
def test_formats(tmp_path: Path, suffix: str, name: str, content: str) -> None:
    path = write(tmp_path, name + suffix, COMPRESS[suffix](content.encode()))
    assert read(path, documents="line") == ["one", "two"]


def test_fields_and_columns(tmp_path: Path) -> None:
    rows = write(tmp_path, "a.csv", 'poem,by\n"He said ""x"",\n\nand left","me"\n')
    lines = write(tmp_path, "a.jsonl", '{"poem": "\\ud83d\\ude00"}')
    assert read(rows, lines, text_field="poem", text_column="poem") == ['He said "x",\n\nand left', "😀"]


def test_long_csv_field(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "text\n" + "x" * 200_000)) == ["x" * 200_000]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_streams_follow_one_another(tmp_path: Path, suffix: str) -> None:
    data = b"".join(COMPRESS[suffix](text) for text in (b"one\n" * 5000, b"two\n", b"three\n"))
    if suffix == ".zst":
        data = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + data  # a skippable frame, as pzstd writes
    text = "one\n" * 5000 + "two\nthree\n"
    assert read(write(tmp_path, f"a.txt{suffix}", data), documents="file") == [text]


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", "诗".encode()),
        ("utf-8", "诗".encode("utf-8-sig")),
        ("UTF8", "诗".encode("utf-8-sig")),
        ("utf-16", "诗".encode("utf-16")),
        ("utf-16-le", "\ufeff诗".encode("utf-16-le")),
        ("utf-32", "诗".encode("utf-32")),
        ("gb18030", "诗".encode("gb18030")),
        ("big5", "詩".encode("big5")),
        ("latin-1", b"\xe9"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 18])
def test_encodings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, data: bytes, chunk: int) -> None:
    monkeypatch.setattr("textgen.source.CHUNK_BYTES", chunk)
    expected = {"big5": "詩", "latin-1": "é"}.get(encoding, "诗")
    assert read(write(tmp_path, "a.txt", data), encoding=encoding) == [expected]


@pytest.mark.parametrize(
    ("encoding", "data", "where"),
    [
        ("utf-8", b"abc\xff", "byte 0xff at offset 3"),
        ("utf-8", "诗诗".encode() + b"\xe8\xaf", "byte 0xe8 at offset 6"),
        ("utf-8", b"x" * 300_000 + b"\xe9 " + b"x" * 300_000, "byte 0xe9 at offset 300000"),
        ("ascii", "déjà".encode(), "byte 0xc3 at offset 1"),
        ("gb18030", "诗".encode("gb18030") + b"\xff!", "byte 0xff at offset 2"),
        ("utf-16-le", b"a\0\x00\xd8a\0", "byte 0x00 at offset 2"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 5, 1 << 18])
def test_undecodable_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, data: bytes, where: str, chunk: int
) -> None:
    monkeypatch.setattr("textgen.source.CHUNK_BYTES", max(chunk, len(data) // 1000))
    path = write(tmp_path, "a.txt.gz", gzip.compress(data))
    with pytest.raises(CorpusError) as info:
        read(path, encoding=encoding)
    assert str(info.value) == (
        f"{path} is not {encoding} text: {where}. "
        "Set encoding to the one it was written in, such as latin-1, gb18030 or utf-16."
    )

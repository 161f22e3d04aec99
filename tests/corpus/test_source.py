"""One file -> documents: modes, formats, and which files are binary."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from files import COMPRESS, read, write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.source import Source
from textgen.corpus.source_check import about_binary
from textgen.errors import CorpusError


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


@pytest.mark.parametrize("newlines", ["normalize", "keep"])
def test_newlines_of_records(tmp_path: Path, newlines: str) -> None:
    expected = ["a\nb\nc"] if newlines == "normalize" else ["a\r\nb\rc"]
    assert read(write(tmp_path, "a.jsonl", '{"text": "a\\r\\nb\\rc"}\r\n'), newlines=newlines) == expected
    assert read(write(tmp_path, "a.csv", 'text\r\n"a\r\nb\rc"\r\n'), newlines=newlines) == expected


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


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "gb18030"])
def test_a_stray_nul_does_not_make_a_text_binary(tmp_path: Path, encoding: str) -> None:
    text = f"The cat sat\0 on the mat.\nNothing is odd here, é{'' if encoding == 'latin-1' else '月'}.\n"
    write(tmp_path, "text/a.txt", text.encode(encoding))
    found = Corpus([tmp_path / "text"], CorpusConfig(encoding=encoding, documents="file"))
    assert (list(found.documents()), found.skipped) == ([text], [])


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_what_has_many_nuls_or_is_no_text_is_binary(tmp_path: Path, encoding: str) -> None:
    generator = random.Random(0)
    for name, data in {
        "noise": generator.randbytes(5000),
        "zip": b"PK\3\4" + generator.randbytes(50) + b"\0" * 9,
        "archive of text": b"The cat sat on the mat.\n" * 20 + b"\0" * 100,
        "elf": b"\x7fELF\2\1\1" + b"\0" * 9 + generator.randbytes(3000),
    }.items():
        with pytest.raises(CorpusError, match="looks like a binary file"):
            read(write(tmp_path, name, data), encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_binary_files_are_none_in_wide_encodings_either(tmp_path: Path, encoding: str) -> None:
    generator = random.Random(0)
    texts = ["The cat sat.\n", "床前明月光\n", "a\0b\n", "x"]
    for number, text in enumerate(texts):
        write(tmp_path, f"text/{number}.txt", text.encode(encoding))
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\n\0\0\0\n\x08\2\0\0\0\0\0\0\0\0\0\0\x10IDAT"
    for name, data in {
        "a.png": picture + b"x",
        "noise": b"\0" + generator.randbytes(5001),
        "zip": b"PK\3\4" + "The cat sat.\n".encode("utf-16-le"),
        "sound": b"".join(
            generator.choice((-3, -2, -1, 0, 1, 2)).to_bytes(2, "little", signed=True) for _ in range(99)
        ),
    }.items():
        write(tmp_path, f"text/{name}", data)
    found = Corpus([tmp_path / "text"], CorpusConfig(encoding=encoding, documents="file"))
    assert [Path(path).name for path in found.skipped] == ["a.png", "noise", "sound", "zip"]
    assert list(found.documents()) == texts
    with pytest.raises(CorpusError, match=f"and is not {encoding} text. Name a text file instead"):
        Corpus([tmp_path / "text" / "a.png"], found.config)


def test_text_in_another_wide_encoding_is_no_binary_file(tmp_path: Path) -> None:
    """It would be passed over in a folder."""
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-16"):
        path = write(tmp_path, "a.txt", "The cat sat.\n".encode(encoding))
        for other in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-16"):
            assert about_binary(Source(path, "a.txt", CorpusConfig(encoding=other))) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_binary_file_that_begins_like_a_mark_is_called_binary(tmp_path: Path, encoding: str) -> None:
    config, said = CorpusConfig(encoding=encoding), list[str]()
    write(tmp_path, "text/a.txt", "The cat sat.\n".encode(encoding))
    files = {
        "b.bin": (b"\xff\xfe" + random.Random(0).randbytes(5000), ", and is not utf-16 text"),
        "c.bin": (b"\xef\xbb\xbf" + bytes(range(32)) * 9, ""),
    }
    paths = {write(tmp_path, f"text/{name}", data): why for name, (data, why) in files.items()}
    Corpus([tmp_path / "text"], config).say_findings(said.append)
    assert said == [f"Skipped {', '.join(map(str, paths))}: each looks like a binary file."]
    for path, why in paths.items():
        with pytest.raises(CorpusError) as info:
            Corpus([path], config)
        what = f"{path} looks like a binary file: it has NUL bytes near its start"
        assert str(info.value) == f"{what}{why}. Name a text file instead."


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("metadata.json", '{"title": "Emma"}', "Set text_field to one that holds text: title."),
        ("records.jsonl", '{"title": "Emma"}\n', "Set text_field to one that holds text: title."),
        ("package.json", "// no JSON", "Expected"),
        ("list.csv", "title,author\nEmma,Austen\n", "Set text_column to one of: title, author."),
    ],
)
def test_a_file_in_a_folder_that_is_no_part_of_the_text_can_be_moved_out(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    write(tmp_path, "texts/a.txt", "The cat sat.\n")
    path = write(tmp_path, f"texts/{name}", content)
    advice = " Or, if the file is no part of the text, move it out of the folder, or name the other files."
    for names, is_among_others in {"texts": True, f"texts/{name}": False}.items():
        with pytest.raises(CorpusError) as info:
            read(tmp_path / names, documents="line")
        assert str(info.value).startswith(str(path))
        assert why in str(info.value)
        assert str(info.value).endswith(advice) == is_among_others


def test_an_error_in_a_file_that_has_text_is_one_of_the_text(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "The cat sat.\n")
    write(tmp_path, "b.jsonl", '"It slept."\n{"text"\n')
    with pytest.raises(CorpusError, match=r"line 2: not JSON .* Expected a line such as [^ ]* [^ ]*\.$"):
        read(tmp_path, documents="line")

"""Parquet files: columns, nested and list-valued ones, damage, and how large they may become."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from files import read, write

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats import parquet
from textgen.errors import CorpusError

pa = pytest.importorskip("pyarrow", reason='pip install ".[parquet]"')
pq = pytest.importorskip("pyarrow.parquet", reason='pip install ".[parquet]"')


def table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def named_in(error: CorpusError) -> set[str]:
    """The columns at the end of a message; their order is that of pyarrow."""
    return set(str(error).removesuffix(".").rpartition(": ")[2].split(", "))


def test_texts_and_labels(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.parquet", {"by": ["a", "b", None, "c"], "n": [1, 2, 3, 4], "text": ["one", None, "two", ""]}
    )
    corpus = Corpus([path], CorpusConfig(labels="by"))
    assert [(part.text, part.label) for part in corpus.parts()] == [("one", "a"), ("two", None)]
    assert corpus.left_out.counts == {str(path): 2}
    assert corpus.left_out.first == {str(path): "row 2"}
    with pytest.raises(CorpusError, match=r"row 2: a record without text \(column 'text' is missing, null or blank\)"):
        read(path, strict=True)


@pytest.mark.parametrize("name", ["text", "data.text"])
def test_the_size_of_the_text_is_that_of_its_column(tmp_path: Path, name: str) -> None:
    texts = [f"{number} and more words of the text" for number in range(5000)]
    column: list[Any] = texts if name == "text" else [{"text": text, "n": 1} for text in texts]
    other = [str(number) * 100 for number in range(5000)]
    path = table(tmp_path / "a.parquet", {name.partition(".")[0]: column, "other": other}, row_group_size=1000)
    corpus = Corpus([path], CorpusConfig(text_column=name))
    assert sum(map(len, texts)) < corpus.size < 1.3 * sum(map(len, texts))
    assert 80_000 < sum(map(len, corpus.sample)) < 110_000


@pytest.mark.parametrize("name", ["messages.content", "messages", "lists.content", "map.value"])
@pytest.mark.parametrize("is_compliant", [False, True])
def test_the_size_of_texts_in_lists_is_that_of_their_column(tmp_path: Path, name: str, is_compliant: bool) -> None:
    texts = [f"{number} and more words of the text" for number in range(5000)]
    messages = [[{"content": text, "role": "user"}] for text in texts]
    lists = [[each] for each in messages]
    pairs = pa.array([[(text, text)] for text in texts], pa.map_(pa.string(), pa.string()))
    other = [str(number) * 100 for number in range(5000)]
    columns = {"messages": messages, "lists": lists, "map": pairs, "other": other}
    path = table(tmp_path / "a.parquet", columns, use_compliant_nested_type=is_compliant)
    found = parquet.parquet_text_bytes(path, "a.parquet", name)
    assert sum(map(len, texts)) < found < (2.6 if name == "map.value" else 1.4) * sum(map(len, texts))
    assert parquet.parquet_text_bytes(path, "a.parquet", "none.content") == 0


def test_a_table_in_a_folder_is_not_skipped_as_binary(tmp_path: Path) -> None:
    table(tmp_path / "a.parquet", {"text": ["one\r\ntwo", "three"]})
    write(tmp_path, "b.txt", "four")
    assert read(tmp_path) == ["one\ntwo", "three", "four"]
    assert "".join(part.text for n in range(4) for part in Corpus([tmp_path]).section(n, 4)) == "one\ntwothreefour"


def test_nested_columns_and_lists(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.parquet",
        {
            "data": [{"text": "one", "by": "a"}, {"text": "two", "by": "b"}],
            "lines": [["x", "y"], []],
            "turns": [[{"say": "hi"}, {"say": "ho"}], None],
        },
    )
    assert read(path, text_column="data.text") == ["one", "two"]
    assert read(path, text_column="lines") == ["x\ny"]
    assert read(path, text_column="turns.say") == ["hi", "ho"]
    assert Corpus([path], CorpusConfig(text_column="data.text", labels="data.by")).labels() == {"a": 1, "b": 1}
    with pytest.raises(CorpusError, match=r"no column 'text' in any record\. Set text_column to .*") as info:
        read(path)
    assert named_in(info.value) == {"data.text", "data.by", "lines", "turns.say"}
    with pytest.raises(CorpusError, match=r"No document has a label 'x'.*There are: ") as info:
        Corpus([path], CorpusConfig(text_column="lines", labels="x")).labels()
    assert named_in(info.value) == {"data", "lines", "turns"}


def test_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    names = ["text", "by", "by", "data", "data"]
    nested = pa.array([{"text": "two"}])
    pq.write_table(pa.table([["one"], ["a"], ["b"], nested, nested], names=names), path)
    assert read(path) == ["one"]
    advice = r"Give each a name of its own, or set {} to another\."
    for setting, column, config in (
        ("text_column", "by", {"text_column": "by"}),
        ("text_column", "data", {"text_column": "data.text"}),
        ("labels", "by", {"labels": "by"}),
    ):
        message = rf"a\.parquet: 2 columns are named '{column}'\. {advice.format(setting)}"
        with pytest.raises(CorpusError, match=message):
            read(path, **config)
    with pytest.raises(CorpusError, match=r"no column 'other' in any record"):
        read(path, text_column="other")


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"text": [1, 2], "other": [b"x", b"y"]})
    with pytest.raises(
        CorpusError, match=r"row 1: column 'text' is a number\. Set text_column to one that is a string"
    ):
        read(path)
    with pytest.raises(CorpusError, match=r"row 1: column 'other' is bytes"):
        read(path, text_column="other")
    with pytest.raises(CorpusError, match=r"No text in "):
        read(table(tmp_path / "b.parquet", {"text": pa.array([], pa.string())}))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"no table"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(
        CorpusError,
        match=r"a\.parquet is damaged, no Parquet file, or was cut off or changed while it was .*again\.$",
    ) as info:
        read(write(tmp_path, "a.parquet", content))
    assert "\n" not in str(info.value)
    with pytest.raises(CorpusError, match=r"\.parquet files are compressed inside"):
        read(write(tmp_path, "a.parquet.zst", content))


def test_a_page_that_was_altered_is_damaged(tmp_path: Path) -> None:
    texts = [f"the cat sat on mat {number}" for number in range(2000)]
    path = table(
        tmp_path / "a.parquet", {"text": texts}, write_page_checksum=True, compression="none", use_dictionary=False
    )
    assert len(read(path)) == 2000
    path.write_bytes(path.read_bytes().replace(b"mat 1500", b"mad 1500"))
    with pytest.raises(CorpusError, match=rf"^{path} is damaged: a part of it does not match its checksum\. Write or"):
        read(path)


CUT = """
import os, sys
from pathlib import Path
from textgen.corpus.corpus import Corpus
from textgen.errors import CorpusError

path = Path(sys.argv[1])
texts = Corpus([path]).documents()
found = [next(texts)]
os.truncate(path, path.stat().st_size // 2)
try:
    found += texts
except CorpusError as error:
    print(error)
else:
    print(f"{len(found)} of 4,000 texts, and no error")
"""


def test_a_file_that_is_cut_off_while_it_is_read_is_one_clear_line(tmp_path: Path) -> None:
    texts = [f"text {number} " * 40 for number in range(4000)]
    path = table(tmp_path / "a.parquet", {"text": texts}, compression="none", use_dictionary=False, row_group_size=1000)
    command = [sys.executable, "-c", CUT, str(path)]  # a process of its own, which a signal may end
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(f"{path} is damaged, no Parquet file, or was cut off or changed while it was read: ")


def test_a_file_that_may_not_be_read_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("[Errno 13] Failed to open local file. Detail: [errno 13] Permission denied")

    path = table(tmp_path / "a.parquet", {"text": ["one"]})
    monkeypatch.setattr(pq, "ParquetFile", refuse)  # rights do not bind the root user
    with pytest.raises(CorpusError, match=rf"^Cannot read {path}: permission denied\. Ask the owner"):
        read(path)
    with pytest.raises(CorpusError, match=rf"^Cannot read {path}: permission denied\. Ask the owner"):
        parquet.parquet_columns(path, str(path))


@pytest.mark.parametrize("kind", ["ArrowNotImplementedError", "ArrowKeyError", "ArrowException"])
def test_what_pyarrow_cannot_do_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise getattr(pa.lib, kind)("Support for codec 'lzo' not built\nmore")

    path = table(tmp_path / "a.parquet", {"text": ["one"]})
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", refuse)
    with pytest.raises(CorpusError, match=r"a\.parquet.*Support for codec 'lzo' not built.*again") as info:
        read(path)
    assert "\n" not in str(info.value)


def test_a_small_file_does_not_become_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 GB of text: one string, many times."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["x" * (1 << 20)])
    path = table(tmp_path / "a.parquet", {"text": texts}, compression="zstd", store_schema=False)
    assert path.stat().st_size < 50_000
    corpus, before = Corpus([path]), pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for number, part in enumerate(corpus.parts()):
            assert len(part.text) <= 1 << 18
            assert pa.total_allocated_bytes() - before < 32 << 20
            if number > 200:
                break
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(CorpusError, match=r"row group 1 has [\d,]+ bytes of text, more than the limit of 1,000"):
        read(path)

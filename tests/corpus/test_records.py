"""Tables and lines of JSON: what separates fields, records without text, and how large a record may be."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from files import read, write
from hypothesis import given
from hypothesis import strategies as st

from textgen.cli import textgen
from textgen.corpus import records
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.records import DELIMITERS, detected_delimiter
from textgen.errors import ConfigError, CorpusError


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), input=stdin, prog_name="textgen")


def texts(path: Path, **config: object) -> list[str]:
    return list(Corpus([path], CorpusConfig(**config)).documents())  # type: ignore[arg-type]


# === What separates fields ===


def test_quotes_of_a_tsv_file_are_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'id\ttext\n1\t"Stop\n2\tgo on"\n3\t"He said ""no""."\r\n4\t"\n')
    assert read(path) == ['"Stop', 'go on"', '"He said ""no""."', '"']
    assert read(path, newlines="keep") == ['"Stop', 'go on"', '"He said ""no""."', '"']


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("is_named", [True, False], ids=["by its header", "by its rows"])
def test_the_delimiter_of_a_csv_file_is_detected(tmp_path: Path, delimiter: str, is_named: bool) -> None:
    rows = [["id", "text" if is_named else "poem"], ["1", "Stop, go; on | then\tend"], ["2", 'He said "no", "yes".']]
    content = "\n".join(delimiter.join('"{}"'.format(f.replace('"', '""')) for f in row) for row in rows)
    path = write(tmp_path, "a.csv", content)
    assert read(path, text_column=rows[0][1]) == [rows[1][1], rows[2][1]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text\nGood, bad; and | ugly\n", ","),
        ("text;id\nGood, bad;1\nGood, worse, bad;2\n", ";"),
        ("id,text\n1,a;b\n2,c;d\n", ","),
        ("a|b|c\n1|2|3\n1,2|2|3\n", "|"),
        ("", ","),
    ],
)
def test_what_is_detected(content: str, expected: str) -> None:
    assert detected_delimiter(content.split("\n"), CorpusConfig()) == expected


@given(
    st.lists(st.text('ab,;|\t é"', min_size=1, max_size=9).filter(str.strip), min_size=1), st.sampled_from(DELIMITERS)
)
def test_any_text_comes_back_from_any_table(values: list[str], delimiter: str) -> None:
    lines = [f'"{value.replace(chr(34), chr(34) * 2)}"{delimiter}7\n' for value in values]
    about = records.RecordFile("a.csv", ".csv", CorpusConfig())
    assert [text for text, _ in about.read([f"text{delimiter}n\n", *lines])] == values


def test_a_delimiter_may_be_given(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text:id\na, b:1\n")
    assert read(path, delimiter=":") == ["a, b"]
    assert "1" in run("corpus", "stats", path, "--delimiter", ":").stdout
    tabs = write(tmp_path, "b.csv", "text,more\tid\na,b\t1\n")
    assert run("corpus", "stats", tabs, "--delimiter", "\\t", "--text-column", "text,more").exit_code == 0
    for wrong in ("", "::", '"', "\n"):
        with pytest.raises(ConfigError, match="delimiter must be one character"):
            CorpusConfig(delimiter=wrong)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_without_a_header(tmp_path: Path, suffix: str) -> None:
    tab = "\t" if suffix == ".tsv" else ","
    path = write(tmp_path, f"a{suffix}", "".join(f"{tab.join(row)}\n" for row in (["1", "Ann", "x"], ["2", "Bo", "y"])))
    assert texts(path, no_header=True, text_column="3") == ["x", "y"]
    found = Corpus([path], CorpusConfig(no_header=True, text_column="3", labels="2"))
    assert found.labels() == {"Ann": 1, "Bo": 1}
    for column in ("text", "0", "4", "-1", "²"):
        with pytest.raises(CorpusError, match="Set text_column to a number from 1 to 3"):
            texts(path, no_header=True, text_column=column)
    assert texts(write(tmp_path, "b.csv", "x\ny\n"), no_header=True) == ["x", "y"]
    with pytest.raises(CorpusError, match=r"No document has a label 'name'.*There are: 1, 2, 3"):
        Corpus([path], CorpusConfig(no_header=True, text_column="3", labels="name")).labels()


def test_the_hint_for_a_table_without_a_header_can_be_obeyed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "1;first poem\n2;second poem\n")
    error = run("corpus", "stats", path).stderr
    assert "Set --text-column to one of: 1, first poem." in error
    assert "set --no-header, and --text-column to the number of a column" in error
    obeyed = json.loads(run("corpus", "stats", path, "--no-header", "--text-column", "2", "--json").stdout)
    assert (obeyed["documents"], obeyed["characters"]) == (2, len("first poemsecond poem"))


# === Records without text ===

WITHOUT = {
    "a.jsonl": '{"text": "one"}\n{"text": null}\n{"id": 1}\n{"text": ""}\n{"text": " "}\n"two"\n',
    "a.csv": 'text,id\none,1\n,2\n , 3\n"",4\n"\n",5\ntwo,6\n',
    "a.tsv": "id\ttext\n1\tone\n2\t\n3\t \n4\t\n5\t  \n6\ttwo\n",
}


@pytest.mark.parametrize("name", WITHOUT)
def test_records_without_text_are_skipped_counted_and_said(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, WITHOUT[name])
    corpus = Corpus([path])
    for _ in range(2):  # counted anew each time
        assert list(corpus.documents()) == ["one", "two"]
        assert corpus.left_out.counts == {str(path): 4}
    result = run("corpus", "stats", path, "--json")
    assert json.loads(result.stdout)["skipped_records"] == 4
    first = 2 if name.endswith("l") else 3
    assert result.stderr == f"Skipped 4 records without text in {path}, the first in line {first}.\n"


@pytest.mark.parametrize("name", WITHOUT)
def test_strict_stops_at_the_first_record_without_text(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, WITHOUT[name])
    result = run("corpus", "stats", path, "--strict")
    line = 2 if name.endswith("l") else 3
    assert result.exit_code == 1
    assert f"{path}, line {line}: a record without text (" in result.stderr
    assert "leave --strict out" in result.stderr
    write(tmp_path, name, "".join(WITHOUT[name].splitlines(keepends=True)[: line - 1]))
    assert run("corpus", "stats", path, "--strict").exit_code == 0


def test_scores_of_json_lines_skip_alike(tiny_models: Path) -> None:
    where = ["score", "tiny", "--jsonl", "--models-dir", tiny_models]
    result = run(*where, stdin=WITHOUT["a.jsonl"])
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["one", "", " ", "two"]
    assert result.stderr == "Skipped 2 records without text in standard input, the first in line 2.\n"
    assert run(*where, "--strict", stdin=WITHOUT["a.jsonl"]).exit_code == 1


def test_a_hint_names_fields_that_hold_text(tmp_path: Path) -> None:
    rows = [{"id": 1, "title": None}, {"id": 2, "title": "x", "tags": []}, {"body": "y"}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(CorpusError) as info:
        read(path)
    assert str(info.value) == (
        f"{path}: no field 'text' in any record. Set text_field to one that holds text: title, body."
    )
    assert read(path, text_field="title") == ["x"]


# === How large a record may be ===

LARGE = {
    "line.jsonl": lambda size: b'{"text": "' + b"x" * size + b'"}\n',
    "cell.csv": lambda size: b"text\n" + b"x" * size + b"\n",
    "cell of many lines.csv": lambda size: b'text\n"' + b"x\n" * (size // 2) + b'"\n',
    "row of many cells.csv": lambda size: b"text\n" + b'"\n",' * (size // 4) + b"\n",
    "cell.tsv": lambda size: b"text\n" + b"x" * size + b"\n",
    "header.csv": lambda size: b"x" * size,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "many lines" in name else ()) for name in LARGE]
)
def test_a_record_that_is_too_large_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1 << 20)
    monkeypatch.setattr(records, "SAMPLE_CHARS", 1 << 10)
    path = write(tmp_path, f"{name}.gz", gzip.compress(LARGE[name](1 << 26)))
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match=r"a record of more than 1,048,576 characters.*Split it"):
            list(Corpus([path]).parts())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_record_as_large_as_allowed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1000)
    long = "x\n" * 490
    assert read(write(tmp_path, "a.csv", f'text\n"{long}"\n"{long}"\n')) == [long, long]
    assert read(write(tmp_path, "a.jsonl", json.dumps("x" * 998))) == ["x" * 998]
    assert read(write(tmp_path, "a.tsv", f"text\n{'x' * 1000}\n")) == ["x" * 1000]
    for name, text in {"a.jsonl": json.dumps("x" * 999), "a.tsv": f"text\n{'x' * 1001}\n"}.items():
        with pytest.raises(CorpusError, match="more than 1,000 characters"):
            read(write(tmp_path, name, text))


def test_lines_to_score_have_the_same_limit(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1000)
    result = run("score", "tiny", "--jsonl", "--models-dir", tiny_models, stdin=json.dumps("x" * 2000))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "standard input, line 1: a record of more than 1,000 characters" in result.stderr

"""Tables: what separates fields, quotes, and tables without a header."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from files import read, write
from hypothesis import given
from hypothesis import strategies as st

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats.records import RecordFile
from textgen.corpus.formats.table import DELIMITERS, detected_delimiter
from textgen.errors import ConfigError, CorpusError


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), input=stdin, prog_name="textgen")


def texts(path: Path, **config: object) -> list[str]:
    return list(Corpus([path], CorpusConfig(**config)).documents())  # type: ignore[arg-type]


def test_quotes_of_a_tsv_file_are_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'id\ttext\n1\t"Stop\n2\tgo on"\n3\t"He said ""no""."\r\n4\t"\n')
    assert read(path) == ['"Stop', 'go on"', '"He said ""no""."', '"']
    assert read(path, newlines="keep") == ['"Stop', 'go on"', '"He said ""no""."', '"']


def test_empty_fields_at_the_end_of_a_row_may_be_missing(tmp_path: Path) -> None:
    for suffix, tab in ((".csv", ","), (".tsv", "\t")):
        rows = [["id", "text", "note"], ["1", "hello", ""], ["2", "world"], ["3", '"so"'], ["4", "x", "y", "", ""]]
        path = write(tmp_path, f"a{suffix}", "".join(f"{tab.join(row)}\n" for row in rows))
        assert read(path) == ["hello", "world", '"so"' if suffix == ".tsv" else "so", "x"]
        with pytest.raises(CorpusError, match=r"line 2: a row of 1 field under a header of 3"):
            read(write(tmp_path, f"b{suffix}", f"{tab.join(rows[0])}\n1\n"))


@pytest.mark.parametrize(
    ("header", "row", "fields", "quoted", "text"),
    [
        ("text", "buds of May,", "2 fields under a header of 1", '"buds of May,"', "buds of May"),
        ("id,text", "3,bye,,", "4 fields under a header of 2", '3,"bye,,"', "bye"),
        ("id,text,note", "3,bye,,", "4 fields under a header of 3", '3,"bye,",', "bye"),
        ("id;text", "3;bye;", "3 fields under a header of 2", '3;"bye;"', "bye"),
    ],
)
def test_a_delimiter_at_the_end_of_a_text_is_never_cut_off(
    tmp_path: Path, header: str, row: str, fields: str, quoted: str, text: str
) -> None:
    path = write(tmp_path, "a.csv", f"{header}\n{row}\n")
    with pytest.raises(CorpusError, match=rf"a row of {fields}\. Put double quotes .* end the header with as many\.$"):
        read(path)
    delimiter = row[-1]
    assert read(write(tmp_path, "a.csv", f"{header}\n{quoted}\n"))[0].rstrip(delimiter) == text
    assert read(path)[0] != text
    assert read(write(tmp_path, "a.csv", f"{header}{delimiter * 2}\n{row}\n")) == [text]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ('17,"A line, number 17",', "A line, number 17"),
        ('17,"A line",,,\r', "A line"),
        ('17,"A line","",""', "A line"),
        ('17,"a ""word""",', 'a "word"'),
        ('17,"""",', '"'),
        ('17,"one\ntwo\n",,', "one\ntwo\n"),
        ('17,"one\n",', "one\n"),
    ],
)
def test_empty_fields_may_follow_a_text_in_quotes(tmp_path: Path, row: str, text: str) -> None:
    """As in exports of Excel, whose rows end in empty fields from the seventeenth on."""
    path = tmp_path / "a.csv"
    path.write_bytes(f'id,text\n2,"A line, number 2"\n{row}\n'.encode())
    assert read(path) == ["A line, number 2", text]
    config = CorpusConfig(no_header=True, text_column="2")
    assert list(Corpus([path], config).documents())[1:] == ["A line, number 2", text]


@pytest.mark.parametrize("row", ['3,buds of "May",', '3,""A"",', '"3",buds,', '3,a "b""",,'])
def test_quotes_within_a_text_do_not_close_it(tmp_path: Path, row: str) -> None:
    with pytest.raises(CorpusError, match=r"line 2: .*(Put double quotes|delimiter expected|expected after)"):
        read(write(tmp_path, "a.csv", f"id,text\n{row}\n"))


def test_a_delimiter_at_the_end_of_a_text_is_found_without_a_header_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "one\ntwo,\n")
    with pytest.raises(CorpusError, match=r"line 2: a row of 2 fields after .* end the first row with as many\.$"):
        read(path, no_header=True)


def test_rows_without_any_text_may_be_longer_than_the_header(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "id,text\n1,hello\n,,,\n2,,,\n")) == ["hello"]


def test_tabs_at_the_end_of_a_row_are_no_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.tsv", "id\ttext\n1\thello\t\t\n")) == ["hello"]
    with pytest.raises(CorpusError, match=r"a row of 3 fields under a header of 2\. A text in a \.tsv file"):
        read(write(tmp_path, "a.tsv", "id,text\n1,hello,\n"), delimiter=",")


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
        ("He came; he saw\nIt rained\nThe end\n", ","),
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
    about = RecordFile("a.csv", ".csv", CorpusConfig())
    assert [text for text, _ in about.read([f"text{delimiter}n\n", *lines])] == values


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "\ufeffsep=;", "sep=;\r"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_line_for_excel_names_the_delimiter(tmp_path: Path, line: str, suffix: str) -> None:
    path = write(tmp_path, f"a{suffix}", f"{line}\nid;text, all\n1;one, two\n2;three\n")
    assert read(path, text_column="text, all") == ["one, two", "three"]
    assert read(path, no_header=True, text_column="2") == ["text, all", "one, two", "three"]
    with pytest.raises(CorpusError, match=r"no column 'text'\. Set text_column to one of: id, text, all\."):
        read(path)
    path = write(tmp_path, f"a{suffix}", f"{line}\nid;text\n1\n")
    with pytest.raises(CorpusError, match="line 3: a row of 1 field"):
        read(path)
    plain = write(tmp_path, f"b{suffix}", "sep=x\na\n")
    assert read(plain, text_column="sep=x") == ["a"]


def test_the_remedy_for_a_tsv_file_with_quotes_can_be_obeyed(tmp_path: Path) -> None:
    content = 'text\tby\n"one\ntwo"\tx\n"He said ""hi"""\ty\n'
    assert read(write(tmp_path, "a.csv", content)) == ["one\ntwo", 'He said "hi"']


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


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_columns_of_one_name(tmp_path: Path, suffix: str) -> None:
    rows = [["text", "text", "id", "id", "by"], ["a", "b", "1", "2", "c"]]
    path = write(tmp_path, f"a{suffix}", "".join("\t".join(row) + "\n" for row in rows))
    assert read(path, text_column="by") == ["c"]
    with pytest.raises(CorpusError, match=r"2 columns are named 'text'\. .*, or set text_column to another\."):
        read(path)
    with pytest.raises(CorpusError, match=r"2 columns are named 'id'\. .*, or set labels to another\."):
        read(path, text_column="by", labels="id")
    assert read(path, no_header=True, text_column="2") == ["text", "b"]


def test_the_hint_for_a_table_without_a_header_can_be_obeyed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "1;first poem\n2;second poem\n")
    error = run("corpus", "stats", path).stderr
    assert "Set --text-column to one of: 1, first poem." in error
    assert "set --no-header, and --text-column to the number of a column" in error
    obeyed = json.loads(run("corpus", "stats", path, "--no-header", "--text-column", "2", "--json").stdout)
    assert (obeyed["num_documents"], obeyed["characters"]) == (2, len("first poemsecond poem"))


@pytest.mark.parametrize(
    ("suffix", "content", "settings"),
    [
        (".csv", "id,text\n1,the cat\n", {"delimiter": ";"}),
        (".csv", "id\ttext\n1\tthe cat\n", {"delimiter": "|"}),
        (".tsv", "id,text\n1,the cat\n", {}),
        (".csv", "1,the cat\n", {"delimiter": ";", "no_header": True, "text_column": "2"}),
        (".tsv", "1,the cat\n", {"no_header": True, "text_column": "2"}),
    ],
)
def test_the_hint_for_a_wrong_delimiter_can_be_obeyed(
    tmp_path: Path, suffix: str, content: str, settings: dict[str, Any]
) -> None:
    path = write(tmp_path, f"a{suffix}", content)
    with pytest.raises(CorpusError) as caught:
        read(path, **settings)
    used = settings.get("delimiter", "\t")
    assert f"read with the delimiter {used!r}, which its first row does not have: set" in str(caught.value)
    hint = re.search(
        r"set delimiter to '(.+?)'\.(?: Or, if this is its only column, set text_column|$)", str(caught.value)
    )
    assert hint, caught.value
    assert read(path, **settings | {"delimiter": hint[1].replace("\\t", "\t")}) == ["the cat"]


def test_the_hint_for_a_single_column_with_a_comma_can_be_obeyed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text, all\none, two\n")
    with pytest.raises(CorpusError, match=r"Or, if this is its only column, set text_column to 'text, all'\."):
        read(path, delimiter=";")
    assert read(path, delimiter=";", text_column="text, all") == ["one, two"]
    rows = write(tmp_path, "b.csv", "one, two\n")
    with pytest.raises(CorpusError, match=r"Or, if this is its only column, set text_column to '1'\."):
        read(rows, delimiter=";", no_header=True, text_column="2")
    assert read(rows, delimiter=";", no_header=True, text_column="1") == ["one, two"]


def test_the_hint_names_no_column_that_cannot_be_typed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "id\ttitle\n1\tone\n")
    with pytest.raises(CorpusError, match=r"set delimiter to '\\t'\.$"):
        read(path, delimiter=";")


@pytest.mark.parametrize("settings", [{}, {"delimiter": ","}, {"delimiter": ";"}])
def test_a_column_without_another_delimiter_is_no_wrong_delimiter(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=r"no column 'text'\. Set text_column to one of: title\."):
        read(write(tmp_path, "a.csv", "title\nthe cat\n"), **settings)

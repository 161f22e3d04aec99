"""Records of tables and of lines of JSON: those without text, and hints for fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from files import read, write

from textgen.cli import textgen
from textgen.corpus.corpus import Corpus
from textgen.errors import CorpusError


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(textgen, list(map(str, arguments)), input=stdin, prog_name="textgen")


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

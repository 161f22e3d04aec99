"""Values of .json files, one at a time, and fields within fields."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from files import read, write
from hypothesis import given
from hypothesis import strategies as st

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.formats import records
from textgen.corpus.formats.json_values import Element, Found, find, json_values, string_fields
from textgen.errors import CorpusError

POEMS = {
    "list": '[{"text": "one", "by": "a"}, {"text": null}, "two", {"text": ["three", null, "lines"], "by": "b"}]',
    "wrapper": '{"n": 3, "data": [{"text": "one", "by": "a"}, {"text": " "}, "two", {"text": ["three", "lines"], '
    '"by": "b"}], "more": {}}',
    "lines": '{"text": "one", "by": "a"}\n{"text": ""}\n\n"two"\n{"text": ["three", "lines"], "by": "b"}',
}


@pytest.mark.parametrize("kind", POEMS)
@pytest.mark.parametrize("chunk", [1, 5, 1 << 18])
def test_a_json_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, chunk: int) -> None:
    monkeypatch.setattr("textgen.corpus.formats.decompression.CHUNK_BYTES", chunk)
    monkeypatch.setattr("textgen.corpus.formats.json_values.STEP_CHARS", chunk)
    before = "data." if kind == "wrapper" else ""
    config = CorpusConfig(text_field=f"{before}text", labels=f"{before}by")
    corpus = Corpus([write(tmp_path, "a.json", POEMS[kind])], config)
    assert [(part.text, part.label) for part in corpus.parts()] == [("one", "a"), ("two", None), ("three\nlines", "b")]
    assert next(corpus.left_out.lines()).endswith("a.json, the first in record 2.")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("record", "field", "label", "expected"),
    [
        ({"by": "Ann", "poems": [{"text": "a"}, "b"]}, "poems.text", "by", ["Ann", "Ann"]),
        ({"by": "Ann", "poems": [{"text": "a", "by": "x"}, {"text": "b"}]}, "poems.text", "by", ["Ann", "Ann"]),
        ({"n": 1, "poems": [{"text": "a", "by": "x"}, {"text": "b"}]}, "poems.text", "by", ["x", None]),
        ({"n": 1, "poems": [{"text": "a", "by": "x"}, {"text": "b"}]}, "poems.text", "poems.by", ["x", None]),
        ({"m": {"by": 3}, "d": [{"p": [{"text": "a"}, {"text": "b"}]}]}, "d.p.text", "m.by", ["3", "3"]),
    ],
)
def test_a_label_beside_a_list_is_that_of_each_record(
    tmp_path: Path, suffix: str, record: Any, field: str, label: str, expected: list[str | None]
) -> None:
    path = write(tmp_path, f"a{suffix}", json.dumps(record))
    corpus = Corpus([path], CorpusConfig(text_field=field, labels=label))
    assert [(part.text, part.label) for part in corpus.parts()] == list(zip("ab", expected, strict=True))


def test_a_label_after_a_list_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps({"poems": [{"text": "a"}], "m": {"by": "Ann"}, "other": 1}))
    message = (
        r"a\.json: the label 'm.by' comes after the list 'poems', .*\. Put 'm' before 'poems', write .*\.jsonl file, "
        r"or set labels to 'poems\.m\.by' for the label in each record\.$"
    )
    with pytest.raises(CorpusError, match=message):
        read(path, text_field="poems.text", labels="m.by")
    assert read(path, text_field="poems.text") == read(path, text_field="poems.text", labels="folder") == ["a"]
    assert read(path, text_field="poems.text", labels="poems.by") == ["a"]


def test_the_field_that_holds_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", POEMS["wrapper"])
    with pytest.raises(
        CorpusError, match=r"no field 'text' in any record\. Set text_field to .*: data\.text, data\.by"
    ):
        read(path)
    path = write(tmp_path, "b.json", '{"text": [{"body": "x"}]}')
    with pytest.raises(CorpusError, match=r"field 'text' is a list with text in text\.body\. Set text_field"):
        read(path)
    assert read(path, text_field="text.body") == ["x"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["see ", {"type": "link", "text": "http://x.org"}, " now"], "see http://x.org now"),
        ([{"type": "bold", "text": "see"}, {"type": "plain", "text": " it"}], "see it"),
        ([{"type": "text_link", "text": "see", "href": "http://x.org"}], "see"),
        (["see ", {"text": "it"}], "see it"),
        (["see", None, "it"], "see\nit"),
    ],
)
def test_pieces_of_a_text_are_joined(tmp_path: Path, value: list[Any], expected: str) -> None:
    path = write(tmp_path, "a.json", json.dumps({"name": "x", "messages": [{"text": "hi"}, {"text": value}]}))
    assert read(path, text_field="messages.text") == ["hi", expected]


@pytest.mark.parametrize(
    "poems",
    [
        [{"text": "a"}, {"text": "b"}],
        [{"text": "a"}, "x", {"text": 1}],
        [{"text": "a"}, "x", {"by": "b"}],
        [{"text": "a"}, "x", {"text": "b"}, None],
        [{"type": "poem", "text": "a"}, {"type": "poem", "text": "b"}],
        [{"type": "bold", "text": "a"}, {"type": ["bold"], "text": "b"}],
        [{"id": 1, "type": "message", "from": "x", "text": "a"}, {"id": 2, "type": "message", "text": "b"}],
        [{"type": "email", "by": "x", "text": "a"}],
    ],
)
def test_records_are_no_pieces_of_a_text(tmp_path: Path, poems: list[Any]) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps({"poems": poems}))
    with pytest.raises(
        CorpusError, match=r"line 1: field 'poems' is a list with text in .*poems\.text.*\. Set text_field"
    ):
        read(path, text_field="poems")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": {"b": "x"}}, "field 'a.b' is a string. Expected an object or a list with 'c.d' in it: correct it"),
        ({"a": 5}, "field 'a' is a number. Expected an object or a list with 'b.c.d' in it: correct it"),
        ({"a": {"b": {"c": True}}}, "field 'a.b.c' is true or false. Expected an object or a list with 'd' in it: cor"),
    ],
)
def test_what_is_in_the_way_to_a_text_is_named(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps(record))
    with pytest.raises(CorpusError, match=f"line 1: {re.escape(message)}.* text_field to another"):
        read(path, text_field="a.b.c.d")


@pytest.mark.parametrize(
    ("record", "path", "label", "expected"),
    [
        ("x", "text", "by", [("x", None)]),
        ({"a": {"b": "x"}}, "a.b", None, [("x", None)]),
        ({"a.b": "x", "a": {"b": "y"}}, "a.b", None, [("x", None)]),
        ({"a.b": {"c": "x"}}, "a.b.c", None, [("x", None)]),
        ({"a": [{"b": "x", "by": 1}, {"b": "y"}], "by": 2}, "a.b", "by", [("x", 2), ("y", 2)]),
        ({"a": [{"b": "x", "by": 1}, {"b": "y"}], "by": 2}, "a.b", "a.by", [("x", 1), ("y", None)]),
        ({"a": [{"b": [{"c": "x"}, {"c": "y"}], "by": 1}]}, "a.b.c", "a.by", [("x", 1), ("y", 1)]),
        ({"a": {"b": "x"}, "m": {"by": 3}}, "a.b", "m.by", [("x", 3)]),
        ({"text": ["x", "y"], "text2": 1}, "text", "text2", [(["x", "y"], 1)]),
        ({"text": "x"}, "text", "text", [("x", "x")]),
        ({"a": None}, "a", None, [(None, None)]),
    ],
)
def test_what_a_path_finds(record: Any, path: str, label: str | None, expected: list[tuple[Any, Any]]) -> None:
    assert list(find(record, path, label)) == [Found(*each) for each in expected]


@pytest.mark.parametrize(("record", "path"), [({}, "a"), ({"a": None}, "a.b"), ({"a": {}}, "a.b"), ({"b": 1}, "a.b")])
def test_what_is_missing(record: Any, path: str) -> None:
    (found,) = find(record, path)
    assert not isinstance(found.value, (str, type(None)))


def test_fields_that_hold_text() -> None:
    record = {"id": 1, "a": {"b": {"c": "x", "d": {"e": "y"}}}, "f": ["x"], "g": [], "h": None, "i": [{"j": "z"}]}
    assert list(string_fields(record)) == ["a.b.c", "f", "i.j"]


def pieces(text: str, sizes: list[int]) -> Iterator[str]:
    start = 0
    for size in sizes:
        yield text[start : start + size]
        start += size
    yield text[start:]


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(nested, max_size=5), st.lists(st.integers(0, 9)), st.sampled_from([None, 2]), st.booleans())
def test_any_value_comes_back_in_any_pieces(
    values: list[Any], sizes: list[int], indent: int | None, is_ascii: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textgen.corpus.formats.json_values.STEP_CHARS", 1)
        text = json.dumps(values, indent=indent, ensure_ascii=is_ascii)
        assert list(json_values(pieces(text, sizes), "a", "text", 10_000)) == list(map(Element, values))
        text = json.dumps({"x": values, "data": values, "y": 1.5}, indent=indent)
        expected = [Element(value, "data", {"x": values}) for value in values]
        assert list(json_values(pieces(text, sizes), "a", "data.text", 10_000)) == expected
        record = {"x": values, "y": {"z": values}}
        assert list(json_values(pieces(json.dumps(record), sizes), "a", "x", 10_000)) == [Element(record)]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": "b", "text": "c"}', "line 2"),
        ("a.json", '[{"text": "a"},\n{"id": 1, "text": "b", "text": "c"}]', "line 2"),
        ("a.json", '{"id": 1,\n"text": "b",\n\n"text": "c"}', "line 4"),
        ("a.json", '{"more": [{"by": {"text": 1, "x": 2, "text": 3}}]}', "line 1"),
        ("a.json", '{"text": [{"text": "a"}],\n"text": [{"text": "b"}]}', "line 2"),
    ],
)
def test_a_name_that_occurs_twice_in_an_object_is_said(tmp_path: Path, name: str, text: str, place: str) -> None:
    message = rf"{name}, {place}: the name 'text' occurs twice in an object\. Give each value a name of its own: only"
    with pytest.raises(CorpusError, match=message):
        read(write(tmp_path, name, text), text_field="text.text" if "[" in text[1:] else "text")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a"}\n {"text": "b"}]', r"line 2: not JSON \(expected ',', found '\{'\)"),
        ('[{"text": "a"},\n', r"line 2: not JSON \(Expecting value\)"),
        ('[{"text": "a"}', r"line 1: not JSON \(expected ',' or the end|',' is missing\)"),
        ('[{"text": "a"},\n{"text" "b"}]', r"line 2: not JSON \(Expecting ':' delimiter\)"),
        ('{"text": "a",\n\nb: 1}', r"line 3: not JSON \(expected a name in double quotes\)"),
        ('["a"], ["b"]', r"line 1: not JSON \(Expecting value\)"),
        ("[5]", r"record 1: a number\. Expected an object or a string"),
        ('[{"text": 5}]', r"record 1: field 'text' is a number\. Set text_field to one that is a string, or a list"),
        ('["\\ud83d"]', r"record 1: \\ud83d is half of a character"),
        ("[" * 100_000, "not JSON"),
        ('[{"text": ' + "9" * 5000 + "}]", r"line 1: not JSON \(a number has too many digits\)"),
        ("", "No text in"),
        ("[]", "No text in"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as info:
        read(write(tmp_path, "a.json", text))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('{"text" "b"}', r"line 2: not JSON \(Expecting ':' delimiter\)"),
        ('{"text": "b" "by": "c"}', r"line 2: not JSON \(Expecting ',' delimiter\)"),
        ("{'text': 'b'}", r"line 2: not JSON \(Expecting property name enclosed in double quotes\)"),
        ('{"text": tru}', r"line 2: not JSON \(Expecting value\)"),
        ('{"text": "a\\d"}', r"line 2: not JSON \(Invalid \\escape"),
        ('{"text": "a\nb"}', r"line [23]: not JSON \(Invalid control character at\)"),
    ],
)
def test_an_error_before_much_text_is_told_as_such_and_at_once(wrong: str, message: str) -> None:
    given = list[str]()

    def texts() -> Iterator[str]:
        for text in ('[{"text": "a"},\n', wrong, *[', {"text": "' + "x" * 1000 + '"}'] * 300):
            given.append(text)
            yield text

    with pytest.raises(CorpusError, match=message):
        list(json_values(texts(), "a.json", "text", 200_000))
    assert sum(map(len, given)) < 100_000


def test_only_a_record_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"data": [' + ",".join('{"text": "' + "x" * 1000 + '"}' for _ in range(4000)) + "]}"
    path = write(tmp_path, "a.json", text)
    corpus = Corpus([path], CorpusConfig(text_field="data.text"))
    tracemalloc.start()
    try:
        assert sum(1 for _ in corpus.parts()) == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
    monkeypatch.setattr(records, "MAX_RECORD_CHARS", 1 << 20)
    with pytest.raises(CorpusError, match=r"the list 'data' has more than 1,048,576 .* set text_field to data and"):
        read(path)
    with pytest.raises(CorpusError, match=r"line 1: a record of more than 1,048,576 characters"):
        read(write(tmp_path, "b.json", '["' + "x" * (3 << 20) + '"]'))
    with pytest.raises(CorpusError, match=r"line 1: a record of more than 1,048,576 characters"):
        read(write(tmp_path, "c.json", json.dumps({f"n{n}": "x" * 1000 for n in range(2000)})))


def test_fields_of_lines_may_be_nested_and_lists(tmp_path: Path) -> None:
    rows = [{"data": {"text": "one"}}, {"data": {"text": ["two", "lines"]}}, {"data": [{"text": "a"}, {"text": "b"}]}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, [*rows, {"data": None}, {"data": {}}])))
    assert read(path, text_field="data.text") == ["one", "two\nlines", "a", "b"]

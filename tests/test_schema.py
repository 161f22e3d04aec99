"""Schemas: what fits is let through, what does not is named with its place. No JSON makes a reader of it crash."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from textgen.cli.prompts import read_requests
from textgen.corpus.config import CorpusConfig
from textgen.corpus.fetching.fetched_text import _poem_blocks, _read_record
from textgen.corpus.formats.records import RecordFile
from textgen.corpus.walk import is_record
from textgen.dataset.bloom_filter import read_filters
from textgen.dataset.prepared_corpus import _has_settings
from textgen.dataset.token_files import read_object
from textgen.errors import TextgenError
from textgen.export.formats import MARK, exported_format
from textgen.export.packing import MAGIC, unpacked
from textgen.saved_model.layout import read_json
from textgen.saved_model.onnx_cache import _read
from textgen.schema import RepeatedName, check, decoded_json, json_object, of_fields
from textgen.storage.cache_eviction import _content
from textgen.storage.cache_layout import LOSS
from textgen.storage.manifests import MANIFEST, read_manifest, update_folder
from textgen.storage.remote_folders import fetch_folder
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.model_file import _says_byte


@dataclass
class Inner:
    scale: float = 1.0


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    step: int = 0
    best: float | None = None
    name: str = ""
    is_done: bool = False


SCHEMA = of_fields(Outer, inner=of_fields(Inner))


@pytest.mark.parametrize(
    "value",
    [{}, {"step": 1}, {"best": None}, {"best": 1}, {"best": 1.5, "inner": {}}, {"inner": {"scale": 2}}, {"other": []}],
)
def test_what_fits(value: dict[str, Any]) -> None:
    check(value, SCHEMA)
    with pytest.raises(ValueError, match=r"^inner should be an object, not 5$"):
        check(value | {"inner": 5}, SCHEMA)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it should be an object, not a list"),
        ({"step": 1.0}, "step should be an integer, not 1.0"),
        ({"step": True}, "step should be an integer, not True"),
        ({"step": 10**30}, "step should be an integer, not a number of many digits"),
        ({"best": "x"}, "best should be a number or null, not 'x'"),
        ({"best": float("nan")}, "best should be a number or null, not nan"),
        ({"best": False}, "best should be a number or null, not False"),
        ({"name": None}, "name should be a string, not None"),
        ({"is_done": 1}, "is_done should be true or false, not 1"),
        ({"inner": {"scale": {}}}, "inner.scale should be a number, not an object"),
        ({"inner": 5}, "inner should be an object, not 5"),
    ],
)
def test_what_does_not_fit(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check(value, SCHEMA)


def test_a_field_without_a_default_is_required() -> None:
    @dataclass
    class Named:
        name: str
        step: int = 0

    check({"name": "a"}, of_fields(Named))
    with pytest.raises(ValueError, match=r"^it lacks 'name'$"):
        check({"step": 1}, of_fields(Named))


def test_lists_maps_and_what_is_missing() -> None:
    check({"a": [1, 2], "b": {"x": None}}, {"a": [int], "b": {str: (int, None)}, "c?": str})
    for value, message in (
        ({"a": [1, "2"], "b": {}}, r"a\[1\] should be an integer, not '2'"),
        ({"a": [], "b": {"\x1b": "y"}}, r"b\.'\\x1b' should be an integer or null"),
        ({"a": []}, "it lacks 'b'"),
    ):
        with pytest.raises(ValueError, match=message):
            check(value, {"a": [int], "b": {str: (int, None)}, "c?": str})
    with pytest.raises(ValueError, match=r"'x{39}\.\.\.$"):
        check("x" * 1000, int)


# --- Decoding ----------------------------------------------------------------------------------------------

DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    "data", ["", "{", b"\xff", DEEP, DEEP.decode(), b'{"a":' * 200_000, b"1" * 10_000, b'"a'], ids=lambda data: data[:9]
)
def test_what_is_no_json_is_a_value_error(data: str | bytes) -> None:
    for decode in (decoded_json, json_object):
        with pytest.raises(ValueError, match=r"."):
            decode(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("9" * 5000, "a number has too many digits"),
        (b'{"a": [-' + b"9" * 5000 + b"]}", "a number has too many digits"),
        (DEEP, "lists or objects are nested too deep"),
        ("[1,]", "Illegal trailing comma before end of array.*|Expecting value.*"),
        (b"\xff", ".*can't decode byte 0xff.*"),
    ],
    ids=["digits", "more digits", "brackets", "comma", "byte"],
)
def test_what_is_wrong_with_json_is_said_without_advice_for_programmers(data: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^({why})$"):
        decoded_json(data)


@pytest.mark.parametrize("data", ['{"a": 1, "b": 2, "a": 1}', b'[{"b": {"a": {}, "c": 1, "c": 1, "a": {}}}]'])
def test_a_name_that_occurs_twice_is_a_value_error(data: str | bytes) -> None:
    with pytest.raises(RepeatedName, match=r"^the name 'a' occurs twice in an object$"):
        decoded_json(data)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("文本", "文本"), ("é", "é"), ("a\u202eb", r"a\u202eb"), (r"\ud800", r"\ud800"), ("a\u200bb", r"a\u200bb")],
)
def test_names_and_values_are_shown_in_all_scripts_without_hidden_characters(name: str, shown: str) -> None:
    with pytest.raises(RepeatedName) as caught:
        decoded_json(f'{{"{name}": 1, "{name}": 2}}')
    assert str(caught.value) == f"the name '{shown}' occurs twice in an object"
    with pytest.raises(ValueError, match=r"^it should be ") as refused:
        check(decoded_json(f'"{name}"'), int)
    assert str(refused.value).endswith(f"not '{shown}'")


def test_bytes_and_text_are_decoded_alike() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert decoded_json('{"é": ["月"]}'.encode(encoding)) == {"é": ["月"]}
    with pytest.raises(ValueError, match="byte-order mark"):
        decoded_json("\ufeff[]")


@pytest.mark.parametrize(("data", "kind"), [("[]", "a list"), ("5", "5"), ("null", "None"), ('"a"', "'a'")])
def test_what_is_no_object_is_a_value_error(data: str, kind: str) -> None:
    decoded_json(data)
    with pytest.raises(ValueError, match=f"^it should be an object, not {kind}$"):
        json_object(data)


def written(path: Path, data: bytes = DEEP) -> Path:
    path.write_bytes(data)
    return path


def in_memory(name: str) -> str:
    fsspec.filesystem("memory").pipe(f"/deep/{name}", DEEP)
    return "memory://deep"


def filters_of(path: Path) -> Path:
    save_file({"bits_0": np.zeros(8, np.uint8)}, path, {"key": DEEP.decode()})
    return path


def in_manifest(folder: Path) -> Path:
    update_folder(folder, {LOSS: DEEP})
    return folder


def packed() -> bytes:
    return MAGIC + struct.pack("<Q", len(DEEP)) + hashlib.sha256(DEEP).digest() + DEEP


def records(suffix: str = ".jsonl") -> RecordFile:
    return RecordFile("deep", suffix, CorpusConfig())


READERS: dict[str, Callable[[Path], object]] = {
    "file of a saved model": lambda path: read_json(written(path)),
    "file of token ids": lambda path: read_object(written(path)),
    "manifest": lambda path: read_manifest(written(path.parent / MANIFEST).parent),
    "manifest elsewhere": lambda path: fetch_folder(in_memory(MANIFEST)),
    "record of a training": lambda path: is_record(DEEP),
    "settings of a prepared corpus": lambda path: _has_settings(in_memory("prepared.json")),
    "config of a byte vocabulary": lambda path: _says_byte(written(path)),
    "labels of a byte vocabulary": lambda path: load_tokenizer(DEEP),
    "mark of an export": lambda path: exported_format(written(path.parent / MARK).parent),
    "entry of the cache": lambda path: _content(written(path.parent / LOSS).parent),
    "packed model": lambda path: unpacked(packed()),
    "filters": lambda path: read_filters(filters_of(path), "key", "words"),
    "prompts": lambda path: read_requests([], str(written(path.with_suffix(".jsonl"))), None, {}, 1),
    "records": lambda path: list(records().read([DEEP.decode()])),
    "fields of records": lambda path: records().fields([DEEP.decode()]),
    "values of a .json file": lambda path: list(records(".json").read([DEEP.decode()])),
    "record of a text": lambda path: _read_record(written(path)),
    "poems": lambda path: _poem_blocks(written(path)),
    "network in the cache": lambda path: _read(in_manifest(path.parent / "entry")),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_no_reader_of_json_crashes_on_200_000_brackets(tmp_path: Path, read: Callable[[Path], object]) -> None:
    try:
        found = read(tmp_path / "file")
    except TextgenError:
        return
    assert not found

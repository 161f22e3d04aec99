"""What exports have in common."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exported import CELLS, model_of

from textgen.export.attribution import Attribution
from textgen.export.interface import attachments, metadata, state_shapes, with_attachments
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer


@pytest.mark.parametrize("options", CELLS.values(), ids=CELLS)
def test_names_are_in_the_order_of_the_state(options: dict[str, Any], tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer, **options)
    writer: NumpyModel = model.numpy_model(model.main_direction)
    shapes = [array.shape[1:] for layer in writer.initial_state(1) for array in layer]
    assert shapes == list(state_shapes(model.model_config).values())


def test_metadata_name_licence_and_score_where_they_are_known(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = model_of(tmp_path, tokenizer)
    assert not {"licence", "note", "bits_per_byte"} & metadata(model).keys()
    scored = replace(model, training=model.record | {"scores": {"bits_per_byte": 1.5}})
    found = metadata(scored, Attribution(licence="CC0", note="poems"))
    assert (found["licence"], found["note"], found["bits_per_byte"]) == ("CC0", "poems", 1.5)


def test_a_name_that_is_not_unicode_is_escaped(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = replace(model_of(tmp_path, tokenizer), folder=tmp_path / os.fsdecode(b"caf\xe9"))
    assert metadata(model)["name"] == "caf\\xe9"


def test_labels_and_bytes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    labelled = ByteTokenizer(["poem", "tale"])
    model = replace(model_of(tmp_path, tokenizer), tokenizer=labelled)
    assert attachments(model).keys() == {"metadata.json"}
    found = metadata(model)
    assert (found["opening"], found["labels"]["tale"]) == (labelled.opening(), labelled.opening("tale"))


@pytest.mark.parametrize("data", [b"no archive" * 9, None], ids=["file", "archive"])
def test_files_are_attached(data: bytes | None) -> None:
    if data is None:
        data = with_attachments(b"", {"b": b"2"})
    found = with_attachments(data, {"a": b"1"})
    with zipfile.ZipFile(io.BytesIO(found)) as archive:
        assert archive.read("textgen/a") == b"1"
    assert found.startswith(data[:40])

"""What exports have in common."""

from __future__ import annotations

import io
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from exported import CELLS, model_of

from textgen.export.attribution import Attribution
from textgen.export.interface import attachments, metadata, state_shapes, with_attachments
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer


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


def as_the_readme_says(kind: str, serialized: bytes, text: str) -> list[int]:
    """The ids of a text by SentencePiece and the section "Interface" of textgen/export/README.md alone."""
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(serialized)
    fixed = {"\n": [3]}
    if kind != "word":
        fixed["▁"] = [230, 154, 133]
        if model.piece_to_id("▁") == 1:
            fixed[" "] = [36]
    ids: list[int] = []
    for stretch in re.split(f"([{''.join(fixed)}])", text):
        words = stretch.replace("▁", " ").split() if kind == "word" and stretch != "\n" else [stretch]
        for word in words:
            ids += fixed.get(word) or model.encode(word)
    return ids


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("learned", ["the cat sat on the mat\n", "床前明月光疑是地上霜\n"])
def test_another_program_gets_the_ids_of_a_text_as_the_readme_says(kind: str, learned: str) -> None:
    tokenizer = train_tokenizer([learned * 30], TokenizerConfig(kind))
    for text in ("the dog cow cat\n\n the  mat▁cat\n", "床前 明月▁光 \n", "dog▁cow", ""):
        assert as_the_readme_says(kind, tokenizer.serialized, text) == tokenizer.encode(text)

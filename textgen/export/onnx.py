"""Exports a model to ONNX: one step of the network, with its state as inputs and outputs.

    input_ids int64 [batch, 1], past.0.h, past.0.c, ...  ->  logits [batch, 1, V], present.0.h, present.0.c, ...

A program that runs it begins with zeros as the state, reads the ids `opening` of the metadata first, and feeds each
`present` back as `past`. A SentencePiece tokenizer is a file beside it. `metadata_props` holds what
`textgen.export.interface.metadata` returns: texts as they are, other values as JSON.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper

from textgen.errors import ConfigError, TextgenError
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.export.interface import attachments, direction_note, metadata
from textgen.export.verification import check_logits
from textgen.model.onnx_graph import state_names, step_graph
from textgen.model.onnx_model import CPU, load_onnxruntime
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.file_reading import read_file
from textgen.storage.files import write_files, writing
from textgen.storage.streams import is_stream
from textgen.tokenizer.model_file import MODEL_BYTES, MODEL_FILE, read_tokenizer
from textgen.wording import json_text

MAX_FILE_BYTES = (1 << 31) - (1 << 20)  # maximum size of an ONNX file (2 GiB) less a margin


def export_onnx(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes the network in float32 to an ONNX file, and the tokenizer beside it.

    Args:
        model: The model; of both directions forward is written.
        path: Path of the file. The tokenizer gets its name with `.tokenizer.model` in place of `.onnx`, or after a
            name that ends otherwise. A file of that name is replaced, or removed if the model needs none, only if an
            export to `path` wrote it.
        attribution: Licence and note for the metadata.

    Returns:
        What was written, in one sentence.

    Raises:
        ConfigError: The model is too large for the format, the path is that of a stream, which takes one file, or what
            has the name of the tokenizer's file is from elsewhere.
        SavedModelError: The weights are damaged, or the logits of the file differ from those of the model.
        TextgenError: A file cannot be written.
    """
    config, weights = model.one_way(model.main_direction)
    if 4 * config.num_parameters > MAX_FILE_BYTES:
        raise ConfigError(f"An ONNX file holds at most 2 GB, and {model.name} has {config.num_parameters:,} weights.")
    attached, tokenizer_path = attachments(model, attribution), _beside(path)
    if MODEL_FILE in attached and is_stream(path):
        raise ConfigError(f"{path} takes one file, and the tokenizer of {model.name} would be a second: name a file.")
    is_taken = not is_stream(path) and os.path.lexists(tokenizer_path)
    if is_taken and not _is_earlier(path, tokenizer_path, attached.get(MODEL_FILE)):
        raise ConfigError(
            f"{tokenizer_path} exists and is not from an export to {path}, but has the name of the tokenizer's file: "
            "choose another name, or move that file."
        )
    graph = step_graph(config, weights, time_axis=True)
    facts = metadata(model, attribution)
    helper.set_model_props(
        graph, {name: value if isinstance(value, str) else json_text(value) for name, value in facts.items()}
    )
    onnx.checker.check_model(graph)
    data = graph.SerializeToString()
    names = state_names(config, "past")
    check_logits(model, lambda ids: run(data, names, ids), str(path))
    files = {path: data}
    if MODEL_FILE in attached:
        files = {tokenizer_path: attached[MODEL_FILE], **files}
    write_files(files)
    written = " and ".join(map(str, reversed(files)))
    told = f"Wrote {written}: input_ids, {', '.join(names)} -> logits, and the state as present."
    if is_taken and tokenizer_path not in files:  # it would be taken for this model's
        with writing(tokenizer_path, f"Remove it, since it is not the tokenizer of {model.name} in {path}."):
            tokenizer_path.unlink(missing_ok=True)
        told += f" Removed {tokenizer_path}, which the earlier export to this file had written."
    return told + direction_note(model)


def _beside(path: Path) -> Path:
    """The path of the tokenizer's file."""
    stem = path.stem if path.suffix.lower() == ".onnx" else path.name  # v.1 and v.2 are two names without a suffix
    return path.with_name(f"{stem}.tokenizer.model")


def _is_earlier(path: Path, tokenizer_path: Path, tokenizer: bytes | None) -> bool:
    """Whether a file with the name of the tokenizer's holds this tokenizer, or was written by an export to `path`."""
    try:
        if tokenizer is not None and _read(tokenizer_path, MODEL_BYTES) == tokenizer:
            return True
        facts = {each.key: each.value for each in onnx.load_from_string(_read(path, MAX_FILE_BYTES)).metadata_props}
        found = read_tokenizer(tokenizer_path)
    except (OSError, TextgenError, DecodeError):
        return False
    return (
        not tokenizer_path.is_symlink()
        and facts.get("textgen") is not None
        and (found.kind, str(found.vocab_size)) == (facts.get("tokenizer"), facts.get("vocabulary_size"))
    )


def _read(path: Path, limit: int) -> bytes:
    """Reads a file that the user names, where `write_files` would write it: links are followed. Raises `OSError`."""
    return read_file(Path(os.path.realpath(path)), limit)


def run(data: bytes, names: list[str], ids: np.ndarray) -> np.ndarray:
    """Runs an exported graph on one text.

    Args:
        data: Content of the file.
        names: Names of the arrays of the state before a step.
        ids: Token ids int32 [T].

    Returns:
        The logits after each token [T, V].
    """
    session = load_onnxruntime().InferenceSession(data, providers=[CPU])
    shapes = {each.name: [1 if isinstance(size, str) else size for size in each.shape] for each in session.get_inputs()}
    state: list[Any] = [np.zeros(shapes[name], np.float32) for name in names]
    rows = []
    for token in ids:
        feed = dict(zip(names, state, strict=True))
        logits, *state = session.run(None, {"input_ids": np.array([[token]], np.int64), **feed})
        rows.append(logits[0, 0])
    return np.stack(rows)

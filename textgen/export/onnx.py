"""Exports a model to ONNX: one step of the network, with its state as inputs and outputs.

    input_ids int64 [batch, 1], past.0.h, past.0.c, ...  ->  logits [batch, 1, V], present.0.h, present.0.c, ...

A program that runs it begins with zeros as the state, reads the ids `opening` of the metadata first, and feeds each
`present` back as `past`. A SentencePiece tokenizer is a file beside it. `metadata_props` holds what
`textgen.export.interface.metadata` returns: texts as they are, other values as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnxruntime import InferenceSession

from textgen.errors import ConfigError
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.export.interface import attachments, direction_note, metadata
from textgen.export.verification import check_logits
from textgen.model.directions import one_way
from textgen.model.onnx_graph import state_names, step_graph
from textgen.saved_model.saved_model import ModelFolder
from textgen.storage.files import write_files, writing
from textgen.storage.streams import is_stream
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.wording import json_text

LARGEST = (1 << 31) - (1 << 20)  # maximum size of an ONNX file (2 GiB) less a margin


def export_onnx(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes the network in float32 to an ONNX file, and the tokenizer beside it.

    Args:
        model: The model; of both directions forward is written.
        path: Path of the file. The tokenizer gets its name with `.tokenizer.model` in place of the suffix; an older
            file of that name is removed where the model needs none.
        attribution: Licence and note for the metadata.

    Returns:
        What was written, in one sentence.

    Raises:
        ConfigError: The model is too large for the format, or the path is that of a stream, which takes one file.
        SavedModelError: The weights are damaged, or the logits of the file differ from those of the model.
        TextgenError: A file cannot be written.
    """
    config, weights = one_way(model.model_config, model.weights(), model.main_direction)
    if 4 * config.num_parameters > LARGEST:
        raise ConfigError(f"An ONNX file holds at most 2 GB, and {model.name} has {config.num_parameters:,} weights.")
    attached, tokenizer_path = attachments(model, attribution), path.with_suffix(".tokenizer.model")
    if MODEL_FILE in attached and is_stream(path):
        raise ConfigError(f"{path} takes one file, and the tokenizer of {model.name} would be a second: name a file.")
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
    if tokenizer_path not in files:  # it would be taken for this model's
        with writing(tokenizer_path):
            tokenizer_path.unlink(missing_ok=True)
    written = " and ".join(map(str, reversed(files)))
    told = f"Wrote {written}: input_ids, {', '.join(names)} -> logits, and the state as present."
    return told + direction_note(model)


def run(data: bytes, names: list[str], ids: np.ndarray) -> np.ndarray:
    """Runs an exported graph on one text.

    Args:
        data: Content of the file.
        names: Names of the arrays of the state before a step.
        ids: Token ids int32 [T].

    Returns:
        The logits after each token [T, V].
    """
    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    shapes = {each.name: [1 if isinstance(size, str) else size for size in each.shape] for each in session.get_inputs()}
    state: list[Any] = [np.zeros(shapes[name], np.float32) for name in names]
    rows = []
    for token in ids:
        feed = dict(zip(names, state, strict=True))
        logits, *state = session.run(None, {"input_ids": np.array([[token]], np.int64), **feed})
        rows.append(logits[0, 0])
    return np.stack(rows)

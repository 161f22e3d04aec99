"""What exported networks have in common: the names of their arrays, and what they tell about themselves.

In the formats keras, savedmodel and litert a network takes token ids `ids` and the state before them, and returns
`logits` and the state after them under the same names. So a program can pass the state on as it is. The state of a text
that has read nothing is zeros, float32:

    h_0, c_0    output and cell state of the first layer, [B, H]; a gru and an rnn have no c
    h_1, c_1    those of the second layer, and so on
    memory      with attention: the last N outputs, [B, N, H]
    count       with attention: how many of them there are, [B, 1]

The format onnx has other names (see `textgen.export.onnx`) and the same metadata.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textgen import __version__
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.model.config import ModelConfig
from textgen.model.reference.cells import cell_of
from textgen.storage.files import json_bytes
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.wording import visible

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder

METADATA = "metadata.json"
FORMAT_VERSION = 1  # version of the names above and of the metadata
FOLDER = "textgen"  # folder of the attached files within a file


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the arrays of the state, in the order in which the layers of textgen hold them.

    Args:
        config: Settings of a network of one direction.

    Returns:
        Shape of each array by name, without the axis of the batch.

    Example:
        >>> state_shapes(ModelConfig(vocab_size=50, hidden_units=8, num_layers=1))
        {'h_0': (8,), 'c_0': (8,)}
    """
    hidden, cell = config.hidden_units, cell_of(config)
    shapes: dict[str, tuple[int, ...]] = {
        f"{letter}_{layer}": (hidden,) for layer in range(config.num_layers) for letter in cell.letters
    }
    if config.attention:
        shapes |= {"memory": (config.attention, hidden), "count": (1,)}
    return shapes


def metadata(model: ModelFolder, attribution: Attribution = NO_ATTRIBUTION) -> dict[str, Any]:
    """Returns what a program needs to know about an exported network.

    Args:
        model: The model.
        attribution: Licence and note, which are left out where they are empty.

    Returns:
        Values for JSON. `opening` holds the ids to read before the first token of a document, `labels` those ids for
        each label, and `eos_id` is the id that ends a document. `fingerprint` is that of the saved model. The name
        is visible text: that of a folder may hold bytes that no format can keep.
    """
    tokenizer = model.tokenizer
    scores = model.record.get("scores", {})
    return {
        "format_version": FORMAT_VERSION,
        "textgen": __version__,
        "name": visible(model.name),
        "fingerprint": model.fingerprint,
        "tokenizer": tokenizer.kind,
        "vocabulary_size": tokenizer.vocab_size,
        "opening": tokenizer.opening(),
        "labels": {label: tokenizer.opening(label) for label in tokenizer.labels},
        "eos_id": tokenizer.eos_id,
        "direction": model.main_direction,
        **({"bits_per_byte": scores["bits_per_byte"]} if "bits_per_byte" in scores else {}),
        **{name: text for name, text in attribution.to_dict().items() if text},
    }


def attachments(model: ModelFolder, attribution: Attribution = NO_ATTRIBUTION) -> dict[str, bytes]:
    """Returns the files that accompany an exported network, by name: its `metadata`, and a SentencePiece model.

    A byte tokenizer has no SentencePiece model, and its labels are in the metadata. The arguments are those of
    `metadata`.
    """
    tokenizer = model.tokenizer
    model_file = {} if tokenizer.kind == "byte" else {MODEL_FILE: tokenizer.serialized}
    return {METADATA: json_bytes(metadata(model, attribution)), **model_file}


def with_attachments(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """Adds files to a zip archive, or appends an archive of them to a file of another kind.

    Args:
        data: A file that is a zip archive, or whose readers ignore what follows its end.
        files: Contents by name; they get names such as textgen/metadata.json.

    Returns:
        The file, which `zipfile` can open.
    """
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{FOLDER}/{name}", content)
    return file.getvalue()


def direction_note(model: ModelFolder) -> str:
    """Returns a sentence about what of a network of another direction was written; empty for a forward network."""
    if model.model_config.direction == "both":
        return " Only the forward network of this model was written."
    return " It reads text backward: give it the tokens of a text from the last to the first." * (
        model.main_direction == "backward"
    )

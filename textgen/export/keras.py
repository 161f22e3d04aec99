"""Writes a model as a `.keras` file of layers that Keras has, so that programs without textgen can load it.

In another program, where `h_0`, `c_0` and so on are the state (see `textgen.export.interface`) and 2 is an id:

    model = keras.models.load_model("novel.keras")
    state = {name: keras.ops.zeros((1, x.shape[1])) for name, x in model.input.items() if name != "ids"}
    state = model({"ids": keras.ops.array([[2]]), **state})
    logits = state.pop("logits")  # [1, 1, V], of the next token

`ids` [B, T] may hold any number of steps. Tokenizer and metadata are in the file too, which is a zip archive:
`textgen/tokenizer.model` and `textgen/metadata.json`.

Layers of Keras have the order of gates and the two biases of textgen, so the weights are copied as they are. Keras has
no layer that multiplies by the transposed table of an embedding. So a tied output layer becomes a Dense layer with a
copy of the table, which adds V * E weights to the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.errors import ConfigError
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.export.interface import attachments, direction_note, state_shapes, with_attachments
from textgen.export.verification import check_logits
from textgen.model.config import TABLE, ModelConfig
from textgen.model.reference.norm import NORM_EPSILON
from textgen.storage.files import write_file, writing
from textgen.storage.temporary import temporary_folder
from textgen.system.process_settings import TemporarySetting
from textgen.system.runtime import full_float32, load_tensorflow, quiet
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder

CELLS = ("lstm", "gru", "rnn")  # recurrent cells that Keras has too


def export_keras(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes a model to a `.keras` file.

    Args:
        model: The model. Of a model of both directions the forward network is written.
        path: Path of the file. An existing file is replaced.
        attribution: Licence and note for the metadata.

    Returns:
        What was written, in a sentence or two.

    Raises:
        ConfigError: The layers of Keras cannot express the model.
        SavedModelError: The weights are damaged, or the file's logits differ from those of the model.
        TextgenError: The file cannot be written.
    """
    refuse(model.model_config)
    with quiet():
        load_tensorflow()
    import keras

    config, weights = model.one_way(model.main_direction)
    with temporary_folder() as folder, TemporarySetting[str | None](_put_temporary_files, str(folder)), quiet():
        file = folder / "model.keras"
        with writing(file):
            keras_network(config, weights).save(file)
            data = with_attachments(file.read_bytes(), attachments(model, attribution))
            file.write_bytes(data)
        loaded = keras.models.load_model(file)
        with full_float32():
            check_logits(model, lambda ids: _logits(loaded, config, ids), str(path))
    write_file(path, data)
    copied = " with a copy of the embedding as output layer" if config.tie_embeddings else ""
    layers = sum(not isinstance(layer, keras.layers.InputLayer) for layer in loaded.layers)
    return f"Wrote {path}: {counted(layers, 'layer')} of Keras{copied}.{direction_note(model)}"


def _put_temporary_files(folder: str | None) -> str | None:
    """Sets where Keras makes temporary files, some of which it leaves if the disk is full. Returns the place before."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    return before


def refuse(config: ModelConfig) -> None:
    """Raises `ConfigError` if the layers of Keras cannot express a network."""
    odd = [] if config.cell in CELLS else [f"cell {config.cell}"]
    if config.attention:
        odd.append("attention")
    if odd:
        raise ConfigError(
            f"The layers of Keras cannot express this network: {', '.join(odd)}. Export it as savedmodel or litert."
        )


def keras_network(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Any:
    """Builds a network of layers that Keras has. TensorFlow must be loaded.

    Args:
        config: Settings of a network of one direction, which `refuse` accepts.
        weights: Weights by their names in textgen.

    Returns:
        A functional `keras.Model` from a dictionary of `ids` int32 [B, T] and the state to a dictionary of `logits`
        [B, T, V] and the state.
    """
    import keras

    ids = keras.Input((None,), dtype="int32", name="ids")
    before = {name: keras.Input(shape, name=name) for name, shape in state_shapes(config).items()}
    after: dict[str, Any] = {}
    x = keras.layers.Embedding(config.vocab_size, config.embedding_dim, name="embedding")(ids)
    for number in range(config.num_layers):
        below, own = x, [name for name in before if name.partition("_")[2] == str(number)]
        if config.layer_norm:
            x = keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name=f"norm_{number}")(x)
        layer = _recurrent_layer(config, f"{config.cell}_{number}")
        x, *arrays = layer(x, initial_state=[before[name] for name in own])
        after |= dict(zip(own, arrays, strict=True))
        if config.residual and x.shape[-1] == below.shape[-1]:
            x = keras.layers.Add(name=f"residual_{number}")([x, below])
    if config.hidden_units != config.embedding_dim:
        x = keras.layers.Dense(config.embedding_dim, name="projection")(x)
    logits = keras.layers.Dense(config.vocab_size, name="head")(x)
    network = keras.Model({"ids": ids, **before}, {"logits": logits, **after}, name="language_model")
    _set_weights(network, config, weights)
    return network


def _recurrent_layer(config: ModelConfig, name: str) -> Any:
    import keras

    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    options: dict[str, dict[str, Any]] = {
        "lstm": {},
        "gru": {"reset_after": config.reset_after},
        "rnn": {"activation": config.activation},
    }
    layer, units = kinds[config.cell], config.hidden_units
    return layer(units, return_sequences=True, return_state=True, name=name, **options[config.cell])


def _set_weights(network: Any, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Copies the weights; those of a layer come in the order of `ModelConfig.weight_shapes`, which is that of Keras."""
    of_layers: dict[str, list[np.ndarray]] = {}
    for name in config.weight_shapes():
        of_layers.setdefault(name.partition("/")[0], []).append(weights[name])
    if config.tie_embeddings:
        of_layers["head"].insert(0, weights[TABLE].T)
    for name, arrays in of_layers.items():
        network.get_layer(name).set_weights(arrays)


def _logits(network: Any, config: ModelConfig, ids: np.ndarray) -> np.ndarray:
    """The logits of a loaded network after each of ids [T], read in two parts with the state carried over."""
    import keras

    state: dict[str, Any] = {name: keras.ops.zeros((1, *shape)) for name, shape in state_shapes(config).items()}
    parts = []
    for part in np.array_split(ids, 2):
        state = network({"ids": keras.ops.array(part[None]), **state})
        parts.append(np.asarray(state.pop("logits"))[0])
    return np.concatenate(parts)

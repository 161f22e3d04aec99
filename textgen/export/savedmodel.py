"""Writes a model as a TensorFlow SavedModel, a folder that TensorFlow in any language and TensorFlow Serving can load.

In another program, where `h_0`, `c_0` and so on are the state (see `textgen.export.interface`) and 2 is an id:

    loaded = tf.saved_model.load("novel")
    state = loaded.signatures["initial_state"](batch_size=tf.constant(1))
    state = loaded.signatures["step"](ids=tf.constant([2]), **state)
    logits = state.pop("logits")  # [1, V], of the next token

The signatures are:

| signature | takes | returns |
|---|---|---|
| `serving_default` | `ids` [B, T] | `logits` [B, T, V] after each token, from the initial state |
| `initial_state` | `batch_size` [] | the state |
| `read` | `ids` [B, T], at least one step, and the state | `logits` [B, V] after the last token, and the state |
| `step` | `ids` [B] and the state | `logits` [B, V], and the state |

Ids and the batch size are int32, the rest float32. Everything is a function of its arguments: the loaded object keeps
nothing between calls. Its `weights` are variables by the names of textgen, and `attached` are the metadata and the
tokenizer, files in the folder's `assets/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.export.formats import export_folder
from textgen.export.interface import attachments, direction_note, state_shapes
from textgen.export.verification import check_logits
from textgen.storage.files import CannotWrite, write_own_file
from textgen.storage.temporary import temporary_folder
from textgen.system.runtime import full_float32, load_tensorflow, quiet

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel
    from textgen.saved_model.saved_model import ModelFolder

Functions = dict[str, Callable[..., Any]]


def export_savedmodel(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes a model to a folder in the format of TensorFlow's SavedModel.

    Args:
        model: The model. Of a model of both directions the forward network is written.
        path: Path of the folder. A folder that an export wrote is replaced.
        attribution: Licence and note for the metadata.

    Returns:
        What was written, in a sentence or two.

    Raises:
        SavedModelError: The weights are damaged, or the logits of the folder differ from those of the model.
        TextgenError: The folder cannot be written.
    """
    with quiet():
        load_tensorflow()
        network = model.network(model.main_direction)
        functions = signatures(network)
    with export_folder(path, "savedmodel") as folder, quiet():
        _save(network, functions, attachments(model, attribution), folder, path)
        with full_float32():
            check_logits(model, lambda ids: _logits(folder, ids), str(path))
    return f"Wrote {path}: signatures {', '.join(sorted(functions))}.{direction_note(model)}"


def signatures(network: LanguageModel) -> Functions:
    """Returns the signatures of a network, by name: see the module's docstring. TensorFlow must be loaded.

    Args:
        network: A network of one direction.
    """
    import tensorflow as tf

    shapes = state_shapes(network.config)
    structure = network.initial_state(1)
    state_specs = [tf.TensorSpec((None, *shape), tf.float32, name=name) for name, shape in shapes.items()]

    named = partial(named_arrays, shapes)

    def nested(arrays: Any) -> Any:
        return tf.nest.pack_sequence_as(structure, list(arrays))

    def head(features: tf.Tensor) -> tf.Tensor:
        return network.head(features, network.embedding.embeddings)

    def serving_default(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        every = tf.TensorArray(tf.float32, tf.shape(ids)[1], element_shape=(None, network.config.embedding_dim))
        keep = lambda t, features, every: every.write(t, features)  # noqa: E731
        *_, every = read_steps(network, ids, network.initial_state(tf.shape(ids)[0]), every, keep)
        return {"logits": head(tf.transpose(every.stack(), (1, 0, 2)))}

    def read(ids: tf.Tensor, *arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.zeros((tf.shape(ids)[0], network.config.embedding_dim))
        state, features = read_steps(network, ids, nested(arrays), features, lambda t, features, last: features)
        return {"logits": head(features), **named(state)}

    def step(ids: tf.Tensor, *arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, state = network.step(ids, nested(arrays))
        return {"logits": logits, **named(state)}

    def initial_state(batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
        return named(network.initial_state(batch_size))

    def traced(function: Callable[..., Any], name: str, shape: tuple[None, ...], *specs: Any) -> Any:
        signature = [tf.TensorSpec(shape, tf.int32, name=name), *specs]
        return tf.function(function, input_signature=signature, autograph=False)

    return {
        "serving_default": traced(serving_default, "ids", (None, None)),
        "read": traced(read, "ids", (None, None), *state_specs),
        "step": traced(step, "ids", (None,), *state_specs),
        "initial_state": traced(initial_state, "batch_size", ()),
    }


def named_arrays(names: Iterable[str], state: Any) -> dict[str, Any]:
    """Returns the arrays of a state by the names that exports give them: see `state_shapes`."""
    import tensorflow as tf

    return dict(zip(names, tf.nest.flatten(state), strict=True))


def read_steps(network: LanguageModel, ids: Any, state: Any, kept: Any, keep: Callable[..., Any]) -> tuple[Any, Any]:
    """Reads a window step by step, in a loop without TensorFlow's compiler, which not every program has.

    Args:
        network: A network of one direction.
        ids: Token ids int32 [B, T].
        state: State before them.
        kept: A tensor or `tf.TensorArray` for the results.
        keep: Called with the number of a step, its features [B, E] and `kept`; returns the new `kept`.

    Returns:
        The state after the window, and `kept` after the last step.
    """
    import tensorflow as tf

    def body(t: Any, state: Any, kept: Any) -> tuple[Any, Any, Any]:
        features, state = network.step_features(ids[:, t], state)
        return t + 1, state, keep(t, features, kept)

    steps = tf.shape(ids)[1]
    _, state, kept = tf.while_loop(lambda t, *_: t < steps, body, (tf.constant(0), state, kept))
    return state, kept


def save_module(module: Any, functions: Functions, folder: Path, path: Path) -> None:
    """Writes a `tf.Module` with signatures.

    Args:
        module: The module.
        functions: The signatures by name.
        folder: Folder to write to.
        path: Path for the error message.

    Raises:
        CannotWrite: The folder cannot be written.
    """
    import tensorflow as tf

    try:
        tf.saved_model.save(module, str(folder), signatures=functions)
    except tf.errors.OpError as error:  # its message: "path; reason [Op:name]"
        reason = re.sub(r" \[Op:\w+\]$", "", error.message.rpartition(";")[2].strip())
        raise CannotWrite(path, reason.rstrip(".")) from None


def _save(network: LanguageModel, functions: Functions, files: dict[str, bytes], folder: Path, path: Path) -> None:
    """Writes to a temporary folder; errors name `path`."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = {name: weight.value for name, weight in network.named_weights().items()}
    with temporary_folder() as assets:
        for name, data in files.items():
            write_own_file(assets / name, data)
        module.attached = {name: tf.saved_model.Asset(str(assets / name)) for name in files}
        save_module(module, functions, folder, path)


def _logits(folder: Path, ids: np.ndarray) -> np.ndarray:
    """The logits of a saved folder after each of ids [T]: the first half by one call, the rest by `read` and `step`."""
    import tensorflow as tf

    saved = tf.saved_model.load(str(folder)).signatures
    half = len(ids) // 2
    first, then = tf.constant(ids[None, :half], tf.int32), ids[half:]
    parts = [saved["serving_default"](ids=first)["logits"][0, :-1]]
    state = saved["read"](ids=first, **saved["initial_state"](batch_size=tf.constant(1)))
    parts.append(state.pop("logits"))
    for id in then:
        state = saved["step"](ids=tf.constant([id], tf.int32), **state)
        parts.append(state.pop("logits"))
    return np.concatenate(parts)

"""Writes a model as a `.tflite` file for LiteRT (formerly TensorFlow Lite), which runs on phones and small devices.

In another program, where `h_0`, `c_0` and so on are the state (see `textgen.export.interface`) and 2 is an id:

    runner = Interpreter("novel.tflite").get_signature_runner("decode")  # of ai_edge_litert.interpreter
    inputs = runner.get_input_details()
    state = {name: np.zeros(of["shape"], "float32") for name, of in inputs.items() if name != "ids"}
    state = runner(ids=np.array([[2]], "int32"), **state)
    logits = state.pop("logits")  # [1, 1, V], of the next token

The batch is one text. There are two signatures, whose state has the same names as arguments and as results:

| signature | takes | returns |
|---|---|---|
| `prefill_16` | `ids` [1, 16] and the state | the state |
| `decode` | `ids` [1, 1] and the state | `logits` [1, 1, V], and the state |

A prompt is read by `prefill_16` as far as it goes, the rest of it by `decode`. All operations are built into LiteRT.
Tokenizer and metadata are appended as a zip archive, as LiteRT's own metadata are: `zipfile.ZipFile("novel.tflite")`
finds `textgen/tokenizer.model` and `textgen/metadata.json`.

With int8 weights (dynamic range quantization) the products are of int8 weights and of activations that are rounded to
int8 at each step. The predictions are compared with those of the model, and refused if they are too different: see
`textgen.export.quality`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.errors import SavedModelError
from textgen.export.attribution import NO_ATTRIBUTION, Attribution
from textgen.export.interface import attachments, direction_note, state_shapes, with_attachments
from textgen.export.quality import check_quality
from textgen.export.savedmodel import named_arrays, read_steps, save_module
from textgen.export.verification import check_logits
from textgen.storage.files import write_file
from textgen.storage.temporary import temporary_folder
from textgen.system.runtime import load_tensorflow, quiet
from textgen.versions import load

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel
    from textgen.saved_model.saved_model import ModelFolder

PREFILL = 16  # tokens that one call of `prefill_16` reads
SAME = 1e-4  # largest difference between the states after one call of `prefill_16` and after as many steps
SAME_INT8 = 0.05  # the same with int8 weights: an activation near half of a step may be rounded either way


def export_litert(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes a model to a `.tflite` file with float32 weights.

    Args:
        model: The model. Of a model of both directions the forward network is written.
        path: Path of the file. An existing file is replaced.
        attribution: Licence and note for the metadata.

    Returns:
        What was written, in a sentence or two.

    Raises:
        SavedModelError: The weights are damaged, or the file's logits differ from those of the model.
        TextgenError: The file cannot be written.
    """
    data = with_attachments(_convert(model, is_int8=False), attachments(model, attribution))
    with quiet():
        written = LiteRTModel(data)
        check_logits(model, written.logits, str(path))
        written.check_prefill(model.model_config.vocab_size, SAME)
    write_file(path, data)
    return f"Wrote {path}: signatures decode and prefill_{PREFILL}, float32.{direction_note(model)}"


def export_litert_int8(model: ModelFolder, path: Path, attribution: Attribution = NO_ATTRIBUTION) -> str:
    """Writes a model to a `.tflite` file with int8 weights.

    Args:
        model: The model. Of a model of both directions the forward network is written.
        path: Path of the file. An existing file is replaced.
        attribution: Licence and note for the metadata.

    Returns:
        What was written and how far its predictions are from those of the model.

    Raises:
        SavedModelError: The weights are damaged, or the predictions are too far from those of the model.
        TextgenError: The file cannot be written.
    """
    data = with_attachments(_convert(model, is_int8=True), attachments(model, attribution))
    with quiet():
        written = LiteRTModel(data)
        change = check_quality(model, written, str(path), instead="litert")
        written.check_prefill(model.model_config.vocab_size, SAME_INT8)
    write_file(path, data)
    return f"Wrote {path}: signatures decode and prefill_{PREFILL}, int8: {change}.{direction_note(model)}"


class LiteRTModel:
    """An exported file with the interface of `textgen.model.numpy_model.NumpyModel`. Texts are read one by one.

    Args:
        data: Content of the file.
    """

    def __init__(self, data: bytes) -> None:
        library = load("ai_edge_litert.interpreter", "LiteRT", "litert")
        interpreter = library.Interpreter(model_content=data)
        self._decode = interpreter.get_signature_runner("decode")
        self._prefill = interpreter.get_signature_runner(f"prefill_{PREFILL}")

    def initial_state(self, batch_size: int) -> list[dict[str, np.ndarray]]:
        """Returns the state of each text before its first token: zeros."""
        details = self._decode.get_input_details()
        return [
            {name: np.zeros(of["shape"], np.float32) for name, of in details.items() if name != "ids"}
            for _ in range(batch_size)
        ]

    def step(
        self, ids: np.ndarray, state: list[dict[str, np.ndarray]]
    ) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """Reads ids int32 [B]. Returns the logits of the next tokens [B, V], and the state after `ids`."""
        after = [self._decode(ids=np.array([[id]], np.int32), **own) for id, own in zip(ids, state, strict=True)]
        return np.concatenate([own.pop("logits")[0] for own in after]), after

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Returns the logits [T, V] after each of ids [T], from the initial state."""
        return self._read(ids)[0]

    def check_prefill(self, vocab_size: int, tolerance: float) -> None:
        """Checks on random tokens that `prefill` gives the state that as many steps give.

        Args:
            vocab_size: Number of tokens to draw from.
            tolerance: Largest difference of a number of the state, relative to the number if that is above 1.

        Raises:
            SavedModelError: The state differs by more.
        """
        ids = np.random.default_rng(0).integers(vocab_size, size=PREFILL, dtype=np.int32)
        filled, stepped = self._prefill(ids=ids[None], **self.initial_state(1)[0]), self._read(ids)[1]
        if not all(np.allclose(filled[name], stepped[name], atol=tolerance, rtol=tolerance) for name in stepped):
            raise SavedModelError(f"The signature prefill_{PREFILL} differs from {PREFILL} calls of decode.")

    def _read(self, ids: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The logits [T, V] after each of ids [T], from the initial state, and the state after them."""
        state, rows = self.initial_state(1), []
        for number in range(len(ids)):
            logits, state = self.step(ids[number : number + 1], state)
            rows.append(logits)
        return np.concatenate(rows), state[0]


def _convert(model: ModelFolder, *, is_int8: bool) -> bytes:
    """Returns the content of the file, not yet compared with the model."""
    with quiet(), temporary_folder() as folder:
        load_tensorflow()
        import tensorflow as tf

        functions = _signatures(model.network(model.main_direction))
        save_module(tf.Module(), functions, folder, path=folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=list(functions))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if is_int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


def _signatures(network: LanguageModel) -> dict[str, Callable[..., Any]]:
    """The signatures of a network of one direction, with its weights as constants."""
    import tensorflow as tf

    shapes, structure = state_shapes(network.config), network.initial_state(1)

    named = partial(named_arrays, shapes)

    def decode(ids: tf.Tensor, *arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, state = network.step(ids[:, 0], tf.nest.pack_sequence_as(structure, list(arrays)))
        return {"logits": logits[:, None], **named(state)}

    def prefill(ids: tf.Tensor, *arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        state = tf.nest.pack_sequence_as(structure, list(arrays))
        return named(read_steps(network, ids, state, (), lambda t, features, kept: kept)[0])

    def frozen(function: Callable[..., Any], steps: int) -> Any:
        specs = [tf.TensorSpec((1, *shape), tf.float32, name=name) for name, shape in shapes.items()]
        return _with_constants(function, [tf.TensorSpec((1, steps), tf.int32, name="ids"), *specs])

    return {"decode": frozen(decode, 1), f"prefill_{PREFILL}": frozen(prefill, PREFILL)}


def _with_constants(function: Callable[..., Any], signature: list[Any]) -> Any:
    """Traces a function with constants in place of variables: the converter leaves the values of variables out."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    constant = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    names = sorted(traced.structured_outputs)  # the order of flat results

    def run(*arguments: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, constant(*arguments), strict=True))

    return tf.function(run, input_signature=signature, autograph=False)

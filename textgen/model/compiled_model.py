"""The network for writing, compiled by TensorFlow: on a GPU or beside a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from textgen.model.language_model import LanguageModel


class CompiledModel:
    """Writes with a `LanguageModel`. The same calls as `textgen.model.numpy_model.NumpyModel`, the same results.

    The shapes are open, so that nothing is traced anew for another number of texts or steps.
    """

    def __init__(self, model: LanguageModel) -> None:
        state = tf.nest.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), model.initial_state(1)
        )
        self._model = model
        self._read = tf.function(
            lambda inputs, state: model.features(inputs, state)[1],
            input_signature=[tf.TensorSpec((None, None), tf.int32), state],
            autograph=False,
        )
        self._step = tf.function(
            lambda ids, state: model.step(ids, state),
            input_signature=[tf.TensorSpec((None,), tf.int32), state],
            autograph=False,
        )

    def initial_state(self, batch_size: int) -> Any:
        """The state of texts that have read nothing."""
        return self._model.initial_state(batch_size)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """inputs int32 [B, T], state before them -> state after them."""
        return self._read(inputs, state)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """One step: ids int32 [B], state before them -> logits [B, V] of the next pieces, state after them."""
        logits, state = self._step(ids, state)
        return logits.numpy(), state

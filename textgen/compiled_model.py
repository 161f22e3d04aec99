"""The network for writing, compiled by TensorFlow: many steps a call, on a GPU or beside a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from textgen.model import LanguageModel
from textgen.sampling import FREE, draw, transform


class CompiledModel:
    """Writes with a `LanguageModel`. The same calls as `textgen.numpy_model.NumpyModel`, the same results.

    The shapes are open, so that nothing is traced anew for another number of texts or steps.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._loops: dict[tuple[str, ...], Any] = {}  # for each set of transforms
        self._read = tf.function(
            lambda inputs, state: model.features(inputs, state)[1],
            input_signature=[tf.TensorSpec((None, None), tf.int32), self._state_signature()],
        )

    def initial_state(self, batch_size: int) -> Any:
        """The state of texts that have read nothing."""
        return self._model.initial_state(batch_size)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """inputs int32 [B, T], state before them -> state after them."""
        return self._read(inputs, state)

    def write(
        self,
        ids: np.ndarray,
        state: Any,
        given: np.ndarray,
        uniforms: np.ndarray,
        settings: Mapping[str, np.ndarray],
        banned: np.ndarray,
    ) -> tuple[np.ndarray, Any]:
        """K steps: ids [B] read first, given [K, B] (`FREE` where a piece is drawn) -> ids [K, B], state."""
        drawn, state = self._loop(tuple(settings))(ids, state, given, uniforms, dict(settings), banned)
        return drawn.numpy(), state

    def _loop(self, names: tuple[str, ...]) -> Any:
        if names not in self._loops:
            per_row = {name: tf.TensorSpec((None, 1), tf.int32 if name == "top_k" else tf.float32) for name in names}
            self._loops[names] = tf.function(
                self._run,
                input_signature=[
                    tf.TensorSpec((None,), tf.int32),
                    self._state_signature(),
                    tf.TensorSpec((None, None), tf.int32),
                    tf.TensorSpec((None, None), tf.float64),
                    per_row,
                    tf.TensorSpec((None,), tf.float32),
                ],
            )
        return self._loops[names]

    def _run(
        self,
        ids: tf.Tensor,
        state: Any,
        given: tf.Tensor,
        uniforms: tf.Tensor,
        settings: dict[str, tf.Tensor],
        banned: tf.Tensor,
    ) -> tuple[tf.Tensor, Any]:
        steps = tf.shape(given)[0]

        def body(step: tf.Tensor, ids: tf.Tensor, state: Any, out: tf.TensorArray) -> tuple[Any, ...]:
            logits, state = self._model.step(ids, state)  # [B, V]
            logits = transform(logits + banned, settings, keras.ops)
            ids = tf.where(given[step] == FREE, draw(logits, uniforms[step], keras.ops), given[step])  # [B]
            return step + 1, ids, state, out.write(step, ids)

        out = tf.TensorArray(tf.int32, steps, element_shape=ids.shape)
        _, _, state, out = tf.while_loop(lambda step, *_: step < steps, body, (0, ids, state, out))
        return out.stack(), state

    def _state_signature(self) -> Any:
        return tf.nest.map_structure(
            lambda array: tf.TensorSpec((None, array.shape[1]), array.dtype), self._model.initial_state(1)
        )

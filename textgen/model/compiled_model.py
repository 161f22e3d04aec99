"""The network for generation, compiled by TensorFlow: on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from textgen.model.language_model import LanguageModel
from textgen.system.runtime import compiled


class CompiledModel:
    """A `LanguageModel` with the interface and the results of `textgen.model.numpy_model.NumpyModel`.

    Batch size and number of steps are not fixed, so that other sizes are not traced again.

    Attributes:
        exact: False: its sums of float32 numbers may differ between machines.
        runtime: Its name in `textgen.generation.config.RUNTIMES`.
    """

    exact = False
    runtime = "tensorflow"

    def __init__(self, model: LanguageModel) -> None:
        state = tf.nest.map_structure(
            lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), model.initial_state(1)
        )
        self._model = model
        self._read = compiled(
            lambda inputs, state: model.features(inputs, state)[1],
            input_signature=[tf.TensorSpec((None, None), tf.int32), state],
        )
        self._step = compiled(
            lambda ids, state: model.step(ids, state), input_signature=[tf.TensorSpec((None,), tf.int32), state]
        )

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first token: zeros."""
        return self._model.initial_state(batch_size)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        """Reads token ids.

        Args:
            inputs: Token ids int32 [B, T].
            state: State before them.

        Returns:
            The state after them.
        """
        return self._read(inputs, state)

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Reads one token of each text.

        Args:
            ids: Token ids int32 [B].
            state: State before them.

        Returns:
            The logits of the next tokens [B, V], and the state after `ids`.
        """
        logits, state = self._step(ids, state)
        return logits.numpy(), state

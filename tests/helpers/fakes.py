"""Models without weights whose every answer is known: next to a generator they leave nothing to chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import tensorflow as tf

from textgen.model.compiled_model import CompiledModel
from textgen.model.language_model import LanguageModel
from textgen.system.runtime import load_tensorflow

load_tensorflow()

CERTAIN = 100.0  # logit of the piece that comes next, where those of all others are 0
FIRST_BYTE = 3  # of the byte tokenizer: below it are the special pieces

State = tuple[tuple[tf.Tensor, tf.Tensor], ...]


class CountingModel:
    """Says after each piece the one with the next id, so "a" goes on as "bcd...".

    Like `LanguageModel` it takes its state and gives it back; that is how many pieces were read, and the
    sum of their ids.
    """

    def __init__(self, vocab_size: int = 259, after: dict[int, int] | None = None) -> None:
        successors = np.append(np.arange(1, vocab_size), FIRST_BYTE)
        for before, next_id in (after or {}).items():
            successors[before] = next_id
        self.vocab_size = vocab_size
        self.successors = successors.astype(np.int32)
        self.traces = 0  # how often TensorFlow ran the Python code of `step` and `features`

    def initial_state(self, batch_size: Any) -> State:
        return ((tf.zeros((batch_size, 1)), tf.zeros((batch_size, 1))),)

    def step(self, ids: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        self.traces += 1
        state = self._read(ids[:, None], state)
        return tf.one_hot(self._next(ids, state), self.vocab_size, CERTAIN), state

    def features(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        self.traces += 1
        return tf.cast(inputs, tf.float32)[:, :, None], self._read(inputs, state)  # [B, T, 1], [B, 1]

    def _read(self, inputs: tf.Tensor, state: State) -> State:
        ((position, total),) = state
        ids = tf.cast(inputs, tf.float32)  # [B, T]
        position += tf.reduce_sum(tf.ones_like(ids), axis=1, keepdims=True)
        return ((position, total + tf.reduce_sum(ids, axis=1, keepdims=True)),)

    def _next(self, ids: tf.Tensor, state: State) -> tf.Tensor:
        return tf.gather(self.successors, ids)


class RecitingModel(CountingModel):
    """Recites ids by heart, the first after it has read one piece, and begins again after the last."""

    def __init__(self, ids: Sequence[int], vocab_size: int = 259) -> None:
        super().__init__(vocab_size)
        self.script = np.array(ids, np.int32)

    def _next(self, ids: tf.Tensor, state: State) -> tf.Tensor:
        ((position, _),) = state
        return tf.gather(self.script, (tf.cast(position[:, 0], tf.int32) - 1) % len(self.script))


class SummingModel(CountingModel):
    """Names a letter after the sum of all ids read and their number: no piece may be lost or read twice."""

    def _next(self, ids: tf.Tensor, state: State) -> tf.Tensor:
        ((position, total),) = state
        return FIRST_BYTE + ord("a") + tf.cast(total + position, tf.int32)[:, 0] % 26


def as_model(fake: CountingModel) -> CompiledModel:
    """The fake, ready to write: that needs no more of a model than it has."""
    return CompiledModel(cast(LanguageModel, fake))

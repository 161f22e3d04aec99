"""What recurrent layers have in common, whatever their cell."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import keras
import tensorflow as tf

from textgen.model.layers.loop import Arrays, Cell, recur

RANDOM = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "orthogonal": keras.initializers.Orthogonal,
    "uniform": functools.partial(keras.initializers.RandomUniform, -0.1, 0.1),
}
State = tuple[tf.Tensor, ...]  # of a layer: h, which is also its output, and what else it keeps; [B, H] float32


class RecurrentLayer(keras.layers.Layer):
    """A layer that reads x W, which for all steps is one large product made before the loop.

    A subclass says what its cell is, how many arrays its state has, and which weights there are besides `kernel`,
    `recurrent_kernel` and `bias`. Where shapes are not known beforehand, TensorFlow's own scan takes the steps.
    """

    cell: Cell
    gates: int  # values that the cell makes for each unit
    state_size = 1

    def __init__(self, units: int, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.units = units
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights, with the names, shapes and order of Keras's layer."""
        width = self.gates * self.units
        self.kernel = self._weight("kernel", (input_shape[-1], width), "glorot_uniform")
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, width), "orthogonal")
        self.bias = self._weight("bias", self._bias_shape(), self._initial_bias)

    def scan(
        self, x: tf.Tensor, state: State, mask: tf.Tensor | None = None, ids: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, State]:
        """Time first: x [T, B, in], state before it -> outputs [T, B, H] as precise as x, state after it.

        With `ids` [T, B], x [V, in] is the table whose rows these number. The recurrent kernel is multiplied with
        `mask`, if there is one, for all steps.
        """
        inputs, weights = chosen_rows(self._inputs(x), ids), self._step_weights()
        if mask is not None:
            weights["recurrent_kernel"] *= mask
        if inputs.shape.is_fully_defined():
            outputs, last = recur(self.cell, inputs, weights, state, x.dtype)
        else:
            step = self.cell.forward(weights)
            states = tf.scan(lambda state, inputs: tuple(step(inputs, state)[1]), inputs, state)
            outputs, last = states[0], [array[-1] for array in states]
        return tf.cast(outputs, x.dtype), tuple(last)

    def step(self, x: tf.Tensor, state: State) -> State:
        """One step of time: x [B, in] -> the new state."""
        return tuple(self.cell.forward(self._step_weights())(self._inputs(x), state)[1])

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Zeros: nothing read yet."""
        return tuple(tf.zeros((batch_size, self.units)) for _ in range(self.state_size))

    def _inputs(self, x: tf.Tensor) -> tf.Tensor:
        """What a step reads, for all steps or rows of a table at once: x @ kernel, in the precision of x."""
        return tf.cast(rows_times(x, self.kernel), tf.float32)

    def _step_weights(self) -> dict[str, tf.Tensor]:
        """The weights that a step uses, by name: all but those that `_inputs` has used."""
        named = {weight.name: tf.convert_to_tensor(weight) for weight in self.trainable_weights}
        return {name: weight for name, weight in named.items() if name != "kernel"}

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        return tf.zeros(shape, dtype)

    def _weight(self, name: str, shape: tuple[int | None, ...], initializer: Any) -> keras.Variable:
        if initializer in RANDOM:
            initializer = seeded(initializer, self.seed, f"{self.name}/{name}")
        return self.add_weight(shape=shape, initializer=initializer, name=name)


def seeded(initializer: str, seed: int, weight: str) -> keras.Initializer:
    """One of `RANDOM`, whose values depend on `seed` and the name of the weight alone.

    One without a seed would draw it from Python's `random`, which is the user's.
    """
    return RANDOM[initializer](seed=zlib.crc32(f"{seed}/{weight}".encode()))


def forget_bias_one(shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
    """The first bias of an LSTM's gates i, f, g, o: at first, remember (Jozefowicz, Zaremba & Sutskever 2015)."""
    return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


def split(gates: tf.Tensor, count: int) -> Arrays:
    """[B, count * H] -> `count` times [B, H]."""
    return tf.split(gates, count, axis=-1)


def rows_times(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x [..., m] @ kernel [m, n] -> [..., n], one product in the precision of x."""
    rows = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), tf.cast(kernel, x.dtype))
    sizes = [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape[:-1])]
    return tf.reshape(rows, (*sizes, rows.shape[-1]))


def chosen_rows(table: tf.Tensor, ids: tf.Tensor | None) -> tf.Tensor:
    """table [V, n], ids [...] -> their rows, [..., n]; without ids, all as it is."""
    return table if ids is None else _gather(table, ids)


def steps_first(ids: tf.Tensor) -> tf.Tensor:
    """int32 [B, T] -> [T, B]; not by tf.transpose, whose oneDNN kernel complains about integers on stderr."""
    rows, steps = (tf.shape(ids)[axis] if size is None else size for axis, size in enumerate(ids.shape))
    places = tf.range(steps)[:, None] + steps * tf.range(rows)  # [T, B], in the rows one after the other
    return tf.gather(tf.reshape(ids, (-1,)), places)


@tf.custom_gradient
def _gather(table: tf.Tensor, ids: tf.Tensor):  # type: ignore[no-untyped-def]
    def backward(d_rows: tf.Tensor) -> tuple[tf.Tensor, None]:
        rows = tf.cast(tf.reshape(d_rows, (-1, table.shape[1])), tf.float32)  # in 16 bits a sum of many stops growing
        d_table = tf.math.unsorted_segment_sum(rows, tf.reshape(ids, (-1,)), table.shape[0])
        return tf.cast(d_table, table.dtype), None

    return tf.gather(table, ids), backward

"""Base class and shared functions of the recurrent layers."""

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
LayerState = tuple[tf.Tensor, ...]  # h, which is also the output, and further arrays; [B, H] float32


def in_float32(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a layer whose weights and state are float32, whatever the dtype policy of Keras is.

    The precision of the products is that of their inputs, which a model sets.
    """
    return {"autocast": False, "dtype": "float32", **arguments}


class RecurrentLayer(keras.layers.Layer):
    """A recurrent layer that computes the product x W for all steps at once, before the loop.

    A subclass defines its cell, the number of arrays in its state, and any weights besides `kernel`,
    `recurrent_kernel` and `bias`. If shapes are not known when the layer is traced, `tf.scan` runs the steps.

    Args:
        units: Number of units (H).
        seed: Seed of the initial weights.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        cell: Steps of the cell.
        blocks: Number of blocks of H columns in the kernels; see `KERNEL_BLOCKS` of `textgen.model.config`.
        state_size: Number of arrays in the state.
    """

    cell: Cell
    blocks: int
    state_size = 1

    def __init__(self, units: int, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**in_float32(kwargs))
        self.units = units
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for inputs [T, B, in], with the names, shapes and order of the Keras layer."""
        width = self.blocks * self.units
        self.kernel = self._weight("kernel", (input_shape[-1], width), "glorot_uniform")
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, width), "orthogonal")
        self.bias = self._weight("bias", self._bias_shape(), self._initial_bias)

    def scan(
        self, x: tf.Tensor, state: LayerState, mask: tf.Tensor | None = None, ids: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, LayerState]:
        """Runs the layer over a window.

        Args:
            x: Inputs [T, B, in], or a table [V, in] if `ids` are given.
            state: State before the first step.
            mask: Factor of the recurrent kernel, for all steps.
            ids: Row numbers [T, B] of the inputs in the table.

        Returns:
            Outputs [T, B, H] in the precision of x, and the state after the last step.
        """
        inputs, weights = chosen_rows(self._inputs(x), ids), self._step_weights()
        if mask is not None:
            weights["recurrent_kernel"] *= mask
        if inputs.shape.is_fully_defined():
            outputs, last = recur(self.cell, inputs, weights, state, x.dtype)
        else:
            step = self.cell.forward(weights, tf.float32)
            states = tf.scan(lambda state, inputs: tuple(step(inputs, state)[1]), inputs, state)
            outputs, last = states[0], [array[-1] for array in states]
        return tf.cast(outputs, x.dtype), tuple(last)

    def step(self, x: tf.Tensor, state: LayerState) -> LayerState:
        """Runs one step.

        Args:
            x: Inputs, [B, in].
            state: State before the step, arrays [B, H].

        Returns:
            The state after the step. Its first array is the output, [B, H].
        """
        return tuple(self.cell.forward(self._step_weights(), tf.float32)(self._inputs(x), state)[1])

    def initial_state(self, batch_size: int | tf.Tensor) -> LayerState:
        """Returns the initial state of `batch_size` streams: zeros [B, H]."""
        return tuple(tf.zeros((batch_size, self.units)) for _ in range(self.state_size))

    def _inputs(self, x: tf.Tensor) -> tf.Tensor:
        """Computes x @ kernel in the precision of x, for all steps or all rows of a table at once."""
        return tf.cast(rows_times(x, self.kernel), tf.float32)

    def _step_weights(self) -> dict[str, tf.Tensor]:
        """Returns the weights that a step uses, by name: all except the kernel."""
        named = {weight.name: tf.convert_to_tensor(weight) for weight in self.weights}
        return {name: weight for name, weight in named.items() if name != "kernel"}

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.blocks * self.units,)

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        return tf.zeros(shape, dtype)

    def _weight(self, name: str, shape: tuple[int | None, ...], initializer: Any) -> keras.Variable:
        if initializer in RANDOM:
            initializer = seeded(initializer, self.seed, f"{self.name}/{name}")
        return self.add_weight(shape=shape, initializer=initializer, name=name)


def seeded(initializer: str, seed: int, weight: str) -> keras.Initializer:
    """Makes an initializer whose values depend only on a seed and the name of the weight.

    Without a seed, Keras would draw one from Python's global `random`.

    Args:
        initializer: A name in `RANDOM`.
        seed: Seed of the network.
        weight: Name of the weight.

    Returns:
        The initializer.
    """
    return RANDOM[initializer](seed=zlib.crc32(f"{seed}/{weight}".encode()))


def forget_bias_one(shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
    """Returns the initial bias of the gates i, f, g, o: 1 for f, 0 for the others (Jozefowicz et al. 2015).

    Args:
        shape: Shape of the bias, [4H].
        dtype: Type of the values.
    """
    return tf.repeat(tf.constant([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


def split(gates: tf.Tensor, count: int) -> Arrays:
    """Splits gates [B, count * H] into `count` arrays [B, H]."""
    return tf.split(gates, count, axis=-1)


def rows_times(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Multiplies x by a kernel as one matrix product, in the precision of x.

    Args:
        x: Values, [..., m].
        kernel: Weights, [m, n].

    Returns:
        The product, [..., n].
    """
    rows = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), tf.cast(kernel, x.dtype))
    sizes = [tf.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape[:-1])]
    return tf.reshape(rows, (*sizes, rows.shape[-1]))


def chosen_rows(table: tf.Tensor, ids: tf.Tensor | None) -> tf.Tensor:
    """Gathers rows of a table.

    Args:
        table: The table, [V, n].
        ids: Row numbers, [...]; None to return the table itself.

    Returns:
        The rows, [..., n].
    """
    return table if ids is None else _gather(table, ids)


def steps_first(ids: tf.Tensor) -> tf.Tensor:
    """Transposes ids int32 [B, T] to [T, B] without tf.transpose, whose oneDNN kernel prints a warning for integers."""
    rows, steps = (tf.shape(ids)[axis] if size is None else size for axis, size in enumerate(ids.shape))
    places = tf.range(steps)[:, None] + steps * tf.range(rows)  # [T, B], positions in the flat array
    return tf.gather(tf.reshape(ids, (-1,)), places)


@tf.custom_gradient
def _gather(table: tf.Tensor, ids: tf.Tensor):  # type: ignore[no-untyped-def]
    def backward(d_rows: tf.Tensor) -> tuple[tf.Tensor, None]:
        # 16-bit floats lose precision in long sums.
        rows = tf.cast(tf.reshape(d_rows, (-1, table.shape[1])), tf.float32)
        d_table = tf.math.unsorted_segment_sum(rows, tf.reshape(ids, (-1,)), table.shape[0])
        return tf.cast(d_table, table.dtype), None

    return tf.gather(table, ids), backward

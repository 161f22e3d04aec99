"""The LSTM layer, and how it is trained quickly on a CPU.

Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000. At each step of time

    z = x W + h U + b             i, f, o = sigmoid(z_i, z_f, z_o)     g = tanh(z_g)
    c = f * c + i * g             h = o * tanh(c)

`textgen.reference` has the same forward and backward, to be read. Differentiating a loop step by step makes
thousands of small operations and keeps all that they produced. Three things make it several times cheaper here:

1. x W of all steps is one large matrix product, before the loop.
2. The backward pass is written by hand: its loop carries only the gradients of h and c and leaves dz behind,
   from which the gradients of W, U and x are one large matrix product each.
3. XLA compiles the gates of a step, which takes one pass over their memory where separate operations would take
   a dozen. Narrow layers are compiled with the whole loop around them, whose products are then float32. XLA knows
   no quick low-precision products, so for wide layers in low precision the loop and its products are TensorFlow's.

On a GPU Keras takes cuDNN instead, and for shapes that are not known beforehand, masks and options that
neither knows, its own loop. Shapes here are time first, [T, B, ...]: a step is then one stretch of memory.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from textgen.layers.layer import State
from textgen.layers.loop import Arrays, backward_loop, forward_loop

log = logging.getLogger(__name__)

WIDE = 384  # units from which on a low-precision product saves more than a loop inside XLA


class LSTM(keras.layers.LSTM):
    """A `keras.layers.LSTM` (same weights, gate order i, f, g, o, options and results), faster on a CPU."""

    def inner_loop(self, sequences: tf.Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Keras's hook: sequences [B, T, E], state (h, c) -> last output, outputs [B, T, H], state."""
        if mask is not None or not self._can_scan(sequences):
            return super().inner_loop(sequences, initial_state, mask, training)
        if training and self.dropout:
            sequences = sequences * self.cell.get_dropout_mask(sequences[:, 0])[:, None]
        x = tf.transpose(sequences, (1, 0, 2))  # [T, B, E]
        if self.go_backwards:
            x = tf.reverse(x, [0])
        state = tuple(tf.cast(array, tf.float32) for array in initial_state)
        outputs, (h, c) = self._scan(tf.cast(x, self.compute_dtype), state)  # [T, B, H]
        outputs = tf.transpose(outputs, (1, 0, 2)) if self.return_sequences else outputs[-1][:, None]
        h, c = tf.cast(h, self.compute_dtype), tf.cast(c, self.compute_dtype)
        return h, outputs, [h, c]

    def scan(self, x: tf.Tensor, state: State, mask: tf.Tensor | None = None) -> tuple[tf.Tensor, State]:
        """Time first: x [T, B, E], state before it -> outputs [T, B, H] as precise as x, state after it.

        The recurrent kernel is multiplied with `mask`, if there is one, for all steps; Keras's loops know no mask.
        """
        if mask is not None or self._can_scan(x):
            return self._scan(x, state, mask)
        batch_first = tf.cast(tf.transpose(x, (1, 0, 2)), tf.float32)
        _, outputs, state = super().inner_loop(batch_first, list(state), None)
        return tf.cast(tf.transpose(outputs, (1, 0, 2)), x.dtype), tuple(state)

    def step(self, x: tf.Tensor, state: State) -> State:
        """One step of time: x [B, E] -> the new state; its h is also the output."""
        h, c = state
        kernel, recurrent_kernel = (tf.cast(w, x.dtype) for w in (self.cell.kernel, self.cell.recurrent_kernel))
        z = tf.matmul(x, kernel) + tf.matmul(tf.cast(h, x.dtype), recurrent_kernel)  # [B, 4H]
        *_, c, h = lstm_gates(tf.split(tf.cast(z, tf.float32) + self.cell.bias, 4, axis=-1), c)
        return h, c

    def initial_state(self, batch_size: int | tf.Tensor) -> State:
        """Zeros: nothing read yet."""
        return tf.zeros((batch_size, self.units)), tf.zeros((batch_size, self.units))

    def _scan(self, x: tf.Tensor, state: State, mask: tf.Tensor | None = None) -> tuple[tf.Tensor, State]:
        bias = self.cell.bias if self.use_bias else tf.zeros(4 * self.units)
        recurrent_kernel = self.cell.recurrent_kernel if mask is None else self.cell.recurrent_kernel * mask
        weights = (self.cell.kernel, recurrent_kernel, bias)
        outputs, *state = lstm(x, *(tf.cast(weight, tf.float32) for weight in weights), *state)
        return outputs, tuple(state)

    def _can_scan(self, sequences: tf.Tensor) -> bool:
        standard = (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and not (self.recurrent_dropout or self.unroll)
            and self.use_cudnn is not True
        )
        return standard and sequences.shape.is_fully_defined() and kernel_path() != "cuDNN"


@functools.cache
def kernel_path() -> str:
    """Which implementation the recurrent layers take on this machine, in a few words; logged once."""
    path = "cuDNN" if tf.config.list_logical_devices("GPU") else "own loop, compiled by XLA"
    log.info("LSTM by %s", path)
    return path


@tf.custom_gradient
def lstm(x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor):  # type: ignore[no-untyped-def]
    """x [T, B, E] in any precision; float32 kernel [E, 4H], recurrent_kernel [H, 4H], bias [4H], h and c [B, H].

    Returns outputs [T, B, H] in the precision of x, and the state after the last step, float32.
    """
    steps, rows, inputs = x.shape
    flat_x = tf.reshape(x, (-1, inputs))  # [T*B, E]
    kernel_x = tf.cast(kernel, x.dtype)
    from_x = tf.cast(tf.matmul(flat_x, kernel_x), tf.float32)  # [T*B, 4H]
    wide = x.dtype != tf.float32 and h.shape[1] >= WIDE
    arguments = tf.reshape(from_x, (steps, rows, -1)), recurrent_kernel, bias, h, c
    arguments = tuple(map(tf.stop_gradient, arguments))  # else an eager tape differentiates the loop
    gates, cells, hidden = _forward_wide(*arguments, x.dtype) if wide else _forward_narrow(*arguments)
    outputs = tf.cast(hidden, x.dtype)  # [T+1, B, H], as cells: what was before the first step comes first

    def backward(d_outputs: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor) -> tuple[tf.Tensor, ...]:
        transposed = tf.transpose(recurrent_kernel)  # [4H, H]
        known = tf.cast(d_outputs, tf.float32), dh, dc, gates, cells
        dz, dh, dc = (
            _backward_wide(*known, tf.cast(transposed, x.dtype)) if wide else _backward_narrow(*known, transposed)
        )
        dz = tf.reshape(dz, (steps * rows, -1))  # [T*B, 4H]
        d_bias = tf.matmul(tf.ones((1, steps * rows)), dz)[0]  # a sum over rows, but quicker
        dz = tf.cast(dz, x.dtype)
        dx = tf.reshape(tf.matmul(dz, kernel_x, transpose_b=True), (steps, rows, inputs))
        d_kernel = tf.matmul(flat_x, dz, transpose_a=True)  # [E, 4H]
        before = tf.reshape(outputs[:-1], (steps * rows, -1))  # h that each step began with
        d_recurrent_kernel = tf.matmul(before, dz, transpose_a=True)  # [H, 4H]
        return dx, tf.cast(d_kernel, tf.float32), tf.cast(d_recurrent_kernel, tf.float32), d_bias, dh, dc

    return (outputs[1:], hidden[-1], cells[-1]), backward


def _forward(
    from_x: tf.Tensor, h: tf.Tensor, c: tf.Tensor, gates: Callable[..., tuple[tf.Tensor, ...]]
) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
    """from_x [T, B, 4H] -> gates i, f, g, o [T, B, H] each; c and h [T+1, B, H], the initial ones first.

    `gates` makes of what x gives to a step [B, 4H], h and c the step's i, f, g, o and the new c and h.
    """

    def step(from_x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        *saved, c, h = gates(from_x, *state)
        return saved, (h, c)

    saved, (hidden, cells) = forward_loop(step, from_x, (h, c), [h.shape] * 4)
    return tuple(saved), cells, hidden


def _backward(
    d_outputs: tf.Tensor,
    dh: tf.Tensor,
    dc: tf.Tensor,
    gates: tuple[tf.Tensor, ...],
    cells: tf.Tensor,
    step_back: Callable[..., tuple[tf.Tensor, ...]],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """From the last step to the first: d_outputs [T, B, H] -> dz [T, B, 4H], dh and dc of the state.

    `step_back` makes of a step's gates, the cells before and after it, dh and dc: dz_i, dz_f, dz_g, dz_o [B, H]
    each, and dh and dc of the step before.
    """

    def step(t: tf.Tensor, d_state: Arrays) -> tuple[Arrays, Arrays]:
        *dz, dh, dc = step_back([gate[t] for gate in gates], cells[t], cells[t + 1], d_outputs[t], *d_state)
        return dz, (dh, dc)

    dz, (dh, dc) = backward_loop(step, d_outputs.shape[0], (dh, dc), [dh.shape] * 4)
    return tf.concat(dz, 2), dh, dc


@tf.function(jit_compile=True, autograph=False)
def _forward_narrow(
    from_x: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[Any, ...]:
    """The loop inside XLA. A product a gate, not one for all: their results are then never cut apart."""
    kernels, biases = tf.split(recurrent_kernel, 4, axis=1), tf.split(bias, 4)

    def gates(step: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.split(step, 4, axis=1)
        return lstm_gates([part + tf.matmul(h, u) + b for part, u, b in zip(parts, kernels, biases, strict=True)], c)

    return _forward(from_x, h, c, gates)


@tf.function(jit_compile=True, autograph=False)
def _backward_narrow(
    d_outputs: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor, gates: Any, cells: tf.Tensor, transposed: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """The loop inside XLA; `transposed` is the recurrent kernel, [4H, H]."""

    def step_back(*arguments: Any) -> tuple[tf.Tensor, ...]:
        *dz, dc = lstm_gates_backward(*arguments)
        return *dz, tf.matmul(tf.concat(dz, 1), transposed), dc

    return _backward(d_outputs, dh, dc, gates, cells, step_back)


def _forward_wide(
    from_x: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor, dtype: tf.DType
) -> tuple[Any, ...]:
    """The loop outside, its products in the precision `dtype`."""
    kernel = tf.cast(recurrent_kernel, dtype)

    def gates(step: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _compiled_gates(step, tf.matmul(tf.cast(h, dtype), kernel), bias, c)

    return _forward(from_x, h, c, gates)


def _backward_wide(
    d_outputs: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor, gates: Any, cells: tf.Tensor, transposed: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """The loop outside, its products in the precision of `transposed`."""

    def step_back(*arguments: Any) -> tuple[tf.Tensor, ...]:
        *dz, low, dc = _compiled_gates_backward(transposed.dtype, *arguments)
        return *dz, tf.cast(tf.matmul(low, transposed), tf.float32), dc

    return _backward(d_outputs, dh, dc, gates, cells, step_back)


@tf.function(jit_compile=True, autograph=False)
def _compiled_gates(step: tf.Tensor, from_h: tf.Tensor, bias: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return lstm_gates(tf.split(step + tf.cast(from_h, tf.float32) + bias, 4, axis=1), c)


@tf.function(jit_compile=True, autograph=False)
def _compiled_gates_backward(dtype: tf.DType, *arguments: Any) -> tuple[tf.Tensor, ...]:
    *dz, dc = lstm_gates_backward(*arguments)
    return *dz, tf.cast(tf.concat(dz, 1), dtype), dc


def lstm_gates(z: Sequence[tf.Tensor], c: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """z_i, z_f, z_g, z_o and c, [B, H] each -> i, f, g, o and the new c and h."""
    i, f, g, o = tf.sigmoid(z[0]), tf.sigmoid(z[1]), tf.tanh(z[2]), tf.sigmoid(z[3])
    c = f * c + i * g
    return i, f, g, o, c, o * tf.tanh(c)


def lstm_gates_backward(
    gates: Sequence[tf.Tensor], before: tf.Tensor, after: tf.Tensor, d_output: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """A step's gates, c before and after it, the gradients of its output, h and c -> of its four z and the c before."""
    i, f, g, o = gates
    tanh_c = tf.tanh(after)
    dh = dh + d_output
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    return (
        dc * g * i * (1 - i),
        dc * before * f * (1 - f),
        dc * i * (1 - g * g),
        dh * tanh_c * o * (1 - o),
        dc * f,
    )

"""An LSTM layer that is fast on a CPU.

Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000. At each time step

    z = x W + h' U + b            i, f, o = sigmoid(z_i, z_f, z_o)     g = tanh(z_g)
    c = f * c' + i * g            h = o * tanh(c)

' marks the step before. `textgen.model.reference` has the same forward and backward pass in a readable form.

Automatic differentiation of a loop makes thousands of small operations and keeps all intermediate results. Three things
make it several times faster here:

1. x W of all steps is one large matrix product, before the loop.
2. The backward pass is written by hand. Its loop carries only the gradients of h and c and stores dz, from which the
   gradients of W, U and x are one large matrix product each.
3. XLA compiles the loop: the gates of a step take few passes over memory, and the steps follow each other without a
   pause.

On a GPU cuDNN runs the steps instead (`textgen.model.layers.cudnn`). The loop of Keras runs for masks of steps, for
shapes that are not known when tracing, and for options that neither this loop nor cuDNN supports. Shapes are time
first, [T, B, ...], so that a step is contiguous in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from textgen.model.layers.cudnn import backend, cudnn_lstm
from textgen.model.layers.fused import Fused
from textgen.model.layers.layer import LayerState, chosen_rows, rows_times
from textgen.model.layers.loop import Arrays, backward_loop, forward_loop, step_kernel, step_product


@keras.saving.register_keras_serializable("textgen")  # so that layers around it, such as Bidirectional, can copy it
class LSTM(keras.layers.LSTM):
    """A faster `keras.layers.LSTM` for CPUs, with the same options, weights, results and gate order i, f, g, o.

    Unlike the other cells it is not a `RecurrentLayer`, so that it can take the place of a `keras.layers.LSTM`. `lstm`
    below takes the place of `textgen.model.layers.loop.recur`: it keeps the gates in 16 bits where the products have
    these.

    It has first derivatives only. For second ones (a gradient penalty, a Hessian-vector product) give `unroll=True`,
    with which the loop of Keras runs.
    """

    def inner_loop(self, sequences: tf.Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Overrides the loop of Keras.

        Args:
            sequences: Inputs, [B, T, E].
            initial_state: State (h, c), [B, H] each.
            mask: Mask of the steps; the loop of Keras runs if there is one.
            training: Whether to apply dropout.

        Returns:
            The last output [B, H], outputs [B, T, H] (only the last one, [B, 1, H], unless `return_sequences`), and
            the state [h, c].
        """
        if mask is not None or not self._can_scan(sequences):
            return super().inner_loop(sequences, initial_state, mask, training)
        if training and self.dropout:
            sequences = sequences * self.cell.get_dropout_mask(sequences[:, 0])[:, None]
        x = tf.transpose(sequences, (1, 0, 2))  # [T, B, E]
        if self.go_backwards:
            x = tf.reverse(x, [0])
        state = tuple(tf.cast(array, tf.float32) for array in initial_state)
        outputs, (h, c) = self._scan(self._inputs(tf.cast(x, self.compute_dtype)), state)  # [T, B, H]
        outputs = tf.transpose(outputs, (1, 0, 2)) if self.return_sequences else outputs[-1][:, None]
        h, c = tf.cast(h, self.compute_dtype), tf.cast(c, self.compute_dtype)
        return h, outputs, [h, c]

    def scan(
        self, x: tf.Tensor, state: LayerState, mask: tf.Tensor | None = None, ids: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, LayerState]:
        """Runs the layer over a window.

        Args:
            x: Inputs [T, B, E], or a table [V, E] if `ids` are given.
            state: State (h, c) before the first step.
            mask: Factors of the recurrent kernel, for all steps. The loop of Keras does not support it.
            ids: Row numbers [T, B] of the inputs in the table.

        Returns:
            Outputs [T, B, H] in the precision of x, and the state after the last step.

        Raises:
            ValueError: `scan` does not support the options of the layer.
        """
        self._refuse_scan(mask)
        if backend() == "cuDNN" and self._suits_cudnn:
            return cudnn_lstm(chosen_rows(x, ids), *self._scan_weights(mask), *state)
        if mask is not None or self._can_scan(x if ids is None else ids):
            return self._scan(chosen_rows(self._inputs(x), ids), state, mask)
        batch_first = tf.cast(tf.transpose(chosen_rows(x, ids), (1, 0, 2)), tf.float32)
        _, outputs, state = super().inner_loop(batch_first, list(state), None)
        return tf.cast(tf.transpose(outputs, (1, 0, 2)), x.dtype), tuple(state)

    def step(self, x: tf.Tensor, state: LayerState) -> LayerState:
        """Runs one step without dropout.

        Args:
            x: Inputs, [B, E].
            state: State (h, c) before the step, [B, H] each.

        Returns:
            The state (h, c) after the step; h is also the output.
        """
        if not self._has_usual_gates:
            _, (h, c) = self.cell(x, list(state))
            return tf.cast(h, tf.float32), tf.cast(c, tf.float32)
        h, c = state
        kernel, recurrent_kernel = (tf.cast(w, x.dtype) for w in (self.cell.kernel, self.cell.recurrent_kernel))
        z = tf.matmul(x, kernel) + tf.matmul(tf.cast(h, x.dtype), recurrent_kernel)  # [B, 4H]
        z = tf.cast(z, tf.float32)
        *_, c, h = lstm_gates(tf.split(z + self.cell.bias if self.use_bias else z, 4, axis=-1), c)
        return h, c

    def initial_state(self, batch_size: int | tf.Tensor) -> LayerState:
        """Returns the initial state (h, c) of `batch_size` streams: zeros [B, H]."""
        return tf.zeros((batch_size, self.units)), tf.zeros((batch_size, self.units))

    def _inputs(self, x: tf.Tensor) -> tf.Tensor:
        return rows_times(x, self.cell.kernel)

    def _scan(
        self, from_x: tf.Tensor, state: LayerState, mask: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, LayerState]:
        _, recurrent_kernel, bias = self._scan_weights(mask)
        outputs, *state = lstm(from_x, recurrent_kernel, bias, *state)
        return outputs, tuple(state)

    def _scan_weights(self, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The kernel, the recurrent kernel with a mask applied, and the bias; float32."""
        bias = self.cell.bias if self.use_bias else tf.zeros(4 * self.units)
        recurrent_kernel = self.cell.recurrent_kernel if mask is None else self.cell.recurrent_kernel * mask
        return tuple(tf.cast(weight, tf.float32) for weight in (self.cell.kernel, recurrent_kernel, bias))

    @property
    def _has_usual_gates(self) -> bool:
        is_tanh = self.activation is keras.activations.tanh
        return is_tanh and self.recurrent_activation is keras.activations.sigmoid

    def _refuse_scan(self, mask: tf.Tensor | None) -> None:
        """Raises `ValueError` for options that `scan` does not support."""
        if self.go_backwards:
            raise ValueError("scan reads steps in their order: build the layer with go_backwards=False, or call it.")
        if not self.return_sequences:
            raise ValueError("scan returns all outputs: build the layer with return_sequences=True, or call it.")
        if mask is not None and not self._has_usual_gates:
            raise ValueError(
                "A weight mask needs activation tanh and recurrent_activation sigmoid. "
                f"Received: {self.activation.__name__} and {self.recurrent_activation.__name__}."
            )

    @property
    def _suits_cudnn(self) -> bool:
        standard = not (self.recurrent_dropout or self.unroll) and self.use_cudnn is not False
        return standard and self._has_usual_gates

    def _can_scan(self, sequences: tf.Tensor) -> bool:
        standard = not (self.recurrent_dropout or self.unroll) and self.use_cudnn is not True
        standard = standard and self.compute_dtype != "float64"  # the loop computes in float32
        return standard and self._has_usual_gates and sequences.shape.is_fully_defined() and backend() != "cuDNN"


@tf.custom_gradient
def lstm(from_x: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor):  # type: ignore[no-untyped-def]
    """Runs the steps of an LSTM.

    Args:
        from_x: Products x W of all steps, [T, B, 4H], in any precision.
        recurrent_kernel: U, [H, 4H] float32.
        bias: b, [4H] float32.
        h: Output before the first step, [B, H] float32.
        c: Cell state before the first step, [B, H] float32.

    Returns:
        Outputs [T, B, H] in the precision of from_x, and h and c after the last step, float32.
    """
    units = h.shape[1]
    arguments = map(tf.stop_gradient, (from_x, recurrent_kernel, bias, h, c))  # keeps an eager tape out of the loop
    gates, outputs, cells, h = _forward(*arguments)

    def backward(d_outputs: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor) -> tuple[tf.Tensor, ...]:
        transposed = tf.transpose(recurrent_kernel)  # [4H, H]
        dz, d_bias, dh, dc = _backward(d_outputs, dh, dc, gates, cells, transposed)  # dz [T, B, 4H]
        before = tf.reshape(outputs[:-1], (-1, units))  # [T*B, H], h before each step
        d_recurrent_kernel = tf.matmul(before, tf.reshape(dz, (-1, 4 * units)), transpose_a=True)  # [H, 4H]
        return dz, tf.cast(d_recurrent_kernel, tf.float32), d_bias, dh, dc

    return (outputs[1:], h, cells[-1]), backward


def _forward(
    from_x: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[Any, ...]:
    """Runs the forward loop.

    Args:
        from_x: Products x W, [T, B, 4H].
        recurrent_kernel: U, [H, 4H] float32.
        bias: b, [4H] float32.
        h: Output before the first step, [B, H] float32.
        c: Cell state before the first step, [B, H] float32.

    Returns:
        Gates i, f, g, o, [T, B, H] each, packed by `_kept`; h in the precision of from_x and c, [T+1, B, H] each,
        beginning with their values before the first step; and the last h.
    """
    dtype = from_x.dtype
    gates, hidden, *others = _forward_loop(_bits(from_x, dtype), recurrent_kernel, bias, h, c, dtype)
    return gates, _of_bits(hidden, dtype), *others


@Fused
def _forward_loop(
    from_x: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, h: tf.Tensor, c: tf.Tensor, dtype: tf.DType
) -> tuple[Any, ...]:
    """Runs the loop inside XLA. from_x and the saved h are bits (see `_bits`); the state between steps is float32."""
    kernel = step_kernel(recurrent_kernel, dtype)

    def step(from_x: tf.Tensor, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c = state
        z = _floats(from_x, dtype) + step_product(h, kernel) + bias
        *gates, c, h = lstm_gates(tf.split(z, 4, axis=1), c)
        return [_kept(gate, dtype) for gate in gates], (h, c)

    gate = tf.TensorSpec(h.shape, from_x.dtype)
    gates, (hidden, cells), (h, _) = forward_loop(
        step, from_x, (h, c), [gate] * 4, lambda state: (_bits(state[0], dtype), state[1])
    )
    return gates, hidden, cells, h


def _backward(
    d_outputs: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor, gates: Arrays, cells: tf.Tensor, transposed: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Runs the backward loop.

    Args:
        d_outputs: Gradient of the outputs, [T, B, H].
        dh: Gradient of the last h, [B, H].
        dc: Gradient of the last c, [B, H].
        gates: Gates i, f, g, o from `_forward`.
        cells: Cell states, [T+1, B, H].
        transposed: The transposed recurrent kernel, [4H, H].

    Returns:
        dz [T, B, 4H] in the precision of d_outputs, and the gradients of the bias and of the first h and c.
    """
    dtype = d_outputs.dtype
    dz, *others = _backward_loop(_bits(d_outputs, dtype), dh, dc, gates, cells, transposed, dtype)
    return _of_bits(dz, dtype), *others


@Fused
def _backward_loop(
    d_outputs: tf.Tensor,
    dh: tf.Tensor,
    dc: tf.Tensor,
    gates: Arrays,
    cells: tf.Tensor,
    transposed: tf.Tensor,
    dtype: tf.DType,
) -> tuple[tf.Tensor, ...]:
    """Runs the backward loop inside XLA. d_outputs and dz are bits (see `_bits`)."""
    transposed = step_kernel(transposed, dtype)

    def step(t: tf.Tensor, d_state: Arrays) -> tuple[Arrays, Arrays]:
        dh, dc, d_bias = d_state
        dh += _floats(d_outputs[t], dtype)
        *dz, dc = lstm_gates_backward([_of_kept(gate[t]) for gate in gates], cells[t], cells[t + 1], dh, dc)
        dz = tf.concat(dz, 1)
        return [_bits(dz, dtype)], (step_product(dz, transposed), dc, d_bias + tf.reduce_sum(dz, 0))

    steps, rows, units = d_outputs.shape
    d_state = dh, dc, tf.zeros(4 * units)
    (dz,), (dh, dc, d_bias) = backward_loop(step, steps, d_state, [tf.TensorSpec((rows, 4 * units), d_outputs.dtype)])
    return dz, d_bias, dh, dc


def _bits(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Casts x to `dtype`, and reinterprets 16-bit floats as uint16.

    On a CPU XLA computes with 16-bit floats in float32, and would convert the whole array at every step of a loop.
    """
    return x if dtype == tf.float32 else tf.bitcast(tf.cast(x, dtype), tf.uint16)


def _of_bits(bits: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return bits if dtype == tf.float32 else tf.bitcast(bits, dtype)


def _floats(bits: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(_of_bits(bits, dtype), tf.float32)


def _kept(gates: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Packs gates for the backward pass: as 16-bit integers if `dtype` has 16 bits, otherwise unchanged.

    Gates lie in [-1, 1] and are stored as multiples of 1/32767. bfloat16 would be much coarser near 1, where the
    gradient of a gate f depends on 1 - f.
    """
    return gates if dtype == tf.float32 else tf.cast(tf.cast(gates * 32767.0 + 32768.5, tf.int32), tf.uint16)


def _of_kept(gates: tf.Tensor) -> tf.Tensor:
    return gates if gates.dtype == tf.float32 else (tf.cast(gates, tf.float32) - 32768.0) / 32767.0


def lstm_gates(z: Sequence[tf.Tensor], c: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Computes the gates and the state of one LSTM step.

    Args:
        z: Gate inputs z_i, z_f, z_g, z_o, [B, H] each.
        c: Cell state before the step, [B, H].

    Returns:
        i, f, g, o, and the new c and h, [B, H] each.
    """
    i, f, g, o = tf.sigmoid(z[0]), tf.sigmoid(z[1]), tf.tanh(z[2]), tf.sigmoid(z[3])
    c = f * c + i * g
    return i, f, g, o, c, o * tf.tanh(c)


def lstm_gates_backward(
    gates: Sequence[tf.Tensor], before: tf.Tensor, after: tf.Tensor, dh: tf.Tensor, dc: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Computes the gradients of one LSTM step.

    Args:
        gates: Gates i, f, g, o of the step, [B, H] each.
        before: Cell state before the step, [B, H].
        after: Cell state after the step, [B, H].
        dh: Gradient of h after the step, [B, H].
        dc: Gradient of c after the step, [B, H].

    Returns:
        The gradients of z_i, z_f, z_g and z_o, and of the cell state before the step, [B, H] each.
    """
    i, f, g, o = gates
    tanh_c = tf.tanh(after)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    return (
        dc * g * i * (1 - i),
        dc * before * f * (1 - f),
        dc * i * (1 - g * g),
        dh * tanh_c * o * (1 - o),
        dc * f,
    )

"""The loop over time of the recurrent layers, with a hand-written backward pass.

Automatic differentiation of a loop makes thousands of small operations and keeps all intermediate results. Here each
cell has its own backward step, and the gradient of each weight is one large matrix product after the loop. On two cores
a training step of 2 x 256 units takes a third to a half of the processor time of TensorFlow's gradient of the same
forward loop. Shapes are time first, [T, B, ...], so that a step is contiguous in memory. All values are float32. With
bfloat16 the factors of all products are rounded to bfloat16 (`step_product`, `product_over_time`); with float16 only
those of the products outside the loop (`product_over_time`) are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from textgen.model.config import VECTORS
from textgen.model.layers.fused import Fused
from textgen.system.runtime import has_xla

Arrays = Sequence[tf.Tensor]
Weights = Mapping[str, tf.Tensor]  # weights that a step uses, by name


class Past(NamedTuple):
    """Values from which the gradients of the weights are computed; arrays [T, B, n].

    Attributes:
        inputs: Inputs of the steps.
        before: States before the steps.
        after: States after the steps.
        saved: Arrays saved by the forward steps.
        d_inputs: Gradients of the inputs.
        emitted: Other arrays returned by the backward steps.
    """

    inputs: tf.Tensor
    before: Arrays
    after: Arrays
    saved: Arrays
    d_inputs: tf.Tensor
    emitted: Arrays


@dataclass(frozen=True)
class Cell:
    """The steps of a cell. The first array of its state is its output; `dy` is the gradient w.r.t. y."""

    forward: Callable[[Weights, tf.DType], Callable[..., tuple[Arrays, Arrays]]]
    """weights, precision of products -> forward step: input [B, n], state -> saved arrays, new state."""

    backward: Callable[[Weights, tf.DType], Callable[..., tuple[Arrays, Arrays]]]
    """weights, their matrices transposed (see `transposed`), precision of products -> backward step:
    input, state before, after, saved, dstate after -> [dinput, ...], dstate before."""

    gradients: Callable[[Weights, Past, tf.DType], dict[str, tf.Tensor]]
    """weights, past, precision of products -> gradients of the weights."""


def recur(cell: Cell, inputs: tf.Tensor, weights: Weights, state: Arrays, dtype: tf.DType) -> tuple[tf.Tensor, Arrays]:
    """Runs a cell over a window.

    Args:
        cell: Steps of the cell.
        inputs: Inputs [T, B, n] of known shape, float32.
        weights: Weights that a step uses.
        state: State before the first step.
        dtype: Precision of the matrix products.

    Returns:
        Outputs [T, B, H] and the state after the last step, float32.
    """
    names, count = list(weights), len(state)

    @tf.custom_gradient
    def run(inputs, *arguments):  # type: ignore[no-untyped-def]
        stopped = [tf.stop_gradient(array) for array in arguments]  # keeps an eager tape out of the loop
        named = dict(zip(names, stopped[count:], strict=True))
        saved, states, last = _forward(cell, tf.stop_gradient(inputs), named, stopped[:count], dtype)

        def backward(d_outputs: tf.Tensor, *d_state: tf.Tensor) -> tuple[tf.Tensor, ...]:
            emitted, d_state = _backward(cell, inputs, transposed(named), saved, states, d_outputs, d_state, dtype)
            before, after = [array[:-1] for array in states], [array[1:] for array in states]
            past = Past(inputs, before, after, saved, emitted[0], emitted[1:])
            gradients = cell.gradients(named, past, dtype)
            return emitted[0], *d_state, *(gradients[name] for name in names)

        return (states[0][1:], *last), backward

    outputs, *last = run(inputs, *state, *weights.values())
    return outputs, last


def forward_loop(
    step: Callable[..., tuple[Arrays, Arrays]],
    inputs: tf.Tensor,
    state: Arrays,
    saved: Sequence[tf.TensorSpec],
    kept: Callable[[Arrays], Arrays] = lambda state: state,
) -> tuple[Arrays, Arrays, Arrays]:
    """Runs the forward steps.

    Args:
        step: Forward step.
        inputs: Inputs, [T, ...].
        state: State before the first step.
        saved: Shapes of the arrays that a step saves.
        kept: Selects the arrays to keep of each state.

    Returns:
        The saved arrays [T, ...]; the kept arrays [T+1, ...], beginning with those of `state`; and the last state.
    """
    steps = inputs.shape[0]

    def body(t: tf.Tensor, state: Arrays, arrays: Arrays) -> tuple[Any, ...]:
        saved, state = step(inputs[t], state)
        values = [*saved, *kept(state)]
        places = [t] * len(saved) + [t + 1] * (len(values) - len(saved))
        written = [array.write(*at) for array, *at in zip(arrays, places, values, strict=True)]
        return t + 1, tuple(state), tuple(written)

    arrays = [_empty(steps, spec) for spec in saved]
    arrays += [_empty(steps + 1, array).write(0, array) for array in kept(state)]
    _, state, arrays = tf.while_loop(
        lambda t, *_: t < steps,
        body,
        (0, tuple(state), tuple(arrays)),
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    stacked = [array.stack() for array in arrays]
    return stacked[: len(saved)], stacked[len(saved) :], state


def backward_loop(
    step: Callable[..., tuple[Arrays, Arrays]], steps: int, d_state: Arrays, emitted: Sequence[tf.TensorSpec]
) -> tuple[Arrays, Arrays]:
    """Runs the backward steps, from the last to the first.

    Args:
        step: Called with the number of a step and the gradient of the state after it.
        steps: Number of steps (T).
        d_state: Gradient of the last state.
        emitted: Shapes of the arrays that a step returns.

    Returns:
        The arrays of all steps [T, ...], and the gradient of the first state.
    """

    def body(t: tf.Tensor, d_state: Arrays, arrays: Arrays) -> tuple[Any, ...]:
        values, d_state = step(t, d_state)
        return t - 1, tuple(d_state), tuple(a.write(t, value) for a, value in zip(arrays, values, strict=True))

    arrays = tuple(_empty(steps, spec) for spec in emitted)
    _, d_state, arrays = tf.while_loop(
        lambda t, *_: t >= 0,
        body,
        (steps - 1, tuple(d_state), arrays),
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    return [array.stack() for array in arrays], d_state


def _empty(steps: int, like: tf.Tensor | tf.TensorSpec) -> tf.TensorArray:
    """Creates a `tf.TensorArray` with one element per step, of the shape and type of `like`."""
    return tf.TensorArray(like.dtype, steps, element_shape=like.shape)


def transposed(weights: Weights) -> dict[str, tf.Tensor]:
    """Transposes the matrices among the weights of a cell, before the compiled function that multiplies by them.

    Inside, XLA would transpose them in the product, which YNNPACK does not support: see `step_product`.
    """
    return {name: weight if name in VECTORS else tf.transpose(weight) for name, weight in weights.items()}


def step_kernel(kernel: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns a kernel for `step_product`, in bfloat16 if that is `dtype`, otherwise in float32.

    In float16 gradients would overflow, and on a CPU be no faster.

    Args:
        kernel: Weights, [m, n] float32.
        dtype: Precision of the products of the layer.
    """
    return tf.cast(kernel, tf.bfloat16) if dtype == tf.bfloat16 else kernel


def step_product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Computes x @ kernel for one step, in the precision of the kernel. Call it in a `Fused` function.

    With XLA, sums are in float32. On a CPU it would compute a `tf.matmul` in bfloat16 as one in float32; the operation
    here becomes, unless it is small, a product of YNNPACK, which is two to three times as fast on processors with
    instructions for bfloat16. TensorFlow alone has no kernel for that operation.

    Args:
        x: Values of the step, [B, m] float32.
        kernel: Weights from `step_kernel`, [m, n].

    Returns:
        The product, [B, n] float32.
    """
    low = tf.cast(x, kernel.dtype)
    if kernel.dtype == tf.bfloat16 and has_xla() and not tf.executing_eagerly():
        return tf.raw_ops.BatchMatMulV3(x=low, y=kernel, Tout=tf.float32)
    return tf.cast(tf.matmul(low, kernel), tf.float32)


def product_over_time(a: tf.Tensor, b: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Computes the sum of a.T @ b over all steps, as one matrix product.

    Args:
        a: Values, [T, B, m].
        b: Values, [T, B, n].
        dtype: Precision of the product.

    Returns:
        The sum, [m, n] float32.
    """
    rows_a, rows_b = (tf.cast(tf.reshape(array, (-1, array.shape[-1])), dtype) for array in (a, b))
    return tf.cast(tf.matmul(rows_a, rows_b, transpose_a=True), tf.float32)


def sum_over_time(a: tf.Tensor) -> tf.Tensor:
    """Sums a [T, B, n] over steps and rows, giving [n]; uses a product with ones, which is faster than a reduction."""
    rows = tf.reshape(a, (-1, a.shape[-1]))
    return tf.matmul(tf.ones((1, rows.shape[0])), rows)[0]


@Fused
def _forward(
    cell: Cell, inputs: tf.Tensor, weights: Weights, state: Arrays, dtype: tf.DType
) -> tuple[Arrays, Arrays, Arrays]:
    """Runs the forward loop inside XLA over inputs [T, B, n] from a state of [B, H] each: see `forward_loop`."""
    step = cell.forward(weights, dtype)
    saved, _ = step(inputs[0], state)  # for the shapes only; XLA removes it
    return forward_loop(step, inputs, state, [tf.TensorSpec(array.shape) for array in saved])


@Fused
def _backward(
    cell: Cell,
    inputs: tf.Tensor,
    weights: Weights,
    saved: Arrays,
    states: Arrays,
    d_outputs: tf.Tensor,
    d_state: Arrays,
    dtype: tf.DType,
) -> tuple[Arrays, Arrays]:
    """Runs the backward loop inside XLA.

    Args:
        cell: The cell.
        inputs: Inputs [T, B, n].
        weights: Its weights, the matrices transposed.
        saved: What the forward steps saved, [T, ...] each.
        states: States before and after each step, [T+1, B, H] each.
        d_outputs: Gradient of the outputs, [T, B, H].
        d_state: Gradient of the last state, [B, H] each.
        dtype: Precision of the products.

    Returns:
        What the backward steps emitted, [T, ...] each, and the gradient of the first state, [B, H] each.
    """
    step_back = cell.backward(weights, dtype)

    def step(t: tf.Tensor | int, d_state: Arrays) -> tuple[Arrays, Arrays]:
        d_h, *others = d_state
        before, after = [array[t] for array in states], [array[t + 1] for array in states]
        return step_back(inputs[t], before, after, [array[t] for array in saved], [d_h + d_outputs[t], *others])

    emitted, _ = step(0, d_state)  # for the shapes only
    return backward_loop(step, inputs.shape[0], d_state, [tf.TensorSpec(array.shape) for array in emitted])

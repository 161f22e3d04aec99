"""The whole network of textgen in plain NumPy, forward and backward through time.

Read it to learn how a recurrent language model works. The tests compare the fast implementation with it. Nothing here
is optimized: every line is an equation.

Letters: B batch rows (streams of text), T time steps, E embedding size, H hidden units, L layers, V tokens in the
vocabulary.

**The task.** Text is divided into tokens, each with an id below V. Given the ids so far, the network computes a logit
for every token; the softmax of the logits is the probability that it comes next. The loss is -log p(next token), in
nats, averaged over all tokens. A network that has learned nothing has a loss of log V.

**The network.** Each token is represented by a row of the embedding table, E learned numbers. L recurrent layers read
these rows from left to right; `textgen.model.reference.cells` has their equations. If H differs from E, a projection
maps the last layer's output back to E numbers, the features. The logit of a token is the dot product of the features
with its row of the same embedding table (tied weights, Press & Wolf 2017) or with a column of a separate kernel, plus a
bias, which learns the frequency of the token. With layer normalization (Ba, Kiros & Hinton 2016, whose LSTM normalizes
the sums inside each step instead) each layer reads its input normalized. With residual connections (He et al. 2016) its
output is added to its input. An attention head may follow the last layer; `textgen.model.reference.attention` has its
equations.

**Truncated backpropagation through time.** The gradient through a whole novel would need the records of every step. So
each stream is read in windows of T steps (Williams & Peng 1990). The state is carried from one window to the next, so
the network reads the whole novel. The gradient stops at the start of the window, so the network learns directly only
from the last T steps:

    weights = initial_weights(config, rng)
    state = initial_state(weights, batch_size)
    for inputs, targets in windows:  # row b continues row b of the window before
        loss, gradients, state, _ = loss_and_gradients(weights, inputs, targets, state)
        gradients, _ = clip_by_global_norm(gradients, 0.5)
        for name in weights:
            weights[name] -= learning_rate * gradients[name]

A backward network is the same network with reversed text; see `textgen.model.directions`.

What textgen adds to these equations is elsewhere:

- Dropout, in `textgen.model.layers.dropout`. In training, textgen drops random units of the embedding and of the
  outputs that a layer passes to the next one (never of h on its way to the next step), the same units at all steps of a
  window (Gal & Ghahramani 2016). It can also drop whole words, and weights of the recurrent kernels.
- Penalties on large and on fast changing outputs, in `textgen.model.layers.activations`, and a loss from some of the
  logits, for large vocabularies, in `textgen.model.layers.sampled_softmax`.
- Optimizers other than plain gradient descent, weight decay, schedules of the learning rate and averages of the
  weights, in `textgen.training`.
- Samplers that draw from a part of the softmax, and constraints on what is written, in `textgen.generation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from textgen.model.config import TABLE, VECTORS, WITH_FORGET_GATE, ModelConfig
from textgen.model.reference.attention import AttentionRecord, attention_backward, attention_forward, attention_state
from textgen.model.reference.cells import (
    LSTM,
    Array,
    Cell,
    CellState,
    Record,
    affine_backward,
    cell_of,
    layer_backward,
    layer_forward,
)
from textgen.model.reference.norm import NormRecord, norm_backward, norm_forward

Weights = dict[str, Array]  # "lstm_0/kernel" -> array; the same names hold gradients

State = Sequence[CellState]  # of each layer: (h, c) or (h,), each [B, H]; then that of attention, if there is any

# === The network ===
# Below, `dy` always means: the gradient of the loss with respect to `y`. It has the shape of `y`.


class Stack(NamedTuple):
    """The settings of the network that the names of its weights do not show: cell, residual connections, attention.

    Attributes:
        cell: Kind of the recurrent layers.
        residual: Whether a layer's input is added to its output, if both have the same width.
        attention: Past outputs that an attention head reads (N); 0 for no head.
    """

    cell: Cell = LSTM
    residual: bool = False
    attention: int = 0


PLAIN = Stack()


def stack_of(config: ModelConfig) -> Stack:
    """The architecture of a configuration."""
    return Stack(cell_of(config), config.residual, config.attention)


class Trace(NamedTuple):
    """What the backward pass needs of a forward pass.

    Attributes:
        inputs: Token ids, [B, T].
        layers: Records of each layer and step.
        normed: Record of the normalization of each layer's input.
        hidden: Output of the last layer or of attention, [B, T, H].
        features: Input of the output layer, [B, T, E].
        attention: Record of attention.
    """

    inputs: Array
    layers: list[list[Record]]
    normed: list[NormRecord | None]
    hidden: Array
    features: Array
    attention: AttentionRecord | None = None


def of_layer(weights: Mapping[str, Array], name: str) -> Weights:
    """The weights of a layer by their names within it, such as `kernel`.

    Example:
        >>> of_layer({"lstm_0/bias": np.zeros(4), "head/bias": np.ones(2)}, "head")
        {'bias': array([1., 1.])}
    """
    return {part: weight for key, weight in weights.items() for layer, part in [key.split("/")] if layer == name}


def _head_kernel(weights: Weights) -> Array:
    """The kernel of the output layer, [E, V]: its own, or the transposed embedding table."""
    return weights["head/kernel"] if "head/kernel" in weights else weights[TABLE].T


def stack_forward(
    weights: Weights, x: Array, state: State, stack: Stack = PLAIN
) -> tuple[Array, State, list[list[Record]], list[NormRecord | None]]:
    """Runs the recurrent layers.

    Args:
        weights: Weights by name.
        x: The inputs of the first layer, [B, T, E].
        state: The state of each layer before the first step.
        stack: Architecture.

    Returns:
        The outputs of the last layer [B, T, H], the new state, the records of all layers and of their normalizations.
    """
    new_state, layers, norms = [], [], []
    for number, before in enumerate(state):
        below, normed, norm = x, None, of_layer(weights, f"norm_{number}")
        if norm:
            x, normed = norm_forward(x, norm["gamma"], norm["beta"])
        own = of_layer(weights, f"{stack.cell.name}_{number}")
        x, last, records = layer_forward(stack.cell, x, before, own)  # [B, T, H]
        if stack.residual and x.shape == below.shape:
            x = x + below
        new_state.append(last)
        layers.append(records)
        norms.append(normed)
    return x, new_state, layers, norms


def forward(weights: Weights, inputs: Array, state: State, stack: Stack = PLAIN) -> tuple[Array, State, Trace]:
    """Reads a window.

    Args:
        weights: Weights by name.
        inputs: Token ids, [B, T].
        state: State before the window.
        stack: Architecture.

    Returns:
        The logits [B, T, V], the state after the window, and what the backward pass needs.
    """
    x = weights[TABLE][inputs]  # [B, T, E]
    attention, of_layers, of_attention = None, list(state), state[-1]
    if stack.attention:
        of_layers.pop()
    x, new_state, layers, norms = stack_forward(weights, x, of_layers, stack)  # [B, T, H]
    if stack.attention:
        x, last, attention = attention_forward(x, of_attention, of_layer(weights, "attention"))
        new_state = [*new_state, last]
    features = x
    if "projection/kernel" in weights:
        features = x @ weights["projection/kernel"] + weights["projection/bias"]  # [B, T, E]
    logits = features @ _head_kernel(weights) + weights["head/bias"]  # [B, T, V]
    return logits, new_state, Trace(inputs, layers, norms, x, features, attention)


def backward(
    weights: Weights, trace: Trace, dlogits: Array, dstate: State, stack: Stack = PLAIN
) -> tuple[Weights, State]:
    """The backward pass: the lines of `forward` from the last to the first.

    Args:
        weights: Weights by name.
        trace: Trace of `forward`.
        dlogits: Gradient of the logits, [B, T, V].
        dstate: Gradient of the state after the window. It is zero in truncated backpropagation; passed from window to
            window instead, it gives the full gradient.
        stack: Architecture.

    Returns:
        The gradients of the weights, and of the state before the window.
    """
    gradients = {TABLE: np.zeros_like(weights[TABLE])}
    dx, dhead, gradients["head/bias"] = affine_backward(dlogits, trace.features, _head_kernel(weights))
    if "head/kernel" in weights:
        gradients["head/kernel"] = dhead  # [E, V]
    else:
        gradients[TABLE] += dhead.T  # a tied table gets gradients twice: here as the output layer ...
    if "projection/kernel" in weights:
        dx, gradients["projection/kernel"], gradients["projection/bias"] = affine_backward(
            dx, trace.hidden, weights["projection/kernel"]
        )
    first_dstate = list(dstate)
    if trace.attention:
        dx, first_dstate[-1], own = attention_backward(dx, dstate[-1], trace.attention, of_layer(weights, "attention"))
        gradients |= {f"attention/{part}": gradient for part, gradient in own.items()}
    for number in reversed(range(len(trace.layers))):
        name, dabove, normed = f"{stack.cell.name}_{number}", dx, trace.normed[number]
        dx, first_dstate[number], own = layer_backward(
            stack.cell, dx, dstate[number], trace.layers[number], of_layer(weights, name)
        )
        gradients |= {f"{name}/{part}": gradient for part, gradient in own.items()}
        if normed:
            norm = f"norm_{number}"
            dx, gradients[f"{norm}/gamma"], gradients[f"{norm}/beta"] = norm_backward(
                dx, normed, weights[f"{norm}/gamma"]
            )
        if stack.residual and dx.shape == dabove.shape:
            dx = dx + dabove
    np.add.at(gradients[TABLE], trace.inputs, dx)  # ... and here as the input; a token may occur twice
    return gradients, first_dstate


def cross_entropy(logits: Array, targets: Array, pad_id: int = 0) -> tuple[float, Array]:
    """The mean of -log softmax(logits)[target], and its gradient.

    The gradient is p - 1 for the target and p for all other tokens, divided by the number of targets.

    Args:
        logits: Logits, [B, T, V].
        targets: Ids of the next tokens, [B, T].
        pad_id: Targets with this id are ignored: they only fill up rows.

    Returns:
        The loss in nats per token, and the gradient of the logits, [B, T, V].
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)  # the same softmax, and no exp overflows
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # [B, T, V]
    is_target = np.arange(logits.shape[-1]) == targets[..., None]  # [B, T, V], one true in each row
    share = (targets != pad_id)[..., None].astype(logits.dtype)  # [B, T, 1]
    share /= max(1, share.sum())
    return float(-(share * log_p)[is_target].sum()), share * (np.exp(log_p) - is_target)


def loss_and_gradients(
    weights: Weights, inputs: Array, targets: Array, state: State, pad_id: int = 0, stack: Stack = PLAIN
) -> tuple[float, Weights, State, State]:
    """One window of truncated backpropagation through time.

    Args:
        weights: Weights by name.
        inputs: Token ids, [B, T].
        targets: Ids of the next tokens, [B, T].
        state: State before the window.
        pad_id: Targets with this id are ignored.
        stack: Architecture.

    Returns:
        The loss in nats per token, the gradients of the weights, the state after the window, and the gradient of the
        state before it, which training drops.
    """
    logits, new_state, trace = forward(weights, inputs, state, stack)
    loss, dlogits = cross_entropy(logits, targets, pad_id)
    nothing = [tuple(np.zeros_like(array) for array in layer) for layer in new_state]
    gradients, dstate = backward(weights, trace, dlogits, nothing, stack)
    return loss, gradients, new_state, dstate


def clip_by_global_norm(gradients: Mapping[str, Array], norm: float) -> tuple[Weights, float]:
    """Scales all gradients by one factor, so that their global norm is at most `norm` (Pascanu et al. 2013).

    Returns:
        The scaled gradients, and the global norm before.
    """
    length = float(np.sqrt(sum(np.square(gradient).sum() for gradient in gradients.values())))
    return {name: gradient * (norm / max(norm, length)) for name, gradient in gradients.items()}, length


# === Initial weights, and sampling ===


def _glorot_uniform(rng: np.random.Generator, num_in: int, num_out: int) -> Array:
    limit = np.sqrt(6 / (num_in + num_out))
    return rng.uniform(-limit, limit, [num_in, num_out])


def _orthogonal(rng: np.random.Generator, num_in: int, num_out: int) -> Array:
    """A random matrix U [in, out], in <= out, with U @ U.T = 1 (Saxe, McClelland & Ganguli 2014).

    Its rows are orthonormal, so h @ U has the same norm as h. For [H, 4H] this holds for the four blocks together, as
    in Keras; each block alone is not orthogonal and roughly halves the norm. Its singular values lie between almost 0
    and 0.87: from 0.001 to 0.86 in a draw with H = 256.
    """
    q, r = np.linalg.qr(rng.normal(size=[num_out, num_in]))
    return (q * np.sign(np.diag(r))).T  # without the signs, some rotations would be likelier than others


def initial_weights(config: ModelConfig, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Weights:
    """Random initial weights, as Keras draws them by default.

    Kernels are uniform with variance 2 / (in + out), with which x W keeps the scale of x if in = out (Glorot & Bengio
    2010). In a kernel of several gates, `out` counts all of their columns, which makes the values smaller: with H
    inputs, x W has 0.63 times the standard deviation of x in an LSTM, and 0.71 times in a GRU. Recurrent kernels are
    orthogonal: in an RNN no direction of h is amplified or lost; the block of one gate in a kernel [H, 4H] loses some
    of them (see `_orthogonal`). The bias of forget gates is 1; all other biases and the output of attention are 0.

    textgen itself trains from a table between -0.1 and 0.1, and from the log frequencies of the tokens as `head/bias`.
    """
    weights = {}
    for name, shape in config.weight_shapes().items():
        layer, part = name.split("/")
        if part == "table":
            value = rng.uniform(-0.05, 0.05, shape)
        elif part == "recurrent_kernel":
            value = _orthogonal(rng, *shape)
        elif part == "bias" and layer.startswith(f"{config.cell}_") and config.cell in WITH_FORGET_GATE:
            value = np.repeat([0.0, 1.0, 0.0, 0.0], config.hidden_units)  # i, f, g, o: at first, remember
        elif part == "gamma":
            value = np.ones(shape)
        elif part in VECTORS or part == "output":
            value = np.zeros(shape)
        else:
            value = _glorot_uniform(rng, *shape)
        weights[name] = value.astype(dtype)
    return weights


def initial_state(weights: Weights, batch_size: int, stack: Stack = PLAIN) -> State:
    """The state of streams that have read nothing: zeros."""
    kernels = [value for name, value in weights.items() if name.endswith("/recurrent_kernel")]
    state = [
        tuple(np.zeros([batch_size, len(kernel)], kernel.dtype) for _ in range(stack.cell.state_size))  # [B, H]
        for kernel in kernels
    ]
    if stack.attention:
        state.append(attention_state(batch_size, stack.attention, len(kernels[0]), kernels[0].dtype))
    return state


def generate(
    weights: Weights,
    ids: Sequence[int],
    num: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
    stack: Stack = PLAIN,
) -> list[int]:
    """Samples tokens after a prompt: reads it, samples the next token, reads that, and so on.

    The argmax of logits + temperature * Gumbel noise is a sample of softmax(logits / temperature) (Gumbel 1954); at
    temperature 0 it is the likeliest token.

    Args:
        weights: Weights by name.
        ids: Token ids of the prompt.
        num: Tokens to sample.
        rng: Random generator.
        temperature: Temperature of the softmax.
        stack: Architecture.

    Returns:
        The sampled ids.
    """
    state, read, written = initial_state(weights, 1, stack), list(ids), []
    for _ in range(num):
        logits, state, _ = forward(weights, np.array([read]), state, stack)
        noise = rng.gumbel(size=logits.shape[-1])  # [V]
        read = [int(np.argmax(logits[0, -1] + temperature * noise))]
        written += read
    return written

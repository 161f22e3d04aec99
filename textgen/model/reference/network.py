"""The whole network of textgen in plain NumPy, forward and backward through time.

The page to read if you want to know how a recurrent language model works, and the oracle that the tests
hold the fast implementation against. Nothing here is tuned: every line is an equation.

Letters: B batch rows (streams of text), T time steps, E embedding, H hidden units, L layers, V pieces.

**The task.** Text is cut into pieces, and each piece has an id below V. Given the ids so far, the network
gives every piece a score, its logit; the softmax of the logits is the probability of coming next. The loss
is the surprise at what did come: -log p(next piece), in nats, averaged. A network that knows nothing has
loss log V.

**The network.** A row of the embedding table, E learned numbers, stands for each piece. L recurrent layers, of
LSTM unless another cell is chosen, read these rows from left to right; `textgen.model.reference.cells` has their
equations. If H differs from E, a projection brings the last layer's output back to E numbers, the features. A logit
is the dot product of the features with the piece's own row of the same embedding table (tied weights, Press & Wolf
2017: what a piece means as input and as output is learned once), or with a column of a kernel of its own, plus a
bias, which learns how frequent the piece is. With layer normalisation (Ba, Kiros & Hinton 2016) each layer reads its
input normalised; with residual connections (He et al. 2016) it adds to its input instead of replacing it. A head of
attention may stand between the last layer and the rest; `textgen.model.reference.attention` has its equations.

**Truncated backpropagation through time.** A gradient through a whole novel would need the memory of every
step. So each stream is read in windows of T steps (Williams & Peng 1990). The state goes on from one window
to the next, so the network hears the whole novel; the gradient stops at the window's left edge, so the
network is taught what a memory is worth within T steps only:

    weights = initial_weights(config, rng)
    state = initial_state(weights, batch_size)
    for inputs, targets in windows:  # row b goes on where row b of the window before ended
        loss, gradients, state, _ = loss_and_gradients(weights, inputs, targets, state)
        gradients, _ = clip_by_global_norm(gradients, 0.5)
        for name in weights:
            weights[name] -= learning_rate * gradients[name]

A network that reads backward is this one, given reversed text; see `textgen.model.directions`.

Dropout is left out. In training, textgen silences random units of the embedding and of what each layer says
to the next (never of h on its way to the next step), the same units at all steps of a window (Gal &
Ghahramani 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from textgen.model.config import ModelConfig
from textgen.model.reference.attention import Look, attention_backward, attention_forward, attention_state
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
from textgen.model.reference.norm import Normed, norm_backward, norm_forward

Weights = dict[str, Array]  # "lstm_0/kernel" -> array; the same names hold gradients

State = Sequence[CellState]  # of each layer: (h, c) or (h,), each [B, H]; then that of attention, if there is any

# === The network ===
# Below, `dy` always means: the gradient of the loss with respect to `y`. It has the shape of `y`.


class Stack(NamedTuple):
    """What the recurrent layers are, as far as the names of the weights do not tell."""

    cell: Cell = LSTM
    residual: bool = False  # a layer adds to what it read, where both are as wide, instead of replacing it
    attention: int = 0  # outputs that a head of attention looks back on; 0: there is none


PLAIN = Stack()


def stack_of(config: ModelConfig) -> Stack:
    """The recurrent layers that a configuration asks for."""
    return Stack(cell_of(config), config.residual, config.attention)


class Trace(NamedTuple):
    """What a forward pass leaves for the way back."""

    inputs: Array  # [B, T]
    layers: list[list[Record]]  # L times T
    normed: list[Normed | None]  # of each layer's input
    hidden: Array  # [B, T, H], what the last layer or attention said
    features: Array  # [B, T, E]
    look: Look | None = None  # of attention


def of_layer(weights: Mapping[str, Array], name: str) -> Weights:
    """The weights of a layer by the cell's own names, such as `kernel`."""
    return {part: weight for key, weight in weights.items() for layer, part in [key.split("/")] if layer == name}


def _head_kernel(weights: Weights) -> Array:
    """[E, V]: the head's own, or the embedding table turned on its side."""
    return weights["head/kernel"] if "head/kernel" in weights else weights["embedding/table"].T


def stack_forward(
    weights: Weights, x: Array, state: State, stack: Stack = PLAIN
) -> tuple[Array, State, list[list[Record]], list[Normed | None]]:
    """The recurrent layers read x [B, T, E]: what the last says [B, T, H], the new state, and two parts of a trace."""
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
    """Reads `inputs` [B, T] on from `state`: the logits [B, T, V], the new state, and the trace."""
    x = weights["embedding/table"][inputs]  # [B, T, E]
    look, of_layers, of_attention = None, list(state), state[-1]
    if stack.attention:
        of_layers.pop()
    x, new_state, layers, norms = stack_forward(weights, x, of_layers, stack)  # [B, T, H]
    if stack.attention:
        x, last, look = attention_forward(x, of_attention, of_layer(weights, "attention"))
        new_state = [*new_state, last]
    features = x
    if "projection/kernel" in weights:
        features = x @ weights["projection/kernel"] + weights["projection/bias"]  # [B, T, E]
    logits = features @ _head_kernel(weights) + weights["head/bias"]  # [B, T, V]
    return logits, new_state, Trace(inputs, layers, norms, x, features, look)


def backward(
    weights: Weights, trace: Trace, dlogits: Array, dstate: State, stack: Stack = PLAIN
) -> tuple[Weights, State]:
    """The lines of `forward` from the last to the first: the gradients of the weights and of the first state.

    `dstate` is the gradient that the new state brings back from later windows. It is zero in truncated
    backpropagation; handed from window to window instead, it makes the gradient whole again.
    """
    gradients = {"embedding/table": np.zeros_like(weights["embedding/table"])}
    dx, dhead, gradients["head/bias"] = affine_backward(dlogits, trace.features, _head_kernel(weights))
    if "head/kernel" in weights:
        gradients["head/kernel"] = dhead  # [E, V]
    else:
        gradients["embedding/table"] += dhead.T  # a tied table learns at both ends, here as output ...
    if "projection/kernel" in weights:
        dx, gradients["projection/kernel"], gradients["projection/bias"] = affine_backward(
            dx, trace.hidden, weights["projection/kernel"]
        )
    first_dstate = list(dstate)
    if trace.look:
        dx, first_dstate[-1], own = attention_backward(dx, dstate[-1], trace.look, of_layer(weights, "attention"))
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
    np.add.at(gradients["embedding/table"], trace.inputs, dx)  # ... and here as input; a piece may come twice
    return gradients, first_dstate


def cross_entropy(logits: Array, targets: Array, pad_id: int = 0) -> tuple[float, Array]:
    """The mean of -log softmax(logits)[target], in nats, and its gradient [B, T, V].

    Targets [B, T] that are `pad_id` do not count: they only fill up rows. The gradient is p - 1 at the piece
    that came and p at all others: what the network expected less what happened.
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)  # the same softmax, and no exp overflows
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # [B, T, V]
    came = np.arange(logits.shape[-1]) == targets[..., None]  # [B, T, V], one true in each row
    share = (targets != pad_id)[..., None].astype(logits.dtype)  # [B, T, 1]
    share /= max(1, share.sum())
    return float(-(share * log_p)[came].sum()), share * (np.exp(log_p) - came)


def loss_and_gradients(
    weights: Weights, inputs: Array, targets: Array, state: State, pad_id: int = 0, stack: Stack = PLAIN
) -> tuple[float, Weights, State, State]:
    """One window of truncated backpropagation: loss, gradients, the state after and the gradient of `state`.

    The last is where the gradient is cut: training drops it.
    """
    logits, new_state, trace = forward(weights, inputs, state, stack)
    loss, dlogits = cross_entropy(logits, targets, pad_id)
    nothing = [tuple(np.zeros_like(array) for array in layer) for layer in new_state]
    gradients, dstate = backward(weights, trace, dlogits, nothing, stack)
    return loss, gradients, new_state, dstate


def clip_by_global_norm(gradients: Mapping[str, Array], norm: float) -> tuple[Weights, float]:
    """All gradients scaled by one factor, so that together they are at most `norm` long; and their length.

    One factor for all keeps the direction; only the step gets shorter (Pascanu, Mikolov & Bengio 2013).
    """
    length = float(np.sqrt(sum(np.square(gradient).sum() for gradient in gradients.values())))
    return {name: gradient * (norm / max(norm, length)) for name, gradient in gradients.items()}, length


# === Beginning and end ===


def _glorot_uniform(rng: np.random.Generator, num_in: int, num_out: int) -> Array:
    limit = np.sqrt(6 / (num_in + num_out))
    return rng.uniform(-limit, limit, [num_in, num_out])


def _orthogonal(rng: np.random.Generator, num_in: int, num_out: int) -> Array:
    """A random matrix U [in, out], in <= out, with U @ U.T = 1 (Saxe, McClelland & Ganguli 2014).

    Its rows are orthonormal, so h @ U is exactly as long as h. For [H, 4H] this holds of the four blocks
    together, as in Keras: each block alone is not orthogonal, and about halves the length.
    """
    q, r = np.linalg.qr(rng.normal(size=[num_out, num_in]))
    return (q * np.sign(np.diag(r))).T  # without the signs, QR would prefer some rotations to others


def initial_weights(config: ModelConfig, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Weights:
    """Weights before any learning, drawn as Keras draws them.

    Kernels are uniform with variance 2 / (in + out), so that numbers keep their size from layer to layer
    (Glorot & Bengio 2010); recurrent kernels are orthogonal, so that no direction of h is favoured or lost. The
    biases of an LSTM are 1 at the forget gate, all others 0, and so is what attention adds.
    """
    weights = {}
    for name, shape in config.weight_shapes().items():
        layer, part = name.split("/")
        if part == "table":
            value = rng.uniform(-0.05, 0.05, shape)
        elif part == "recurrent_kernel":
            value = _orthogonal(rng, *shape)
        elif part == "bias" and shape == (4 * config.hidden_units,) and layer != "head":
            value = np.repeat([0.0, 1.0, 0.0, 0.0], config.hidden_units)  # i, f, g, o: at first, remember
        elif part in ("bias", "beta", "peepholes", "output"):
            value = np.zeros(shape)
        elif part == "gamma":
            value = np.ones(shape)
        else:
            value = _glorot_uniform(rng, *shape)
        weights[name] = value.astype(dtype)
    return weights


def initial_state(weights: Weights, batch_size: int, stack: Stack = PLAIN) -> State:
    """The state of a network that has read nothing: zeros."""
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
    """Writes `num` ids after the prompt `ids`: reads, draws the next piece, reads that, and so on.

    The largest of logits + temperature * Gumbel noise is a draw from softmax(logits / temperature)
    (Gumbel 1954), and at temperature 0 simply the likeliest piece.
    """
    state, read, written = initial_state(weights, 1, stack), list(ids), []
    for _ in range(num):
        logits, state, _ = forward(weights, np.array([read]), state, stack)
        noise = rng.gumbel(size=logits.shape[-1])  # [V]
        read = [int(np.argmax(logits[0, -1] + temperature * noise))]
        written += read
    return written

"""The whole network of textgen in plain NumPy, forward and backward through time.

The page to read if you want to know how a recurrent language model works, and the oracle that the tests
hold the fast implementation against. Nothing here is tuned: every line is an equation.

Letters: B batch rows (streams of text), T time steps, E embedding, H hidden units, L layers, V pieces.

**The task.** Text is cut into pieces, and each piece has an id below V. Given the ids so far, the network
gives every piece a score, its logit; the softmax of the logits is the probability of coming next. The loss
is the surprise at what did come: -log p(next piece), in nats, averaged. A network that knows nothing has
loss log V.

**The network.** A row of the embedding table, E learned numbers, stands for each piece. L layers of LSTM
read these rows from left to right. If H differs from E, a projection brings the last layer's output back to
E numbers, the features. A logit is the dot product of the features with the piece's own row of the same
embedding table (tied weights, Press & Wolf 2017: what a piece means as input and as output is learned once),
or with a column of a kernel of its own, plus a bias, which learns how frequent the piece is.

**The cell.** A layer's state is a pair (h, c), each [B, H]: h is what it says, c is what it remembers. At
each step four values for every unit come from the input x and from what the layer said before:

    z = x @ W + h' @ U + b               [B, 4H]: the four side by side, in Keras's order i, f, g, o
    i = sigmoid(z_i)                     input gate: how much to write
    f = sigmoid(z_f)                     forget gate: how much to keep (Gers, Schmidhuber & Cummins 2000)
    g = tanh(z_g)                        candidate: what to write (Keras calls it c)
    o = sigmoid(z_o)                     output gate: how much to say
    c = f * c' + i * g                   the memory: keep some of the old, write some of the new
    h = o * tanh(c)                      what the layer above reads, and this layer at the next step

where ' marks the step before, * multiplies number by number, W is `kernel`, U `recurrent_kernel` and b
`bias` (Hochreiter & Schmidhuber 1997).

**Why gates.** Learning needs to know how the loss changes with what the network did many steps ago. In a
plain recurrent network, h = tanh(x @ W + h' @ U + b), the gradient is multiplied at every step by U and by
the slope of tanh: over many steps it vanishes or explodes (Pascanu, Mikolov & Bengio 2013). An LSTM's memory
is changed by adding, so along the memory

    dc' = f * dc

and nothing else: no matrix, no squashing. A unit whose forget gate learns to stay at 0.99 hands 60 % of its
gradient back over 50 steps. With a bias of 0 the gates would start near 0.5, and little would arrive of the
very gradient that could teach them to open: the forget bias starts at 1 (Jozefowicz, Zaremba & Sutskever
2015). Beside the memory, the paths through h' and U are still there, and can explode: hence the clipping.

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

Dropout is left out. In training, textgen silences random units of the embedding and of what each layer says
to the next (never of h on its way to the next step), the same units at all steps of a window (Gal &
Ghahramani 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from textgen.config import ModelConfig

Array = np.ndarray
Weights = dict[str, Array]  # "lstm_0/kernel" -> array; the same names hold gradients
State = list[tuple[Array, Array]]  # for each layer (h, c), each [B, H]
LayerGradients = tuple[Array, Array, Array]  # of a kernel, a recurrent kernel and a bias

# === The cell, one step ===
# Below, `dy` always means: the gradient of the loss with respect to `y`. It has the shape of `y`.


class Step(NamedTuple):
    """What one step of one layer leaves for the way back."""

    x: Array  # [B, in]
    h: Array  # [B, H], as it was before the step
    c: Array  # [B, H], as it was before the step
    i: Array  # [B, H], and so are the others
    f: Array
    g: Array
    o: Array
    tanh_c: Array  # of the new c


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that no x overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def lstm_step(
    x: Array, h: Array, c: Array, kernel: Array, recurrent_kernel: Array, bias: Array
) -> tuple[Array, Array, Step]:
    """One step of time: the new h, the new c, and the record of how they came about."""
    z = x @ kernel + h @ recurrent_kernel + bias  # [B, 4H]
    z_i, z_f, z_g, z_o = np.split(z, 4, axis=-1)  # each [B, H]
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    new_c = f * c + i * g
    tanh_c = np.tanh(new_c)
    new_h = o * tanh_c
    return new_h, new_c, Step(x, h, c, i, f, g, o, tanh_c)


def lstm_step_backward(dh: Array, dc: Array, step: Step, recurrent_kernel: Array) -> tuple[Array, Array, Array]:
    """From the gradients of the new h and c: those of z, of the old h and of the old c.

    The slopes are written with the values themselves: sigmoid' = s * (1 - s), tanh' = 1 - tanh ** 2.
    """
    _, _, c, i, f, g, o, tanh_c = step
    dc = dc + dh * o * (1 - tanh_c**2)  # the memory counts twice: by itself, and through what was said
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dz_o = dh * tanh_c * o * (1 - o)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)  # [B, 4H]
    return dz, dz @ recurrent_kernel.T, dc * f


# === A layer, all steps ===


def lstm_forward(
    x: Array, h: Array, c: Array, kernel: Array, recurrent_kernel: Array, bias: Array
) -> tuple[Array, tuple[Array, Array], list[Step]]:
    """Reads x [B, T, in] from left to right: every h [B, T, H], the last (h, c), and the steps."""
    hs, steps = [], []
    for t in range(x.shape[1]):
        h, c, step = lstm_step(x[:, t], h, c, kernel, recurrent_kernel, bias)
        hs.append(h)
        steps.append(step)
    return np.stack(hs, axis=1), (h, c), steps


def affine_backward(dy: Array, x: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """The gradients of x, kernel and bias in y = x @ kernel + bias, whatever axes come before the last."""
    x_rows, dy_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])  # [B * T, in], [B * T, out]
    return dy @ kernel.T, x_rows.T @ dy_rows, dy_rows.sum(axis=0)


def lstm_backward(
    dhs: Array, dh: Array, dc: Array, steps: Sequence[Step], kernel: Array, recurrent_kernel: Array
) -> tuple[Array, tuple[Array, Array], LayerGradients]:
    """From right to left: the gradients of x [B, T, in], of the first (h, c) and of the weights.

    `dhs` [B, T, H] comes from the layer above, `dh` and `dc` from the time after the last step.
    """
    dzs = []
    for t in reversed(range(len(steps))):
        dz, dh, dc = lstm_step_backward(dhs[:, t] + dh, dc, steps[t], recurrent_kernel)
        dzs.append(dz)
    dz = np.stack(dzs[::-1], axis=1)  # [B, T, 4H]

    # Every step uses the same weights, so their gradient is the sum over steps, taken here in one product.
    dx, dkernel, dbias = affine_backward(dz, np.stack([step.x for step in steps], axis=1), kernel)
    _, drecurrent, _ = affine_backward(dz, np.stack([step.h for step in steps], axis=1), recurrent_kernel)
    return dx, (dh, dc), (dkernel, drecurrent, dbias)


# === The network ===


class Trace(NamedTuple):
    """What a forward pass leaves for the way back."""

    inputs: Array  # [B, T]
    layers: list[list[Step]]  # L times T
    hidden: Array  # [B, T, H], what the last layer said
    features: Array  # [B, T, E]


def _lstm_names(layer: int) -> list[str]:
    return [f"lstm_{layer}/{part}" for part in ("kernel", "recurrent_kernel", "bias")]


def _lstm_weights(weights: Weights, layer: int) -> list[Array]:
    return [weights[name] for name in _lstm_names(layer)]


def _head_kernel(weights: Weights) -> Array:
    """[E, V]: the head's own, or the embedding table turned on its side."""
    return weights["head/kernel"] if "head/kernel" in weights else weights["embedding/table"].T


def forward(weights: Weights, inputs: Array, state: State) -> tuple[Array, State, Trace]:
    """Reads `inputs` [B, T] on from `state`: the logits [B, T, V], the new state, and the trace."""
    x = weights["embedding/table"][inputs]  # [B, T, E]
    new_state, layers = [], []
    for layer, (h, c) in enumerate(state):
        x, last, steps = lstm_forward(x, h, c, *_lstm_weights(weights, layer))  # [B, T, H]
        new_state.append(last)
        layers.append(steps)
    features = x
    if "projection/kernel" in weights:
        features = x @ weights["projection/kernel"] + weights["projection/bias"]  # [B, T, E]
    logits = features @ _head_kernel(weights) + weights["head/bias"]  # [B, T, V]
    return logits, new_state, Trace(inputs, layers, x, features)


def backward(weights: Weights, trace: Trace, dlogits: Array, dstate: State) -> tuple[Weights, State]:
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
    for layer in reversed(range(len(dstate))):
        kernel, recurrent_kernel, _ = _lstm_weights(weights, layer)
        dx, first_dstate[layer], of_layer = lstm_backward(
            dx, *dstate[layer], trace.layers[layer], kernel, recurrent_kernel
        )
        gradients.update(zip(_lstm_names(layer), of_layer, strict=True))
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
    weights: Weights, inputs: Array, targets: Array, state: State, pad_id: int = 0
) -> tuple[float, Weights, State, State]:
    """One window of truncated backpropagation: loss, gradients, the state after and the gradient of `state`.

    The last is where the gradient is cut: training drops it.
    """
    logits, new_state, trace = forward(weights, inputs, state)
    loss, dlogits = cross_entropy(logits, targets, pad_id)
    nothing = [(np.zeros_like(h), np.zeros_like(c)) for h, c in new_state]
    gradients, dstate = backward(weights, trace, dlogits, nothing)
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
    (Glorot & Bengio 2010); recurrent kernels are orthogonal, so that no direction of h is favoured or lost.
    """
    V, E, H = config.vocab_size, config.embedding_dim, config.hidden_units
    weights = {"embedding/table": rng.uniform(-0.05, 0.05, [V, E])}
    for layer in range(config.num_layers):
        weights[f"lstm_{layer}/kernel"] = _glorot_uniform(rng, H if layer else E, 4 * H)
        weights[f"lstm_{layer}/recurrent_kernel"] = _orthogonal(rng, H, 4 * H)
        weights[f"lstm_{layer}/bias"] = np.repeat([0.0, 1.0, 0.0, 0.0], H)  # i, f, g, o: at first, remember
    if H != E:
        weights["projection/kernel"] = _glorot_uniform(rng, H, E)
        weights["projection/bias"] = np.zeros(E)
    if not config.tie_embeddings:
        weights["head/kernel"] = _glorot_uniform(rng, E, V)
    weights["head/bias"] = np.zeros(V)
    return {name: value.astype(dtype) for name, value in weights.items()}


def initial_state(weights: Weights, batch_size: int) -> State:
    """The state of a network that has read nothing: zeros."""
    kernels = [value for name, value in weights.items() if name.endswith("/recurrent_kernel")]
    zeros = [np.zeros([batch_size, len(kernel)], kernel.dtype) for kernel in kernels]  # [B, H]
    return [(zero, zero.copy()) for zero in zeros]


def generate(
    weights: Weights, ids: Sequence[int], num: int, rng: np.random.Generator, temperature: float = 1.0
) -> list[int]:
    """Writes `num` ids after the prompt `ids`: reads, draws the next piece, reads that, and so on.

    The largest of logits + temperature * Gumbel noise is a draw from softmax(logits / temperature)
    (Gumbel 1954), and at temperature 0 simply the likeliest piece.
    """
    state, read, written = initial_state(weights, 1), list(ids), []
    for _ in range(num):
        logits, state, _ = forward(weights, np.array([read]), state)
        noise = rng.gumbel(size=logits.shape[-1])  # [V]
        read = [int(np.argmax(logits[0, -1] + temperature * noise))]
        written += read
    return written

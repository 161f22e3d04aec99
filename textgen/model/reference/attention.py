"""Attention over the last outputs of the recurrent layers, in plain NumPy: forward, backward, and the equations.

A recurrent network has to keep in its state whatever it may want to know later. A single head of attention, as in
the SHA-RNN (Merity 2019, arXiv:1911.11423), lets it look up instead what it said a while ago: at each step the output
x of the layers asks a question, the outputs of the last N steps and its own answer, and those that fit count most.

    n_t = norm(x_t) * gamma + beta       normalised, so that no output is heard for being loud
    q_t = n_t @ Q                        the question: `query` [H, H]
    s_ti = q_t . n_i / H                 how well n_i fits it, for i from t-N to t, as far as the text goes back
    p_ti = exp(s_ti) / sum over i        shares, which sum to 1
    m_t = sum over i of p_ti * n_i       what was found
    y_t = x_t + m_t @ O / sqrt(H)        `output` [H, H]

O is 0 at first, so that a network begins as the one without attention. What comes after t is never asked. The
divisors keep the first steps of learning small, however wide the layer: the numbers of n are about 1, those of x much
less, and an optimizer such as Adam moves all weights of a column together (Yang et al. 2022, arXiv:2203.03466, have
1 / H for the same reason).

The state is a pair: the last N of n, [B, N, H], oldest first, and how many of them there are, [B, 1]; the others are
zeros and do not count. It goes on from window to window like that of the recurrent layers, across documents too, and
its size does not depend on how long the text is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from textgen.model.reference.cells import Array, CellGradients, CellState, CellWeights, affine_backward
from textgen.model.reference.norm import Normed, norm_backward, norm_forward


class Look(NamedTuple):
    """What a window of attention leaves for the way back."""

    normed: Normed
    keys: Array  # [B, N + T, H]: the memory, then n of each step
    queries: Array  # [B, T, H]
    shares: Array  # [B, T, N + T]
    mixed: Array  # [B, T, H], m of each step


def attention_state(batch_size: int, window: int, hidden_units: int, dtype: np.dtype) -> CellState:
    """The memory of streams that have read nothing."""
    return np.zeros((batch_size, window, hidden_units), dtype), np.zeros((batch_size, 1), dtype)


def attention_forward(x: Array, state: CellState, w: CellWeights) -> tuple[Array, CellState, Look]:
    """Outputs of the layers x [B, T, H], state before them -> y [B, T, H], the state after them, and the record."""
    (memory, count), steps, width = state, x.shape[1], x.dtype.type(x.shape[-1])
    window = memory.shape[1]  # N
    n, normed = norm_forward(x, w["gamma"], w["beta"])
    keys = np.concatenate([memory, n], axis=1)  # [B, N + T, H]
    queries = n @ w["query"]  # [B, T, H]
    scores = queries @ keys.transpose(0, 2, 1) / width  # [B, T, N + T]
    place = np.arange(window + steps)
    age = place[window:, None] - place  # [T, N + T]
    is_there = place >= window - count  # [B, N + T]
    scores = np.where((age >= 0) & (age <= window) & is_there[:, None], scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    mixed = shares @ keys  # [B, T, H]
    after = keys[:, steps:], np.minimum(count + steps, window).astype(count.dtype)
    return x + mixed @ w["output"] / np.sqrt(width), after, Look(normed, keys, queries, shares, mixed)


def attention_backward(
    dy: Array, dstate: CellState, look: Look, w: CellWeights
) -> tuple[Array, CellState, CellGradients]:
    """The lines of `attention_forward` from the last to the first: the gradients of x, of the state, of the weights.

    How many outputs there are has no gradient.
    """
    normed, keys, queries, shares, mixed = look
    steps, width = dy.shape[1], dy.dtype.type(dy.shape[-1])
    n = keys[:, -steps:]
    dmixed, doutput, _ = affine_backward(dy / np.sqrt(width), mixed, w["output"])
    dshares = dmixed @ keys.transpose(0, 2, 1)  # [B, T, N + T]
    dscores = shares * (dshares - (dshares * shares).sum(axis=-1, keepdims=True)) / width
    dkeys = shares.transpose(0, 2, 1) @ dmixed + dscores.transpose(0, 2, 1) @ queries  # [B, N + T, H]
    dkeys[:, steps:] += dstate[0]
    dn, dquery, _ = affine_backward(dscores @ keys, n, w["query"])
    dx, dgamma, dbeta = norm_backward(dn + dkeys[:, -steps:], normed, w["gamma"])
    gradients = {"gamma": dgamma, "beta": dbeta, "query": dquery, "output": doutput}
    return dy + dx, (dkeys[:, :-steps], np.zeros_like(dstate[1])), gradients

"""Attention over past outputs of the recurrent layers, in plain NumPy: equations, forward and backward.

A recurrent network must keep in its state whatever it may need later. A single attention head, as in the SHA-RNN
(Merity 2019, arXiv:1911.11423), lets it look up past outputs instead. At each step the output x_t of the layers makes a
query, which is compared with the outputs of the last N steps and with x_t itself:

    n_t = norm(x_t) * gamma + beta       keys and values: normalized outputs
    q_t = n_t @ Q                        query, with `query` [H, H]
    s_ti = q_t . n_i / H                 score of output i, for i from t-N to t, as far as the text goes back
    p_ti = exp(s_ti) / sum over i        attention weights, which sum to 1
    m_t = sum over i of p_ti * n_i       weighted mean
    y_t = x_t + m_t @ O / sqrt(H)        residual connection, with `output` [H, H]

O is 0 at first, so that the network starts as one without attention. Attention is causal: no output after t is used.
The divisors keep the first updates small for every width: the values of n are about 1, those of x much smaller, and an
optimizer such as Adam moves all weights of a column together (Yang et al. 2022, arXiv:2203.03466, use 1 / H for the
same reason).

The state is a pair: the last N of n, [B, N, H], oldest first, and their number, [B, 1]; unused places are zeros and are
masked. Like the state of the recurrent layers it is carried from window to window, also across documents, and its size
does not depend on the length of the text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from textgen.model.reference.cells import Array, CellGradients, CellState, CellWeights, affine_backward
from textgen.model.reference.norm import NormRecord, norm_backward, norm_forward


class AttentionRecord(NamedTuple):
    """What the backward pass of attention needs.

    Attributes:
        normed: Record of the normalization.
        keys: The memory, then n of each step, [B, N + T, H].
        queries: q of each step, [B, T, H].
        shares: Attention weights p, [B, T, N + T].
        mixed: m of each step, [B, T, H].
    """

    normed: NormRecord
    keys: Array
    queries: Array
    shares: Array
    mixed: Array


def attention_state(batch_size: int, window: int, hidden_units: int, dtype: np.dtype) -> CellState:
    """Returns the state of streams that have read nothing: zeros.

    Args:
        batch_size: Number of streams (B).
        window: Outputs that a step looks back on (N).
        hidden_units: Width of an output (H).
        dtype: Type of the numbers.
    """
    return np.zeros((batch_size, window, hidden_units), dtype), np.zeros((batch_size, 1), dtype)


def attention_forward(x: Array, state: CellState, w: CellWeights) -> tuple[Array, CellState, AttentionRecord]:
    """Reads a window.

    Args:
        x: Outputs of the recurrent layers, [B, T, H].
        state: State before the window.
        w: Weights gamma, beta, query and output.

    Returns:
        y [B, T, H], the state after the window, and what the backward pass needs.
    """
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
    return x + mixed @ w["output"] / np.sqrt(width), after, AttentionRecord(normed, keys, queries, shares, mixed)


def attention_backward(
    dy: Array, dstate: CellState, record: AttentionRecord, w: CellWeights
) -> tuple[Array, CellState, CellGradients]:
    """The backward pass: the lines of `attention_forward` from the last to the first.

    Args:
        dy: Gradient of y, [B, T, H].
        dstate: Gradient of the state after the window.
        record: Record of `attention_forward`.
        w: Weights.

    Returns:
        The gradients of x, of the state before the window (0 for the number of outputs), and of the weights.
    """
    normed, keys, queries, shares, mixed = record
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

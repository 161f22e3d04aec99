"""Logits to the next piece: pure functions on arrays [B, V].

Each function takes the array module `xp` it computes with: NumPy, or `keras.ops` inside a compiled graph,
whose functions have the same names. So what a piece is drawn from is defined once. Settings are arrays
[B, 1]: every row of a batch may have its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgen.config import SamplingConfig

Array = Any  # of NumPy or of TensorFlow

FREE = -1  # marks a step whose piece is drawn, not given by a prompt
ORDER = ("top_k", "top_p", "min_p", "temperature")  # truncation looks at the model's own probabilities
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}  # what leaves the logits as they are
BLOCK = 64  # probabilities that are added up at once when a piece is drawn


def top_k(logits: Array, k: Array, xp: Any) -> Array:
    """Leaves the k likeliest pieces (and any as likely as the last of them); 0 leaves all."""
    size = logits.shape[-1]
    ascending = xp.sort(logits, axis=-1)
    threshold = xp.take_along_axis(ascending, xp.where(k > 0, xp.maximum(size - k, 0), 0), axis=-1)  # [B, 1]
    return _keep(logits, logits >= threshold, xp)


def top_p(logits: Array, p: Array, xp: Any) -> Array:
    """Leaves the fewest pieces, likeliest first, that hold at least probability p (Holtzman et al. 2020).

    arXiv:1904.09751. The likeliest piece always stays.
    """
    descending = xp.flip(xp.sort(logits, axis=-1), axis=-1)
    probabilities = _softmax(descending, xp)
    before = xp.cumsum(probabilities, axis=-1) - probabilities  # what likelier pieces hold
    last = xp.sum(_cast(before < p, "int32", xp), axis=-1, keepdims=True) - 1
    threshold = xp.take_along_axis(descending, xp.maximum(last, 0), axis=-1)  # [B, 1]
    return _keep(logits, (logits >= threshold) | (p >= 1.0), xp)


def min_p(logits: Array, p: Array, xp: Any) -> Array:
    """Leaves pieces at least p times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    floor = xp.where(p > 0.0, xp.max(logits, axis=-1, keepdims=True) + xp.log(xp.maximum(p, 1e-38)), -np.inf)  # [B, 1]
    return _keep(logits, logits >= floor, xp)


def temperature(logits: Array, t: Array, xp: Any) -> Array:
    """Divides the logits by t: below 1 sharpens, above 1 flattens, 0 leaves the likeliest piece alone."""
    if xp is np and (t > 1e-6).all():
        return logits / t  # the same, at a fraction of the cost
    likeliest = xp.arange(logits.shape[-1])[None, :] == xp.argmax(logits, axis=-1)[:, None]  # [B, V]
    return xp.where(t > 0.0, logits / xp.maximum(t, 1e-6), _keep(xp.zeros_like(logits), likeliest, xp))


TRANSFORMS = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "temperature": temperature}


def transform(logits: Array, settings: Mapping[str, Array], xp: Any) -> Array:
    """Applies those of the transforms that `settings` names, in `ORDER`."""
    for name in ORDER:
        if name in settings:
            logits = TRANSFORMS[name](logits, settings[name], xp)
    return logits


def draw(logits: Array, uniforms: Array, xp: Any) -> Array:
    """Draws a piece a row from softmax(logits [B, V]) with uniforms [B] in [0, 1): ids int32 [B].

    By inversion: the piece in whose stretch of the cumulative probability the uniform number falls. The stretch
    is looked for among blocks of pieces first, and then inside one block: most pieces are added up only once.
    Sums are float64, since 64,000 small float32 numbers do not add up to 1.
    """
    size = logits.shape[-1]
    weights = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))  # [B, V]
    weights = xp.pad(weights, ((0, 0), (0, -size % BLOCK)))
    blocks = xp.reshape(weights, (-1, (size + BLOCK - 1) // BLOCK, BLOCK))
    cumulative = xp.cumsum(_cast(xp.sum(blocks, axis=-1), "float64", xp), axis=-1)  # [B, V / BLOCK]
    threshold = _cast(uniforms, "float64", xp)[:, None] * cumulative[:, -1:] * (1 - 1e-12)  # [B, 1]
    block = xp.sum(_cast(cumulative <= threshold, "int32", xp), axis=-1, keepdims=True)  # [B, 1]
    before = xp.where(block > 0, xp.take_along_axis(cumulative, xp.maximum(block - 1, 0), axis=-1), 0.0)
    row = xp.arange(xp.shape(logits)[0], dtype="int32") * cumulative.shape[-1]
    inside = xp.take(xp.reshape(blocks, (-1, BLOCK)), row + block[:, 0], axis=0)  # [B, BLOCK]
    cumulative = before + xp.cumsum(_cast(inside, "float64", xp), axis=-1)
    within = xp.sum(_cast(cumulative <= threshold, "int32", xp), axis=-1, keepdims=True)
    possible = xp.where(inside > 0, xp.arange(BLOCK, dtype="int32"), 0)
    last = xp.max(possible, axis=-1, keepdims=True)  # where rounding went beyond it
    return _cast((block * BLOCK + xp.minimum(within, last))[:, 0], "int32", xp)


def settings_of(configs: Sequence[SamplingConfig]) -> dict[str, np.ndarray]:
    """Settings [B, 1] of the transforms that at least one row uses."""
    settings = {}
    for name, off in OFF.items():
        values = [getattr(config, name) for config in configs]
        if any(value != off for value in values):
            settings[name] = np.array(values, np.int32 if name == "top_k" else np.float32)[:, None]
    return settings


def row_generator(seed: int) -> np.random.Generator:
    """Where one row's uniforms come from: a function of its seed alone, whatever else is in the batch."""
    return np.random.Generator(np.random.Philox(seed))


def _softmax(logits: Array, xp: Any) -> Array:
    exponentials = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)


def _keep(logits: Array, kept: Array, xp: Any) -> Array:
    return xp.where(kept, logits, -np.inf)


def _cast(array: Array, dtype: str, xp: Any) -> Array:
    return array.astype(dtype) if xp is np else xp.cast(array, dtype)

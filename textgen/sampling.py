"""Logits to the next piece: pure functions on arrays [B, V], and the sampler that applies them.

Settings are arrays [B, 1]: every row of a batch may have its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textgen.config import SamplingConfig

ORDER = ("top_k", "top_p", "min_p", "temperature")  # truncation looks at the model's own probabilities
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}  # what leaves the logits as they are
BLOCK = 64  # probabilities that are added up at once when a piece is drawn


def top_k(logits: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Leaves the k likeliest pieces (and any as likely as the last of them); 0 leaves all."""
    size = logits.shape[-1]
    ascending = np.sort(logits, axis=-1)
    threshold = np.take_along_axis(ascending, np.where(k > 0, np.maximum(size - k, 0), 0), axis=-1)  # [B, 1]
    return _keep(logits, logits >= threshold)


def top_p(logits: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Leaves the fewest pieces, likeliest first, that hold at least probability p (Holtzman et al. 2020).

    arXiv:1904.09751. The likeliest piece always stays.
    """
    descending = np.flip(np.sort(logits, axis=-1), axis=-1)
    probabilities = _softmax(descending)
    before = np.cumsum(probabilities, axis=-1) - probabilities  # what likelier pieces hold
    last = np.sum(before < p, axis=-1, keepdims=True) - 1
    threshold = np.take_along_axis(descending, np.maximum(last, 0), axis=-1)  # [B, 1]
    return _keep(logits, (logits >= threshold) | (p >= 1.0))


def min_p(logits: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Leaves pieces at least p times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    floor = np.where(p > 0.0, np.max(logits, axis=-1, keepdims=True) + np.log(np.maximum(p, 1e-38)), -np.inf)  # [B, 1]
    return _keep(logits, logits >= floor)


def temperature(logits: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Divides the logits by t: below 1 sharpens, above 1 flattens, 0 leaves the likeliest piece alone."""
    if (t > 1e-6).all():
        return logits / t  # the same, at a fraction of the cost
    likeliest = np.arange(logits.shape[-1])[None, :] == np.argmax(logits, axis=-1)[:, None]  # [B, V]
    return np.where(t > 0.0, logits / np.maximum(t, 1e-6), _keep(np.zeros_like(logits), likeliest))


TRANSFORMS = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "temperature": temperature}


def transform(logits: np.ndarray, settings: Mapping[str, np.ndarray]) -> np.ndarray:
    """Applies those of the transforms that `settings` names, in `ORDER`."""
    for name in ORDER:
        if name in settings:
            logits = TRANSFORMS[name](logits, settings[name])
    return logits


def draw(logits: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draws a piece a row from softmax(logits [B, V]) with uniforms [B] in [0, 1): ids int32 [B].

    By inversion: the piece in whose stretch of the cumulative probability the uniform number falls. The stretch
    is looked for among blocks of pieces first, and then inside one block: most pieces are added up only once.
    Sums are float64, since 64,000 small float32 numbers do not add up to 1.
    """
    size = logits.shape[-1]
    weights = np.exp(logits - np.max(logits, axis=-1, keepdims=True))  # [B, V]
    weights = np.pad(weights, ((0, 0), (0, -size % BLOCK)))
    blocks = np.reshape(weights, (-1, (size + BLOCK - 1) // BLOCK, BLOCK))
    cumulative = np.cumsum(blocks.sum(axis=-1), axis=-1, dtype=np.float64)  # [B, V / BLOCK]
    threshold = uniforms[:, None] * cumulative[:, -1:] * (1 - 1e-12)  # [B, 1]
    block = np.sum(cumulative <= threshold, axis=-1, keepdims=True)  # [B, 1]
    before = np.where(block > 0, np.take_along_axis(cumulative, np.maximum(block - 1, 0), axis=-1), 0.0)
    inside = np.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # [B, BLOCK]
    cumulative = before + np.cumsum(inside, axis=-1, dtype=np.float64)
    within = np.sum(cumulative <= threshold, axis=-1, keepdims=True)
    last = np.max(np.where(inside > 0, np.arange(BLOCK), 0), axis=-1, keepdims=True)  # where rounding went beyond it
    return (block * BLOCK + np.minimum(within, last))[:, 0].astype(np.int32)


class Sampler:
    """Draws the pieces of B texts, each by its own settings and with its own random numbers."""

    def __init__(self, configs: Sequence[SamplingConfig], banned: np.ndarray) -> None:
        """`banned` [V] is added to the logits: -inf for pieces that are never drawn, 0 for the others."""
        self._banned = banned
        self._settings = settings_of(configs)
        self._generators = [row_generator(config.seed or 0) for config in configs]

    def draw(self, logits: np.ndarray, wanted: Sequence[bool]) -> np.ndarray:
        """logits [B, V] -> ids int32 [B]; a row that is not `wanted` uses up no random number."""
        uniforms = [
            generator.random() if draws else 0.0 for generator, draws in zip(self._generators, wanted, strict=True)
        ]
        return draw(transform(logits + self._banned, self._settings), np.array(uniforms))


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


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exponentials / np.sum(exponentials, axis=-1, keepdims=True)


def _keep(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.where(kept, logits, -np.inf)

"""The part of a stream that is scored where not all of it is: stretches at equal distances in bytes of text.

Two vocabularies cut a text into different tokens, so places that are counted in tokens are different places of the
text. Places that are counted in bytes are the same, so the scores of models with different vocabularies are of the same
text.

Stretches of equal length in bytes differ in tokens. They are rows of one batch, padded to the longest of them, so a
score may take the time of up to about 1.4 times as many tokens. Rows that have ended are not left out: the network
would be compiled again for each smaller number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textgen.dataset.token_stream import TokenStream

STRETCH_BYTES = 1 << 14  # bytes from the beginning of one stretch to that of the next, at least; about 4,096 tokens
MIN_STRETCH_BYTES = 1 << 8  # minimum length of a stretch, if there are several; about 64 tokens
CHUNK = 1 << 18  # tokens that are read at a time


@dataclass(frozen=True)
class Excerpt:
    """Stretches of a stream.

    Attributes:
        stretches: The first token of each, and the one after its last.
        fraction: The bytes of all of them, relative to those of the stream.
    """

    stretches: tuple[tuple[int, int], ...]
    fraction: float


def excerpt(stream: TokenStream, token_bytes: np.ndarray, fraction: float, most: int) -> Excerpt | None:
    """Chooses stretches that hold a part of a stream.

    Args:
        stream: The tokens.
        token_bytes: Bytes of text that each token stands for, [V].
        fraction: Fraction of the bytes of the stream to choose, below 1.
        most: Maximum number of stretches.

    Returns:
        The stretches; None if the tokens stand for no text.
    """
    total = int(stream.counts @ token_bytes)
    if not total:
        return None
    number = max(1, min(most, total // STRETCH_BYTES, int(fraction * total / MIN_STRETCH_BYTES)))
    begins = np.arange(number) * total / number
    wanted = np.stack([begins, begins + fraction * total / number], axis=1).ravel()  # ascending
    places, reached = _places(stream, token_bytes, wanted)
    stretches = tuple((first, end) for first, end in places.reshape(-1, 2).tolist() if first < end)
    return Excerpt(stretches, float(np.diff(reached.reshape(-1, 2)).sum()) / total)


def _places(stream: TokenStream, token_bytes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first tokens that begin at given bytes or after them.

    Args:
        stream: The tokens.
        token_bytes: Bytes of text that each token stands for, [V].
        wanted: Numbers of bytes, ascending.

    Returns:
        The tokens, int64 [number of places], and the bytes before each.
    """
    places, reached = np.full(len(wanted), len(stream)), np.zeros(len(wanted), np.int64)
    found = start = before = 0
    for ids in stream.chunks(CHUNK):
        sizes = token_bytes[ids]
        begins = before + np.cumsum(sizes) - sizes
        here = np.searchsorted(begins, wanted[found:])
        here = here[here < len(begins)]
        places[found : found + len(here)], reached[found : found + len(here)] = start + here, begins[here]
        found, start, before = found + len(here), start + len(ids), int(begins[-1] + sizes[-1])
    reached[found:] = before
    return places, reached

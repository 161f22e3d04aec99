"""Token healing: a prompt that ends inside what would be one piece goes on as if it had been encoded whole.

"The ca" is encoded as "The" and " ca". After " ca" a model hardly ever writes "t", since in its corpus " cat" was
one piece. So the last pieces of the prompt are taken back, and the first piece drawn is one that begins with their
text: " cat", " came", or whatever the model finds likely after "The".

The rule. Let the prompt end in the pieces u_1 ... u_k, of which it is the longest run whose text begins a longer
piece, never beyond the last newline. The prompt may truly end where it does, or be cut inside a piece that covers
u_(j+1) ... u_k and more, for one of the j from 0 to k - 1. The model knows how likely each is:

    whole        p(u_1) ... p(u_k)
    cut after j  p(u_1) ... p(u_j) times the sum of p(x) over the pieces x that begin with u_(j+1) ... u_k and go on

One of them is drawn (the likeliest is taken at temperature 0, and others are sharpened or flattened by it), and then
one of its pieces x by the sampler.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from textgen.tokenizer.tokenizer import Tokenizer


class Prefixes:
    """The pieces that begin with given bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {*tokenizer.never_written, tokenizer.eos_id}
        ids = [] if tokenizer.tokenizer == "word" else [i for i in range(tokenizer.vocab_size) if i not in special]
        self._piece_bytes = tokenizer.piece_bytes
        self._ids = sorted(ids, key=lambda id: self._piece_bytes[id])
        self._sorted = [self._piece_bytes[id] for id in self._ids]
        self._longest = max(map(len, self._sorted), default=0)

    def longer(self, prefix: bytes) -> list[int]:
        """The pieces that begin with `prefix` and go on."""
        start = bisect_left(self._sorted, prefix + b"\0")
        return self._ids[start : bisect_left(self._sorted, prefix + b"\xff" * self._longest)]

    def covers(self, ids: Sequence[int]) -> list[list[int]]:
        """For the last k pieces of a prompt, the pieces that cover them all, all but the first, and so on.

        k is as large as it can be; an empty list means that nothing begins with the end of the prompt.
        """
        covers: list[list[int]] = []
        text = b""
        for id in reversed(ids):
            text = self._piece_bytes[id] + text
            if not self._piece_bytes[id] or len(text) >= self._longest or b"\n" in text:
                break
            covers.append(self.longer(text))
        while covers and not covers[-1]:
            covers.pop()
        return covers[::-1]


def choose_cut(
    log_probs: np.ndarray, ids: Sequence[int], covers: Sequence[Sequence[int]], temperature: float, uniform: float
) -> int:
    """How many of the last pieces `ids` of a prompt to keep: k, all, is to end it where it ends.

    log_probs [k, V]: of the pieces in the places of `ids`; `uniform` in [0, 1) decides.
    """
    kept = np.concatenate([[0.0], np.cumsum([row[id] for row, id in zip(log_probs, ids, strict=True)])])  # [k + 1]
    inside = [
        np.logaddexp.reduce(row[list(cover)]) if cover else -np.inf
        for row, cover in zip(log_probs, covers, strict=True)
    ]
    masses = kept + np.array([*inside, 0.0])  # nats
    if temperature == 0:
        return int(np.argmax(masses))
    weights = np.exp((masses - masses.max()) / temperature)
    return int(np.searchsorted(np.cumsum(weights), uniform * weights.sum(), side="right").clip(0, len(ids)))

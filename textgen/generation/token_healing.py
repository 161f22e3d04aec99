"""Token healing: a prompt that ends inside a token is continued as if that token had been encoded whole.

"The ca" is encoded as "The" and " ca". After " ca" a model hardly ever generates "t", because " cat" was one token in
its training text. So the last tokens of the prompt are taken back, and the first token drawn is one that begins with
their text: " cat", " came", or whichever the model finds likely after "The".

The rule. Let the prompt end in the tokens u_1 ... u_k, the longest run at its end whose text begins a longer token,
never beyond the last newline. Either the prompt ends where it does, or it is cut inside a token that covers u_(j+1) ...
u_k and goes on, for some j from 0 to k - 1. The model assigns to each case the probability

    whole        p(u_1) ... p(u_k)
    cut after j  p(u_1) ... p(u_j) times the sum of p(x) over the tokens x that begin with u_(j+1) ... u_k and go on

Here p is the model's distribution with each `logit_bias` that applies at that place. A case is drawn (at temperature 0,
and where a sampler leaves only the likeliest token, the likeliest is taken; other temperatures sharpen or flatten the
probabilities), and then one of its tokens x by the sampler.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from textgen.generation.sampling.exact_chain import first_above
from textgen.generation.sampling.logit_filters import MIN_TEMPERATURE
from textgen.model.exact_math import exp, log, total
from textgen.tokenizer.tokenizer import Tokenizer


class Prefixes:
    """Finds the tokens that begin with given bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {*tokenizer.never_written, tokenizer.eos_id}
        ids = [] if tokenizer.kind == "word" else [i for i in range(tokenizer.vocab_size) if i not in special]
        self._piece_bytes = tokenizer.piece_bytes
        self._ids = sorted(ids, key=lambda id: self._piece_bytes[id])
        self._sorted = [self._piece_bytes[id] for id in self._ids]
        self._longest = max(map(len, self._sorted), default=0)

    def longer(self, prefix: bytes) -> list[int]:
        """Returns the tokens that begin with `prefix` and go on."""
        start = bisect_left(self._sorted, prefix + b"\0")
        return self._ids[start : bisect_left(self._sorted, prefix + b"\xff" * self._longest)]

    def covers(self, ids: Sequence[int]) -> list[list[int]]:
        """Returns, for the last k tokens of a prompt, the tokens that cover all of them, all but the first, and so on.

        k is as large as possible; the list is empty if no token begins with the end of the prompt.
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
    """Chooses how many of the last tokens of a prompt to keep.

    Args:
        log_probs: Log probabilities at the places of `ids`, each `logit_bias` included, nats [k, V].
        ids: The last k tokens of the prompt.
        covers: The tokens that cover all of them, all but the first, and so on, [k].
        temperature: That of `textgen.generation.sampling.sampler_settings.cut_temperature`; 0 takes the likeliest.
        uniform: A random number in [0, 1).

    Returns:
        A number from 0 to k, which keeps all.
    """
    kept = np.concatenate([[0.0], np.cumsum([row[id] for row, id in zip(log_probs, ids, strict=True)])])  # [k + 1]
    inside = [
        np.logaddexp.reduce(row[list(cover)]) if cover else -np.inf
        for row, cover in zip(log_probs, covers, strict=True)
    ]
    masses = kept + np.array([*inside, 0.0])  # nats
    if temperature == 0:
        return int(np.argmax(masses))
    with np.errstate(over="ignore", under="ignore"):  # at the lowest temperatures all but the likeliest become -inf
        weights = np.exp((masses - masses.max()) / temperature)
    return int(np.searchsorted(np.cumsum(weights), uniform * weights.sum(), side="right").clip(0, len(ids)))


def choose_cut_exactly(
    log_probs: np.ndarray,
    ids: Sequence[int],
    covers: Sequence[Sequence[int]],
    temperature: float,
    uniform: float,
) -> int:
    """Chooses in exact arithmetic how many of the last tokens of a prompt to keep.

    The arguments are those of `choose_cut`, and so is the result.

    The log probability of a case is the sum of those of the tokens that are kept, from the first to the last, plus, if
    the prompt is cut, highest + log(sum of exp(log_p - highest)) over the covering tokens in ascending order. With
    weights exp((it - the highest of the cases) / temperature), the case is that of `first_above`. A case without
    covering tokens has the weight 0.
    """
    kept = np.cumsum([0.0, *(float(row[id]) for row, id in zip(log_probs, ids, strict=True))])  # [k + 1]
    masses = kept.copy()
    for number, (row, cover) in enumerate(zip(log_probs, covers, strict=True)):
        inside = row[sorted(cover)]
        highest = float(np.max(inside, initial=-np.inf))
        masses[number] += highest + log(float(total(exp(inside - highest)))) if len(inside) else -np.inf
    if temperature == 0:
        return int(np.argmax(masses))
    weights = np.zeros(len(masses))
    there = masses > -np.inf
    weights[there] = exp((masses[there] - np.max(masses)) / max(temperature, MIN_TEMPERATURE))
    return first_above(weights, uniform)

"""The cost of spelling words that a word vocabulary does not know.

Such a vocabulary has one token for all unknown words, and a model predicts that token, not the word. So it predicts
less of a text with unknown words than another model does, and the fewer words it knows, the less. To make scores
comparable, each unknown word is charged for its spelling:

    -log p(word) = -sum over its bytes and an end of log p(byte | the two bytes before)

p is a trigram model of bytes, fitted to the words of the vocabulary, each counted once. It is smoothed by interpolation
(Witten & Bell 1991): with c the count of the symbols after a context, and T the number of different ones,

    p(s | context) = (c(context, s) + T(context) p(s | shorter context)) / (c(context) + T(context))

down to 1/256 for each symbol. So every possible word has a probability, and the score is one of the whole text.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache

ORDER = 2  # bytes of context
END = 0x0A  # ends a word; no word contains a newline
SYMBOLS = 256  # all bytes but the newline, and the end
NAT = 1_000_000  # costs are whole millionths of a nat, so that sums do not depend on their order
CACHED = 1 << 16  # maximum number of words whose costs are kept


class Spelling:
    """The byte model of the words in a vocabulary.

    Attributes:
        cost: Returns the cost of a word in millionths of a nat; recent costs are cached.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._counts: dict[bytes, Counter[int]] = defaultdict(Counter)
        for word in words:
            text = bytes([END]) * ORDER + word.encode() + bytes([END])
            for at in range(ORDER, len(text)):
                for length in range(ORDER + 1):
                    self._counts[text[at - length : at]][text[at]] += 1
        self._totals = {context: counts.total() for context, counts in self._counts.items()}
        self.cost = lru_cache(CACHED)(self._cost)

    def probability(self, context: bytes, symbol: int) -> float:
        """Returns the probability of a byte, or of the end of the word, after some bytes.

        Args:
            context: The bytes before it, at most `ORDER`.
            symbol: The byte, or `END`.
        """
        below = self.probability(context[1:], symbol) if context else 1 / SYMBOLS
        if context not in self._totals:
            return below
        counts = self._counts[context]
        return (counts[symbol] + len(counts) * below) / (self._totals[context] + len(counts))

    def _cost(self, word: str) -> int:
        """The cost of a word in millionths of a nat."""
        text = bytes([END]) * ORDER + word.encode() + bytes([END])
        nats = -sum(math.log(self.probability(text[at - ORDER : at], text[at])) for at in range(ORDER, len(text)))
        return round(nats * NAT)

"""Random segmentations of a text, drawn from the random numbers that the caller gives.

SentencePiece can draw them, too, but its generator is salted anew in each process, whatever its seed. Here the same
numbers give the same segmentation in every process, and on every machine unless a number falls between two roundings
of exp or log:

    unigram   p(segmentation)^alpha, normalized, by forward filtering and backward sampling over the lattice of the
              pieces in the text (Kudo 2018, arXiv:1804.10959)
    bpe       merges in order of their rank, each one left out with probability alpha when its turn comes
              (BPE-dropout, Provilkov, Emelianenko & Voita 2020, arXiv:1910.13267)

Pieces, unknown characters and the order of merges are those of SentencePiece, so that alpha 0 for bpe, and a large
alpha for unigram, give the segmentation of `Tokenizer.encode`.

A text is cut wherever no piece can cross: between two characters that are neighbours in no piece, so before most
spaces and punctuation marks. The stretches between the cuts are independent, and what is computed for a short one is
cached, since most of them are frequent words.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from itertools import accumulate, islice
from operator import add
from random import Random

CACHED = 1 << 15  # maximum number of stretches kept; a lattice of eight characters takes about 2 kB
MAX_CACHED_CHARS = 32  # maximum length in characters of a stretch that is kept
UNKNOWN_PENALTY = 10.0  # SentencePiece's: a character without a piece is that much less likely than the rarest piece
PREFIX = -1  # marks the beginning of a piece that is not a piece itself


class Segmenter(ABC):
    """Draws segmentations of texts. Threads may share it."""

    def __init__(self, pieces: Mapping[str, int], first_byte: int) -> None:
        """Prepares the pieces.

        Args:
            pieces: The learned pieces and their ids.
            first_byte: Id of the piece for byte 0, followed by those for the other 255.
        """
        self._pieces, self._first_byte = pieces, first_byte
        self._neighbours = {pair for piece in pieces for pair in map(add, piece, piece[1:])}

    @abstractmethod
    def draw(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a text in a random segmentation.

        Args:
            text: The text, with the signs of the pieces for spaces.
            random: Gives the random numbers. The ids depend on its state and on the text only.
        """

    def _stretches(self, text: str) -> Iterator[str]:
        """Cuts a text where no piece can cross."""
        start, neighbours = 0, self._neighbours
        for at, pair in enumerate(map(add, text, islice(text, 1, None)), 1):
            if pair not in neighbours:
                yield text[start:at]
                start = at
        if text:
            yield text[start:]

    def _bytes(self, character: str) -> list[int]:
        return [self._first_byte + byte for byte in character.encode()]


class UnigramSegmenter(Segmenter):
    """Draws a segmentation with a probability proportional to its own, to the power of alpha."""

    def __init__(self, pieces: Mapping[str, int], scores: Sequence[float], alpha: float, first_byte: int) -> None:
        """Prepares the pieces.

        Args:
            pieces: The learned pieces and their ids.
            scores: Log probability of each id; only those of the learned pieces are used.
            alpha: The exponent of the probabilities: 0 takes all segmentations alike.
            first_byte: Id of the piece for byte 0, followed by those for the other 255.
        """
        super().__init__(pieces, first_byte)
        self._unknown = len(scores)  # stands for a character without a piece
        rarest = min((scores[id] for id in pieces.values()), default=0.0)
        self._weights = [alpha * score for score in [*scores, rarest - UNKNOWN_PENALTY]]
        self._lengths = [1] * (len(scores) + 1)
        # A trie: the beginnings of all pieces, and the ids of those that are pieces.
        self._prefixes: dict[str, int] = {}
        for piece, id in pieces.items():
            self._lengths[id] = len(piece)
            for end in range(1, len(piece)):
                self._prefixes.setdefault(piece[:end], PREFIX)
            self._prefixes[piece] = id
        self._cached_lattice = lru_cache(CACHED)(self._lattice)

    def draw(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a text in a random segmentation; see `Segmenter.draw`."""
        ids: list[int] = []
        for stretch in self._stretches(text):
            ids += self._draw(stretch, random)
        return ids

    def _draw(self, stretch: str, random: Random) -> list[int]:
        """Samples backward: the last piece first, then the one before it."""
        ends, thresholds = (self._cached_lattice if len(stretch) <= MAX_CACHED_CHARS else self._lattice)(stretch)
        ids, end = list[int](), len(stretch)
        while end:
            limits = thresholds[end]
            id = ends[end][bisect_right(limits, random.random()) if limits else 0]
            if id == self._unknown:
                ids += reversed(self._bytes(stretch[end - 1]))
            else:
                ids.append(id)
            end -= self._lengths[id]
        ids.reverse()
        return ids

    def _lattice(self, stretch: str) -> tuple[list[Sequence[int]], list[Sequence[float]]]:
        """Filters forward.

        Returns:
            For each number of characters, the pieces that may end there, and the cumulative probabilities of all but
            the last of them, given that one does.
        """
        ends = self._ends(stretch)
        total, thresholds = [0.0], list[Sequence[float]]([()])  # the log of the sum over all segmentations so far
        for end, ids in enumerate(islice(ends, 1, None), 1):
            logs = [total[end - self._lengths[id]] + self._weights[id] for id in ids]
            greatest = max(logs)
            sums = list(accumulate([math.exp(log - greatest) for log in logs]))
            total.append(greatest + math.log(sums[-1]))
            thresholds.append(tuple([part / sums[-1] for part in sums[:-1]]))
        return [tuple(ids) for ids in ends], thresholds

    def _ends(self, stretch: str) -> list[list[int]]:
        """For each number of characters, the pieces that may end there."""
        ends: list[list[int]] = [[] for _ in range(len(stretch) + 1)]
        for start, character in enumerate(stretch):
            if self._prefixes.get(character, PREFIX) == PREFIX:
                ends[start + 1].append(self._unknown)
            for end in range(start + 1, len(stretch) + 1):
                id = self._prefixes.get(stretch[start:end])
                if id is None:
                    break
                if id != PREFIX:
                    ends[end].append(id)
        return ends


class BpeSegmenter(Segmenter):
    """Merges characters in the order of the ranks, and leaves out each merge with probability alpha."""

    def __init__(self, pieces: Mapping[str, int], scores: Sequence[float], alpha: float, first_byte: int) -> None:
        """Prepares the pieces.

        Args:
            pieces: The learned pieces and their ids.
            scores: The negated rank of each id; only those of the learned pieces are used.
            alpha: The probability of leaving out a merge.
            first_byte: Id of the piece for byte 0, followed by those for the other 255.
        """
        super().__init__(pieces, first_byte)
        self._alpha = alpha
        self._ranks = {piece: -scores[id] for piece, id in pieces.items()}
        self._cached_ids = lru_cache(CACHED)(self._merged)

    def draw(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a text in a random segmentation; see `Segmenter.draw`."""
        ids: list[int] = []
        drops = _Drops(self._alpha, random)
        for stretch in self._stretches(text):
            if len(stretch) > MAX_CACHED_CHARS:
                ids += self._merged(stretch, drops)[0]
                continue
            whole, merges = self._cached_ids(stretch)
            ids += whole if drops.spares(merges) else self._merged(stretch, drops)[0]
        return ids

    def _merged(self, stretch: str, drops: _Drops | None = None) -> tuple[list[int], int]:
        """Merges the characters of a stretch.

        Returns:
            The ids, and the number of merges.
        """
        symbols = list(stretch)  # a merged one stands in the place of its first character; the others are empty
        before, after = list(range(-1, len(symbols) - 1)), list(range(1, len(symbols) + 1))
        agenda: list[tuple[float, int, int, int]] = []  # rank, left, right, length

        def propose(left: int, right: int) -> None:
            if left >= 0 and right < len(symbols):
                pair = symbols[left] + symbols[right]
                if (rank := self._ranks.get(pair)) is not None:
                    heappush(agenda, (rank, left, right, len(pair)))

        for right in range(1, len(symbols)):
            propose(right - 1, right)
        merges = 0
        while agenda:
            _, left, right, length = heappop(agenda)
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != length:
                continue  # one of them has been merged with another neighbour
            if drops and drops.next():
                continue
            merges += 1
            symbols[left], symbols[right] = symbols[left] + symbols[right], ""
            after[left] = after[right]
            if after[left] < len(symbols):
                before[after[left]] = left
            propose(before[left], left)
            propose(left, after[left])
        return [id for symbol in symbols if symbol for id in self._ids(symbol)], merges

    def _ids(self, symbol: str) -> list[int]:
        id = self._pieces.get(symbol)
        return self._bytes(symbol) if id is None else [id]


class _Drops:
    """Says which merges are left out: each with the same probability, by drawing how many are made before the next."""

    def __init__(self, probability: float, random: Random) -> None:
        self._random = random
        self._log = math.log1p(-probability) if probability < 1 else -math.inf
        self._made = self._gap()

    def spares(self, merges: int) -> bool:
        """Takes so many merges if none of the next ones is left out, or else none. Returns whether it took them."""
        if self._made < merges:
            return False
        self._made -= merges
        return True

    def next(self) -> bool:
        """Takes a merge and returns whether it is left out."""
        if self._made:
            self._made -= 1
            return False
        self._made = self._gap()
        return True

    def _gap(self) -> float:
        """A number of merges before the next that is left out, of geometric distribution."""
        if not self._log:
            return math.inf
        return math.floor(math.log(1.0 - self._random.random()) / self._log)

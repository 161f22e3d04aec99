"""Finds token sequences of a text in the training text of a model, without the text itself.

A model has an index of the n-grams of its training text: all sequences of k tokens inside a document, where k tokens
are about `NGRAM_BYTES` of text. The index is a Bloom filter (Bloom 1970) of about 2 bytes per n-gram. No text can be
read from it. It never misses an n-gram of the corpus, and rarely reports one that is not there
(`false_positive_rate`). So all results err on one side:

    copied fraction  at least the true fraction, and at most the false positive rate above it
    longest copy     the longest run of tokens in which every k consecutive ones occur in the corpus. A verbatim copy of
                     k tokens or more is never longer than that. The true copy may be shorter: two passages of the
                     corpus that share k - 1 tokens can be joined. Copies below k tokens are not found.

N-grams do not cross documents, and none contains an unknown word: all unknown words have the same id, so that one would
look like a copy of any other. Held-out text is not in the index. A fine-tuned model's index includes that of its base
model, unless that has another vocabulary or no index.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textgen.dataset.bloom_filter import BloomFilter, damaged, distinct, extended, read_filters, write_filters

if TYPE_CHECKING:
    from textgen.dataset.token_stream import TokenStream
    from textgen.tokenizer.tokenizer import Tokenizer

NGRAM_BYTES = 24  # average bytes of text in an n-gram: four or five English words, eight Chinese characters
MIN_NGRAM = 6  # minimum length of an n-gram in tokens; shorter ones occur in many texts
MAX_NGRAMS = 50_000_000  # maximum length of an indexed text in tokens; a larger index takes minutes and is imprecise
# (a filter is full with 33 million n-grams; with 50 million its rate is 0.6 %)
MAX_NGRAM = 1 << 10  # maximum length of an n-gram in tokens; `NGRAM_BYTES` are at most a few dozen
CHUNK = 1 << 17  # tokens hashed at a time, in 15 MB of memory

ABOUT = "textgen.ngrams"  # key of the metadata in the file


@dataclass(frozen=True)
class Novelty:
    """How much of a text occurs in the training text.

    Attributes:
        ngram: Tokens of an n-gram (k).
        ngrams: N-grams of the text; 0 if it is too short, or every run of k tokens has an unknown word.
        copied_fraction: Fraction of them that occur in the corpus; None if there are none.
        longest_copy: Tokens of the longest copy; 0 if there is none.
        longest_copy_text: The longest copy as text, without characters of which only some bytes are copied.
        longest_copy_characters: The characters of this text.
        false_positive_rate: Probability that an n-gram that is not in the corpus is reported.
    """

    ngram: int
    ngrams: int
    copied_fraction: float | None
    longest_copy: int
    longest_copy_text: str
    longest_copy_characters: int
    false_positive_rate: float


class NgramIndex:
    """The n-grams of a training text, and of the training texts of the base models.

    Attributes:
        ngram: Tokens of an n-gram (k).
    """

    def __init__(self, ngram: int, filters: Sequence[BloomFilter]) -> None:
        self.ngram = ngram
        self._filters = list(filters)

    @classmethod
    def build(cls, chunks: Iterable[np.ndarray], ngram: int, num_ngrams: int, eos_id: int) -> NgramIndex:
        """Builds the index of a stream of token ids.

        Args:
            chunks: Consecutive ids, int32.
            ngram: Tokens of an n-gram (k).
            num_ngrams: Number of n-grams, at most, for the size of the filter.
            eos_id: Id of the end-of-document token.

        Returns:
            The index.
        """
        bloom = BloomFilter.for_size(num_ngrams)
        before = np.zeros(0, np.int32)
        for chunk in chunks:
            ids = np.concatenate([before, chunk])
            bloom.add(_hashes(ids, ngram)[_inside(ids, ngram, eos_id)])
            before = ids[max(0, len(ids) - ngram + 1) :]
        return cls(ngram, [bloom])

    @property
    def false_positive_rate(self) -> float:
        """Probability that an n-gram that is not in the corpus is reported."""
        return 1 - math.prod(1 - bloom.false_positive_rate for bloom in self._filters)

    @property
    def num_bytes(self) -> int:
        """The memory that it takes."""
        return sum(bloom.bits.nbytes for bloom in self._filters)

    @property
    def own(self) -> NgramIndex:
        """The n-grams of the training text alone, without those of base models."""
        return NgramIndex(self.ngram, self._filters[-1:])

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Which n-grams of ids [N] occur in the corpus: bool [max(0, N - k + 1)]."""
        found = np.zeros(max(0, len(ids) - self.ngram + 1), bool)
        for start in range(0, len(found), CHUNK):
            part = ids[start : start + CHUNK + self.ngram - 1]
            found[start : start + CHUNK] = self._contains(_hashes(part, self.ngram))
        return found

    def copies(self, ids: np.ndarray, tokenizer: Tokenizer) -> list[tuple[int, int]]:
        """Where runs of tokens of ids [N] begin and end that are in n-grams which occur in the corpus."""
        ids = _cut_at_unknown(ids, tokenizer)
        starts = np.flatnonzero(self.contains(ids) & _inside(ids, self.ngram, tokenizer.eos_id))
        edges = np.zeros(len(ids) + 1, np.int32)
        edges[starts] += 1
        edges[starts + self.ngram] -= 1
        begins, lengths = _runs(np.cumsum(edges[:-1]) > 0)
        return [(int(start), int(start + length)) for start, length in zip(begins, lengths, strict=True)]

    def completions(self, context: Sequence[int], vocab_size: int) -> np.ndarray:
        """The tokens that complete `context`, k - 1 ids, to an n-gram of the corpus: ids, ascending."""
        before = _hashes(np.array(context), self.ngram - 1)  # [1]
        return np.flatnonzero(self._contains(extended(before, np.arange(vocab_size))))

    def novelty(self, text: str, tokenizer: Tokenizer) -> Novelty:
        """How much of a text occurs in the corpus. Raises `TokenizerError` if it is not valid text."""
        return self.novelty_of_ids(np.array(tokenizer.encode(text), np.int32), tokenizer)

    def novelty_of_ids(self, ids: np.ndarray, tokenizer: Tokenizer) -> Novelty:
        """Like `novelty`, for token ids [N] of one or several documents. Labels are ignored."""
        ids = _cut_at_unknown(ids[ids < tokenizer.first_label], tokenizer)
        inside = _inside(ids, self.ngram, tokenizer.eos_id)
        copied = self.contains(ids) & inside
        start, length = _longest_run(copied)
        ngrams = int(inside.sum())
        longest = ids[start : start + length + self.ngram - 1] if length else ids[:0]
        text = tokenizer.decode(_whole_characters(longest.tolist(), tokenizer))
        return Novelty(
            ngram=self.ngram,
            ngrams=ngrams,
            copied_fraction=int(copied.sum()) / ngrams if ngrams else None,
            longest_copy=len(longest),
            longest_copy_text=text,
            longest_copy_characters=len(text),
            false_positive_rate=self.false_positive_rate,
        )

    def with_base(self, base: NgramIndex) -> NgramIndex:
        """An index of the n-grams of this one and of `base`, which must be of the same length."""
        return NgramIndex(self.ngram, [*base._filters, *self._filters])

    def with_other(self, other: NgramIndex) -> NgramIndex:
        """An index of the n-grams of this one and of `other`, of the same length; those of a common base come once."""
        return NgramIndex(self.ngram, distinct([*self._filters, *other._filters]))

    def to_bytes(self) -> bytes:
        """The contents of a file for `read_index`."""
        return write_filters(self._filters, ABOUT, ngram=self.ngram)

    def _contains(self, hashes: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce([bloom.contains(hashes) for bloom in self._filters])


def read_index(path: Path) -> NgramIndex:
    """Reads an index from a file. Raises `SavedModelError` if it is damaged."""
    filters, about = read_filters(path, ABOUT, "n-grams")
    ngram = about.get("ngram")
    if type(ngram) is not int or not 2 <= ngram <= MAX_NGRAM:
        raise damaged(path, f"ngram must be a whole number from 2 to {MAX_NGRAM}, but it is {ngram!r:.50}")
    return NgramIndex(ngram, filters)


def index_stream(stream: TokenStream, tokenizer: Tokenizer, base: NgramIndex | None = None) -> NgramIndex:
    """Builds the index of an encoded corpus.

    Args:
        stream: Token ids.
        tokenizer: Their vocabulary.
        base: Index of the base model, to include.

    Returns:
        The index.
    """
    if base:
        ngram = base.ngram
    else:
        bytes_per_token = stream.summary.bytes / max(len(stream), 1)
        ngram = max(MIN_NGRAM, round(NGRAM_BYTES / max(bytes_per_token, 1.0)))
    chunks = stream.chunks(CHUNK)
    if stream.first_label is not None:
        chunks = (ids[ids < stream.first_label] for ids in chunks)
    chunks = (_cut_at_unknown(ids, tokenizer) for ids in chunks)
    index = NgramIndex.build(chunks, ngram, len(stream), tokenizer.eos_id)
    return index.with_base(base) if base else index


def _cut_at_unknown(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """The ids [N] with the end of a document in place of each unknown word.

    An index made by an older version contains n-grams with unknown words. They are never looked for.
    """
    return np.where(ids == tokenizer.unk_id, tokenizer.eos_id, ids)


def _whole_characters(ids: Sequence[int], tokenizer: Tokenizer) -> Sequence[int]:
    """The ids without the bytes of a character that began before them, or ends after them."""
    begin = 0
    while begin < min(3, len(ids)) and b"\x80" <= tokenizer.piece_bytes[ids[begin]][:1] < b"\xc0":
        begin += 1
    return ids[begin : len(ids) - len(tokenizer.unfinished(ids))]


def _hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """A hash of each sequence of `length` ids: uint64 [max(0, N - length + 1)]."""
    ids = ids.astype(np.uint64)
    hashes = np.zeros(max(0, len(ids) - length + 1), np.uint64)
    for offset in range(length if len(hashes) else 0):
        hashes = extended(hashes, ids[offset : offset + len(hashes)])
    return hashes


def _inside(ids: np.ndarray, length: int, eos_id: int) -> np.ndarray:
    """Which sequences of `length` ids contain no end of a document: bool [max(0, N - length + 1)]."""
    ends = np.concatenate([[0], np.cumsum(ids == eos_id)])
    return ends[length:] == ends[: max(0, len(ends) - length)]


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest run of true; the first of several."""
    starts, lengths = _runs(flags)
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(lengths))
    return int(starts[longest]), int(lengths[longest])


def _runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the runs of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return edges[::2], edges[1::2] - edges[::2]

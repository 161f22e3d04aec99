"""Which words a training text has, and how they begin, without the text itself.

`textgen.dataset.words` says what a word is.

The filter holds the 200,000 commonest words and each of their beginnings, character by character, in a Bloom filter of
2 bytes for each: it never misses one, and reports 0.05 % of others (`WordFilter.false_positive_rate`). It does not
depend on the vocabulary of tokens. That of a fine-tuned model includes the words of its base model; if that has no
filter, neither has the fine-tuned model.

In some texts most words are new: lists of names, DNA, keys in hexadecimal. A model of such a text should coin words,
so it gets no filter. The fraction of new words is estimated by Good's formula (1953): it is the fraction of the words
in the training text that occur there once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textgen.dataset.bloom_filter import BloomFilter, distinct, extended, read_filters, write_filters
from textgen.dataset.words import MAX_WORD_CHARS, count_words

if TYPE_CHECKING:
    from textgen.dataset.token_stream import TokenStream
    from textgen.tokenizer.tokenizer import Tokenizer

BITS_PER_ENTRY = 16  # gives a false positive rate of 0.05 %; with 10 bits, wrong words still appeared
MAX_WORDS = 200_000  # maximum number of words in the filter of a text, the commonest ones: 1.5 MB
MIN_ENTRIES = 64  # minimum number of entries that a filter has room for, so that a small one is precise too
MAX_COINED = 0.4  # fraction of new words above which a model may coin words
MAX_TOKENS = 50_000_000  # maximum length in tokens of a training text that gets a filter
ABOUT = "textgen.words"  # key of the metadata in the file
CHUNK = 1 << 17  # tokens decoded at a time

END, WIDE = "\ue000", "\ue001"  # after a word: it may end; a character that is not ASCII may follow


class WordFilter:
    """The words of a training text and their beginnings, and those of the training texts of its base models."""

    def __init__(self, filters: Sequence[BloomFilter]) -> None:
        self._filters = list(filters)

    @classmethod
    def build(cls, words: Sequence[str], base: WordFilter | None = None) -> WordFilter:
        """Builds the filter of some words.

        Args:
            words: The words, as `count_words` has them.
            base: Filter of the base model, whose words are included.

        Returns:
            The filter.
        """
        words = [word for word in words if word and len(word) <= MAX_WORD_CHARS]
        entries = np.unique(np.concatenate([_beginnings(words), _wide(words), hashes([word + END for word in words])]))
        if base:
            entries = entries[~base.contains(entries)]
        bloom = BloomFilter.for_size(max(len(entries), MIN_ENTRIES), BITS_PER_ENTRY)
        bloom.add(entries)
        return cls([*(base._filters if base else []), bloom])

    @property
    def false_positive_rate(self) -> float:
        """Probability that a word or beginning that is not in the filter is reported."""
        return 1 - float(np.prod([1 - bloom.false_positive_rate for bloom in self._filters]))

    def contains(self, numbers: np.ndarray) -> np.ndarray:
        """Returns which hashes, uint64 [N], are those of words or beginnings: bool [N]."""
        return np.logical_or.reduce([bloom.contains(numbers) for bloom in self._filters])

    def begins(self, texts: Sequence[str]) -> np.ndarray:
        """Returns which texts begin a word or are one, bool [N]."""
        return self.contains(hashes(texts))

    def knows(self, texts: Sequence[str]) -> np.ndarray:
        """Returns which texts are whole words, bool [N]."""
        return self.contains(hashes([text + END for text in texts]))

    def with_other(self, other: WordFilter) -> WordFilter:
        """Returns the filter of the words of this one and of another; those of a common base are kept once."""
        return WordFilter(distinct([*self._filters, *other._filters]))

    def to_bytes(self) -> bytes:
        """Returns the contents of a file for `read_word_filter`."""
        return write_filters(self._filters, ABOUT)


def read_word_filter(path: Path) -> WordFilter:
    """Reads a filter from a file. Raises `SavedModelError` if it is damaged."""
    return WordFilter(read_filters(path, ABOUT, "words")[0])


def word_filter(counts: Counter[str], base: WordFilter | None = None, max_words: int = MAX_WORDS) -> WordFilter | None:
    """Makes the filter of a text.

    Args:
        counts: How often each word occurs in the text.
        base: Filter of the base model, whose words are included.
        max_words: Number of words of the text, the commonest ones, that the filter holds at most.

    Returns:
        The filter; None if many words of the text are new: see `coined_fraction`.
    """
    if coined_fraction(counts, base) > MAX_COINED:
        return None
    return WordFilter.build([word for word, _ in counts.most_common(max_words)], base)


def coined_fraction(counts: Counter[str], base: WordFilter | None = None) -> float:
    """Estimates which fraction of the words of a similar text would be new; 1 if there are no words.

    Args:
        counts: How often each word occurs in the training text.
        base: Filter of the base model, whose words are not new.

    Returns:
        The fraction, from 0 to 1.
    """
    once = [word for word, count in counts.items() if count == 1]
    if base and once:
        once = [word for word, known in zip(once, base.knows(once), strict=True) if not known]
    return len(once) / counts.total() if counts else 1.0


def stream_words(stream: TokenStream, tokenizer: Tokenizer) -> Counter[str]:
    """Counts the words of an encoded corpus."""
    return count_words(_texts(stream, tokenizer))


def _texts(stream: TokenStream, tokenizer: Tokenizer) -> Iterator[str]:
    """The text of an encoded corpus in parts, a newline between documents."""
    newline = tokenizer.encode("\n")
    decoder = tokenizer.decoder()
    for ids in stream.chunks(CHUNK):
        yield decoder.feed(np.where(ids == tokenizer.eos_id, newline[0], ids).tolist())


def hashes(texts: Sequence[str]) -> np.ndarray:
    """Returns a hash of each text, uint64 [N]."""
    found = np.zeros(len(texts), np.uint64)
    for longer in _hashes_by_length(texts):
        found = longer
    return found


def _hashes_by_length(texts: Sequence[str]) -> Iterator[np.ndarray]:
    """Hashes of the first 1, 2 ... characters of each text, uint64 [N] each; of shorter texts those of the whole."""
    if not texts:
        return
    now = np.zeros(len(texts), np.uint64)
    codes = np.array(texts, np.str_).view(np.uint32).reshape(len(texts), -1)  # [N, longest], 0 after the end
    for column in codes.T:
        now = np.where(column > 0, extended(now, column), now)
        yield now


def _beginnings(words: Sequence[str]) -> np.ndarray:
    """Hashes of all beginnings of words, from one character on, uint64 [M]."""
    return np.unique(np.concatenate(list(_hashes_by_length(words)))) if words else np.zeros(0, np.uint64)


def _wide(words: Sequence[str]) -> np.ndarray:
    """Hashes of the beginnings after which a character that is not ASCII follows, uint64 [M]."""
    wide = {word[:at] + WIDE for word in words if not word.isascii() for at in range(len(word)) if word[at] > "\x7f"}
    return hashes(sorted(wide))

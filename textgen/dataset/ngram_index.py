"""Honesty about copying: which runs of pieces of a text stand in the text that a model was trained on.

With a model goes an index of the n-grams of its training text: all runs of k pieces inside a document, k about
`NGRAM_BYTES` of text. The index is a Bloom filter (Bloom 1970), some 2 bytes an n-gram, from which no text can
be read. It never misses an n-gram that is there, and seldom takes another for one: `false_positive_rate` says how
seldom. So what is said of a text errs on one side only:

    share of n-grams   at least the true one, and more by the false positive rate at most
    longest copy       the longest run of pieces of which every k in a row stand in the corpus. A verbatim run of
                       k pieces or more is never longer. It may be shorter: two passages of the corpus that share
                       k - 1 pieces can be joined there. Runs of fewer than k pieces are not seen at all.

Pieces are those into which the tokenizer cuts the text. Documents do not run into one another, and the held-out
text, from which the model learns nothing, is not in the index. A fine-tuned model's index has the text of the model
that it began with too, unless that has another vocabulary or no index.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from textgen.errors import SavedModelError

if TYPE_CHECKING:
    from textgen.dataset.token_stream import TokenStream
    from textgen.tokenizer.tokenizer import Tokenizer

NGRAM_BYTES = 24  # of text in an n-gram, on average: four or five English words, eight Chinese characters
SHORTEST_NGRAM = 6  # pieces; fewer words in a row are nobody's
BITS_PER_NGRAM = 16  # for a false positive rate of 0.05 %
MAX_NGRAMS = 50_000_000  # of a training text; the index of a larger one would take minutes and know little
MAX_BYTES = 1 << 26  # of a filter; the rate rises from 33 million n-grams on: 50 million, 0.6 %
MAX_NGRAM = 1 << 10  # pieces: `NGRAM_BYTES` are never more than some dozens
MAX_FILTERS = 1 << 8  # of a model that was fine-tuned again and again
CHUNK = 1 << 17  # pieces hashed at a time, in 15 MB of memory

ABOUT = "textgen.ngrams"  # the metadata of the file
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits without a pattern: 2 ** 64 / golden ratio


@dataclass(frozen=True)
class Novelty:
    """How much of a text stands in the training text; the names are those of `--json`."""

    ngram: int  # k, pieces
    ngrams: int  # of the text; 0 where it is too short to tell
    copied_share: float | None  # of its n-grams; None where there is none
    longest_copy: int  # pieces; 0 where no n-gram stands in the corpus
    longest_copy_text: str
    longest_copy_characters: int
    false_positive_rate: float


class BloomFilter:
    """A set of 64-bit numbers that is sure of what is not in it."""

    def __init__(self, bits: np.ndarray, num_hashes: int) -> None:
        """`bits` uint8 [M / 8]: those that each number set, `num_hashes` of them."""
        self.bits = bits
        self.num_hashes = num_hashes

    @classmethod
    def for_size(cls, size: int) -> BloomFilter:
        """An empty one for so many numbers."""
        num_bytes = min(max(1, size * BITS_PER_NGRAM // 8), MAX_BYTES)
        num_hashes = max(1, round(8 * num_bytes / max(size, 1) * math.log(2)))  # makes half of the bits 1
        return cls(np.zeros(num_bytes, np.uint8), min(num_hashes, BITS_PER_NGRAM))

    @property
    def false_positive_rate(self) -> float:
        """How probably a number that is not in the set seems to be."""
        return float((np.bitwise_count(self.bits).sum() / (8 * self.bits.size)) ** self.num_hashes)

    def add(self, numbers: np.ndarray) -> None:
        """Adds uint64 [N]."""
        one, two = _two_hashes(numbers)
        for number in range(self.num_hashes):
            position = self._position(one, two, number)
            np.bitwise_or.at(self.bits, position >> np.uint64(3), _bit(position))

    def contains(self, numbers: np.ndarray) -> np.ndarray:
        """uint64 [N] -> bool [N]."""
        present = np.zeros(len(numbers), bool)
        left = np.arange(len(numbers))  # those of which no bit was missing so far
        one, two = _two_hashes(numbers)
        for number in range(self.num_hashes):
            position = self._position(one, two, number)
            set_ = self.bits[position >> np.uint64(3)] & _bit(position) != 0
            left, one, two = left[set_], one[set_], two[set_]
        present[left] = True
        return present

    def _position(self, one: np.ndarray, two: np.ndarray, number: int) -> np.ndarray:
        """The bits [N] that a hash function names; all are made of two (Kirsch & Mitzenmacher 2006)."""
        return (one + np.uint64(number) * two) % np.uint64(8 * self.bits.size)


class NgramIndex:
    """The n-grams of a training text, and of those that its model was fine-tuned from."""

    def __init__(self, ngram: int, filters: Sequence[BloomFilter]) -> None:
        self.ngram = ngram  # k
        self._filters = list(filters)

    @classmethod
    def build(cls, chunks: Iterable[np.ndarray], ngram: int, num_ngrams: int, eos_id: int) -> NgramIndex:
        """The index of a stream of ids that comes in chunks, with at most about `num_ngrams` n-grams in it."""
        bloom = BloomFilter.for_size(num_ngrams)
        before = np.zeros(0, np.int32)
        for chunk in chunks:
            ids = np.concatenate([before, chunk])
            bloom.add(_hashes(ids, ngram)[_inside(ids, ngram, eos_id)])
            before = ids[max(0, len(ids) - ngram + 1) :]
        return cls(ngram, [bloom])

    @property
    def false_positive_rate(self) -> float:
        """How probably an n-gram that is not in the corpus seems to be."""
        return 1 - math.prod(1 - bloom.false_positive_rate for bloom in self._filters)

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Which of the n-grams that begin at each of N pieces stand in the corpus: bool [max(0, N - k + 1)]."""
        found = np.zeros(max(0, len(ids) - self.ngram + 1), bool)
        for start in range(0, len(found), CHUNK):
            part = ids[start : start + CHUNK + self.ngram - 1]
            found[start : start + CHUNK] = self._contains(_hashes(part, self.ngram))
        return found

    def completions(self, context: Sequence[int], vocab_size: int) -> np.ndarray:
        """The pieces that make of `context`, k - 1 pieces, an n-gram of the corpus: ids, ascending."""
        before = _hashes(np.array(context), self.ngram - 1)  # [1]
        return np.flatnonzero(self._contains(_extended(before, np.arange(vocab_size))))

    def novelty(self, text: str, tokenizer: Tokenizer) -> Novelty:
        """How much of a text stands in the corpus. Raises `TokenizerError` for what is not valid text."""
        return self.novelty_of_ids(np.array(tokenizer.encode(text), np.int32), tokenizer)

    def novelty_of_ids(self, ids: np.ndarray, tokenizer: Tokenizer) -> Novelty:
        """The same of encoded text [N], which may be several documents; their labels are no part of it."""
        ids = ids[ids < tokenizer.first_label]
        inside = _inside(ids, self.ngram, tokenizer.eos_id)
        copied = self.contains(ids) & inside
        start, length = _longest_run(copied)
        ngrams = int(inside.sum())
        longest = ids[start : start + length + self.ngram - 1] if length else ids[:0]
        text = tokenizer.decode(longest.tolist())
        return Novelty(
            ngram=self.ngram,
            ngrams=ngrams,
            copied_share=int(copied.sum()) / ngrams if ngrams else None,
            longest_copy=len(longest),
            longest_copy_text=text,
            longest_copy_characters=len(text),
            false_positive_rate=self.false_positive_rate,
        )

    def with_base(self, base: NgramIndex) -> NgramIndex:
        """The n-grams of this index and of `base`, which must be as long."""
        return NgramIndex(self.ngram, [*base._filters, *self._filters])

    def to_bytes(self) -> bytes:
        """All of it, as `read_index` reads it from a file."""
        about = {"ngram": self.ngram, "hashes": [bloom.num_hashes for bloom in self._filters]}
        bits = {f"bits_{number}": bloom.bits for number, bloom in enumerate(self._filters)}
        return to_safetensors(bits, {ABOUT: json.dumps(about)})

    def _contains(self, hashes: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce([bloom.contains(hashes) for bloom in self._filters])


def read_index(path: Path) -> NgramIndex:
    """The index in a file. Raises `SavedModelError` where it holds none."""
    try:
        with safe_open(path, framework="numpy") as file:
            ngram, hashes = _about((file.metadata() or {}).get(ABOUT, ""))
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            layout = {key: (part.get_dtype(), len(part.get_shape())) for key, part in slices.items()}
            sizes = [math.prod(part.get_shape()) for part in slices.values()]
            if layout != {f"bits_{number}": ("U8", 1) for number in range(len(hashes))}:
                raise ValueError("it holds no index of n-grams")
            if not all(0 < size <= MAX_BYTES for size in sizes):
                raise ValueError(f"a filter has no bytes, or more than {MAX_BYTES:,}")
            tensors = [file.get_tensor(f"bits_{number}") for number in range(len(hashes))]
        return NgramIndex(ngram, [BloomFilter(bits, number) for bits, number in zip(tensors, hashes, strict=True)])
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise SavedModelError(f"{path} is damaged: {error}. Copy the whole folder again.") from None


def index_stream(stream: TokenStream, eos_id: int, base: NgramIndex | None = None) -> NgramIndex:
    """The index of an encoded corpus, beside that of the model on which the training goes on."""
    if base:
        ngram = base.ngram
    else:
        bytes_per_piece = stream.summary.bytes / max(len(stream), 1)
        ngram = max(SHORTEST_NGRAM, round(NGRAM_BYTES / max(bytes_per_piece, 1.0)))
    chunks = (stream.read(start, min(start + CHUNK, len(stream))) for start in range(0, len(stream), CHUNK))
    if stream.first_label is not None:
        chunks = (ids[ids < stream.first_label] for ids in chunks)
    index = NgramIndex.build(chunks, ngram, len(stream), eos_id)
    return index.with_base(base) if base else index


def _about(text: str) -> tuple[int, list[int]]:
    """k and the number of hashes of each filter, from the metadata of a file. Raises `ValueError`."""
    about = json.loads(text)
    ngram, hashes = (about.get("ngram"), about.get("hashes")) if isinstance(about, dict) else (None, None)
    if type(ngram) is not int or not 2 <= ngram <= MAX_NGRAM:
        raise ValueError(f"ngram must be a whole number from 2 to {MAX_NGRAM}, but it is {ngram!r:.50}")
    if not isinstance(hashes, list) or not 0 < len(hashes) <= MAX_FILTERS or not all(map(_is_hash_count, hashes)):
        raise ValueError(f"hashes must be a list of whole numbers from 1 to {BITS_PER_NGRAM}, but it is {hashes!r:.50}")
    return ngram, hashes


def _is_hash_count(number: object) -> bool:
    return type(number) is int and 1 <= number <= BITS_PER_NGRAM


def _hashes(ids: np.ndarray, length: int) -> np.ndarray:
    """A number for each run of `length` ids: uint64 [max(0, N - length + 1)]."""
    ids = ids.astype(np.uint64)
    hashes = np.zeros(max(0, len(ids) - length + 1), np.uint64)
    for offset in range(length if len(hashes) else 0):
        hashes = _extended(hashes, ids[offset : offset + len(hashes)])
    return hashes


def _two_hashes(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _mixed(numbers), _mixed(numbers ^ MULTIPLIER) | np.uint64(1)


def _extended(hashes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The numbers of runs that are one id longer: polynomials in the multiplier (Karp & Rabin 1987)."""
    return hashes * MULTIPLIER + ids.astype(np.uint64) + np.uint64(1)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers of which each bit depends on each bit of those given: the last step of SplitMix64 (Steele 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _bit(position: np.ndarray) -> np.ndarray:
    """The bit of a byte that a position is."""
    return np.left_shift(np.uint8(1), (position & np.uint64(7)).astype(np.uint8))


def _inside(ids: np.ndarray, length: int, eos_id: int) -> np.ndarray:
    """Which runs of `length` ids hold no end of a document: bool [max(0, N - length + 1)]."""
    ends = np.concatenate([[0], np.cumsum(ids == eos_id)])
    return ends[length:] == ends[: max(0, len(ends) - length)]


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Where the first of the longest runs of true begins, and how long it is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(lengths))
    return int(starts[longest]), int(lengths[longest])

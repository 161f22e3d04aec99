"""Documents -> ids on disk, split into those to train on and those held out.

A corpus is encoded once. Each split (train, valid) becomes a stream of ids, every document closed by the
end-of-document piece, in a file of uint16 or uint32; what a split has of a document is closed, too, where the rest is
in the other split. Where the vocabulary has labels, each document begins with the piece of its own, or with that of
none. Memory does not grow with the corpus: text is encoded as it streams by, and ids are read from the disk where
they are wanted.
"""

from __future__ import annotations

import itertools
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from textgen import storage
from textgen.corpus.labels import MOST_LABELS
from textgen.corpus.source import reading
from textgen.dataset.token_writer import OPENING_TOKENS, SPACING
from textgen.errors import CorpusError, TextgenError
from textgen.storage import MANIFEST, Hold, read_manifest
from textgen.tokenizer.config import MAX_VOCAB_SIZE

MAX_BLOCKS = 1 << 18  # that a long corpus is shuffled in: a few megabytes, however many documents there are
ENDS_READ = 1 << 20  # document ends that are in memory at a time
MAX_OPENINGS = 1 << 16  # in an epoch: in a very long corpus the stretches are longer
OPEN_FILES = 64
SUMMARY = "tokens.json"
MAX_JSON = 1 << 26  # bytes
MOST_PIECES = MAX_VOCAB_SIZE + MOST_LABELS + 1
NAMED = 3  # files of a corpus that the list of the cache shows
MISSING = "missing"
IDS, ENDS, OPENINGS, COUNTS = "", "-documents", "-openings", "-counts"  # what the files of a split end with


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds."""

    tokens: int  # the end of each document included, and its label
    documents: int  # that end here
    ends: int  # end-of-document pieces: those of documents, and of what is here of one that ends in the other split
    characters: int  # of text
    bytes: int  # of text, in UTF-8
    words: int  # runs of non-space, plus one for each of the ends, as word-level benchmarks count
    unknown_words: int = 0  # of these, those that a vocabulary of words lacks
    spelling: int = 0  # what it costs to spell them, in millionths of a nat; see `textgen.tokenizer.spelling`
    lost_bytes: int = 0  # of `bytes`, the white space that no piece stands for

    @classmethod
    def total(cls, summaries: Iterable[SplitSummary]) -> SplitSummary:
        """Of several together."""
        return cls(*map(sum, zip(*(asdict(summary).values() for summary in summaries), strict=True)))


class TokenStream:
    """The ids of one split, on the disk: as long as it allows, at no cost in memory.

    They are in `folder`, or in several `shards` below it, one after the other.
    """

    def __init__(self, folder: Path, split: str, shards: Sequence[str] = ("",)) -> None:
        """Raises `CorpusError` where the files are not those of token streams, or do not agree with one another."""
        self._hold = Hold(folder)
        self.folder, self.split, self.shards = folder, split, shards
        self._folders = [folder / shard for shard in shards]
        descriptions = [_read_description(shard) for shard in self._folders]
        self._summaries = [description.splits[split] for description in descriptions]
        self.dtype, self.eos_id = np.dtype(descriptions[0].dtype), descriptions[0].eos
        self.first_label = descriptions[0].first_label  # ids from here on are labels; None: none are
        self._starts = [0, *itertools.accumulate(summary.tokens for summary in self._summaries)]
        self._file = lru_cache(OPEN_FILES)(_File)
        self.summary = SplitSummary.total(self._summaries)
        counts = [self._read_counts(*each) for each in zip(self._folders, descriptions, strict=True)]
        alike = {
            (len(own), each.dtype, each.eos, each.first_label) for own, each in zip(counts, descriptions, strict=True)
        }
        if len(alike) > 1:
            raise CorpusError(f"The shards in {folder} are of several vocabularies: prepare the corpus again.")
        self.counts = np.sum(counts, axis=0)  # [V] how often each piece is to be predicted: labels never are

    def _read_counts(self, folder: Path, description: _Description) -> np.ndarray:
        """The counts of a shard, int64 [V], once the sizes of its files agree with its summary."""
        summary = description.splits[self.split]
        sizes = {IDS: summary.tokens * np.dtype(description.dtype).itemsize, ENDS: summary.ends * 8}
        for name, size in sizes.items():
            path = folder / f"{self.split}{name}.bin"
            if _size(path) != size:
                raise _damaged(path, f"it has {_size(path):,} bytes and not {size:,}")
        path = folder / f"{self.split}{COUNTS}.bin"
        if _size(path) % 8 or not 0 < _size(path) <= 8 * MOST_PIECES:
            raise _damaged(path, f"it has {_size(path):,} bytes")
        counts = np.fromfile(path, np.int64)
        last = max(description.eos, -1 if description.first_label is None else description.first_label)
        if (counts < 0).any() or counts.sum(dtype=float) > summary.tokens or last >= len(counts):
            raise _damaged(path, "its numbers cannot be counts of pieces")
        return counts

    def __len__(self) -> int:
        return self.summary.tokens

    def of_epoch(self, epoch: int) -> TokenStream:
        """What is read in an epoch: the same each time, but for `textgen.dataset.subword_sampling.SampledStream`."""
        return self

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to before `stop`, int32."""
        parts = []
        while start < stop:
            shard = bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[shard + 1])
            file = self._file(self._folders[shard] / f"{self.split}.bin")
            ids = file.read(self.dtype, start - self._starts[shard], end - start)
            if int(ids.max()) >= len(self.counts):
                raise _damaged(file.path, f"it holds the id {int(ids.max())} of no piece")
            parts.append(ids)
            start = end
        return np.concatenate(parts, dtype=np.int32, casting="unsafe") if parts else np.zeros(0, np.int32)

    def document_ends(self) -> Iterator[np.ndarray]:
        """The position after each end-of-document piece, int64, in arrays of at most `ENDS_READ`."""
        for folder, summary, start in zip(self._folders, self._summaries, self._starts, strict=False):
            file, last = self._file(folder / f"{self.split}{ENDS}.bin"), 0
            for first in range(0, summary.ends, ENDS_READ):
                ends = file.read(np.dtype(np.int64), first, min(ENDS_READ, summary.ends - first))
                if not _rises(ends, last + 1, summary.tokens):
                    raise _damaged(file.path, "its numbers are no places in the text")
                last = ends[-1]
                yield start + ends

    @cached_property
    def borders(self) -> np.ndarray:
        """Where the blocks begin that are shuffled, and where the last ends: int64 [blocks + 1].

        A block is a document, or in a stream of very many tokens several that stand together.
        """
        least = -(-len(self) // MAX_BLOCKS)  # tokens: of the ends in a stretch of so many, the first is a border
        found, last = [np.array(self._starts)], 0
        for ends in self.document_ends():
            stretches = ends // max(1, least)
            found.append(ends[np.diff(stretches, prepend=last) > 0])
            last = stretches[-1]
        return np.unique(np.concatenate(found))

    @cached_property
    def openings(self) -> tuple[np.ndarray, np.ndarray]:
        """Where a text may be opened in each stretch in which no document begins, as (position, label).

        int64 [n, 2], and the first of each stretch among them, [stretches + 1]. A label is an id, or -1 where there
        are none.
        """
        length = max(OPENING_TOKENS, -(-len(self) // MAX_OPENINGS))
        taken = [np.array(self._starts) // length, *(ends // length for ends in self.document_ends())]
        begun = np.unique(np.concatenate(taken))
        spacing = length * SPACING // OPENING_TOKENS
        found = [places[np.diff(places[:, 0] // spacing, prepend=-1) > 0] for places in self._openings()]
        places = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
        places = places[~np.isin(places[:, 0] // length, begun)]
        firsts = np.flatnonzero(np.diff(places[:, 0] // length, prepend=-1))
        return places, np.append(firsts, len(places))

    def _openings(self) -> Iterator[np.ndarray]:
        """All places where a text may be opened, (position, label), int64, in arrays of at most `ENDS_READ`."""
        labels = range(self.first_label or 0, len(self.counts) if self.first_label is not None else 0)
        for folder, summary, start in zip(self._folders, self._summaries, self._starts, strict=False):
            path = folder / f"{self.split}{OPENINGS}.bin"
            size, last = _size(path) // 16, -1
            for first in range(0, size, ENDS_READ):
                numbers = self._file(path).read(np.dtype(np.int64), 2 * first, 2 * min(ENDS_READ, size - first))
                places = numbers.reshape(-1, 2)
                is_sound = (
                    (places[:, 1] >= labels.start) & (places[:, 1] < labels.stop) if labels else places[:, 1] == -1
                )
                if not _rises(places[:, 0], last + 1, summary.tokens - 1) or not is_sound.all():
                    raise _damaged(path, "its numbers are no places in the text")
                last = places[-1, 0]
                yield places + np.array([start, 0])


def _rises(numbers: np.ndarray, least: int, most: int) -> bool:
    """Whether each number is larger than the one before, and all are between the two. Differences could overflow."""
    return bool(numbers[0] >= least and numbers[-1] <= most and (numbers[:-1] < numbers[1:]).all())


class _File:
    """A file of numbers, read at any place; closed when nobody refers to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(str(path)):
            self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, dtype: np.dtype, first: int, count: int) -> np.ndarray:
        data = os.pread(self._descriptor, count * dtype.itemsize, first * dtype.itemsize)
        if len(data) < count * dtype.itemsize:
            raise CorpusError(f"{self.path} is shorter than when it was written: prepare the corpus again.")
        return np.frombuffer(data, dtype)


@dataclass(frozen=True)
class _Description:
    """tokens.json: what a folder of token streams holds."""

    dtype: str  # uint16 or uint32
    eos: int
    first_label: int | None
    splits: Mapping[str, SplitSummary]


def _read_description(folder: Path) -> _Description:
    """What a folder says that it holds. Raises `CorpusError` where it says nothing that can be."""
    path = folder / SUMMARY
    values = read_object(path)
    splits = dict[str, SplitSummary]()
    for split in ("train", "valid"):
        numbers = values.get(split)
        names = [field.name for field in fields(SplitSummary)]
        if (
            not isinstance(numbers, dict)
            or sorted(numbers) != sorted(names)
            or not all(map(_is_count, numbers.values()))
        ):
            raise _damaged(path, f"{split} must hold the counts {', '.join(names)}")
        splits[split] = SplitSummary(**numbers)
    first_label = values.get("first_label")
    if values.get("dtype") not in ("uint16", "uint32"):
        raise _damaged(path, "dtype must be uint16 or uint32")
    if not _is_count(values.get("eos")) or not (first_label is None or _is_count(first_label)):
        raise _damaged(path, "eos and first_label must be ids of pieces")
    return _Description(values["dtype"], values["eos"], first_label, splits)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a small file of ours. Raises `CorpusError` where there is none."""
    if _size(path) > MAX_JSON:
        raise _damaged(path, f"it has {_size(path):,} bytes, {MAX_JSON:,} at most are expected")
    try:
        with reading(str(path)):
            values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(values, dict):
        raise _damaged(path, "it is no object")
    return values


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def _size(path: Path) -> int:
    with reading(str(path)):
        return path.stat().st_size


def _damaged(path: Path, why: str) -> CorpusError:
    return CorpusError(f"{path} is damaged: {why}. Prepare the corpus again.")


def problem_of(folder: Path) -> str:
    """How a folder differs from its manifest, in a few words: nothing if every byte is as it was written."""
    if not (folder / MANIFEST).exists():
        return MISSING
    try:
        for name, entry in read_manifest(folder)["files"].items():
            path = folder / Path(name).name
            size = path.stat().st_size
            if size != entry["size"]:
                return f"{name} has {size:,} bytes instead of {entry['size']:,}"
            if storage.sha256(path) != entry["sha256"]:
                return f"{name} was altered"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, TextgenError) as error:
        return str(error).rstrip(".")
    return ""

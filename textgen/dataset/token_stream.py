"""Reads the token ids of an encoded corpus from disk.

A corpus is encoded once. Each split (train, valid) is a stream of token ids in which every document is closed by the
end-of-document token. If a document is divided between the splits, its part in each split is closed too. If the
vocabulary has labels, each document begins with its label, or with the label for none. Ids are read from disk on
demand, so memory does not grow with the corpus. `textgen.dataset.token_files` describes the files.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path

import numpy as np

from textgen.corpus.formats.decompression import reading
from textgen.corpus.labels import MAX_LABELS
from textgen.dataset import token_files
from textgen.dataset.token_files import (
    COUNTS,
    ENDS,
    IDS,
    OPENINGS,
    Description,
    SplitSummary,
    damaged,
    read_description,
    size_of,
)
from textgen.errors import CorpusError
from textgen.storage.file_reading import OPEN_FLAGS, read_at
from textgen.storage.locks import SharedLock
from textgen.tokenizer.config import MAX_VOCAB_SIZE

MAX_BLOCKS = 1 << 18  # maximum number of blocks that are shuffled, in a few megabytes of memory
ENDS_READ = 1 << 20  # number of document ends in memory at a time
MAX_OPENINGS = 1 << 16  # maximum number of openings in an epoch; a very long corpus has longer stretches
OPEN_FILES = 64
PAGE = 1 << 10  # number of tokens that are read at a time where single ones are gathered
GATHERED = 1 << 15  # number of positions whose pages are in memory at a time
MAX_IDS = MAX_VOCAB_SIZE + MAX_LABELS + 1  # ids of the largest vocabulary


class TokenStream:
    """The token ids of one split, read from disk on demand.

    Attributes:
        folder: Folder of the encoded corpus. While a stream exists, the cache does not remove it.
        split: "train" or "valid".
        shards: Folders below `folder` whose ids follow each other; `("",)` for `folder` itself.
        dtype: Type of the ids on disk.
        eos_id: Id of the end-of-document token.
        first_label: First id that is a label; None if there are no labels.
        summary: Counts of the split.
        counts: How often each token is a target, int64 [V]. Labels never are.
    """

    def __init__(self, folder: Path, split: str, shards: Sequence[str] = ("",)) -> None:
        """Opens the files of a split.

        Args:
            folder: Folder of the encoded corpus.
            split: "train" or "valid".
            shards: Folders below `folder` whose ids follow each other.

        Raises:
            CorpusError: The files are missing or damaged, or the shards have different vocabularies.
        """
        self._folder_lock = SharedLock(folder)
        folders = [folder / shard for shard in shards]
        descriptions = [read_description(shard) for shard in folders]
        # Ids are read later, when the working directory may be another one.
        self.folder, self.split, self.shards = folder.absolute(), split, shards
        self._folders = [each.absolute() for each in folders]
        self._summaries = [description.splits[split] for description in descriptions]
        self.dtype, self.eos_id = np.dtype(descriptions[0].dtype), descriptions[0].eos
        self.first_label = descriptions[0].first_label
        self._starts = [0, *itertools.accumulate(summary.tokens for summary in self._summaries)]
        self._file = lru_cache(OPEN_FILES)(_File)
        self.summary = SplitSummary.total(self._summaries)
        counts = [self._read_counts(*each) for each in zip(folders, descriptions, strict=True)]
        alike = {
            (len(own), each.dtype, each.eos, each.first_label) for own, each in zip(counts, descriptions, strict=True)
        }
        if len(alike) > 1:
            raise CorpusError(f"The shards in {folder} have different vocabularies: prepare the corpus again.")
        self.counts = np.sum(counts, axis=0)  # [V]

    def _read_counts(self, folder: Path, description: Description) -> np.ndarray:
        """The counts of a shard, int64 [V], after checking the sizes of its files against its summary."""
        summary = description.splits[self.split]
        sizes = {IDS: summary.tokens * np.dtype(description.dtype).itemsize, ENDS: summary.ends * 8}
        for name, size in sizes.items():
            path = folder / f"{self.split}{name}.bin"
            if size_of(path) != size:
                raise damaged(path, f"it has {size_of(path):,} bytes and not {size:,}")
        path = folder / f"{self.split}{COUNTS}.bin"
        if size_of(path) % 8 or not 0 < size_of(path) <= 8 * MAX_IDS:
            raise damaged(path, f"it has {size_of(path):,} bytes")
        with reading(str(path)):
            counts = np.frombuffer(path.read_bytes(), np.int64)  # np.fromfile does not tell an error of the disk
        last = max(description.eos, -1 if description.first_label is None else description.first_label)
        if (counts < 0).any() or counts.sum(dtype=float) > summary.tokens or last >= len(counts):
            raise damaged(path, "its numbers cannot be counts of tokens")
        return counts

    def __len__(self) -> int:
        return self.summary.tokens

    def of_epoch(self, epoch: int) -> TokenStream:
        """The stream to read in an epoch: this one, unless a subclass samples the segmentation."""
        return self

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from position `start` up to, not including, `stop`.

        Args:
            start: First position, from 0.
            stop: Position after the last.

        Returns:
            Ids, int32 [stop - start].

        Raises:
            CorpusError: The file is shorter than expected, or holds an id that is not in the vocabulary.
        """
        parts = []
        while start < stop:
            shard = bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[shard + 1])
            ids = self._file_of(shard).read(self.dtype, start - self._starts[shard], end - start)
            self._check(int(ids.max()), shard)
            parts.append(ids)
            start = end
        return np.concatenate(parts, dtype=np.int32, casting="unsafe") if parts else np.zeros(0, np.int32)

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """Reads all ids in order: int32 [size], the last chunk perhaps shorter. Raises like `read`."""
        for start in range(0, len(self), size):
            yield self.read(start, min(start + size, len(self)))

    def excerpts(self, number: int, length: int) -> list[np.ndarray]:
        """Reads excerpts at equal distances: int32 [length] each, those that the end of the stream cuts off shorter.

        Args:
            number: Number of excerpts.
            length: Tokens of each, at most.

        Returns:
            The ids of each excerpt.

        Raises:
            CorpusError: The file is shorter than expected, or holds an id that is not in the vocabulary.
        """
        firsts = [index * len(self) // number for index in range(number)]
        return [self.read(first, min(first + length, len(self))) for first in firsts]

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """The ids at some positions, in any order. Those that are near each other are read from disk at once.

        The files are not mapped into memory, because a file that is cut off while it is read would end the process.

        Args:
            positions: Positions from 0, int64 [n]. Runs of neighbours, in either direction, take the least time.

        Returns:
            Ids, int32 [n].

        Raises:
            CorpusError: A file is shorter than expected, or holds an id that is not in the vocabulary.
        """
        found = [self._gather(positions[at : at + GATHERED]) for at in range(0, len(positions), GATHERED)]
        return np.concatenate(found, dtype=np.int32, casting="unsafe") if found else np.zeros(0, np.int32)

    def _gather(self, positions: np.ndarray) -> np.ndarray:
        starts, shards = np.array(self._starts), self._shards_of(positions)
        pages = positions - (positions - starts[shards]) % PAGE  # where the page of each begins
        changes = np.flatnonzero(np.diff(pages, prepend=-1))
        pages, numbers = np.unique(pages[changes], return_inverse=True)
        stops = np.minimum(pages + PAGE, starts[self._shards_of(pages) + 1])
        ids = self._read_pages(pages, stops)
        shifts = np.cumsum(stops - pages) - stops  # from positions to places in `ids`, for each page
        found = ids[positions + np.repeat(shifts[numbers], np.diff(changes, append=len(positions)))]
        highest = int(found.argmax())
        self._check(int(found[highest]), int(shards[highest]))
        return found

    def _read_pages(self, pages: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """The ids of pages, which begin in ascending order and end at `stops`; neighbours are read at once."""
        shards = self._shards_of(pages)
        borders = np.flatnonzero((pages[1:] != stops[:-1]) | (shards[1:] != shards[:-1])) + 1
        firsts, lasts = np.append(0, borders), np.append(borders, len(pages)) - 1
        runs = np.stack([shards[firsts], pages[firsts], stops[lasts]], axis=1)
        parts = list[np.ndarray]()
        for shard, own in itertools.groupby(runs.tolist(), itemgetter(0)):
            file, first = self._file_of(shard), self._starts[shard]
            parts += [file.read(self.dtype, start - first, stop - start) for _, start, stop in own]
        return np.concatenate(parts)

    def _file_of(self, shard: int) -> _File:
        return self._file(self._folders[shard] / f"{self.split}{IDS}.bin")

    def _check(self, highest: int, shard: int) -> None:
        """Raises `CorpusError` if the highest id that was read from a shard is not in the vocabulary."""
        if highest >= len(self.counts):
            path = self._folders[shard] / f"{self.split}{IDS}.bin"
            raise damaged(path, f"it holds the id {highest}, which no token has")

    def _shards_of(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, positions, side="right") - 1

    def document_ends(self) -> Iterator[np.ndarray]:
        """The position after each end-of-document token, int64, in arrays of at most `ENDS_READ`.

        Raises:
            CorpusError: The positions do not rise, or lie outside the text.
        """
        for folder, summary, start in zip(self._folders, self._summaries, self._starts, strict=False):
            file, last = self._file(folder / f"{self.split}{ENDS}.bin"), 0
            for first in range(0, summary.ends, ENDS_READ):
                ends = file.read(np.dtype(np.int64), first, min(ENDS_READ, summary.ends - first))
                if not _rises(ends, last + 1, summary.tokens):
                    raise damaged(file.path, "its numbers are no places in the text")
                last = ends[-1]
                yield start + ends

    @cached_property
    def borders(self) -> np.ndarray:
        """Where each block that is shuffled begins, and where the last one ends: int64 [blocks + 1].

        A block is a document or, in a stream of very many tokens, several neighbouring documents.
        """
        least = -(-len(self) // MAX_BLOCKS)  # tokens; the first end in a stretch of this length is a border
        found, last = [np.array(self._starts)], 0
        for ends in self.document_ends():
            stretches = ends // max(1, least)
            found.append(ends[np.diff(stretches, prepend=last) > 0])
            last = stretches[-1]
        return np.unique(np.concatenate(found))

    @cached_property
    def openings(self) -> tuple[np.ndarray, np.ndarray]:
        """The places where reading may begin inside long documents, grouped by stretch.

        The stream is divided into stretches of equal length. Only those in which no document begins are listed.

        Returns:
            The places as (position, label id or -1), int64 [n, 2]; and the index of the first place of each stretch,
            followed by n, [stretches + 1].
        """
        opening_tokens = token_files.OPENING_TOKENS
        length = max(opening_tokens, -(-len(self) // MAX_OPENINGS))
        taken = [np.array(self._starts) // length, *(ends // length for ends in self.document_ends())]
        begun = np.unique(np.concatenate(taken))
        spacing = length * token_files.SPACING // opening_tokens
        found = [places[np.diff(places[:, 0] // spacing, prepend=-1) > 0] for places in self._all_openings()]
        places = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
        places = places[~np.isin(places[:, 0] // length, begun)]
        firsts = np.flatnonzero(np.diff(places[:, 0] // length, prepend=-1))
        return places, np.append(firsts, len(places))

    def _all_openings(self) -> Iterator[np.ndarray]:
        """All places where reading may begin, (position, label), int64, in arrays of at most `ENDS_READ`."""
        labels = range(self.first_label or 0, len(self.counts) if self.first_label is not None else 0)
        for folder, summary, start in zip(self._folders, self._summaries, self._starts, strict=False):
            path = folder / f"{self.split}{OPENINGS}.bin"
            size, last = size_of(path) // 16, -1
            for first in range(0, size, ENDS_READ):
                numbers = self._file(path).read(np.dtype(np.int64), 2 * first, 2 * min(ENDS_READ, size - first))
                places = numbers.reshape(-1, 2)
                is_sound = (
                    (places[:, 1] >= labels.start) & (places[:, 1] < labels.stop) if labels else places[:, 1] == -1
                )
                if not _rises(places[:, 0], last + 1, summary.tokens - 1) or not is_sound.all():
                    raise damaged(path, "its numbers are no places in the text")
                last = places[-1, 0]
                yield places + np.array([start, 0])


def _rises(numbers: np.ndarray, least: int, most: int) -> bool:
    """Whether numbers rise strictly from at least `least` to at most `most`. Differences could overflow."""
    return bool(numbers[0] >= least and numbers[-1] <= most and (numbers[:-1] < numbers[1:]).all())


class _File:
    """A file of numbers with random access; closed when nothing refers to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(str(path)):
            self._descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, dtype: np.dtype, first: int, count: int) -> np.ndarray:
        with reading(str(self.path)):
            data = read_at(self._descriptor, count * dtype.itemsize, first * dtype.itemsize)
        if len(data) < count * dtype.itemsize:
            raise CorpusError(f"{self.path} is shorter than when it was written: prepare the corpus again.")
        return np.frombuffer(data, dtype)

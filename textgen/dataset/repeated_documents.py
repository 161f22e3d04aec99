"""Counts the held-out documents that also occur in the training text, whose loss says nothing of other texts.

Documents are compared by hashes of their token ids, without their labels. They are read from the files of the encoded
corpus, since a document may occur in the training text before one like it is held out, or in another shard of a
prepared corpus. Documents with words that the vocabulary lacks are not looked for, since different words have the same
id there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from textgen.corpus.formats.decompression import reading
from textgen.wording import counted, percent

BLOCK_TOKENS = 1 << 18  # token ids in memory at a time
MAX_HELD_OUT = 1 << 20  # maximum number of held-out documents that are looked for, the first ones of each shard
MIN_DOCUMENT_BYTES = 24  # minimum size of a document; shorter ones, such as names and greetings, repeat in any text
MIN_REPEATED = 2  # minimum number of repeated documents worth a message
MIN_REPEATED_FRACTION = 0.05  # minimum fraction of the held-out documents
LARGE_FRACTION = 0.2  # fraction of the held-out bytes that is worth a message however few documents it is
PLACES = 1 << 16  # random numbers by which the ids at the places of a document are multiplied


@dataclass(frozen=True)
class Repeated:
    """How many held-out documents also occur in the training text.

    Attributes:
        found: Those that do; 0 if too few could be looked for to be worth a message.
        held_out: All, at most `MAX_HELD_OUT`.
        found_bytes: Bytes of the text of those that do.
        held_out_bytes: Bytes of the text of all.
    """

    found: int = 0
    held_out: int = 0
    found_bytes: int = 0
    held_out_bytes: int = 0

    @property
    def are_many(self) -> bool:
        """Whether many of the documents are repeated."""
        return self.found >= max(MIN_REPEATED, MIN_REPEATED_FRACTION * self.held_out)

    @property
    def is_worth_a_message(self) -> bool:
        """Whether many of the documents are repeated, or few that hold a large part of the text."""
        return self.are_many or self.found_bytes >= max(1, LARGE_FRACTION * self.held_out_bytes)

    @property
    def message(self) -> str:
        """A warning; "" if few documents are repeated."""
        if not self.is_worth_a_message:
            return ""
        part = "" if self.are_many else f", {percent(self.found_bytes / self.held_out_bytes)} of the held-out text,"
        return (
            f"{self.found:,} of {counted(self.held_out, 'held-out document')}{part} also "
            f"{'occurs' if self.found == 1 else 'occur'} in the training text, so the validation loss is too low: "
            "remove repeated documents."
        )


@dataclass
class DocumentHashes:
    """Hashes the documents of files of token ids.

    Attributes:
        dtype: Type of the ids.
        eos: Id of the end-of-document token.
        unk: Id of unknown words.
        sizes: Bytes of the text of each token, int64 [V].
        first_label: First id that is a label; None if there are none.
    """

    dtype: np.dtype
    eos: int
    unk: int
    sizes: np.ndarray
    first_label: int | None

    def __post_init__(self) -> None:
        self._factors = np.random.default_rng(0).integers(1 << 64, size=PLACES, dtype=np.uint64)

    def of(self, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Iterates over the documents of a file.

        Args:
            path: Path of the file.

        Yields:
            Of the next documents: hashes, uint64 [n], sizes in bytes without unknown words, int64 [n], and whether
            there are no unknown words, bool [n].

        Raises:
            UnreadableCorpus: The file cannot be read.
        """
        place, before = 0, np.zeros(3, np.uint64)  # of a document that began in an earlier block: length and sums
        with ExitStack() as stack:
            with reading(str(path)):
                file = stack.enter_context(path.open("rb"))
            while len(ids := self._next_ids(file)):
                ends = np.flatnonzero(ids == self.eos) + 1
                starts = np.append(0, ends)
                starts = starts[starts < len(ids)]
                places = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
                places[: ends[0] if len(ends) else None] += place
                values = ids.astype(np.uint64) + np.uint64(1)
                if self.first_label is not None:
                    values[ids >= self.first_label] = 0
                values *= self._factors[places % PLACES]
                summands = values, self.sizes[ids].astype(np.uint64), (ids == self.unk).astype(np.uint64)
                sums = np.stack([np.add.reduceat(each, starts) for each in summands])
                sums[:, 0] += before
                is_open = ids[-1] != self.eos
                place, before = (int(places[-1]) + 1, sums[:, -1]) if is_open else (0, np.zeros(3, np.uint64))
                hashed, size, unknown = sums[:, : len(ends)]
                yield hashed, size.astype(np.int64), unknown == 0

    def _next_ids(self, file: BinaryIO) -> np.ndarray:
        """Reads the next ids of a file. np.fromfile would take an error of the disk for the end of the file."""
        with reading(file.name):
            return np.frombuffer(file.read(BLOCK_TOKENS * self.dtype.itemsize), self.dtype)


def count_repeated(shards: Sequence[tuple[Path, Path]], hashes: DocumentHashes) -> Repeated:
    """Counts the held-out documents that also occur in the training text, of the same shard or of another.

    Args:
        shards: Paths of the token ids to train on, and of those held out, of each shard.
        hashes: Hashes the documents.

    Returns:
        The counts.
    """
    known, sizes, counts, all_of_them = _sought([valid for _, valid in shards], hashes)
    most = replace(all_of_them, found=int(counts.sum()), found_bytes=int(sizes @ counts))
    if not most.is_worth_a_message:
        return all_of_them  # without hashing all of the training text
    is_found = np.zeros(len(known), bool)
    for train, _ in shards:
        for found, *_ in hashes.of(train):
            places = np.searchsorted(known, found).clip(max=len(known) - 1)
            is_found[places[known[places] == found]] = True
    return replace(most, found=int(counts[is_found].sum()), found_bytes=int(sizes[is_found] @ counts[is_found]))


def _sought(paths: Sequence[Path], hashes: DocumentHashes) -> tuple[np.ndarray, np.ndarray, np.ndarray, Repeated]:
    """The held-out documents that are looked for.

    Returns:
        Hashes, uint64 [n] in rising order, sizes in bytes and numbers of the different documents, int64 [n]; and counts
        of all held-out documents.
    """
    sought, bytes_of = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    held_out = held_out_bytes = 0
    for path in paths:
        left = max(1, MAX_HELD_OUT // len(paths))
        for found, sizes, is_known in hashes.of(path):
            found, sizes, is_known = found[:left], sizes[:left], is_known[:left]
            is_sought = is_known & (sizes >= MIN_DOCUMENT_BYTES)
            sought.append(found[is_sought])
            bytes_of.append(sizes[is_sought])
            held_out += len(found)
            held_out_bytes += int(sizes.sum())
            left -= len(found)
            if not left:
                break
    known, first, counts = np.unique(np.concatenate(sought), return_index=True, return_counts=True)
    return known, np.concatenate(bytes_of)[first], counts, Repeated(0, held_out, 0, held_out_bytes)

"""Counts the held-out documents that also occur in the training text, whose loss says nothing of other texts.

Documents are compared by hashes of their token ids, without their labels. They are read from the files of the encoded
corpus, since a document may occur in the training text before one like it is held out. Each shard of a prepared corpus
is compared with itself only. Documents with words that the vocabulary lacks are not looked for, since different words
have the same id there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textgen.wording import counted

BLOCK_TOKENS = 1 << 18  # token ids in memory at a time
MAX_HELD_OUT = 1 << 20  # maximum number of held-out documents that are looked for, the first ones
LEAST_BYTES = 24  # minimum size of a document; shorter ones, such as names and greetings, repeat in any text
LEAST_REPEATED = 2  # minimum number of repeated documents worth a message
LEAST_FRACTION = 0.05  # minimum fraction of the held-out documents
PLACES = 1 << 16  # random numbers by which the ids at the places of a document are multiplied


@dataclass(frozen=True)
class Repeated:
    """How many held-out documents also occur in the training text.

    Attributes:
        found: Those that do; 0 if too few could be looked for to be worth a message.
        held_out: All, at most `MAX_HELD_OUT`.
    """

    found: int = 0
    held_out: int = 0

    @property
    def message(self) -> str:
        """A warning; "" if few documents are repeated."""
        if not is_worth_a_message(self.found, self.held_out):
            return ""
        return (
            f"{self.found:,} of {counted(self.held_out, 'held-out document')} also occur in the training text, so the "
            "validation loss is too low: remove repeated documents."
        )


def is_worth_a_message(found: int, held_out: int) -> bool:
    """Checks whether enough of the held-out documents are repeated."""
    return found >= max(LEAST_REPEATED, LEAST_FRACTION * held_out)


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

    def of(self, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Iterates over the documents of a file.

        Args:
            path: Path of the file.

        Yields:
            Hashes, uint64 [n], and sizes in bytes, int64 [n], of the next documents. The size of a document with
            unknown words is 0.
        """
        place, before = 0, np.zeros(3, np.uint64)  # of a document that began in an earlier block: length and sums
        with path.open("rb") as file:
            while len(ids := np.fromfile(file, self.dtype, BLOCK_TOKENS)):
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
                yield hashed, np.where(unknown, 0, size).astype(np.int64)


def count_repeated(train: Path, valid: Path, hashes: DocumentHashes) -> Repeated:
    """Counts the held-out documents that also occur in the training text.

    Args:
        train: Path of the token ids to train on.
        valid: Path of the held-out token ids.
        hashes: Hashes the documents.
    """
    sought, held_out = [np.zeros(0, np.uint64)], 0
    for found, sizes in hashes.of(valid):
        count = min(len(found), MAX_HELD_OUT - held_out)
        sought.append(found[:count][sizes[:count] >= LEAST_BYTES])
        held_out += count
    known, counts = np.unique(np.concatenate(sought), return_counts=True)
    if not is_worth_a_message(int(counts.sum()), held_out):
        return Repeated(0, held_out)  # without hashing all of the training text
    is_found = np.zeros(len(known), bool)
    for found, _ in hashes.of(train):
        places = np.searchsorted(known, found).clip(max=len(known) - 1)
        is_found[places[known[places] == found]] = True
    return Repeated(int(counts[is_found].sum()), held_out)

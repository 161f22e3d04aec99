"""What a corpus holds: characters, words, documents, labels."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from textgen.corpus.documents import PART_CHARS, Part

EXCERPTS = 256  # stretches of a corpus that a sample of it is taken from


@dataclass(frozen=True)
class CorpusStats:
    """What a corpus holds."""

    files: int
    documents: int
    characters: int
    bytes: int  # of the documents in UTF-8, however the files are encoded and compressed
    lines: int
    words: int  # separated by whitespace
    distinct_characters: int
    longest_document: int  # in characters
    characters_by_frequency: tuple[tuple[str, int], ...]  # the 20 commonest
    character_counts: dict[str, int]  # all of them, the commonest first
    labels: dict[str, int]  # documents that have each, the commonest first


def count_parts(parts: Iterable[Part], files: int) -> CorpusStats:
    """The counts of a corpus that has so many `files`. It is read once, as a stream."""
    occurrences = np.zeros(sys.maxunicode + 1, np.int64)  # of each character
    labels = Counter[str]()
    documents = unended = words = size = longest = length = 0
    inside_word = False
    for batch in _batches(parts):
        text = "".join(f"{part.text}\n" if part.ends_document else part.text for part in batch)
        found = np.bincount(np.frombuffer(text.encode("utf-32-le"), "<u4"))
        occurrences[: len(found)] += found
        size += len(text.encode())
        words += len(text.split()) - (inside_word and not text[0].isspace())
        inside_word = not text[-1].isspace()
        for part in batch:
            length += len(part.text)
            if part.ends_document:
                documents += 1
                unended += not part.text.endswith("\n")
                longest, length = max(longest, length), 0
                if part.label:
                    labels[part.label] += 1
    occurrences[ord("\n")] -= documents  # those put between documents
    counts = Counter({chr(code): int(occurrences[code]) for code in np.flatnonzero(occurrences)})
    return CorpusStats(
        files=files,
        documents=documents,
        characters=counts.total(),
        bytes=size - documents,
        lines=counts["\n"] + unended,
        words=words,
        distinct_characters=len(counts),
        longest_document=longest,
        characters_by_frequency=tuple(counts.most_common(20)),
        character_counts=dict(counts.most_common()),
        labels=dict(labels.most_common()),
    )


def _batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts by the about `PART_CHARS` characters, since counting in many short texts is slow."""
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += len(part.text) + 1
        if size >= PART_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

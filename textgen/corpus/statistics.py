"""Counts the characters, words, documents and labels of a corpus."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from textgen.corpus.documents import PART_CHARS, Part
from textgen.corpus.scripts import has_words, letters_without_spaces

EXCERPTS = 256  # number of excerpts in a sample of a corpus


@dataclass(frozen=True)
class CorpusStats:
    """Statistics of a corpus.

    Attributes:
        files: Number of files.
        documents: Number of documents.
        characters: Number of characters.
        bytes: Size of the documents in UTF-8, regardless of the encoding and compression of the files.
        lines: Number of lines.
        words: Number of stretches between white space: the words, if the text has any; see `has_words`.
        distinct_characters: Number of different characters.
        longest_document: Length of the longest document in characters.
        typical_document: Length of the document in which a character is, on average over all characters: about that of
            all documents where they are alike, and that of the few long ones where those make up most of the text.
        characters_by_frequency: The 20 most frequent characters and their counts.
        character_counts: Counts of all characters, most frequent first.
        labels: Number of documents by label, most frequent first.
    """

    files: int
    documents: int
    characters: int
    bytes: int
    lines: int
    words: int
    distinct_characters: int
    longest_document: int
    typical_document: float
    characters_by_frequency: tuple[tuple[str, int], ...]
    character_counts: dict[str, int]
    labels: dict[str, int]

    @property
    def has_words(self) -> bool:
        """Whether there are spaces between the words; see `textgen.corpus.scripts`."""
        return has_words(*letters_without_spaces(self.character_counts))


def count_parts(parts: Iterable[Part], files: int) -> CorpusStats:
    """Computes the statistics of a corpus in one pass.

    Args:
        parts: Parts of the documents, in order.
        files: Number of files.

    Returns:
        The statistics.
    """
    occurrences = np.zeros(sys.maxunicode + 1, np.int64)  # number of each character
    labels = Counter[str]()
    documents = unended = words = size = longest = squares = length = 0
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
                longest, squares, length = max(longest, length), squares + length**2, 0
                if part.label:
                    labels[part.label] += 1
    occurrences[ord("\n")] -= documents  # the newlines added after documents above
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
        typical_document=squares / max(1, counts.total()),
        characters_by_frequency=tuple(counts.most_common(20)),
        character_counts=dict(counts.most_common()),
        labels=dict(labels.most_common()),
    )


def _batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Groups parts into batches of about `PART_CHARS` characters, since counting many short texts is slow."""
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

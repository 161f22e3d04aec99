"""Writes documents as token ids to disk, in the files that `textgen.dataset.token_files` describes."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from textgen.corpus.corpus import Part
from textgen.corpus.scripts import without_words
from textgen.dataset import token_files
from textgen.dataset.parallel_encoding import encode_batches
from textgen.dataset.repeated_documents import DocumentHashes, Repeated, count_repeated
from textgen.dataset.token_files import COUNTS, ENDS, IDS, OPENINGS, REPEATED, SPLITS, SplitSummary
from textgen.storage.cache_layout import SUMMARY
from textgen.storage.files import writing
from textgen.storage.folders import new_folder
from textgen.tokenizer.tokenizer import Tokenizer

ENCODE_CHARACTERS = 1 << 20  # characters in a batch; a core encodes one at a time
SENTENCE_ENDS = tuple(mark.encode() for mark in ".!?…。！？")

Encode = Callable[[Iterable[Sequence[str]]], Iterator[list[np.ndarray]]]


class _SplitWriter:
    """Writes the files of one split."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer, dtype: np.dtype) -> None:
        self._folder, self._split, self._dtype = folder, split, dtype
        self._tokenizer = tokenizer
        self._eos = np.array([tokenizer.eos_id])
        labels = (None, *tokenizer.labels) if tokenizer.labels else ()
        # tokens that open a document, by its label
        self._openings = {label: np.array(tokenizer.opening(label)[1:]) for label in labels}
        self._first_label = tokenizer.first_label
        self._places = Places(tokenizer)
        self._inside = False  # whether the last part written ends inside a document
        self._counts = np.zeros(tokenizer.vocab_size, np.int64)
        self._files = {name: (folder / f"{split}{name}.bin").open("wb") for name in (IDS, ENDS, OPENINGS)}
        self._totals = Counter[str]()  # by the names of `SplitSummary`

    def write(self, parts: Sequence[Part], encoded: Sequence[np.ndarray]) -> None:
        """Appends parts and their ids, with the label at the beginning of a document and the end-of-document token.

        A part that begins in the middle of a document gets its label, too.
        """
        if not parts:
            return
        written: list[np.ndarray] = []
        ends, openings, end = list[int](), list[np.ndarray](), self._totals["tokens"]
        for part, ids in zip(parts, encoded, strict=True):
            opening = self._openings.get(part.label, self._openings.get(None))
            if opening is not None and not self._inside:
                written.append(opening)
                end += 1
            if self._inside or not part.ends_document or len(ids) >= token_files.OPENING_TOKENS:
                openings.append(self._places.openings(ids, end, -1 if opening is None else int(opening[0])))
            written.append(ids)
            end += len(ids)
            if part.ends_document or part.is_cut:
                written.append(self._eos)
                end += 1
                ends.append(end)
            self._inside = not (part.ends_document or part.is_cut)
        self._append(written, ends, openings)
        text = "\n".join(part.text for part in parts)
        newlines = len(parts) - 1  # those between the parts
        spelling = self._tokenizer.spelling(text)
        self._totals.update(
            documents=sum(part.ends_document for part in parts),
            characters=len(text) - newlines,
            bytes=len(text.encode()) - newlines,
            words=len(text.split()) + len(ends),
            without_words=without_words(text),
            unknown_words=len(spelling),
            spelling=sum(spelling),
            lost_bytes=self._tokenizer.lost_bytes(text),
        )

    def _append(self, arrays: Sequence[np.ndarray], ends: Sequence[int], openings: Sequence[np.ndarray]) -> None:
        ids = np.concatenate(arrays, dtype=self._dtype, casting="unsafe")
        self._files[IDS].write(ids.data)  # `tofile` says nothing of a full disk if there are few numbers
        self._files[ENDS].write(np.array(ends, np.int64).data)
        for places in openings:
            self._files[OPENINGS].write(places.data)
        self._counts += np.bincount(ids, minlength=len(self._counts))
        self._counts[self._first_label :] = 0
        self._totals.update(tokens=len(ids), ends=len(ends))

    def close(self) -> None:
        """Closes the files that `finish` has not closed; an error before it tells more than those of closing them."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()

    def finish(self) -> SplitSummary:
        """Closes a document that is still open, and the files, and writes the counts, which it returns."""
        if self._inside:  # the document continues in another shard
            self._append([self._eos], [self._totals["tokens"] + 1], [])
            self._totals.update(words=1)
        (self._folder / f"{self._split}{COUNTS}.bin").write_bytes(self._counts.data)
        for file in self._files.values():
            file.close()  # writes what is left
        return SplitSummary.of(self._totals)


class Places:
    """Finds places inside a document where reading may begin as if a text opened there.

    They are the beginnings of paragraphs; if these are few, of lines, of sentences, or of any characters.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.piece_bytes
        self._ends_line = np.array([piece.endswith(b"\n") for piece in pieces])
        self._ends_paragraph = np.array([piece.endswith(b"\n\n") for piece in pieces])
        self._ends_sentence = np.array([piece.endswith(SENTENCE_ENDS) for piece in pieces])
        self._inside_character = np.array([piece[:1] >= b"\x80" and piece[:1] < b"\xc0" for piece in pieces])

    def openings(self, ids: np.ndarray, start: int, label: int) -> np.ndarray:
        """Finds places at least `SPACING` tokens apart.

        Args:
            ids: Token ids [N].
            start: Position of the first of them in the stream.
            label: Label id of the document, or -1.

        Returns:
            (position, label), int64 [n, 2].
        """
        line, least = self._ends_line[ids], len(ids) // token_files.OPENING_TOKENS
        found = np.flatnonzero(self._ends_paragraph[ids[:-1]] | (line[:-1] & np.append(False, line[:-2]))) + 1
        for flags in (line, self._ends_sentence[ids], ~np.append(self._inside_character[ids[1:]], True)):
            if len(found) > least:
                break
            found = np.flatnonzero(flags[:-1]) + 1
        found = found[np.diff(found // token_files.SPACING, prepend=-1) > 0] + start
        return np.stack([found, np.full_like(found, label)], axis=1)


def encode_parts(
    parts: Iterable[tuple[str, Part]],
    tokenizer: Tokenizer,
    folder: Path,
    facts: Mapping[str, str | int] | None = None,
    encode: Encode | None = None,
    unless: Callable[[], bool] = lambda: False,
) -> None:
    """Encodes parts of documents into a new folder.

    Args:
        parts: The name of a split, "train" or "valid", and a part that belongs to it.
        tokenizer: Vocabulary.
        folder: Folder to create. It appears when it is complete.
        facts: Further values for tokens.json.
        encode: Turns batches of texts into the ids of each text; by default the likeliest segmentation, on all cores.
        unless: Called once all is written; if it returns True, what was written is dropped.

    Raises:
        TextgenError: The text cannot be encoded, or the disk is full.
    """
    dtype = _dtype(tokenizer)
    with new_folder(folder, unless=unless) as temporary, ExitStack() as files:
        with writing(folder):
            writers = {
                split: files.enter_context(closing(_SplitWriter(temporary, split, tokenizer, dtype)))
                for split in SPLITS
            }
        ahead, batches = itertools.tee(_batched(parts))
        texts = ([part.text for _, part in batch] for batch in ahead)
        found = encode(texts) if encode else encode_batches(texts, tokenizer, dtype)
        for encoded, batch in zip(found, batches, strict=True):
            with writing(folder):
                for split, writer in writers.items():
                    chosen = [number for number, (name, _) in enumerate(batch) if name == split]
                    writer.write([batch[number][1] for number in chosen], [encoded[number] for number in chosen])
        first_label = tokenizer.first_label if tokenizer.labels else None
        with writing(folder):
            summary = {split: asdict(writer.finish()) for split, writer in writers.items()}
            description = {"dtype": dtype.name, "eos": tokenizer.eos_id, "first_label": first_label}
            if not encode:  # of a random segmentation, the ids say little
                summary[REPEATED] = asdict(repeated_in([temporary], tokenizer))
            (temporary / SUMMARY).write_text(json.dumps({**description, **(facts or {}), **summary}), encoding="utf-8")


def repeated_in(folders: Sequence[Path], tokenizer: Tokenizer) -> Repeated:
    """Counts the held-out documents that also occur in the training text.

    Args:
        folders: The folders of all shards of an encoded corpus. All of their token ids are read.
        tokenizer: Vocabulary.

    Returns:
        The counts.
    """
    first_label = tokenizer.first_label if tokenizer.labels else None
    hashes = DocumentHashes(_dtype(tokenizer), tokenizer.eos_id, tokenizer.unk_id, tokenizer.token_bytes, first_label)
    train, valid = ([folder / f"{split}{IDS}.bin" for folder in folders] for split in SPLITS)
    return count_repeated(list(zip(train, valid, strict=True)), hashes)


def _dtype(tokenizer: Tokenizer) -> np.dtype:
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)


def _batched(parts: Iterable[tuple[str, Part]]) -> Iterator[list[tuple[str, Part]]]:
    batch: list[tuple[str, Part]] = []
    characters = 0
    for item in parts:
        batch.append(item)
        characters += len(item[1].text)
        if characters >= ENCODE_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch

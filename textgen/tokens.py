"""Documents -> ids on disk, split into those to train on and those held out.

A corpus is encoded once. Each split (train, valid) becomes a stream of ids, every document closed by the
end-of-document piece, in a file of uint16 or uint32. Where the vocabulary has labels, each document begins with the
piece of its own, or with that of none. Memory does not grow with the corpus: text is encoded as it
streams by, and ids are read from the disk where they are wanted.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from textgen.config import TrainingConfig
from textgen.corpus import Corpus, Part
from textgen.encoding import encode_batches
from textgen.errors import CorpusError, TextgenError
from textgen.storage import TEMPORARY, cache_folder, locked, new_folder, read_manifest, sweep_abandoned, writing
from textgen.tokenizer import Tokenizer

FORMAT = 3  # part of the cache's key: a change of what is written makes old caches unused
ENCODE_CHARACTERS = 1 << 20  # encoded at a time, by all cores
MANY_DOCUMENTS = 20  # from here on whole documents are held out, below it the end of the text
VALID_BYTES = 4_000_000  # at most so much of a large corpus is held out
MAX_BLOCKS = 1 << 18  # that a long corpus is shuffled in: a few megabytes, however many documents there are
ENDS_READ = 1 << 20  # document ends that are in memory at a time
OPEN_FILES = 64
SUMMARY = "tokens.json"

Progress = Callable[[int], None]  # told how many characters are done
Encode = Callable[[Iterable[Sequence[str]]], Iterator[list[np.ndarray]]]


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds."""

    tokens: int  # the end of each document included, and its label
    documents: int
    characters: int  # of text
    bytes: int  # of text, in UTF-8
    words: int  # runs of non-space, plus one for the end of each document, as word-level benchmarks count

    @classmethod
    def total(cls, summaries: Iterable[SplitSummary]) -> SplitSummary:
        """Of several together."""
        return cls(*map(sum, zip(*(asdict(summary).values() for summary in summaries), strict=True)))


class TokenStream:
    """The ids of one split, on the disk: as long as it allows, at no cost in memory.

    They are in `folder`, or in several `shards` below it, one after the other.
    """

    def __init__(self, folder: Path, split: str, shards: Sequence[str] = ("",)) -> None:
        self.folder, self.split, self.shards = folder, split, shards
        self._folders = [folder / shard for shard in shards]
        descriptions = [json.loads((shard / SUMMARY).read_text(encoding="utf-8")) for shard in self._folders]
        self._summaries = [SplitSummary(**description[split]) for description in descriptions]
        self.dtype = np.dtype(descriptions[0]["dtype"])
        self.first_label = descriptions[0].get("first_label")  # ids from here on are labels; None: none are
        self._starts = [0, *itertools.accumulate(summary.tokens for summary in self._summaries)]
        self._file = lru_cache(OPEN_FILES)(_File)
        self.summary = SplitSummary.total(self._summaries)
        counts = [np.fromfile(shard / f"{split}-counts.bin", np.int64) for shard in self._folders]
        self.counts = np.sum(counts, axis=0)  # [V] how often each piece is to be predicted: labels never are

    def __len__(self) -> int:
        return self.summary.tokens

    def of_epoch(self, epoch: int) -> TokenStream:
        """What is read in an epoch: the same each time, but for `textgen.subwords.SampledStream`."""
        return self

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to before `stop`, int32."""
        parts = []
        while start < stop:
            shard = bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[shard + 1])
            file = self._file(self._folders[shard] / f"{self.split}.bin")
            parts.append(file.read(self.dtype, start - self._starts[shard], end - start))
            start = end
        return np.concatenate(parts, dtype=np.int32, casting="unsafe") if parts else np.zeros(0, np.int32)

    def document_ends(self) -> Iterator[np.ndarray]:
        """The position after each document, int64, in arrays of at most `ENDS_READ`."""
        for folder, summary, start in zip(self._folders, self._summaries, self._starts, strict=False):
            file = self._file(folder / f"{self.split}-documents.bin")
            for first in range(0, summary.documents, ENDS_READ):
                yield start + file.read(np.dtype(np.int64), first, min(ENDS_READ, summary.documents - first))

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


class _File:
    """A file of numbers, read at any place; closed when nobody refers to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, dtype: np.dtype, first: int, count: int) -> np.ndarray:
        data = os.pread(self._descriptor, count * dtype.itemsize, first * dtype.itemsize)
        if len(data) < count * dtype.itemsize:
            raise CorpusError(f"{self._path} is shorter than when it was written: prepare the corpus again.")
        return np.frombuffer(data, dtype)


@dataclass(frozen=True)
class TokenData:
    """A corpus, encoded and split."""

    train: TokenStream
    valid: TokenStream

    @classmethod
    def cached(cls, folder: Path) -> TokenData | None:
        """What an earlier run left in a cache folder; None where it is missing or incomplete."""
        whole = (folder / SUMMARY).exists() and _is_complete(folder)
        return cls(TokenStream(folder, "train"), TokenStream(folder, "valid")) if whole else None

    def require_text(self) -> None:
        """Raises `CorpusError` when one of the splits is empty."""
        if not len(self.train) or not len(self.valid):
            raise CorpusError("The corpus is too short to hold some of it out for validation: give more text.")


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    valid: Corpus | float = 0.1,
    *,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> TokenData:
    """Encodes `corpus`, holding out a share of it or, if `valid` is a corpus, that one for validation.

    The result is kept in `cache` (by default the user's cache folder) under a fingerprint of the text,
    the tokenizer and the split, and taken from there the next time. Raises `CorpusError` when one of the
    two splits would be empty.
    """
    held_out = valid.fingerprint() if isinstance(valid, Corpus) else f"{valid!r} {seed}"
    key = sha256(f"{FORMAT} {corpus.fingerprint()} {tokenizer.fingerprint()} {held_out}".encode()).hexdigest()
    folder = (cache or cache_folder()) / "tokens" / key[:32]
    data = TokenData.cached(folder)
    if data is None:
        sweep_abandoned(folder.parent, TEMPORARY)
        encode_parts(_split_parts(corpus, valid, seed), tokenizer, folder, progress)
        data = TokenData(TokenStream(folder, "train"), TokenStream(folder, "valid"))
    data.require_text()
    return data


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, folder: Path, label: str | None = None) -> TokenStream:
    """The whole corpus as one stream in `folder`, which must not exist yet; with a `label`, all of it has that one."""
    tokenizer.opening(label)  # raises where there is no such label
    parts = corpus.parts()
    if label is not None:
        parts = (Part(part.text, part.ends_document, label) for part in parts)
    encode_parts((("valid", part) for part in parts), tokenizer, folder)
    return TokenStream(folder, "valid")


def _split_parts(corpus: Corpus, valid: Corpus | float, seed: int) -> Iterator[tuple[str, Part]]:
    """Each part of the corpus with the split it belongs to."""
    if isinstance(valid, Corpus):
        yield from (("train", part) for part in corpus.parts())
        yield from (("valid", part) for part in valid.parts())
    else:
        yield from hold_out(corpus.parts, valid, str(seed))


def share_to_hold_out(size: int) -> float:
    """The share of a corpus of `size` bytes that is held out when nobody says how much."""
    return min(TrainingConfig.valid_fraction, VALID_BYTES / max(1, size))


def hold_out(read: Callable[[], Iterable[Part]], fraction: float, seed: str) -> Iterator[tuple[str, Part]]:
    """Each part that `read` gives with the split it belongs to.

    Whole documents are held out, one, drawn by lot, of each run of 1/fraction; of less than `MANY_DOCUMENTS`
    the end of the text. `read` is called twice: the first time for as many documents as it takes to choose.
    """
    enough = max(round(1 / fraction), MANY_DOCUMENTS)
    documents = characters = 0
    for part in read():
        documents += part.ends_document
        characters += len(part.text)
        if documents == enough:
            break
    if documents >= MANY_DOCUMENTS:
        yield from _split_by_document(read(), max(fraction, 1 / documents), seed)
    else:
        yield from _split_tail(read(), characters, fraction)


def _split_by_document(parts: Iterable[Part], fraction: float, seed: str) -> Iterator[tuple[str, Part]]:
    """Holds out one document, drawn by lot, of each 1/fraction of them; where that is no whole number, on average."""
    document = runs = end = chosen = 0
    for part in parts:
        if document == end:
            runs += 1
            end = int(runs / fraction + 1e-6)
            chosen = document + random.Random(f"{seed}-{document}").randrange(end - document)
        yield ("valid" if document == chosen else "train"), part
        document += part.ends_document


def _split_tail(parts: Iterable[Part], characters: int, fraction: float) -> Iterator[tuple[str, Part]]:
    """Holds out the last characters of the text, inside a document if need be."""
    left = int(characters * (1 - fraction))
    for part in parts:
        if left >= len(part.text):
            yield "train", part
        elif left <= 0:
            yield "valid", part
        else:
            yield "train", Part(part.text[:left], False, part.label)
            yield "valid", Part(part.text[left:], part.ends_document, part.label)
        left -= len(part.text)


class _SplitWriter:
    """Writes the ids, the document ends and the counts of one split."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer) -> None:
        self._folder, self._split = folder, split
        self._eos = np.array([tokenizer.eos_id])
        labels = (None, *tokenizer.labels) if tokenizer.labels else ()
        self._openings = {label: np.array(tokenizer.opening(label)[1:]) for label in labels}  # of documents
        self._first_label = tokenizer.first_label
        self._inside = False  # a document
        self._counts = np.zeros(tokenizer.vocab_size, np.int64)
        self._ids = (folder / f"{split}.bin").open("wb")
        self._ends = (folder / f"{split}-documents.bin").open("wb")
        self._tokens = self._documents = self._characters = self._bytes = self._words = 0

    def write(self, parts: Sequence[Part], encoded: Sequence[np.ndarray]) -> None:
        """Appends parts and their ids; where a document begins or ends, the piece that says so is added.

        What goes on in the middle of a document is given its label, too.
        """
        if not parts:
            return
        pieces: list[np.ndarray] = []
        ends, end = [], self._tokens
        for part, ids in zip(parts, encoded, strict=True):
            if self._openings and not self._inside:
                pieces.append(self._openings.get(part.label, self._openings[None]))
                end += 1
            pieces.append(ids)
            end += len(ids)
            if part.ends_document:
                pieces.append(self._eos)
                end += 1
                ends.append(end)
            self._inside = not part.ends_document
        ids = np.concatenate(pieces, dtype=encoded[0].dtype, casting="unsafe")
        ids.tofile(self._ids)
        np.array(ends, np.int64).tofile(self._ends)
        text = "\n".join(part.text for part in parts)
        newlines = len(parts) - 1  # those between the parts
        self._counts += np.bincount(ids, minlength=len(self._counts))
        self._counts[self._first_label :] = 0
        self._tokens += len(ids)
        self._documents += len(ends)
        self._characters += len(text) - newlines
        self._bytes += len(text.encode()) - newlines
        self._words += len(text.split()) + len(ends)

    def close(self) -> None:
        self._ids.close()
        self._ends.close()

    def finish(self) -> SplitSummary:
        """Writes the counts, and sums up."""
        self._counts.tofile(self._folder / f"{self._split}-counts.bin")
        return SplitSummary(self._tokens, self._documents, self._characters, self._bytes, self._words)


def encode_parts(
    parts: Iterable[tuple[str, Part]],
    tokenizer: Tokenizer,
    folder: Path,
    progress: Progress | None = None,
    facts: Mapping[str, str] | None = None,
    encode: Encode | None = None,
) -> None:
    """Writes the ids of all parts, each with its split, to a new `folder`, and `facts` to its summary.

    `encode` makes of batches of texts the ids of each; by default those of the likeliest pieces.
    """
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    with new_folder(folder) as temporary, locked(temporary), ExitStack() as files:
        with writing(folder):
            writers = {
                split: files.enter_context(closing(_SplitWriter(temporary, split, tokenizer)))
                for split in ("train", "valid")
            }
        ahead, batches = itertools.tee(_batched(parts))
        texts = ([part.text for _, part in batch] for batch in ahead)
        found = encode(texts) if encode else encode_batches(texts, tokenizer, dtype)
        for encoded, batch in zip(found, batches, strict=True):
            with writing(folder):
                for split, writer in writers.items():
                    chosen = [number for number, (name, _) in enumerate(batch) if name == split]
                    writer.write([batch[number][1] for number in chosen], [encoded[number] for number in chosen])
            if progress:
                progress(sum(len(part.text) for _, part in batch))
        first_label = tokenizer.first_label if tokenizer.labels else None
        with writing(folder):
            summary = {split: asdict(writer.finish()) for split, writer in writers.items()}
            description = {"dtype": dtype.name, "first_label": first_label, **(facts or {}), **summary}
            (temporary / SUMMARY).write_text(json.dumps(description), encoding="utf-8")


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


def _is_complete(folder: Path) -> bool:
    try:
        files = read_manifest(folder)["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (TextgenError, OSError):
        return False

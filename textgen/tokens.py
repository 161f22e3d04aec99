"""Documents -> token shards on disk -> batches for truncated backpropagation through time.

A corpus is encoded once: each split (train, valid) becomes a stream of ids, every document closed by the
end-of-document piece, in memory-mapped shards of uint16 or uint32. Training reads a stream as a ring:

    documents     ab$ cde$ fg$            ($ closes a document)
    one epoch     fg$ ab$ cde$            documents in another order, from another start, in each epoch
    B=2 rows      fg$ab                   row b of a batch goes on where row b of the batch before
                  $cde$                   stopped, so that the state can be carried
    T=2 inputs    fg  $a  b.              targets are the inputs, one step later:  g$  ab  $.
                  $c  de  ..              a row's last target is the first input   cd  e$  ..
                                          of the next row; . is padding

As a ring of N tokens has N pairs of neighbours, each token is an input once and a target once in an epoch.
"""

from __future__ import annotations

import itertools
import json
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from textgen.corpus import Corpus, Part
from textgen.encoding import encode_batches
from textgen.errors import CorpusError, TextgenError
from textgen.storage import cache_folder, new_folder, read_manifest
from textgen.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT = 1  # part of the cache's key: a change of what is written makes old caches unused
SHARD_TOKENS = 1 << 26
ENCODE_CHARACTERS = 1 << 20  # encoded at a time, by all cores
MANY_DOCUMENTS = 20  # from here on whole documents are held out, below it the end of the text
MAX_BLOCKS = 1 << 20  # of documents that keep together when a long corpus is shuffled
SUMMARY = "tokens.json"

Progress = Callable[[int], None]  # told how many characters are done


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds."""

    tokens: int  # the end of each document included
    documents: int
    bytes: int  # of text, in UTF-8
    words: int  # runs of non-space, plus one for the end of each document, as word-level benchmarks count
    ends_document: bool  # False where the text was cut inside a document


class TokenStream:
    """The ids of one split, memory-mapped: as long as the disk allows, at no cost in memory."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        description = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        self.summary = SplitSummary(**description[split])
        dtype = np.dtype(description["dtype"])
        paths = sorted(folder.glob(f"{split}-?????.bin"))
        self._shards = [np.memmap(path, dtype, "r") for path in paths if path.stat().st_size]
        self._starts = [0, *np.cumsum([len(shard) for shard in self._shards]).tolist()]
        ends = folder / f"{split}-documents.bin"
        self.document_ends = np.memmap(ends, np.int64, "r") if ends.stat().st_size else np.zeros(0, np.int64)
        self.counts = np.fromfile(folder / f"{split}-counts.bin", np.int64)  # [V] how often each piece occurs

    def __len__(self) -> int:
        return self.summary.tokens

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to before `stop`, int32."""
        parts = []
        while start < stop:
            shard = bisect_right(self._starts, start) - 1
            end = min(stop, self._starts[shard + 1])
            parts.append(self._shards[shard][start - self._starts[shard] : end - self._starts[shard]])
            start = end
        return np.concatenate(parts, dtype=np.int32, casting="unsafe") if parts else np.zeros(0, np.int32)


@dataclass(frozen=True)
class TokenData:
    """A corpus, encoded and split."""

    train: TokenStream
    valid: TokenStream

    @classmethod
    def cached(cls, folder: Path) -> TokenData | None:
        """What an earlier run left in a cache folder; None where it is missing or incomplete."""
        return cls(TokenStream(folder, "train"), TokenStream(folder, "valid")) if _is_complete(folder) else None


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
        _encode(_split_parts(corpus, valid, seed), tokenizer, folder, progress)
        data = TokenData(TokenStream(folder, "train"), TokenStream(folder, "valid"))
    if not len(data.train) or not len(data.valid):
        raise CorpusError("The corpus is too short to hold some of it out for validation: give more text.")
    return data


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, folder: Path, progress: Progress | None = None) -> TokenStream:
    """The whole corpus as one stream in `folder`, which must not exist yet."""
    _encode((("valid", part) for part in corpus.parts()), tokenizer, folder, progress)
    return TokenStream(folder, "valid")


def _split_parts(corpus: Corpus, valid: Corpus | float, seed: int) -> Iterator[tuple[str, Part]]:
    """Each part of the corpus with the split it belongs to."""
    if isinstance(valid, Corpus):
        yield from (("train", part) for part in corpus.parts())
        yield from (("valid", part) for part in valid.parts())
    elif corpus.stats().documents >= MANY_DOCUMENTS:
        yield from _split_by_document(corpus.parts(), corpus.stats().documents, valid, seed)
    else:
        yield from _split_tail(corpus.parts(), corpus.stats().characters, valid)


def _split_by_document(parts: Iterable[Part], documents: int, fraction: float, seed: int) -> Iterator[tuple[str, Part]]:
    """Holds out one document, drawn by lot, of each run of 1/fraction documents."""
    run = min(max(2, round(1 / fraction)), documents)
    document, chosen = 0, random.Random(f"{seed}-0").randrange(run)
    for part in parts:
        yield ("valid" if document % run == chosen else "train"), part
        if part.ends_document:
            document += 1
            if document % run == 0:
                chosen = random.Random(f"{seed}-{document}").randrange(run)


def _split_tail(parts: Iterable[Part], characters: int, fraction: float) -> Iterator[tuple[str, Part]]:
    """Holds out the last characters of the text, inside a document if need be."""
    left = int(characters * (1 - fraction))
    for part in parts:
        if left >= len(part.text):
            yield "train", part
        elif left <= 0:
            yield "valid", part
        else:
            yield "train", Part(part.text[:left], ends_document=False)
            yield "valid", Part(part.text[left:], part.ends_document)
        left -= len(part.text)


class _SplitWriter:
    """Writes the shards, the document ends and the counts of one split."""

    def __init__(self, folder: Path, split: str, vocab_size: int) -> None:
        self._folder, self._split = folder, split
        self._counts = np.zeros(vocab_size, np.int64)
        self._ends = (folder / f"{split}-documents.bin").open("wb")
        self._shards = 0
        self._shard = self._next_shard()
        self.tokens = self.documents = self.bytes = self.words = 0
        self.ends_document = False

    def write(self, part: Part, array: np.ndarray) -> None:
        """Appends an encoded part, its end-of-document piece included."""
        self._write_shards(array)
        self._counts += np.bincount(array, minlength=len(self._counts))
        self.tokens += len(array)
        self.bytes += len(part.text.encode())
        self.words += len(part.text.split()) + part.ends_document
        self.ends_document = part.ends_document
        if part.ends_document:
            self.documents += 1
            np.asarray([self.tokens], np.int64).tofile(self._ends)

    def close(self) -> None:
        self._shard.close()
        self._ends.close()

    def finish(self) -> SplitSummary:
        """Writes the counts, and sums up."""
        self._counts.tofile(self._folder / f"{self._split}-counts.bin")
        return SplitSummary(self.tokens, self.documents, self.bytes, self.words, self.ends_document)

    def _write_shards(self, array: np.ndarray) -> None:
        while len(array):
            if not self._room:
                self._shard.close()
                self._shard = self._next_shard()
            piece, array = array[: self._room], array[self._room :]
            piece.tofile(self._shard)
            self._room -= len(piece)

    def _next_shard(self) -> BinaryIO:
        number, self._shards, self._room = self._shards, self._shards + 1, SHARD_TOKENS
        return (self._folder / f"{self._split}-{number:05d}.bin").open("wb")


def _encode(parts: Iterable[tuple[str, Part]], tokenizer: Tokenizer, folder: Path, progress: Progress | None) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    with new_folder(folder) as temporary, ExitStack() as files:
        writers = {
            split: files.enter_context(closing(_SplitWriter(temporary, split, tokenizer.vocab_size)))
            for split in ("train", "valid")
        }
        ahead, batches = itertools.tee(_batched(parts))
        texts = ([part.text for _, part in batch] for batch in ahead)
        for encoded, batch in zip(encode_batches(texts, tokenizer, dtype), batches, strict=True):
            for (split, part), ids in zip(batch, encoded, strict=True):
                writers[split].write(part, np.append(ids, dtype.type(tokenizer.eos_id)) if part.ends_document else ids)
            if progress:
                progress(sum(len(part.text) for _, part in batch))
        summary = {split: asdict(writer.finish()) for split, writer in writers.items()}
        (temporary / SUMMARY).write_text(json.dumps({"dtype": dtype.name, **summary}), encoding="utf-8")


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


@dataclass(frozen=True)
class Batches:
    """Batches of a stream for truncated backpropagation through time; see the picture at the top.

    With a `seed` each epoch has its own order of documents and its own start, functions of (seed, epoch)
    alone. Without one the stream is read in order and every epoch is the same, as evaluation wants it: the
    last token, the end of a document, stands before the first.
    """

    stream: TokenStream
    batch_size: int  # B
    sequence_length: int  # T
    pad_id: int
    seed: int | None = None

    @property
    def row_length(self) -> int:
        """Tokens in each of the B rows; the last may be shorter."""
        return -(-len(self.stream) // self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""
        return -(-self.row_length // self.sequence_length)

    def epoch(
        self, epoch: int, first_step: int = 0, rows: slice = slice(None)
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The (inputs, targets) of one pass, each int32 [B, T], from batch `first_step` on; of some `rows` only."""
        ring = _Ring(self.stream, self.seed, epoch)
        for step in range(first_step, self.steps_per_epoch):
            wanted = range(self.batch_size)[rows]
            inputs = np.full((len(wanted), self.sequence_length), self.pad_id, np.int32)
            targets = inputs.copy()
            for place, row in enumerate(wanted):
                start = row * self.row_length + step * self.sequence_length
                end = min(start + self.sequence_length, (row + 1) * self.row_length, len(self.stream))
                if start < end:
                    ids = ring.read(start, end + 1)
                    inputs[place, : end - start] = ids[:-1]
                    targets[place, : end - start] = ids[1:]
            yield inputs, targets

    def dataset(
        self, epoch: int = 0, first_step: int = 0, *, rows: slice = slice(None), endless: bool = False
    ) -> tf.data.Dataset:
        """The same as a `tf.data` dataset, read ahead of the training step; `endless`: all later epochs too."""
        import tensorflow as tf

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield from self.epoch(epoch, first_step, rows)
            for later in itertools.count(epoch + 1) if endless else ():
                yield from self.epoch(later, rows=rows)

        shape = tf.TensorSpec((len(range(self.batch_size)[rows]), self.sequence_length), tf.int32)
        return tf.data.Dataset.from_generator(batches, output_signature=(shape, shape)).prefetch(4)


class _Ring:
    """A stream whose documents stand in another order and whose end is joined to its beginning."""

    def __init__(self, stream: TokenStream, seed: int | None, epoch: int) -> None:
        self._stream = stream
        if seed is None:
            self._starts, lengths = np.zeros(1, np.int64), np.array([len(stream)])
            self._offset = len(stream) - 1
        else:
            rng = np.random.default_rng((seed, epoch))
            ends = _block_ends(stream)
            order = rng.permutation(len(ends))
            starts = np.concatenate([[0], ends[:-1]])
            self._starts, lengths = starts[order], (ends - starts)[order]
            self._offset = int(rng.integers(len(stream)))
        self._borders = np.concatenate([[0], np.cumsum(lengths)])  # of the blocks, in their new places

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids at the ring's positions from `start` to before `stop`."""
        parts = []
        while start < stop:
            position = (start + self._offset) % len(self._stream)
            block = int(np.searchsorted(self._borders, position, side="right")) - 1
            length = min(stop - start, int(self._borders[block + 1]) - position)
            first = int(self._starts[block]) + position - int(self._borders[block])
            parts.append(self._stream.read(first, first + length))
            start += length
        return np.concatenate(parts)


def _block_ends(stream: TokenStream) -> np.ndarray:
    """Where the blocks end that are shuffled: documents, several together in a corpus of very many tokens."""
    ends = np.asarray(stream.document_ends)
    smallest = len(stream) // MAX_BLOCKS
    if smallest > 1 and len(ends):
        ends = ends[np.append(np.diff(ends // smallest) > 0, True)]
    return ends if len(ends) and ends[-1] == len(stream) else np.append(ends, len(stream))

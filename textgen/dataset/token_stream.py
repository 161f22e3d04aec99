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
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np

from textgen import storage
from textgen.corpus.corpus import Corpus, Part
from textgen.corpus.labels import MOST_LABELS
from textgen.corpus.source import reading
from textgen.dataset.cache_eviction import TOKENS, evict, limit_bytes
from textgen.dataset.parallel_encoding import encode_batches
from textgen.errors import CorpusError, TextgenError
from textgen.settings import MAX_VOCAB_SIZE, TrainingConfig
from textgen.storage import MANIFEST, TEMPORARY, Hold, cache_folder, new_folder, read_manifest, sweep_abandoned, writing
from textgen.tokenizer.tokenizer import Tokenizer

FORMAT = 5  # part of the cache's key: a change of what is written makes old caches unused
ENCODE_CHARACTERS = 1 << 20  # encoded at a time, by all cores
MANY_DOCUMENTS = 20  # from here on whole documents are held out, below it the end of each
LEAST_STRETCH = 40  # characters: the end of a document is held out only if it makes so many
NEAR = 500  # characters: how far from its place a document is cut, to cut between lines
VALID_BYTES = 4_000_000  # at most so much of a large corpus is held out
MAX_BLOCKS = 1 << 18  # that a long corpus is shuffled in: a few megabytes, however many documents there are
ENDS_READ = 1 << 20  # document ends that are in memory at a time
OPENING_TOKENS = (
    1 << 10
)  # a longer stretch without a document's beginning is opened somewhere; see `textgen.dataset.batches`
MAX_OPENINGS = 1 << 16  # in an epoch: in a very long corpus the stretches are longer
SPACING = 128  # tokens between two places of which one may be opened, at least
SENTENCE_ENDS = tuple(mark.encode() for mark in ".!?…。！？")
OPEN_FILES = 64
SUMMARY = "tokens.json"
MAX_JSON = 1 << 26  # bytes
MOST_PIECES = MAX_VOCAB_SIZE + MOST_LABELS + 1
NAMED = 3  # files of a corpus that the list of the cache shows
MISSING = "missing"
IDS, ENDS, OPENINGS, COUNTS = "", "-documents", "-openings", "-counts"  # what the files of a split end with

Progress = Callable[[int], None]  # told how many characters are done
Encode = Callable[[Iterable[Sequence[str]]], Iterator[list[np.ndarray]]]


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


@dataclass(frozen=True)
class TokenData:
    """A corpus, encoded and split."""

    train: TokenStream
    valid: TokenStream

    @classmethod
    def cached(cls, folder: Path) -> TokenData | None:
        """What an earlier run left in a cache folder, once its checksums agree; None where it is missing or damaged."""
        hold = Hold(folder)  # from before it is looked at until the streams hold it
        if not (folder / SUMMARY).exists() or problem_of(folder):
            return None
        with suppress(OSError):
            os.utime(folder)  # what was not used for longest is removed first
        with suppress(CorpusError):
            return cls(TokenStream(folder, "train"), TokenStream(folder, "valid"))
        del hold
        return None

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
    say: Callable[[str], None] = lambda line: None,
) -> TokenData:
    """Encodes `corpus`, holding out a share of it or, if `valid` is a corpus, that one for validation.

    The result is kept in `cache` (by default the user's cache folder; `say` is told where that is another) under a
    fingerprint of the text, the tokenizer and the split, and taken from there the next time. Raises `CorpusError`
    when one of the two splits would be empty, or when a file changes meanwhile.
    """
    held_out = valid.fingerprint() if isinstance(valid, Corpus) else f"{valid!r} {seed}"
    key = sha256(f"{FORMAT} {corpus.fingerprint()} {tokenizer.fingerprint()} {held_out}".encode()).hexdigest()
    shelf, limit = (cache or cache_folder(say)) / TOKENS, limit_bytes()
    folder = shelf / key[:32]
    data = TokenData.cached(folder)
    if data is None:
        sweep_abandoned(shelf, TEMPORARY)
        facts = {"corpus": ", ".join(path.name for path in corpus.files[:NAMED])}
        encode_parts(_split_parts(corpus, valid, seed, tokenizer), tokenizer, folder, progress, facts)
        data = TokenData(TokenStream(folder, "train"), TokenStream(folder, "valid"))
        evict(shelf, limit)
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


def _split_parts(corpus: Corpus, valid: Corpus | float, seed: int, tokenizer: Tokenizer) -> Iterator[tuple[str, Part]]:
    """Each part of the corpus with the split it belongs to."""
    if isinstance(valid, Corpus):
        yield from (("train", part) for part in corpus.parts())
        yield from (("valid", part) for part in valid.parts())
        valid.require_unchanged()
    else:
        yield from hold_out(corpus.parts, valid, str(seed), frozenset(tokenizer.labels))
    corpus.require_unchanged()


def share_to_hold_out(size: int) -> float:
    """The share of a corpus of `size` bytes that is held out when nobody says how much."""
    return min(TrainingConfig.valid_fraction, VALID_BYTES / max(1, size))


def hold_out(
    read: Callable[[], Iterable[Part]], fraction: float, seed: str, labels: Container[str] = ()
) -> Iterator[tuple[str, Part]]:
    """Each part that `read` gives with the split it belongs to.

    Of many documents whole ones are held out, one, drawn by lot, of each run of 1/fraction. Of less than
    `MANY_DOCUMENTS`, or than two for each of the `labels` that they have, the end of each is held out, so that there
    is none of which nothing is learned; those too short to be cut are learned whole, unless all are: then whole ones
    are held out here, too. `read` is called twice: the first time for as many documents as it takes to choose.
    """
    enough = max(round(1 / fraction), MANY_DOCUMENTS)
    sizes, seen = _look_ahead(read(), enough, labels)
    stretches = [int(size * fraction) for size in sizes]
    few = len(sizes) < max(MANY_DOCUMENTS, 2 * len(seen))
    if few and (max(stretches, default=0) >= LEAST_STRETCH or len(sizes) < 2):
        least = min(LEAST_STRETCH, max(stretches, default=0))
        lengths = [max(1, stretch) if stretch >= least else 0 for stretch in stretches]
        yield from _split_ends(read(), sizes, lengths)
    else:
        yield from _split_by_document(read(), max(fraction, 1 / len(sizes)), seed, labels)


def _look_ahead(parts: Iterable[Part], enough: int, labels: Container[str]) -> tuple[list[int], set[str]]:
    """How many characters documents have, and which of the `labels`; of all documents, or of enough to choose."""
    sizes, seen, inside = list[int](), set[str](), False
    for part in parts:
        if inside:
            sizes[-1] += len(part.text)
        elif len(sizes) >= max(enough, 2 * len(seen)):
            break
        else:
            sizes.append(len(part.text))
            if part.label in labels:
                seen.add(cast(str, part.label))
        inside = not part.ends_document
    return sizes, seen


def _split_by_document(
    parts: Iterable[Part], fraction: float, seed: str, labels: Container[str]
) -> Iterator[tuple[str, Part]]:
    """Holds out one document, drawn by lot, of each 1/fraction of them; where that is no whole number, on average.

    The first document of each of the `labels` is never held out: the next one of its run is, if there is one.
    """
    document = runs = end = chosen = 0
    seen, inside = set[str | None](), False
    for part in parts:
        if document == end:
            runs += 1
            end = int(runs / fraction + 1e-6)
            chosen = document + random.Random(f"{seed}-{document}").randrange(end - document)
        if document == chosen and not inside and part.label in labels and part.label not in seen:
            chosen += 1  # past the end of the run if need be: then none of it is held out
        if part.label in labels:
            seen.add(part.label)
        yield ("valid" if document == chosen else "train"), part
        document += part.ends_document
        inside = not part.ends_document


def _split_ends(parts: Iterable[Part], sizes: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[str, Part]]:
    """Holds out about the last `lengths` characters of documents of `sizes` characters: none of those of length 0."""
    document = place = 0  # place: in the document
    known = list(zip(sizes, lengths, strict=True))
    for part in parts:
        size, length = known[document] if document < len(known) else (0, 0)  # the corpus may have grown meanwhile
        left = size - length - place  # characters of this part that go before the cut
        if not length or left > len(part.text):
            yield "train", part
        elif left <= 0:
            yield "valid", part
        else:
            cut = _cut_near(part.text, left, min(NEAR, length // 2, (size - length) // 2))
            yield "train", replace(part, text=part.text[:cut], ends_document=False, is_cut=True)
            if cut < len(part.text):
                yield "valid", replace(part, text=part.text[cut:])
        document, place = (document + 1, 0) if part.ends_document else (document, place + len(part.text))


_BORDERS = (r"\n\s*\n", r"\n", r"[.!?…][\"'”’»)]*\s+|[。！？]", r"\s+")  # paragraphs, lines, sentences, words


def _cut_near(text: str, place: int, distance: int) -> int:
    """Where to cut `text` at most `distance` from `place`, from 1 to its length: between paragraphs, if there are two.

    Else it is between lines, sentences or words, whichever is found first, or at the place itself.
    """
    low, high = max(0, place - distance), min(len(text), place + distance)
    for border in _BORDERS:
        ends = [low + match.end() for match in re.finditer(border, text[low:high])]
        if ends:
            return min(ends, key=lambda end: abs(end - place))
    return place


class _SplitWriter:
    """Writes the ids, their ends, the places where a text may open, and the counts of one split."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer, dtype: np.dtype) -> None:
        self._folder, self._split, self._dtype = folder, split, dtype
        self._tokenizer = tokenizer
        self._eos = np.array([tokenizer.eos_id])
        labels = (None, *tokenizer.labels) if tokenizer.labels else ()
        self._openings = {label: np.array(tokenizer.opening(label)[1:]) for label in labels}  # of documents
        self._first_label = tokenizer.first_label
        self._places = Places(tokenizer)
        self._inside = False  # a document
        self._counts = np.zeros(tokenizer.vocab_size, np.int64)
        self._files = {name: (folder / f"{split}{name}.bin").open("wb") for name in (IDS, ENDS, OPENINGS)}
        self._tokens = self._documents = self._ends = self._characters = self._bytes = self._words = 0
        self._unknown_words = self._spelling = self._lost_bytes = 0

    def write(self, parts: Sequence[Part], encoded: Sequence[np.ndarray]) -> None:
        """Appends parts and their ids; where a document begins or ends, the piece that says so is added.

        What goes on in the middle of a document is given its label, too.
        """
        if not parts:
            return
        pieces: list[np.ndarray] = []
        ends, openings, end = list[int](), list[np.ndarray](), self._tokens
        for part, ids in zip(parts, encoded, strict=True):
            opening = self._openings.get(part.label, self._openings.get(None))
            if opening is not None and not self._inside:
                pieces.append(opening)
                end += 1
            if self._inside or not part.ends_document or len(ids) >= OPENING_TOKENS:  # quick for many short documents
                openings.append(self._places.openings(ids, end, -1 if opening is None else int(opening[0])))
            pieces.append(ids)
            end += len(ids)
            if part.ends_document or part.is_cut:
                pieces.append(self._eos)
                end += 1
                ends.append(end)
            self._inside = not (part.ends_document or part.is_cut)
        self._append(pieces, ends, openings)
        text = "\n".join(part.text for part in parts)
        newlines = len(parts) - 1  # those between the parts
        self._documents += sum(part.ends_document for part in parts)
        self._characters += len(text) - newlines
        self._bytes += len(text.encode()) - newlines
        self._words += len(text.split()) + len(ends)
        spelling = self._tokenizer.spelling(text)
        self._unknown_words += len(spelling)
        self._spelling += sum(spelling)
        self._lost_bytes += self._tokenizer.lost_bytes(text)

    def _append(self, pieces: Sequence[np.ndarray], ends: Sequence[int], openings: Sequence[np.ndarray]) -> None:
        ids = np.concatenate(pieces, dtype=self._dtype, casting="unsafe")
        ids.tofile(self._files[IDS])
        np.array(ends, np.int64).tofile(self._files[ENDS])
        for places in openings:
            places.tofile(self._files[OPENINGS])
        self._counts += np.bincount(ids, minlength=len(self._counts))
        self._counts[self._first_label :] = 0
        self._tokens += len(ids)
        self._ends += len(ends)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def finish(self) -> SplitSummary:
        """Closes what is still open, writes the counts, and sums up."""
        if self._inside:  # the document goes on in another shard
            self._append([self._eos], [self._tokens + 1], [])
            self._words += 1
        self._counts.tofile(self._folder / f"{self._split}{COUNTS}.bin")
        return SplitSummary(
            self._tokens,
            self._documents,
            self._ends,
            self._characters,
            self._bytes,
            self._words,
            self._unknown_words,
            self._spelling,
            self._lost_bytes,
        )


class Places:
    """Where inside a document a text may be begun to be read, as if it opened there.

    Those are the beginnings of paragraphs; where these are few, those of lines, of sentences, or of any characters.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.piece_bytes
        self._ends_line = np.array([piece.endswith(b"\n") for piece in pieces])
        self._ends_paragraph = np.array([piece.endswith(b"\n\n") for piece in pieces])
        self._ends_sentence = np.array([piece.endswith(SENTENCE_ENDS) for piece in pieces])
        self._inside_character = np.array([piece[:1] >= b"\x80" and piece[:1] < b"\xc0" for piece in pieces])

    def openings(self, ids: np.ndarray, start: int, label: int) -> np.ndarray:
        """Of ids [N] that begin at `start` of a stream: (position, `label`) int64 [n, 2], `SPACING` and more apart."""
        line, least = self._ends_line[ids], len(ids) // OPENING_TOKENS
        found = np.flatnonzero(self._ends_paragraph[ids[:-1]] | (line[:-1] & np.append(False, line[:-2]))) + 1
        for flags in (line, self._ends_sentence[ids], ~np.append(self._inside_character[ids[1:]], True)):
            if len(found) > least:
                break
            found = np.flatnonzero(flags[:-1]) + 1
        found = found[np.diff(found // SPACING, prepend=-1) > 0] + start
        return np.stack([found, np.full_like(found, label)], axis=1)


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
    with new_folder(folder) as temporary, ExitStack() as files:
        with writing(folder):
            writers = {
                split: files.enter_context(closing(_SplitWriter(temporary, split, tokenizer, dtype)))
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
            description = {"dtype": dtype.name, "eos": tokenizer.eos_id, "first_label": first_label}
            (temporary / SUMMARY).write_text(json.dumps({**description, **(facts or {}), **summary}), encoding="utf-8")


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

"""Small token streams whose every id is known, and what is in them and in batches of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.tokenizer.tokenizer import Tokenizer

PAD, EOS, FIRST = 0, 2, 3
Batch = tuple[np.ndarray, np.ndarray]


class NumberTokenizer(Tokenizer):
    """Texts are numbers, and a number is its own id, so that each token can be told from all others."""

    def __init__(self, vocab_size: int = 1000) -> None:
        super().__init__("byte", [b""] * vocab_size, b"")

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        return [[int(number) for number in text.split()] for text in texts]

    def _extended(self, more: Sequence[str]) -> Tokenizer:
        raise NotImplementedError

    def _printed_pieces(self) -> list[str]:
        raise NotImplementedError


def corpus_of(folder: Path, documents: Sequence[str], name: str = "text.txt") -> Corpus:
    """One document a line."""
    path = folder / name
    path.write_text("\n".join(documents), encoding="utf-8")
    return Corpus([path], CorpusConfig(documents="line"))


def numbered(lengths: Sequence[int]) -> list[list[int]]:
    """Documents of distinct ids, each with its end."""
    ids = iter(range(FIRST, FIRST + sum(lengths)))
    return [[*islice(ids, length), EOS] for length in lengths]


def stream_in(folder: Path, documents: Sequence[Sequence[int]], vocab_size: int = 1000) -> TokenStream:
    lines = [" ".join(map(str, document[:-1])) for document in documents]
    return encode_corpus(corpus_of(folder, lines), NumberTokenizer(vocab_size), folder / "stream")


@contextmanager
def stream_of(lengths: Sequence[int]) -> Iterator[TokenStream]:
    """For property tests, whose examples share one `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        yield stream_in(Path(folder), numbered(lengths))


def restarted(inputs: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """Inputs [B, T] without marks, and the state, arrays [B, ...] in tuples, which is zeros in the marked rows."""

    def of(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return np.where((inputs[:, 0] < 0).reshape(-1, *[1] * (part.ndim - 1)), 0.0, part)
        return type(part)(of(each) for each in part)

    return unmarked(inputs), of(state)


def unmarked(inputs: np.ndarray) -> np.ndarray:
    """The ids, also of marked inputs."""
    return np.where(inputs < 0, ~inputs, inputs)


def ring_of(batches: Sequence[Batch]) -> np.ndarray:
    """The inputs in their order: row after row, without padding."""
    inputs = np.concatenate([inputs for inputs, _ in batches], axis=1)
    return inputs[inputs != PAD]


def documents_in(ring: np.ndarray) -> list[tuple[int, ...]]:
    """The documents of a ring, from the first that begins in it on."""
    start = int(np.flatnonzero(ring == EOS)[0]) + 1
    found: list[list[int]] = [[]]
    for id in np.roll(ring, -start).tolist():
        found[-1].append(id)
        if id == EOS:
            found.append([])
    assert found.pop() == []
    return [tuple(document) for document in found]


def ends_of(stream: TokenStream) -> list[int]:
    return [end for ends in stream.document_ends() for end in ends.tolist()]


def texts_of(stream: TokenStream, tokenizer: Tokenizer) -> list[str]:
    """The documents of a split, and what is after the last end if that is a piece of one."""
    ids, starts = stream.read(0, len(stream)), [0, *ends_of(stream)]
    assert all(ids[end - 1] == tokenizer.eos_id for end in starts[1:])
    if starts[-1] != len(stream):
        starts.append(len(stream))
    return [tokenizer.decode(ids[start:end].tolist()) for start, end in pairwise(starts)]

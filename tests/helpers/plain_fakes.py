"""A model in a few lines of NumPy: its answers depend on all that it has read, and on nothing else to the last bit."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np

from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

State = tuple[tuple[np.ndarray], np.ndarray]  # of an odd shape on purpose: a nest of arrays with the row first


class TableModel:
    """Looks its logits up by the last piece and the sum of all that were read before it."""

    exact = False

    def __init__(self, vocab_size: int, seed: int = 0, scale: float = 2.0) -> None:
        self.tables = np.random.default_rng(seed).normal(0, scale, (7, vocab_size, vocab_size)).astype(np.float32)
        self.batch_sizes: list[int] = []  # of each step
        self.read_sizes: list[tuple[int, ...]] = []  # rows and tokens of each read

    def initial_state(self, batch_size: int) -> State:
        return (np.zeros((batch_size, 1), np.int64),), np.zeros((batch_size, 3), np.float32)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        self.read_sizes.append(inputs.shape)
        ((total,), other) = state
        return (total + inputs.sum(axis=1, keepdims=True),), other + inputs.shape[1]

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        self.batch_sizes.append(len(ids))
        ((total,), other) = state
        return self.tables[total[:, 0] % 7, ids], ((total + ids[:, None],), other + 1)

    def log_probs(self, ids: Sequence[int]) -> np.ndarray:
        """Of each piece that may follow `ids`, [V], float64."""
        logits = self.tables[sum(ids[:-1]) % 7, ids[-1]].astype(np.float64)
        return logits - np.log(np.exp(logits).sum())


def writable(tokenizer: Tokenizer, ids: Iterable[int]) -> np.ndarray:
    """Which pieces may follow `ids`, by Python's decoder: no labels, and no bytes that would break a character. [V]."""
    written = b"".join(tokenizer.piece_bytes[id] for id in ids)
    decoder = codecs.getincrementaldecoder("utf-8")()
    decoder.decode(written)
    allowed = _continuing(tuple(tokenizer.piece_bytes), decoder.getstate()[0]).copy()
    allowed[tokenizer.never_written] = False
    return allowed


@lru_cache(1000)
def _continuing(pieces: tuple[bytes, ...], unfinished: bytes) -> np.ndarray:
    return np.array([_is_text(unfinished + piece) if piece else not unfinished for piece in pieces])


def _is_text(data: bytes) -> bool:
    """Whether some bytes make a text of it. (The incremental decoder sees only at the third byte what ED A0 is.)"""
    for ending in (b"", *(bytes([byte]) + b"\x80" * more for byte in (0x80, 0x90, 0xA0) for more in range(3))):
        with suppress(UnicodeDecodeError):
            (data + ending).decode()
            return True
    return False


class Recital:
    """Recites ids by heart, from the first piece that it reads on."""

    exact = False

    def __init__(self, ids: Sequence[int], vocab_size: int) -> None:
        self.logits = np.where(np.arange(vocab_size) == np.array(ids)[:, None], 100.0, 0.0).astype(np.float32)

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros(batch_size, np.int64)

    def read(self, inputs: np.ndarray, state: Any) -> Any:
        return state + inputs.shape[1]

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        return self.logits[state % len(self.logits)], state + 1


class WordsTokenizer(ByteTokenizer):
    """Bytes, and above them pieces of several characters; the longest that fits is taken, from the left."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.piece_bytes = [*self.piece_bytes, *[word.encode() for word in words]]
        self._words = sorted(((word, number) for number, word in enumerate(words, 259)), key=lambda w: -len(w[0]))

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            word, id = next(((w, n) for w, n in self._words if text.startswith(w)), ("", 0))
            ids += [id] if word else super().encode_batch([text[0]])[0]
            text = text[len(word or text[0]) :]
        return ids

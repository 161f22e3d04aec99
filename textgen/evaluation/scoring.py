"""How probable a model finds a text: log probability, surprisal of each piece, perplexity, bits a byte.

A text is scored as `textgen.evaluation.evaluator` scores a document: it opens after the end of another and is closed by
an end of its own. Log probabilities are in nats; a surprisal is -log2 p(piece | all before it), in bits. That of a word
which a vocabulary of words does not know contains what it costs to spell it (see `textgen.tokenizer.spelling`), as do
log probability and bits a byte; nats and perplexity a token are of the pieces alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from textgen.tokenizer.spelling import NAT
from textgen.tokenizer.tokenizer import Tokenizer

BATCH = 32  # texts scored side by side
AHEAD_TEXTS = 512  # read before they are sorted into batches of like length ...
AHEAD_CHARACTERS = 1 << 20  # ... unless they are long
WINDOW_LOGITS = 1 << 23  # at once, B * T * V


class Model(Protocol):
    """A model, as far as scoring goes: `textgen.model.numpy_model.NumpyModel`."""

    def initial_state(self, batch_size: int) -> Any:
        """The state of texts that have read nothing."""

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """inputs, targets int32 [B, T], state before them -> nats [B, T] of each target, state after them."""


@dataclass(frozen=True)
class Score:
    """How well some text was predicted. Scores add up."""

    nats: float = 0.0
    tokens: int = 0  # the end of each document included
    bytes: int = 0  # of text, in UTF-8, without white space that the vocabulary loses
    unknown_words: int = 0  # of a vocabulary of words
    spelling: float = 0.0  # of the nats, those for spelling them

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def nats_per_token(self) -> float:
        """Depends on the vocabulary, as perplexity does; 0 where there is no token."""
        return (self.nats - self.spelling) / max(self.tokens, 1)

    @property
    def bits_per_byte(self) -> float:
        """Compares models with different vocabularies."""
        return self.nats / math.log(2) / max(self.bytes, 1)

    def to_dict(self) -> dict[str, float]:
        """The scores under the names of `textgen score --json`."""
        return {
            "log_probability": -self.nats,
            "nats_per_token": self.nats_per_token,
            "perplexity_per_token": perplexity(self.nats_per_token),
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "bytes": self.bytes,
            **({"unknown_words": self.unknown_words} if self.unknown_words else {}),
        }


@dataclass(frozen=True)
class TextScore:
    """One text, piece by piece."""

    text: str
    ids: tuple[int, ...]  # of the pieces, and where it counts the end of the document: last, but first read backward
    surprisal: np.ndarray  # bits, float64, one for each id
    spelling: tuple[float, ...] = ()  # of these bits, those for spelling each unknown word
    lost_bytes: int = 0  # of white space that the vocabulary loses

    @property
    def total(self) -> Score:
        """The score of the whole text."""
        return Score(
            nats=float(self.surprisal.sum()) * math.log(2),
            tokens=len(self.ids),
            bytes=len(self.text.encode()) - self.lost_bytes,
            unknown_words=len(self.spelling),
            spelling=sum(self.spelling) * math.log(2),
        )


class Scorer:
    """Scores texts with a model and its tokenizer. Keeps nothing between calls, so that threads may share it."""

    def __init__(self, model: Model, tokenizer: Tokenizer, direction: str = "forward") -> None:
        """A model that reads `backward` is shown each text from its end, and then the end of the one before."""
        self.direction = direction
        self.model = model
        self.tokenizer = tokenizer

    def score(self, text: str, *, ends: bool = True, label: str | None = None) -> TextScore:
        """The score of one text; see `scores`."""
        (score,) = self.scores([text], ends=ends, label=label)
        return score

    def scores(self, texts: Iterable[str], *, ends: bool = True, label: str | None = None) -> Iterator[TextScore]:
        """The scores of the texts, in order, as they come; each is read by itself.

        With `ends` a text is a whole document, whose end is one more piece; without, it may go on. Texts of like
        length share a batch. With a `label` they are scored as texts of that label, which itself costs nothing.
        Raises `TokenizerError` for what is not valid text and `ConfigError` for a label that the model does not know.
        """
        opening = self.tokenizer.opening(label)
        for group in in_groups(texts):
            rows = self.tokenizer.encode_batch(group)
            if self.direction == "backward":
                rows = [ids[::-1] for ids in rows]
            if ends:
                rows = [[*ids, self.tokenizer.eos_id] for ids in rows]
            surprisals: dict[int, np.ndarray] = {}
            for batch in of_like_length(rows):
                surprisals.update(zip(batch, self._surprisals([rows[row] for row in batch], opening), strict=True))
            for row, text in enumerate(group):
                turn = slice(None, None, -1 if self.direction == "backward" else 1)
                ids, bits = rows[row][turn], surprisals[row][turn]
                spelling = self.spelling(text)
                if spelling:
                    bits[np.array(ids) == self.tokenizer.unk_id] += spelling
                yield TextScore(text, tuple(ids), bits, tuple(spelling), self.tokenizer.lost_bytes(text))

    def spelling(self, text: str) -> list[float]:
        """Bits for spelling each word of a text that the vocabulary does not know, in order."""
        return [cost / NAT / math.log(2) for cost in self.tokenizer.spelling(text)]

    def read(self, before: int, ids: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
        """Goes on with one text: the piece before `ids`, which has not been read, and the state before that one.

        Returns the surprisals of `ids` in bits and the state before the last of them.
        """
        bits, state = self._read(np.array([[before, *ids]], np.int32), state)
        return bits[0], state

    def _surprisals(self, rows: Sequence[Sequence[int]], opening: Sequence[int]) -> list[np.ndarray]:
        """The surprisals of each of B texts after their opening; they are filled up to the longest."""
        before, length = len(opening), max(map(len, rows))
        ids = np.full((len(rows), before + length), self.tokenizer.pad_id, np.int32)
        for row, values in enumerate(rows):
            ids[row, : before + len(values)] = [*opening, *values]
        bits, _ = self._read(ids, self.model.initial_state(len(rows)))
        return [row_bits[before - 1 :][: len(values)] for row_bits, values in zip(bits, rows, strict=True)]

    def _read(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """ids [B, 1 + N], of which the first of a row is not scored -> bits [B, N], state before the last ids."""
        batch_size, length = ids.shape
        window = max(1, WINDOW_LOGITS // (batch_size * self.tokenizer.vocab_size))  # T
        bits = np.zeros((batch_size, length - 1))
        for start in range(0, length - 1, window):
            end = min(start + window, length - 1)
            nats, state = self.model.token_losses(ids[:, start:end], ids[:, start + 1 : end + 1], state)
            bits[:, start:end] = nats / math.log(2)
        return bits, state


def perplexity(nats: float) -> float:
    """exp(nats), infinite where that overflows."""
    return math.exp(nats) if nats < 700 else math.inf


def of_like_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of all rows, the shortest first, at most `BATCH` at a time."""
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    return (by_length[start : start + BATCH] for start in range(0, len(rows), BATCH))


def in_groups(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, as many at a time as may be read ahead."""
    group: list[str] = []
    characters = 0
    for text in texts:
        group.append(text)
        characters += len(text)
        if len(group) == AHEAD_TEXTS or characters >= AHEAD_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group

"""How probable a model finds a text: log probability, surprisal of each token, perplexity, bits per byte.

A text is scored as `textgen.evaluation.evaluator` scores a document: after the end of another document, and closed by
an end of its own. Log probabilities are in nats; a surprisal is -log2 p(token | all before it), in bits. The surprisal
of a word that a word vocabulary does not know includes the cost of spelling it (see `textgen.tokenizer.spelling`), and
so do log probability and bits per byte; nats and perplexity per token count tokens only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from textgen.arguments import check_is_text, several_texts
from textgen.model.protocols import ScoringModel
from textgen.tokenizer.spelling import NAT
from textgen.tokenizer.tokenizer import Tokenizer

BATCH = 32  # texts scored side by side
PADDED = 2  # maximum number of tokens of a batch with padding, as a multiple of the tokens of its texts
AHEAD_TEXTS = 512  # texts read before they are sorted into batches of similar length ...
AHEAD_CHARACTERS = 1 << 20  # ... or fewer if they have this many characters
WINDOW_LOGITS = 1 << 23  # logits computed at once, B * T * V


@dataclass(frozen=True)
class Score:
    """How well some text was predicted. Scores can be added.

    Attributes:
        nats: Total loss, including the cost of spelling unknown words.
        tokens: Number of tokens, including the end of each document.
        bytes: Bytes of UTF-8 text, without white space that the vocabulary loses.
        unknown_words: Words that a word vocabulary does not know.
        spelling: The part of `nats` that spelling them costs.

    Example:
        >>> (Score(nats=2.0, tokens=2) + Score(nats=4.0, tokens=1)).nats_per_token
        2.0
    """

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    unknown_words: int = 0
    spelling: float = 0.0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def nats_per_token(self) -> float:
        """Mean loss in nats per token, without spelling; depends on the vocabulary. 0 if there are no tokens."""
        return (self.nats - self.spelling) / max(self.tokens, 1)

    @property
    def bits_per_byte(self) -> float:
        """Loss in bits per byte of text; comparable between vocabularies for the same documents."""
        return self.nats / math.log(2) / max(self.bytes, 1)

    def to_dict(self) -> dict[str, float]:
        """Returns the scores under the names of `textgen score --json`."""
        return {
            "log_probability": -self.nats,
            "nats_per_token": self.nats_per_token,
            "perplexity_per_token": perplexity(self.nats_per_token),
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "bytes": self.bytes,
            **({"unknown_words": self.unknown_words} if self.unknown_words else {}),
        }


@dataclass(frozen=True, eq=False)
class TextScore:
    """The score of one text, token by token.

    Attributes:
        text: The text.
        ids: Its tokens in the order of the text. If the end of the document is scored, it comes last, or first if the
            network reads backward.
        surprisal: Surprisal of each token in bits, float64 [N].
        spelling: The part of these bits that spelling costs, for each unknown word.
        lost_bytes: Bytes of white space that the vocabulary loses.
    """

    text: str
    ids: tuple[int, ...]
    surprisal: np.ndarray
    spelling: tuple[float, ...] = ()
    lost_bytes: int = 0

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
    """Scores texts with a model and its tokenizer. Keeps nothing between calls, so threads may share it.

    Attributes:
        model: The network.
        tokenizer: Its tokenizer.
        direction: The direction in which it reads.
    """

    def __init__(self, model: ScoringModel, tokenizer: Tokenizer, direction: str = "forward") -> None:
        """Makes a scorer.

        Args:
            model: The network.
            tokenizer: Its tokenizer.
            direction: "forward", or "backward" for a network that reads each text from its end.
        """
        self.direction = direction
        self.model = model
        self.tokenizer = tokenizer

    def score(self, text: str, *, ends: bool = True, label: str | None = None) -> TextScore:
        """Scores one text: see `scores`."""
        (score,) = self.scores([text], ends=ends, label=label)
        return score

    def scores(self, texts: str | Iterable[str], *, ends: bool = True, label: str | None = None) -> Iterator[TextScore]:
        """Scores texts, each on its own. Texts of similar length share a batch.

        Args:
            texts: The texts, from a source of any length, or one.
            ends: Whether each text is a whole document, whose end is scored too.
            label: The label of the documents, which itself costs nothing.

        Yields:
            The scores, in order.

        Raises:
            ConfigError: The model does not know the label, or one of the texts is not a string.
            TokenizerError: A text is not valid text.
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
        """Returns the bits that spelling costs for each word that the vocabulary does not know, in order."""
        return [cost / NAT / math.log(2) for cost in self.tokenizer.spelling(text)]

    def read(self, before: int, ids: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
        """Continues one text.

        Args:
            before: The token before `ids`, which has not been read.
            ids: The tokens to score.
            state: The state before `before`.

        Returns:
            The surprisal of each of `ids` in bits, and the state before the last of them.
        """
        bits, state = self._read(np.array([[before, *ids]], np.int32), state)
        return bits[0], state

    def _surprisals(self, rows: Sequence[Sequence[int]], opening: Sequence[int]) -> list[np.ndarray]:
        """The surprisals of B texts after their opening; rows are padded to the longest."""
        before, length = len(opening), max(map(len, rows))
        ids = np.full((len(rows), before + length), self.tokenizer.pad_id, np.int32)
        for row, values in enumerate(rows):
            ids[row, : before + len(values)] = [*opening, *values]
        bits, _ = self._read(ids, self.model.initial_state(len(rows)))
        return [row_bits[before - 1 :][: len(values)] for row_bits, values in zip(bits, rows, strict=True)]

    def _read(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Scores ids [B, 1 + N] except the first one of each row, which is given.

        Returns:
            Surprisals in bits [B, N], and the state before the last ids.
        """
        batch_size, length = ids.shape
        window = max(1, WINDOW_LOGITS // (batch_size * self.tokenizer.vocab_size))  # T
        bits = np.zeros((batch_size, length - 1))
        for start in range(0, length - 1, window):
            end = min(start + window, length - 1)
            nats, state = self.model.token_losses(ids[:, start:end], ids[:, start + 1 : end + 1], state)
            bits[:, start:end] = nats / math.log(2)
        return bits, state


def perplexity(nats: float) -> float:
    """Returns exp(nats), or infinity where that overflows."""
    return math.exp(nats) if nats < 700 else math.inf


def of_like_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yields the numbers of all rows in batches of at most `BATCH`, the shortest rows of a batch first.

    A batch whose rows are padded to the longest has at most `PADDED` times as many tokens as its rows.
    """
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(rows), BATCH):
        batch = by_length[start : start + BATCH]
        while batch:
            longest, tokens, size = len(rows[batch[-1]]), 0, 0
            for row in reversed(batch):
                if (size + 1) * longest > PADDED * (tokens + len(rows[row])):
                    break
                tokens, size = tokens + len(rows[row]), size + 1
            yield batch[-size:]
            del batch[-size:]


def in_groups(texts: str | Iterable[str]) -> Iterator[list[str]]:
    """Yields texts, or one, in lists, as many at a time as may be read ahead. Raises `ConfigError` for what is none."""
    group: list[str] = []
    characters = 0
    for number, text in enumerate(several_texts("texts", texts)):
        check_is_text(f"texts[{number}]", text)
        group.append(text)
        characters += len(text)
        if len(group) == AHEAD_TEXTS or characters >= AHEAD_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group

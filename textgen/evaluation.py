"""How well a model predicts a text: nats a token, bits a byte, perplexity a token and a word.

Nats a token depend on the tokenizer; bits a byte do not, so they compare models with different vocabularies.
Perplexity a word is exp(total nats / words), where the end of each document counts as a word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from textgen.batches import Batches
from textgen.model import LanguageModel
from textgen.runtime import join_states, shard_rows
from textgen.scoring import perplexity
from textgen.tokens import TokenStream

ROWS = 32  # streams scored side by side, at most
ROW_TOKENS = 4096  # at least: the first tokens of a row lack what stands before them
WINDOW = 64  # T


@dataclass(frozen=True)
class Scores:
    """How well a text was predicted; the names are those of `textgen evaluate --json`."""

    nats_per_token: float
    bits_per_byte: float
    perplexity_per_token: float
    perplexity_per_word: float
    tokens: int
    bytes: int
    words: int


class Evaluator:
    """Scores token streams with a model; compiled once, whatever the number of calls."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._losses = tf.function(self._window_losses)

    def nats(self, stream: TokenStream, max_tokens: int | None = None) -> tuple[float, int]:
        """Total nats of a stream, or of about `max_tokens` spread over it, and how many tokens they are of."""
        rows = max(1, min(ROWS, len(stream) // ROW_TOKENS))
        batches = Batches(stream, rows, min(WINDOW, len(stream)), self._model.pad_id)
        steps = batches.steps_per_epoch
        if max_tokens is not None:
            steps = min(steps, max(1, round(max_tokens / (rows * batches.sequence_length))))
        state, total, tokens = self._model.initial_state(rows), 0.0, 0
        for _, (inputs, targets) in zip(range(steps), batches.dataset(epoch=0), strict=False):
            nats, count, state = self._losses(inputs, targets, state)
            total += float(nats)
            tokens += int(count)
        return total, tokens

    def scores(self, stream: TokenStream, max_tokens: int | None = None) -> Scores:
        """All scores; with `max_tokens` they are estimated from a part of the stream."""
        nats, tokens = self.nats(stream, max_tokens)
        share = tokens / len(stream)
        size, words = stream.summary.bytes * share, stream.summary.words * share
        return Scores(
            nats_per_token=nats / tokens,
            bits_per_byte=nats / math.log(2) / max(size, 1),
            perplexity_per_token=perplexity(nats / tokens),
            perplexity_per_word=perplexity(nats / max(words, 1)),
            tokens=tokens,
            bytes=round(size),
            words=round(words),
        )

    def _window_losses(self, inputs: tf.Tensor, targets: tf.Tensor, state: Any) -> tuple[Any, ...]:
        """One window: inputs, targets [B, T] -> sum of nats, tokens counted, state."""
        nats, states = [], []
        for rows in shard_rows(inputs.shape[0]):
            shard_state = tf.nest.map_structure(lambda array, rows=rows: array[rows], state)
            features, shard_state = self._model.features(inputs[rows], shard_state)
            nats.append(tf.reduce_sum(self._model.token_losses(features, targets[rows])))
            states.append(shard_state)
        count = tf.math.count_nonzero(targets != self._model.pad_id)
        return tf.add_n(nats), count, join_states(states)

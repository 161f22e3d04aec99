"""How well a model predicts a text: nats a token, bits a byte, perplexity a token and a word.

Nats a token depend on the tokenizer; bits a byte do not, so they compare models with different vocabularies.
Perplexity a word is exp(total nats / words), where the end of each document counts as a word.

A vocabulary of words has one piece for all that it does not know, and loses white space. So that a model does not score
better the less it says, bits a byte and perplexity a word contain what it costs to spell the unknown words (see
`textgen.tokenizer.spelling`), and white space that is lost is none of the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from textgen.dataset.batches import Batches
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError
from textgen.evaluation.config import CacheConfig, DynamicConfig
from textgen.evaluation.dynamic_evaluation import Learner
from textgen.evaluation.neural_cache import NeuralCache
from textgen.evaluation.scoring import perplexity
from textgen.model.language_model import LanguageModel
from textgen.model.sharding import join_states, shard_rows
from textgen.tokenizer.spelling import NAT

ROWS = 32  # streams scored side by side, at most
ROW_TOKENS = 4096  # at least: the first tokens of a row lack what stands before them
WINDOW = 64  # T

Losses = Callable[[np.ndarray, np.ndarray, Any], tuple[tf.Tensor, tf.Tensor, Any]]  # see `_compiled_losses`


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
    unknown_words: int | None = None  # of the words, where the vocabulary has words; their spelling is charged
    backward_nats_per_token: float | None = None  # of a network of both directions, whose other scores are forward's

    def to_dict(self) -> dict[str, float]:
        """The scores that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Evaluator:
    """Scores token streams with a model, or with several; compiled once, whatever the number of calls."""

    def __init__(
        self,
        model: LanguageModel,
        cache: CacheConfig | None = None,
        dynamic: DynamicConfig | None = None,
        beside: Sequence[LanguageModel] = (),
    ) -> None:
        """With a `cache`, or `dynamic` evaluation, a stream is read as one row, so that all that came counts.

        With models `beside` the first, of the same vocabulary, a piece has the mean of the probabilities that all
        give it, each with a cache and weights of its own. Raises `ConfigError` for any of this and a network of both
        directions: score its forward part, `ModelFolder.network("forward")`.
        """
        if (cache or dynamic or beside) and model.config.direction == "both":
            raise ConfigError("A cache, dynamic evaluation and means of models are for one direction, not for both.")
        self._models = [model, *beside]
        self._cache = NeuralCache(cache) if cache else None
        self._learners = [Learner(each, dynamic) for each in self._models if dynamic]
        self._losses: list[Losses] = [learner.read for learner in self._learners]
        self._losses = self._losses or [_compiled_losses(each) for each in self._models]
        self._max_rows = 1 if cache or dynamic else ROWS
        self._window = dynamic.dynamic_window if dynamic else WINDOW

    def nats(self, stream: TokenStream, max_tokens: int | None = None) -> tuple[float, int]:
        """Total nats of a stream, or of about `max_tokens` spread over it, and how many tokens they are of.

        What dynamic evaluation has learned is forgotten at the end. Of both directions, these are forward's.
        """
        totals, tokens = self._totals(stream, max_tokens)
        return totals[0], tokens

    def _totals(self, stream: TokenStream, max_tokens: int | None) -> tuple[list[float], int]:
        """Total nats for each direction, and how many tokens they are of."""
        config = self._models[0].config
        rows = max(1, min(self._max_rows, len(stream) // ROW_TOKENS))
        pad_id = self._models[0].pad_id
        batches = Batches(stream, rows, min(self._window, len(stream)), pad_id, direction=config.direction)
        steps = batches.steps_in()
        if max_tokens is not None:
            steps = min(steps, max(1, round(max_tokens / (rows * batches.sequence_length))))
        readers = [
            Reader(model, losses, rows, self._cache) for model, losses in zip(self._models, self._losses, strict=True)
        ]
        ways = len(config.directions)
        totals, tokens = [0.0] * ways, 0
        try:
            for inputs, targets in islice(batches.dataset(epoch=0).as_numpy_iterator(), steps):
                nats = mean_losses([reader.read(inputs, targets) for reader in readers])
                counts = np.split(targets != pad_id, ways, axis=1)
                for way, own in enumerate(np.split(nats, ways, axis=1)):
                    totals[way] += float(own.sum(where=counts[way]))
                tokens += int(np.count_nonzero(counts[0]))
        finally:
            for learner in self._learners:
                learner.restore()
        return totals, tokens

    def scores(self, stream: TokenStream, max_tokens: int | None = None) -> Scores:
        """All scores; with `max_tokens` they are estimated from a part of the stream."""
        (nats, *backward), tokens = self._totals(stream, max_tokens)
        share = tokens / int(stream.counts.sum())
        text = stream.summary
        size, words = (text.bytes - text.lost_bytes) * share, text.words * share
        whole = nats + text.spelling / NAT * share
        return Scores(
            nats_per_token=nats / tokens,
            bits_per_byte=whole / math.log(2) / max(size, 1),
            perplexity_per_token=perplexity(nats / tokens),
            perplexity_per_word=perplexity(whole / max(words, 1)),
            tokens=tokens,
            bytes=round(size),
            words=round(words),
            unknown_words=round(text.unknown_words * share) if text.unknown_words else None,
            backward_nats_per_token=backward[0] / tokens if backward else None,
        )


def nats_without_attention(model: LanguageModel, stream: TokenStream) -> float:
    """Nats a token of a stream when attention adds nothing: what a model that has it leans on it.

    A network that is trained without it does better than that. The model is as before afterwards.
    """
    output = model.named_weights()["attention/output"]
    learned = output.numpy()
    output.assign(np.zeros_like(learned))
    try:
        return Evaluator(model).scores(stream).nats_per_token
    finally:
        output.assign(learned)


class Reader:
    """A model on its way through the rows of a stream: what it remembers of them."""

    def __init__(self, model: LanguageModel, losses: Losses, rows: int, cache: NeuralCache | None) -> None:
        self._losses = losses
        self._state = model.initial_state(rows)
        self._cache = cache
        self._memory: Any = cache.initial_memory(rows, model.config.embedding_dim) if cache else None

    def read(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The next window: inputs, targets int32 [B, T] -> nats [B, T]; those of padding say nothing."""
        losses, features, self._state = self._losses(inputs, targets, self._state)
        nats = losses.numpy()
        if self._cache:
            nats = self._cache.token_losses(self._memory, inputs, features.numpy(), targets, nats)
            self._memory = self._cache.remember(self._memory, inputs, features.numpy())
        return nats


def mean_losses(nats: Sequence[np.ndarray]) -> np.ndarray:
    """The nats of each of several models, of one shape -> those of the mean of their probabilities, float64."""
    log_p = -np.stack(nats).astype(np.float64)
    return np.log(len(nats)) - np.logaddexp.reduce(log_p, axis=0)


def _compiled_losses(model: LanguageModel) -> Losses:
    def losses(inputs: tf.Tensor, targets: tf.Tensor, state: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """One window: inputs, targets [B, T], state -> nats [B, T], features [B, T, E], state."""
        nats, features, states = [], [], []
        for rows in shard_rows(inputs.shape[0]):
            shard_state = tf.nest.map_structure(lambda array, rows=rows: array[rows], state)
            shard_features, shard_state = model.features(inputs[rows], shard_state)
            nats.append(model.token_losses(shard_features, targets[rows]))
            features.append(shard_features)
            states.append(shard_state)
        return tf.concat(nats, 0), tf.concat(features, 0), join_states(states)

    return tf.function(losses, autograph=False)

"""How well a model predicts a text: nats per token, bits per byte, perplexity per token and per word.

Nats per token depend on the tokenizer; bits per byte do not, so they compare models with different vocabularies on the
same text, cut into documents in the same way: the end of each document is predicted, but what separates documents (a
newline in the document mode "line") is not, and does not count as bytes.
Perplexity per word is exp(total nats / words), where the end of each document counts as a word; scripts without spaces
between words have none.

A word vocabulary has one token for all unknown words, and loses white space. So that a small vocabulary does not score
better for predicting less, bits per byte and perplexity per word include the cost of spelling the unknown words (see
`textgen.tokenizer.spelling`), and lost white space does not count as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from textgen.dataset.batches import Batches
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.evaluation.dynamic_evaluation import Learner
from textgen.evaluation.excerpt import Excerpt, excerpt
from textgen.evaluation.neural_cache import NeuralCache
from textgen.evaluation.scores import Scores
from textgen.evaluation.scoring import perplexity
from textgen.model.language_model import LanguageModel
from textgen.model.probabilities import UNLIKELY
from textgen.model.sharding import join_states, shard_rows
from textgen.system.runtime import compiled
from textgen.tokenizer.spelling import NAT

ROWS = 32  # streams scored side by side, at most
ROW_TOKENS = 4096  # tokens in a row, at least: the first tokens of a row lack their context
WINDOW = 64  # tokens that are scored at once (T)

Losses = Callable[[np.ndarray, np.ndarray, Any], tuple[tf.Tensor, tf.Tensor, Any]]  # see `_compiled_losses`


class Evaluator:
    """Scores token streams with one model or with several. It is compiled once, whatever the number of calls.

    Attributes:
        on_window: Called before each window that is scored.
    """

    def __init__(
        self,
        model: LanguageModel,
        neural_cache: NeuralCacheConfig | None = None,
        dynamic: DynamicConfig | None = None,
        ensemble: Sequence[LanguageModel] = (),
        *,
        in_one_row: bool = False,
        token_bytes: np.ndarray | None = None,
    ) -> None:
        """Makes an evaluator.

        With a neural cache or dynamic evaluation a stream is read as one row, so that all earlier text counts.

        Args:
            model: The network.
            neural_cache: Settings of a neural cache.
            dynamic: Settings of dynamic evaluation.
            ensemble: More networks with the same vocabulary. The probability of a token is then the mean over all
                networks, each with a neural cache and weights of its own.
            in_one_row: Read a stream as one row without them, too, to compare the scores.
            token_bytes: Bytes of text that each token stands for, [V]. If they are known and the network reads forward,
                a part of a stream is the same text for every vocabulary: see `textgen.evaluation.excerpt`.

        Raises:
            ConfigError: Any of these is combined with a network of both directions. Score its forward part,
                `ModelFolder.network("forward")`.
        """
        if (neural_cache or dynamic or ensemble) and model.config.direction == "both":
            raise ConfigError(
                "A cache, dynamic evaluation and averages of models need a model of one direction, not of both."
            )
        self._models = [model, *ensemble]
        self._neural_cache = NeuralCache(neural_cache) if neural_cache else None
        self._learners = [Learner(each, dynamic) for each in self._models if dynamic]
        self._losses: list[Losses] = [learner.read for learner in self._learners]
        self._losses = self._losses or [_compiled_losses(each) for each in self._models]
        self._token_bytes = token_bytes if model.config.direction == "forward" else None
        self._excerpts: dict[tuple[TokenStream, int], Excerpt | None] = {}  # by stream and number of tokens
        self._max_rows = 1 if neural_cache or dynamic or in_one_row else ROWS
        self._window = dynamic.dynamic_window if dynamic else WINDOW
        self.on_window: Callable[[], None] = lambda: None

    def nats(self, stream: TokenStream, max_tokens: int | None = None) -> tuple[float, int]:
        """Scores a stream.

        Args:
            stream: The tokens.
            max_tokens: Score about this many tokens, spread over the stream; all by default.

        Returns:
            Total loss in nats, and how many tokens it is of. Of both directions, the forward network counts.
        """
        return self._totals(*self._batches(stream, max_tokens, self._excerpt(stream, max_tokens)))[0]

    @property
    def counts_bytes(self) -> bool:
        """Whether a part of a stream is chosen by the bytes of its text, not by its tokens."""
        return self._token_bytes is not None

    def _excerpt(self, stream: TokenStream, max_tokens: int | None) -> Excerpt | None:
        """The part of a stream to score; None if it is all or is counted in tokens."""
        if self._token_bytes is None or max_tokens is None or max_tokens >= len(stream):
            return None
        if (stream, max_tokens) not in self._excerpts:
            found = excerpt(stream, self._token_bytes, max_tokens / len(stream), self._max_rows)
            self._excerpts[stream, max_tokens] = found
        return self._excerpts[stream, max_tokens]

    def _batches(self, stream: TokenStream, max_tokens: int | None, part: Excerpt | None) -> tuple[Batches, int]:
        """The batches of a stream or of a part of it, and how many of them to score."""
        rows = len(part.stretches) if part else max(1, min(self._max_rows, len(stream) // ROW_TOKENS))
        model, window = self._models[0], min(self._window, len(stream))
        stretches = part.stretches if part else None
        batches = Batches(stream, rows, window, model.pad_id, direction=model.config.direction, stretches=stretches)
        steps = batches.steps_in()
        if part is None and max_tokens is not None and max_tokens < len(stream):
            steps = min(steps, max(1, round(max_tokens / (rows * window))))
        return batches, steps

    def _totals(self, batches: Batches, steps: int) -> list[tuple[float, int]]:
        """Total nats of each direction, and how many tokens they are of: each direction may skip other labels."""
        readers = [
            StreamReader(model, losses, batches.batch_size, self._neural_cache)
            for model, losses in zip(self._models, self._losses, strict=True)
        ]
        ways = len(self._models[0].config.directions)
        totals, tokens = [0.0] * ways, [0] * ways
        try:
            with batches.failing():
                for inputs, targets in islice(batches.dataset(epoch=0).as_numpy_iterator(), steps):
                    self.on_window()
                    nats = mean_losses([reader.read(inputs, targets) for reader in readers])
                    counts = np.split(targets != batches.pad_id, ways, axis=1)
                    for way, own in enumerate(np.split(nats, ways, axis=1)):
                        totals[way] += float(own.sum(where=counts[way]))
                        tokens[way] += int(np.count_nonzero(counts[way]))
        finally:
            for learner in self._learners:
                learner.restore()
        return list(zip(totals, tokens, strict=True))

    def scores(self, stream: TokenStream, max_tokens: int | None = None) -> Scores:
        """Returns all scores of a stream; with `max_tokens` they are estimated from part of it."""
        part = self._excerpt(stream, max_tokens)
        (nats, tokens), *others = self._totals(*self._batches(stream, max_tokens, part))
        fraction = part.fraction if part else tokens / int(stream.counts.sum())
        text = stream.summary
        size, words = (text.bytes - text.lost_bytes) * fraction, text.words * fraction
        whole = nats + text.spelling / NAT * fraction
        per_word = perplexity(whole / max(words, 1))
        return Scores(
            nats_per_token=nats / tokens,
            bits_per_byte=whole / math.log(2) / max(size, 1),
            perplexity_per_token=perplexity(nats / tokens),
            perplexity_per_word=per_word if text.has_words and math.isfinite(per_word) else None,
            tokens=tokens,
            bytes=round(size),
            words=round(words) if text.has_words else None,
            unknown_words=round(text.unknown_words * fraction) if text.unknown_words else None,
            backward_nats_per_token=others[0][0] / others[0][1] if others else None,
        )


def nats_without_attention(model: LanguageModel, stream: TokenStream) -> float:
    """Returns the loss in nats per token if the attention head adds nothing: how much the model relies on it.

    A network trained without attention does better than that. The model is unchanged afterwards.
    """
    output = model.named_weights()["attention/output"]
    learned = output.numpy()
    output.assign(np.zeros_like(learned))
    try:
        return Evaluator(model).scores(stream).nats_per_token
    finally:
        output.assign(learned)


class StreamReader:
    """A model on its way through the rows of a stream: its state and its neural cache."""

    def __init__(self, model: LanguageModel, losses: Losses, rows: int, neural_cache: NeuralCache | None) -> None:
        """Begins at the beginning of each row.

        Args:
            model: The network.
            losses: Computes the losses of a window: see `_compiled_losses`.
            rows: Number of rows (B).
            neural_cache: The cache that the losses are mixed with, if any.
        """
        self._losses = losses
        self._state = model.initial_state(rows)
        self._neural_cache = neural_cache
        self._cached: Any = neural_cache.initial_memory(rows, model.config.embedding_dim) if neural_cache else None

    def read(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Reads the next window.

        Args:
            inputs: Token ids, int32 [B, T].
            targets: The token after each, int32 [B, T].

        Returns:
            The loss of each target, nats [B, T]; undefined for padding.
        """
        losses, features, self._state = self._losses(inputs, targets, self._state)
        nats = losses.numpy()
        if self._neural_cache:
            nats = self._neural_cache.token_losses(self._cached, inputs, features.numpy(), targets, nats)
            self._cached = self._neural_cache.remember(self._cached, inputs, features.numpy())
        return nats


@UNLIKELY
def mean_losses(nats: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the losses of the mean of several models' probabilities.

    Args:
        nats: The losses of each model, arrays of one shape.

    Returns:
        Float64, of that shape.

    Example:
        >>> float(mean_losses([np.array([0.0]), np.array([np.inf])])[0]) == math.log(2)
        True
    """
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

    return compiled(losses)

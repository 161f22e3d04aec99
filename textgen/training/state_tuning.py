"""Trains an initial state on a text while all weights stay fixed. The state holds a style in a few kilobytes.

A text normally begins with a state of zeros. Another initial state can make the text of a certain author likelier. With
w the windows of a text, each at the beginning of a line, the state minimizes the mean over w of

    -log p(w | state)

by Adam, as prefix tuning does for attention (Li & Liang 2021, arXiv:2101.00190). The last tenth of the windows is held
out, and the state with the best score on it is kept.

After each step h is clipped to [-1, 1], where a network itself keeps it: h = o tanh(c) in an LSTM. (With relu it has no
such bound.) Outside this range the state would be worse where h is quantized to it, as `--runtime onnx` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from textgen.errors import CorpusError
from textgen.model.language_model import LanguageModel
from textgen.system.runtime import compiled
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import TuningConfig
from textgen.wording import Say, silent

WINDOW = 64  # tokens of a window
ROWS = 16  # windows in a batch
LOOK_EVERY = 25  # steps between validations
PATIENCE = 4  # validations without a better score
HELD_OUT = 256  # maximum number of windows that are held out
MAX_TOKENS = 1_000_000  # maximum number of tokens of the text that are used

Pairs = tuple[np.ndarray, np.ndarray]  # inputs, targets, int32 [N, T]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A trained initial state.

    Attributes:
        model_state: The state, with one row, in the structure of the model's `initial_state(1)`; NumPy arrays.
        best_step: Step of the best score.
        nats_per_token_before: Loss of the held-out windows from a state of zeros.
        nats_per_token_after: The same from the trained state.
    """

    model_state: Any
    best_step: int
    nats_per_token_before: float
    nats_per_token_after: float


def windows_of(ids: np.ndarray, tokenizer: Tokenizer, length: int = WINDOW) -> Pairs:
    """Cuts a text into windows, each after the opening of its document.

    Windows begin at the beginning of a document or of a line; in a very long line, also in its middle. Labels are
    inputs only: padding replaces them in the targets.

    Args:
        ids: Token ids int32 [n] of one or several documents.
        tokenizer: Vocabulary.
        length: Tokens of a window, at most (T).

    Returns:
        Inputs and targets, int32 [N, T].
    """
    (newline,), first_label = tokenizer.encode("\n"), tokenizer.first_label
    ends = [*(np.flatnonzero(ids == tokenizer.eos_id) + 1).tolist(), len(ids)]
    line_starts = np.flatnonzero(ids == newline) + 1
    rows, start = [], 0
    for end in ends:
        opening = tokenizer.opening()
        if start < end and ids[start] >= first_label:
            opening, start = [tokenizer.eos_id, int(ids[start])], start + 1
        while start < end:
            stop = min(start + length, end)
            padding = [tokenizer.pad_id] * (length - (stop - start))
            rows.append([*opening, *ids[start:stop], *padding])
            after = line_starts[np.searchsorted(line_starts, stop) :][:1]
            start = int(after[0]) if len(after) and after[0] < min(stop + length, end) else stop
    stacked = np.array(rows, np.int32).reshape(-1, len(opening) + length)  # [N, 1 + T]
    inputs, targets = stacked[:, :-1], stacked[:, 1:]
    return inputs, np.where(targets >= first_label, tokenizer.pad_id, targets)


def tune_state(
    model: LanguageModel,
    tokenizer: Tokenizer,
    ids: np.ndarray,
    config: TuningConfig | None = None,
    say: Say = silent,
) -> Tuned:
    """Trains an initial state on a text. The model does not change.

    Args:
        model: Network of one direction.
        tokenizer: Its vocabulary.
        ids: Token ids int32 [n] of the text.
        config: Steps, learning rate and seed.
        say: Called with a line of text at each validation.

    Returns:
        The trained state, its step, and the losses before and after.

    Raises:
        CorpusError: The text has fewer than two windows.
    """
    config = config or TuningConfig()
    inputs, targets = windows_of(ids[:MAX_TOKENS], tokenizer)
    num_held_out = min(HELD_OUT, max(1, len(inputs) // 10))
    if len(inputs) <= num_held_out:
        raise CorpusError(f"The text is too short for training and validation: give at least {2 * WINDOW} tokens.")
    held_out = inputs[-num_held_out:], targets[-num_held_out:]
    tuner, rng = _Tuner(model, config.learning_rate), np.random.default_rng(config.seed)
    before = best = tuner.nats(*held_out)
    say(f"held-out text: {before:.4f} nats per token from a state of zeros")
    model_state, best_step = tuner.model_state(), 0
    for step in range(1, config.steps + 1):
        chosen = rng.permutation(len(inputs) - num_held_out)[:ROWS]
        tuner.learn(inputs[chosen], targets[chosen])
        if step % LOOK_EVERY and step != config.steps:
            continue
        nats = tuner.nats(*held_out)
        say(f"step {step:,}: {nats:.4f} nats per token")
        if nats < best:
            best, best_step, model_state = nats, step, tuner.model_state()
        elif step - best_step >= PATIENCE * LOOK_EVERY:
            break
    return Tuned(model_state, best_step, before, best)


class _Tuner:
    """The numbers of the recurrent state as trained variables. The outputs that attention looks back on stay empty."""

    def __init__(self, model: LanguageModel, learning_rate: float) -> None:
        self._model = model
        self._start = model.initial_state(1)
        layers = self._start[: model.config.num_layers]
        self._variables = [keras.Variable(array) for array in tf.nest.flatten(layers)]
        arrays = len(tf.nest.flatten(layers[0]))  # of the state of a layer; the first is h
        is_unbounded = model.config.cell == "rnn" and model.config.activation == "relu"
        self._bounded = [] if is_unbounded else self._variables[::arrays]
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._variables)
        self._losses = compiled(self._window_losses)
        self._gradient = compiled(self._window_gradient)

    def learn(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Updates the state with the windows inputs, targets [B, T]."""
        self._optimizer.apply(self._gradient(inputs, targets), self._variables)
        for h in self._bounded:
            h.assign(tf.clip_by_value(h.value, -1.0, 1.0))

    def nats(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """Loss of the windows inputs, targets [N, T], in nats per token."""
        total, missing = 0.0, -len(inputs) % ROWS  # all batches have one size, so that one is compiled
        inputs, targets = (
            np.pad(ids, ((0, missing), (0, 0)), constant_values=self._model.pad_id) for ids in (inputs, targets)
        )
        for at in range(0, len(inputs), ROWS):
            total += float(self._losses(inputs[at : at + ROWS], targets[at : at + ROWS]))
        return total / max(1, int(np.count_nonzero(targets != self._model.pad_id)))

    def model_state(self) -> Any:
        """The state as NumPy arrays."""
        return tf.nest.map_structure(np.array, self._state([variable.value for variable in self._variables], 1))

    def _state(self, values: list[tf.Tensor], rows: int | tf.Tensor) -> Any:
        flat = [*values, *tf.nest.flatten(self._start)[len(values) :]]
        return tf.nest.pack_sequence_as(self._start, [tf.repeat(array, rows, 0) for array in flat])

    def _window_losses(self, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Sum of nats."""
        return self._summed([variable.value for variable in self._variables], inputs, targets)

    def _window_gradient(self, inputs: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
        """Gradient of the mean loss in nats per token."""
        values = [tf.convert_to_tensor(variable.value) for variable in self._variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = self._summed(values, inputs, targets)
        count = tf.math.count_nonzero(targets != self._model.pad_id, dtype=tf.float32)
        return [gradient / tf.maximum(count, 1.0) for gradient in tape.gradient(loss, values)]

    def _summed(self, values: list[tf.Tensor], inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        features, _ = self._model.features(inputs, self._state(values, inputs.shape[0]))
        return tf.reduce_sum(self._model.token_losses(features, targets))

"""Reads a text and keeps what happened inside: every gate, cell state and output of every layer at every step.

All layers read a part of a text, then the next: the products of a part with the input are one large product, and only
those with h are left for the loop over time. Rows of a batch may have clamps of their own: twenty cells are ablated
side by side in little more time than one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from textgen.model.clamping import VALUES, Clamp, holding, input_part, memory_of, watched_step
from textgen.model.config import TABLE, ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.probabilities import require_finite
from textgen.model.reference.attention import attention_forward
from textgen.model.reference.network import of_layer
from textgen.model.reference.norm import norm_forward
from textgen.model.stepped_network import QUIET, State

Array = np.ndarray
ATTENTION_WINDOW = 128  # steps whose attention is computed at once, to bound memory
PART = 256  # steps in a part; what a layer makes of them stays in the processor's cache for the next one
LOGITS_AT_ONCE = 1 << 22  # logits computed at once, T * V


@dataclass(frozen=True, eq=False)
class Reading:
    """What happened while a network read a text.

    Attributes:
        ids: The token ids read, int32 [B, T].
        layers: For each layer the values of its cells by name, such as "f", each [B, T, H].
        outputs: What each layer passes on, [B, T, H]: h, plus the input of the layer if it has a residual connection.
        features: The input of the output layer, [B, T, E].
        state: The state after the text.
    """

    ids: Array
    layers: list[dict[str, Array]]
    outputs: list[Array]
    features: Array
    state: State


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network expected at each step of one text, and what came.

    Attributes:
        surprisal: -log2 p of the token that came, bits [N].
        rank: How many tokens were likelier, plus 1, [N].
        entropy: Expected surprisal, bits [N].
        top_ids: The likeliest tokens, likeliest first, [N, K].
        top_probabilities: Their probabilities, [N, K].
    """

    surprisal: Array
    rank: Array
    entropy: Array
    top_ids: Array
    top_probabilities: Array


class _Part(NamedTuple):
    """What a layer makes of a part of a text: its outputs [B, n, H] and the values kept, [B, n, H] each."""

    outputs: Array
    values: dict[str, Array]


class Reader:
    """A network of one direction that shows its inside.

    Attributes:
        config: Shape of the network.
        weights: Its weights by name.
        model: The same network for writing.
        memory: Name of the value that carries the memory of a cell: "c", or "h" in cells without a cell state.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Array]) -> None:
        self.config = config
        self.weights = dict(weights)
        self.model = NumpyModel(config, weights)
        self.memory = memory_of(config)
        self._step = watched_step(config)

    @QUIET
    def read(
        self,
        ids: Array,
        state: State | None = None,
        clamps: Sequence[Sequence[Clamp]] = (),
        keep: Collection[str] | None = None,
    ) -> Reading:
        """Reads token ids.

        Args:
            ids: Token ids, int32 [B, T].
            state: State before them; that of texts that have not begun by default.
            clamps: The clamps of each row, or of all rows if there is one entry.
            keep: Names of the values to keep, to save memory; all by default.

        Returns:
            What was recorded at each step.
        """
        table, before = self.weights[TABLE], state or self.model.initial_state(len(ids))
        kept = [name for name in VALUES[self.config.cell] if keep is None or name in keep]
        after = list(before[: self.config.num_layers])
        found: list[list[_Part]] = [[] for _ in after]  # of each layer
        for start in range(0, max(1, ids.shape[1]), PART):
            x = table[ids[:, start : start + PART]]  # [B, n, E]
            for number, own in enumerate(found):
                part, after[number] = self._read_layer(number, x, after[number], clamps, kept)
                own.append(part)
                x = part.outputs
        outputs = [np.concatenate([part.outputs for part in own], axis=1) for own in found]
        layers = [{name: np.concatenate([part.values[name] for part in own], axis=1) for name in kept} for own in found]
        x = outputs[-1]
        if self.config.attention:
            x, looked = self._attend(x, before[-1])
            after.append(looked)
        return Reading(ids, layers, outputs, self.project(x), tuple(after))

    def state_at(self, reading: Reading, steps: Sequence[int]) -> State:
        """Returns the state of one text before the tokens at some places, as the rows of a batch.

        Args:
            reading: A reading of one text from its beginning, with h and c kept.
            steps: Places in the text, from 0.

        Returns:
            The states [len(steps), H] of the recurrent layers; zeros before the first token. An attention head starts
            without past outputs.
        """
        state, at = self.model.initial_state(len(steps)), np.array(steps) - 1
        names = ("h", "c") if self.memory == "c" else ("h",)
        before = tuple(
            tuple(
                np.where(at[:, None] >= 0, values[name][0, at], zeros) for name, zeros in zip(names, start, strict=True)
            )
            for values, start in zip(reading.layers, state, strict=False)
        )
        return before + state[len(before) :]

    def project(self, outputs: Array) -> Array:
        """Outputs of a layer [..., H] -> features [..., E]."""
        if "projection/kernel" not in self.weights:
            return outputs
        return outputs @ self.weights["projection/kernel"] + self.weights["projection/bias"]

    def losses(self, features: Array, targets: Array) -> Array:
        """The surprisal of each target in nats.

        Args:
            features: Inputs of the output layer, [..., E].
            targets: Token ids, [...].

        Returns:
            -log p(target), [...].
        """
        rows, wanted = features.reshape(-1, features.shape[-1]), targets.reshape(-1)
        nats = np.empty(len(rows))
        for part in self._parts(len(rows)):
            nats[part] = softmax(self.model.logits(rows[part]), wanted[part])[1]
        return nats.reshape(targets.shape)

    def predictions(self, features: Array, targets: Array, number: int = 10) -> Predictions:
        """What was expected at each step of one text: features [N, E] and the tokens that came, [N]."""
        number = min(number, self.config.vocab_size)
        parts: list[tuple[Array, ...]] = []
        for part in self._parts(len(targets)):
            logits, wanted = self.model.logits(features[part]), targets[part]  # [n, V]
            rank = 1 + (logits > np.take_along_axis(logits, wanted[:, None], axis=-1)).sum(axis=-1)
            top = np.argpartition(logits, -number, axis=-1)[:, -number:]
            order = np.argsort(-np.take_along_axis(logits, top, axis=-1), axis=-1, kind="stable")
            top = np.take_along_axis(top, order, axis=-1)
            p, nats = softmax(logits, wanted)
            entropy = -(p * np.log(np.maximum(p, np.finfo(p.dtype).tiny))).sum(axis=-1)
            parts.append((nats / np.log(2), rank, entropy / np.log(2), top, np.take_along_axis(p, top, axis=-1)))
        return Predictions(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _parts(self, length: int) -> list[slice]:
        step = max(1, LOGITS_AT_ONCE // self.config.vocab_size)
        return [slice(start, start + step) for start in range(0, max(length, 1), step)]

    def _read_layer(
        self, number: int, x: Array, state: tuple[Array, ...], clamps: Sequence[Sequence[Clamp]], kept: Collection[str]
    ) -> tuple[_Part, tuple[Array, ...]]:
        """Runs a layer on x [B, T, in]; returns its values and its state."""
        below = x
        if norm := of_layer(self.weights, f"norm_{number}"):
            x, _ = norm_forward(x, norm["gamma"], norm["beta"])
        own, hold = of_layer(self.weights, f"{self.config.cell}_{number}"), holding(clamps, number)
        from_x = input_part(self.config, x, own)  # [B, T, blocks * H]
        shape = (*x.shape[:2], self.config.hidden_units)
        values = {name: np.empty(shape, x.dtype) for name in dict.fromkeys([*kept, "h"])}
        for t in range(x.shape[1]):
            state, of_step = self._step(from_x[:, t], state, own, hold)
            for name, array in values.items():
                array[:, t] = of_step[name]
        h = values["h"]
        outputs = h + below if self.config.residual and h.shape == below.shape else h
        return _Part(outputs, {name: array for name, array in values.items() if name in kept}), state

    def _attend(self, x: Array, state: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        found, own = [], of_layer(self.weights, "attention")
        for start in range(0, x.shape[1], ATTENTION_WINDOW):
            y, state, _ = attention_forward(x[:, start : start + ATTENTION_WINDOW], state, own)
            found.append(y)
        return np.concatenate(found, axis=1), state


def softmax(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Turns logits into probabilities in place, and returns the surprisal of some tokens in the same precision.

    Args:
        logits: Logits, [n, V]; they are overwritten.
        targets: A token for each row, [n].

    Returns:
        The probabilities [n, V], and -log p(target) in nats [n].

    Raises:
        SavedModelError: The logits are not finite.
    """
    require_finite(logits)
    own = np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    highest = logits.max(axis=-1, keepdims=True)
    logits -= highest
    np.exp(logits, out=logits)
    sums = logits.sum(axis=-1, keepdims=True)
    logits /= sums
    return logits, (highest + np.log(sums))[:, 0] - own

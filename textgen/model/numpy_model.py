"""The network for generation and scoring, in NumPy: ready at once, while TensorFlow takes seconds to load.

It computes the equations of `textgen.model.reference`. The LSTM is arranged for speed: x and h are joined to one column
for each text, and the weights are stored with one row for each output. So the product for a single text reads memory
from front to back, and the product for many texts has the shape in which OpenBLAS is fastest. Other cells are those of
the reference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache, partial

import numpy as np

from textgen.model.clamping import Clamp, clamped_step
from textgen.model.config import TABLE, ModelConfig
from textgen.model.reference.attention import attention_forward
from textgen.model.reference.cells import CellState, CellWeights, cell_of, sigmoid
from textgen.model.reference.network import of_layer
from textgen.model.reference.norm import norm_forward
from textgen.model.stepped_network import QUIET, Norm, State, Step, SteppedNetwork, zero_state

PART = 128  # tokens of each text for which a layer is computed before the next one


class NumpyModel(SteppedNetwork):
    """A network with given weights. `textgen.model.compiled_model.CompiledModel` has the same interface and results.

    Attributes:
        exact: False: its sums of float32 numbers may differ between machines.
        embedding_dim: Size of the token embedding (E).
    """

    exact = False

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], clamps: Sequence[Clamp] = ()) -> None:
        """Arranges the weights.

        Args:
            config: Shape of the network.
            weights: Its weights by name.
            clamps: Values of cells that are held at a number: see `textgen.model.clamping`.
        """
        self._config = config
        self.embedding_dim = config.embedding_dim
        self._table = weights[TABLE]  # [V, E]
        layers = [_arranged(config, of_layer(weights, f"{config.cell}_{layer}")) for layer in range(config.num_layers)]
        self._free_layers = [step for step, _ in layers]
        self._layer_weights = [own for _, own in layers]
        norms = [_norm(of_layer(weights, f"norm_{layer}")) for layer in range(config.num_layers)]
        super().__init__(self._held(clamps), norms, config.residual)
        self._attention = of_layer(weights, "attention")
        has_projection = config.hidden_units != config.embedding_dim
        self._projection = (weights["projection/kernel"], weights["projection/bias"]) if has_projection else None
        kernel = weights.get("head/kernel")  # [E, V]
        self._head = self._table if kernel is None else np.ascontiguousarray(kernel.T)  # [V, E]
        self._head_columns = cache(partial(_columns, self._head, kernel))  # made when there are many texts
        self._head_bias = weights["head/bias"]

    def clamped(self, clamps: Sequence[Clamp]) -> NumpyModel:
        """Returns this network with values of cells held at numbers. It shares the weights, so it takes no memory.

        Args:
            clamps: What is held: see `textgen.model.clamping`. Clamps of this network itself do not count.
        """
        held = copy.copy(self)
        held._layers = self._held(clamps)
        return held

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token: zeros."""
        return zero_state(self._config, batch_size)

    def last_hidden(self, state: State) -> np.ndarray:
        """The output of the last recurrent layer, [B, H], from a state."""
        return state[len(self._layers) - 1][0]

    def embed(self, ids: np.ndarray) -> np.ndarray:
        """The embedding [..., E] of token ids [...]."""
        return self._table[ids]

    @QUIET
    def logits(self, features: np.ndarray) -> np.ndarray:
        """The logits of the next tokens [..., V] from features [..., E]."""
        one_text = features.size == features.shape[-1]
        logits = features @ (self._head.T if one_text else self._head_columns())
        logits += self._head_bias
        return np.asarray(logits)

    @QUIET
    def features(self, inputs: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Reads token ids.

        For one text, the layers of an LSTM are computed one after another for `PART` tokens, so that the part of a step
        that depends on its input alone is one product for all of them, which takes half of the time. For several texts
        it takes longer.

        Args:
            inputs: Token ids int32 [B, T].
            state: State before them.

        Returns:
            The inputs of the output layer [B, T, E], and the state after `inputs`.
        """
        if len(inputs) > 1 or inputs.shape[1] == 1 or not self._can_read_by_layers:
            return super().features(inputs, state)
        parts = []
        for start in range(0, inputs.shape[1], PART):
            x, state = self._by_layers(self._table[inputs[:, start : start + PART].T], state)  # [n, B, H]
            parts.append(self._projected(x))
        return np.concatenate(parts).swapaxes(0, 1), state  # [B, T, E]

    @QUIET
    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """Scores tokens. The output layer is one product over all T steps, most of the work for a large vocabulary.

        Args:
            inputs: Token ids int32 [B, T].
            targets: Next token ids int32 [B, T].
            state: State before `inputs`.

        Returns:
            The loss of each target, nats [B, T], and the state after `inputs`.
        """
        features, state = self.features(inputs, state)
        logits = self.logits(features)  # [B, T, V]
        chosen = np.take_along_axis(logits, targets[:, :, None], axis=-1)[:, :, 0]  # [B, T]
        highest = logits.max(axis=-1)
        return highest + np.log(np.exp(logits - highest[:, :, None]).sum(axis=-1)) - chosen, state

    def _held(self, clamps: Sequence[Clamp]) -> list[Step]:
        """The steps of the layers, with values held."""
        config, held = self._config, {clamp.place.layer for clamp in clamps}
        return [
            clamped_step(config, self._layer_weights[layer], clamps, layer) if layer in held else step
            for layer, step in enumerate(self._free_layers)
        ]

    @QUIET
    def _features(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """ids int32 [B] -> input of the output layer [B, E], state after them."""
        x, new_state = self._through_layers(self._table[ids], state)  # [B, H]
        if self._attention:
            found, after, _ = attention_forward(x[:, None], state[-1], self._attention)  # [B, 1, H]
            x = found[:, 0]
            new_state.append(after)
        return self._projected(x), tuple(new_state)  # [B, E]

    @property
    def _can_read_by_layers(self) -> bool:
        """Whether the layers are LSTMs without clamps, and nothing but layers carries a state."""
        return self._config.cell == "lstm" and not self._attention and self._layers == self._free_layers

    def _by_layers(self, x: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """x [n, B, E] -> outputs of the last recurrent layer [n, B, H], state of each layer after them."""
        states = []
        for weights, norm, before in zip(self._layer_weights, self._norms, state, strict=True):
            below = x
            if norm:
                x = norm(x)
            x, after = _lstm_steps(weights, x, before)
            if self._residual and x.shape == below.shape:
                x = x + below
            states.append(after)
        return x, tuple(states)

    def _projected(self, x: np.ndarray) -> np.ndarray:
        """x [..., H] -> input of the output layer [..., E]."""
        if self._projection:
            kernel, bias = self._projection
            x = x @ kernel + bias
        return x


def _columns(head: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    """The output weights as [E, V], the faster layout for many texts."""
    return np.ascontiguousarray(head.T) if kernel is None else kernel


def _norm(weights: Mapping[str, np.ndarray]) -> Norm | None:
    """The layer normalization with these weights; None without weights."""
    return (lambda x: norm_forward(x, weights["gamma"], weights["beta"])[0]) if weights else None


def _arranged(config: ModelConfig, weights: CellWeights) -> tuple[Step, CellWeights]:
    """A step of a layer, and the weights that it uses, under their names."""
    if config.cell == "lstm":
        return _lstm_step(weights)
    step = cell_of(config).step
    return lambda x, state: step(x, state, weights)[0], weights


def _lstm_step(weights: CellWeights) -> tuple[Step, CellWeights]:
    both = np.ascontiguousarray(np.concatenate([weights["kernel"], weights["recurrent_kernel"]]).T)  # [4H, E+H]
    bias = weights["bias"][:, None]  # [4H, 1]
    inputs = len(weights["kernel"])

    def step(x: np.ndarray, state: CellState) -> CellState:
        h, c = state
        z = both @ np.concatenate([x.T, h.T])  # [4H, B]
        z += bias
        return _lstm_state(z, c)

    views = {"kernel": both[:, :inputs].T, "recurrent_kernel": both[:, inputs:].T, "bias": weights["bias"]}
    return step, views


def _lstm_steps(weights: CellWeights, x: np.ndarray, state: CellState) -> tuple[np.ndarray, CellState]:
    """The outputs [n, B, H] of a layer for x [n, B, in], and its state after them."""
    h, c = state
    from_x = x @ weights["kernel"]  # [n, B, 4H]
    from_x += weights["bias"]
    columns = weights["recurrent_kernel"].T  # [4H, H]
    outputs = np.empty((*x.shape[:2], h.shape[1]), x.dtype)
    for t, of_step in enumerate(from_x):
        z = columns @ h.T  # [4H, B]
        z += of_step.T
        h, c = _lstm_state(z, c)
        outputs[t] = h
    return outputs, (h, c)


def _lstm_state(z: np.ndarray, c: np.ndarray) -> CellState:
    """The sums of the gates [4H, B] and the cell state [B, H] -> the state after the step, [B, H] each."""
    i, f, g, o = z.reshape(4, -1, z.shape[1])  # [H, B] each
    c = sigmoid(f) * c.T + sigmoid(i) * np.tanh(g)
    return (sigmoid(o) * np.tanh(c)).T, c.T

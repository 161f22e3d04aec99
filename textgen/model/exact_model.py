"""The network in exact arithmetic: the same bits on every machine, in every batch and in every language.

The last digits of an ordinary matrix product depend on the order in which a library adds, and that on the machine and
on the number of rows. Here a product is a sum of integers below 2^24, which float32 adds without rounding in any order:

- **Weights** are int8, with a float32 scale for each output: see `textgen.saved_model.precision`.
- **Inputs** of a matrix become integers from -k to k, where k is (2^24 - 1) divided by the largest sum of magnitudes of
  a row of it, at most 32767. A vector whose values lie within 1, as the output h of most cells does, becomes

      q = floor(v k + 0.5)                     the product of row j is (sum of integers) * (scale_j / k)

  The embedding is divided by its largest magnitude M first, and scale_j M / k is the factor. Any other vector is
  divided by its own largest magnitude r (1 if that is 0), and the product multiplied by it:

      q = floor(v / r k + 0.5)                 (sum of integers) * (scale_j / k) * r

- **Everything else** is float64, one operation after the other as written, with the functions of
  `textgen.model.exact_math`. Sums of such numbers go from the first to the last.

The equations are those of `textgen.model.reference`, in this order of operations; a, b are the products of x and h':

    lstm         z = a + b + bias, c = c' * sigmoid(f) + sigmoid(i) * tanh(g), h = tanh(c) * sigmoid(o)
    peephole     i and f read z + p * c', o reads z + p * c
    gru          gates (a + bias_x) + (b + bias_h); h = z * h' + (1 - z) * g with g = tanh((a + bias_x) + r * (b +
                 bias_h)); with the reset before the product r * h' is the vector and there is one bias: a + bias
                 for bias_x, and none for bias_h
    rnn          h = tanh(a + b + bias); with relu max(0, a + b + bias), which is then divided by its r
    mogrifier    x = (2 * sigmoid(Q h')) * x and so on; what a round's matrix reads is divided by its r, and so
                 are x and h' after the rounds
    layer norm   d = x - sum(x) / n, y = (d / sqrt(sum(d * d) / n + 1e-5)) * gamma + beta, divided by its r
    residual     x = h + below, divided by its r
    projection   f = (product) + bias, divided by its r
    attention    see `ExactAttention`
    logits       (sum of integers) * (scale_j / k) + bias, or (sum of integers) * (scale_j / k) * r + bias
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from textgen.model.config import SCALE, TABLE, ModelConfig, round_names
from textgen.model.exact_math import exp, sigmoid, tanh, total
from textgen.model.reference.cells import CellState, cell_of
from textgen.model.reference.network import of_layer
from textgen.model.reference.norm import NORM_EPSILON
from textgen.model.stepped_network import QUIET, Norm, State, Step, SteppedNetwork

EXACT_SUM = (1 << 24) - 1  # float32 represents every integer up to this one
MAX_LEVELS = 32767  # upper limit of k, so that an input fits into 16 bits
ROWS = 8  # texts whose gates are computed at once, few enough for the processor's cache


@dataclass(frozen=True, eq=False)
class ExactMatrix:
    """A matrix of integers, with a scale for each output.

    Attributes:
        integers: int8 [out, in].
        scales: float32 [out].
    """

    integers: np.ndarray
    scales: np.ndarray

    @cached_property
    def levels(self) -> int:
        """k: the largest magnitude of an input, so that no sum of products exceeds 2^24 - 1."""
        longest = int(np.abs(self.integers.astype(np.int32)).sum(axis=1).max(initial=0))
        return max(1, min(MAX_LEVELS, EXACT_SUM // max(longest, 1)))

    def factors(self, bound: float = 1.0) -> np.ndarray:
        """What sums are multiplied by if inputs are divided by `bound`: (scale * bound) / k, float64 [out]."""
        return np.asarray(self.scales.astype(np.float64) * bound / self.levels)


@dataclass(frozen=True, eq=False)
class ExactWeights:
    """The weights of a network in integers: all that another implementation needs.

    Attributes:
        config: Shape of the network, of one direction.
        matrices: Matrices by the names of `ModelConfig.weight_shapes`.
        vectors: Biases and other vectors by name, float32.
    """

    config: ModelConfig
    matrices: Mapping[str, ExactMatrix]
    vectors: Mapping[str, np.ndarray]

    @cached_property
    def embedding_bound(self) -> float:
        """M: the largest magnitude of a number in the embedding table, 1 if all are 0."""
        table = self.matrices[TABLE]
        largest = np.abs(table.integers.astype(np.int32)).max(axis=1)
        return float(np.max(largest * table.scales.astype(np.float64))) or 1.0


def exact_weights(config: ModelConfig, arrays: Mapping[str, np.ndarray]) -> ExactWeights:
    """Arranges the arrays of an int8 file of weights.

    Args:
        config: Shape of the network, of one direction: see `textgen.model.directions.one_way`.
        arrays: The weights by name: matrices int8, the scales of each by its name and "/scale", vectors float32.

    Returns:
        The weights of the network in integers.
    """
    matrices, vectors = {}, {}
    for name, array in arrays.items():
        if name.endswith(SCALE):
            continue
        if name + SCALE in arrays:
            rows = array if name == TABLE else array.T
            matrices[name] = ExactMatrix(np.ascontiguousarray(rows), arrays[name + SCALE])
        else:
            vectors[name] = array
    return ExactWeights(config, matrices, vectors)


class ExactModel(SteppedNetwork):
    """A network in exact arithmetic, by the calls of `textgen.model.protocols.StepModel`.

    Attributes:
        exact: True: what is drawn from its logits is drawn in exact arithmetic, too.
        weights: The integers.
        embedding_dim: Size of the token embedding (E).
    """

    exact = True

    def __init__(self, weights: ExactWeights) -> None:
        """Arranges the weights for products of float32: four times the memory of the integers, eight for many texts."""
        config, matrices = weights.config, weights.matrices
        self.weights = weights
        self.embedding_dim = config.embedding_dim
        self._config = config
        self._table = matrices[TABLE].integers
        self._scales = matrices[TABLE].scales.astype(np.float64)[:, None]  # [V, 1]
        layers = range(config.num_layers)
        norms = [_norm_of(weights, layer) for layer in layers]
        super().__init__([_step_of(weights, layer) for layer in layers], norms, config.residual)
        within = None if config.residual or _is_relu(config) else 1.0  # bound of the last layer's output
        self._attention = None
        if config.attention:
            self._attention, within = ExactAttention(weights), None
        self._projection = None
        if config.hidden_units != config.embedding_dim:
            self._projection = Product(matrices["projection/kernel"], within, weights.vectors["projection/bias"])
            within = None
        self._head = Product(matrices.get("head/kernel", matrices[TABLE]), within, weights.vectors["head/bias"])

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token: zeros, float64."""
        shape = (batch_size, self._config.hidden_units)
        arrays = range(cell_of(self._config).state_size)
        state: State = tuple(tuple(np.zeros(shape) for _ in arrays) for _ in self._layers)
        return (*state, self._attention.initial_state(batch_size)) if self._attention else state

    @QUIET
    def logits(self, features: np.ndarray) -> np.ndarray:
        """The logits of the next tokens, float64 [..., V], from features [..., E]."""
        logits = self._head(features.reshape(-1, features.shape[-1]))
        return logits.reshape(*features.shape[:-1], -1)

    @QUIET
    def _features(self, ids: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """ids int32 [B] -> input of the output layer [B, E], state after them."""
        x, new_state = self._through_layers(self._table[ids] * self._scales[ids], state)  # [B, H] float64
        if self._attention:
            x, after = self._attention(x, state[-1])
            new_state.append(after)
        return (self._projection(x) if self._projection else x), tuple(new_state)


class ExactAttention:
    """A head that reads past outputs: `textgen.model.reference.attention` in this order of operations.

    Each n_t = norm(x_t) is kept as integers of k = 32767 with its largest magnitude r. Their sums of products stay
    below 2^53, up to which float64 has every integer:

        q      the product of `query` with n_t; then integers with its own r
        s_i    ((sum of q * n_i) * (r_i / 32767)) * (r / 32767) / H, for the last N outputs and n_t
        p_i    exp(s_i - the highest s), divided by their sum from the oldest on
        m      u_i = p_i * r_i becomes integers with its own r; (sum of u_i * n_i) * (r / 32767) / 32767
        y      x + (the product of `output` with m) / sqrt(H)
    """

    def __init__(self, weights: ExactWeights) -> None:
        """Arranges the weights."""
        gamma, beta = (weights.vectors[f"attention/{part}"].astype(np.float64) for part in ("gamma", "beta"))
        self._norm = gamma, beta
        self._query = Product(weights.matrices["attention/query"])
        self._output = Product(weights.matrices["attention/output"])
        self._window, self._size = weights.config.attention, weights.config.hidden_units

    def initial_state(self, batch_size: int) -> CellState:
        """The integers of the last N outputs, float32 [B, N, H], oldest first, their r [B, N], and how many there are.

        Unused places are zeros.
        """
        shape = (batch_size, self._window)
        return np.zeros((*shape, self._size), np.float32), np.zeros(shape), np.zeros((batch_size, 1))

    def __call__(self, x: np.ndarray, state: CellState) -> tuple[np.ndarray, CellState]:
        """x [B, H], state -> y [B, H], state after it."""
        keys, ranges, count = state
        n = _normed(x, *self._norm)
        own, own_range = _ranged(n)
        keys = np.concatenate([keys, own[:, None].astype(np.float32)], axis=1)  # [B, N + 1, H]
        ranges = np.concatenate([ranges, own_range], axis=1)  # [B, N + 1]
        wide = keys.astype(np.float64)
        query, query_range = _ranged(self._query(n))
        scores = (wide @ query[:, :, None])[:, :, 0] * (ranges / MAX_LEVELS) * (query_range / MAX_LEVELS) / self._size
        is_there = np.arange(self._window + 1) >= self._window - count
        highest = np.max(scores, axis=-1, keepdims=True, where=is_there, initial=-np.inf)
        shares = np.where(is_there, exp(scores - highest), 0.0)
        shares /= total(shares)[:, None]
        mix, mix_range = _ranged(shares * ranges)
        mixed = (mix[:, None] @ wide)[:, 0] * (mix_range / MAX_LEVELS) / MAX_LEVELS  # [B, H]
        after = keys[:, 1:], ranges[:, 1:], np.minimum(count + 1, self._window)
        return x + self._output(mixed) / np.sqrt(float(self._size)), after


class Product:
    """Multiplies by a matrix of integers, and adds a bias."""

    def __init__(self, matrix: ExactMatrix, bound: float | None = None, bias: np.ndarray | None = None) -> None:
        """Arranges a matrix.

        Args:
            matrix: The matrix.
            bound: A number that the inputs never exceed; None if it is not known, so that each vector is divided by its
                own largest magnitude.
            bias: What is added, [out].
        """
        self._bound = bound
        self._levels = matrix.levels
        self._matrix = matrix.integers.astype(np.float32)  # [out, in]
        self._factors = matrix.factors(1.0 if bound is None else bound)  # float64 [out]
        self._bias = None if bias is None else bias.astype(np.float64)

    def __call__(self, x: np.ndarray, outputs: slice = slice(None)) -> np.ndarray:
        """x [B, in] -> float64 [B, out], or only those outputs."""
        largest = _largest(x) if self._bound is None else None  # [B, 1]
        within = x / (self._bound if largest is None else largest)
        columns = self._matrix.T if len(x) == 1 else self._columns
        sums = integers(within, self._levels) @ columns[:, outputs]
        result = sums.astype(np.float64)
        result *= self._factors[outputs]
        if largest is not None:
            result *= largest
        if self._bias is not None:
            result += self._bias[outputs]
        return result

    @cached_property
    def _columns(self) -> np.ndarray:
        """The matrix as [in, out], the faster layout for many texts."""
        return np.ascontiguousarray(self._matrix.T)


def integers(x: np.ndarray, levels: int) -> np.ndarray:
    """Rounds numbers within 1 to integers within `levels`, float32."""
    scaled = x * levels
    scaled += 0.5
    np.floor(scaled, out=scaled)
    np.clip(scaled, -levels, levels, out=scaled)
    return scaled.astype(np.float32)


def _ranged(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [B, n] as integers within 32767, float64, and the largest magnitude of each, [B, 1]."""
    largest = _largest(x)
    return integers(x / largest, MAX_LEVELS).astype(np.float64), largest


def _largest(x: np.ndarray) -> np.ndarray:
    """The largest magnitude of each vector, 1 if that is 0: [B, n] -> [B, 1]."""
    largest = np.max(np.abs(x), axis=-1, keepdims=True)
    return np.where(largest > 0, largest, 1.0)


def _normed(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Layer normalization of [B, n]."""
    size = x.shape[-1]
    d = x - total(x)[:, None] / size
    deviation = np.sqrt(total(d * d)[:, None] / size + NORM_EPSILON)
    return np.asarray(d / deviation * gamma + beta)


def _norm_of(weights: ExactWeights, layer: int) -> Norm | None:
    """The layer normalization of a layer; None without it."""
    if not weights.config.layer_norm:
        return None
    gamma, beta = (weights.vectors[f"norm_{layer}/{part}"].astype(np.float64) for part in ("gamma", "beta"))
    return lambda x: _normed(x, gamma, beta)


def _is_relu(config: ModelConfig) -> bool:
    """Whether the outputs of the cells may exceed 1."""
    return config.cell == "rnn" and config.activation == "relu"


# === The cells ===


@dataclass(frozen=True, eq=False)
class _Layer:
    """The weights of a layer, and bounds of the inputs of its matrices."""

    config: ModelConfig
    matrices: Mapping[str, ExactMatrix]  # by their names within the layer
    vectors: Mapping[str, np.ndarray]  # float64
    bound: float | None  # of its input

    def kernel(self) -> Product:
        """The product with x."""
        return Product(self.matrices["kernel"], self.bound)

    def recurrent(self) -> Product:
        """The product with h', whose magnitudes are at most 1 unless the activation is relu."""
        return Product(self.matrices["recurrent_kernel"], None if _is_relu(self.config) else 1.0)


def _step_of(weights: ExactWeights, layer: int) -> Step:
    """The step of a layer."""
    config, name = weights.config, f"{weights.config.cell}_{layer}"
    bound: float | None = weights.embedding_bound if layer == 0 else 1.0
    if config.layer_norm or (layer > 0 and (config.residual or _is_relu(config))):
        bound = None
    vectors = {part: array.astype(np.float64) for part, array in of_layer(weights.vectors, name).items()}
    prefix = f"{name}/"
    matrices = {key.removeprefix(prefix): each for key, each in weights.matrices.items() if key.startswith(prefix)}
    own = _Layer(config, matrices, vectors, bound)
    steps = {"lstm": _lstm, "peephole": _peephole, "gru": _gru, "rnn": _rnn, "mogrifier": _mogrifier}
    return steps[config.cell](own)


def _lstm(own: _Layer) -> Step:
    kernel, recurrent, bias = own.kernel(), own.recurrent(), own.vectors["bias"]
    signs = np.repeat([-1.0, -1.0, 2.0, -1.0], own.config.hidden_units)  # in exp, of i, f, g and o

    def step(x: np.ndarray, state: CellState) -> CellState:
        h, c = state
        z, from_h = kernel(x), recurrent(h)  # [B, 4H] each
        new_h, new_c = np.empty(c.shape), np.empty(c.shape)
        for start in range(0, len(x), ROWS):
            rows = slice(start, start + ROWS)
            sums = z[rows]
            sums += from_h[rows]
            sums += bias
            sums *= signs
            s = exp(sums)
            s += 1.0
            np.divide(1.0, s, out=s)  # sigmoid of z but for g, where tanh is 1 - 2 s
            i, f, g, o = np.split(s, 4, axis=-1)
            new_c[rows] = c[rows] * f + i * (1 - 2 * g)
            new_h[rows] = tanh(new_c[rows]) * o
        return new_h, new_c

    return step


def _peephole(own: _Layer) -> Step:
    kernel, recurrent, bias, p = own.kernel(), own.recurrent(), own.vectors["bias"], own.vectors["peepholes"]

    def step(x: np.ndarray, state: CellState) -> CellState:
        h, c = state
        z_i, z_f, z_g, z_o = np.split(kernel(x) + recurrent(h) + bias, 4, axis=-1)  # [B, H] each
        i, f = sigmoid(z_i + p[0] * c), sigmoid(z_f + p[1] * c)
        c = c * f + i * tanh(z_g)
        return tanh(c) * sigmoid(z_o + p[2] * c), c

    return step


def _gru(own: _Layer) -> Step:
    kernel, recurrent, bias, size = own.kernel(), own.recurrent(), own.vectors["bias"], own.config.hidden_units
    gates, candidate = slice(2 * size), slice(2 * size, None)
    after = bias.ndim == 2  # the product
    of_x, of_h = bias if after else (bias, None)

    def step(x: np.ndarray, state: CellState) -> CellState:
        (h,) = state
        from_x = kernel(x) + of_x  # [B, 3H]
        from_h = recurrent(h, gates) if of_h is None else recurrent(h) + of_h
        z, r = np.split(sigmoid(from_x[:, gates] + from_h[:, gates]), 2, axis=-1)  # [B, H] each
        seen = recurrent(r * h, candidate) if of_h is None else r * from_h[:, candidate]
        return (z * h + (1 - z) * tanh(from_x[:, candidate] + seen),)

    return step


def _rnn(own: _Layer) -> Step:
    kernel, recurrent, bias = own.kernel(), own.recurrent(), own.vectors["bias"]
    activation = (lambda z: np.maximum(z, 0.0)) if _is_relu(own.config) else tanh
    return lambda x, state: (activation(kernel(x) + recurrent(state[0]) + bias),)


def _mogrifier(own: _Layer) -> Step:
    rounds = [
        [Product(own.matrices[name]) for name in round_names(number, own.matrices)]
        for number in range(1, own.config.mogrifier_rounds + 1)
    ]

    def gate(factors: list[Product], source: np.ndarray) -> np.ndarray:
        for factor in factors:
            source = factor(source)
        return 2 * sigmoid(source)

    inner = _lstm(_Mogrified(own.config, own.matrices, own.vectors, None))

    def step(x: np.ndarray, state: CellState) -> CellState:
        h, c = state
        for number, factors in enumerate(rounds, start=1):
            x, h = (gate(factors, h) * x, h) if number % 2 else (x, gate(factors, x) * h)
        return inner(x, (h, c))

    return step


class _Mogrified(_Layer):
    """The LSTM after the rounds of a mogrifier, where h' may exceed 1."""

    def recurrent(self) -> Product:
        return Product(self.matrices["recurrent_kernel"])

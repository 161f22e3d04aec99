"""One step of the network as an ONNX graph: token ids and state in, logits and new state out.

    input_ids, past.0.h, past.0.c, ...  ->  logits, present.0.h, present.0.c, ...

The equations are those of `textgen.model.reference`. Matrix products are made by a `Products` object, so that the same
graph exists in float32 (here) and in int8 (`textgen.model.onnx_int8`). The package onnx is needed to build a graph, not
to run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from textgen.model.config import TABLE, ModelConfig, round_names
from textgen.model.reference.cells import CellWeights, cell_of
from textgen.model.reference.network import of_layer
from textgen.model.reference.norm import NORM_EPSILON

OPSET, IR_VERSION = 17, 8  # versions of operators and of the file: the oldest that have all, for older programs
CONTRIB = "com.microsoft"  # operators that ONNX Runtime adds
RANGE = "range."  # prefix of the outputs of `Float32Products(ranges=True)`
Part = tuple[str, np.ndarray]  # a tensor [B, n] and its matrix [n, out]


class Graph:
    """An ONNX graph that grows node by node. Its methods return the name of the tensor that a node computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._shared: dict[str, str] = {}  # names of constants, by key

    def __call__(self, operator: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, called `name` if that is given."""
        return self.several(operator, inputs, [name or self._new_name()], domain, **attributes)[0]

    def several(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> Sequence[str]:
        """Adds a node with several outputs.

        Args:
            operator: Name of the operator.
            inputs: Names of its inputs; "" for one that is left out.
            outputs: Names of its outputs.
            domain: Domain of the operator; "" for ONNX itself.
            attributes: Attributes of the node.

        Returns:
            The names of the outputs.
        """
        self.nodes.append(helper.make_node(operator, list(inputs), list(outputs), domain=domain, **attributes))
        return outputs

    def constant(self, array: np.ndarray | np.generic) -> str:
        """Adds a constant."""
        name = self._new_name()
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def shared(self, key: str, array: np.ndarray) -> str:
        """Adds a constant where a key is first used, and returns the same one wherever it is used again."""
        if key not in self._shared:
            self._shared[key] = self.constant(array)
        return self._shared[key]

    def split(self, tensor: str, sizes: Sequence[int]) -> Sequence[str]:
        """Cuts [B, n] into columns of these widths."""
        names = [f"{self._new_name()}.{number}" for number in range(len(sizes))]
        return self.several("Split", [tensor, self.constant(np.array(sizes, np.int64))], names, axis=1)

    def _new_name(self) -> str:
        return f"t{len(self.nodes) + len(self.constants)}"


class Products(Protocol):
    """Makes the matrix products of a network, in one precision.

    Attributes:
        outputs: Names of the outputs that the graph has besides the logits and the state.
    """

    outputs: list[str]

    def embedding(self, graph: Graph, table: np.ndarray, ids: str) -> str:
        """The rows [B, E] of the table [V, E]."""

    def affine(self, graph: Graph, name: str, parts: Sequence[Part], bias: np.ndarray | None, output: str = "") -> str:
        """The sum of products of each part, and a bias [out].

        Args:
            graph: The graph, which grows.
            name: Name of the product, unique in the network.
            parts: Tensors [B, n] and their matrices [n, out].
            bias: The bias; None for zeros.
            output: Name of the result.

        Returns:
            Name of the result [B, out].
        """

    def tied(self, graph: Graph, name: str, x: str, table: np.ndarray, bias: np.ndarray, output: str) -> str:
        """The products of x [B, E] with each row of the table of the embedding, and a bias.

        Args:
            graph: The graph, which grows.
            name: Name of the product, unique in the network.
            x: A tensor.
            table: The table [V, E].
            bias: The bias [V].
            output: Name of the result.

        Returns:
            Name of the result [B, V].
        """


class Float32Products:
    """Matrix products in float32, as `Products` describes them.

    Args:
        ranges: Whether the graph gets an output for the largest magnitude of each tensor that is multiplied, named
            `RANGE` and the name of the product and the number of the tensor in it.

    Attributes:
        outputs: Names of these outputs.
    """

    def __init__(self, ranges: bool = False) -> None:
        self.outputs: list[str] = []
        self._ranges = ranges

    def embedding(self, graph: Graph, table: np.ndarray, ids: str) -> str:
        """The rows [B, E] of the table [V, E]."""
        return graph("Gather", graph.shared(TABLE, table), ids)

    def affine(self, graph: Graph, name: str, parts: Sequence[Part], bias: np.ndarray | None, output: str = "") -> str:
        """The sum of products of each part, and a bias. The arguments are those of `Products.affine`."""
        tensors, matrices = zip(*parts, strict=True)
        self._watch(graph, name, tensors)
        x = tensors[0] if len(tensors) == 1 else graph("Concat", *tensors, axis=1)
        constants = [graph.constant(array) for array in (np.concatenate(matrices), bias) if array is not None]
        return graph("Gemm", x, *constants, name=output)

    def tied(self, graph: Graph, name: str, x: str, table: np.ndarray, bias: np.ndarray, output: str) -> str:
        """The products with each row of the table, which the graph holds once for this and the embedding.

        The arguments are those of `Products.tied`.
        """
        self._watch(graph, name, [x])
        return graph("Gemm", x, graph.shared(TABLE, table), graph.constant(bias), transB=1, name=output)

    def _watch(self, graph: Graph, name: str, tensors: Sequence[str]) -> None:
        """Adds the outputs for the ranges of a product's tensors, if they are wanted."""
        if not self._ranges:
            return
        for number, tensor in enumerate(tensors):
            largest = graph("Abs", tensor)
            self.outputs.append(graph("ReduceMax", largest, keepdims=0, name=f"{RANGE}{name}.{number}"))


def step_graph(
    config: ModelConfig, weights: Mapping[str, np.ndarray], products: Products | None = None, *, time_axis: bool = False
) -> onnx.ModelProto:
    """Makes the graph of one step.

    Args:
        config: Shape of the network, of one direction.
        weights: Its weights by name.
        products: What makes the products; `Float32Products` by default.
        time_axis: Whether ids and logits have an axis of one step: [B, 1] and [B, 1, V] instead of [B] and [B, V].

    Returns:
        The graph. Inputs: `input_ids` int64 and the state before, `past.LAYER.h` and `past.LAYER.c` [B, H]. Outputs:
        `logits` and the state after, `present.LAYER.h` and so on. With attention the state ends with
        `past.attention.keys` [B, N, H] and `past.attention.count` [B, 1].
    """
    graph, products = Graph(), products or Float32Products()
    ids = "input_ids"
    if time_axis:
        ids = graph("Squeeze", ids, graph.constant(np.array([1], np.int64)))
    x = products.embedding(graph, weights[TABLE], ids)  # [B, E]
    width = config.embedding_dim
    for layer in range(config.num_layers):
        below, norm = x, of_layer(weights, f"norm_{layer}")
        if norm:
            x = _norm(graph, x, norm)
        x = STEPS[config.cell](graph, products, config, layer, x, of_layer(weights, f"{config.cell}_{layer}"))
        if config.residual and width == config.hidden_units:
            x = graph("Add", x, below)
        width = config.hidden_units
    if config.attention:
        x = _attention(graph, products, config, x, of_layer(weights, "attention"))
    if config.hidden_units != config.embedding_dim:
        x = products.affine(graph, "projection", [(x, weights["projection/kernel"])], weights["projection/bias"])
    bias, output = weights["head/bias"], "step_logits" if time_axis else "logits"
    if config.tie_embeddings:
        logits = products.tied(graph, "head", x, weights[TABLE], bias, output)
    else:
        logits = products.affine(graph, "head", [(x, weights["head/kernel"])], bias, output)
    if time_axis:
        graph("Unsqueeze", logits, graph.constant(np.array([1], np.int64)), name="logits")
    return _model(graph, config, products.outputs, time_axis)


def state_names(config: ModelConfig, when: str) -> list[str]:
    """The names of the arrays of a state, in order.

    Args:
        config: Shape of the network.
        when: "past" or "present".

    Example:
        >>> state_names(ModelConfig(100, num_layers=2, cell="gru"), "past")
        ['past.0.h', 'past.1.h']
    """
    arrays = cell_of(config).letters
    names = [f"{when}.{layer}.{array}" for layer in range(config.num_layers) for array in arrays]
    return names + [f"{when}.attention.{array}" for array in ("keys", "count") if config.attention]


def _model(graph: Graph, config: ModelConfig, extra: Sequence[str], time_axis: bool) -> onnx.ModelProto:
    """The finished graph, checked."""
    steps = [1] if time_axis else []
    shapes = {"keys": [config.attention, config.hidden_units], "count": [1]}

    def states(when: str) -> list[onnx.ValueInfoProto]:
        return [
            _value(name, TensorProto.FLOAT, shapes.get(name.rpartition(".")[2], [config.hidden_units]))
            for name in state_names(config, when)
        ]

    ranges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in extra]
    made = helper.make_graph(
        graph.nodes,
        "step",
        [_value("input_ids", TensorProto.INT64, steps), *states("past")],
        [_value("logits", TensorProto.FLOAT, [*steps, config.vocab_size]), *states("present"), *ranges],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == CONTRIB for node in graph.nodes):
        opsets.append(helper.make_opsetid(CONTRIB, 1))
    return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="textgen")


def _value(name: str, kind: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *shape])


def _norm(graph: Graph, x: str, w: CellWeights) -> str:
    gamma, beta = graph.constant(w["gamma"]), graph.constant(w["beta"])
    return graph("LayerNormalization", x, gamma, beta, axis=-1, epsilon=NORM_EPSILON)


# === Cells: x [B, in] -> h [B, H] ===


def _lstm(
    graph: Graph, products: Products, config: ModelConfig, layer: int, x: str, w: CellWeights, h: str = ""
) -> str:
    """An LSTM. The gates are reordered to i f o g, so that one node computes the sigmoid of three."""
    units = config.hidden_units
    parts = [(x, _gates_last(w["kernel"])), (h or f"past.{layer}.h", _gates_last(w["recurrent_kernel"]))]
    z = products.affine(graph, f"{config.cell}_{layer}", parts, _gates_last(w["bias"]))  # [B, 4H]
    gates, candidate = graph.split(z, [3 * units, units])
    i, f, o = graph.split(graph("Sigmoid", gates), [units] * 3)
    g = graph("Tanh", candidate)
    c = graph("Add", graph("Mul", f, f"past.{layer}.c"), graph("Mul", i, g), name=f"present.{layer}.c")
    return graph("Mul", o, graph("Tanh", c), name=f"present.{layer}.h")


def _gates_last(array: np.ndarray) -> np.ndarray:
    """Weights [..., 4H] in the order i f g o -> i f o g."""
    i, f, g, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, f, o, g], axis=-1)


def _peephole(graph: Graph, products: Products, config: ModelConfig, layer: int, x: str, w: CellWeights) -> str:
    """An LSTM whose gates read the cell state; the output gate reads the new one."""
    c = f"past.{layer}.c"
    parts = [(x, w["kernel"]), (f"past.{layer}.h", w["recurrent_kernel"])]
    z = products.affine(graph, f"{config.cell}_{layer}", parts, w["bias"])  # [B, 4H]
    z_i, z_f, z_g, z_o = graph.split(z, [config.hidden_units] * 4)
    p_i, p_f, p_o = (graph.constant(row) for row in w["peepholes"])
    i = graph("Sigmoid", graph("Add", z_i, graph("Mul", p_i, c)))
    f = graph("Sigmoid", graph("Add", z_f, graph("Mul", p_f, c)))
    new_c = graph("Add", graph("Mul", f, c), graph("Mul", i, graph("Tanh", z_g)), name=f"present.{layer}.c")
    o = graph("Sigmoid", graph("Add", z_o, graph("Mul", p_o, new_c)))
    return graph("Mul", o, graph("Tanh", new_c), name=f"present.{layer}.h")


def _mogrifier(graph: Graph, products: Products, config: ModelConfig, layer: int, x: str, w: CellWeights) -> str:
    """Rounds in which x and h scale each other, then an LSTM."""
    h, two = f"past.{layer}.h", graph.constant(np.float32(2))
    for number in range(1, config.mogrifier_rounds + 1):
        a = h if number % 2 else x
        for name in round_names(number, w):
            a = products.affine(graph, f"{config.cell}_{layer}/{name}", [(a, w[name])], None)
        scale = graph("Mul", two, graph("Sigmoid", a))
        if number % 2:
            x = graph("Mul", scale, x)
        else:
            h = graph("Mul", scale, h)
    return _lstm(graph, products, config, layer, x, w, h)


def _gru(graph: Graph, products: Products, config: ModelConfig, layer: int, x: str, w: CellWeights) -> str:
    """A GRU, with the reset gate before or after the recurrent product of the candidate."""
    units, h, name = config.hidden_units, f"past.{layer}.h", f"{config.cell}_{layer}"
    kernel, candidate_kernel = np.split(w["kernel"], [2 * units], axis=1)
    recurrent, candidate_recurrent = np.split(w["recurrent_kernel"], [2 * units], axis=1)
    bias, recurrent_bias = w["bias"] if w["bias"].ndim == 2 else (w["bias"], np.zeros_like(w["bias"]))
    gates = products.affine(
        graph, f"{name}/gates", [(x, kernel), (h, recurrent)], bias[: 2 * units] + recurrent_bias[: 2 * units]
    )
    z, r = graph.split(graph("Sigmoid", gates), [units, units])
    if w["bias"].ndim == 2:
        from_x = products.affine(graph, f"{name}/x", [(x, candidate_kernel)], bias[2 * units :])
        seen = products.affine(graph, f"{name}/h", [(h, candidate_recurrent)], recurrent_bias[2 * units :])
        a = graph("Add", from_x, graph("Mul", r, seen))
    else:
        parts = [(x, candidate_kernel), (graph("Mul", r, h), candidate_recurrent)]
        a = products.affine(graph, f"{name}/candidate", parts, bias[2 * units :])
    g = graph("Tanh", a)
    return graph("Add", g, graph("Mul", z, graph("Sub", h, g)), name=f"present.{layer}.h")  # z * h + (1 - z) * g


def _rnn(graph: Graph, products: Products, config: ModelConfig, layer: int, x: str, w: CellWeights) -> str:
    parts = [(x, w["kernel"]), (f"past.{layer}.h", w["recurrent_kernel"])]
    z = products.affine(graph, f"{config.cell}_{layer}", parts, w["bias"])
    return graph("Tanh" if config.activation == "tanh" else "Relu", z, name=f"present.{layer}.h")


STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn, "peephole": _peephole, "mogrifier": _mogrifier}


def _attention(graph: Graph, products: Products, config: ModelConfig, x: str, w: CellWeights) -> str:
    """The head that looks back on the last N outputs: see `textgen.model.reference.attention`."""
    window, width = config.attention, np.float32(config.hidden_units)
    one = graph.constant(np.array([1], np.int64))
    n = _norm(graph, x, w)  # [B, H]
    keys = graph("Concat", "past.attention.keys", graph("Unsqueeze", n, one), axis=1)  # [B, N + 1, H]
    query = products.affine(graph, "attention/query", [(n, w["query"] / width)], None)  # [B, H]
    scores = graph("MatMul", keys, graph("Unsqueeze", query, graph.constant(np.array([2], np.int64))))  # [B, N + 1, 1]
    scores = graph("Squeeze", scores, graph.constant(np.array([2], np.int64)))  # [B, N + 1]
    first = graph("Sub", graph.constant(np.float32(window)), "past.attention.count")  # [B, 1]
    is_there = graph("GreaterOrEqual", graph.constant(np.arange(window + 1, dtype=np.float32)), first)
    shares = graph(
        "Softmax", graph("Where", is_there, scores, graph.constant(np.float32(-np.inf))), axis=-1
    )  # [B, N + 1]
    mixed = graph("Squeeze", graph("MatMul", graph("Unsqueeze", shares, one), keys), one)  # [B, H]
    starts, ends = graph.constant(np.array([1], np.int64)), graph.constant(np.array([window + 1], np.int64))
    graph("Slice", keys, starts, ends, one, name="present.attention.keys")
    count = graph("Add", "past.attention.count", graph.constant(np.float32(1)))
    graph("Min", count, graph.constant(np.float32(window)), name="present.attention.count")
    return graph("Add", x, products.affine(graph, "attention/output", [(mixed, w["output"] / np.sqrt(width))], None))

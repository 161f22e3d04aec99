"""The network for writing in int8, by ONNX Runtime: weights and the inputs of products in 8 bits, sums in 32.

- A matrix [n, out] becomes int8 with a scale for each output.
- What it is multiplied with, such as h, becomes 8 bits with a scale for the whole tensor, which is found on a text that
  the network writes itself. x and h of a cell have scales of their own, which are multiplied into the matrix.
- Sums of products of integers are exact, so a text does not depend on those beside it, nor on the number of threads.
- Gates, states, logits and draws are float32.

A network that loses more than `textgen.model.prediction_change` allows is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from onnx import TensorProto, helper

from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.model.onnx_graph import CONTRIB, IR_VERSION, OPSET, RANGE, Float32Products, Graph, Part, step_graph
from textgen.model.onnx_model import CPU, OnnxModel, load_onnxruntime
from textgen.model.prediction_change import PredictionChange, compared_on_own_text, drawn, spread
from textgen.model.probabilities import log_softmax

ROWS, STEPS = 32, 64  # texts written to find the scales, and tokens of each
LEVELS = 127  # largest magnitude of an integer
MIDDLE = 128  # the 8-bit integer that stands for 0 in the inputs of products
FEWER_LEVELS = 63  # largest magnitude where the sum of two products saturates at 16 bits
SEED = 0


class Int8Products:
    """Matrix products in int8, as `textgen.model.onnx_graph.Products` describes them.

    Args:
        ranges: Largest magnitude of each input of a product, by its name: see `Float32Products`.
        levels: Largest magnitude of an integer in a matrix.

    Attributes:
        outputs: Empty: the graph has no further outputs.
    """

    def __init__(self, ranges: Mapping[str, float], levels: int = LEVELS) -> None:
        self.outputs: list[str] = []
        self._ranges = ranges
        self._levels = levels

    def embedding(self, graph: Graph, table: np.ndarray, ids: str) -> str:
        """The rows [B, E] of the table [V, E], which is kept in 8 bits with one scale."""
        scale = np.float32(max(float(np.abs(table).max()), 1e-12) / LEVELS)
        integers = (np.rint(table / scale) + MIDDLE).astype(np.uint8)  # [V, E]
        rows = graph("Gather", graph.constant(integers), ids)
        return graph("DequantizeLinear", rows, graph.constant(scale), graph.constant(np.uint8(MIDDLE)))

    def affine(self, graph: Graph, name: str, parts: Sequence[Part], bias: np.ndarray | None, output: str = "") -> str:
        """The sum of products of each part, and a bias. The arguments are those of `Products.affine`."""
        middle = graph.constant(np.uint8(MIDDLE))
        integers, matrices = [], []
        for number, (tensor, matrix) in enumerate(parts):
            scale = np.float32(max(self._ranges[f"{name}.{number}"], 1e-6) / LEVELS)
            integers.append(graph("QuantizeLinear", tensor, graph.constant(scale), middle))
            matrices.append(matrix * scale)
        x = integers[0] if len(parts) == 1 else graph("Concat", *integers, axis=1)  # [B, sum of n]
        joined = np.concatenate(matrices)  # [sum of n, out]
        # A column of zeros gets the smallest scale, since nothing can be divided by 0. [out]
        scales = np.maximum(np.abs(joined).max(axis=0) / self._levels, np.finfo(np.float32).tiny).astype(np.float32)
        inputs = [
            x,
            graph.constant(np.rint(joined / scales).astype(np.int8)),
            graph.constant(np.float32(1)),
            graph.constant(scales),
            middle,
            "",
            *([] if bias is None else [graph.constant(bias)]),
        ]
        return graph("MatMulIntegerToFloat", *inputs, name=output, domain=CONTRIB)

    def tied(self, graph: Graph, name: str, x: str, table: np.ndarray, bias: np.ndarray, output: str) -> str:
        """The products with each row of the table, which is kept once more for them, with a scale for each row.

        The arguments are those of `Products.tied`.
        """
        return self.affine(graph, name, [(x, table.T)], bias, output)


def int8_network(
    config: ModelConfig, weights: Mapping[str, np.ndarray], openings: Sequence[Sequence[int]]
) -> tuple[bytes, PredictionChange]:
    """Makes the network in int8 and measures how much its predictions change.

    Args:
        config: Shape of the network, of one direction.
        weights: Its weights by name, float32.
        openings: The tokens that texts begin with, as many for each: without a label, and with each.

    Returns:
        The network as an ONNX file, and the change of its predictions.

    Raises:
        SavedModelError: Logits are not finite.
    """
    levels = FEWER_LEVELS if _saturates() else LEVELS
    data = step_graph(config, weights, Int8Products(_ranges(config, weights, openings), levels)).SerializeToString()
    compared = compared_on_own_text(NumpyModel(config, weights), OnnxModel(data, config), openings)
    return data, compared.change


def _ranges(
    config: ModelConfig, weights: Mapping[str, np.ndarray], openings: Sequence[Sequence[int]]
) -> dict[str, float]:
    """The largest magnitude of each input of a product, while the network reads all openings and writes after some."""
    products = Float32Products(ranges=True)
    model = OnnxModel(step_graph(config, weights, products).SerializeToString(), config)
    found = [*_magnitudes(model, np.array(openings, np.int32), 1)]
    found += _magnitudes(model, spread(openings, ROWS), STEPS)
    largest = [max(map(float, arrays)) for arrays in zip(*found, strict=True)]
    return {name.removeprefix(RANGE): value for name, value in zip(products.outputs, largest, strict=True)}


def _magnitudes(model: OnnxModel, starts: np.ndarray, steps: int) -> Iterator[list[np.ndarray]]:
    """Yields the largest magnitudes of each step while the network reads `starts` [B, T], then writes."""
    rng, state = np.random.default_rng(SEED), model.initial_state(len(starts))
    *before, ids = starts.T
    for read in before:
        _, state, found = model.step_with_more(read, state)
        yield found
    for _ in range(steps):
        logits, state, found = model.step_with_more(ids, state)
        yield found
        ids = drawn(log_softmax(logits), rng)


def _saturates() -> bool:
    """Whether sums of two products are cut off at 16 bits, as processors without VNNI do."""
    width, columns = 64, 16
    graph = Graph()
    matrix = graph.constant(np.full((width, columns), LEVELS, np.int8))
    graph("MatMulInteger", "x", matrix, name="y")
    made = helper.make_graph(
        graph.nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, width])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, columns])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = load_onnxruntime().InferenceSession(model.SerializeToString(), providers=[CPU])
    (sums,) = session.run(None, {"x": np.full((1, width), 255, np.uint8)})
    return bool((sums != 255 * LEVELS * width).any())

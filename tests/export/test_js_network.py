"""The network of the page computes the bits of the exact model in Python: plain, and by WebAssembly."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_models import KINDS, config_of
from javascript import BITS, bits_of, in_node, needs_node
from networks import random_weights

from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.model.exact_model import ExactModel, exact_weights
from textgen.saved_model.layout import INT8
from textgen.saved_model.precision import compressed

pytestmark = needs_node

STEPS = """
const kinds = { I8: Int8Array, F32: Float32Array };
const results = [];
for (const { config, arrays, ids } of given) {
  for (const entry of Object.values(arrays)) entry.values = kinds[entry.kind].from(entry.values);
  for (const wasm of [true, false]) {
    const network = await Network.load(config, arrays, wasm);
    const state = network.initialState();
    const logits = ids.map((id) => { network.step(id, state); return bits(network.logits); });
    results.push({ isSimd: network.isSimd, logits, state: bits(state) });
  }
}
return results;
"""


def described(config: ModelConfig, arrays: dict[str, np.ndarray], ids: list[int]) -> dict[str, Any]:
    """A network for JavaScript."""
    return {
        "config": asdict(config),
        "arrays": {
            name: {
                "kind": "I8" if array.dtype == np.int8 else "F32",
                "shape": array.shape,
                "values": array.reshape(-1).astype(float).tolist(),
            }
            for name, array in arrays.items()
        },
        "ids": ids,
    }


def check_bits(cases: list[tuple[str, ModelConfig, dict[str, np.ndarray]]], steps: int, folder: Path) -> None:
    """Compares logits and states after each of `steps` tokens."""
    ids = np.random.default_rng(1).integers(0, 30, steps).tolist()
    found = in_node(BITS + STEPS, [described(config, arrays, ids) for _, config, arrays in cases], folder)
    for number, (kind, config, arrays) in enumerate(cases):
        model = ExactModel(exact_weights(*one_way(config, arrays, "forward")))
        state, expected = model.initial_state(1), []
        for id in ids:
            logits, state = model.step(np.array([id], np.int32), state)
            expected.append(bits_of(logits[0]))
        layers = state[: config.num_layers]
        flat = [bits for layer in layers for array in layer for bits in bits_of(array[0])]
        for wasm, own in zip((True, False), found[2 * number : 2 * number + 2], strict=True):
            assert own["isSimd"] is wasm, kind
            assert own["logits"] == expected, (kind, wasm)
            assert own["state"][: len(flat)] == flat, (kind, wasm)


def test_every_kind_of_network(tmp_path: Path) -> None:
    configs = {kind: config_of(kind) for kind in KINDS}
    configs["both ways"] = replace(config_of("own head"), direction="both")
    cases = [(kind, config, compressed(random_weights(config, scale=0.25), INT8)) for kind, config in configs.items()]
    check_bits(cases, 12, tmp_path)


def test_extreme_weights(tmp_path: Path) -> None:
    """Zeros, a single large weight, sums as large as they can be, sizes that are no multiple of a vector's lanes."""
    cases = []
    for name, scale, size in (("zeros", 0.0, 7), ("large", 30.0, 13), ("tiny", 1e-30, 5), ("odd", 0.3, 33)):
        config = ModelConfig(31, embedding_dim=size, hidden_units=size, num_layers=2)
        weights = random_weights(config, scale=scale)
        cases.append((name, config, compressed(weights, INT8)))
    even = ModelConfig(31, embedding_dim=40, hidden_units=40, num_layers=1)
    ones = {name: np.ones(shape, np.float32) for name, shape in even.weight_shapes().items()}
    cases.append(("all 127", even, compressed(ones, INT8)))
    one = {name: np.zeros_like(array) for name, array in ones.items()}
    one["lstm_0/kernel"][3, 5] = one["embedding/table"][4, 3] = 2.0
    cases.append(("one weight", even, compressed(one, INT8)))
    check_bits(cases, 12, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_larger_networks(kind: str, tmp_path: Path) -> None:
    """Over 300 tokens, with weights of many sizes."""
    cases = [
        (f"{kind} {scale}", config_of(kind), compressed(random_weights(config_of(kind), seed, scale), INT8))
        for seed, scale in enumerate((0.05, 0.5, 2.0))
    ]
    check_bits(cases, 300, tmp_path)

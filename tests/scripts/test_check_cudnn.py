"""What PyTorch tells of cuDNN is compared with what textgen takes for granted; neither is needed here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf
from script_modules import load_script

from textgen.model.layers.cudnn import packed

FIXTURE = Path(__file__).parents[1] / "torch_lstm.json"
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_script("check_cudnn", patch)


@pytest.fixture
def cudnn(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cuDNN that does what textgen expects."""
    monkeypatch.setattr(
        script,
        "by_cudnn",
        lambda cell, precision, given: (script.by_reference(cell, given), script.packed(cell, given).astype(precision)),
    )


@pytest.mark.usefixtures("cudnn")
def test_what_is_as_expected_is_right(script: ModuleType) -> None:
    lines = list(script.lines())
    assert len(lines) == 2 * 2 * 3
    assert all("weights packed as expected; outputs and gradients differ by 0.000 %: right" in line for line in lines)


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("fault", ["padding", "order", "gradient", "no number", "error"])
def test_what_differs_is_wrong(script: ModuleType, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = script.by_cudnn

    def by_cudnn(
        cell: str, precision: str, given: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        found, buffer = right(cell, precision, given)
        if fault == "error":
            raise RuntimeError("CUDNN_STATUS_BAD_PARAM")
        if fault in ("padding", "order"):
            return found, np.append(buffer, 0) if fault == "padding" else buffer[::-1]
        spoiled = found["dbias"] + (np.nan if fault == "no number" else 1.0)
        return found | {"dbias": spoiled}, buffer

    monkeypatch.setattr(script, "by_cudnn", by_cudnn)
    assert all(line.endswith("WRONG") for line in script.lines())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_are_packed_as_for_tensorflow(script: ModuleType, cell: str) -> None:
    gates = {"lstm": 4, "gru": 3}[cell]
    shapes = {"kernel": (3, gates * 5), "recurrent_kernel": (5, gates * 5)}
    given = {name: RNG.normal(0, 1, shape) for name, shape in shapes.items()}
    given["bias"] = RNG.normal(0, 1, (2, gates * 5) if cell == "gru" else gates * 5)
    parts = [tf.constant(part) for part in script.parts_of(cell, given)]
    np.testing.assert_array_equal(script.packed(cell, given), packed(cell, parts, tf.float64))
    for part in script.parts_of(cell, given):
        np.testing.assert_array_equal(script.as_in_textgen(cell, script.as_in_pytorch(cell, part)), part)


def test_weights_are_laid_out_as_those_of_pytorch(script: ModuleType) -> None:
    """The numbers are PyTorch's own; of its two biases, textgen has the sum."""
    numbers = {name: np.array(array) for name, array in json.loads(FIXTURE.read_text(encoding="utf-8")).items()}
    kernel, recurrent_kernel, *biases = (
        script.as_in_textgen("lstm", numbers[f"{name}_l0"]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    given = {"x": numbers["inputs"].transpose(1, 0, 2), "h": np.zeros((1, 4)), "c": np.zeros((1, 4))}
    given |= {"kernel": kernel, "recurrent_kernel": recurrent_kernel, "bias": sum(biases)}
    found = script.by_reference("lstm", given)
    np.testing.assert_allclose(found["outputs"].transpose(1, 0, 2), numbers["outputs"], atol=1e-6)
    np.testing.assert_allclose(found["last c"], numbers["cell"][0], atol=1e-6)

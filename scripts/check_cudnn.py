"""How cuDNN takes and computes a recurrent layer, asked through PyTorch: the weights packed, outputs and gradients.

    python scripts/check_cudnn.py

Needs PyTorch and a GPU, but not TensorFlow. Compares the array into which PyTorch packs the weights of a layer for
cuDNN with the order in which textgen does, and what cuDNN makes of them with the NumPy reference. A line that is wrong
says WRONG, and the exit code is 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from benchmarking import run_script

from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.layers.cudnn_order import GATES, in_order_of_cudnn
from textgen.versions import require

ROWS, STEPS = 3, 7
SIZES = ((24, 32), (23, 33), (5, 1))  # inputs and units; odd ones, since cuDNN may pad
TOLERANCES = {"float32": 1e-4, "float16": 0.02}
MODES = {"lstm": 2, "gru": 3}  # numbers of the cells in cuDNN

Arrays = dict[str, np.ndarray]


def main() -> int:
    """Prints the report. Returns 1 if something is wrong, or there is no GPU."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    require("The check of cuDNN", ["torch"], "benchmark")
    import torch

    if not torch.cuda.is_available():
        print("PyTorch sees no GPU here, so there is no cuDNN to ask.")
        return 1
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
    is_wrong = False
    for line in lines():
        print(line, flush=True)
        is_wrong = is_wrong or "WRONG" in line
    return int(is_wrong)


def lines() -> Iterator[str]:
    """A line for each cell, precision and size; an error is one, too."""
    for cell in MODES:
        for precision in TOLERANCES:
            for inputs, units in SIZES:
                try:
                    said = compared(cell, precision, inputs, units)
                except Exception as error:  # noqa: BLE001 - whatever a GPU makes of it
                    said = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[-1]}: WRONG"
                yield f"{cell:<5} {precision:<9} {inputs:2} inputs, {units:2} units: {said}"


def compared(cell: str, precision: str, inputs: int, units: int) -> str:
    """A layer in cuDNN beside the reference."""
    rng = np.random.default_rng(0)
    gates = len(GATES[cell])
    bias = (2, gates * units) if cell == "gru" else (gates * units,)
    shapes = {"kernel": (inputs, gates * units), "recurrent_kernel": (units, gates * units), "bias": bias}
    names = reference.cell_of(ModelConfig(9, 2, 2, 1, cell=cell)).letters
    given = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    given |= {
        "x": rng.normal(0, 1, (ROWS, STEPS, inputs)),
        **{name: rng.normal(0, 0.5, (ROWS, units)) for name in names},
    }
    given = {name: array.astype(precision).astype(np.float64) for name, array in given.items()}
    mine, buffer = by_cudnn(cell, precision, given)
    wanted, order = by_reference(cell, given), packed(cell, given).astype(precision)
    is_packed = buffer.shape == order.shape and bool((buffer == order).all())
    off = float(np.max([np.linalg.norm(mine[name] - wanted[name]) / np.linalg.norm(wanted[name]) for name in wanted]))
    is_right = is_packed and off < TOLERANCES[precision]
    place = "as expected" if is_packed else f"in another order ({len(buffer):,} numbers, expected {len(order):,})"
    return (
        f"weights packed {place}; outputs and gradients differ by {100 * off:.3f} %: {'right' if is_right else 'WRONG'}"
    )


def packed(cell: str, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weights in one array, in the order of `textgen.model.layers.cudnn_order`."""
    parts = [np.split(part, len(GATES[cell]), axis=-1) for part in parts_of(cell, given)]
    return np.concatenate([gate.T.ravel() for gate in in_order_of_cudnn(cell, parts)])


def parts_of(cell: str, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """W, U and the biases from x and from h; an LSTM of textgen has only one of these."""
    biases = given["bias"] if cell == "gru" else [np.zeros_like(given["bias"]), given["bias"]]
    return [given["kernel"], given["recurrent_kernel"], *biases]


def by_reference(cell: str, given: Mapping[str, np.ndarray]) -> Arrays:
    """Outputs, the last state, and the gradients of the sum of the sines of both."""
    kind = reference.cell_of(ModelConfig(9, 2, 2, 1, cell=cell))
    names = kind.letters
    weights = {name: given[name] for name in ("kernel", "recurrent_kernel", "bias")}
    state = tuple(given[name] for name in names)
    outputs, last, records = reference.layer_forward(kind, given["x"], state, weights)
    slopes = tuple(np.cos(array) for array in last)
    dx, before, gradients = reference.layer_backward(kind, np.cos(outputs), slopes, records, weights)
    found = {"outputs": outputs, "dx": dx} | {f"last {name}": array for name, array in zip(names, last, strict=True)}
    found |= {f"d{name}": array for name, array in zip(names, before, strict=True)}
    return found | {f"d{name}": gradient for name, gradient in gradients.items()}


def by_cudnn(cell: str, precision: str, given: Mapping[str, np.ndarray], device: str = "cuda") -> tuple[Arrays, Any]:
    """The same of PyTorch, which calls cuDNN on a GPU, and the array into which it packs the weights."""
    import torch

    def tensor(array: np.ndarray) -> Any:
        return torch.tensor(array, dtype=getattr(torch, precision), device=device, requires_grad=True)

    names = reference.cell_of(ModelConfig(9, 2, 2, 1, cell=cell)).letters
    inputs, units = given["kernel"].shape[0], given["recurrent_kernel"].shape[0]
    layer = (torch.nn.LSTM if cell == "lstm" else torch.nn.GRU)(inputs, units, batch_first=True)
    layer = layer.to(device, getattr(torch, precision))
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    with torch.no_grad():
        for weight, part in zip(weights, parts_of(cell, given), strict=True):
            weight.copy_(torch.tensor(as_in_pytorch(cell, part)))
        buffer = pack(cell, [weight.detach().clone() for weight in weights])
    x, state = tensor(given["x"]), [tensor(given[name][None]) for name in names]
    outputs, last = layer(x, tuple(state) if cell == "lstm" else state[0])
    last = list(last) if cell == "lstm" else [last]
    sum(torch.sin(array.float()).sum() for array in (outputs, *last)).backward()
    found = {"outputs": as_array(outputs), "dx": as_array(x.grad)}
    found |= {f"last {name}": as_array(array)[0] for name, array in zip(names, last, strict=True)}
    found |= {f"d{name}": as_array(array.grad)[0] for name, array in zip(names, state, strict=True)}
    kernel, recurrent_kernel, *biases = (as_in_textgen(cell, as_array(weight.grad)) for weight in weights)
    found |= {"dkernel": kernel, "drecurrent_kernel": recurrent_kernel}
    return found | {"dbias": np.stack(biases) if cell == "gru" else biases[1]}, as_array(buffer)


def pack(cell: str, weights: list[Any]) -> Any:
    """Lets PyTorch pack its weights for cuDNN: one layer, batches first, one direction, without a projection."""
    import torch

    inputs, units = weights[0].shape[1], weights[1].shape[1]
    return torch._cudnn_rnn_flatten_weight(weights, len(weights), inputs, MODES[cell], units, 0, 1, True, False)


def as_in_pytorch(cell: str, part: np.ndarray) -> np.ndarray:
    """A weight of textgen, [in, gates * H] or [gates * H], laid out as PyTorch does: transposed, gates as in cuDNN."""
    gates = np.split(part, len(GATES[cell]), axis=-1)
    return np.concatenate(in_order_of_cudnn(cell, [gates]), axis=-1).T


def as_in_textgen(cell: str, part: np.ndarray) -> np.ndarray:
    """The inverse of `as_in_pytorch`."""
    gates = np.split(part.T, len(GATES[cell]), axis=-1)
    return np.concatenate([gates[GATES[cell].index(number)] for number in range(len(gates))], axis=-1)


def as_array(tensor: Any) -> np.ndarray:
    """A tensor in NumPy."""
    return np.asarray(tensor.detach().cpu().double().numpy())


if __name__ == "__main__":
    run_script(main)

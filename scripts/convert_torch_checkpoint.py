"""A PyTorch checkpoint of a recurrent language model -> a safetensors file for `textgen import`.

    pip install torch
    python scripts/convert_torch_checkpoint.py model.pt state.safetensors
    textgen import state.safetensors --format pytorch --name NAME --tokenizer-from MODEL

Reads a state dict, a checkpoint that holds one as `state_dict`, `model_state_dict` or `model`, and the whole module
that PyTorch's word_language_model example saves. Nothing of the file is run: PyTorch's own restricted loader
(`weights_only`) reads it, and of classes it may name only the layers that such a module is made of.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarking import run_script

from textgen.export.pytorch import write_torch
from textgen.versions import require

if TYPE_CHECKING:
    import torch

HOLDERS = ("state_dict", "model_state_dict", "model")  # names under which checkpoints hold a state dict
EXPECTED = "Save a state dict: torch.save(model.state_dict(), ...)."


def layers() -> list[type]:
    """The classes that a checkpoint may name. The first stands for the example's, in its module `model`."""
    from torch import nn

    class RNNModel(nn.Module):
        """A bag of layers."""

    RNNModel.__module__, RNNModel.__qualname__ = "model", "RNNModel"
    sys.modules["model"] = ModuleType("model")  # where the example's class is looked for
    sys.modules["model"].RNNModel = RNNModel  # type: ignore[attr-defined]
    return [RNNModel, nn.Embedding, nn.LSTM, nn.GRU, nn.RNN, nn.Linear, nn.Dropout]


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a checkpoint, by name; ends the program where there are none, or such as no array can hold."""
    import torch
    from torch import nn

    try:
        with torch.serialization.safe_globals([*layers(), set]):
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        sys.exit(f"Cannot read {path}: it is no checkpoint, or holds more than tensors and a module of known layers.")
    except OSError as error:
        sys.exit(f"Cannot read {path}: {error.strerror or error}.")
    except Exception:  # noqa: BLE001 - other bytes may make the loader raise anything, such as KeyError by a text
        sys.exit(f"Cannot read {path}: it is no checkpoint, or is damaged. {EXPECTED}")
    outer = set[int]()  # of dictionaries, one of which may hold itself
    while isinstance(loaded, dict) and not _has_only(torch.Tensor, loaded) and id(loaded) not in outer:
        outer.add(id(loaded))
        loaded = next((loaded[name] for name in HOLDERS if name in loaded), None)
    if isinstance(loaded, nn.Module):
        loaded = loaded.state_dict()
    if not isinstance(loaded, dict) or not _has_only(torch.Tensor, loaded):
        sys.exit(f"{path} holds no state dict. {EXPECTED}")
    if unnamed := [name for name in loaded if not isinstance(name, str)]:
        sys.exit(f"{path} has {unnamed[0]!r} in place of the name of a tensor. {EXPECTED}")
    for name, tensor in loaded.items():
        if odd := _oddity(tensor):
            sys.exit(
                f"{path} has a {odd} tensor, {name}: convert it to a dense one of real numbers, and save it again."
            )
    return loaded


def _has_only(kind: type, values: dict[Any, Any]) -> bool:
    """Whether there are values, all of a class."""
    return bool(values) and all(isinstance(value, kind) for value in values.values())


def _oddity(tensor: torch.Tensor) -> str:
    """What keeps a tensor from being an array of real numbers, in a word; "" if nothing does."""
    import torch

    oddities = {
        "nested": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "quantized": tensor.is_quantized,
        "complex": tensor.is_complex(),
        "meta": tensor.is_meta,  # it has a shape and no numbers
    }
    return next((word for word, is_so in oddities.items() if is_so), "")


def main() -> None:
    """Reads one file and writes the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("safetensors", type=Path)
    options = parser.parse_args()
    require("Reading a checkpoint of PyTorch", ["torch"], "benchmark")
    tensors = {name: tensor.detach().float().numpy() for name, tensor in state_dict(options.checkpoint).items()}
    write_torch(options.safetensors, tensors)
    for name, array in tensors.items():
        print(f"{name:<24} {array.shape}")


if __name__ == "__main__":
    run_script(main)

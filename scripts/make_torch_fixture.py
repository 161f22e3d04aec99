"""Writes tests/torch_lstm.json: a small nn.LSTM, its input and what it makes of it, as PyTorch computes it.

pip install -e ".[benchmark]"
python scripts/make_torch_fixture.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarking import run_script

from textgen.versions import require

FIXTURE = Path(__file__).parent.parent / "tests" / "torch_lstm.json"


def main() -> None:
    """The numbers follow from the seed, the order of the two draws and PyTorch's initialization."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    require("Writing the file", ["torch"], "benchmark")
    import torch
    from torch import nn

    torch.manual_seed(42)
    lstm = nn.LSTM(2, 4)
    inputs = torch.randn(3, 1, 2)  # [T, B, in]
    with torch.no_grad():
        outputs, (_, cell) = lstm(inputs)
    values = {"inputs": inputs, **lstm.state_dict(), "outputs": outputs, "cell": cell}
    text = json.dumps({name: tensor.tolist() for name, tensor in values.items()}, indent=1)
    FIXTURE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)

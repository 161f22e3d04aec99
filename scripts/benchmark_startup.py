"""From pressing Enter to the first text: `textgen sample` beside a PyTorch program of the same network, cold.

pip install -e ".[benchmark,onnx]"
python scripts/benchmark_startup.py MODEL
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, cast

from benchmarking import (
    Result,
    arguments,
    completed,
    digest,
    interleave,
    names_with,
    report,
    require_torch,
    run_script,
    started,
)

from textgen.system.child_processes import child_command

RUNTIMES = ("numpy", "onnx")
TORCH = "PyTorch"
TORCH_PROGRAM = """
import sys, torch
from torch import nn
embedding, lstm, output = nn.Embedding({V}, {E}), nn.LSTM({E}, {H}, {L}), nn.Linear({H}, {V})
network = nn.ModuleList([embedding, lstm, output])
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
with torch.inference_mode():
    features, _ = lstm(embedding(torch.zeros((1, 1), dtype=torch.long)))
    print(int(torch.multinomial(torch.softmax(output(features[0]) / 0.8, -1), 1)), flush=True)
"""


def work(run: Result) -> Result:
    """Seconds until a fresh process has written something."""
    beginning = time.perf_counter()
    command = run["commands"][run["name"]]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output = cast(IO[bytes], process.stdout)
        first = output.read(1)
        seconds = time.perf_counter() - beginning
        output.read()
        is_failed = process.wait() != 0
    if is_failed or not first:
        sys.exit(f"no text from {command}")
    return {"seconds": seconds}


def textgen_command(model: str, runtime: str) -> list[str]:
    """The command that writes a text by a runtime, run once: ONNX Runtime measures the network at its first use."""
    command = [*child_command("textgen"), "sample", model, "--max-tokens", "50", "--seed", "1", "--runtime", runtime]
    done = completed(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return command


def torch_command(model: str, folder: str) -> list[str]:
    """The command of a PyTorch program that samples from a network of the model's sizes, whose weights it reads."""
    import torch
    from torch import nn

    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))["model"]
    V, E, H, L = (config[name] for name in ("vocab_size", "embedding_dim", "hidden_units", "num_layers"))
    state = nn.ModuleList([nn.Embedding(V, E), nn.LSTM(E, H, L), nn.Linear(H, V)]).state_dict()
    torch.save(state, f"{folder}/network.pt")
    return [sys.executable, "-c", TORCH_PROGRAM.format(V=V, E=E, H=H, L=L), f"{folder}/network.pt"]


def main() -> None:
    """The parent starts a worker for each run; a worker prints what it measured."""
    parser = arguments((__doc__ or "").partition("\n")[0], rounds=7)
    parser.add_argument("model", nargs="?", help="folder of a saved model")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return
    if not options.model:
        parser.error("name the folder of a saved model")
    programs = {f"textgen sample --runtime {runtime}": runtime for runtime in RUNTIMES} | {TORCH: "torch"}
    names = names_with(options.only or "", list(programs))
    require_torch([{"framework": programs[name]} for name in names])
    config = Path(options.model) / "config.json"
    model = digest(config.read_bytes()) if config.exists() else options.model
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            name: torch_command(options.model, folder)
            if name == TORCH
            else textgen_command(options.model, programs[name])
            for name in names
        }
        contenders = [{"name": name, "model": model} for name in names]
        results = interleave(__file__, contenders, options.rounds, options.json, {"commands": commands})
    rows = [[r["name"], f"{r['seconds']:.2f}"] for r in results]
    report("From Enter to the first text, cold", ["program", "seconds"], rows)


if __name__ == "__main__":
    run_script(main)

"""Sampling speed of textgen beside PyTorch: same network, one text and 64 at once, temperature 0.8.

    pip install -e '.[benchmark]'
    python scripts/benchmark_sampling.py

PyTorch runs in float32, bfloat16 autocast and with weights quantised to int8 (dynamically), in inference mode.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

from benchmarking import Result, arguments, interleave, peak_memory, report, save

UNITS, VOCAB_SIZE, TEMPERATURE = 512, 8000, 0.8
STEPS, CALLS = 32, 8


def contenders() -> list[Result]:
    """What runs against what."""
    kinds = [("textgen", "float32"), ("torch", "float32"), ("torch", "bfloat16"), ("torch", "int8")]
    return [
        {"name": f"B={rows}: {framework} {precision}", "framework": framework, "precision": precision, "rows": rows}
        for rows in (1, 64)
        for framework, precision in kinds
    ]


def textgen_steps(run: Result) -> Callable[[], None]:
    """A call that writes `STEPS` pieces for each text."""
    import numpy as np

    from textgen.config import ModelConfig, SamplingConfig
    from textgen.numpy_model import NumpyModel
    from textgen.sampling import Sampler
    from textgen.tokenizer import ByteTokenizer

    shape = ModelConfig(VOCAB_SIZE, embedding_dim=UNITS, hidden_units=UNITS, num_layers=2)
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(0, 0.05, size).astype(np.float32) for n, size in shape.weight_shapes().items()}
    model, rows = NumpyModel(shape, weights), run["rows"]
    config = SamplingConfig(temperature=TEMPERATURE, min_p=0.0)
    tokenizer = ByteTokenizer()
    tokenizer.piece_bytes += [b"?"] * (VOCAB_SIZE - tokenizer.vocab_size)
    sampler = Sampler([replace(config, seed=seed) for seed in range(rows)], tokenizer)
    state, ids = model.initial_state(rows), np.ones(rows, np.int32)

    def steps() -> None:
        nonlocal state, ids
        for _ in range(STEPS):
            logits, state = model.step(ids, state)
            ids = sampler.draw(logits)

    return steps


def torch_steps(run: Result) -> Callable[[], None]:
    """The same by PyTorch."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.lstm = nn.Embedding(VOCAB_SIZE, UNITS), nn.LSTM(UNITS, UNITS, 2)
            self.output = nn.Linear(UNITS, VOCAB_SIZE)

        def forward(self, ids, state):  # type: ignore[no-untyped-def]
            features, state = self.lstm(self.embedding(ids), state)
            return self.output(features[0]), state

    network = Network().eval()
    if run["precision"] == "int8":
        network = torch.ao.quantization.quantize_dynamic(network, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    ids, state = torch.ones((1, run["rows"]), dtype=torch.long), None

    def steps() -> None:
        nonlocal ids, state
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=run["precision"] == "bfloat16"):
            for _ in range(STEPS):
                logits, state = network(ids, state)
                ids = torch.multinomial(torch.softmax(logits.float() / TEMPERATURE, -1), 1).T

    return steps


def work(run: Result) -> Result:
    """Tokens a second and memory of one contender."""
    steps = {"textgen": textgen_steps, "torch": torch_steps}[run["framework"]](run)
    steps()
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        steps()
        times.append(time.perf_counter() - started)
    return {"tokens_per_second": STEPS * run["rows"] / sorted(times)[CALLS // 2], "peak_memory": peak_memory()}


def main() -> None:
    """The parent starts a worker for each run; a worker prints what it measured."""
    options = arguments((__doc__ or "").splitlines()[0], rounds=5).parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return
    chosen = [run for run in contenders() if not options.only or options.only in run["name"]]
    results = interleave(__file__, chosen, options.rounds)
    save(options.json, results)
    ours = {r["rows"]: r["tokens_per_second"] for r in results if r["framework"] == "textgen"}
    rows = [
        [
            str(r["rows"]), r["framework"], r["precision"], f"{r['tokens_per_second']:,.0f}",
            f"{ours[r['rows']] / r['tokens_per_second']:.2f}", f"{r['peak_memory'] / 1e9:.2f}",
        ]
        for r in results
    ]  # fmt: skip
    header = ["texts at once", "program", "precision", "tokens/s", "textgen is x times this", "GB"]
    report(f"Sampling, 2 x {UNITS} units, {VOCAB_SIZE:,} pieces", header, rows)


if __name__ == "__main__":
    main()

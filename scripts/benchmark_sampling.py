"""Sampling speed of textgen beside PyTorch: same network, one text and 64 at once, temperature 0.8.

    pip install -e ".[benchmark,onnx]"
    python scripts/benchmark_sampling.py

PyTorch runs in float32, bfloat16 autocast and with weights quantised to int8 (dynamically), in inference mode; in int8
also with Gumbel noise and the largest logit in place of softmax and multinomial, its quickest way to draw. textgen runs
by NumPy in float32 and by ONNX Runtime in int8. All run with an allocator that keeps its memory. A second table says
which share of a step textgen's samplers take; the logits are spread as those of a model with a perplexity near 90.
Texts keep to words that exist, as those of `textgen sample` do, except where the temperature alone is measured and with
coin_words.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarking import Result, arguments, chosen, interleave, peak_memory, report, require_torch, run_script

FABLES = Path(__file__).parent.parent / "corpora" / "fables.txt"
UNITS, VOCAB_SIZE, TEMPERATURE = 512, 8000, 0.8
STEPS, CALLS = 32, 8
GUMBEL = "int8, Gumbel"  # a way to draw
ALL_SAMPLERS: dict[str, Any] = {
    "temperature": 0.9, "dynatemp_range": 0.3, "top_k": 60, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.97,
    "top_n_sigma": 3.0, "epsilon_cutoff": 1e-4, "eta_cutoff": 1e-4, "xtc_probability": 0.4, "xtc_threshold": 0.05,
    "repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.05, "dry_multiplier": 0.8,
}  # fmt: skip
CHAINS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": TEMPERATURE, "min_p": 0.0, "coin_words": True},  # all that PyTorch does
    "default settings": {},
    "default settings and coin_words": {"coin_words": True},
    "all samplers": ALL_SAMPLERS,
    "all samplers and coin_words": {**ALL_SAMPLERS, "coin_words": True},
    "all samplers and constraints": ALL_SAMPLERS
    | {"no_repeat_ngram_size": 3, "logit_bias": ("e=1", "th=2"), "ban": ("the", "q"), "min_tokens": 20},
}


def contenders() -> list[Result]:
    """What runs against what, and textgen with other samplers than that."""
    kinds = [("textgen", "int8"), ("textgen", "float32")]
    kinds += [("torch", precision) for precision in ("float32", "bfloat16", "int8", GUMBEL)]
    runs = [
        {"name": f"B={rows}: {framework} {precision}", "framework": framework, "precision": precision, "rows": rows}
        for rows in (1, 64)
        for framework, precision in kinds
    ]
    runs += [
        {"name": f"B=64: textgen {kind}, {chain}", "framework": "textgen", "kind": kind, "rows": 64, "chain": chain}
        for kind in ("float32", "int8")
        for chain in CHAINS
        if chain != "temperature"
    ]
    return [{"chain": "temperature", "allocator": "tuned"} | run for run in runs]


def textgen_steps(run: Result) -> tuple[Callable[[], None], Result]:
    """A call that writes `STEPS` pieces for each text, and where it adds up the seconds that the samplers take."""
    import numpy as np

    from textgen.generation.config import SamplingConfig
    from textgen.generation.sampling.sampler import Sampler
    from textgen.model.config import ModelConfig
    from textgen.model.numpy_model import NumpyModel

    shape = ModelConfig(VOCAB_SIZE, embedding_dim=UNITS, hidden_units=UNITS, num_layers=2)
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(0, 0.05, size).astype(np.float32) for n, size in shape.weight_shapes().items()}
    weights["head/bias"] *= 60  # a deviation of 3
    model, rows = NumpyModel(shape, weights), run["rows"]
    if "int8" in (run.get("precision"), run.get("kind")):
        model = int8_model(shape, weights)
    config = SamplingConfig(**CHAINS[run["chain"]])
    tokenizer, words = vocabulary()
    sampler = Sampler([replace(config, seed=seed) for seed in range(rows)], tokenizer, word_tokens=words)
    state, ids = model.initial_state(rows), np.ones(rows, np.int32)
    spent = {"sampling": 0.0}

    def steps() -> None:
        nonlocal state, ids
        for _ in range(STEPS):
            logits, state = model.step(ids, state)
            started = time.perf_counter()
            ids = sampler.draw(logits)
            spent["sampling"] += time.perf_counter() - started

    return steps, spent


def vocabulary() -> tuple[Any, Any]:
    """Words of the bundled fables, and their first letters and the others as tokens of their own; which words exist."""
    from textgen.dataset.word_filter import word_filter
    from textgen.dataset.words import count_words
    from textgen.generation.constraints.word_tokens import word_tokens
    from textgen.tokenizer.kinds import ByteTokenizer

    counts, tokenizer = count_words([FABLES.read_text(encoding="utf-8")]), ByteTokenizer()
    words = [word for word, _ in counts.most_common()]
    parts = [f" {word}" for word in words]
    parts += [part for at in range(2, 9) for word in words for part in (f" {word[:at]}", word[at:])]
    tokens = [part.encode() for part in dict.fromkeys(parts) if part]
    tokenizer.piece_bytes += tokens[: VOCAB_SIZE - tokenizer.vocab_size]
    return tokenizer, word_tokens(tokenizer, word_filter(counts))


def int8_model(shape: Any, weights: Any) -> Any:
    """The network for ONNX Runtime."""
    from textgen.model.onnx_int8 import int8_network
    from textgen.model.onnx_model import OnnxModel

    data, _ = int8_network(shape, weights, openings=[[1]])
    return OnnxModel(data, shape)


def torch_steps(run: Result) -> tuple[Callable[[], None], Result]:
    """The same by PyTorch."""
    import torch
    from torch import nn

    from textgen.system.machine import num_cores

    torch.set_num_threads(num_cores())

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.lstm = nn.Embedding(VOCAB_SIZE, UNITS), nn.LSTM(UNITS, UNITS, 2)
            self.output = nn.Linear(UNITS, VOCAB_SIZE)

        def forward(self, ids, state):  # type: ignore[no-untyped-def]
            features, state = self.lstm(self.embedding(ids), state)
            return self.output(features[0]), state

    network = Network().eval()
    if run["precision"] in ("int8", GUMBEL):
        network = torch.ao.quantization.quantize_dynamic(network, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    ids, state = torch.ones((1, run["rows"]), dtype=torch.long), None

    def steps() -> None:
        nonlocal ids, state
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=run["precision"] == "bfloat16"):
            for _ in range(STEPS):
                logits, state = network(ids, state)
                logits = logits.float() / TEMPERATURE
                if run["precision"] == GUMBEL:
                    ids = (logits - torch.empty_like(logits).exponential_().log_()).argmax(-1)[None]
                else:
                    ids = torch.multinomial(torch.softmax(logits, -1), 1).T

    return steps, {}


def work(run: Result) -> Result:
    """Tokens a second and memory of one contender; of textgen also the samplers' share of a step."""
    steps, spent = {"textgen": textgen_steps, "torch": torch_steps}[run["framework"]](run)
    steps()
    times, shares = [], []
    for _ in range(CALLS):
        before, started = spent.get("sampling", 0.0), time.perf_counter()
        steps()
        times.append(time.perf_counter() - started)
        shares.append((spent.get("sampling", 0.0) - before) / times[-1])
    return {
        "tokens_per_second": STEPS * run["rows"] / statistics.median(times),
        "samplers_share": statistics.median(shares),
        "peak_memory": peak_memory(),
    }


def main() -> None:
    """The parent starts a worker for each run; a worker prints what it measured."""
    options = arguments((__doc__ or "").partition("\n")[0], rounds=5).parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return
    runs = chosen(contenders(), options.only)
    require_torch(runs)
    results = interleave(__file__, runs, options.rounds, options.json)
    ours = {
        precision: {r["rows"]: r["tokens_per_second"] for r in results if r["name"].endswith(f": textgen {precision}")}
        for precision in ("int8", "float32")
    }
    rows = [
        [
            str(r["rows"]), r["framework"], r["precision"], f"{r['tokens_per_second']:,.0f}",
            *(f"{own[r['rows']] / r['tokens_per_second']:.2f}" if r["rows"] in own else "" for own in ours.values()),
            f"{r['peak_memory'] / 1e9:.2f}",
        ]
        for r in results if "precision" in r
    ]  # fmt: skip
    header = ["texts at once", "program", "precision", "tokens/s", "textgen int8 is x times this", "float32", "GB"]
    report(f"Sampling, 2 x {UNITS} units, {VOCAB_SIZE:,} pieces", header, rows)
    rows = [
        [r.get("precision") or r["kind"], r["chain"], f"{r['tokens_per_second']:,.0f}", f"{r['samplers_share']:.1%}"]
        for r in results
        if r["framework"] == "textgen" and r["rows"] == 64
    ]
    report("What 64 texts at once are sampled with", ["precision", "settings", "tokens/s", "share of a step"], rows)


if __name__ == "__main__":
    run_script(main)

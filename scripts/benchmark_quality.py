"""Penn Treebank: how good textgen gets in the time that PyTorch's word_language_model example takes.

    pip install -e ".[benchmark]"
    python scripts/benchmark_quality.py --data FOLDER --shares 1 0.35 0.2

First PyTorch trains as its example does by default, but with `--tied` and 6 epochs: 2 LSTM layers of 200 units, 20 rows
of 35 words, dropout 0.2, SGD at 20, divided by 4 after an epoch that did not help, gradients clipped at 0.25. Then
textgen trains for shares of that time, counted from the start of the program. It is told to read words, and chooses all
other settings itself. The memory of PyTorch's allocator is tuned, as in the other benchmarks. The measure is the
perplexity of the test text, the end of a line being a word. With --json, a run that has ended is not lost if a later
one fails: it is in the file, and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarking import (
    RUN,
    Result,
    completed,
    digest,
    earlier_results,
    environment,
    machine,
    measured_once,
    positive_int,
    positive_number,
    report,
    require_torch,
    run_script,
)
from reproduce import TASKS, divide, textgen

WORDS = ["--tokenizer", "word", "--vocab-size", "10003", "--documents", "file"]
TRAIN, VALID, TEST = TASKS["ptb"].files
UNITS, LAYERS, ROWS, STEPS, DROPOUT = 200, 2, 20, 35, 0.2
LEARNING_RATE, CLIP_NORM = 20.0, 0.25
TORCH = "PyTorch word_language_model"
BESIDES = 30.0  # seconds of textgen's run that are not training: its start, the vocabulary, the last score


def train_torch(data: Path, epochs: int) -> Result:
    """PyTorch's recipe: perplexity of the test text, seconds, parameters."""
    started = time.perf_counter()
    import torch
    from torch import nn

    from textgen.system.machine import num_cores

    torch.set_num_threads(num_cores())
    torch.manual_seed(1111)
    words: dict[str, int] = {}

    def rows_of(name: str, rows: int) -> torch.Tensor:
        text = (data / name).read_text(encoding="utf-8")
        ids = [words.setdefault(word, len(words)) for line in text.splitlines() for word in [*line.split(), "<eos>"]]
        length = len(ids) // rows
        return torch.tensor(ids[: rows * length]).view(rows, length).t().contiguous()  # [N, rows]

    train, valid, test = rows_of(TRAIN, ROWS), rows_of(VALID, 10), rows_of(TEST, 10)
    embedding, output, drop = nn.Embedding(len(words), UNITS), nn.Linear(UNITS, len(words)), nn.Dropout(DROPOUT)
    lstm = nn.LSTM(UNITS, UNITS, LAYERS, dropout=DROPOUT)
    output.weight = embedding.weight
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    nn.init.zeros_(output.bias)
    model = nn.ModuleList([embedding, lstm, output, drop])

    def nats(text: torch.Tensor, learning_rate: float | None = None) -> float:
        """Mean nats per word; with a learning rate it learns as it goes."""
        model.train(learning_rate is not None)
        total, state = 0.0, None
        for at in range(0, len(text) - 1, STEPS):
            length = min(STEPS, len(text) - 1 - at)
            with torch.set_grad_enabled(learning_rate is not None):
                features, state = lstm(drop(embedding(text[at : at + length])), state)
                logits = output(drop(features)).view(-1, len(words))
                loss = nn.functional.cross_entropy(logits, text[at + 1 : at + 1 + length].reshape(-1))
            state = tuple(tensor.detach() for tensor in state)
            total += length * float(loss.detach())
            if learning_rate is not None:
                model.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                for parameter in model.parameters():
                    parameter.data.add_(parameter.grad, alpha=-learning_rate)
        return total / (len(text) - 1)

    learning_rate, best, best_weights = LEARNING_RATE, math.inf, model.state_dict()
    for epoch in range(epochs):
        nats(train, learning_rate)
        score = nats(valid)
        print(f"PyTorch, epoch {epoch + 1}: valid {math.exp(score):.1f}", file=sys.stderr)
        if score < best:
            best, best_weights = score, {name: tensor.clone() for name, tensor in model.state_dict().items()}
        else:
            learning_rate /= 4
    model.load_state_dict(best_weights)
    seconds = time.perf_counter() - started
    return {
        "perplexity": math.exp(nats(test)),
        "seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def train_textgen(data: Path, seconds: float, models_dir: Path) -> Result:
    """textgen for as long, the start of the program included."""
    started = time.perf_counter()
    where: list[str | Path] = ["--models-dir", models_dir]
    files: list[str | Path] = [data / TRAIN, "--valid-file", data / VALID]
    minutes = str((seconds - BESIDES) / 60)
    run = textgen("train", *files, *WORDS, "--minutes", minutes, "--name", "benchmark", *where)
    took = time.perf_counter() - started
    scores = textgen("evaluate", "benchmark", data / TEST, "--documents", "file", *where)
    return {"perplexity": scores["perplexity_per_token"], "seconds": took, "parameters": run["parameters"]}


def by_torch(data: Path, epochs: int) -> Result:
    """PyTorch's recipe in a process of its own."""
    command = [sys.executable, __file__, "--data", str(data), "--epochs", str(epochs), "--worker"]
    done = completed(command, stdout=subprocess.PIPE, env=environment({"allocator": "tuned"}))
    if done.returncode:
        sys.exit(done.returncode)
    result: Result = json.loads(done.stdout)
    return result


def by_textgen(data: Path, seconds: float) -> Result:
    """textgen in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return train_textgen(data, seconds, Path(folder))


def compared(data: Path, epochs: int, shares: list[float], path: Path | None) -> dict[str, Result]:
    """What PyTorch reached, and textgen in shares of its time, by name; runs that the file has are not repeated."""
    known = earlier_results(path, (*RUN, "measured"))
    text = digest(b"".join((data / name).read_bytes() for name in (TRAIN, VALID, TEST)))

    def result(name: str, what: Result, measure: Callable[[], Result]) -> Result:
        contender = {"name": name, "sha256": text, **what}
        run = {"script": "benchmark_quality", "machine": machine(), "round": 1, "contender": contender}
        return measured_once(path, known, run, name, measure)

    results = {TORCH: result(TORCH, {"epochs": epochs}, partial(by_torch, data, epochs))}
    for share in shares:
        name, seconds = f"textgen, {share:.0%} of the time", share * results[TORCH]["seconds"]
        if seconds > BESIDES:
            results[name] = result(name, {"seconds": seconds}, partial(by_textgen, data, seconds))
        else:
            took = results[TORCH]["seconds"]
            print(f"{share:.0%} of {took:.0f} s leaves no time to train: left out.", file=sys.stderr)
    return results


def main() -> None:
    """PyTorch in a process of its own, then textgen, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help=f"where {TRAIN}, {VALID} and {TEST} are"
    )
    parser.add_argument("--epochs", type=positive_int, default=6, help="of PyTorch's")
    parser.add_argument(
        "--shares",
        type=positive_number,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="of PyTorch's time, a run of textgen for each",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where each run is added; runs that the file has are not repeated"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(train_torch(options.data, options.epochs)))
        return
    divide(TASKS["ptb"], options.data, options.data)  # says which file is missing
    require_torch([{"framework": "torch"}])
    results = compared(options.data, options.epochs, options.shares, options.json)
    rows = [
        [name, f"{result['perplexity']:.1f}", f"{result['seconds']:.0f}", f"{result['parameters'] / 1e6:.1f} M"]
        for name, result in results.items()
    ]
    report("Penn Treebank by word", ["program", "test perplexity", "seconds", "parameters"], rows)


if __name__ == "__main__":
    run_script(main)

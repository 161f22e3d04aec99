"""What each habit of training is good for: the same small run, with one setting changed at a time.

    python scripts/ablation.py --data tinyshakespeare.txt --json ablation.jsonl

Trains on the first 300,000 bytes of the text, which a network of this size can learn by heart in the passes it gets,
so that regularizers have something to do; its last tenth is held out. A seed decides first weights, dropout and which
stretch of text is where in a batch, for all changes alike. One run a core, several side by side; if one fails, all end.
Runs whose results are in the file are not repeated, so that an interrupted one goes on; a file has results of one text.
The measure is nats per token of the held-out text, at its best validation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from benchmarking import (
    Processes,
    Result,
    add_result,
    check_same,
    digest,
    earlier_results,
    positive_int,
    positive_number,
    report,
    run_script,
)

from textgen.errors import CorpusError
from textgen.system.child_processes import child_command
from textgen.system.machine import num_cores

TRAIN_BYTES = 300_000
RESULT = ("change", "seed", "epochs", "nats")  # what is read of a result
BASE = {
    "tokenizer": "unigram", "vocab-size": 1000, "documents": "file",
    "embedding-dim": 192, "hidden-units": 192, "num-layers": 2, "dropout": 0.3, "embedding-dropout": 0.1,
    "batch-size": 32, "sequence-length": 64, "learning-rate": 5e-3, "weight-decay": 0.05, "patience": 1000,
}  # fmt: skip
CHANGES: dict[str, dict[str, object]] = {
    "as it is": {},
    "no dropout between layers": {"dropout": 0},
    "no dropout on the embedding": {"embedding-dropout": 0},
    "no weight decay": {"weight-decay": 0},
    "none of the three": {"dropout": 0, "embedding-dropout": 0, "weight-decay": 0},
    "word dropout 0.1": {"word-dropout": 0.1},
    "weight drop 0.2": {"weight-drop": 0.2},
    "activation penalties 2 and 1": {"activation-penalty": 2, "temporal-penalty": 1},
    "label smoothing 0.1": {"label-smoothing": 0.1},
    "random BPTT 0.05": {"random-bptt": 0.05},
    "subword sampling, alpha 0.2": {"subword-alpha": 0.2},
    "mean of the weights (EMA 0.99)": {"weight-averaging": "ema", "ema-decay": 0.99},
    "output layer not tied": {"no-tie-embeddings": None},
    "recurrent weights by Glorot": {"recurrent-initializer": "glorot"},
    "forget bias 0": {"forget-bias": 0},
    "state not carried": {"no-carry-state": None},
}


def divide(text: bytes, folder: Path) -> tuple[Path, Path]:
    """The files to train on and to score, cut at ends of lines."""
    held_out = len(text) * 9 // 10
    stop, start = text.rfind(b"\n", 0, min(TRAIN_BYTES, held_out)) + 1, text.find(b"\n", held_out) + 1
    if not (stop and start):
        raise CorpusError("The text has no end of a line where it would be cut in two: name a text with shorter lines.")
    paths = folder / "train.txt", folder / "valid.txt"
    for path, part in zip(paths, (text[:stop], text[start:]), strict=True):
        path.write_bytes(part)
    return paths


def train(
    processes: Processes, files: tuple[Path, Path], folder: Path, epochs: float, change: str, seed: int
) -> Result:
    """One run on one core, as one of the processes."""
    settings: Mapping[str, object] = BASE | CHANGES[change] | {"epochs": epochs, "seed": seed, "threads": 1}
    flags = [word for name, value in settings.items() for word in (f"--{name}", value) if word is not None]
    name = f"{list(CHANGES).index(change)}-{seed}"
    command = ["train", files[0], "--valid-file", files[1], *flags, "--name", name, "--models-dir", folder, "--json"]
    done = processes.completed(
        [*child_command("textgen"), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"{change}, seed {seed}, failed:\n{done.stderr[-2000:]}")
    run = json.loads(done.stdout)
    return {
        "change": change, "seed": seed, "epochs": epochs,
        "nats": run["scores"]["nats_per_token"], "bits_per_byte": run["scores"]["bits_per_byte"],
        "seconds": run["progress"]["seconds"],
    }  # fmt: skip


def known(path: Path, epochs: float, sha256: str) -> list[Result]:
    """The results that the file holds of runs as long. Raises `ConfigError` if they are of another text."""
    results = earlier_results(path, RESULT)
    check_same(path, results, "another text", sha256=sha256)
    return [result for result in results if result["epochs"] == epochs]


def table(results: list[Result]) -> list[list[str]]:
    """A row for each change: its score with each seed, and how much better (-) or worse (+) than without it."""
    nats = {(result["change"], result["seed"]): result["nats"] for result in results}
    rows = []
    for change in CHANGES:
        seeds = sorted(seed for name, seed in nats if name == change and ("as it is", seed) in nats)
        differences = [nats[change, seed] - nats["as it is", seed] for seed in seeds]
        if seeds:
            scores = " ".join(f"{nats[change, seed]:.3f}" for seed in seeds)
            rows.append([change, scores, f"{statistics.mean(differences):+.3f}" if any(differences) else ""])
    return rows


def main() -> None:
    """The runs that are missing, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the text")
    parser.add_argument("--epochs", type=positive_number, default=12.0, help="passes over its first 300,000 bytes")
    parser.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="runs of each change")
    parser.add_argument("--only", action="append", choices=list(CHANGES), metavar="CHANGE", help="run only this one")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where each result is added")
    options = parser.parse_args()
    text = options.data.read_bytes()
    sha256 = digest(text)
    results, lock = known(options.json, options.epochs, sha256), Lock()
    done = {(result["change"], result["seed"]) for result in results}
    wanted = [(change, seed) for seed in range(options.seeds) for change in options.only or CHANGES]
    missing = [run for run in dict.fromkeys(wanted) if run not in done]

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(num_cores()) as pool, Processes() as processes:
        files = divide(text, Path(folder))

        def add(run: tuple[str, int]) -> None:
            result = {**train(processes, files, Path(folder), options.epochs, *run), "sha256": sha256}
            with lock:
                add_result(options.json, result)
                results.append(result)
                print(f"{run[0]}, seed {run[1]}: {result['nats']:.4f}", file=sys.stderr)

        for _ in pool.map(add, missing):  # so that an error ends it
            pass
    report(
        f"{options.data.name}, {options.epochs:g} passes", ["change", "nats per token, by seed", "mean"], table(results)
    )


if __name__ == "__main__":
    run_script(main)

"""Training speed of several worker processes on this machine (`textgen train --workers`) beside one process.

    python scripts/benchmark_workers.py [--workers 2] [--seconds 60]

All contenders run whole training steps on the same batches: in one process, whose cores each have a shard of the batch,
or in workers that have a share of the cores and of the batch each and sum their gradients. Tokens a second are given by
the clock, and by the processor time of all processes, divided by the cores, as if these had worked all the time: that
is what a machine with other work can tell, though it leaves out what workers wait for each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarking import (
    Result,
    arguments,
    chosen,
    environment,
    interleave,
    positive_int,
    positive_number,
    report,
    run_script,
)

SEQUENCE_LENGTH = 64
CONFIGS = {
    "character": {"hidden_units": 256, "vocab_size": 65, "batch_size": 32},
    "word": {"hidden_units": 512, "vocab_size": 8000, "batch_size": 64},
}
WARM, MIN_STEPS = 3, 5  # steps that do not count, and that count at least


def contenders(workers: int, seconds: float) -> list[Result]:
    """What runs against what."""
    return [
        {"name": f"{config}: {number} {'process' if number == 1 else 'workers'}", "config": config, **sizes}
        | {"workers": number, "seconds": seconds}
        for config, sizes in CONFIGS.items()
        for number in (1, workers)
    ]


def together(run: Result) -> Result:
    """Speed of a contender: starts its processes, which all take the same steps."""
    from textgen.system.child_processes import WORKER_VARIABLE
    from textgen.system.machine import num_cores
    from textgen.training.distributed import worker_group

    links = worker_group.connected(run["workers"])
    parent_pipe, held = os.pipe()
    processes = []
    for number, own in enumerate(links):
        place = worker_group.description(number, run["workers"], own, parent_pipe)
        variables = {**environment(run), **({WORKER_VARIABLE: place} if run["workers"] > 1 else {})}
        command = [sys.executable, __file__, "--worker", json.dumps({**run, "one": True})]
        passed = [parent_pipe, *(link.fileno() for link in own)]
        processes.append(subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, pass_fds=passed))
    for link in (link for own in links for link in own):
        link.close()
    outputs = [process.communicate()[0] for process in processes]
    os.close(parent_pipe)
    os.close(held)
    if any(process.returncode for process in processes):
        sys.exit(f"{run['name']} failed.")
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    tokens = run["batch_size"] * SEQUENCE_LENGTH * found[0]["steps"]
    busy = sum(each["processor_seconds"] for each in found) / num_cores()
    return {"by_clock": tokens / found[0]["seconds"], "by_processor": tokens / busy, "steps": found[0]["steps"]}


def one(run: Result) -> Result:
    """Steps of one process, which may be one of several workers; the chief decides when they end."""
    from textgen.system.runtime import configure_process

    configure_process()
    from textgen.training.distributed.joining import join_processes

    distribution = join_processes("auto" if run["workers"] > 1 else "single")
    step = training_step(run, distribution)
    for _ in range(WARM):
        step()
    began, busy, steps = time.perf_counter(), time.process_time(), 0
    while not distribution.total([float(is_over(distribution, began + run["seconds"], steps))])[0]:
        step()
        steps += 1
    return {
        "steps": steps,
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - busy,
    }


def is_over(distribution: Any, until: float, steps: int) -> bool:
    """Whether this process is the chief and there were enough steps."""
    return bool(distribution.is_chief and steps >= MIN_STEPS and time.perf_counter() > until)


def training_step(run: Result, distribution: Any) -> Any:
    """A training step as `textgen train` takes it, on the rows of this process."""
    import numpy as np
    import tensorflow as tf

    from textgen.model.config import ModelConfig
    from textgen.model.language_model import LanguageModel
    from textgen.training.config import TrainingConfig
    from textgen.training.train_step import TrainStep

    units, rows = run["hidden_units"], run["batch_size"]
    sizes = {"embedding_dim": units, "hidden_units": units, "num_layers": 2, "dropout": 0.0, "embedding_dropout": 0.0}
    model = LanguageModel(ModelConfig(run["vocab_size"], **sizes), pad_id=0, precision="float32")
    config = TrainingConfig(batch_size=rows, steps=1)
    update, own = TrainStep(model, config, distribution), distribution.local_rows(config)
    ids = np.random.default_rng(0).integers(1, run["vocab_size"], (2, rows, SEQUENCE_LENGTH)).astype(np.int32)[:, own]
    inputs, targets = tf.constant(ids[0]), tf.constant(ids[1])
    state = model.initial_state(len(ids[0]))

    def step() -> float:
        nonlocal state
        gradient = update.gradient(inputs, targets, state, 0)
        update.apply(gradient, 1e-3)
        state = gradient.state
        return float(gradient.nats)

    return step


def main() -> None:
    """Measures and prints."""
    parser = arguments((__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=positive_int, default=2, help="worker processes to compare with one process")
    parser.add_argument("--seconds", type=positive_number, default=60.0, help="that each run measures")
    given = parser.parse_args()
    if given.worker:
        run = json.loads(given.worker)
        print(json.dumps(one(run) if run.get("one") else together(run)))
        return
    runs = chosen(contenders(given.workers, given.seconds), given.only)
    results = interleave(str(Path(__file__).absolute()), runs, given.rounds, given.json)
    rows = []
    for result in results:
        alone = next((each for each in results if (each["config"], each["workers"]) == (result["config"], 1)), None)
        cells = [result["name"], f"{result['steps']:,.0f}"]
        for kind in ("by_clock", "by_processor"):
            share = f" ({result[kind] / alone[kind]:.2f})" if alone else ""
            cells.append(f"{result[kind]:,.0f}{share}")
        rows.append(cells)
    report("Tokens a second", ["", "steps", "by the clock", "by processor time"], rows)


if __name__ == "__main__":
    run_script(main)

"""How near the speed, the duration and the memory that `textgen train --dry-run` expects come to those of the run.

    python scripts/measure_plan.py TEXT [--seconds 40] [--only NAME] [--processor]

Trains on TEXT, of about a MB or more, in several configurations, each in a process of its own that measures the speed
of the machine, plans, and trains for as many steps as the plan expects to take about `--seconds`. Measured are the
speed of the steps, the seconds from the first step to the last save, and the peak of the memory of the process. On a
machine that has other work, use --processor: seconds are then the processor time of the process, divided by the cores,
as if they had worked all the time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarking import Result, by_worker, machine, peak_memory, positive_number, run_script

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "char tiny": {"preset": "tiny", "tokenizer": "char"},
    "char small": {"preset": "small", "tokenizer": "char"},
    "char small gru": {"preset": "small", "tokenizer": "char", "cell": "gru"},
    "small, 4,000 tokens": {"preset": "small", "vocab_size": 4000},
    "small, 4,000 tokens, T 128": {"preset": "small", "vocab_size": 4000, "sequence_length": 128},
    "medium, 8,000 tokens": {"preset": "medium", "vocab_size": 8000},
    "medium, 8,000 tokens, B 128": {"preset": "medium", "vocab_size": 8000, "batch_size": 128},
    "large, 8,000 tokens": {"preset": "large", "vocab_size": 8000},
}
WITHIN = 0.25  # maximum error, as a share of what is measured
MIN_STEPS = 10
TRIAL = 1000  # steps of the plan that says how long a step takes


def measured(text: str, settings: dict[str, Any], seconds: float) -> Result:
    """What a run was expected to need and what it needed, in a process of its own."""
    return by_worker(__file__, {"text": text, "settings": settings, "seconds": seconds}, str(settings))


def train(text: str, settings: dict[str, Any], seconds: float) -> Result:
    """Plans and trains in this process."""
    from textgen.system.runtime import configure_process, load_tensorflow

    configure_process()
    load_tensorflow()
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.system.machine import num_cores
    from textgen.training.observers.observer import Observer, RunReport, StepReport
    from textgen.training.planning.plan import Hardware, make_plan
    from textgen.training.run import train
    from textgen.training.run_setup import RunOptions

    class Clock(Observer):
        """Notes the time and the processor time at the start and at the end, and the speed."""

        def __init__(self) -> None:
            super().__init__()
            self.times: list[tuple[float, float]] = []
            self.speed = 0.0

        def on_step(self, report: StepReport) -> None:
            self.speed = report.tokens_per_second

        def on_start(self, run: RunReport) -> None:
            self.times.append((time.perf_counter(), time.process_time()))

        def on_end(self) -> None:
            self.times.append((time.perf_counter(), time.process_time()))

    preset, corpus, hardware = settings.pop("preset"), Corpus([text], CorpusConfig()), Hardware().measured()
    trial = make_plan(corpus, {**settings, "steps": TRIAL}, preset=preset, hardware=hardware).estimates
    steps = max(MIN_STEPS, round(TRIAL * seconds / trial.seconds))
    plan = make_plan(corpus, {**settings, "steps": steps}, preset=preset, hardware=hardware)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        train(plan, Path(folder) / "model", RunOptions(observers=[clock]))
    (began, busy_before), (ended, busy_after) = clock.times
    return {
        "expected_speed": plan.estimates.tokens_per_second, "speed": clock.speed,
        "expected_seconds": plan.estimates.seconds, "expected_memory": plan.estimates.memory_bytes, "steps": steps,
        "precision": plan.training_config.precision, "flops": hardware.flops, "seconds": ended - began,
        "processor_seconds": (busy_after - busy_before) / num_cores(), "memory": peak_memory(),
    }  # fmt: skip


def row(name: str, result: Result, seconds: float) -> str:
    """A row of the table. The speed is that of the steps alone, in the same seconds."""
    speed = result["speed"] * result["seconds"] / seconds
    cells = [name, f"{result['steps']:,}", *compared(result["expected_speed"], speed, ",.0f")]
    cells += compared(result["expected_seconds"], seconds, ".1f")
    return " | ".join([*cells, *compared(result["expected_memory"] / 1e9, result["memory"] / 1e9, ".2f")])


def compared(expected: float, found: float, how: str) -> list[str]:
    """Two cells: what was expected and how far that is off, and what was found."""
    return [f"{expected:{how}} ({100 * (expected / found - 1):+.0f} %)", f"{found:{how}}"]


def main() -> int:
    """Prints the table. Returns 1 if something is farther off than `WITHIN`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", nargs="?")
    parser.add_argument(
        "--seconds", type=positive_number, default=40.0, help="length of each run, as the plan expects it"
    )
    parser.add_argument("--only", action="append", choices=CONFIGURATIONS, metavar="NAME")
    parser.add_argument("--processor", action="store_true", help="count processor time: the machine has other work")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(train(**json.loads(arguments.worker))))
        return 0
    if not arguments.text:
        parser.error("name a text")
    text, is_off = str(Path(arguments.text).absolute()), False
    print(f"{machine()}; seconds are {'of the processor, a core' if arguments.processor else 'by the clock'}\n")
    print(
        "| configuration | steps | tokens per second, expected | measured | seconds, expected | measured "
        "| GB, expected | measured |\n|---|---|---|---|---|---|---|---|"
    )
    for name in arguments.only or CONFIGURATIONS:
        result = measured(text, dict(CONFIGURATIONS[name]), arguments.seconds)
        seconds = result["processor_seconds" if arguments.processor else "seconds"]
        off = [result["expected_seconds"] / seconds - 1, result["expected_memory"] / result["memory"] - 1]
        is_off = is_off or any(abs(each) > WITHIN for each in off)
        print(f"| {row(name, result, seconds)} |", flush=True)
    return int(is_off)


if __name__ == "__main__":
    run_script(main)

"""How near the duration and the memory that `textgen train --dry-run` expects come to those of the run.

    python scripts/measure_plan.py TEXT [--seconds 40] [--only NAME]

Trains on TEXT, of a few MB, in several configurations, each for as many steps as the plan expects to take about
`--seconds`. Measured are the seconds that the run records, from its first step to its last save, and the peak of the
memory of its process. The machine must have no other work.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "char tiny": ("--tokenizer", "char", "--preset", "tiny"),
    "char small": ("--tokenizer", "char", "--preset", "small"),
    "char small gru": ("--tokenizer", "char", "--preset", "small", "--cell", "gru"),
    "small, 4,000 tokens": ("--vocab-size", "4000", "--preset", "small"),
    "small, float32": ("--vocab-size", "4000", "--preset", "small", "--precision", "float32"),
    "medium, 8,000 tokens": ("--vocab-size", "8000", "--preset", "medium"),
    "medium, B 128": ("--vocab-size", "8000", "--preset", "medium", "--batch-size", "128"),
    "large, 8,000 tokens": ("--vocab-size", "8000", "--preset", "large"),
}
WITHIN = 0.25  # of what is measured


def textgen(*arguments: str) -> str:
    """Runs the program; returns its stdout."""
    command = [sys.executable, "-m", "textgen", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


def planned(text: str, flags: Sequence[str]) -> dict[str, Any]:
    """The plan of `--dry-run --json`."""
    plan: dict[str, Any] = json.loads(textgen("train", text, *flags, "--from", "none", "--dry-run", "--json"))
    return plan


def measured(text: str, flags: Sequence[str], folder: str) -> tuple[float, float]:
    """Seconds and bytes of a run. A process of its own runs it, since the system keeps the peak of all children."""
    code = f"import measure_plan; measure_plan.report({text!r}, {list(flags)!r}, {folder!r})"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    seconds, memory = json.loads(out)
    return seconds, memory


def report(text: str, flags: Sequence[str], folder: str) -> None:
    """Trains, and prints the seconds and the bytes that it took."""
    record = json.loads(
        textgen("train", text, *flags, "--from", "none", "--models-dir", folder, "--name", "measured", "--json")
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps([record["progress"]["seconds"], peak]))


def main() -> int:
    """Prints the table. Returns 1 if something is farther off than `WITHIN`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text")
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each run, as the plan expects it")
    parser.add_argument("--only", action="append", choices=CONFIGURATIONS, metavar="NAME")
    arguments = parser.parse_args()
    text, is_off = str(Path(arguments.text).absolute()), False
    print("| configuration | seconds, expected | measured | GB, expected | measured |\n|---|---|---|---|---|")
    for name in arguments.only or CONFIGURATIONS:
        flags = [*CONFIGURATIONS[name], "--steps", "1000"]
        steps = max(10, round(1000 * arguments.seconds / planned(text, flags)["seconds"]))
        flags[-1] = str(steps)
        plan = planned(text, flags)
        with tempfile.TemporaryDirectory() as folder:
            seconds, memory = measured(text, flags, folder)
        off = [plan["seconds"] / seconds - 1, plan["memory_bytes"] / memory - 1]
        is_off = is_off or any(abs(each) > WITHIN for each in off)
        print(
            f"| {name} | {plan['seconds']:.0f} ({100 * off[0]:+.0f} %) | {seconds:.0f} "
            f"| {plan['memory_bytes'] / 1e9:.2f} ({100 * off[1]:+.0f} %) | {memory / 1e9:.2f} |",
            flush=True,
        )
    return int(is_off)


if __name__ == "__main__":
    sys.exit(main())

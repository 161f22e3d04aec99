"""What the benchmarks share: contenders run in processes of their own, in turn, several rounds; medians count."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

Result = dict[str, Any]


def arguments(description: str, rounds: int = 3) -> argparse.ArgumentParser:
    """The options that all benchmarks have; --worker is how a contender is started in its own process."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="runs of each contender, interleaved")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements here")
    parser.add_argument("--only", metavar="TEXT", help="leave out what has not this in its name")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs the main function of a script and exits.

    A wrong name, a missing file or Ctrl-C in a training is one line, without a traceback, and the exit code of textgen.
    """
    from textgen.errors import TextgenError

    try:
        sys.exit(main())
    except (TextgenError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


def interleave(script: str, contenders: Sequence[Result], rounds: int) -> list[Result]:
    """Runs `script --worker JSON` for each contender in turn, `rounds` times; adds the medians to each."""
    runs: list[list[Result]] = [[] for _ in contenders]
    for number in range(rounds):
        for contender, results in zip(contenders, runs, strict=True):
            print(f"round {number + 1}: {contender['name']} ...", file=sys.stderr)
            results.append(by_worker(script, contender, contender["name"], environment(contender)))
    return [{**contender, **_medians(results)} for contender, results in zip(contenders, runs, strict=True)]


def by_worker(script: str, job: Result, name: str, variables: Mapping[str, str] | None = None) -> Result:
    """The result of `script --worker JSON`, a process of its own, which prints it as its last line.

    Args:
        script: Path of the script.
        job: What the worker gets.
        name: What the error message calls the job.
        variables: Environment of the process; that of this one by default.
    """
    command = [sys.executable, script, "--worker", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def environment(contender: Result) -> dict[str, str]:
    """That of a contender's process."""
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    variables.pop("OPENBLAS_CORETYPE", None)  # every library chooses what suits this processor
    if contender.get("allocator") == "tuned":
        keep = str(1 << 30)
        variables |= {"MALLOC_MMAP_THRESHOLD_": keep, "MALLOC_TRIM_THRESHOLD_": keep, "MALLOC_TOP_PAD_": str(1 << 26)}
    return variables


def _medians(results: Sequence[Result]) -> Result:
    return {key: statistics.median(result[key] for result in results) for key in results[0]} | {"runs": list(results)}


def named_value(text: str) -> tuple[str, Any]:
    """A setting and its value, from NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value


def peak_memory() -> int:
    """Bytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine() -> str:
    """Processor, cores and system, for the heading of a table."""
    from textgen.machine import processor_cores

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {processor_cores()} cores, Python {platform.python_version()}"


def report(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table on standard output."""
    print(f"\n{title} ({machine()})\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def known_results(path: Path) -> list[Result]:
    """The results in a file to which `add_result` has added them; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def add_result(path: Path, result: Result) -> None:
    """Adds a result to a file, as a line of JSON, so that an interrupted script need not measure it again."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def save(path: Path | None, results: Sequence[Result]) -> None:
    """All measurements, for programs."""
    if path:
        path.write_text(json.dumps({"machine": machine(), "results": list(results)}, indent=1) + "\n", encoding="utf-8")

"""Prints how much time and memory each stage of training on a large text takes, as a table.

    .venv/bin/python scripts/make_large_corpus.py /tmp/large.txt --bytes 2e9
    .venv/bin/python scripts/measure_large_corpus.py /tmp/large.txt --scratch /tmp/large

Memory is the most that a command and the programs it starts hold at any time: the sum of their resident sizes,
read from /proc ten times a second, so shared pages count twice. Linux only. Each run measures all stages, so it needs
an empty folder.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import click
from benchmarking import resident, run_script, started

from textgen.cli.setting_options import IntegerRange
from textgen.errors import ConfigError
from textgen.settings import MAX_COUNT
from textgen.system.child_processes import child_command
from textgen.system.machine import num_cores
from textgen.training.presets import SIZES

VALID = 0.0001  # held out: little, since scoring it at the end of a short run would take longest


@click.command(help=__doc__)
@click.argument("corpus", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--scratch", type=click.Path(path_type=Path), required=True, help="Empty folder to fill; remove it afterwards."
)
@click.option("--preset", type=click.Choice([*SIZES]), default="small", show_default=True, help="Size of the network.")
@click.option("--steps", type=IntegerRange(1, MAX_COUNT), default=50, show_default=True, help="Of training.")
def main(corpus: Path, scratch: Path, preset: str, steps: int) -> None:
    """Runs each stage as a program of its own."""
    scratch.mkdir(parents=True, exist_ok=True)
    if any(scratch.iterdir()):
        raise ConfigError(
            f"{scratch} is not empty, so a stage would find what it is to make: remove it, or name another."
        )
    prepared, vocabulary = scratch / "prepared", scratch / "vocabulary.model"
    prepare = ["corpus", "prepare", corpus, "--out", prepared, "--valid-fraction", VALID]
    train = ["--preset", preset, "--steps", steps, "--num-validations", 1, "--models-dir", scratch / "models"]
    stages: dict[str, list[object]] = {
        "`textgen tokenizer train`": ["tokenizer", "train", corpus, "--out", vocabulary],
        "`textgen corpus prepare`, with that vocabulary": [*prepare, "--tokenizer-from", vocabulary],
        "`textgen corpus prepare` again: nothing to do": prepare,
        f"`textgen train` on it, {steps} steps": ["train", prepared, *train],
        f"`textgen train` on the text itself, {steps} steps": ["train", corpus, "--valid-fraction", VALID, *train],
    }
    click.echo(f"{corpus.stat().st_size / 1e9:.2f} GB of text, {num_cores()} cores\n")
    click.echo("| stage | seconds | peak memory, GB |\n|---|---|---|")
    for name, arguments in stages.items():
        seconds, peak = measure([str(argument) for argument in arguments], scratch / "output.txt")
        click.echo(f"| {name} | {seconds:,.0f} | {peak / 1e9:.2f} |")


def measure(arguments: list[str], output: Path) -> tuple[float, int]:
    """Seconds and peak bytes of a textgen command."""
    environment = os.environ | {"TEXTGEN_CACHE": str(output.parent / "cache")}
    beginning, peak = time.perf_counter(), 0
    command = [*child_command("textgen"), *arguments]
    with (
        output.open("w", encoding="utf-8") as file,
        started(command, stdout=file, stderr=subprocess.STDOUT, env=environment) as process,
    ):
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)
    if process.returncode:
        said = output.read_text(encoding="utf-8", errors="replace")
        raise click.ClickException(f"textgen {shlex.join(arguments)} failed with {process.returncode}:\n{said}")
    return time.perf_counter() - beginning, peak


if __name__ == "__main__":
    run_script(main)

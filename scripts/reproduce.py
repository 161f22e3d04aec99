"""Trains with the preset of a well-known text on it and prints its score beside published ones, a row of a table.

    python scripts/reproduce.py tinyshakespeare-char-2x256-100s --data FOLDER

The folder holds the text as it is distributed (see corpora/README.md). Text without a division of its own is cut as
is usual: the last tenth of tinyshakespeare is held out, the last two twentieths of enwik8 are for validation and test.
Its parts stay beside the model. Ctrl-C saves and stops; the same command goes on, and only scores a run that has ended.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarking import completed, machine, positive_number, run_script

from textgen.saved_model.folder_contents import has_steps, is_run
from textgen.saved_model.layout import read_training
from textgen.saved_model.run_status import is_finished
from textgen.storage.files import write_file
from textgen.system.child_processes import child_command
from textgen.training.presets import TEXT_PRESETS, with_preset


@dataclass(frozen=True)
class Task:
    """A well-known text: its files, what is counted on it, and what others have reached."""

    files: tuple[str, ...]  # train, valid and test, or one that is cut
    cut: tuple[float, ...] = ()  # where one file ends to be trained on, and to validate with
    score: str = "perplexity_per_token"
    unit: str = "perplexity a word"
    published: str = ""


TASKS = {
    "ptb": Task(
        ("ptb-train.txt", "ptb-valid.txt", "ptb-test.txt"),
        published="82.7 (Zaremba et al. 2014, medium); 75.96 (PyTorch's word_language_model, 650 units, 40 epochs)",
    ),
    "wikitext2": Task(
        ("wikitext2-train.tokens", "wikitext2-valid.tokens", "wikitext2-test.tokens"),
        published="99.3 (Grave et al. 2017, LSTM)",
    ),
    "tinyshakespeare": Task(
        ("tinyshakespeare.txt",),
        (0.9,),
        "nats_per_token",
        "nats per character",
        "1.886 (nanoGPT, its recipe for a CPU), 1.4697 (the same on an A100); both on random windows without context",
    ),
    "enwik8": Task(
        ("enwik8",),
        (0.9, 0.95),
        "bits_per_byte",
        "bits per byte",
        "1.24 (Krause et al. 2016, multiplicative LSTM, 46 M parameters)",
    ),
}


def divide(task: Task, data: Path, folder: Path) -> list[Path]:
    """The files to train on, to validate with and to test on; the last two may be one. The folder takes the parts."""
    paths = [data / name for name in task.files]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        sys.exit(f"There is no {missing[0]}: `textgen corpus fetch {Path(missing[0]).stem}` downloads the text.")
    if not task.cut:
        return paths
    text = paths[0].read_bytes()
    borders = [0, *(_whole_character(text, int(len(text) * share)) for share in task.cut), len(text)]
    parts = [text[start:stop] for start, stop in pairwise(borders)]
    paths = [folder / f"{number}-{task.files[0]}" for number in range(len(parts))]
    folder.mkdir(parents=True, exist_ok=True)
    for path, part in zip(paths, parts, strict=True):
        if not path.is_file() or path.read_bytes() != part:  # another run may be reading it
            write_file(path, part)
    return paths


def _whole_character(text: bytes, border: int) -> int:
    """The border, or the end of the character that it would cut."""
    while border < len(text) and text[border] & 0xC0 == 0x80:
        border += 1
    return border


def textgen(*words: str | Path) -> dict[str, Any]:
    """What a command prints with --json; its progress is shown."""
    done = completed([*child_command("textgen"), *map(str, words), "--json"], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(done.returncode if done.returncode > 0 else 128 - done.returncode)  # as in a shell
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def trained(preset: str, model: Path, texts: list[Path], minutes: list[str], seed: str) -> dict[str, Any]:
    """What is recorded of the run of a preset: of one that has ended, or else of one that begins or goes on now.

    Args:
        preset: Name of the preset.
        model: Folder of the model.
        texts: The files to train on and to validate with.
        minutes: Another length, as a flag and its value, or nothing.
        seed: Seed of a new run.
    """
    length = float(minutes[1]) if minutes else with_preset(preset, {})[1]["minutes"]
    record = read_training(model) if is_run(model) else {}
    if is_finished(record) and record["training"]["minutes"] == length:
        print(f"{model} has ended before: it is only scored.", file=sys.stderr)
        return record
    train, valid = texts
    where: list[str | Path] = ["--name", model.name, "--models-dir", model.parent]
    going_on = ["--resume"] if has_steps(model) else []
    return textgen(
        "train", train, "--valid-file", valid, "--preset", preset, *minutes, "--seed", seed, *where, *going_on
    )


@contextmanager
def telling_how_to_go_on(model: Path) -> Iterator[None]:
    """Adds to the message about a signal that the run goes on later, if anything of it is saved."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if has_steps(model):
            interrupt.args = (f"{str(interrupt) or 'Interrupted.'} The same command goes on from what is saved.",)
        raise


def main() -> None:
    """Trains, scores, prints the row; models stay in the folder of models."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("preset", choices=TEXT_PRESETS)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the text is")
    parser.add_argument("--models-dir", type=Path, default=Path("saved_models"), help="where the model goes")
    parser.add_argument("--minutes", type=positive_number, help="another length of the run")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--with-context", action="store_true", help="also score with the cache and dynamically")
    options = parser.parse_args()
    task = TASKS[options.preset.split("-")[0]]
    name, where = f"{options.preset}-{options.seed}", ["--models-dir", options.models_dir]
    model: Path = options.models_dir / name
    train, *held_out = divide(task, options.data, options.models_dir / f"{options.preset.split('-')[0]}-text")
    length = ["--minutes", f"{options.minutes}"] if options.minutes else []
    ways: dict[str, list[str]] = {"": []}
    if options.with_context:
        ways |= {" with cache": ["--neural-cache"], " dynamic": ["--dynamic"]}
    with telling_how_to_go_on(model):
        run = trained(options.preset, model, [train, held_out[0]], length, options.seed)
        scores = {
            way: textgen("evaluate", name, held_out[-1], "--documents", "file", *flags, *where)
            for way, flags in ways.items()
        }
    progress = run["progress"]
    ours = ", ".join(f"{each[task.score]:.4g}{way}" for way, each in scores.items())
    cells = [
        options.preset, task.unit, ours, task.published, f"{run['parameters'] / 1e6:.1f} M",
        f"{progress['epochs']:.1f}", f"{progress['seconds'] / 60:.1f} min", machine(),
    ]  # fmt: skip
    print("| preset | measure | ours | published | parameters | epochs | time | machine |\n|" + "---|" * 8)
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    run_script(main)

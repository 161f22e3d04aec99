"""Draws the picture of the terminal in README.md from commands and what they really print.

    .venv/bin/python scripts/picture.py            # or: make picture
    .venv/bin/python scripts/picture.py --redraw   # from the transcript of the last time

Trains on the bundled fables for a minute in a temporary folder, writes a text in a terminal of its own, keeps the
transcript in scripts/pictures/terminal.txt and draws scripts/pictures/terminal.svg from it. Long output is shortened
to its first and its last lines, with a line of three dots between them, and the name of the temporary folder is left
out of paths. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import io
import os
import pty
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarking import completed, run_script, started
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from textgen.system.child_processes import child_command

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "scripts" / "pictures"
TRANSCRIPT, PICTURE = PICTURES / "terminal.txt", PICTURES / "terminal.svg"
COLUMNS = 100
PROMPT = "\x1b[1;32m$\x1b[0m \x1b[1m{}\x1b[0m"
WEB_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # code hosts show pictures without fetching anything


@dataclass(frozen=True)
class Shown:
    """A command in the picture."""

    command: str
    first: int = 100  # lines shown of its beginning
    last: int = 0  # lines shown of its end
    terminal: bool = True  # whether it runs in a terminal, with colours; a progress bar needs a plain pipe


SHOWN = (
    Shown("textgen train fables.txt --minutes 1", first=9, last=8, terminal=False),
    Shown("textgen sample --prompt 'The fox' --max-tokens 60 --seed 4 --show-probabilities", first=10),
)


def record() -> str:
    """Runs the commands and returns what a person would see."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fables.txt").write_bytes((ROOT / "corpora" / "fables.txt").read_bytes())
        return "\n".join(f"{PROMPT.format(shown.command)}\n{_output(shown, folder)}" for shown in SHOWN)


def _output(shown: Shown, folder: str) -> str:
    command = [*child_command("textgen"), *shlex.split(shown.command)[1:]]
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "TEXTGEN_CACHE": f"{folder}/cache"}
    environment.pop("TEXTGEN_MODELS", None)
    run = _in_terminal if shown.terminal else _in_pipe
    code, output = run(command, folder, environment)
    if code:
        raise SystemExit(f"{shown.command} ended with {code}:\n{output}")
    return _shortened(output.replace("\r\n", "\n").replace(f"{folder}/", "").strip("\n"), shown)


def _in_pipe(command: list[str], folder: str, environment: dict[str, str]) -> tuple[int, str]:
    done = completed(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def _in_terminal(command: list[str], folder: str, environment: dict[str, str]) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    with started(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = _read_all(ours)
        os.close(ours)
        return process.wait(), output


def _read_all(descriptor: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # Linux says so when the other end is closed
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def _shortened(output: str, shown: Shown) -> str:
    lines = output.split("\n")
    if len(lines) > shown.first + shown.last:
        lines = [*lines[: shown.first], "...", *lines[len(lines) - shown.last :]]
    return "\n".join(lines)


def draw(transcript: str) -> str:
    """The transcript, with its colours, as an SVG."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    for line in transcript.split("\n"):
        console.print(Text.from_ansi(line), soft_wrap=False)
    svg = console.export_svg(title="textgen", theme=MONOKAI, unique_id="terminal")
    return WEB_FONTS.sub("", svg).replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def main() -> None:
    """Records, unless told not to, and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--redraw", action="store_true", help="draw the transcript of the last time again")
    if not parser.parse_args().redraw:
        PICTURES.mkdir(exist_ok=True)
        TRANSCRIPT.write_text(record() + "\n", encoding="utf-8")
    PICTURE.write_text(draw(TRANSCRIPT.read_text(encoding="utf-8").rstrip("\n")), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)

"""textgen tensorboard: curves, samples and settings of runs in the browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from textgen.cli.command import SectionCommand
from textgen.cli.options import completing_runs, models_dir_option
from textgen.cli.setting_options import IntegerRange
from textgen.errors import SavedModelError
from textgen.saved_model.layout import LOGS


@click.command(cls=SectionCommand)
@click.argument(
    "model", required=False, shell_complete=completing_runs(lambda path: (path / LOGS).is_dir(), or_path=True)
)
@click.option(
    "--port",
    type=IntegerRange(0, 65535),
    default=6006,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--host", default="localhost", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@models_dir_option
def tensorboard(model: str | None, port: int, host: str, models_dir: Path | None) -> None:
    """Show training curves in TensorBoard.

    It shows MODEL, or all models side by side, with samples and settings. Ctrl-C ends it.

    \b
    Example:
      textgen tensorboard
      textgen tensorboard novel --port 0
    """
    from textgen.saved_model.registry import find_run, list_runs, models_folder, why_empty
    from textgen.system.child_processes import child_command, child_environment, without_interrupts

    folder = find_run(model, models_dir) / LOGS if model else models_folder(models_dir)
    if model and not folder.is_dir():
        raise SavedModelError(f"{model} has no logs: it was not trained here, or its training has not begun yet.")
    if not model and not list_runs(models_dir):
        raise SavedModelError(why_empty(models_dir))
    arguments = ["--logdir", str(folder), "--port", str(port), "--host", host]
    command = [*child_command("textgen.cli.tensorboard_process"), *arguments]
    if os.name == "nt":  # there, execve splits arguments at spaces, and the shell does not wait for the new process
        sys.exit(subprocess.run(command, env=child_environment()).returncode)
    with without_interrupts():  # until the new program handles them
        os.execve(sys.executable, command, child_environment())

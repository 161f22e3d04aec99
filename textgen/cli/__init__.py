"""The command line: arguments, one call of the library, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from textgen import __version__
from textgen.cli.cache import cache
from textgen.cli.corpus import corpus
from textgen.cli.embed import embed
from textgen.cli.evaluate import evaluate
from textgen.cli.exchange import export, import_torch
from textgen.cli.models import models
from textgen.cli.prepare import prepare
from textgen.cli.sample import sample
from textgen.cli.score import score
from textgen.cli.tensorboard import tensorboard
from textgen.cli.tokenizer import tokenizer
from textgen.cli.train import train
from textgen.cli.tune import tune_state
from textgen.cli.write import write
from textgen.errors import Interrupted, TextgenError, WorkerLost


class Program(click.Group):
    """The one place where errors become exit codes: 1 for a `TextgenError`, 2 wrong usage, 130 Ctrl-C."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the program; where stdout is not UTF-8, it shows question marks for what it lacks."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what the user can mend is one line on stderr, a bug keeps its traceback."""
        try:
            return super().invoke(ctx)
        except (Interrupted, WorkerLost) as error:
            click.echo(f"\n{error}", err=True)
            ctx.exit(error.exit_code)
        except TextgenError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one meets them, not by name."""
        return list(self.commands)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="textgen")
def textgen() -> None:
    """Train a recurrent language model on your own text and write more of it.

    \b
    Example:
      textgen train novel.txt
      textgen sample --prompt "It was a"
    """


for command in (
    train,
    sample,
    write,
    evaluate,
    score,
    embed,
    tune_state,
    tensorboard,
    models,
    corpus,
    prepare,
    cache,
    tokenizer,
    import_torch,
    export,
):
    textgen.add_command(command)

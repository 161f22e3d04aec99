"""The command line: arguments, one call of the library, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from textgen import __version__
from textgen.cli import output
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
from textgen.wording import visible

NOT_OURS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EROFS)
"""What is wrong with a path, never with the program."""
FIELDS = {"valid": "valid_fraction"}  # of a setting, where the option that sets it is called otherwise


class Program(click.Group):
    """The one place where errors become exit codes: 1 for a `TextgenError`, 2 wrong usage, 130 Ctrl-C."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the program. `--help` and `--version` are written by Click: where they cannot be, it is said here."""
        try:
            return super().main(*arguments, **options)
        except OSError:
            try:
                output.flush()
            except TextgenError as error:
                failure = output.Failure(str(error))
                failure.show()
                raise SystemExit(failure.exit_code) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what the user can mend is one line on stderr, a bug keeps its traceback."""
        try:
            return super().invoke(ctx)
        except (Interrupted, WorkerLost) as error:
            output.note(f"\n{output.as_flags(str(error), _flags(ctx))}")
            ctx.exit(error.exit_code)
        except TextgenError as error:
            raise output.Failure(output.as_flags(str(error), _flags(ctx))) from error
        except click.ClickException as error:
            vars(error)["message"] = visible(error.message)  # which may quote what was typed
            raise
        except OSError as error:
            if error.errno not in NOT_OURS or error.filename is None:
                raise
            raise output.Failure(f"Cannot use {os.fsdecode(error.filename)}: {error.strerror}.") from error
        except KeyboardInterrupt:
            output.note("\nInterrupted.")
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one meets them, not by name."""
        return list(self.commands)


def _flags(ctx: click.Context) -> Mapping[str, str]:
    """The flag of each setting of the command that was called."""
    command = ctx.command
    if isinstance(command, click.Group) and ctx.invoked_subcommand:
        command = command.get_command(ctx, ctx.invoked_subcommand) or command
    flags = {
        parameter.name: max(parameter.opts, key=len)
        for one in _with_children(command)
        for parameter in one.params
        if isinstance(parameter, click.Option) and parameter.name
    }
    return {**flags, **{field: flags[name] for name, field in FIELDS.items() if name in flags}}


def _with_children(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _with_children(child)


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

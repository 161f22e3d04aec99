"""The command line: arguments, one call of the library, print. A command is imported when it is called."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import click
from click.exceptions import Exit

from textgen import __version__
from textgen.cli.lazy_group import Lazy, LazyGroup
from textgen.errors import Interrupted, TextgenError, WorkerLost

PATH_ERRORS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EROFS)
"""Errors that are due to a path, never to a bug in the program."""
COMMANDS = {
    "train": Lazy("textgen.cli.train:train", "Train a model on a text."),
    "sample": Lazy("textgen.cli.sample:sample", "Write text with a model."),
    "write": Lazy("textgen.cli.write:write", "Write a text together with a model."),
    "serve": Lazy("textgen.cli.serve:serve", "Serve models over HTTP, and a page for writing."),
    "evaluate": Lazy("textgen.cli.evaluate:evaluate", "Measure how well a model predicts a text."),
    "score": Lazy("textgen.cli.score:score", "Score how probable each text is."),
    "embed": Lazy("textgen.cli.embed:embed", "Make a vector of each text, or find similar lines."),
    "inspect": Lazy(
        "textgen.cli.inspect:inspect", "See what a model does with a text: cells, gates, memory, gradients."
    ),
    "tune-state": Lazy("textgen.cli.tune:tune_state", "Train an initial state that holds a style in a few kilobytes."),
    "tensorboard": Lazy("textgen.cli.tensorboard:tensorboard", "Show training curves in TensorBoard."),
    "models": Lazy("textgen.cli.models:models", "List, show, compress and remove saved models."),
    "corpus": Lazy("textgen.cli.corpus:corpus", "Look at a text, fetch a well-known one, or prepare a large one."),
    "tokenizer": Lazy("textgen.cli.tokenizer:tokenizer", "Train vocabularies, and see text as tokens."),
    "cache": Lazy(
        "textgen.cli.cache:cache",
        "List and clear the cache: encoded corpora, 8-bit networks, copies of remote files, fetched texts.",
    ),
    "import": Lazy(
        "textgen.cli.import_:import_",
        "Make a saved model from an exported HTML page, or from weights of another program.",
    ),
    "export": Lazy("textgen.cli.export:export", "Write a model in the format of another program."),
    "completion": Lazy("textgen.cli.completion:completion", "Print the completion script of a shell."),
}


class Program(LazyGroup):
    """Turns errors into exit codes: 1 for a `TextgenError`, 2 for wrong usage, 130 for Ctrl-C, 141 for a closed pipe.

    SIGTERM and SIGHUP end a command in order, too, with 143 and 129.

    A `setup` function given as the context's `obj` is called before the command.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the program. Reports the failure where Click cannot print `--help` or `--version`.

        While a shell asks for completions, Click does not handle Ctrl-C: it ends the program without a word, which
        would stand in the line that is being typed.
        """
        try:
            return super().main(*arguments, **options)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except OSError:
            from textgen.cli import output

            try:
                output.flush()
            except TextgenError as error:
                failure = output.Failure(str(error))
                failure.show()
                raise SystemExit(failure.exit_code) from None
            raise

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Reads the arguments before the command; it is here that Click prints `--help` and `--version`."""
        is_completing = options.get("resilient_parsing")
        with _quiet_without_reader(), nullcontext() if is_completing else _ending_when_interrupted():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command. An error that the user can fix is one line on stderr; a bug keeps its traceback."""
        with _ending_when_interrupted():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        from textgen.cli import output
        from textgen.cli.signals import ending_in_order
        from textgen.versions import cannot_use
        from textgen.wording import visible

        try:
            if ctx.obj:
                ctx.obj()
            with _quiet_without_reader(), ending_in_order():
                return super().invoke(ctx)
        except (Interrupted, WorkerLost) as error:
            output.note(f"\n{output.flagged(str(error), _command_of(ctx))}")
            ctx.exit(error.exit_code)
        except output.SettingsFileError as error:
            raise output.Failure(str(error)) from error
        except TextgenError as error:
            raise output.Failure(output.flagged(str(error), _command_of(ctx))) from error
        except click.ClickException as error:
            vars(error)["message"] = visible(error.message)  # which may quote what was typed
            raise
        except ImportError as error:
            library = (error.name or "").partition(".")[0]
            if library in ("", __name__.partition(".")[0]):
                raise
            raise output.Failure(f"textgen {cannot_use(library, error)}") from error
        except OSError as error:
            if not (message := _message_of(error)):
                raise
            raise output.Failure(message) from error
        except MemoryError as error:
            raise output.Failure(_too_little_memory(error, flags_of(_command_of(ctx)))) from error


@contextmanager
def _ending_when_interrupted() -> Iterator[None]:
    """Ends the program with 130 at Ctrl-C, and as a shell says at a signal; Click would end it with 1."""
    try:
        yield
    except KeyboardInterrupt as error:
        from textgen.cli import output
        from textgen.cli.signals import Ended

        output.note(f"\n{str(error) or 'Interrupted.'}")
        raise Exit(error.exit_code if isinstance(error, Ended) else 130) from None


@contextmanager
def _quiet_without_reader() -> Iterator[None]:
    """Ends the program as `output` does where Click prints `--help` or `--version` into a pipe without a reader."""
    try:
        yield
    except OSError as error:
        from textgen.cli import output

        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        is_printing = frame.f_code is click.echo.__code__  # not the pipe to another process, or a connection
        if is_printing and output.has_no_reader(error):
            raise output.reader_left() from None
        raise


def _message_of(error: OSError) -> str:
    """What to say of an error of the system; "" if it may be due to a bug in the program."""
    from textgen.storage.system_errors import DISK_ERRORS, explained

    if error.filename is not None:
        is_expected = error.errno in (*PATH_ERRORS, *DISK_ERRORS)
        return f"Cannot use {os.fsdecode(error.filename)}: {explained(error)}" if is_expected else ""
    try:
        os.getcwd()
    except FileNotFoundError:
        return "The current folder was removed: change to one that exists (cd)."
    except OSError:
        pass
    return ""


def _too_little_memory(error: MemoryError, flags: Mapping[str, str]) -> str:
    """What to say if the memory is used up, with the flags of the command that take less of it."""
    details = f" ({str(error).rstrip('.')})" if str(error) else ""
    smaller = [flags[name] for name in ("batch_size", "num") if name in flags] if "batch_size" in flags else []
    advice = f", or use a smaller {' or '.join(smaller)}" if smaller else ", or use a machine with more memory"
    return f"There is too little memory{details}. Close other programs{advice}."


def _command_of(ctx: click.Context) -> click.Command:
    """The command that was called."""
    command = ctx.command
    if isinstance(command, click.Group) and ctx.invoked_subcommand:
        command = command.get_command(ctx, ctx.invoked_subcommand) or command
    return command


def flags_of(command: click.Command) -> Mapping[str, str]:
    """The flag of each setting of a command, and of the commands below it."""
    from textgen.cli.output_paths import parameter_name

    return {
        parameter.name: parameter_name(parameter)
        for each in _with_children(command)
        for parameter in each.params
        if isinstance(parameter, click.Option) and parameter.name
    }


def _with_children(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _with_children(child)


@click.group(
    cls=Program,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="textgen")
def textgen() -> None:
    """Train a recurrent language model on your own text and write more of it.

    \b
    Example:
      textgen train novel.txt
      textgen sample --prompt "It was a"
    """

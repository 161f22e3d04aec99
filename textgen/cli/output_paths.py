"""Files that commands write: none is one that the same command reads, and the user learns which were replaced."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from textgen.cli import output
from textgen.errors import TextgenError
from textgen.storage.addresses import is_remote, local_path
from textgen.storage.streams import is_stream

REPLACED = "An existing file is replaced."
GOES_ON = ("load_state", "save_state")  # a text is continued time after time, with one file for its state


class OutputPath(click.Path):
    """A path at which a command writes.

    Attributes:
        about_existing: What happens to a file that is there, in a sentence for the help; "" if no file is replaced.
    """

    about_existing = ""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path. Raises `click.UsageError` for -, which would be a file of that name."""
        if value == "-":
            raise click.UsageError(
                f"{parameter_name(param) if param else 'The result'} cannot be - (standard output): name a path. A "
                "file that is called - is ./-.",
                ctx,
            )
        return super().convert(value, param, ctx)


def say_what_is_replaced(parameters: list[click.Parameter]) -> None:
    """Adds to the help of each option with a file to write what happens to a file that is there."""
    for option in parameters:
        if isinstance(option, click.Option) and isinstance(option.type, OutputPath) and option.type.about_existing:
            option.help = f"{option.help} {option.type.about_existing}"


def refuse_inputs(ctx: click.Context) -> None:
    """Checks that a command does not write a file that it reads.

    Args:
        ctx: The context of the command, whose parameters have their values.

    Raises:
        click.UsageError: A file to write is one to read, or one in a folder or a glob to read.
    """
    for written, out in _outputs(ctx):
        for read in ctx.command.params:
            if not _is_read(read) or (read.name, written.name) == GOES_ON:
                continue
            for name in _names(ctx.params.get(str(read.name))):
                if _leads_to(name, out):
                    raise click.UsageError(
                        f"{parameter_name(written)} would replace {out}, which is to be read ({parameter_name(read)}): "
                        "choose another name.",
                        ctx,
                    )


def refuse_repeated_input(ctx: click.Context) -> None:
    """Checks that a command reads standard input only once, since nothing is left of it for the second time.

    Args:
        ctx: The context of the command, whose parameters have their values.

    Raises:
        click.UsageError: Two parameters, or two values of an option, name it.
    """
    reading = list[str]()
    for parameter in ctx.command.params:
        value = ctx.params.get(str(parameter.name))
        if not _is_read(parameter) and parameter.name != "prompts":
            continue
        if isinstance(parameter, click.Option) and isinstance(value, (tuple, list)):
            reading += [parameter_name(parameter)] * value.count("-")
        elif value == "-" or (isinstance(value, (tuple, list)) and "-" in value):  # the library reads a path once
            reading.append(parameter_name(parameter))
    if len(reading) > 1:
        raise click.UsageError(
            f"Standard input can be read only once: name it (-) in one place, and a file instead of it in the other. "
            f"Received: {' and '.join(f'{name} -' for name in reading)}.",
            ctx,
        )


@contextmanager
def noting_replaced(ctx: click.Context) -> Iterator[None]:
    """Prints a note for each file that was there before the block, and that the block has replaced."""
    kept = (out for written, out in _outputs(ctx) if not is_stream(out) and not _goes_on(ctx, written, out))
    before = {out: _version(out) for out in kept}
    yield
    for out, version in before.items():
        if _version(out) != version:
            output.note(f"{out} was there already and has been replaced.")


def _outputs(ctx: click.Context) -> list[tuple[click.Parameter, Path]]:
    """The files to write that are there, each with its parameter."""
    values = ((each, ctx.params.get(str(each.name))) for each in ctx.command.params)
    found = [(each, Path(value)) for each, value in values if value and _is_written(each)]
    return [(each, path) for each, path in found if path.is_file()]


def _goes_on(ctx: click.Context, written: click.Parameter, out: Path) -> bool:
    """Whether a file to write holds the state from which the text goes on, as `GOES_ON` says."""
    source, target = GOES_ON
    return written.name == target and any(_is_same(Path(name), out) for name in _names(ctx.params.get(source)))


def _is_written(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, OutputPath) and bool(parameter.type.about_existing)


def _is_read(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, click.Path) and not isinstance(parameter.type, OutputPath)


def _names(value: Any) -> list[str]:
    values = value if isinstance(value, (tuple, list)) else [value]
    paths = [local_path(os.fspath(each)) for each in values if each and each != "-"]
    return [path for path in paths if not is_remote(path)]


def _leads_to(name: str, out: Path) -> bool:
    """Whether a file, a folder or a glob leads to a file to write. In folders and globs only texts are read."""
    path = Path(name)
    if path.is_file():
        return _is_same(path, out)
    from textgen.corpus.walk import Walk

    found = list[Path]()
    with suppress(TextgenError, OSError):  # the command itself says what is wrong
        found = Walk().files_below(path) if path.exists() else Walk().matching(glob.glob(name, recursive=True), name)
    return any(_is_same(each, out) for each in found) and _is_text(out)


def _is_same(path: Path, out: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(path, out)
    return False


def _is_text(path: Path) -> bool:
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.source_finder import SourceFinder

    with suppress(TextgenError, OSError):
        return bool(SourceFinder(CorpusConfig()).find([path]))
    return False


def _version(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced."""
    with suppress(OSError):
        about = path.stat()
        return about.st_ino, about.st_mtime_ns
    return None


def parameter_name(parameter: click.Parameter) -> str:
    """Returns how messages name a parameter: an option by its longest flag, an argument as the usage does."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name.rstrip(".")

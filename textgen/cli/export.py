"""textgen export: a saved model in the format of another program."""

from __future__ import annotations

from pathlib import Path

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.default_model import load_model_to_read
from textgen.cli.options import OutputFile, model_argument, models_dir_option
from textgen.cli.output_paths import REPLACED
from textgen.export.attribution import NO_ATTRIBUTION, Attribution, attribution_of
from textgen.export.formats import FORMATS, check_export, export_model, format_for


def _export_help() -> str:
    """The help of `textgen export`, with a line for each format."""
    width = max(map(len, FORMATS))
    formats = "\n      ".join(f"{name.ljust(width)}  {format_.help}" for name, format_ in FORMATS.items())
    return f"""Write a model in the format of another program.

    FILE is compared with the model before it is kept. {REPLACED} A folder is replaced only if it is
    empty, or if an export wrote all that is in it.

    \b
    Formats:
      {formats}

    \b
    Example:
      textgen export novel novel.html --licence "CC BY 4.0" --note "Trained on my grandmother's letters."
      textgen export novel novel.safetensors
      textgen export novel novel-serving --format savedmodel
    """


@click.command(cls=SectionCommand, help=_export_help())
@model_argument()
@click.argument("file", type=OutputFile(dir_okay=True))
@click.option(
    "--format", "format_name", type=click.Choice(tuple(FORMATS)), help="Format of FILE [default: that of its suffix]."
)
@click.option(
    "--licence", metavar="TEXT", help="Licence of the model, kept in FILE; a page shows it [default: that in its card]."
)
@click.option(
    "--note", metavar="TEXT", help="Note about the model, kept in FILE; a page shows it [default: that in its card]."
)
@models_dir_option
def export(model: str, file: Path, format_name: str | None, models_dir: Path | None, **texts: str | None) -> None:
    """Writes a model in a format."""
    format_ = format_for(file, format_name)
    if file.is_dir() and not format_.folder:
        raise click.BadParameter(f"File '{file}' is a directory.", param_hint="'FILE'")
    given = {name: text for name, text in texts.items() if text is not None}
    if given and not format_.keeps_attribution:
        raise click.UsageError(f"--{next(iter(given))} cannot be used with --format {format_.name}.")
    Attribution(**given)  # raises before the model is loaded
    check_export(format_, file)
    saved = load_model_to_read(model, models_dir)
    attribution = attribution_of(saved.folder, given) if format_.keeps_attribution else NO_ATTRIBUTION
    output.note(export_model(format_, saved, file, attribution))

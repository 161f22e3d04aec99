"""textgen models: list, show and remove saved models."""

from __future__ import annotations

import os
from pathlib import Path

import click

from textgen.cli import output
from textgen.cli.command import CommandGroup
from textgen.cli.options import json_option, model_argument, models_dir_option
from textgen.errors import TextgenError
from textgen.wording import visible

NAME_WIDTH = 40  # greatest width of the first column; longer names stick out


@click.group(cls=CommandGroup)
def models() -> None:
    """List, show and remove saved models."""


@models.command("list")
@models_dir_option
@json_option
def list_(models_dir: Path | None, as_json: bool) -> None:
    """List the saved models, with their size and score.

    Runs that have saved no model yet are listed too.

    \b
    Example:
      textgen models list
    """
    from textgen.saved_model.registry import list_runs, models_folder, state_of
    from textgen.saved_model.saved_model import load_model

    rows: list[dict[str, object]] = []
    for path in list_runs(models_dir):
        try:
            saved = load_model(str(path), models_dir)
        except TextgenError as error:
            rows.append({"name": path.name, "state": state_of(path, {}), "problem": str(error)})
            continue
        rows.append(
            {
                "name": path.name,
                "parameters": saved.model_config.num_parameters,
                "vocab_size": saved.model_config.vocab_size,
                "labels": saved.tokenizer.labels,
                "bits_per_byte": saved.training.get("scores", {}).get("bits_per_byte"),
                "state": state_of(path, saved.training),
            }
        )
    if as_json:
        output.json_line(rows, indent=2)
    elif not rows:
        output.note(f"There is no model in {models_folder(models_dir)} yet. Train one: textgen train FILE")
    else:
        _print_table(rows)


def _print_table(rows: list[dict[str, object]]) -> None:
    names = [len(visible(str(row["name"]))) for row in rows]
    width = max(5, *(size for size in names if size <= NAME_WIDTH), 0)
    output.line(f"{'MODEL':{width}}  {'PARAMETERS':>12}  {'TOKENS':>7}  {'BITS/BYTE':>9}  STATE")
    for row in rows:
        name = visible(str(row["name"]))
        if "problem" in row:
            output.line(f"{name:{width}}  {row['problem']}")
            continue
        bits = "" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f}"
        output.line(f"{name:{width}}  {row['parameters']:>12,}  {row['vocab_size']:>7,}  {bits:>9}  {row['state']}")


@models.command()
@model_argument(required=False)
@models_dir_option
@json_option
def show(model: str | None, models_dir: Path | None, as_json: bool) -> None:
    """Print the card of MODEL; the default is the newest.

    \b
    Example:
      textgen models show novel
    """
    from textgen.locks import is_locked
    from textgen.saved_model.model_card import model_card
    from textgen.saved_model.saved_model import load_model

    saved = load_model(model, models_dir)
    if is_locked(saved.folder):
        output.note(f"{saved.name} is being trained at the moment; this is what was saved last.")
    if as_json:
        output.json_line(saved.record, indent=2)
    else:
        output.write(model_card(saved.name, saved.record))


@models.command()
@model_argument()
@models_dir_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(model: str, models_dir: Path | None, yes: bool) -> None:
    """Delete MODEL, with its checkpoints and logs.

    MODEL is a name in the folder of models, also of a run that has saved no model yet. A folder that is in use by a
    run, or holds files that textgen did not write, is not deleted.

    \b
    Example:
      textgen models remove novel
    """
    from textgen.saved_model.registry import check_name, models_folder, remove_model

    path = models_folder(models_dir) / check_name(model)
    if not yes and os.path.lexists(path):
        output.confirm(f"Delete {path} and everything in it?")
    remove_model(path)
    output.note(f"Removed {path}.")

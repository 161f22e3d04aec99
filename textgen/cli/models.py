"""textgen models: list, show, compress and remove saved models."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import INPUT, CommandGroup, SectionCommand
from textgen.cli.default_model import load_model_to_read
from textgen.cli.options import (
    completing_runs,
    json_option,
    model_argument,
    models_dir_option,
    reading_options,
    settings_of,
    text_of,
)
from textgen.corpus.config import CorpusConfig, ignoring_labels
from textgen.errors import SavedModelError, TextgenError
from textgen.saved_model.layout import FLOAT16, FLOAT32, INT8, shown_record
from textgen.storage.addresses import is_remote, local_path, without_secrets
from textgen.wording import counted, one_line, percent, visible

if TYPE_CHECKING:
    from textgen.saved_model.compression import Cost
    from textgen.saved_model.saved_model import ModelFolder

PROBLEM_WIDTH = 1000  # characters of an error at most
NAME_WIDTH = 40  # greatest width of the first column, in columns of a terminal; longer names stick out


@click.group(cls=CommandGroup)
def models() -> None:
    """List, show, compress and remove saved models."""


@models.command("list")
@models_dir_option
@json_option
def list_(models_dir: Path | None, as_json: bool) -> None:
    """List the saved models, with their size and score.

    Runs that have saved no model yet are listed too, and below them the bases: models that are part of textgen.

    \b
    Example:
      textgen models list
    """
    from textgen.saved_model.bases import base_folder, installed_bases
    from textgen.saved_model.registry import about_misnamed, list_runs, require_models_folder, why_empty

    require_models_folder(models_dir)
    rows = [_row(path) | {"is_base": False} for path in list_runs(models_dir)]
    bases = [_row(base_folder(name)) | {"is_base": True} for name in installed_bases()]
    if misnamed := about_misnamed(models_dir):
        output.note(misnamed)
    elif not rows:
        output.note(f"{why_empty(models_dir)} To train a model: textgen train FILE")
    if as_json:
        output.json_line([*rows, *bases], indent=2)
        return
    if rows:
        _print_table("MODEL", rows)
    if bases:
        if rows:
            output.line()
        _print_table("BASE", bases)


def _row(path: Path) -> dict[str, object]:
    """What the list says of a model or a run."""
    from textgen.saved_model.loading import load_model
    from textgen.saved_model.registry import status_of

    try:
        saved = load_model(str(path.absolute()))
    except TextgenError as error:
        return {"name": path.name, "status": status_of(path, {}), "problem": str(error)}
    return {
        "name": path.name,
        "parameters": saved.model_config.num_parameters,
        "vocab_size": saved.model_config.vocab_size,
        "labels": saved.tokenizer.labels,
        "bits_per_byte": saved.training.get("scores", {}).get("bits_per_byte"),
        "status": status_of(path, saved.training),
        "precision": saved.precision,
    }


def _print_table(title: str, rows: list[dict[str, object]]) -> None:
    names = [_columns(visible(str(row["name"]))) for row in rows]
    width = max(5, *(size for size in names if size <= NAME_WIDTH), 0)
    output.line(f"{title:{width}}  {'PARAMETERS':>12}  {'TOKENS':>7}  {'BITS/BYTE':>9}  STATUS")
    for row, size in zip(rows, names, strict=True):
        name = visible(str(row["name"])) + " " * max(0, width - size)
        if "problem" in row:
            output.line(f"{name}  {one_line(str(row['problem']), PROBLEM_WIDTH)}")
            continue
        bits = "" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f}"
        status = ", ".join(_about(row))
        output.line(f"{name}  {row['parameters']:>12,}  {row['vocab_size']:>7,}  {bits:>9}  {status}")


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes. A Chinese character takes two."""
    from wcwidth import wcswidth

    return max(0, wcswidth(text))


def _about(row: dict[str, object]) -> list[str]:
    """Status of the training, and how the weights are stored."""
    status = "part of textgen" if row["is_base"] else str(row["status"])
    return [status, *([] if row["precision"] == FLOAT32 else [str(row["precision"])])]


@models.command()
@model_argument(required=False)
@models_dir_option
@json_option
def show(model: str | None, models_dir: Path | None, as_json: bool) -> None:
    """Print the card of MODEL; the default is the newest.

    That is the README.md of the model if a person has written or changed it. Where ONNX Runtime has written with
    it, the loss of accuracy by 8-bit weights is shown too, measured on text that the model wrote.

    \b
    Example:
      textgen models show novel
    """
    from textgen.saved_model.model_card import model_card
    from textgen.saved_model.saving import edited_card, saved_attribution

    saved = load_model_to_read(model, models_dir)
    loss = saved.int8_loss
    if as_json:
        output.json_line(shown_record(saved.record) | ({"int8_loss": loss.to_dict()} if loss else {}), indent=2)
        return
    if (edited := edited_card(saved.folder, saved.record)) is None:
        card = model_card(saved.name, saved.record, saved_attribution(saved.folder))
    else:
        card = "{}\n".format(edited.decode(errors="replace").rstrip("\n"))
    output.write(card)
    if loss:
        output.line(f"\nWith 8-bit weights in ONNX Runtime: {loss}.")


@models.command(cls=SectionCommand)
@model_argument()
@click.argument("file", required=False, type=INPUT)
@click.option(
    "--precision",
    type=click.Choice((INT8, FLOAT16)),
    default=INT8,
    show_default=True,
    help="Format in which each weight is stored.",
)
@click.option("--out", metavar="NAME", help="Save the result as a new model of this name, and leave MODEL as it is.")
@click.option("--without-index", is_flag=True, help="With --out, leave out the index for --novelty and --no-copy.")
@click.option("--accept-loss", is_flag=True, help="Compress even if the model then needs over 0.5 % more bits.")
@models_dir_option
@json_option
@reading_options
def compress(
    model: str,
    file: str | None,
    precision: str,
    out: str | None,
    without_index: bool,
    accept_loss: bool,
    models_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Store the weights of MODEL in a quarter (int8) or half (float16) of the bytes.

    First the cost is measured: how many more bits the model needs for FILE (its first 32,000 characters), or without
    FILE for a text that it writes itself. A model that would need over 0.5 % more is left as it is.

    The full weights are not kept: use --out to keep them. `textgen train --resume` goes on from the newest checkpoint,
    and saves float32 again once it finds better weights. Everything else that works with a model works with a
    compressed one. If the command is interrupted, run it again: it finishes what was begun.

    \b
    Example:
      textgen models compress novel
      textgen models compress novel other-novel.txt --precision float16 --out novel-small
    """
    from textgen.saved_model.compression import checked_cost, finish_compressing
    from textgen.saved_model.loading import load_model
    from textgen.saved_model.model_names import check_name
    from textgen.saved_model.registry import models_folder
    from textgen.storage.locks import locked

    if without_index and not out:
        raise click.UsageError("--without-index needs --out: a model that is compressed in place keeps its index.")
    if not out and is_remote(local_path(model)):
        raise click.UsageError(
            f"{without_secrets(model)} is not on this machine, so it cannot be compressed in place: name a new model "
            "with --out."
        )
    reading = settings_of(CorpusConfig, file is not None, "FILE", options)
    target = models_folder(models_dir) / check_name(out) if out else None
    folder = load_model(model, models_dir).folder
    with nullcontext() if target else locked(folder):  # a copy is made of one version, or ends with an error
        saved = load_model(str(folder.absolute()))  # if it is locked, as it is now that no run can change it
        _check_target(saved, target)
        if target is None and saved.precision != FLOAT32 and finish_compressing(saved) and saved.precision == precision:
            _report_finished(saved, as_json)
            return
        text = text_of(saved, [file], ignoring_labels(reading)) if file is not None else None
        cost = checked_cost(saved, precision, text.documents() if text else None, accept_loss=accept_loss)
        if text:
            text.say_left_out(output.note)
        made = _compressed(saved, precision, target, with_index=not without_index)
    _report(saved, made, cost, as_json)


def _check_target(saved: ModelFolder, target: Path | None) -> None:
    """Raises `TextgenError` if a model cannot be compressed into a folder; None stands for its own."""
    from textgen.saved_model.bases import is_base
    from textgen.saved_model.creation import check_place
    from textgen.storage.files import check_folder_writable
    from textgen.storage.folders import check_new_folder

    if target is None and is_base(saved.folder):
        raise SavedModelError(f"{saved.name} is a base, which is a part of the program: name a copy with --out.")
    if target is not None and os.path.lexists(target):
        raise SavedModelError(f"{target} is there already: choose another name with --out.")
    if target is None:
        check_folder_writable(saved.folder)
    else:
        check_place(target)
        check_new_folder(target)


def _compressed(saved: ModelFolder, precision: str, target: Path | None, *, with_index: bool) -> ModelFolder:
    """The model in fewer bytes, in a new folder or its own, after checking that it can be loaded."""
    from textgen.saved_model.compression import compress, compressed_copy
    from textgen.saved_model.loading import load_model

    if target is None:
        compress(saved, precision)
    else:
        compressed_copy(saved, target, precision, with_index=with_index)
    made = load_model(str((target or saved.folder).absolute()))
    made.weights()
    return made


def _report(saved: ModelFolder, made: ModelFolder, cost: Cost, as_json: bool) -> None:
    """Prints the sizes of a model before and after, and the cost."""
    from textgen.saved_model.folder_contents import has_steps

    before, after = _size_of_weights(saved), _size_of_weights(made)
    if as_json:
        sizes = {"bytes_before": before, "bytes_after": after}
        output.json_line({"name": made.name, "precision": made.precision, **sizes, **cost.to_dict()}, indent=2)
        return
    output.line(f"{made.name}: {before / 1e6:,.1f} MB -> {after / 1e6:,.1f} MB of weights, {made.precision}")
    change = cost.change
    top = f"; the likeliest token is the same at {percent(change.same_top_fraction)}" if change else ""
    output.line(f"cost: {cost}, measured on {counted(cost.tokens, 'token')}{top}")
    if made.folder == saved.folder and has_steps(saved.folder):
        output.note("A resumed run goes on from its checkpoints and saves float32 again once it finds better weights.")


def _report_finished(made: ModelFolder, as_json: bool) -> None:
    """Says that a model was compressed already, by a command that was interrupted before it had finished."""
    from textgen.saved_model.compression import unknown_cost

    if as_json:  # the fields of `_report`; the full weights are gone
        sizes = {"bytes_before": None, "bytes_after": _size_of_weights(made)}
        output.json_line({"name": made.name, "precision": made.precision, **sizes, **unknown_cost()}, indent=2)
    else:
        output.line(f"{made.name}: {_size_of_weights(made) / 1e6:,.1f} MB of weights, {made.precision}")
    output.note(f"It was stored as {made.precision} already. What an interrupted command had left to do is done now.")


def _size_of_weights(model: ModelFolder) -> int:
    from textgen.saved_model.layout import WEIGHTS

    return int(model.files[WEIGHTS]["size"])


@models.command()
@click.argument("model", shell_complete=completing_runs(lambda path: not path.is_symlink(), or_path=False))
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
    from textgen.saved_model.bases import BASES
    from textgen.saved_model.model_names import check_name
    from textgen.saved_model.registry import models_folder
    from textgen.saved_model.removal import remove_model

    path = models_folder(models_dir) / check_name(model)
    if model in BASES and not os.path.lexists(path):
        raise SavedModelError(f"{model} is a base, which is a part of the program: only your own models are removed.")
    if not yes and os.path.lexists(path):
        output.confirm(f"Delete {path} and everything in it?")
    remove_model(path)
    output.note(f"Removed {path}.")

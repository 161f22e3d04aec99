"""textgen inspect: what a model does with a text."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.default_model import hint_for_file, load_model_to_read
from textgen.cli.options import (
    AS_TRAINED,
    FilledFolder,
    OutputFile,
    given,
    json_option,
    label_option,
    model_argument,
    models_dir_option,
    paths_argument,
    settings_of,
    text_of,
)
from textgen.cli.setting_options import setting_options
from textgen.corpus.config import CorpusConfig, ignoring_labels
from textgen.insight.config import InspectConfig
from textgen.settings import from_dict, select
from textgen.system.runtime import use_blas_threads
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.insight.inspection import Inspection
    from textgen.insight.texts import Text


@dataclass(frozen=True)
class Arguments:
    """The text and the flags of `textgen inspect` that are not settings of reading or of looking for cells."""

    paths: tuple[str, ...]
    out: Path | None
    lesson: bool
    png: Path | None
    tensorboard: bool
    direction: str | None
    label: str | None
    as_json: bool


@click.command(cls=SectionCommand)
@model_argument()
@paths_argument()
@click.option("--out", type=OutputFile(suffix=".html"), help="Write a self-contained HTML page.")
@click.option(
    "--lesson", is_flag=True, help="Begin the page with a lesson that leads from the equations to this model."
)
@click.option(
    "--png",
    type=FilledFolder(),
    metavar="FOLDER",
    help="Write pictures to a folder. Existing files of the same names are replaced. Needs matplotlib: "
    'pip install ".[figures]" in the folder of textgen\'s source.',
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Write pictures, and the first cells at each checkpoint, for textgen tensorboard. Needs matplotlib.",
)
@click.option(
    "--direction",
    type=click.Choice(("forward", "backward")),
    help="Network to look at, in a model of both directions [default: forward].",
)
@label_option
@setting_options(InspectConfig)
@setting_options(CorpusConfig, leave_out=("labels",), defaults=AS_TRAINED)
@json_option
@models_dir_option
def inspect(model: str, models_dir: Path | None, **options: Any) -> None:
    """See what a model does with a text: cells, gates, memory, gradients.

    PATHS are files, folders, globs, or - for standard input, of which the first --max-tokens tokens are used: read
    backward, those of the first documents, and of the last of these the end. Without them the model writes a text of
    that length itself.

    Documents are cut as in training unless --documents says otherwise: for a base, each file is one.

    Cells that follow a property of the text (inside quotes, the column, ...) are found on its first half and
    confirmed on its second. Cells are named as in L1/89: layer 1, unit 89, both counted from 0. --track adds a
    property of your own: places inside the matches of a regular expression. textgen sample --clamp sets such a cell
    of the forward network to a number while the model writes.

    In the table, r is the rank correlation (Spearman) of a cell with a count, and AUC how often its value is higher at
    a place with the property than at one without it (0.5 if it follows nothing). Chance is what the best cell reaches
    in 95 of 100 cases if the property is shifted at random.

    \b
    Example:
      textgen inspect novel chapter.txt
      textgen inspect novel chapter.txt --out page.html
      textgen inspect novel --lesson --out lesson.html
      textgen inspect plays hamlet.txt --track "speaker=^[A-Z]+:" --json
    """
    _keep_to_one_core()
    from textgen.insight.inspection import inspect_model
    from textgen.insight.texts import documents_of

    arguments = Arguments(**{field.name: options.pop(field.name) for field in fields(Arguments)})
    if arguments.lesson and not arguments.out:
        raise click.UsageError("--lesson is a part of the page: name its file with --out.")
    if arguments.png or arguments.tensorboard:
        from textgen.insight.figures import require_matplotlib

        require_matplotlib()
    saved = load_model_to_read(model, models_dir, hint_for_file(model))
    if arguments.tensorboard:
        from textgen.insight.events import check_logs

        check_logs(saved)
    config = from_dict(InspectConfig, given(select(InspectConfig, options)))
    reading = settings_of(CorpusConfig, bool(arguments.paths), "PATHS", options)
    corpus = documents = None
    if arguments.paths:
        corpus = text_of(saved, arguments.paths, ignoring_labels(reading))
        # A network that reads backward begins at the end of a document, so it needs the whole document.
        is_backward = (arguments.direction or saved.main_direction) == "backward"
        documents = corpus.documents() if is_backward else documents_of(corpus.parts(), config.read_tokens)
    direction, label = arguments.direction, arguments.label
    seen = inspect_model(saved, documents, config, direction=direction, label=label, say=output.note)
    if corpus:
        corpus.say_left_out(output.note)
    if seen.text.is_cut:
        output.note(f"The text is longer: only {_part_used(seen.text)}. --max-tokens changes this.")
    _write(seen, arguments)


def _part_used(text: Text) -> str:
    """Which part of a text is used. A document that is read backward is cut at its beginning.

    The words on the page are those of `page/words.json`.
    """
    tokens, number = counted(len(text.ids), "token"), len(text.documents)
    if text.direction == "forward":
        return f"its first {tokens} are used"
    if number == 1 and not text.has_more:
        return f"its last {tokens} are used"
    documents = "first document" if number == 1 else f"first {counted(number, 'document')}"
    if number > 1 and text.is_last_cut:
        return f"{tokens} of its {documents} are used, of the last of these only its end"
    return f"the {'last ' if text.is_last_cut else ''}{tokens} of its {documents} are used"


def _write(seen: Inspection, arguments: Arguments) -> None:
    """Writes the page, the pictures and the events that were asked for, and prints what was seen."""
    if arguments.out:
        from textgen.insight.page import page
        from textgen.storage.files import write_file

        write_file(arguments.out, page(seen, with_lesson=arguments.lesson))
        output.note(f"Wrote {arguments.out}: open it in a browser.")
    if arguments.png:
        _write_pictures(seen, arguments.png)
    if arguments.tensorboard:
        from textgen.insight.events import write_events

        folder, steps = write_events(seen)
        output.note(f"Wrote {folder}: pictures, and cells at {counted(steps, 'checkpoint')}.")
    if arguments.as_json:
        from textgen.insight.report import report

        output.json_line(report(seen))
    else:
        _print_summary(seen)


def _keep_to_one_core() -> None:
    """Lets NumPy compute each matrix product on one core, unless the user's environment says otherwise.

    Almost all products here are those of one step of one text. Cores that share such a product wait for each other for
    most of the time, and while other programs run they wait for many times as long as one core needs.
    """
    if "numpy" not in sys.modules:  # which has read its environment
        use_blas_threads(1)


def _write_pictures(seen: Inspection, folder: Path) -> None:
    from textgen.insight.figures import figures
    from textgen.storage.files import write_files, writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pictures = figures(seen)
    write_files({folder / f"{name}.png": data for name, data in pictures.items()})
    output.note(f"Wrote {counted(len(pictures), 'picture')} to {folder}.")


def _print_summary(seen: Inspection) -> None:
    """Prints what was found, in a table for people."""
    from textgen.insight.inspection import missing_parts
    from textgen.model.config import CELLS

    config, memory, bits = seen.reader.config, seen.context, seen.bits_per_token
    output.line(
        f"{seen.saved.name}: {config.num_layers} x {CELLS[config.cell]} of {counted(config.hidden_units, 'unit')}, "
        f"read {seen.text.direction}; {counted(len(seen.text.ids), 'token')}, {bits:.3f} bits per token"
    )
    if missing := missing_parts(config.cell):
        output.line(f"A cell of kind {CELLS[config.cell]} has no {', no '.join(missing)}.")
    _print_cells(seen)
    output.line()
    shuffled = f"{memory.num_shuffled} before shuffled, rest dropped"
    heads = "tokens of context", "extra bits per token: rest dropped", shuffled
    output.line("   ".join(heads))
    found = zip(memory.dropped, memory.dropped_error, memory.shuffled, strict=True)
    for length, curves in zip(memory.lengths, found, strict=True):
        dropped, error, of_shuffled = ("-" if math.isnan(value) else f"{value:.3f}" for value in curves)
        lost = [f"{dropped} ± {error}", of_shuffled]
        output.line(
            "   ".join(f"{text:>{len(head)}}" for head, text in zip(heads, [f"{length:,}", *lost], strict=True))
        )
    output.line()
    last = len(seen.flow.norms) - 1
    reach = (
        f"{counted(seen.flow.hundredth_lag, 'token')} back"
        if seen.flow.hundredth_lag
        else f"more than {counted(last, 'token')} back"
    )
    output.line(f"1 % of the gradient is left {reach}.")
    if seen.window is not None:
        start = seen.started_from
        training, before = "training", ""
        if start is not None:
            training = f"its last training, which started from {start},"
            before = f" The training of {start} may have had longer windows."
        output.line(
            f"In {training} the gradient stopped at the start of each window of at most "
            f"{counted(seen.window, 'token')}.{before}"
        )


def _print_cells(seen: Inspection) -> None:
    output.line()
    if not seen.findings:
        output.line("The text is too short, or too uniform, to look for cells: a few thousand tokens are better.")
        return
    output.line("cell       first half   second half   chance         current token   follows")
    for found in seen.found:
        kind, chance = ("r  ", 0.0) if found.is_count else ("AUC", 0.5)
        output.line(
            f"{f'L{found.layer}/{found.unit}':9}  {kind} {found.first:6.3f}   {kind} {found.second:7.3f}   "
            f"{chance:3.1f} ± {found.threshold:.3f}   {kind} {found.token_alone:9.3f}   {found.follows}"
        )
    if others := [found.follows for found in seen.findings if not found.is_found]:
        output.line(f"No cell follows: {', '.join(others)}.")

"""textgen write: write a text together with a model, in the terminal."""

from __future__ import annotations

import codecs
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from textgen.cli import output
from textgen.cli.command import INPUT_FILE, InputFile, SectionCommand
from textgen.cli.default_model import beginning_of, hint_for_file, load_model_or_base, model_and_paths
from textgen.cli.options import given, model_argument, models_dir_option
from textgen.cli.setting_options import IntegerRange, setting_option, setting_options
from textgen.errors import SavedModelError, TextgenError
from textgen.generation.config import RuntimeConfig, SamplingConfig
from textgen.settings import from_dict, select

if TYPE_CHECKING:
    from textgen.generation.started_model import StartedModel
    from textgen.model.protocols import StepModel
    from textgen.saved_model.saved_model import ModelFolder


@click.command(cls=SectionCommand)
@model_argument(required=False)
@click.argument("file", required=False, type=InputFile(dir_okay=False, path_type=Path))
@click.option(
    "--num",
    type=IntegerRange(1, 9),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of suggestions shown at a time.",
)
@click.option(
    "--length",
    type=IntegerRange(1, 64),
    metavar="N",
    help="Number of tokens of a suggestion [default: 6; 30 for characters and bytes].",
)
@setting_option(SamplingConfig, "temperature")
@setting_option(SamplingConfig, "label")
@click.option("--load-state", type=INPUT_FILE, metavar="FILE", help="Start from a state made by textgen tune-state.")
@setting_options(RuntimeConfig)
@models_dir_option
def write(
    model: str | None,
    file: Path | None,
    num: int,
    length: int | None,
    load_state: str | None,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Write a text together with a model.

    MODEL is a name in saved_models, a folder, or a base: english or chinese. The default is the newest model, and
    before any training a base: chinese if FILE is mostly Chinese characters, english if it is mostly Latin letters or
    empty.

    You type; the model suggests the likeliest continuations, each with the probability of its first token; the tokens
    after it are drawn at --temperature. A number key or a click accepts one. Of a long text the model reads about
    the last 2,000 to 4,000 tokens. The keys are shown below the text; the mouse wheel scrolls.

    FILE is read if it exists; it must be plain text. Ctrl-S (shown as ^S) saves the text to FILE; it is also saved when
    you pause for two seconds, at least once a minute while you type, and when you quit, the program is stopped or the
    connection breaks. Ctrl-E opens the text in your editor ($VISUAL or $EDITOR); the changes that you save there are
    kept. Without FILE, a new file named after the model is used. If another program has changed FILE meanwhile, the
    text is saved in a new file next to it. A text that cannot be saved when you quit is printed, and kept in a file in
    the folder for temporary files; the exit code is then 1.

    \b
    Example:
      textgen write novel
      textgen write novel chapter.txt --num 3 --temperature 1.0
    """
    needs_terminal()
    runtime = from_dict(RuntimeConfig, select(RuntimeConfig, given(options))).runtime
    sampling = from_dict(SamplingConfig, select(SamplingConfig, given(options)))
    from textgen.editor.screen import run
    from textgen.editor.session import CancellableModel, Session
    from textgen.editor.text_file import free_path, keep_elsewhere
    from textgen.generation.suggestions import Suggester
    from textgen.saved_model.creation import refuse_in_model

    model, paths = model_and_paths(model, () if file is None else (str(file),), models_dir, takes_one_path=True)
    file = Path(paths[0]) if paths else None
    known = [str(file)] if file is not None and file.exists() else []
    saved = load_model_or_base(
        model, models_dir, lambda: beginning_of(known, {}) if known else "", hint_for_file(model)
    )
    path = file or free_path(Path(f"{saved.name}.txt"))
    if not path.exists():
        refuse_in_model(path)
    length = length or (30 if saved.tokenizer.kind in ("char", "byte") else 6)
    cancelled = threading.Event()
    network = saved.step_model(runtime, output.note)
    writer = CancellableModel(network if load_state is None else _started(saved, network, load_state), cancelled)
    suggester = Suggester(writer, saved.tokenizer, num, sampling.label, saved.words())
    session = Session(suggester, path, length=length, temperature=sampling.temperature, cancelled=cancelled)
    try:
        run(session)
    finally:
        kept = keep_elsewhere(session.draft.text) if session.unsaved else None  # first, as the terminal may be gone
        where = f" Your text is kept in {kept}." if kept else ""
        with suppress(OSError, TextgenError, Exit):
            if session.unsaved:
                output.line(session.draft.text)
                where = where or " Your text is printed above: copy it."
        with suppress(OSError, TextgenError):
            output.note(f"{session.message}{where}")
    if session.unsaved:
        raise Exit(1)


def needs_terminal() -> None:
    """Raises `TextgenError` if standard input and output are no terminal that shows a screen, or are ASCII."""
    closed = sys.stdin is None or sys.stdout is None
    if closed or not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in ("dumb", "unknown"):
        raise TextgenError("textgen write needs a terminal. To write to a file or a pipe, use textgen sample.")
    if "ascii" in {codecs.lookup(encoding).name for encoding in (sys.stdin.encoding, sys.stdout.encoding)}:
        setting = "PYTHONIOENCODING=utf-8" if os.environ.get("PYTHONIOENCODING") else "LC_ALL=C.UTF-8"
        raise TextgenError(
            "textgen write needs a terminal whose encoding has all letters. The encoding of this one is ASCII, in "
            f"which those that are typed would be lost. Set {setting}."
        )


def _started(saved: ModelFolder, writer: StepModel, path: str) -> StartedModel:
    """The model with the initial state in a file. Raises `SavedModelError` for the state of a text that has begun."""
    from textgen.generation.started_model import StartedModel
    from textgen.generation.text_state import load_state

    vocabulary = saved.tokenizer
    advice = "Name a file that textgen tune-state has written."
    state = load_state(Path(path), writer.initial_state(1), saved.fingerprint, vocabulary.vocab_size, advice)
    if state.ids != (vocabulary.eos_id,):
        raise SavedModelError(f"{path} is a state from the middle of a text: give one from textgen tune-state.")
    return StartedModel(writer, state.model_state)

"""textgen tune-state: train the initial state in which texts of some kind are likeliest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import SectionCommand
from textgen.cli.default_model import hint_for_file, load_model_to_read, refuse_file_as_model
from textgen.cli.options import (
    OutputFile,
    corpus_options_of_model,
    given,
    json_option,
    model_argument,
    models_dir_option,
    paths_argument,
    text_of,
)
from textgen.cli.setting_options import setting_options
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError
from textgen.settings import from_dict, select
from textgen.training.config import TuningConfig
from textgen.wording import counted, shell_word

if TYPE_CHECKING:
    import numpy as np

    from textgen.corpus.corpus import Corpus
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.training.state_tuning import Tuned


@click.command("tune-state", cls=SectionCommand)
@model_argument()
@paths_argument(metavar="PATHS...")  # needed, but alone it is parsed as MODEL, and the error says so
@click.option("--out", type=OutputFile(), required=True, help="File to write the state to.")
@setting_options(TuningConfig)
@json_option
@models_dir_option
@corpus_options_of_model
def tune_state(
    model: str, paths: tuple[str, ...], out: Path, as_json: bool, models_dir: Path | None, **options: Any
) -> None:
    """Train an initial state that holds a style in a few kilobytes.

    PATHS are files, folders, globs, or - for standard input; at most the first million tokens are used. Only the state
    in which texts begin is trained, until the loss on the last tenth of the text stops improving. The model stays as
    it is.

    \b
    Example:
      textgen tune-state novel letters.txt --out letters.state
      textgen sample novel --load-state letters.state
      textgen write novel --load-state letters.state
    """
    from textgen.generation.text_state import TextState, save_state
    from textgen.system.runtime import load_tensorflow

    if not paths:
        refuse_file_as_model(model, models_dir)
        raise click.UsageError("Missing argument 'PATHS...'.")
    config = from_dict(TuningConfig, select(TuningConfig, given(options)))
    saved = load_model_to_read(model, models_dir, hint_for_file(model))
    if saved.main_direction == "backward":
        raise ConfigError(
            f"{saved.name} reads text backward only, but a state is for writing forward: name a model of "
            "direction forward or both."
        )
    text = text_of(saved, paths, select(CorpusConfig, given(options)))
    text.require_text()
    load_tensorflow()
    from textgen.training import state_tuning

    network = saved.network("forward")  # before a training can save it anew
    ids = _first_ids(saved, text, state_tuning.MAX_TOKENS)
    tuned = state_tuning.tune_state(network, saved.tokenizer, ids, config, output.note)
    save_state(out, TextState(tuned.model_state, (saved.tokenizer.eos_id,)), saved.fingerprint)
    _print_result(saved, out, tuned, as_json)


def _first_ids(saved: ModelFolder, text: Corpus, count: int) -> np.ndarray:
    """The first `count` token ids of a text."""
    from textgen.dataset.token_cache import encoded

    with encoded(text, saved.tokenizer) as stream:
        text.say_left_out(output.note)
        return stream.read(0, min(len(stream), count))


def _print_result(saved: ModelFolder, out: Path, tuned: Tuned, as_json: bool) -> None:
    size = out.stat().st_size
    if as_json:
        output.json_line(_values(tuned, size), indent=2)
        return
    output.line(
        f"{out}: {counted(size, 'byte')} after {counted(tuned.best_step, 'step')}.\n"
        f"Held-out text: {tuned.nats_per_token_after:.4f} nats per token, "
        f"{tuned.nats_per_token_before:.4f} without it.\n"
        f"Write with it: textgen sample {saved.shell_name} --load-state {shell_word(str(out))}"
    )


def _values(tuned: Tuned, size: int) -> dict[str, float]:
    nats = {name: getattr(tuned, name) for name in ("nats_per_token_before", "nats_per_token_after")}
    return {**nats, "steps": tuned.best_step, "bytes": size}

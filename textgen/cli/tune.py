"""textgen tune-state: the state in which a text of some kind is likeliest."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from textgen.cli import output
from textgen.cli.options import OutputFile, corpus_options, given, json_option, models_dir_option
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError
from textgen.settings import from_dict, select
from textgen.training.config import TuningConfig
from textgen.wording import counted, shell_word


@click.command("tune-state")
@click.argument("model")
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", type=OutputFile(), required=True, help="File to write; one that is there is replaced.")
@click.option("--steps", type=int, metavar="N", help=f"Steps at most [default: {TuningConfig.steps}].")
@click.option("--learning-rate", type=float, help=f"Length of the steps [default: {TuningConfig.learning_rate}].")
@click.option("--seed", type=int, metavar="N", help="Of the order in which the text is read [default: 0].")
@json_option
@models_dir_option
@corpus_options
def tune_state(
    model: str, paths: tuple[str, ...], out: Path, as_json: bool, models_dir: Path | None, **options: Any
) -> None:
    """Train a state for texts to begin in: a style in a few kilobytes.

    PATHS are files, folders, globs, or - for standard input; the first million tokens count. The model stays as it
    is; only the state that its texts begin in learns, until the last tenth of the text gains no more by it.

    \b
    Example:
      textgen tune-state novel letters.txt --out letters.state
      textgen sample novel --load-state letters.state
      textgen write novel --load-state letters.state
    """
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_cache import encode_corpus
    from textgen.generation.text_state import TextState, save_state
    from textgen.saved_model.saved_model import load_model

    config = from_dict(TuningConfig, select(TuningConfig, given(options)))
    saved = load_model(model, models_dir)
    if saved.main_direction == "backward":
        raise ConfigError(
            f"{saved.name} reads text backward only, and texts that begin in a state are written forward: "
            "name a model of direction forward or both."
        )
    text = Corpus(paths, replace(saved.corpus_config, **select(CorpusConfig, given(options))))
    text.say_skipped(output.note)

    from textgen.runtime import load_tensorflow

    with tempfile.TemporaryDirectory() as folder:
        stream = encode_corpus(text, saved.tokenizer, Path(folder) / "tokens")
        text.say_left_out(output.note)
        load_tensorflow()
        from textgen.training import state_tuning

        ids = stream.read(0, min(len(stream), state_tuning.MAX_TOKENS))
    network = saved.network("forward")
    tuned = state_tuning.tune_state(network, saved.tokenizer, ids, config, output.note)
    save_state(out, TextState(tuned.memory, (saved.tokenizer.eos_id,)), saved.fingerprint)
    results = {"nats_before": tuned.nats_before, "nats_after": tuned.nats_after, "steps": tuned.steps}
    if as_json:
        output.json_line({**results, "bytes": out.stat().st_size}, indent=2)
        return
    output.line(
        f"{out}: {counted(out.stat().st_size, 'byte')} after {counted(tuned.steps, 'step')}.\n"
        f"Held-out text: {tuned.nats_after:.4f} nats a token, {tuned.nats_before:.4f} without it.\n"
        f"Write with it: textgen sample {saved.shell_name} --load-state {shell_word(str(out))}"
    )
